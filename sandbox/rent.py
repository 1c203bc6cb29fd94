"""Short-term rent in two dialects over one state. Source: Avito API, Краткосрочная аренда, July 2026.

The second dialect is that of a setup guide, whose paths are in no document of Avito's. A body that is no JSON object
is answered 400; a value at fault 422, naming each such field (`prices[3].night_price`) with what is wrong about it.
"""

import datetime as dt
import json
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.calendar import Booking, Calendar
from sandbox.messenger import self_info
from sandbox.state import Seller
from sandbox.wire import Refusal, no_body, operation, query_bool, world_of

INT64_MAX = 2**63 - 1
PRICE_STAY_MAX = 30
# No document ends a range; this keeps one call from filling the memory.
RANGE_DAYS_MAX = 3660
DATE = re.compile(r"\d{4}-\d\d-\d\d")
BLOCK_TYPES = ("manual", "booking")
SUCCESS = {"result": "success"}

# What the path says about a call, by the names that tests use.
_CALLS = tuple(
    (method, re.compile(path), kind)
    for method, path, kind in (
        ("GET", r"/(?:realty/v1|short_term_rent)/accounts/\d+/items/(\d+)/bookings", "reads"),
        ("POST", r"/realty/v1/items/intervals", "intervals"),
        ("PUT", r"/short_term_rent/accounts/\d+/items/(\d+)/availability", "intervals"),
        ("POST", r"/realty/v1/accounts/\d+/items/(\d+)/prices", "prices"),
        ("PUT", r"/short_term_rent/accounts/\d+/items/(\d+)/prices", "prices"),
        ("POST", r"/realty/v1/items/(\d+)/base", "base"),
        ("POST", r"/core/v1/accounts/\d+/items/(\d+)/bookings", "blocks"),
        ("POST", r"/short_term_rent/accounts/\d+/items/(\d+)/check_connection", "checks"),
    )
)
KINDS = tuple(dict.fromkeys(kind for _, _, kind in _CALLS))


def kind_of(method: str, path: str, body: bytes) -> tuple[str | None, int | None]:
    """Which call of this section it is, and of which listing; both None for calls of other sections."""
    for known, pattern, kind in _CALLS:
        found = pattern.fullmatch(path) if method == known else None
        if found:
            return kind, int(found[1]) if found.groups() else _item_in(body)
    return None, None


def _item_in(body: bytes) -> int | None:
    try:
        item_id = json.loads(body)["item_id"]
    except (ValueError, TypeError, LookupError):
        return None
    return item_id if isinstance(item_id, int) else None


# The listing


def _calendar(request: Request, seller: Seller, item_id: int, *, may_skip: bool = True) -> Calendar:
    """The listing's calendar; raises Skipped where `skip_error` asks for silence about a listing in trouble."""
    world = world_of(request)
    item = world.items.get(item_id)
    skip = may_skip and query_bool(request, "skip_error")
    if item is not None and item.status != "removed" and item.seller_id == seller.id:
        return world.calendar(item_id)
    if skip:
        raise Skipped
    if item is None or item.status == "removed":
        raise Refusal(404, "Айтем не найден")
    raise Refusal(403, "Пользователь не владеет айтемом")


class Skipped(Exception):
    """There is trouble with the listing that the caller does not want to hear of."""


# Values and what is wrong with them


