"""Two kinds of pages: numbered ones for short lists, keyset ones for what grows without end."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.core import signing
from django.db.models import BooleanField, Func, Model, QuerySet, Value
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination, PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

PAGE_SIZE = 50
PAGE_SIZE_MAX = 200
Position = list[Any]
"""The values of a row's key."""


class Pages(PageNumberPagination):
    """`page` and `pageSize`; `{count, next, previous, results}`."""

    page_size = PAGE_SIZE
    max_page_size = PAGE_SIZE_MAX
    page_size_query_param = "pageSize"


class KeysetPages(BasePagination):
    """`cursor` and `limit`; `{next, previous, results}`, newest first.

    A page starts behind the last row of the page before it, named by its key, so rows that arrive meanwhile neither
    repeat nor hide one, and the thousandth page costs what the first does. The cursor is signed for the very list it
    came from: changed, or used on another chat, filter or order, it is refused with 400.
    """

    key: tuple[str, ...] = ("created_at", "id")
    """The columns of the order, all in one direction; together they are unique."""
    ascending = False
    cursor_query_param = "cursor"
    limit_query_param = "limit"

    def paginate_queryset(self, queryset: QuerySet[Any], request: Request, view: Any = None) -> list[Any]:
        self.request, self.view = request, view
        self.limit = _limit(request.query_params.get(self.limit_query_param))
        cursor = request.query_params.get(self.cursor_query_param)
        backwards, position = self._decode(cursor) if cursor else (False, None)
        rows, edge = self.rows(queryset, position, backwards=backwards)
        more, rows = len(rows) > self.limit, rows[: self.limit]
        near = self._position(rows[0]) if rows else edge
        far = self._position(rows[-1]) if more else edge
        if backwards:
            rows.reverse()
        next_from, previous_from = (near, far) if backwards else (far, near if position else None)
        self.next_link = self._link(next_from, backwards=False) if next_from else None
        self.previous_link = self._link(previous_from, backwards=True) if previous_from else None
        return rows

    def rows(
        self, queryset: QuerySet[Any], position: Position | None, *, backwards: bool
    ) -> tuple[list[Any], Position | None]:
        """One row more than the page shall show, if there is one, and an edge.

        The edge, of a page that may be short: where to go on although no row was found there; None where all was seen.
        """
        return list(self.ordered(queryset, position, backwards=backwards)[: self.limit + 1]), None

    def ordered(self, queryset: QuerySet[Any], position: Position | None, *, backwards: bool) -> QuerySet[Any]:
        """The rows behind `position` in the order of the page, or in the reverse one."""
        ascending = self.ascending != backwards
        if position:
            queryset = queryset.filter(Compared(self.key, position, ">" if ascending else "<"))
        return queryset.order_by(*(name if ascending else f"-{name}" for name in self.key))

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"next": self.next_link, "previous": self.previous_link, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        link = {"type": "string", "format": "uri", "nullable": True}
        return {
            "type": "object",
            "required": ["next", "previous", "results"],
            "properties": {"next": link, "previous": link, "results": schema},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        return [
            {"name": "cursor", "in": "query", "schema": {"type": "string"}, "description": "from `next` or `previous`"},
            {
                "name": "limit",
                "in": "query",
                "schema": {"type": "integer", "default": PAGE_SIZE, "minimum": 1, "maximum": PAGE_SIZE_MAX},
            },
        ]

    def _position(self, row: Model) -> Position:
        return [getattr(row, name) for name in self.key]

    def _salt(self) -> str:
        """Names the list: its path, and the filters that were given."""
        known = getattr(getattr(self.view, "filterset_class", None), "base_filters", ())
        given = sorted((name, self.request.query_params[name]) for name in known if name in self.request.query_params)
        return f"cursor:{self.request.path.rstrip('/')}:{given}"

    def _link(self, position: Position, *, backwards: bool) -> str:
        written = [value.isoformat() if isinstance(value, datetime) else value for value in position]
        cursor = signing.dumps([int(backwards), *written], salt=self._salt())
        url = remove_query_param(self.request.build_absolute_uri(), self.cursor_query_param)
        return replace_query_param(url, self.cursor_query_param, cursor)

    def _decode(self, cursor: str) -> tuple[bool, Position]:
        try:
            backwards, *written = signing.loads(cursor, salt=self._salt())
        except (signing.BadSignature, ValueError, TypeError):
            raise ValidationError({"cursor": [_("This cursor is not valid here.")]}, code="invalid_cursor") from None
        return bool(backwards), [datetime.fromisoformat(v) if isinstance(v, str) else v for v in written]


class Compared(Func):
    """`(a, b) < (x, y)`: the comparison of rows that an index on (a, b) answers with one descent."""

    template = "%(expressions)s"
    output_field = BooleanField()

    def __init__(self, names: Sequence[str], position: Sequence[Any], operator: str) -> None:
        rows = Func(*names, function="ROW"), Func(*map(Value, position), function="ROW")
        super().__init__(*rows, arg_joiner=f" {operator} ")


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE_SIZE
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise ValidationError({"limit": [_("Enter a whole number from 1 to 200.")]}, code="invalid")
    return min(int(text), PAGE_SIZE_MAX)
