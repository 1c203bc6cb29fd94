"""Reading JSON that others wrote: strict parsing, then typed fields. Raises only Unreadable, for any input."""

import json
import re
from datetime import UTC, date, datetime
from typing import Any, NamedTuple

from avito.errors import Unreadable

ID_MAX = 2**63 - 1
NAME_MAX = 255
"""Characters of a chat or message id; ours to bound the columns, real ones have 32 to 60."""
WORD_MAX = 64
"""Characters of a type or another word of the protocol."""
DEPTH_MAX = 32
MOMENT_MAX = 4_102_444_800
"""Unix seconds of the year 2100; anything later is milliseconds or nonsense."""
COUNT_MAX = 10**9
"""Of a counter; ours to bound the columns."""

# A surrogate pair and an escaped backslash are matched so as to be passed over; the rest PostgreSQL could not store.
_ESCAPES = re.compile(
    r"\\\\|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u0000|\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


class Document(NamedTuple):
    value: Any
    duplicate_keys: bool


def loads(body: bytes) -> Document:
    """Parse UTF-8 JSON, at most DEPTH_MAX deep and without NaN or infinities.

    U+0000 and lone surrogates become U+FFFD. Of duplicate keys the last counts.
    """
    duplicates: list[str] = []

    def mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        if len(made) != len(pairs):
            duplicates.append("")
        return made

    try:
        value = json.loads(
            _storable(body.decode()), object_pairs_hook=mapping, parse_float=_finite, parse_constant=_finite
        )
    except RecursionError:
        raise Unreadable("nested too deeply") from None
    except UnicodeDecodeError:
        raise Unreadable("not UTF-8") from None
    except ValueError as error:
        raise Unreadable("not JSON" if isinstance(error, json.JSONDecodeError) else "a number out of range") from None
    if not _is_shallow(value, DEPTH_MAX):
        raise Unreadable("nested too deeply")
    return Document(value, bool(duplicates))


def _storable(text: str) -> str:
    if "\\u" not in text:
        return text
    return _ESCAPES.sub(lambda found: r"\ufffd" if found[1] else found[0], text)


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0:  # true of NaN and the infinities alone
        raise ValueError("not a finite number")
    return number


def _is_shallow(value: Any, levels: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return levels > 0 and all(_is_shallow(one, levels - 1) for one in inner)


def mapping(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Unreadable(f"{name}: not an object")
    return value


def child(source: dict[str, Any], key: str) -> dict[str, Any]:
    """The object under `key`; an empty one if missing or null."""
    value = source.get(key)
    return {} if value is None else mapping(value, key)


def children(source: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """The required list of objects under `key`."""
    value = source.get(key)
    if not isinstance(value, list):
        raise Unreadable(f"{key}: not a list")
    return [mapping(one, key) for one in value]


def text(source: dict[str, Any], key: str, default: str | None = None) -> str:
    """The string under `key`; without a default it is required. Null counts as missing."""
    value = source.get(key)
    if value is None and default is not None:
        return default
    if not isinstance(value, str):
        raise Unreadable(f"{key}: {'missing' if value is None else 'not a string'}")
    return value


def word(source: dict[str, Any], key: str, default: str | None = None) -> str:
    """As `text`, for words of the protocol: at most WORD_MAX characters."""
    value = text(source, key, default)
    if len(value) > WORD_MAX:
        raise Unreadable(f"{key}: too long")
    return value


def label(source: dict[str, Any], key: str) -> str:
    """Something only ever shown: numbers are accepted, anything odder is dropped."""
    value = source.get(key)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)


def name(source: dict[str, Any], key: str) -> str:
    """A required chat or message id: 1 to NAME_MAX characters that can stand for one segment of a path."""
    value = text(source, key)
    if not 1 <= len(value) <= NAME_MAX or value in {".", ".."} or not value.isprintable() or set(value) & set("/\\"):
        raise Unreadable(f"{key}: not an id")
    return value


def number(value: Any, name: str, *, least: int, most: int) -> int:
    """`value` if it is a whole number in range; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise Unreadable(f"{name}: {'missing' if value is None else 'not a number in range'}")
    return value


def account_id(source: dict[str, Any], key: str) -> int:
    """A required id of an account: 1 to ID_MAX."""
    return number(source.get(key), key, least=1, most=ID_MAX)


def optional_id(source: dict[str, Any], key: str) -> int | None:
    """An id or None; Avito writes "nobody" and "nothing" as null or 0."""
    value = source.get(key)
    return None if value is None else number(value, key, least=0, most=ID_MAX) or None


def moment(source: dict[str, Any], key: str) -> datetime:
    """Required unix seconds, as an aware time in UTC."""
    return datetime.fromtimestamp(number(source.get(key), key, least=0, most=MOMENT_MAX), UTC)


def optional_moment(source: dict[str, Any], key: str) -> datetime | None:
    return None if source.get(key) is None else moment(source, key)


def day(source: dict[str, Any], key: str) -> date:
    """A required date, written YYYY-MM-DD."""
    written = text(source, key)
    try:
        if not re.fullmatch(r"\d{4}-\d\d-\d\d", written, re.ASCII):
            raise ValueError
        return date.fromisoformat(written)
    except ValueError:
        raise Unreadable(f"{key}: not a date") from None


def count(source: dict[str, Any], key: str) -> int:
    """How many: 0 to COUNT_MAX; 0 if missing or null."""
    value = source.get(key)
    return 0 if value is None else number(value, key, least=0, most=COUNT_MAX)