class Problems(dict[str, str]):
    """What is wrong, by field: each check notes what does not fit, and `end` refuses the call if there was anything."""

    def note(self, field: str, problem: str) -> None:
        self.setdefault(field, problem)

    def end(self) -> None:
        if self:
            raise Refusal(422, "Validation error", dict(self))

    def whole(self, field: str, value: object, low: int, high: int = INT64_MAX) -> int | None:
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        self.note(field, f"must be a whole number from {low} to {high}")
        return None

    def one_of(self, field: str, value: object, *known: Any) -> None:
        if value not in known or isinstance(value, bool) != isinstance(known[0], bool):
            self.note(field, f"must be one of {', '.join(map(str, known))}")

    def date(self, field: str, value: object, today: dt.date) -> dt.date | None:
        """YYYY-MM-DD, not in the past."""
        try:
            found = dt.date.fromisoformat(value) if isinstance(value, str) and DATE.fullmatch(value) else None
        except ValueError:
            found = None
        if found is None:
            self.note(field, "required" if value is None else "must be a date, YYYY-MM-DD")
        elif found < today:
            self.note(field, "Дата не может быть в прошлом")
        return found

    def known(self, where: str, value: object, *names: str) -> dict[str, Any]:
        """An object with none but these fields; an empty one in the place of what is no object."""
        if not isinstance(value, dict):
            self.note(where, "must be an object")
            return {}
        for name in value:
            if name not in names:
                self.note(f"{where}.{name}" if where else name, "unknown field")
        return value

    def rows(self, name: str, value: object) -> Iterator[tuple[str, Any]]:
        """The elements of a required list, each with the name that a problem of it goes by."""
        if not isinstance(value, list):
            self.note(name, "required" if value is None else "must be a list")
            return iter(())
        return ((f"{name}[{number}]", row) for number, row in enumerate(value))

    def text(self, field: str, value: object) -> None:
        if value is not None and not isinstance(value, str):
            self.note(field, "must be a text or null")

    def span(
        self, where: str, row: dict[str, Any], names: tuple[str, str], today: dt.date, *, least: int
    ) -> tuple[dt.date, dt.date] | None:
        """Both dates, if they are good and the second comes at least `least` days after the first."""
        first, last = (self.date(f"{where}.{name}", row.get(name), today) for name in names)
        if first is None or last is None:
            return None
        if not least <= (last - first).days <= RANGE_DAYS_MAX:
            self.note(f"{where}.{names[1]}", f"must be {least} to {RANGE_DAYS_MAX} days after {names[0]}")
            return None
        return first, last

    def apart(self, spans: list[tuple[str, tuple[dt.date, dt.date]]]) -> None:
        """Ranges may touch, but not overlap."""
        ordered = sorted(spans, key=lambda one: one[1])
        for (before, (_, end)), (where, (start, _)) in pairwise(ordered):
            if start < end:
                self.note(f"{where}.date_start", f"overlaps {before}")


async def _object(request: Request) -> dict[str, Any]:
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(400, "Bad Request: Content-Type must be application/json")
    try:
        value = json.loads(await request.body())
    except ValueError:
        raise Refusal(400, "Bad Request: the body is no JSON") from None
    if not isinstance(value, dict):
        raise Refusal(400, "Bad Request: the body must be an object")
    return value


# Bookings


async def bookings(request: Request, seller: Seller) -> Response:
    """The bookings that touch the dates asked for, both included, in the order in which they were made."""
    try:
        calendar = _calendar(request, seller, request.path_params["item_id"])
    except Skipped:
        return JSONResponse({"bookings": []})
    problems, today, query = Problems(), calendar.today(), request.query_params
    first, last = (problems.date(name, query.get(name), today) for name in ("date_start", "date_end"))
    if first and last and first > last:
        problems.note("date_end", "before date_start")
    problems.end()
    assert first
    assert last
    shown = calendar.shown(first, last, with_unpaid=query_bool(request, "with_unpaid"))
    rows: list[Any] = [booking_json(calendar, booking) for booking in shown]
    if calendar.switch("closed_rows"):
        rows += [
            {
                "status": "active",
                "check_in": start.isoformat(),
                "check_out": end.isoformat(),
                "nights": (end - start).days,
            }
            for start, end in calendar.closed_runs(first, last)
        ]
    return JSONResponse({"bookings": rows + calendar.raw_rows})


