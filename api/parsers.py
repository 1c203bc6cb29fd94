"""A JSON parser that answers 400 to everything Python's own would take, or would fall over."""

import json
import math
from collections.abc import Mapping
from typing import IO, Any

from django.utils.translation import gettext as _
from rest_framework.exceptions import ParseError
from rest_framework.parsers import BaseParser
from rest_framework.renderers import JSONRenderer

DEPTH_MAX = 32


class StrictJSONParser(BaseParser):
    """UTF-8, no NaN or Infinity, no number that overflows, no key twice, no lone surrogate, at most 32 levels deep."""

    media_type = "application/json"
    renderer_class = JSONRenderer

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            text = stream.read().decode()
            value = json.loads(text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)
            if "\\u" in text:
                json.dumps(value, ensure_ascii=False).encode()  # fails where an answer that quotes it would fail
        except (ValueError, RecursionError) as error:
            detail = str(error) if isinstance(error, _Unwanted) else _("The body is not readable JSON.")
            raise ParseError(detail) from None
        if _depth_exceeds(value, DEPTH_MAX):
            raise ParseError(_("The body is nested too deeply."))
        return value


class _Unwanted(ValueError):
    """Valid JSON for Python, but nothing that we take."""


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _Unwanted(_("The body names a key twice."))
    return result


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Unwanted(_("The body holds a number that is too large."))
    return number


def _no_constant(name: str) -> Any:
    raise _Unwanted(_("%(name)s is no JSON.") % {"name": name})


def _depth_exceeds(value: Any, maximum: int) -> bool:
    level = [value]
    for _depth in range(maximum + 1):
        level = [
            child
            for node in level
            if isinstance(node, dict | list)
            for child in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return False
    return True
