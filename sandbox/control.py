"""The control API under `/_sandbox/`: for tests, and for whoever drives the sandbox from outside. JSON, camelCase."""

import json
import re
import time
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.deliveries import deliveries_of
from sandbox.faults import KINDS, Fault, Faults
from sandbox.messenger import message_json
from sandbox.oauth import authorize
from sandbox.settings import camel
from sandbox.state import ITEM_STATUSES, SCOPES, Application, Chat, Figures, Item, Message, Seller, World
from sandbox.wire import Refusal, day, fitting_object, world_of

NUMBER = (int, float)
ITEMS_AT_ONCE_MAX = 100_000
MESSAGE_TYPES = {
    "text", "image", "system", "item", "call", "link", "location", "deleted", "appCall", "file", "video", "voice",
}  # fmt: skip
MESSAGE_FIELDS: dict[str, type | tuple[type, ...]] = {
    "text": str,
    "type": str,
    "content": dict,
    "copies": int,
    "delaySeconds": NUMBER,
    "drop": bool,
    "createdAt": (*NUMBER, str),
}


async def known_body(request: Request, **known: type | tuple[type, ...]) -> dict[str, Any]:
    """A JSON object (empty if there is no body) with none but the `known` fields; null counts as not given."""
    try:
        value = json.loads(await request.body() or b"{}")
    except ValueError:
        raise Refusal(400, "the body is no JSON") from None
    if not isinstance(value, dict):
        raise Refusal(400, "the body must be an object")
    value = {name: v for name, v in value.items() if v is not None}
    for name, given in value.items():
        if name not in known:
            raise Refusal(400, f"unknown field {name}; known: {', '.join(known)}")
        if not isinstance(given, known[name]) or (isinstance(given, bool) and known[name] is not bool):
            raise Refusal(400, f"{name} has the wrong type")
    return value


def required(body: Mapping[str, Any], name: str) -> Any:
    if name not in body:
        raise Refusal(400, f"{name} is required")
    return body[name]


def seller_of(world: World, id: int) -> Seller:
    if id not in world.sellers:
        raise Refusal(404, f"no seller {id}")
    return world.sellers[id]


def _chat(request: Request) -> Chat:
    chat = world_of(request).chats.get(request.path_params["chat_id"])
    if chat is None:
        raise Refusal(404, "no such chat")
    return chat


def faults_of(request: Request) -> Faults:
    faults = request.app.state.faults
    assert isinstance(faults, Faults)
    return faults


# The sandbox as a whole


async def health(request: Request) -> Response:
    deliveries = deliveries_of(request)
    return JSONResponse({"status": "ok", "underWay": deliveries.under_way, "held": len(deliveries.held)})


async def reset(request: Request) -> Response:
    """Everything back to the seeds; the body may carry settings."""
    changes = await any_object(request)
    await deliveries_of(request).reset()
    faults_of(request).remove()
    world_of(request).reset()
    return _change_settings(world_of(request), changes)


async def settings(request: Request) -> Response:
    changes = await any_object(request) if request.method == "PATCH" else {}
    return _change_settings(world_of(request), changes)


async def any_object(request: Request) -> dict[str, Any]:
    try:
        value = json.loads(await request.body() or b"{}")
    except ValueError:
        raise Refusal(400, "the body is no JSON") from None
    if not isinstance(value, dict):
        raise Refusal(400, "the body must be an object")
    return value


def _change_settings(world: World, changes: dict[str, Any]) -> Response:
    try:
        world.settings.update(changes)
    except ValueError as error:
        raise Refusal(400, str(error)) from None
    return JSONResponse(world.settings.as_json())


async def journal(request: Request) -> Response:
    """The calls of Avito's API, oldest first: those from the unix time `since` whose path holds `pathRegex`."""
    world = world_of(request)
    if request.method == "DELETE":
        world.journal.clear()
        return Response(status_code=204)
    pattern = request.query_params.get("pathRegex", "")
    since = float(request.query_params.get("since", 0))
    return JSONResponse([e for e in list(world.journal) if e["at"] >= since and re.search(pattern, e["path"])])


# Sellers and their tokens


def seller_json(world: World, seller: Seller) -> dict[str, Any]:
    keys = [app for app in world.applications.values() if app.seller_id == seller.id]
    return {
        "id": seller.id,
        "name": seller.name,
        "email": seller.email,
        "phone": seller.phone,
        "balance": {"real": seller.balance_real, "bonus": seller.balance_bonus},
        "messengerPaid": seller.messenger_paid,
        "webhooks": seller.webhooks,
        "blacklist": sorted(seller.blacklist),
        "items": [item_json(item) for item in world.items_of(seller.id)],
        "clientId": keys[0].client_id if keys else None,
        "clientSecret": keys[0].client_secret if keys else None,
    }


