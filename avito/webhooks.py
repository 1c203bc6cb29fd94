"""What Avito posts to a webhook address: bytes to an Event, and the check of their signature. Pure.

Source: Avito API, Messenger, postWebhookV3 (the "201 response" there), and the older shapes that relays still send.
"""

import hmac
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from avito import wire
from avito.content import render_text
from avito.errors import Unreadable

PHONE_MAX = 64


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A message as it was delivered; `created_at` is None where the sender does not tell it.

    `direction`: out for what the account itself wrote, in the app or through us. `author_id`: None if nobody is named.
    `text`, `content`, `read_at`: as in `avito.types.Message`.
    """

    id: str
    author_id: int | None
    direction: Literal["in", "out"]
    type: str
    text: str
    content: dict[str, Any]
    created_at: datetime | None = None
    read_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """One delivery.

    `kind`: empty (Avito's check of the address), message, chat (a new one, legacy), or unknown (keep it, do nothing).
    `type`: the sender's own name of it, such as "message" or "chat.new"; "" if it gives none.
    `delivery_id`: differs for each delivery of the same message; "" in the legacy family.
    `user_id`: the account at Avito that the delivery is for; None where the legacy family names none.
    `chat_type`: u2i, u2u, a2u or "". `item_id`: the listing, if the chat is about one.
    `client_name`, `client_phone`: the other side, in the legacy family.
    `duplicate_keys`: some object had a key twice; the last one counted.
    """

    kind: Literal["empty", "message", "chat", "unknown"]
    type: str = ""
    delivery_id: str = ""
    user_id: int | None = None
    chat_id: str = ""
    chat_type: str = ""
    item_id: int | None = None
    message: IncomingMessage | None = None
    client_name: str = field(default="", repr=False)
    client_phone: str = field(default="", repr=False)
    duplicate_keys: bool = False


def parse(body: bytes) -> Event:
    """Read a delivery. Raises Unreadable, with a short reason, for whatever is not one, and nothing else."""
    value, duplicate_keys = wire.loads(body)
    event = _event(wire.mapping(value, "body"))
    return replace(event, duplicate_keys=duplicate_keys)


def signature_matches(body: bytes, header: str, secret: str) -> bool:
    """Is `header` the lower-case hex HMAC-SHA256 of the raw body under `secret`? Takes the same time for any answer.

    Avito publishes no recipe for its x-avito-messenger-signature; this is the likeliest one. No secret matches nothing.
    """
    expected = hmac.digest(secret.encode(errors="surrogatepass"), body, "sha256").hex()
    return hmac.compare_digest(expected.encode(), header.encode(errors="surrogatepass")) and bool(secret)


def _event(source: dict[str, Any]) -> Event:
    if not source:
        return Event("empty")
    if isinstance(source.get("payload"), dict):
        return _avito(source, source["payload"])
    if isinstance(source.get("event"), str):
        return _legacy(source, source["event"])
    return Event("unknown")


def _avito(source: dict[str, Any], payload: dict[str, Any]) -> Event:
    type, delivery_id = wire.label(payload, "type")[: wire.WORD_MAX], wire.label(source, "id")[: wire.NAME_MAX]
    if type != "message":
        return Event("unknown", type, delivery_id)
    value = wire.mapping(payload.get("value"), "value")
    user_id, author_id = wire.account_id(value, "user_id"), wire.optional_id(value, "author_id")
    message_type, content = wire.word(value, "type", ""), wire.child(value, "content")
    published_at = _published_at(value)
    message = IncomingMessage(
        id=wire.name(value, "id"),
        author_id=author_id,
        direction="out" if author_id == user_id else "in",
        type=message_type,
        text=render_text(message_type, content),
        content=content,
        created_at=wire.optional_moment(value, "created") or published_at,
        read_at=wire.optional_moment(value, "read"),
    )
    return Event(
        "message",
        type,
        delivery_id,
        user_id=user_id,
        chat_id=wire.name(value, "chat_id"),
        chat_type=wire.word(value, "chat_type", ""),
        item_id=wire.optional_id(value, "item_id"),
        message=message,
    )


def _published_at(value: dict[str, Any]) -> datetime | None:
    """RFC 3339 with a zone, if given."""
    written = wire.text(value, "published_at", "")
    if not written:
        return None
    try:
        moment = datetime.fromisoformat(written)
        seconds = moment.timestamp() if moment.tzinfo else -1
    except (ValueError, OverflowError):
        seconds = -1
    if not 0 <= seconds <= wire.MOMENT_MAX:
        raise Unreadable("published_at: not a time with a zone")
    return moment.astimezone(UTC)


def _legacy(source: dict[str, Any], type: str) -> Event:
    if type not in ("chat.new", "message.new"):
        return Event("unknown", type[: wire.WORD_MAX])
    client = wire.child(source, "user")
    user_id = _legacy_id(source, "user_id")
    is_message = type == "message.new"
    return Event(
        "message" if is_message else "chat",
        type,
        user_id=user_id,
        chat_id=_legacy_name(source, "chat_id"),
        message=_legacy_message(wire.mapping(source.get("message"), "message"), user_id) if is_message else None,
        client_name=wire.label(client, "name")[: wire.NAME_MAX],
        client_phone=wire.label(client, "phone")[:PHONE_MAX],
    )


def _legacy_message(source: dict[str, Any], user_id: int | None) -> IncomingMessage:
    author_id = _legacy_id(source, "author_id")
    is_own = source.get("from_operator") is True or (author_id is not None and author_id == user_id)
    type, content = wire.word(source, "type", "text"), _legacy_content(source)
    return IncomingMessage(
        id=_legacy_name(source, "id"),
        author_id=author_id,
        direction="out" if is_own else "in",
        type=type,
        text=render_text(type, content),
        content=content,
        created_at=wire.optional_moment(source, "created"),
    )


def _legacy_content(source: dict[str, Any]) -> dict[str, Any]:
    """`text`, or `content` as a string or as an object of Avito's kind."""
    content = source.get("content")
    if isinstance(content, str):
        content = {"text": content}
    text = wire.text(source, "text", "")
    return {**wire.child({"content": content}, "content"), **({"text": text} if text else {})}


def _legacy_id(source: dict[str, Any], key: str) -> int | None:
    """An account's id, as a number or as its digits."""
    value = source.get(key)
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    return wire.account_id({key: value}, key)


def _legacy_name(source: dict[str, Any], key: str) -> str:
    """A chat or message id, which may come as a number."""
    value = source.get(key)
    is_number = isinstance(value, int) and not isinstance(value, bool)
    return wire.name({key: str(value) if is_number else value}, key)
