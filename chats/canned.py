"""Placeholders of canned replies, and what takes their place. Pure."""

import re
from typing import Final

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

NAME, ITEM = "name", "item"
KNOWN: Final = (NAME, ITEM)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_NAMELESS = re.compile(r"[,\s]*\{name\}")


def validate(text: str) -> None:
    """Raises ValidationError for a placeholder that nothing would take the place of."""
    for inside in _PLACEHOLDER.findall(text):
        if inside not in KNOWN:
            known = ", ".join(f"{{{name}}}" for name in KNOWN)
            message = _("There is no placeholder {%(name)s}. Known: %(known)s.")
            raise ValidationError(message % {"name": inside[:50], "known": known}, code="unknown_placeholder")


def fill(text: str, *, name: str, item: str) -> str:
    """The text for one client. `name`, `item`: "" where unknown.

    Without a name its place vanishes with the comma before it: "Hello, {name}!" is "Hello!". Without an item it is
    "the listing".
    """
    if not name:
        text = _NAMELESS.sub("", text).lstrip(" ,!")
        text = text[:1].upper() + text[1:]
    values = {NAME: name, ITEM: item or _("the listing")}
    return _PLACEHOLDER.sub(lambda found: values.get(found[1], found[0]), text)
