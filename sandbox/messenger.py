"""The user section and the messenger. Source: Avito API, Информация о пользователе and Мессенджер, July 2026."""

import secrets
import struct
import time
from typing import Any, TypeVar
from urllib.parse import urlsplit

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sandbox.deliveries import deliveries_of
from sandbox.state import Chat, Message, Seller, World
from sandbox.wire import (
    Refusal,
    fitting_object,
    invalid,
    json_body,
    no_body,
    operation,
    query_bool,
    query_int,
    query_list,
    world_of,
)

T = TypeVar("T")

TEXT_MAX = 1000
IMAGE_BYTES_MAX = 24 * 1024 * 1024
IMAGE_PIXELS_MAX = 75_000_000
DELETE_WITHIN_SECONDS = 3600
IMAGE_SIZES = ("1280x960", "640x480", "140x105", "32x32")
LAST_MESSAGE_KEYS = ("id", "author_id", "created", "direction", "type", "content")
CHAT_TYPES = {"u2i", "u2u", "a2u"}
PAYMENT = "Перейдите на подписку с API мессенджера"
PAYMENT_PLACEHOLDER = f"{PAYMENT}, чтобы получить доступ к чатам"


# User


async def self_info(request: Request, seller: Seller) -> Response:
    return JSONResponse(
        {
            "id": seller.id,
            "name": seller.name,
            "email": seller.email,
            "phone": seller.phone,
            "phones": [seller.phone],
            "profile_url": f"{request.base_url}files/avatars/{seller.id}.svg",
        }
    )


async def balance(_: Request, seller: Seller) -> Response:
    return JSONResponse({"real": seller.balance_real, "bonus": seller.balance_bonus})


# Reading


async def list_chats(request: Request, seller: Seller) -> Response:
    item_ids = query_list(request, "item_ids")
    types = query_list(request, "chat_types") or ["u2i"]
    if not all(word.isdecimal() for word in item_ids):
        raise invalid("item_ids", "whole numbers")
    if not set(types) <= CHAT_TYPES:
        raise invalid("chat_types", "u2i, u2u or a2u")
    unread_only = query_bool(request, "unread_only")
    found = [
        chat
        for chat in world_of(request).chats_of(seller.id)
        if chat.type in types
        and (not item_ids or str(chat.item_id) in item_ids)
        and (not unread_only or chat.has_unread())
    ]
    found.sort(key=lambda chat: chat.updated, reverse=True)
    rows, has_more = _page(request, found)
    return JSONResponse({"chats": [chat_json(request, c) for c in rows], "meta": {"has_more": has_more}})


async def get_chat(request: Request, seller: Seller) -> Response:
    return JSONResponse(chat_json(request, _chat(request, seller)))


async def list_messages(request: Request, seller: Seller) -> Response:
    _require_payment(seller)
    rows, has_more = _page(request, _chat(request, seller).newest_first())
    messages = [message_json(message, seller.id) for message in rows]
    if world_of(request).settings.messages_as_array:
        return JSONResponse(messages)
    return JSONResponse({"messages": messages, "meta": {"has_more": has_more}})


async def voice_files(request: Request, seller: Seller) -> Response:
    """Links to voice messages of the asking seller's chats; ids of others are left out of the answer."""
    asked = query_list(request, "voice_ids")
    if not asked:
        raise invalid("voice_ids", "required")
    own = {
        message.content.get("voice", {}).get("voice_id")
        for chat in world_of(request).chats_of(seller.id)
        for message in chat.messages
    }
    return JSONResponse({"voices_urls": {id: f"{request.base_url}files/voices/{id}.mp4" for id in asked if id in own}})


def _page(request: Request, rows: list[T]) -> tuple[list[T], bool]:
    limit = query_int(request, "limit", 100, 1, 100)
    offset = query_int(request, "offset", 0, 0, 1000)
    return rows[offset : offset + limit], len(rows) > offset + limit


def _chat(request: Request, seller: Seller) -> Chat:
    chat = world_of(request).chats.get(request.path_params["chat_id"])
    if chat is None or chat.seller_id != seller.id:
        raise Refusal(404, "Not found")
    return chat


def _require_payment(seller: Seller) -> None:
    if not seller.messenger_paid:
        raise Refusal(402, PAYMENT)


# Shapes


def message_json(message: Message, asking_id: int) -> dict[str, Any]:
    own = message.author_id == asking_id
    return {
        "id": message.id,
        "author_id": message.author_id,
        "created": message.created,
        "direction": "out" if own else "in",
        "type": message.type,
        "content": message.content,
        "is_read": own or message.read is not None,
        "read": message.read,
    }


