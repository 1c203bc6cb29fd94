"""What Avito tells is remembered: the chats it belongs to, each message once, and what has changed in them."""

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.db import connection, transaction
from django.utils import timezone

from avito import webhooks
from avito.content import is_subscription_placeholder
from avito.types import Message as AvitoMessage
from avito_accounts.models import Account
from chats import bulk, tasks
from chats.models import Chat, Message
from chats.phones import phone_in
from doorbell import ring_on_commit
from notifications import events

Seen = AvitoMessage | webhooks.IncomingMessage
Key = tuple[int, str]
"""The account's number and the message's id: together they are unique."""

CLOCK_SKEW = timedelta(minutes=15)
"""How far Avito's clock may be behind ours. A reply that is not recognised goes out twice, so rather too much."""
STATE = (
    *("name", "phone", "phone_at", "city", "status", "chat_type", "item_id", "item_title", "item_url"),
    *("last_message_id", "last_message_at", "activity_at", "unread_count", "messages_count"),
    *("sync_due_at", "avito_updated_at"),
)
"""The columns of a chat that change by what Avito tells."""


class Wanted(NamedTuple):
    """A chat by its id at Avito. `user_id` 0: the delivery names no account."""

    avito_id: str
    user_id: int
    account: Account | None


def chat_for(*, avito_id: str, user_id: int, account: Account | None) -> Chat:
    """The chat, locked; made if it is new. Needs a transaction."""
    wanted = Wanted(avito_id, user_id, account)
    return chats_for([wanted])[wanted]


def chats_for(wanted: Iterable[Wanted]) -> dict[Wanted, Chat]:
    """The chats, locked; made where they are new. Needs a transaction; the number of queries does not grow.

    Those who name no account join the chat that has the id. A chat that was announced without an account becomes the
    property of the account that speaks in it.
    """
    wanted = list(dict.fromkeys(wanted))
    lock_ids({one.avito_id for one in wanted})
    # Not joined: a row that was waited for would come with what was joined to it before.
    rows = Chat.objects.select_for_update().prefetch_related("account", "last_message")
    by_id = defaultdict(list)
    for row in rows.filter(avito_id__in={one.avito_id for one in wanted}).order_by("id"):
        by_id[row.avito_id].append(row)
    found: dict[Wanted, Chat] = {}
    new: list[Chat] = []
    # Who names an account comes first: then there is a chat to join.
    for one in sorted(wanted, key=lambda one: not one.user_id):
        chat = _among(by_id[one.avito_id], one)
        if chat is None:
            chat = Chat(avito_id=one.avito_id, avito_user_id=one.user_id, account=one.account)
            by_id[one.avito_id].append(chat)
            new.append(chat)
        elif one.account is not None and chat.account_id != one.account.pk:
            chat.account = one.account
            chat.save(update_fields=["account", "updated_at"])
            events.emit("chat.updated", chat.pk)
        found[one] = chat
    Chat.objects.bulk_create(new)
    events.emit("chat.created", *(chat.pk for chat in new))
    for locked in found.values():
        locked.found = state_of(locked)
    return found


