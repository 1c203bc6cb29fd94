"""What stands in a message, for people; and what is a picture. Pure."""

import re
from collections.abc import Mapping
from typing import Any

_PLACEHOLDER = re.compile(r"(пожалуйста )?перейдите на подписку (с|со) (доступом к )?(api|апи) мессенджера\b")
_LOOKALIKES = str.maketrans("ёaeopcyxkmthb", "еаеорсухкмтнв")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060\ufeff]")
_HEIC_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"})


def render_text(type: str, content: Mapping[str, Any]) -> str:
    """The words of a message of any type, or "" if it has none (pictures, voices, calls, deleted ones).

    A text is the text itself, a link its text or address, a listing its title and price, a place its title, address or
    coordinates. Source: Avito API, Messenger, MessageContent.
    """
    part = content.get(type)
    candidates = [content.get("text")]
    if isinstance(part, Mapping) and type in _WORDS:
        candidates += _WORDS[type](part)
    return next((words for words in candidates if isinstance(words, str) and words), "")


def _link(part: Mapping[str, Any]) -> list[Any]:
    return [part.get("text"), part.get("url")]


def _item(part: Mapping[str, Any]) -> list[Any]:
    named = [part.get(key) for key in ("title", "price_string")]
    return [", ".join(words for words in named if isinstance(words, str) and words)]


def _location(part: Mapping[str, Any]) -> list[Any]:
    place = [part.get("lat"), part.get("lon")]
    is_known = all(isinstance(degrees, int | float) and not isinstance(degrees, bool) for degrees in place)
    return [part.get("title"), part.get("text"), ", ".join(map(str, place)) if is_known else ""]


_WORDS = {"link": _link, "item": _item, "location": _location}


def is_subscription_placeholder(text: str) -> bool:
    """Is this Avito's advertisement of a subscription, standing in place of what was said?

    Never answer it and never make a lead of it. Seen in the field since November 2025; in no specification, so other
    spaces, letters that only look alike, quotes and punctuation make no difference. Only at the beginning: a person
    may quote it.
    """
    if len(text) > 1000:
        return False
    words = re.findall(r"\w+", _INVISIBLE.sub("", text.lower()))
    # "API" is told by its letters in either alphabet; all other words are Russian.
    plain = ["api" if word in {"api", "арі", "арi", "аpi"} else word.translate(_LOOKALIKES) for word in words[:12]]
    return _PLACEHOLDER.match(" ".join(plain)) is not None


def image_type(data: bytes) -> str | None:
    """The media type of a picture by its first bytes; None for what Avito does not take.

    Source: Avito API, Messenger, uploadImages (JPEG, HEIC, GIF, BMP, PNG).
    """
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data[4:8] == b"ftyp" and data[8:12] in _HEIC_BRANDS:
        return "image/heic"
    # "BM" alone begins many a text; the size of the header behind it does not.
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in {12, 16, 40, 52, 56, 64, 108, 124}:
        return "image/bmp"
    return None
