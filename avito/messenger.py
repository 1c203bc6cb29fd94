"""The calls of Avito's section "Messenger". One method is one request, but for the two iterators.

All raise the errors of `avito.errors`: SubscriptionRequired if the plan has no messenger API, NotFound for a foreign or
unknown chat, RateLimited, TimedOut and so on. What breaks a documented limit is refused here, as Invalid, unsent.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

from avito import errors, protocol, wire
from avito.content import is_subscription_placeholder, render_text
from avito.protocol import demand
from avito.types import Chat, ChatPage, Message, MessagePage, Subscription

__all__ = ["MessengerCalls", "is_subscription_placeholder", "render_text"]

TEXT_MAX = 1000
"""Characters of a text. Source: Messenger, sendMessageRequestBody."""
PAGE_MAX = 100
"""Chats or messages a page. Source: Messenger, parameter limit."""
OFFSET_MAX = 1000
"""The furthest page starts here, so paging reaches OFFSET_MAX + PAGE_MAX. Source: Messenger, parameter offset."""
IMAGE_MAX_BYTES = 24 * 1024 * 1024
"""Source: Messenger, uploadImages (24 MB)."""
IMAGE_TYPES = ("image/jpeg", "image/heic", "image/gif", "image/bmp", "image/png")
"""Source: Messenger, uploadImages."""
DELETABLE_SECONDS = 3600
"""A message may be deleted for an hour. Source: Messenger, deleteMessage."""
VOICE_URL_SECONDS = 3600
"""A voice's address works for an hour. Source: Messenger, getVoiceFiles."""
UPLOAD_SECONDS = 60.0
"""The deadline of an upload, ours: 24 MB take longer than an ordinary call may."""

ChatType = Literal["u2i", "u2u", "a2u"]
_Kept = TypeVar("_Kept", Chat, Message)


