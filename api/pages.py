"""Two kinds of pages: numbered ones for short lists, keyset ones for what grows without end."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from django.core import signing
from django.db.models import Model, Q, QuerySet
from django.utils.translation import gettext as _
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import BasePagination, PageNumberPagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import remove_query_param, replace_query_param

PAGE_SIZE = 50
PAGE_SIZE_MAX = 200


class Pages(PageNumberPagination):
    """`page` and `pageSize`; `{count, next, previous, results}`."""

    page_size = PAGE_SIZE
    max_page_size = PAGE_SIZE_MAX
    page_size_query_param = "pageSize"


class KeysetPages(BasePagination):
    """`cursor` and `limit`; `{next, previous, results}`, newest first.

    A page starts behind the last row of the page before it, named by (`time_field`, id), so rows that arrive meanwhile
    neither repeat nor hide one, and the thousandth page costs what the first does. The cursor is signed for the very
    list it came from: changed, or used on another chat, it is refused with 400.
    """

    time_field = "created_at"
    cursor_query_param = "cursor"
    limit_query_param = "limit"

    def paginate_queryset(self, queryset: QuerySet[Any], request: Request, view: Any = None) -> list[Any]:
        self.request = request
        self.limit = _limit(request.query_params.get(self.limit_query_param))
        cursor = request.query_params.get(self.cursor_query_param)
        backwards, position = self._decode(cursor) if cursor else (False, None)
        rows = self._rows(queryset, position, backwards=backwards)
        more, rows = len(rows) > self.limit, rows[: self.limit]
        if backwards:
            rows.reverse()
        older, newer = (True, more) if backwards else (more, position is not None)
        self.next_link = self._link(rows[-1], backwards=False) if rows and older else None
        self.previous_link = self._link(rows[0], backwards=True) if rows and newer else None
        return rows

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

    def _rows(self, queryset: QuerySet[Any], position: tuple[datetime, int] | None, *, backwards: bool) -> list[Any]:
        sign, compare = ("", "gt") if backwards else ("-", "lt")
        if position:
            at, row_id = position
            beyond = Q(**{f"{self.time_field}__{compare}": at})
            beside = Q(**{self.time_field: at, f"id__{compare}": row_id})
            # The first term lets PostgreSQL start its index scan at the right place; the second is exact.
            queryset = queryset.filter(**{f"{self.time_field}__{compare}e": at}).filter(beyond | beside)
        return list(queryset.order_by(f"{sign}{self.time_field}", f"{sign}id")[: self.limit + 1])

    def _salt(self) -> str:
        return f"cursor:{self.request.path.rstrip('/')}"

    def _link(self, row: Model, *, backwards: bool) -> str:
        position: Sequence[Any] = [int(backwards), getattr(row, self.time_field).isoformat(), row.pk]
        cursor = signing.dumps(position, salt=self._salt())
        url = remove_query_param(self.request.build_absolute_uri(), self.cursor_query_param)
        return replace_query_param(url, self.cursor_query_param, cursor)

    def _decode(self, cursor: str) -> tuple[bool, tuple[datetime, int]]:
        try:
            backwards, at, row_id = signing.loads(cursor, salt=self._salt())
            return bool(backwards), (datetime.fromisoformat(at), int(row_id))
        except (signing.BadSignature, ValueError, TypeError):
            raise ValidationError({"cursor": [_("This cursor is not valid here.")]}, code="invalid_cursor") from None


def _limit(text: str | None) -> int:
    if text is None:
        return PAGE_SIZE
    if not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise ValidationError({"limit": [_("Enter a whole number from 1 to 200.")]}, code="invalid")
    return min(int(text), PAGE_SIZE_MAX)
