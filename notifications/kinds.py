"""The words of the news. Rows hold codes and what fills the words, so that each reader gets them in their language."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.dateparse import parse_date
from django.utils.formats import date_format


@dataclass(frozen=True)
class Kind:
    """The words of one kind of news, translated when they are shown, with %(name)s where a parameter stands.

    `words`: for parameters that are codes themselves, what each code means.
    """

    title: Any
    detail: Any = ""
    words: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_PLACE = re.compile(r"%\((\w+)\)[sd]|%%")
_kinds: dict[str, Kind] = {}


def register(kind: str, *, title: Any, detail: Any = "", words: Mapping[str, Mapping[str, Any]] | None = None) -> None:
    """Give a kind of news its words; the app that sends it does so once, at import."""
    if kind in _kinds:
        raise ValueError(f"The kind {kind!r} has its words already.")
    _kinds[kind] = Kind(title, detail, words or {})


def title_of(kind: str, params: Mapping[str, Any]) -> str:
    """In the reader's language; the code itself for a kind that nobody has registered."""
    known = _kinds.get(kind)
    return _filled(known, known.title, params) if known else kind


def detail_of(kind: str, params: Mapping[str, Any]) -> str:
    known = _kinds.get(kind)
    return _filled(known, known.detail, params) if known else ""


def as_people_write(given: str) -> str:
    """A date as the reader writes dates; all else as it is."""
    try:
        day = parse_date(given) if _DATE.fullmatch(given) else None
    except ValueError:  # such as the 31st of February
        return given
    return date_format(day, "SHORT_DATE_FORMAT") if day else given


def _filled(kind: Kind, text: Any, params: Mapping[str, Any]) -> str:
    """As `text % params`, but nothing in a row or in a translation can make it fail."""

    def value(place: re.Match[str]) -> str:
        if not place[1]:
            return "%"
        given = as_people_write(str(params.get(place[1], "?")))
        if given in kind.words.get(place[1], {}):  # words of their own, which may have places, too
            return _PLACE.sub(lambda inner: str(params.get(inner[1], "?")), str(kind.words[place[1]][given]))
        return given

    return _PLACE.sub(value, str(text))
