"""The control API of short-term rent, under `/_sandbox/rent`: listings, their calendars, bookings, calls."""

import datetime as dt
import json
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.calendar import DAY, SWITCHES, Booking, Calendar, NotForSale, nights
from sandbox.control import any_object, known_body, required, seller_of
from sandbox.rent import KINDS, booking_json
from sandbox.settings import camel
from sandbox.state import World
from sandbox.wire import Refusal, day, world_of

ITEMS_AT_ONCE_MAX = 100_000
CALENDAR_DAYS = 365
DETAILS = {"basePrice": int, "guestCount": int, "name": str, "email": str, "phone": str}
NAMES = {"basePrice": "base_price", "guestCount": "guest_count"}


def calendar_of(world: World, item_id: int) -> Calendar:
    if item_id not in world.items:
        raise Refusal(404, "no such listing")
    return world.calendar(item_id)


def _calendar(request: Request) -> Calendar:
    return calendar_of(world_of(request), request.path_params["item_id"])


def booking_of(request: Request) -> Booking:
    booking = world_of(request).bookings.get(request.path_params["booking_id"])
    if booking is None:
        raise Refusal(404, "no such booking")
    return booking


# Listings and calendars


async def make_items(request: Request) -> Response:
    """New listings; with an `id` there is one."""
    world = world_of(request)
    body = await known_body(request, sellerId=int, id=int, title=str, price=int, count=int)
    seller, count = seller_of(world, required(body, "sellerId")), body.get("count", 1)
    if not 1 <= count <= ITEMS_AT_ONCE_MAX or ("id" in body and count > 1):
        raise Refusal(400, f"count: 1 to {ITEMS_AT_ONCE_MAX}, and 1 with an id")
    if body.get("id") in world.items:
        raise Refusal(409, "the id is taken")
    title, price = body.get("title", "Квартира посуточно"), body.get("price", 3500)
    titles = [title] if count == 1 else [f"{title} № {number + 1}" for number in range(count)]
    made = [world.add_item(seller.id, one, price, id=body.get("id")) for one in titles]
    return JSONResponse({"ids": [item.id for item in made]}, 201)


async def item(request: Request) -> Response:
    """What is known of a listing besides its nights."""
    calendar = _calendar(request)
    return JSONResponse(
        {
            "id": calendar.item_id,
            "today": calendar.today().isoformat(),
            "base": calendar.base,
            "switches": {camel(name): value for name, value in calendar.switches.items()},
            "bookings": [booking_state(calendar, booking) for booking in calendar.bookings.values()],
            "rawRows": calendar.raw_rows,
        }
    )


async def switches(request: Request) -> Response:
    """Settings `rent…` of this listing alone, without that prefix; null: as the rest."""
    calendar, changes = _calendar(request), await any_object(request)
    for name in changes:
        if name not in SWITCHES:
            raise Refusal(400, f"unknown switch {name}; known: {', '.join(SWITCHES)}")
    given = {camel(f"rent_{SWITCHES[name]}"): value for name, value in changes.items() if value is not None}
    try:
        fitting = calendar.settings.fitting(given)
    except ValueError as error:
        raise Refusal(400, str(error)) from None
    kept = {name: v for name, v in calendar.switches.items() if changes.get(camel(name), v) is not None}
    calendar.switches = {**kept, **{name.removeprefix("rent_"): value for name, value in fitting.items()}}
    return JSONResponse({camel(name): value for name, value in calendar.switches.items()})


async def nights_of(request: Request) -> Response:
    """Every night from `from` (the listing's today) on, `days` of them (365)."""
    calendar, query = _calendar(request), request.query_params
    first = day("from", query["from"]) if "from" in query else calendar.today()
    end = first + DAY * int(query.get("days", CALENDAR_DAYS))
    return JSONResponse({on.isoformat(): _night_json(calendar, on) for on in nights(first, end)})


def _night_json(calendar: Calendar, on: dt.date) -> dict[str, Any]:
    night = calendar.night(on)
    return {
        "price": night.price,
        "minimalDuration": night.minimal_duration,
        "open": night.open,
        "bookedBy": night.booked_by,
        "blocked": night.blocked,
    }


async def raw_rows(request: Request) -> Response:
    """Add `row`, any JSON, to Avito's answers as it is; DELETE takes all such rows away."""
    calendar = _calendar(request)
    if request.method == "DELETE":
        calendar.raw_rows.clear()
        return Response(status_code=204)
    calendar.raw_rows.append(required(await any_object(request), "row"))
    return JSONResponse({"rows": len(calendar.raw_rows)}, 201)


# Bookings


def booking_state(calendar: Calendar, booking: Booking) -> dict[str, Any]:
    """The booking as it is, and the row in which Avito would show it."""
    return {
        "id": booking.id,
        "itemId": booking.item_id,
        "status": booking.status,
        "checkIn": booking.check_in.isoformat(),
        "checkOut": booking.check_out.isoformat(),
        "basePrice": booking.base_price,
        "hidden": booking.hidden,
        "row": booking_json(calendar, booking),
    }