def chat_json(request: Request, chat: Chat) -> dict[str, Any]:
    world = world_of(request)
    shown: dict[str, Any] = {
        "id": chat.id,
        "created": chat.created,
        "updated": chat.updated,
        "users": [_user_json(request, world, chat, id) for id in (chat.buyer_id, chat.seller_id)],
    }
    if chat.item_id is not None:
        shown["context"] = {"type": "item", "value": _item_json(request, world, chat.item_id)}
    if chat.messages:
        last = message_json(chat.newest_first()[0], chat.seller_id)
        shown["last_message"] = {key: last[key] for key in LAST_MESSAGE_KEYS}
        if not world.sellers[chat.seller_id].messenger_paid:
            shown["last_message"].update(type="text", content={"text": PAYMENT_PLACEHOLDER})
    return shown


def _user_json(request: Request, world: World, chat: Chat, user_id: int) -> dict[str, Any]:
    avatar = f"{request.base_url}files/avatars/{user_id}.svg"
    profile: dict[str, Any] = {
        "user_id": user_id,
        "url": avatar,
        "avatar": {"default": avatar, "images": {"128x128": avatar, "64x64": avatar, "24x24": avatar}},
    }
    if chat.item_id is not None:
        profile["item_id"] = chat.item_id
    return {"id": user_id, "name": world.name_of(user_id), "public_user_profile": profile}


def _item_json(request: Request, world: World, item_id: int) -> dict[str, Any]:
    item = world.items[item_id]
    picture = f"{request.base_url}files/items/{item.id}.svg"
    return {
        "id": item.id,
        "title": item.title,
        "price_string": item.price_string,
        "status_id": 10,
        "url": picture,
        "user_id": item.seller_id,
        "images": {"count": 1, "main": {"140x105": picture}},
    }


# Writing


async def send_text(request: Request, seller: Seller) -> Response:
    body = await json_body(request, {"type": str, "message": {"text": str}})
    _require_payment(seller)
    text = body["message"]["text"]
    if body["type"] != "text":
        raise invalid("type", "text")
    if not text.strip() or len(text) > TEXT_MAX:
        raise invalid("message.text", f"1 to {TEXT_MAX} characters")
    return _sent(request, seller, "text", {"text": text})


async def send_image(request: Request, seller: Seller) -> Response:
    image_id = (await json_body(request, {"image_id": str}))["image_id"]
    _require_payment(seller)
    owner_id, sizes = world_of(request).images.get(image_id, (None, {}))
    if owner_id != seller.id:
        raise invalid("image_id", "no such image")
    return _sent(request, seller, "image", {"image": {"sizes": sizes}})


def _sent(request: Request, seller: Seller, type: str, content: dict[str, Any]) -> Response:
    chat = _chat(request, seller)
    message = world_of(request).add_message(chat, seller.id, type, content)
    deliveries_of(request).announce(chat, message)
    answer = message_json(message, seller.id)
    keys = ("id", "created", "direction", "type", "content", *(("author_id",) if type == "image" else ()))
    return JSONResponse({key: answer[key] for key in keys})


async def upload_image(request: Request, seller: Seller) -> Response:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        raise Refusal(400, "Bad Request: multipart/form-data is expected")
    async with request.form(max_files=2, max_fields=2) as form:
        parts = form.multi_items()
        if len(parts) != 1 or parts[0][0] != "uploadfile[]" or not isinstance(parts[0][1], UploadFile):
            raise invalid("uploadfile[]", "exactly one file is expected")
        data = await parts[0][1].read()
    kind = _image_kind(data)
    image_id = f"{secrets.randbelow(10**11)}.{secrets.token_hex(16)}"
    world = world_of(request)
    world.files[image_id] = (f"image/{kind}", data)
    sizes = {size: f"{request.base_url}files/images/{size}/{image_id}" for size in IMAGE_SIZES}
    world.images[image_id] = (seller.id, sizes)
    return JSONResponse({image_id: sizes})