async def sellers(request: Request) -> Response:
    world = world_of(request)
    if request.method == "GET":
        return JSONResponse([seller_json(world, seller) for seller in world.sellers.values()])
    body = await known_body(
        request, id=int, name=str, clientId=str, clientSecret=str, itemTitle=str, messengerPaid=bool
    )
    if body.get("id") in world.sellers or body.get("clientId") in world.applications:
        raise Refusal(409, "the id or the clientId is taken")
    title = body.get("itemTitle", "Квартира-студия посуточно")
    seller = world.add_seller(required(body, "name"), id=body.get("id"), item_title=title)
    seller.messenger_paid = body.get("messengerPaid", True)
    if "clientId" in body:
        own = Application(body["clientId"], required(body, "clientSecret"), seller.name, seller.id)
        world.applications[own.client_id] = own
    return JSONResponse(seller_json(world, seller), 201)


async def change_seller(request: Request) -> Response:
    world = world_of(request)
    seller = seller_of(world, request.path_params["seller_id"])
    body = await known_body(request, name=str, messengerPaid=bool, balanceReal=NUMBER, balanceBonus=NUMBER)
    seller.name = body.get("name", seller.name)
    seller.messenger_paid = body.get("messengerPaid", seller.messenger_paid)
    seller.balance_real = body.get("balanceReal", seller.balance_real)
    seller.balance_bonus = body.get("balanceBonus", seller.balance_bonus)
    return JSONResponse(seller_json(world, seller))


async def give_consent(request: Request) -> Response:
    """Consent without a browser."""
    world = world_of(request)
    body = await known_body(request, sellerId=int, scopes=list, clientId=str)
    scopes = body.get("scopes", list(SCOPES))
    client_id = body.get("clientId", "sandbox-client")
    if not set(scopes) <= set(SCOPES) or client_id not in world.applications:
        raise Refusal(400, "unknown scope or clientId")
    seller = seller_of(world, required(body, "sellerId"))
    return JSONResponse({"code": authorize(world, client_id, seller.id, scopes)})


async def expire_tokens(request: Request) -> Response:
    """Access tokens of a seller (of all, without `sellerId`) become expired; refresh tokens live on."""
    seller_id = (await known_body(request, sellerId=int)).get("sellerId")
    count = 0
    for grant in world_of(request).grants.values():
        if grant.kind == "access" and seller_id in {None, grant.seller_id} and grant.expires_at > time.time():
            grant.expires_at = time.time() - 1
            count += 1
    return JSONResponse({"expired": count})


async def revoke_tokens(request: Request) -> Response:
    """Every token and code of a seller dies."""
    seller_id = required(await known_body(request, sellerId=int), "sellerId")
    dying = [g for g in world_of(request).grants.values() if g.seller_id == seller_id and g.alive]
    for grant in dying:
        grant.alive = False
    return JSONResponse({"revoked": len(dying)})


# Listings and their figures


def item_json(item: Item) -> dict[str, Any]:
    return {"id": item.id, "title": item.title, "price": item.price, "status": item.status}


async def make_items(request: Request) -> Response:
    """`count` new listings of a seller, numbered if there are several."""
    world = world_of(request)
    body = await known_body(request, sellerId=int, count=int, status=str, title=str, price=int)
    seller, count = seller_of(world, required(body, "sellerId")), body.get("count", 1)
    if not 0 <= count <= ITEMS_AT_ONCE_MAX:
        raise Refusal(400, f"count: 0 to {ITEMS_AT_ONCE_MAX}")
    title, status = body.get("title", "Квартира посуточно"), _status(body, "active")
    titles = [title] if count == 1 else [f"{title} № {number + 1}" for number in range(count)]
    made = [world.add_item(seller.id, one, body.get("price", 3500), status=status) for one in titles]
    return JSONResponse({"ids": [item.id for item in made]}, 201)


async def change_item(request: Request) -> Response:
    item = world_of(request).items.get(request.path_params["item_id"])
    if item is None:
        raise Refusal(404, "no such listing")
    body = await known_body(request, status=str, title=str, price=int)
    item.status = _status(body, item.status)
    item.title, item.price = body.get("title", item.title), body.get("price", item.price)
    item.updated = time.time()
    return JSONResponse(item_json(item))


def _status(body: Mapping[str, Any], default: str) -> str:
    status: str = body.get("status", default)
    if status not in ITEM_STATUSES:
        raise Refusal(400, f"status: one of {', '.join(ITEM_STATUSES)}")
    return status


