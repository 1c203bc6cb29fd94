"""What people type and paste, read."""

import re
from decimal import Decimal
from urllib.parse import urlsplit

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from avito_accounts.models import BIGINT_MAX
from integrations_str.models import MARKUP_MAX, MARKUP_MIN


def markup_of(text: str) -> Decimal:
    """Per cent, as people type them. Raises ValidationError."""
    plain = text.replace(",", ".").replace("\N{MINUS SIGN}", "-").replace("%", "").strip()
    known = forms.DecimalField(min_value=MARKUP_MIN, max_value=MARKUP_MAX, max_digits=5, decimal_places=2)
    value: Decimal = known.clean(plain)
    return value


def item_of(text: str) -> int:
    """The listing's number in what was typed or pasted: the last one of an address. Raises ValidationError."""
    address = re.search(r"(?:https?://|\b[\w.-]+\.ru/)\S*", text)
    if address:
        parts = urlsplit(address[0] if "://" in address[0] else f"https://{address[0]}")
        if not re.search(r"(?:^|\.)avito\.ru$", parts.hostname or ""):
            raise ValidationError(_("This is no address at avito.ru. Open the listing at Avito and copy its address."))
        numbers = re.findall(r"\d+", parts.path)
        if not numbers:
            raise ValidationError(_("There is no number in this address. Open the listing itself, not a list."))
        digits = numbers[-1]
    else:
        digits = re.sub(r"[\s№#]|ID:?", "", text, flags=re.IGNORECASE)
    if not re.fullmatch(r"[0-9]{1,19}", digits) or not 1 <= int(digits) <= BIGINT_MAX:
        raise ValidationError(_("Enter the listing's number, such as 1234567890, or paste its address."))
    return int(digits)