def lock_ids(avito_ids: set[str]) -> None:
    """Be the only one who looks up or makes chats with these ids until the transaction ends.

    Two deliveries of one message, of which one names no account, would otherwise not see each other's new chat. Locked
    in one order, so that two batches never wait for each other.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pg_advisory_xact_lock(number) FROM"
            " (SELECT DISTINCT hashtextextended(id, 0) AS number FROM unnest(%s::text[]) AS id ORDER BY 1) ids",
            [list(avito_ids)],
        )


def _among(chats: Sequence[Chat], wanted: Wanted) -> Chat | None:
    """The chat that is meant, of those with its id."""
    if not wanted.user_id:
        return chats[0] if chats else None  # the oldest, so that a replay finds the same one
    mine = next((chat for chat in chats if chat.avito_user_id == wanted.user_id), None)
    if mine is not None:
        return mine
    account_id = wanted.account.pk if wanted.account else None
    for chat in chats:
        if not chat.avito_user_id and chat.account_id in (None, account_id):
            chat.avito_user_id = wanted.user_id
            chat.save(update_fields=["avito_user_id", "updated_at"])
            chat.messages.update(avito_user_id=wanted.user_id)
            return chat
    return None


def describe(chat: Chat, **known: Any) -> None:
    """Fill in what we have learnt about a chat: nothing empty, and not over what a person entered. Does not save."""
    for name, value in known.items():
        if value and name not in chat.entered:
            setattr(chat, name, value)


@dataclass(frozen=True, slots=True)
class Told:
    """A message that Avito has told us of, and the chat it belongs to, which is locked."""

    chat: Chat
    seen: Seen
    received_at: datetime

    @property
    def key(self) -> Key:
        return self.chat.avito_user_id, self.seen.id


class Remembered(NamedTuple):
    """`rows`: what we have under the ids that were told. `new`: those of them that we had not."""

    rows: dict[Key, Message]
    new: dict[Key, Message]


def remember(told: Sequence[Told]) -> Remembered:
    """Keep messages that Avito has shown us, each once, and what has changed in them. The chats are left to be saved.

    An outgoing one may be a reply of ours whose delivery we were not sure of: then it settles that reply. What Avito
    hides behind its advertisement is kept as such. The number of queries does not grow with the number of messages.
    """
    rows = _known(told)
    if _settle_replies([one for one in told if _is_shown_first(one.seen, rows.get(one.key))]):
        rows = _known(told)
    first: dict[Key, Told] = {}
    for one in told:
        row = rows.get(one.key)
        if row is None:
            rows[one.key], first[one.key] = _row(one), one
        elif row.chat_id == one.chat.pk:
            _bring_up_to_date(one.chat, row, one.seen)
    new = _insert({key: rows[key] for key in first})
    events.emit("message.created", *(message.pk for message in new.values()))
    for key, message in new.items():
        _count(first[key].chat, message)
    return Remembered({**(rows if len(new) == len(first) else _known(told)), **new}, new)


def _known(told: Sequence[Told]) -> dict[Key, Message]:
    keys = {one.key for one in told}
    rows = Message.objects.filter(
        avito_user_id__in={user_id for user_id, _id in keys}, avito_id__in={avito_id for _user, avito_id in keys}
    )
    return {(row.avito_user_id, str(row.avito_id)): row for row in rows}


def _is_shown_first(seen: Seen, known: Message | None) -> bool:
    """Are the words of an outgoing message seen for the first time?"""
    is_new = known is None or known.is_placeholder
    return is_new and seen.direction == "out" and not is_subscription_placeholder(seen.text)


def _settle_replies(told: Sequence[Told]) -> bool:
    """Which replies of ours are these? They have been tried, and not settled; the oldest first. False if none is.

    Texts are known by their words, whatever Avito makes of links and spaces in them; pictures only by being pictures.
    """
    if not told:
        return False
    tried = Message.objects.filter(
        chat__in={one.chat.pk for one in told},
        delivery_status__in=Message.UNSETTLED,
        avito_id=None,
        sending_at__isnull=False,
    )
    waiting = list(tried.order_by("id"))
    count = len(waiting)
    for one in {one.key: one for one in told}.values():
        mine = next((row for row in waiting if row.chat_id == one.chat.pk and _is_alike(row, one.seen)), None)
        if mine is not None:
            waiting.remove(mine)
            mark_sent(mine, avito_id=one.seen.id, content=one.seen.content, chat=one.chat)
    return len(waiting) < count


def _is_alike(reply: Message, seen: Seen) -> bool:
    began = reply.sending_at
    is_tried = began is None or seen.created_at is None or began <= seen.created_at + CLOCK_SKEW
    if seen.type == "image" or reply.type == "image":
        return is_tried and seen.type == reply.type
    return is_tried and plain(reply.text) == plain(seen.text)


def plain(text: str) -> str:
    """A text without what Avito may change in it."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def _row(told: Told) -> Message:
    seen, outbound = told.seen, told.seen.direction == "out"
    return Message(
        chat=told.chat,
        avito_user_id=told.chat.avito_user_id,
        avito_id=seen.id,
        direction=Message.Direction.OUTBOUND if outbound else Message.Direction.INBOUND,
        type=_type_of(seen),
        text=seen.text,
        content=seen.content,
        is_placeholder=is_subscription_placeholder(seen.text),
        author_id=seen.author_id,
        delivery_status=Message.DeliveryStatus.SENT if outbound else Message.DeliveryStatus.RECEIVED,
        created_at=seen.created_at or told.received_at,
        read_at=_read_at(seen, told.received_at),
    )


