"""A message in words, for whoever reads it: what was said, or a note of ours in the reader's language."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from avito.content import render_text

NOTES = {
    "image": gettext_lazy("Picture"),
    "voice": gettext_lazy("Voice message"),
    "video": gettext_lazy("Video"),
    "file": gettext_lazy("File"),
    "call": gettext_lazy("Call"),
    "appCall": gettext_lazy("Call in the app"),
    "item": gettext_lazy("Listing"),
    "link": gettext_lazy("Link"),
    "location": gettext_lazy("Place on the map"),
    "system": gettext_lazy("Notice from Avito"),
    "deleted": gettext_lazy("The message was deleted."),
}


def words(type: str, text: str, content: Mapping[str, Any], *, is_placeholder: bool = False) -> str:
    """`text`: what was said, "" if nothing was. Empty only for a text without a text."""
    if is_placeholder:
        return _("Avito hides this message: the account's plan has no messenger API.")
    if said := said_in(type, text, content):
        return said
    call = content.get("call")
    if type == "call" and isinstance(call, Mapping) and call.get("status") == "missed":
        return _("Missed call")
    if type in NOTES:
        return str(NOTES[type])
    return "" if type == "text" else _("Message of an unknown kind: %(type)s") % {"type": type or "?"}


def said_in(type: str, text: str, content: Mapping[str, Any]) -> str:
    """What the author has said, and still stands; "" where only a note of ours can tell of it."""
    return "" if type == "deleted" else text or render_text(type, content)


def picture_url(content: Mapping[str, Any]) -> str:
    """The address of the largest size of a picture; "" without one that a browser may open."""
    image = content.get("image")
    sizes = image.get("sizes") if isinstance(image, Mapping) else None
    if not isinstance(sizes, Mapping):
        return ""
    urls = [(_width(size), url) for size, url in sizes.items() if isinstance(url, str)]
    return max([one for one in urls if one[1].startswith(("https://", "http://"))], default=(0, ""))[1]


def _width(size: str) -> int:
    """`1280x960` -> 1280."""
    width = size.partition("x")[0]
    return int(width) if width.isascii() and width.isdecimal() and len(width) < 6 else 0
