"""Phone numbers as people spell them. Pure."""

import re

import phonenumbers

REGION = "RU"
PART_MIN = 3
"""Digits of a part that is looked for: fewer are in almost every number."""
_NO_PHONE = re.compile(r"^[^9]\d{9}$|\d\.\d\d?\.(19|20)\d\d")
"""Ten bare digits are a listing's or an order's number, unless a mobile phone's; dates in a row are nobody's."""
_SPELLING = re.compile(r"[\d\s()+./\-\u00a0\u2010-\u2015]{1,50}")


def e164(written: str) -> str:
    """A whole number as it is stored, `+79161234567`; "" for what is none. Without a country it is a Russian one."""
    if not _SPELLING.fullmatch(written):
        return ""
    try:
        number = phonenumbers.parse(written, REGION)
    except phonenumbers.NumberParseException:
        return ""
    return _format(number) if phonenumbers.is_valid_number(number) else ""


def parts(written: str) -> list[str]:
    """What a stored number has to contain to be meant by `written`, one of these; none for too little to go by.

    A whole number is itself. Of a part the digits count; an 8 that it begins with may stand for the country.
    """
    if whole := e164(written):
        return [whole]
    digits = re.sub(r"\D", "", written) if _SPELLING.fullmatch(written) else ""
    if len(digits) < PART_MIN:
        return []
    return [digits, f"+7{digits[1:]}"] if digits.startswith("8") else [digits]


def phone_in(text: str) -> str:
    """The first phone number in a client's words, as E.164; "" without one."""
    if sum(character.isdigit() for character in text) < 10:
        return ""
    matches = phonenumbers.PhoneNumberMatcher(text[:2000], REGION)
    return next((_format(match.number) for match in matches if not _NO_PHONE.search(match.raw_string)), "")


def _format(number: phonenumbers.PhoneNumber) -> str:
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