def _image_kind(data: bytes) -> str:
    """png, gif, bmp, jpeg or heic by the first bytes; refuses the rest, and what is too large."""
    if len(data) > IMAGE_BYTES_MAX:
        raise invalid("uploadfile[]", "more than 24 MB")
    kind, width, height = "", 0, 0
    if data.startswith(b"\x89PNG\r\n\x1a\n") and len(data) >= 24:
        kind, (width, height) = "png", struct.unpack(">II", data[16:24])
    elif data.startswith((b"GIF87a", b"GIF89a")) and len(data) >= 10:
        kind, (width, height) = "gif", struct.unpack("<HH", data[6:10])
    elif data.startswith(b"BM") and len(data) >= 26:
        kind, (width, height) = "bmp", struct.unpack("<ii", data[18:26])
    elif data.startswith(b"\xff\xd8\xff"):
        kind = "jpeg"
    elif data[4:8] == b"ftyp" and data[8:12] in {b"heic", b"heix", b"mif1", b"hevc"}:
        kind = "heic"
    if not kind or abs(width * height) > IMAGE_PIXELS_MAX:
        raise invalid("uploadfile[]", "JPEG, HEIC, GIF, BMP or PNG of at most 75 megapixels")
    return kind


async def delete_message(request: Request, seller: Seller) -> Response:
    await no_body(request)
    _require_payment(seller)
    chat = _chat(request, seller)
    message = next((m for m in chat.messages if m.id == request.path_params["message_id"]), None)
    if message is None:
        raise Refusal(404, "Not found")
    if message.author_id != seller.id:
        raise Refusal(403, "Forbidden: the message of another user")
    if time.time() - message.created > DELETE_WITHIN_SECONDS:
        raise Refusal(400, "Bad Request: the message is older than one hour")
    message.type, message.content = "deleted", {}
    return JSONResponse({})


async def mark_read(request: Request, seller: Seller) -> Response:
    await no_body(request)
    _chat(request, seller).mark_read(seller.id)
    return JSONResponse({"ok": True})


async def add_to_blacklist(request: Request, seller: Seller) -> Response:
    users = (await json_body(request, {"users": list}))["users"]
    if not users:
        raise invalid("users", "must not be empty")
    fields = {"user_id": int, "context": {"item_id": int, "reason_id": int}}
    for number, user in enumerate(users):
        fitting_object(user, fields, f"users[{number}].")
        if not 1 <= user["context"]["reason_id"] <= 4:
            raise invalid(f"users[{number}].context.reason_id", "1 to 4")
    seller.blacklist.update(user["user_id"] for user in users)
    return Response(status_code=200)


# Webhooks


async def subscribe(request: Request, seller: Seller) -> Response:
    url = (await json_body(request, {"url": str}))["url"]
    if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
        raise invalid("url", "an http or https address")
    if url not in seller.webhooks:
        seller.webhooks.append(url)
    return JSONResponse({"ok": True})


async def unsubscribe(request: Request, seller: Seller) -> Response:
    url = (await json_body(request, {"url": str}))["url"]
    if url in seller.webhooks:
        seller.webhooks.remove(url)
    return JSONResponse({"ok": True})


async def subscriptions(request: Request, seller: Seller) -> Response:
    await no_body(request)
    return JSONResponse({"subscriptions": [{"url": url, "version": "3"} for url in seller.webhooks]})


_V1 = "/messenger/v1/accounts/{user_id:int}"
_V2 = "/messenger/v2/accounts/{user_id:int}"
_CHATS_QUERY = ("item_ids", "unread_only", "chat_types", "limit", "offset")

ROUTES = [
    operation("GET", "/core/v1/accounts/self", "user:read", self_info),
    operation("GET", "/core/v1/accounts/{user_id:int}/balance/", "user_balance:read", balance),
    operation("GET", _V2 + "/chats", "messenger:read", list_chats, _CHATS_QUERY),
    operation("GET", _V2 + "/chats/{chat_id}", "messenger:read", get_chat),
    operation(
        "GET",
        "/messenger/v3/accounts/{user_id:int}/chats/{chat_id}/messages/",
        "messenger:read",
        list_messages,
        ("limit", "offset"),
    ),
    operation("POST", _V1 + "/chats/{chat_id}/messages", "messenger:write", send_text),
    operation("POST", _V1 + "/chats/{chat_id}/messages/image", "messenger:write", send_image),
    operation("POST", _V1 + "/chats/{chat_id}/messages/{message_id}", "messenger:write", delete_message),
    operation("POST", _V1 + "/chats/{chat_id}/read", "messenger:read", mark_read),
    operation("POST", _V1 + "/uploadImages", "messenger:write", upload_image),
    operation("GET", _V1 + "/getVoiceFiles", "messenger:read", voice_files, ("voice_ids",)),
    operation("POST", _V2 + "/blacklist", "messenger:write", add_to_blacklist),
    operation("POST", "/messenger/v3/webhook", "messenger:read", subscribe),
    operation("POST", "/messenger/v1/webhook/unsubscribe", "messenger:read", unsubscribe),
    operation("POST", "/messenger/v1/subscriptions", "messenger:read", subscriptions),
]