def _answer(request: Request, booking: Booking, status: int = 200) -> Response:
    return JSONResponse(booking_state(world_of(request).calendar(booking.item_id), booking), status)


def sold(
    calendar: Calendar, check_in: dt.date, check_out: dt.date, *, force: bool, besides: Booking | None = None
) -> None:
    """Refuse a stay that Avito would not sell; `force` lets everything pass but a stay without a night."""
    try:
        if not force or check_in >= check_out:
            calendar.refuse_unsold(check_in, check_out, besides=besides)
    except NotForSale as error:
        raise Refusal(409, str(error)) from None


async def book(request: Request) -> Response:
    """A guest books; without a `status` he pays at once."""
    world = world_of(request)
    body = await known_body(
        request, itemId=int, id=int, checkIn=str, checkOut=str, status=str, force=bool, changes=dict, **DETAILS
    )
    calendar = calendar_of(world, required(body, "itemId"))
    check_in, check_out = (day(name, required(body, name)) for name in ("checkIn", "checkOut"))
    if body.get("id") in world.bookings:
        raise Refusal(409, "the id is taken")
    sold(calendar, check_in, check_out, force=body.get("force", False))
    details = {NAMES.get(name, name): body[name] for name in (*DETAILS, "id", "changes") if name in body}
    booking = world.book(calendar.item_id, check_in, check_out, body.get("status", "active"), **details)
    return _answer(request, booking, 201)


async def edit(request: Request) -> Response:
    """Set what a booking says: its status in any word, its figures, `hidden`, and `changes` laid over its row."""
    booking = booking_of(request)
    body = await known_body(request, status=str, hidden=bool, changes=dict, **DETAILS)
    for name, value in body.items():
        setattr(booking, NAMES.get(name, name), value)
    return _answer(request, booking)


async def act(request: Request) -> Response:
    """`pay`, `cancel` or `expire`."""
    booking, action = booking_of(request), request.path_params["action"]
    await known_body(request)
    apply(world_of(request).calendar(booking.item_id), booking, action)
    return _answer(request, booking)


def apply(calendar: Calendar, booking: Booking, action: str) -> None:
    if action == "pay":
        booking.status = "active"
    elif action == "cancel":
        calendar.cancel(booking)
    elif action == "expire":
        calendar.expire(booking)
    else:
        raise Refusal(404, "pay, cancel or expire")


async def move(request: Request) -> Response:
    booking = booking_of(request)
    calendar = world_of(request).calendar(booking.item_id)
    body = await known_body(request, checkIn=str, checkOut=str, force=bool)
    check_in, check_out = (day(name, required(body, name)) for name in ("checkIn", "checkOut"))
    sold(calendar, check_in, check_out, force=body.get("force", False), besides=booking)
    calendar.move(booking, check_in, check_out)
    return _answer(request, booking)


# Calls


async def calls(request: Request) -> Response:
    """The journal's calls for short-term rent with their bodies, oldest first; DELETE forgets them."""
    world, query = world_of(request), request.query_params
    if request.method == "DELETE":
        world.rent_calls.clear()
        return Response(status_code=204)
    kind, item_id = query.get("kind"), query.get("itemId")
    if kind not in {None, *KINDS}:
        raise Refusal(400, f"kind: one of {', '.join(KINDS)}")
    since = float(query.get("since", 0))
    found = [
        (entry, body)
        for entry, body in world.rent_calls
        if kind in {None, entry["rent"]} and item_id in {None, str(entry["itemId"])} and entry["at"] >= since
    ]
    if query.get("countOnly") == "true":
        return JSONResponse({"count": len(found)})
    return JSONResponse([{**entry, "body": _parsed(body)} for entry, body in found])


def _parsed(body: bytes) -> Any:
    """What was sent; a text if it is no JSON, None if there was nothing."""
    try:
        return json.loads(body) if body else None
    except ValueError:
        return body.decode("utf-8", "replace")


def _route(path: str, handler: Any, *methods: str) -> Route:
    return Route(f"/_sandbox/rent{path}", handler, methods=list(methods))


ROUTES = [
    _route("/items", make_items, "POST"),
    _route("/items/{item_id:int}", item, "GET"),
    _route("/items/{item_id:int}/switches", switches, "PATCH"),
    _route("/items/{item_id:int}/calendar", nights_of, "GET"),
    _route("/items/{item_id:int}/rows", raw_rows, "POST", "DELETE"),
    _route("/bookings", book, "POST"),
    _route("/bookings/{booking_id:int}", edit, "PATCH"),
    _route("/bookings/{booking_id:int}/move", move, "POST"),
    _route("/bookings/{booking_id:int}/{action}", act, "POST"),
    _route("/calls", calls, "GET", "DELETE"),
]