class MessengerCalls:
    """`client.messenger`. `user_id`: the account's own id at Avito (`Owner.id`). Needs the main account's token."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def chats(
        self,
        user_id: int,
        *,
        limit: int = PAGE_MAX,
        offset: int = 0,
        unread_only: bool = False,
        item_ids: Sequence[int] = (),
        chat_types: Sequence[ChatType] = (),
    ) -> ChatPage:
        """A page of chats, the latest first.

        `limit`: 1 to PAGE_MAX. `offset`: 0 to OFFSET_MAX. `item_ids`: only chats about these listings.
        `chat_types`: u2i about listings (Avito's default, alone), u2u between users, a2u with Avito.
        Source: Avito API, Messenger, getChatsV2.
        """
        query = _page(limit, offset)
        if unread_only:
            query.append(("unread_only", "true"))
        if item_ids:
            query.append(("item_ids", ",".join(map(str, item_ids))))
        if chat_types:
            query.append(("chat_types", ",".join(chat_types)))
        path = protocol.path("/messenger/v2/accounts/{}/chats", user_id)
        return ChatPage.from_json(self._call(protocol.get(path, query)), user_id=user_id, limit=limit)

    def iter_chats(
        self,
        user_id: int,
        *,
        page_size: int = PAGE_MAX,
        unread_only: bool = False,
        item_ids: Sequence[int] = (),
        chat_types: Sequence[ChatType] = (),
    ) -> Iterator[Chat]:
        """Chats, the latest first, page after page as they are taken; ends where Avito's offset ends.

        A chat that moves between pages meanwhile comes once, but one may be missed: read again to be sure.
        """

        def page(offset: int) -> tuple[tuple[Chat, ...], bool]:
            found = self.chats(
                user_id,
                limit=page_size,
                offset=offset,
                unread_only=unread_only,
                item_ids=item_ids,
                chat_types=chat_types,
            )
            return found.chats, found.has_more

        return _each(page, page_size)

    def chat(self, user_id: int, chat_id: str) -> Chat:
        """One chat with its last message.

        Source: Avito API, Messenger, getChatByIdV2.
        """
        return Chat.from_json(self._call(protocol.get(_chat_path("v2", user_id, chat_id))), user_id=user_id)

    def messages(self, user_id: int, chat_id: str, *, limit: int = PAGE_MAX, offset: int = 0) -> MessagePage:
        """A page of a chat's messages, the latest first. Does not mark the chat as read.

        `limit`: 1 to PAGE_MAX. `offset`: 0 to OFFSET_MAX.
        Source: Avito API, Messenger, getMessagesV3.
        """
        path = _chat_path("v3", user_id, chat_id) + "/messages/"
        answer = self._call(protocol.get(path, _page(limit, offset)))
        return MessagePage.from_json(answer, user_id=user_id, limit=limit)

    def iter_messages(self, user_id: int, chat_id: str, *, page_size: int = PAGE_MAX) -> Iterator[Message]:
        """Messages, the latest first, page after page as they are taken; ends where Avito's offset ends."""

        def page(offset: int) -> tuple[tuple[Message, ...], bool]:
            found = self.messages(user_id, chat_id, limit=page_size, offset=offset)
            return found.messages, found.has_more

        return _each(page, page_size)

    def send_text(self, user_id: int, chat_id: str, text: str) -> Message:
        """Write `text` to a chat and return it as Avito stored it.

        `text`: 1 to TEXT_MAX characters. There is no key against doubles: after an error with `maybe_done` read the
        chat back before sending again.
        Source: Avito API, Messenger, postSendMessage.
        """
        demand(1 <= len(text) <= TEXT_MAX, "text", f"1 to {TEXT_MAX} characters")
        path = _chat_path("v1", user_id, chat_id) + "/messages"
        return _sent(self._call(protocol.post(path, {"type": "text", "message": {"text": text}})), user_id)

    def upload_image(self, user_id: int, filename: str, data: bytes, content_type: str) -> str:
        """Upload a picture and return its id, to be sent with `send_image`.

        `data`: 1 to IMAGE_MAX_BYTES, at most 75 megapixels. `content_type`: one of IMAGE_TYPES.
        Source: Avito API, Messenger, uploadImages.
        """
        demand(0 < len(data) <= IMAGE_MAX_BYTES, "image", f"1 to {IMAGE_MAX_BYTES} bytes")
        demand(content_type in IMAGE_TYPES, "image", "JPEG, HEIC, GIF, BMP or PNG")
        path = protocol.path("/messenger/v1/accounts/{}/uploadImages", user_id)
        request = protocol.post_file(path, "uploadfile[]", filename, data, content_type)
        images = wire.mapping(self._call(request, deadline_seconds=UPLOAD_SECONDS), "images")
        if len(images) != 1:
            raise errors.Unreadable(f"{len(images)} images instead of one")
        return next(iter(images))

    def send_image(self, user_id: int, chat_id: str, image_id: str) -> Message:
        """Write an uploaded picture to a chat; words go as a message of their own. Doubles: as `send_text`.

        Source: Avito API, Messenger, postSendImageMessage.
        """
        path = _chat_path("v1", user_id, chat_id) + "/messages/image"
        return _sent(self._call(protocol.post(path, {"image_id": image_id})), user_id)

    def delete_message(self, user_id: int, chat_id: str, message_id: str) -> None:
        """Take back an own message, within DELETABLE_SECONDS. It stays in the chat with the type "deleted".

        Source: Avito API, Messenger, deleteMessage.
        """
        if message_id == "image":
            raise errors.NotFound("No such id")  # under this name lives another call
        path = protocol.path("/messenger/v1/accounts/{}/chats/{}/messages/{}", user_id, chat_id, message_id)
        self._call(protocol.post(path))

    def mark_read(self, user_id: int, chat_id: str) -> None:
        """Mark the whole chat as read.

        Source: Avito API, Messenger, chatRead.
        """
        _confirmed(self._call(protocol.post(_chat_path("v1", user_id, chat_id) + "/read")))

    def voice_urls(self, user_id: int, voice_ids: Sequence[str]) -> dict[str, str]:
        """Addresses of voice messages (opus in .mp4) by their ids. They work for VOICE_URL_SECONDS.

        `voice_ids`: `content["voice"]["voice_id"]` of messages; none asks nothing.
        Source: Avito API, Messenger, getVoiceFiles.
        """
        if not voice_ids:
            return {}
        path = protocol.path("/messenger/v1/accounts/{}/getVoiceFiles", user_id)
        answer = self._call(protocol.get(path, [("voice_ids", voice_id) for voice_id in voice_ids]))
        urls = wire.child(wire.mapping(answer, "voices"), "voices_urls")
        return {voice_id: wire.text(urls, voice_id) for voice_id in urls}

    def blacklist(self, user_id: int, *, blocked_user_id: int, item_id: int, reason_id: Literal[1, 2, 3, 4]) -> None:
        """Block someone who wrote about a listing. There is no call to unblock.

        `reason_id`: 1 spam, 2 fraud, 3 insults, 4 other.
        Source: Avito API, Messenger, postBlacklistV2.
        """
        entry = {"user_id": blocked_user_id, "context": {"item_id": item_id, "reason_id": reason_id}}
        self._call(protocol.post(protocol.path("/messenger/v2/accounts/{}/blacklist", user_id), {"users": [entry]}))

    def subscribe(self, url: str) -> None:
        """Have the account's new messages delivered to `url`, which must answer 200 to `{}` within 2 seconds.

        Harmless to repeat, but some accounts have got a 409 (Invalid) for an address already known.
        Source: Avito API, Messenger, postWebhookV3.
        """
        _confirmed(self._call(protocol.post("/messenger/v3/webhook", {"url": url})))

    def unsubscribe(self, url: str) -> None:
        """Stop the deliveries to `url`.

        Source: Avito API, Messenger, postWebhookUnsubscribe.
        """
        _confirmed(self._call(protocol.post("/messenger/v1/webhook/unsubscribe", {"url": url})))

    def subscriptions(self) -> tuple[Subscription, ...]:
        """All addresses to which the account's messages are delivered.

        Source: Avito API, Messenger, getSubscriptions.
        """
        answer = wire.mapping(self._call(protocol.post("/messenger/v1/subscriptions")), "subscriptions")
        return tuple(map(Subscription.from_json, wire.children(answer, "subscriptions")))


def _sent(answer: Any, user_id: int) -> Message:
    """What we have just written, though Avito may say neither by whom it is nor which way it went."""
    return replace(Message.from_json(answer, user_id=user_id), direction="out")


def _chat_path(version: str, user_id: int, chat_id: str) -> str:
    return f"/messenger/{version}" + protocol.path("/accounts/{}/chats/{}", user_id, chat_id)


def _page(limit: int, offset: int) -> list[tuple[str, str]]:
    demand(1 <= limit <= PAGE_MAX, "limit", f"1 to {PAGE_MAX}")
    demand(0 <= offset <= OFFSET_MAX, "offset", f"0 to {OFFSET_MAX}")
    return [("limit", str(limit)), ("offset", str(offset))]


def _confirmed(answer: Any) -> None:
    """`{"ok": true}`; what else may come in its place is no refusal, but `false` is."""
    if isinstance(answer, dict) and answer.get("ok") is False:
        raise errors.Invalid("Avito answered ok: false")


def _each(page: Callable[[int], tuple[tuple[_Kept, ...], bool]], size: int) -> Iterator[_Kept]:
    """Everything on all pages, each id once."""
    seen: set[str] = set()
    for offset in range(0, OFFSET_MAX + 1, size):
        found, has_more = page(offset)
        for one in found:
            if one.id not in seen:
                seen.add(one.id)
                yield one
        if not has_more or not found:
            return