async def set_statistics(request: Request) -> Response:
    """The figures of a listing, or of each listing that a seller has now, on some days; others stay as invented."""
    world = world_of(request)
    body = await known_body(request, itemId=int, sellerId=int, days=list)
    if ("itemId" in body) == ("sellerId" in body):
        raise Refusal(400, "itemId or sellerId is required")
    known = [_figures(one) for one in required(body, "days")]
    ids = (
        [body["itemId"]] if "itemId" in body else [i.id for i in world.items_of(seller_of(world, body["sellerId"]).id)]
    )
    if not set(ids) <= set(world.items):
        raise Refusal(404, "no such listing")
    world.figures.update({(id, on): figures for id in ids for on, figures in known})
    return JSONResponse({"items": len(ids), "days": len(known)})


def _figures(one: Any) -> tuple[date, Figures]:
    """A day and what happened on it; counters that are not given are 0."""
    given = {name: int for name in ("views", "contacts", "favorites") if isinstance(one, dict) and name in one}
    fitting_object(one, {"date": str, **given}, "days.")
    if any(one[name] < 0 for name in given):
        raise Refusal(400, "a counter is 0 or more")
    return day("days.date", one["date"]), Figures(*(one.get(name, 0) for name in ("views", "contacts", "favorites")))


# Chats


def _chat_json(world: World, chat: Chat) -> dict[str, Any]:
    return {
        "chatId": chat.id,
        "type": chat.type,
        "sellerId": chat.seller_id,
        "buyerId": chat.buyer_id,
        "buyerName": world.name_of(chat.buyer_id),
        "itemId": chat.item_id,
        "created": chat.created,
        "updated": chat.updated,
        "unread": chat.has_unread(),
        "messages": len(chat.messages),
    }


async def chats(request: Request) -> Response:
    world = world_of(request)
    if request.method == "GET":
        asked = request.query_params.get("sellerId")
        found = [c for c in world.chats.values() if asked in {None, str(c.seller_id)}]
        return JSONResponse([_chat_json(world, chat) for chat in found])
    body = await known_body(
        request, sellerId=int, buyerId=int, buyerName=str, itemId=int, itemTitle=str, itemPrice=int, type=str
    )
    seller = seller_of(world, required(body, "sellerId"))
    kind = body.get("type", "u2i")
    if kind not in {"u2i", "u2u", "a2u"} or body.get("itemId", next(iter(world.items))) not in world.items:
        raise Refusal(400, "type is u2i, u2u or a2u; itemId a listing")
    buyer_id = body.get("buyerId")
    if buyer_id not in world.buyers:
        buyer_id = world.add_buyer(body.get("buyerName", "Покупатель")).id
    chat = world.add_chat(seller.id, buyer_id, _item_id(world, seller, body), kind)
    return JSONResponse(_chat_json(world, chat), 201)


def _item_id(world: World, seller: Seller, body: Mapping[str, Any]) -> int:
    if "itemTitle" in body:
        return world.add_item(seller.id, body["itemTitle"], body.get("itemPrice", 3500), id=body.get("itemId")).id
    return body.get("itemId") or world.items_of(seller.id)[0].id


async def buyer_message(request: Request) -> Response:
    """The buyer writes: `text`, or `type` with `content`."""
    chat = _chat(request)
    if chat.buyer_id in world_of(request).sellers[chat.seller_id].blacklist:
        raise Refusal(409, "the seller has blacklisted this buyer")
    return _announced(request, chat, chat.buyer_id, await known_body(request, **MESSAGE_FIELDS))


async def seller_message(request: Request) -> Response:
    """The seller writes in Avito's own application, that is, past the API."""
    chat = _chat(request)
    return _announced(request, chat, chat.seller_id, await known_body(request, **MESSAGE_FIELDS))


def _announced(request: Request, chat: Chat, author_id: int, body: Mapping[str, Any]) -> Response:
    kind = body.get("type", "text")
    if kind not in MESSAGE_TYPES:
        raise Refusal(400, f"type: one of {', '.join(sorted(MESSAGE_TYPES))}")
    content = body.get("content", {"text": required(body, "text")} if kind == "text" else {})
    created = _unix(body.get("createdAt"))
    message = world_of(request).add_message(chat, author_id, kind, content, created=created)
    deliveries_of(request).announce(
        chat,
        message,
        copies=body.get("copies", 1),
        delay=body.get("delaySeconds", 0),
        drop=body.get("drop", False),
    )
    return JSONResponse(_message_json(chat, message), 201)


def _unix(at: float | str | None) -> int | None:
    """Unix seconds, or an ISO 8601 time with an offset."""
    if not isinstance(at, str):
        return None if at is None else int(at)
    try:
        return int(datetime.fromisoformat(at).timestamp())
    except ValueError:
        raise Refusal(400, "createdAt: unix seconds or ISO 8601") from None


