"""Listings and their statistics. Source: Avito API, Объявления, July 2026."""

import datetime as dt
import hashlib
import time
from collections.abc import Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.state import ITEM_STATUSES, Figures, Item, Seller, World
from sandbox.wire import day, invalid, json_body, operation, query_int, query_list, world_of

PER_PAGE_MAX = 99
NUMBER_MAX = 2**31 - 1
IDS_MAX = 200
DAYS_MAX = 270
# Avito's name of a counter, and ours; the plain ones are deprecated, but documented.
COUNTERS = {
    "uniqViews": "views",
    "uniqContacts": "contacts",
    "uniqFavorites": "favorites",
    "views": "views",
    "contacts": "contacts",
    "favorites": "favorites",
}
USUAL_COUNTERS = ["uniqViews", "uniqContacts", "uniqFavorites"]
GROUPINGS: dict[str, Callable[[dt.date], dt.date]] = {
    "day": lambda on: on,
    "week": lambda on: on - dt.timedelta(days=on.weekday()),
    "month": lambda on: on.replace(day=1),
}
MOSCOW = dt.timezone(dt.timedelta(hours=3))
FIRST_DAY = dt.date(2024, 1, 1)


def moscow_day(at: float) -> dt.date:
    return dt.datetime.fromtimestamp(at, MOSCOW).date()


# Listings


async def list_items(request: Request, seller: Seller) -> Response:
    per_page = query_int(request, "per_page", 25, 1, PER_PAGE_MAX)
    page = query_int(request, "page", 1, 1, NUMBER_MAX)
    found = _asked(request, world_of(request).items_of(seller.id))
    resources = [_item_json(request, item) for item in found[(page - 1) * per_page : page * per_page]]
    return JSONResponse({"meta": {"page": page, "per_page": per_page}, "resources": resources})


def _asked(request: Request, items: list[Item]) -> list[Item]:
    """Those that fit the query, in the order in which they were made."""
    statuses = query_list(request, "status") or ["active"]
    if not set(statuses) <= set(ITEM_STATUSES):
        raise invalid("status", f"some of {', '.join(ITEM_STATUSES)}")
    category = query_int(request, "category", 0, 1, NUMBER_MAX)
    since = [day("updatedAtFrom", written) for written in request.query_params.getlist("updatedAtFrom")]
    return [
        item
        for item in items
        if item.status in statuses
        and category in {0, item.category[0]}
        and all(moscow_day(item.updated) >= on for on in since)
    ]


def _item_json(request: Request, item: Item) -> dict[str, Any]:
    id, name = item.category
    return {
        "id": item.id,
        "title": item.title,
        "price": item.price,
        "status": item.status,
        "url": _url(request, item),
        "address": item.address,
        "category": {"id": id, "name": name},
    }


def _url(request: Request, item: Item) -> str:
    return f"{request.base_url}files/items/{item.id}.svg"


async def item_info(request: Request, seller: Seller) -> Response:
    """The status of any listing, and the dates of an own one."""
    item = world_of(request).items.get(request.path_params["item_id"])
    shown: dict[str, Any] = {"autoload_item_id": None, "start_time": None, "finish_time": None, "url": None, "vas": []}
    if item is None or item.seller_id != seller.id:
        return JSONResponse({**shown, "status": "another_user" if item else "not_found"})
    ahead = dt.timedelta(days=1 + item.id % 30 if item.status == "active" else 0)
    start = FIRST_DAY + dt.timedelta(days=item.id % 365)
    finish = moscow_day(time.time() if item.status == "active" else item.updated) + ahead
    dates = {"start_time": f"{start}T09:00:00+03:00", "finish_time": f"{finish}T09:00:00+03:00"}
    return JSONResponse({**shown, **dates, "status": item.status, "url": _url(request, item)})


# Statistics


async def statistics(request: Request, seller: Seller) -> Response:
    body = await json_body(
        request,
        {"itemIds": list, "dateFrom": str, "dateTo": str},
        {"fields": list, "periodGrouping": str},
    )
    first, last = _period(body)
    fields, grouping = body.get("fields", USUAL_COUNTERS), body.get("periodGrouping", "day")
    if not all(isinstance(field, str) and field in COUNTERS for field in fields):
        raise invalid("fields", f"some of {', '.join(COUNTERS)}")
    if grouping not in GROUPINGS:
        raise invalid("periodGrouping", f"one of {', '.join(GROUPINGS)}")
    world = world_of(request)
    own = [id for id in _item_ids(body) if id in world.items and world.items[id].seller_id == seller.id]
    days = [first + dt.timedelta(days=n) for n in range((last - first).days + 1)]
    rows = [{"itemId": id, "stats": _rows(world, id, days, fields, grouping)} for id in own]
    return JSONResponse({"result": {"items": rows}})


def _period(body: dict[str, Any]) -> tuple[dt.date, dt.date]:
    """The first and the last day; there is nothing to tell of those to come."""
    first, last, today = day("dateFrom", body["dateFrom"]), day("dateTo", body["dateTo"]), moscow_day(time.time())
    if first > last:
        raise invalid("dateTo", "before dateFrom")
    if (today - first).days > DAYS_MAX:
        raise invalid("dateFrom", f"more than {DAYS_MAX} days ago")
    return first, min(last, today)


def _item_ids(body: dict[str, Any]) -> list[int]:
    ids = body["itemIds"]
    if not all(isinstance(id, int) and not isinstance(id, bool) for id in ids):
        raise invalid("itemIds", "must be whole numbers")
    if not 1 <= len(ids) <= IDS_MAX:
        raise invalid("itemIds", f"1 to {IDS_MAX}")
    return list(dict.fromkeys(ids))


def _rows(world: World, item_id: int, days: list[dt.date], fields: list[str], grouping: str) -> list[dict[str, Any]]:
    """One row for each period, under its first day."""
    rows: dict[dt.date, dict[str, Any]] = {}
    for on in days:
        start, figures = GROUPINGS[grouping](on), figures_of(world, item_id, on)
        row = rows.setdefault(start, {"date": start.isoformat(), **dict.fromkeys(fields, 0)})
        for field in fields:
            row[field] += getattr(figures, COUNTERS[field])
    return list(rows.values())


def figures_of(world: World, item_id: int, on: dt.date) -> Figures:
    """What was set for that day, or else invented figures, which are always the same; weekends are livelier."""
    known = world.figures.get((item_id, on))
    if known:
        return known
    chances = [byte / 255 for byte in hashlib.blake2b(f"{item_id} {on}".encode(), digest_size=3).digest()]
    views = (12 + item_id % 37) * (1.6 if on.weekday() >= 5 else 1) * (0.8 + 0.4 * chances[0])
    return Figures(round(views), round(views * 0.09 * chances[1]), round(views * 0.07 * chances[2]))


_LIST_QUERY = ("per_page", "page", "status", "updatedAtFrom", "category")

ROUTES = [
    operation("GET", "/core/v1/items", "items:info", list_items, _LIST_QUERY, limit="items_per_minute"),
    operation(
        "GET",
        "/core/v1/accounts/{user_id:int}/items/{item_id:int}/",
        "items:info",
        item_info,
        limit="item_info_per_minute",
    ),
    operation("POST", "/stats/v1/accounts/{user_id:int}/items", "stats:read", statistics),
]
