"""The conversations themselves: finding them, remembering what was said, reading them at Avito."""

import random
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

import avito
from avito import webhooks
from avito.content import is_subscription_placeholder
from avito.messenger import OFFSET_MAX, PAGE_MAX
from avito.types import Chat as AvitoChat
from avito.types import Message as AvitoMessage
from avito_accounts import news
from avito_accounts import services as accounts
from avito_accounts.errors import AccountUnusable, code_of, text_of
from avito_accounts.models import Account
from chats import bulk, cities, tasks
from chats.models import CatchUp, Chat, Message
from chats.phones import phone_in as phone_in
from doorbell import ring_on_commit
from notifications import events

log = structlog.get_logger(__name__)
T = TypeVar("T")
Seen = AvitoMessage | webhooks.IncomingMessage
Key = tuple[int, str]
"""The account's number and the message's id: together they are unique."""

SYNC_LEASE = timedelta(minutes=2)
UNPAID_PAUSE = timedelta(hours=6)
RINGS = 4
HIDDEN_FOR = timedelta(days=1)
CLOCK_SKEW = timedelta(seconds=5)  # Avito writes whole seconds, by a clock of its own
RETRY = timedelta(minutes=1)
CHAT_TYPES = ("u2i", "u2u", "a2u")
STATE = (
    *("name", "phone", "city", "status", "chat_type", "item_id", "item_title", "item_url"),
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
    rows = Chat.objects.select_for_update(of=("self",)).select_related("account", "last_message")
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
        return max(chats, key=lambda chat: chat.activity_at, default=None)
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
    for one in told:
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
    return is_tried and _words(reply.text) == _words(seen.text)


def _words(text: str) -> str:
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
    if message.direction == Message.Direction.INBOUND and not chat.phone:
        describe(chat, phone=phone_in(message.text))


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


def mark_read(chat: Chat) -> None:
    """Everything in this chat has been read here; Avito is told too, when the account can. Raises AvitoError."""
    mark_read_here(chat)
    if chat.account is None:
        return
    try:
        user_id = accounts.user_id(chat.account)
        accounts.call(chat.account, lambda client: client.messenger.mark_read(user_id, chat.avito_id))
    except AccountUnusable as error:
        log.info("chat_read_here_only", chat_id=chat.pk, error=type(error).__name__)


def mark_read_here(chat: Chat) -> None:
    with transaction.atomic():
        locked = Chat.objects.select_for_update().get(pk=chat.pk)
        # What Avito hides has been read by nobody.
        inbound = locked.messages.filter(direction=Message.Direction.INBOUND, read_at=None, is_placeholder=False)
        events.emit("message.updated", *inbound.values_list("pk", flat=True))
        inbound.update(read_at=timezone.now())
        locked.unread_count = 0
        locked.save(update_fields=["unread_count", "updated_at"])
        events.emit("chat.updated", locked.pk)


def delete_message(account: Account, *, avito_id: str, message_id: str) -> None:
    """Take an own message back at Avito; here its words are kept, but shown no more.

    Raises AvitoError, AccountUnusable.
    """
    user_id = accounts.user_id(account)
    try:
        call(account, lambda client: client.messenger.delete_message(user_id, avito_id, message_id))
    except avito.AvitoError as error:
        chat = Chat.objects.filter(avito_user_id=user_id, avito_id=avito_id).first() if error.maybe_done else None
        if chat is not None:
            want_sync(chat)  # the chat will show whether it was done
        raise
    with transaction.atomic():
        mine = Message.objects.filter(chat__avito_id=avito_id, avito_user_id=user_id, avito_id=message_id)
        events.emit("message.updated", *mine.values_list("pk", flat=True))
        mine.update(type="deleted")


def want_sync(chat: Chat) -> None:
    """Have the chat read at Avito soon. Saves it."""
    wish_sync([chat])
    chat.save(update_fields=["sync_due_at"])


def wish_sync(chats: Iterable[Chat]) -> None:
    """As `want_sync`, for chats that are going to be saved."""
    strangers = [chat for chat in chats if chat.account_id is not None and chat.sync_due_at is None]
    for chat in strangers:
        chat.sync_due_at = timezone.now()
    _ring_for(strangers)


def _ring_for(chats: Sequence[Chat]) -> None:
    """Of a crowd the sweep finds the others: each ring costs as much as several messages."""
    for chat in chats[:RINGS]:
        ring_on_commit(tasks.sync_chat, chat.pk)


def sync_chat(chat: Chat) -> None:
    """Read a chat at Avito: whom it is with, what it is about, its newest messages.

    One worker does it at a time; a failure sets the time of the next try.
    """
    now = timezone.now()
    due = Chat.objects.filter(pk=chat.pk, sync_due_at__lte=now, account__isnull=False)
    lease = now + SYNC_LEASE
    if due.update(sync_due_at=lease) != 1 or chat.account is None:
        return
    mine = Chat.objects.filter(pk=chat.pk, sync_due_at=lease)
    try:
        was_read = read_chat(chat)
    except (avito.AvitoError, AccountUnusable) as error:
        if isinstance(error, avito.NotFound | avito.Forbidden):  # gone, or not ours: nothing to wait for
            mine.update(sync_due_at=None, sync_failures=0)
        elif isinstance(error, avito.RateLimited):  # nothing has failed, there are only many
            wait = timedelta(seconds=(error.retry_after_seconds or 15) * random.uniform(1, 1.5))  # noqa: S311
            mine.update(sync_due_at=now + wait)
        else:
            pause = timedelta(seconds=min(3600, 15 * 2 ** min(chat.sync_failures, 8)))
            mine.update(sync_due_at=now + pause, sync_failures=F("sync_failures") + 1)
        log.warning("chat_sync_failed", chat_id=chat.pk, error=type(error).__name__)
    else:
        mine.update(sync_due_at=None if was_read else now + UNPAID_PAUSE, sync_failures=0)
        accounts.try_quietly(cities.find, chat.account)


def read_chat(chat: Chat) -> bool:
    """Fetch chat and messages, then store them in one transaction; False when Avito does not show the messages.

    Raises AvitoError, AccountUnusable.
    """
    account = chat.account
    assert account is not None  # noqa: S101  the callers ask only for chats of an account
    user_id = accounts.user_id(account)
    info = accounts.call(account, lambda client: client.messenger.chat(user_id, chat.avito_id))
    try:
        messages = _said_since(chat.avito_updated_at, account, user_id, chat.avito_id)
    except avito.SubscriptionRequired:  # without it Avito shows the chat, but not what was said
        store_chat(info, user_id=user_id, account=account)
        return False
    store_chat(info, user_id=user_id, account=account, messages=messages)
    return not are_hidden(messages)


def _said_since(since: datetime | None, account: Account, user_id: int, avito_id: str) -> list[AvitoMessage]:
    """What was said since the chat was last read whole; None: all, as far back as Avito lets one page."""
    found: dict[str, AvitoMessage] = {}
    while len(found) <= OFFSET_MAX:
        offset = len(found)
        page = call(account, lambda client, at=offset: client.messenger.messages(user_id, avito_id, offset=at))  # type: ignore[misc]
        found.update({message.id: message for message in page.messages})
        reached = since is not None and any(message.created_at < since for message in page.messages)
        if reached or not page.has_more or len(found) == offset:
            break
    return list(found.values())


def call(account: Account, use: Callable[[avito.Client], T]) -> T:
    """As `accounts.call`, for what needs the subscription to Avito's messenger: people hear when it is missing."""
    try:
        return accounts.call(account, use)
    except avito.SubscriptionRequired:
        news.messenger_unpaid(account)
        raise


def are_hidden(messages: Sequence[AvitoMessage]) -> bool:
    """Does Avito show its advertisement in place of words? Then what is not found among them may be there all the same.

    Old ones behind newer words do not count: they may stay hidden for ever.
    """
    hidden = {message.id: message.created_at for message in messages if is_subscription_placeholder(message.text)}
    if not hidden:
        return False
    newest = max(messages, key=lambda message: message.created_at)
    return newest.id in hidden or max(hidden.values()) > timezone.now() - HIDDEN_FOR


def store_chat(info: AvitoChat, *, user_id: int, account: Account, messages: Sequence[AvitoMessage] = ()) -> Chat:
    """Keep a chat, and the newest messages of it, as Avito shows them."""
    with transaction.atomic():
        chat = chat_for(avito_id=info.id, user_id=user_id, account=account)
        _describe_as(chat, info)
        describe(chat, avito_updated_at=info.updated_at)
        if info.item is not None and not chat.city:
            describe(chat, city=cities.known(info.item.id))
        _store(account, chat, messages)
    return chat


def _describe_as(chat: Chat, info: AvitoChat) -> None:
    kind = info.id.partition("-")[0]
    describe(chat, chat_type=kind if kind in CHAT_TYPES else "")
    buyer = next((user for user in info.users if user.id != chat.avito_user_id), None)
    if buyer is not None and not chat.name:
        describe(chat, name=buyer.name[:255])
    if info.item is not None:
        describe(chat, item_id=info.item.id, item_title=info.item.title[:500], item_url=info.item.url[:1000])


def store_seen(account: Account, seen: Sequence[AvitoChat]) -> None:
    """Keep chats as a list of Avito's shows them, each with its last message; those with news are read whole soon."""
    user_id, now = accounts.user_id(account), timezone.now()
    infos = _with_news(user_id, seen)
    if not infos:
        return
    with transaction.atomic():
        wanted = {info.id: Wanted(info.id, user_id, account) for info in infos}
        chats = chats_for(wanted.values())
        for number, info in enumerate(infos):
            chat = chats[wanted[info.id]]
            _describe_as(chat, info)
            # Also over the lease of a sync under way, which may have read before the news came; the newest first.
            chat.sync_due_at = now + timedelta(microseconds=number)
        _ring_for(list(chats.values()))
        new = remember(
            [Told(chats[wanted[info.id]], info.last_message, now) for info in infos if info.last_message]
        ).new
        save_chats(chats.values())
        if any(message.is_placeholder for message in new.values()):
            news.messenger_unpaid(account)


def _with_news(user_id: int, seen: Sequence[AvitoChat]) -> list[AvitoChat]:
    """The chats that have changed at Avito since we have read them."""
    mine = Chat.objects.filter(avito_user_id=user_id, avito_id__in=[info.id for info in seen])
    held = dict(mine.values_list("avito_id", "avito_updated_at"))
    return [info for info in seen if (held.get(info.id) or _LONG_AGO) < info.updated_at]


def reconcile(account: Account) -> None:
    """Find the chats that changed at Avito since the last whole run, and have them read: webhooks may have been lost.

    The first run finds all chats, as far back as Avito lets one page. All pages are seen before anything is marked, so
    a run that fails halfway leaves the next one, RETRY later, the same work. Raises AvitoError, AccountUnusable.
    """
    run = CatchUp.objects.get(account=account)
    try:
        found = _changed_since(None if run.chats_found is None else run.seen_until, account)
        for number in range(0, len(found), PAGE_MAX):
            store_seen(account, found[number : number + PAGE_MAX])
    except (avito.AvitoError, AccountUnusable) as error:
        period = timedelta(seconds=settings.AVITO_RECONCILE_SECONDS)
        again_at = timezone.now() + timedelta(seconds=getattr(error, "retry_after_seconds", None) or 0) + RETRY
        CatchUp.objects.filter(pk=run.pk).update(
            ran_at=min(again_at - period, run.ran_at), error_code=code_of(error), error_detail=text_of(error)[:500]
        )
        raise
    if found:
        run.seen_until = max(info.updated_at for info in found)
    if run.chats_found is None:
        run.chats_found = len(found)
    run.error_code = run.error_detail = ""
    run.save(update_fields=["seen_until", "chats_found", "error_code", "error_detail"])


def _changed_since(since: datetime | None, account: Account) -> list[AvitoChat]:
    """Chats with news since then, the latest first."""
    user_id = accounts.user_id(account)
    found: dict[str, AvitoChat] = {}
    while True:
        offset = len(found)
        page = accounts.call(
            account,
            lambda client, at=offset: client.messenger.chats(user_id, offset=at, chat_types=("u2i", "u2u")),  # type: ignore[misc]
        )
        found.update({info.id: info for info in page.chats})
        reached = since is not None and any(info.updated_at < since for info in page.chats)
        # Newest first: behind a chat older than the last run there is no news.
        if reached or not page.has_more or len(found) == offset or len(found) > OFFSET_MAX:
            return [info for info in found.values() if since is None or info.updated_at >= since]


def store_messages(
    account: Account, avito_id: str, messages: Sequence[AvitoMessage], *, are_newest: bool = True
) -> None:
    """Keep messages that have just been read. `are_newest`: nothing was said after them."""
    with transaction.atomic():
        chat = chat_for(avito_id=avito_id, user_id=accounts.user_id(account), account=account)
        if not chat.name:
            wish_sync([chat])
        _store(account, chat, messages, are_newest=are_newest)


def _store(account: Account, chat: Chat, messages: Sequence[AvitoMessage], *, are_newest: bool = True) -> None:
    """Saves the chat, which is locked. Whether Avito shows what is said today, only the newest messages tell."""
    now, oldest_first = timezone.now(), sorted(messages, key=lambda message: message.created_at)
    new = remember([Told(chat, message, now) for message in oldest_first]).new
    save_chats([chat])
    if not are_newest or not messages:
        return
    if not are_hidden(messages):
        news.messenger_paid(account)
    elif any(message.is_placeholder for message in new.values()):
        news.messenger_unpaid(account)


def accounts_to_reconcile() -> QuerySet[Account]:
    before = timezone.now() - timedelta(seconds=settings.AVITO_RECONCILE_SECONDS)
    return Account.objects.authorized().filter(Q(catch_up=None) | Q(catch_up__ran_at__lt=before))


def claim_reconcile(account: Account) -> bool:
    """Be the one who reads this account's chats now."""
    now = timezone.now()
    before = now - timedelta(seconds=settings.AVITO_RECONCILE_SECONDS)
    _row, is_first = CatchUp.objects.get_or_create(account=account, defaults={"ran_at": now})
    return is_first or CatchUp.objects.filter(account=account, ran_at__lt=before).update(ran_at=now) == 1


_LONG_AGO = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