def _insert(new: dict[Key, Message]) -> dict[Key, Message]:
    """Those that could be inserted: an id may have come for another chat of this account at the same moment."""
    if not new:
        return {}
    Message.objects.bulk_create(new.values(), ignore_conflicts=True)
    rows = Message.objects.filter(
        chat__in={row.chat_id for row in new.values()}, avito_id__in={avito_id for _user, avito_id in new}
    )
    found = {(row.avito_user_id, str(row.avito_id)): row for row in rows}
    return {key: row for key, row in found.items() if key in new and new[key].chat_id == row.chat_id}


def _type_of(seen: Seen) -> str:
    """Avito's word; its advertisement, which poses as a text, is a notice of the system."""
    return "system" if is_subscription_placeholder(seen.text) else seen.type[:50]


def _read_at(seen: Seen, now: datetime) -> datetime | None:
    """When the other side read ours; or `now` for a client's that Avito says we have read."""
    if seen.direction == "out":
        return seen.read_at
    return now if getattr(seen, "is_read", None) else None


def add_to_chat(chat: Chat, message: Message) -> None:
    """Count a new message and let the chat show it. Needs the chat locked, and saves it."""
    _count(chat, message)
    chat.save()
    events.emit_all([("message.created", message.pk), ("chat.updated", chat.pk)])


def _count(chat: Chat, message: Message) -> None:
    chat.messages_count += 1
    if not message.is_placeholder:
        _show(chat, message)


def _show(chat: Chat, message: Message) -> None:
    """Let the chat tell of the message. Does not save."""
    inbound = message.direction == Message.Direction.INBOUND
    if inbound and message.read_at is None:
        chat.unread_count += 1
        chat.status = Chat.Status.ACTIVE  # whoever put it away has not read this
    _find_phone(chat, message)
    # By Avito's time and then by id, never by arrival: any order of arrival ends in the same state.
    newest = chat.last_message
    if newest is None or (newest.created_at, newest.avito_id or "~") <= (message.created_at, message.avito_id or "~"):
        chat.last_message, chat.last_message_at, chat.activity_at = message, message.created_at, message.created_at


def _bring_up_to_date(chat: Chat, known: Message, seen: Seen) -> None:
    """What may change in a message that we have: it is read, deleted, or no longer hidden. Its words never change.

    Does not save the chat. A message without a row is counted later.
    """
    if known.is_placeholder:
        _reveal(chat, known, seen)
        return
    changed = []
    if seen.type == "deleted" and known.type != "deleted":
        known.type = "deleted"
        changed.append("type")
    if known.type == "deleted" and not known.text and seen.text:  # we have heard of its end first
        known.text, known.content = seen.text, seen.content
        changed += ["text", "content"]
        _find_phone(chat, known)
    if known.read_at is None and (read_at := _read_at(seen, timezone.now())):
        known.read_at = read_at
        changed.append("read_at")
        if known.pk and known.direction == Message.Direction.INBOUND:
            chat.unread_count = max(0, chat.unread_count - 1)
    if known.pk and changed:
        known.save(update_fields=changed)
        events.emit_all([("message.updated", known.pk), ("chat.updated", chat.pk)])