def _message_json(chat: Chat, message: Message) -> dict[str, Any]:
    return {**message_json(message, chat.seller_id), "chatId": chat.id}


async def chat_messages(request: Request) -> Response:
    """All messages, newest first, as the seller sees them."""
    chat = _chat(request)
    if request.query_params.get("sellerId", str(chat.seller_id)) != str(chat.seller_id):
        raise Refusal(404, "the chat of another seller")
    return JSONResponse([_message_json(chat, message) for message in chat.newest_first()])


async def buyer_read(request: Request) -> Response:
    """The buyer opens the chat: the seller's messages become read."""
    chat = _chat(request)
    chat.mark_read(chat.buyer_id)
    return JSONResponse({"ok": True})


# Deliveries


async def deliveries_log(request: Request) -> Response:
    """Attempts, oldest first: status is a number, the name of a network error, "dropped" or "given up"."""
    url = request.query_params.get("urlRegex", "")
    return JSONResponse([row for row in list(deliveries_of(request).log) if re.search(url, row["url"])])


async def hold(request: Request) -> Response:
    deliveries_of(request).holding = True
    return JSONResponse({"holding": True})


async def release(request: Request) -> Response:
    order = (await known_body(request, order=str)).get("order", "same")
    if order not in {"reverse", "shuffle", "same"}:
        raise Refusal(400, "order: reverse, shuffle or same")
    return JSONResponse({"released": deliveries_of(request).release(order)})


async def drop(request: Request) -> Response:
    """The next n deliveries are lost."""
    deliveries_of(request).drop_next = required(await known_body(request, next=int), "next")
    return JSONResponse({"next": deliveries_of(request).drop_next})


# Faults


def fault_json(fault: Fault) -> dict[str, Any]:
    return {camel(name): value for name, value in vars(fault).items()}


async def faults(request: Request) -> Response:
    known = faults_of(request)
    if request.method == "GET":
        return JSONResponse([fault_json(fault) for fault in known.active])
    if request.method == "DELETE":
        return JSONResponse({"removed": known.remove()})
    body = await known_body(
        request,
        pathRegex=str,
        method=str,
        grantType=str,
        sellerId=int,
        rent=str,
        itemId=int,
        kind=str,
        times=int,
        skip=int,
        status=int,
        seconds=NUMBER,
        apply=str,
        headers=dict,
        body=str,
    )
    names = {camel(name): name for name in Fault.__dataclass_fields__}
    details = {names[name]: value for name, value in body.items() if name not in {"kind", "pathRegex"}}
    try:
        fault = known.add(required(body, "kind"), body.get("pathRegex", ""), **details)
    except ValueError as error:
        raise Refusal(400, f"{error} (kinds: {', '.join(KINDS)})") from None
    return JSONResponse(fault_json(fault), 201)


async def remove_fault(request: Request) -> Response:
    if not faults_of(request).remove(request.path_params["fault_id"]):
        raise Refusal(404, "no such fault")
    return Response(status_code=204)


def _route(path: str, handler: Any, *methods: str) -> Route:
    return Route(f"/_sandbox{path}", handler, methods=list(methods))


ROUTES = [
    _route("/health", health, "GET"),
    _route("/reset", reset, "POST"),
    _route("/settings", settings, "GET", "PATCH"),
    _route("/journal", journal, "GET", "DELETE"),
    _route("/sellers", sellers, "GET", "POST"),
    _route("/sellers/{seller_id:int}", change_seller, "PATCH"),
    _route("/authorize", give_consent, "POST"),
    _route("/tokens/expire", expire_tokens, "POST"),
    _route("/tokens/revoke", revoke_tokens, "POST"),
    _route("/items", make_items, "POST"),
    _route("/items/{item_id:int}", change_item, "PATCH"),
    _route("/statistics", set_statistics, "PUT"),
    _route("/chats", chats, "GET", "POST"),
    _route("/chats/{chat_id}/buyer-message", buyer_message, "POST"),
    _route("/chats/{chat_id}/seller-message", seller_message, "POST"),
    _route("/chats/{chat_id}/messages", chat_messages, "GET"),
    _route("/chats/{chat_id}/buyer-read", buyer_read, "POST"),
    _route("/deliveries", deliveries_log, "GET"),
    _route("/deliveries/hold", hold, "POST"),
    _route("/deliveries/release", release, "POST"),
    _route("/deliveries/drop", drop, "POST"),
    _route("/faults", faults, "GET", "POST", "DELETE"),
    _route("/faults/{fault_id:int}", remove_fault, "DELETE"),
]
