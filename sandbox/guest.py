"""Pages where a person acts as a guest: listings for rent, their calendars, asking, paying, cancelling, moving."""

import datetime as dt
from calendar import Calendar as Weeks
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from sandbox.calendar import Booking, Calendar, Night
from sandbox.pages import page
from sandbox.rent_control import apply, booking_of, calendar_of, sold
from sandbox.wire import Refusal, day, world_of

MONTHS = 3
ITEMS_MAX = 200
MONTH_NAMES = (
    ("январь", "January"), ("февраль", "February"), ("март", "March"), ("апрель", "April"), ("май", "May"),
    ("июнь", "June"), ("июль", "July"), ("август", "August"), ("сентябрь", "September"), ("октябрь", "October"),
    ("ноябрь", "November"), ("декабрь", "December"),
)  # fmt: skip
STATUSES = {
    "active": ("оплачена", "paid"),
    "pending": ("ждёт оплаты", "waits for payment"),
    "overbook": ("овербукинг", "overbook"),
    "canceled": ("отменена", "cancelled"),
    "expired": ("срок оплаты вышел", "expired"),
}


@dataclass(frozen=True)
class Cell:
    """A day on the page; `state`: past, open, closed, booked or pending."""

    on: dt.date
    night: Night
    state: str


async def listings(request: Request) -> Response:
    world = world_of(request)
    shown = [item for item in world.items.values() if item.status == "active"]
    return page(request, "guest.html", {"world": world, "items": shown[:ITEMS_MAX], "count": len(shown)})


async def listing(request: Request) -> Response:
    return _shown(request)


def _shown(request: Request, problem: str = "", form: dict[str, str] | None = None, status: int = 200) -> Response:
    world = world_of(request)
    calendar = calendar_of(world, request.path_params["item_id"])
    item, today = world.items[calendar.item_id], calendar.today()
    rows = sorted(calendar.bookings.values(), key=lambda booking: (booking.check_in, booking.id))
    values = {
        "item": item,
        "seller": world.sellers[item.seller_id],
        "today": today,
        "base": calendar.base,
        "months": [_month(calendar, today, ahead) for ahead in range(MONTHS)],
        "month_names": MONTH_NAMES,
        "bookings": rows,
        "statuses": STATUSES,
        "problem": problem,
        "form": form or {},
    }
    return page(request, "guest_item.html", values, status)


def _month(calendar: Calendar, today: dt.date, ahead: int) -> tuple[dt.date, list[list[Cell | None]]]:
    """The first day of the month `ahead` of today's, and its weeks; None: a day of another month."""
    number = today.month - 1 + ahead
    first = dt.date(today.year + number // 12, number % 12 + 1, 1)
    weeks = Weeks().monthdatescalendar(first.year, first.month)
    return first, [[_cell(calendar, on, today) if on.month == first.month else None for on in week] for week in weeks]


def _cell(calendar: Calendar, on: dt.date, today: dt.date) -> Cell:
    night = calendar.night(on)
    if on < today:
        state = "past"
    elif night.booked_by:
        state = "booked" if calendar.bookings[night.booked_by[0]].status == "active" else "pending"
    else:
        state = "open" if night.open else "closed"
    return Cell(on, night, state)


async def book(request: Request) -> Response:
    """Ask for a stay (`pending`), or book and pay at once (`active`)."""
    world, form = world_of(request), await _form(request)
    calendar = calendar_of(world, request.path_params["item_id"])
    try:
        check_in, check_out = _dates(form)
        sold(calendar, check_in, check_out, force="force" in form)
    except Refusal as refusal:
        return _shown(request, refusal.message, form, 409)
    count = form.get("guests", "")
    guest: dict[str, Any] = {"name": form.get("name", "").strip() or "Гость", "phone": form.get("phone") or None}
    guest["guest_count"] = int(count) if count.isdecimal() else 2
    world.book(calendar.item_id, check_in, check_out, "active" if form.get("action") == "pay" else "pending", **guest)
    return _back(request, calendar.item_id)


async def change(request: Request) -> Response:
    """Pay, cancel, expire, or move to other dates."""
    booking, form = booking_of(request), await _form(request)
    calendar = world_of(request).calendar(booking.item_id)
    request.path_params["item_id"] = booking.item_id
    try:
        _change(calendar, booking, form)
    except Refusal as refusal:
        return _shown(request, refusal.message, status=409)
    return _back(request, booking.item_id)


def _change(calendar: Calendar, booking: Booking, form: dict[str, str]) -> None:
    if form.get("action") != "move":
        apply(calendar, booking, form.get("action", ""))
        return
    check_in, check_out = _dates(form)
    sold(calendar, check_in, check_out, force="force" in form, besides=booking)
    calendar.move(booking, check_in, check_out)


async def _form(request: Request) -> dict[str, str]:
    return {name: value for name, value in (await request.form()).items() if isinstance(value, str)}


def _dates(form: dict[str, str]) -> tuple[dt.date, dt.date]:
    try:
        return day("check_in", form.get("check_in", "")), day("check_out", form.get("check_out", ""))
    except Refusal:
        raise Refusal(409, "нужны дата заезда и дата выезда") from None


def _back(request: Request, item_id: int) -> Response:
    return RedirectResponse(request.url_for("guest_item", item_id=item_id), 303)


ROUTES = [
    Route("/guest", listings, name="guest"),
    Route("/guest/{item_id:int}", listing, name="guest_item"),
    Route("/guest/{item_id:int}/book", book, methods=["POST"]),
    Route("/guest/bookings/{booking_id:int}", change, methods=["POST"]),
]