def _reveal(chat: Chat, hidden: Message, seen: Seen) -> None:
    """Avito shows now what stood behind its advertisement: only now it is news."""
    if is_subscription_placeholder(seen.text):
        return
    hidden.type, hidden.text, hidden.content, hidden.is_placeholder = _type_of(seen), seen.text, seen.content, False
    hidden.read_at = _read_at(seen, timezone.now())
    if hidden.pk:
        hidden.save(update_fields=["type", "text", "content", "is_placeholder", "read_at"])
        events.emit("message.updated", hidden.pk)
        _show(chat, hidden)


def _find_phone(chat: Chat, message: Message) -> None:
    """The first that the client has written counts, by Avito's time and not by arrival."""
    if message.direction != Message.Direction.INBOUND or "phone" in chat.entered:
        return
    if chat.phone and (chat.phone_at is None or chat.phone_at < message.created_at):
        return
    phone = phone_in(message.text)
    if phone and (not chat.phone or (message.created_at, phone) < (chat.phone_at, chat.phone)):
        chat.phone, chat.phone_at = phone, message.created_at


def save_chats(chats: Iterable[Chat]) -> None:
    """Save those of these chats that differ from what `chats_for` has found, in one statement."""
    changed = [chat for chat in chats if chat.found != state_of(chat)]
    for chat in changed:
        chat.updated_at, chat.found = timezone.now(), state_of(chat)
    bulk.write(changed, [*STATE, "updated_at"])
    events.emit("chat.updated", *(chat.pk for chat in changed))


def state_of(chat: Chat) -> tuple[Any, ...]:
    return tuple(getattr(chat, name) for name in STATE)


def mark_sent(
    message: Message, *, avito_id: str, content: dict[str, Any] | None = None, chat: Chat | None = None
) -> None:
    """A reply has arrived as `avito_id`. The answer to our own call knows better than any guess from an echo.

    `content`: as Avito shows it; of a picture, whose addresses only Avito knows, it is kept. `chat`: the message's, if
    it is locked already.
    """
    with transaction.atomic():
        chat = chat or Chat.objects.select_for_update().get(pk=message.chat_id)
        mine = Message.objects.select_for_update().get(pk=message.pk)
        if mine.avito_id == avito_id:
            return
        _make_way(chat, mine, avito_id)
        if mine.avito_id is not None:
            # An echo of the same words was taken for this one; whose it was, the chat will show.
            chat.sync_due_at = timezone.now()
        mine.avito_id, mine.avito_user_id = avito_id, chat.avito_user_id
        mine.delivery_status, mine.retry_at = Message.DeliveryStatus.SENT, None
        mine.error_code = mine.error_detail = ""
        if mine.type == "image" and content:
            mine.content = {**mine.content, **content}  # the id of the upload stays, should the reply go out again
        mine.save(
            update_fields=[
                *("avito_id", "avito_user_id", "delivery_status", "retry_at", "error_code", "error_detail", "content")
            ]
        )
        chat.save(update_fields=["sync_due_at", "messages_count", "last_message", "updated_at"])
        events.emit_all([("message.updated", mine.pk), ("chat.updated", chat.pk)])
    ring_on_commit(tasks.deliver_next, message.chat_id)


def _make_way(chat: Chat, mine: Message, avito_id: str) -> None:
    """Free the id that is now known to be `mine`. Changes the locked chat without saving it."""
    rows = Message.objects.select_for_update().filter(avito_user_id=chat.avito_user_id, avito_id=avito_id)
    other = rows.exclude(pk=mine.pk).first()
    if other is None:
        return
    events.emit("message.updated", other.pk)
    if other.sending_at is not None:  # another reply with the same words, settled by an echo that was not its own
        other.avito_id, other.delivery_status, other.retry_at = None, Message.DeliveryStatus.UNKNOWN, timezone.now()
        other.save(update_fields=["avito_id", "delivery_status", "retry_at"])
        return
    if chat.last_message_id == other.pk:
        chat.last_message = mine
    chat.messages_count -= 1
    other.delete()