def booking_json(calendar: Calendar, booking: Booking) -> dict[str, Any]:
    """A row of the answer. The prepayment is as in the document's example: five eighths, a tenth of that Avito's."""
    contact = {"name": booking.name, "email": booking.email}
    if booking.phone is not None:
        contact["phone"] = booking.phone
    paid = booking.base_price * 5 // 8 if booking.status == "active" else 0
    row: dict[str, Any] = {
        "avito_booking_id": booking.id,
        "status": booking.status,
        "check_in": booking.check_in.isoformat(),
        "check_out": booking.check_out.isoformat(),
        "nights": booking.nights,
        "guest_count": booking.guest_count,
        "base_price": booking.base_price,
        "safe_deposit": {"total_amount": paid, "owner_amount": paid - paid // 10, "tax": paid // 10},
        "contact": contact,
    }
    if calendar.switch("total_for_buyer"):
        row["total_for_buyer"] = booking.base_price
    if calendar.switch("extra_fields"):
        row |= {"origin": "avito", "promo": {"code": "ЛЕТО", "percent": 5}}
    row |= booking.changes
    return {name: value for name, value in row.items() if value is not None}


# What the owner writes


async def blocks(request: Request, seller: Seller) -> Response:
    calendar = _calendar(request, seller, request.path_params["item_id"], may_skip=False)
    body, problems, ranges = await _object(request), Problems(), []
    problems.known("", body, "bookings", "source")
    problems.text("source", body.get("source"))
    spans = []
    for where, value in problems.rows("bookings", body.get("bookings")):
        row = problems.known(where, value, "date_start", "date_end", "type", "comment")
        problems.text(f"{where}.comment", row.get("comment"))
        if row.get("type") is not None:
            problems.one_of(f"{where}.type", row["type"], *BLOCK_TYPES)
        span = problems.span(where, row, ("date_start", "date_end"), calendar.today(), least=1)
        if span:
            spans.append((where, span))
            ranges.append((*span, row.get("type") or "manual"))
    problems.apart(spans)
    problems.end()
    conflicts = calendar.set_blocks(ranges)
    if not conflicts:
        return JSONResponse(SUCCESS)
    told = [_conflict(*ranges[number][:2], found) for number, found in conflicts.items()]
    message = "На заданные даты есть оплаченные брони"
    return JSONResponse({"error": {"code": 409, "message": message, "conflicts": told}}, 409)


def _conflict(first: dt.date, end: dt.date, found: list[Booking]) -> dict[str, Any]:
    return {
        "interval": {"date_start": first.isoformat(), "date_end": end.isoformat()},
        "bookings": [
            {
                "avito_booking_id": booking.id,
                "check_in": booking.check_in.isoformat(),
                "check_out": booking.check_out.isoformat(),
            }
            for booking in found
        ],
    }


async def intervals(request: Request, seller: Seller) -> Response:
    """The listing stands in the body; in the guide's dialect also, or only, in the path."""
    body, problems, opened = await _object(request), Problems(), []
    in_path = request.path_params.get("item_id")
    item_id = problems.whole("item_id", body.get("item_id", in_path), 1)
    if in_path not in {None, item_id}:
        problems.note("item_id", "not the listing of the path")
    problems.end()
    assert item_id
    try:
        calendar = _calendar(request, seller, item_id)
    except Skipped:
        return JSONResponse(SUCCESS)
    problems.known("", body, "item_id", "intervals", "source")
    problems.text("source", body.get("source"))
    spans = []
    for where, value in problems.rows("intervals", body.get("intervals")):
        row = problems.known(where, value, "date_start", "date_end", "open")
        quota = problems.whole(f"{where}.open", row.get("open"), 1)
        span = problems.span(where, row, ("date_start", "date_end"), calendar.today(), least=1)
        if span and quota:
            spans.append((where, span))
            opened.append((*span, quota))
    problems.apart(spans)
    problems.end()
    calendar.set_intervals(opened)
    return JSONResponse(SUCCESS)


async def prices(request: Request, seller: Seller) -> Response:
    """A later range goes over an earlier one."""
    try:
        calendar = _calendar(request, seller, request.path_params["item_id"])
    except Skipped:
        return JSONResponse(SUCCESS)
    body, problems, changes = await _object(request), Problems(), []
    problems.known("", body, "prices")
    for where, value in problems.rows("prices", body.get("prices")):
        row = problems.known(where, value, "date_from", "date_to", "night_price", "minimal_duration", "extra_guest_fee")
        written: dict[str, int | None] = {"price": None, "stay": None, "fee": None}
        for name, key, low, high in (
            ("night_price", "price", 1, INT64_MAX),
            ("minimal_duration", "stay", 1, PRICE_STAY_MAX),
            ("extra_guest_fee", "fee", 0, INT64_MAX),
        ):
            if name in row:
                written[key] = problems.whole(f"{where}.{name}", row[name], low, high)
        span = problems.span(where, row, ("date_from", "date_to"), calendar.today(), least=0)
        if span:
            changes.append((span, written))
    problems.end()
    for (first, last), written in changes:
        calendar.set_prices(first, last, **written)
    return JSONResponse(SUCCESS)


BASE_FIELDS: dict[str, Callable[[Problems, Any], object]] = {
    "night_price": lambda problems, value: problems.whole("night_price", value, 1),
    "minimal_duration": lambda problems, value: problems.whole("minimal_duration", value, 1, 7),
    "extra_guest_fee": lambda problems, value: problems.whole("extra_guest_fee", value, 0),
    "extra_guest_threshold": lambda problems, value: problems.whole("extra_guest_threshold", value, 1, 8),
    "refund": lambda problems, value: _refund(problems, value),
    "instant": lambda problems, value: _instant(problems, value),
    "discount": lambda problems, value: _discount(problems, value),
    "fees": lambda problems, value: _fees(problems, value),
}


async def base(request: Request, seller: Seller) -> Response:
    """What is missing or null stays as it was. The answer has no body."""
    calendar = _calendar(request, seller, request.path_params["item_id"], may_skip=False)
    body, problems = await _object(request), Problems()
    problems.known("", body, *BASE_FIELDS)
    given = {name: value for name, value in body.items() if value is not None and name in BASE_FIELDS}
    for name, value in given.items():
        BASE_FIELDS[name](problems, value)
    problems.end()
    calendar.base.update(given)
    return Response()


def _refund(problems: Problems, value: Any) -> None:
    row = problems.known("refund", value, "days")
    if "days" in row:
        problems.one_of("refund.days", row["days"], 0, 1, 3, 5, 7, 14)


def _instant(problems: Problems, value: Any) -> None:
    row = problems.known("instant", value, "active", "min_days", "max_days")
    if "active" in row:
        problems.one_of("instant.active", row["active"], False, True)
    for name, known in (("min_days", (1, 2, 3, 4, 5)), ("max_days", (30, 60, 90, 120, 150))):
        if row.get(name) is not None:
            problems.one_of(f"instant.{name}", row[name], *known)


def _discount(problems: Problems, value: Any) -> None:
    for where, one in problems.rows("discount", value):
        row = problems.known(where, one, "threshold", "percent")
        if "threshold" in row:
            problems.one_of(f"{where}.threshold", row["threshold"], 3, 7, 30)
        if "percent" in row:
            problems.whole(f"{where}.percent", row["percent"], 0, 100)


def _fees(problems: Problems, value: Any) -> None:
    row = problems.known("fees", value, "cleaning", "pets")
    for name, known in (("cleaning", ("amount",)), ("pets", ("allowed", "amount", "application"))):
        if row.get(name) is None:
            continue
        fee = problems.known(f"fees.{name}", row[name], *known)
        if "amount" in fee:
            problems.whole(f"fees.{name}.amount", fee["amount"], 0)
        if "allowed" in fee:
            problems.one_of("fees.pets.allowed", fee["allowed"], False, True)
        if "application" in fee:
            problems.one_of("fees.pets.application", fee["application"], "by_booking", "by_night")


async def check_connection(request: Request, seller: Seller) -> Response:
    await no_body(request)
    _calendar(request, seller, request.path_params["item_id"], may_skip=False)
    return JSONResponse(SUCCESS)


_READ, _WRITE = "short_term_rent:read", "short_term_rent:write"
_DATES = ("date_start", "date_end", "with_unpaid", "skip_error")
_ITEM = "/accounts/{user_id:int}/items/{item_id:int}"
_GUIDE = f"/short_term_rent{_ITEM}"
_SKIP = ("skip_error",)

ROUTES = [
    operation("GET", f"/realty/v1{_ITEM}/bookings", _READ, bookings, _DATES),
    operation("POST", f"/core/v1{_ITEM}/bookings", _WRITE, blocks),
    operation("POST", "/realty/v1/items/intervals", _WRITE, intervals, _SKIP),
    operation("POST", f"/realty/v1{_ITEM}/prices", _WRITE, prices, _SKIP),
    operation("POST", "/realty/v1/items/{item_id:int}/base", _WRITE, base),
    # The guide's dialect
    operation("GET", "/user", "user:read", self_info),
    operation("POST", f"{_GUIDE}/check_connection", _READ, check_connection),
    operation("GET", f"{_GUIDE}/bookings", _READ, bookings, _DATES),
    operation("PUT", f"{_GUIDE}/prices", _WRITE, prices, _SKIP),
    operation("PUT", f"{_GUIDE}/availability", _WRITE, intervals, _SKIP),
]
