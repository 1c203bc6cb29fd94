"""The conversations themselves: finding them, remembering what was said, reading them at Avito."""

import unicodedata
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, TypeVar

import phonenumbers
import structlog
from django.conf import settings
from django.db import connection, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

import avito
from avito import webhooks
from avito.content import is_subscription_placeholder
from avito.messenger import OFFSET_MAX
from avito.types import Chat as AvitoChat
from avito.types import Message as AvitoMessage
from avito_accounts import news
from avito_accounts import services as accounts
from avito_accounts.errors import AccountUnusable
from avito_accounts.models import Account
from chats import tasks
from chats.models import CatchUp, Chat, Message
from doorbell import ring_on_commit

log = structlog.get_logger(__name__)
T = TypeVar("T")
Seen = AvitoMessage | webhooks.IncomingMessage

SYNC_LEASE = timedelta(minutes=2)
UNPAID_PAUSE = timedelta(hours=6)
HIDDEN_FOR = timedelta(days=1)
CLOCK_SKEW = timedelta(minutes=15)
"""How far Avito's clock may be behind ours. A reply that is not recognised goes out twice, so rather too much."""
IMPORTED_CHATS_MAX = 100
CHAT_TYPES = ("u2i", "u2u", "a2u")


def lock_id(avito_id: str) -> None:
    """Be the only one who looks up or makes chats with this id until the transaction ends.

    Two deliveries of one message, of which one names no account, would otherwise not see each other's new chat.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", [avito_id])


def chat_for(*, avito_id: str, user_id: int, account: Account | None) -> Chat:
    """The chat, locked; made if it is new. Needs a transaction.

    `user_id` 0 is for deliveries that name no account: they join the chat that has the id. A chat that was announced
    without an account becomes the property of the account that speaks in it.
    """
    lock_id(avito_id)
    chats = Chat.objects.select_for_update(of=("self",)).filter(avito_id=avito_id)
    if not user_id:
        chat = chats.order_by("-activity_at").first()
    else:
        chat = chats.filter(avito_user_id=user_id).first()
        unowned = None if chat else chats.filter(avito_user_id=0).filter(Q(account=None) | Q(account=account)).first()
        if unowned is not None:
            unowned.avito_user_id = user_id
            unowned.save(update_fields=["avito_user_id", "updated_at"])
            unowned.messages.update(avito_user_id=user_id)
            chat = unowned
    if chat is None:
        chat = Chat.objects.create(avito_id=avito_id, avito_user_id=user_id, account=account)
    elif account is not None and chat.account_id != account.pk:
        chat.account = account
        chat.save(update_fields=["account", "updated_at"])
    return chat


def describe(chat: Chat, **known: Any) -> None:
    """Fill in what we have learnt about a chat; empty news changes nothing. Does not save."""
    for name, value in known.items():
        if value:
            setattr(chat, name, value)


def remember(chat: Chat, seen: Sequence[Seen], *, received_at: datetime) -> list[Message]:
    """Keep messages that Avito has shown us, oldest first, each once; the new ones. Saves the chat, which is locked.

    An outgoing one may be a reply of ours whose delivery we were not sure of: then it settles that reply. What Avito
    hides behind its advertisement is kept as such. The number of queries does not grow with the number of messages.
    """
    unique = {one.id: one for one in seen}
    rows = Message.objects.filter(avito_user_id=chat.avito_user_id, avito_id__in=unique)
    known = {row.avito_id: row for row in rows}
    if _settle_replies(chat, [one for one in unique.values() if _is_shown_first(one, known.get(one.id))]):
        chat.refresh_from_db()
        known = {row.avito_id: row for row in rows.all()}
    mine = [row for row in known.values() if row.chat_id == chat.pk]
    changed = [row for row in mine if _bring_up_to_date(chat, row, unique[str(row.avito_id)])]
    new = _insert(chat, [_row(chat, one, received_at) for one in unique.values() if one.id not in known])
    for message in new:
        _count(chat, message)
    if changed or new:
        chat.save()
    return new


def _is_shown_first(seen: Seen, known: Message | None) -> bool:
    """Are the words of an outgoing message seen for the first time?"""
    is_new = known is None or known.is_placeholder
    return is_new and seen.direction == "out" and not is_subscription_placeholder(seen.text)


def _settle_replies(chat: Chat, seen: Sequence[Seen]) -> bool:
    """Which replies of ours are these? They have been tried, and not settled; the oldest first. False if none is.

    Texts are known by their words, whatever Avito makes of links and spaces in them; pictures only by being pictures.
    """
    if not seen:
        return False
    waiting = list(
        chat.messages.filter(delivery_status__in=Message.UNSETTLED, avito_id=None, sending_at__isnull=False).order_by(
            "id"
        )
    )
    count = len(waiting)
    for one in seen:
        mine = next((reply for reply in waiting if _is_alike(reply, one)), None)
        if mine is not None:
            waiting.remove(mine)
            mark_sent(mine, avito_id=one.id, content=one.content)
    return len(waiting) < count


def _is_alike(reply: Message, seen: Seen) -> bool:
    began = reply.sending_at
    is_tried = began is None or seen.created_at is None or began <= seen.created_at + CLOCK_SKEW
    if seen.type == "image" or reply.type == "image":
        return is_tried and seen.type == reply.type
    return is_tried and _words(reply.text) == _words(seen.text)


def _words(text: str) -> str:
    return " ".join(unicodedata.normalize("NFC", text).split())


def _row(chat: Chat, seen: Seen, received_at: datetime) -> Message:
    outbound = seen.direction == "out"
    return Message(
        chat=chat,
        avito_user_id=chat.avito_user_id,
        avito_id=seen.id,
        direction=Message.Direction.OUTBOUND if outbound else Message.Direction.INBOUND,
        type=_type_of(seen),
        text=seen.text,
        content=seen.content,
        is_placeholder=is_subscription_placeholder(seen.text),
        author_id=seen.author_id,
        delivery_status=Message.DeliveryStatus.SENT if outbound else Message.DeliveryStatus.RECEIVED,
        created_at=seen.created_at or received_at,
        read_at=_read_at(seen, received_at),
    )


def _insert(chat: Chat, messages: Sequence[Message]) -> list[Message]:
    """Those that could be inserted: an id may have come for another chat of this account at the same moment."""
    if not messages:
        return []
    Message.objects.bulk_create(messages, ignore_conflicts=True)
    return list(chat.messages.filter(avito_id__in=[one.avito_id for one in messages]).order_by("pk"))


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


def _count(chat: Chat, message: Message) -> None:
    chat.messages_count += 1
    if not message.is_placeholder:
        _show(chat, message)


def _show(chat: Chat, message: Message) -> None:
    """Let the chat tell of the message. Does not save."""
    inbound = message.direction == Message.Direction.INBOUND
    if inbound and message.read_at is None:
        chat.unread_count += 1
    if inbound and not chat.phone:
        chat.phone = phone_in(message.text)
    # By Avito's time and then by id, never by arrival: any order of arrival ends in the same state.
    newest = chat.last_message
    if newest is None or (newest.created_at, newest.avito_id or "~") <= (message.created_at, message.avito_id or "~"):
        chat.last_message, chat.last_message_at, chat.activity_at = message, message.created_at, message.created_at


def _bring_up_to_date(chat: Chat, known: Message, seen: Seen) -> bool:
    """What may change in a message that we have: it is read, deleted, or no longer hidden. Its words never change.

    Did it change? Does not save the chat.
    """
    if known.is_placeholder:
        return _reveal(chat, known, seen)
    changed = []
    if seen.type == "deleted" and known.type != "deleted":
        known.type = "deleted"
        changed.append("type")
    if known.read_at is None and (read_at := _read_at(seen, timezone.now())):
        known.read_at = read_at
        changed.append("read_at")
        if known.direction == Message.Direction.INBOUND:
            chat.unread_count = max(0, chat.unread_count - 1)
    if changed:
        known.save(update_fields=changed)
    return bool(changed)


def _reveal(chat: Chat, hidden: Message, seen: Seen) -> bool:
    """Avito shows now what stood behind its advertisement: only now it is news."""
    if is_subscription_placeholder(seen.text):
        return False
    hidden.type, hidden.text, hidden.content, hidden.is_placeholder = _type_of(seen), seen.text, seen.content, False
    hidden.read_at = _read_at(seen, timezone.now())
    hidden.save(update_fields=["type", "text", "content", "is_placeholder", "read_at"])
    _show(chat, hidden)
    return True


def mark_sent(message: Message, *, avito_id: str, content: dict[str, Any] | None = None) -> None:
    """A reply has arrived as `avito_id`. The answer to our own call knows better than any guess from an echo.

    `content`: as Avito shows it; of a picture, whose addresses only Avito knows, it is kept.
    """
    with transaction.atomic():
        chat = Chat.objects.select_for_update().get(pk=message.chat_id)
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
    ring_on_commit(tasks.deliver_next, message.chat_id)


def _make_way(chat: Chat, mine: Message, avito_id: str) -> None:
    """Free the id that is now known to be `mine`. Changes the locked chat without saving it."""
    rows = Message.objects.select_for_update().filter(avito_user_id=chat.avito_user_id, avito_id=avito_id)
    other = rows.exclude(pk=mine.pk).first()
    if other is None:
        return
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
        inbound.update(read_at=timezone.now())
        locked.unread_count = 0
        locked.save(update_fields=["unread_count", "updated_at"])


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
    Message.objects.filter(chat__avito_id=avito_id, avito_user_id=user_id, avito_id=message_id).update(type="deleted")


def phone_in(text: str) -> str:
    """The first phone number in a client's words, as E.164; "" without one."""
    if sum(character.isdigit() for character in text) < 10:
        return ""
    for match in phonenumbers.PhoneNumberMatcher(text[:2000], "RU"):
        return phonenumbers.format_number(match.number, phonenumbers.PhoneNumberFormat.E164)
    return ""


def want_sync(chat: Chat) -> None:
    """Have the chat read at Avito soon. Saves it."""
    if chat.account_id is not None and chat.sync_due_at is None:
        chat.sync_due_at = timezone.now()
        chat.save(update_fields=["sync_due_at"])
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
        else:
            pause = timedelta(seconds=min(3600, 15 * 2 ** min(chat.sync_failures, 8)))
            mine.update(sync_due_at=now + pause, sync_failures=F("sync_failures") + 1)
        log.warning("chat_sync_failed", chat_id=chat.pk, error=type(error).__name__)
    else:
        mine.update(sync_due_at=None if was_read else now + UNPAID_PAUSE, sync_failures=0)


def read_chat(chat: Chat) -> bool:
    """Fetch chat and messages, then store them in one transaction; False when Avito does not show the messages.

    Raises AvitoError, AccountUnusable.
    """
    account = chat.account
    assert account is not None  # noqa: S101  the callers ask only for chats of an account
    user_id = accounts.user_id(account)
    info = accounts.call(account, lambda client: client.messenger.chat(user_id, chat.avito_id))
    try:
        page = call(account, lambda client: client.messenger.messages(user_id, chat.avito_id))
    except avito.SubscriptionRequired:  # without it Avito shows the chat, but not what was said
        store_chat(info, user_id=user_id, account=account)
        return False
    store_chat(info, user_id=user_id, account=account, messages=page.messages)
    return not are_hidden(page.messages)


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
        chat = _stored(info, user_id=user_id, account=account)
        describe(chat, avito_updated_at=info.updated_at)
        chat.save()
        _store(account, chat, messages)
    return chat


def _stored(info: AvitoChat, *, user_id: int, account: Account) -> Chat:
    """The chat, locked, with what Avito tells of it. Does not save that. Needs a transaction."""
    chat = chat_for(avito_id=info.id, user_id=user_id, account=account)
    kind = info.id.partition("-")[0]
    describe(chat, chat_type=kind if kind in CHAT_TYPES else "")
    buyer = next((user for user in info.users if user.id != user_id), None)
    if buyer is not None and not chat.name:
        chat.name = buyer.name[:255]
    if info.item is not None:
        describe(chat, item_id=info.item.id, item_title=info.item.title[:500], item_url=info.item.url[:1000])
    return chat


def store_seen(account: Account, seen: Sequence[AvitoChat]) -> None:
    """Keep chats as a list of Avito's shows them, each with its last message; those with news are read whole soon."""
    user_id = accounts.user_id(account)
    for info in _with_news(user_id, seen):
        with transaction.atomic():
            chat = _stored(info, user_id=user_id, account=account)
            # Also over the lease of a sync under way, which may have read before the news came.
            chat.sync_due_at = timezone.now()
            chat.save()
            said = [info.last_message] if info.last_message else []
            new = remember(chat, said, received_at=timezone.now())
            if any(message.is_placeholder for message in new):
                news.messenger_unpaid(account)
            ring_on_commit(tasks.sync_chat, chat.pk)


def _with_news(user_id: int, seen: Sequence[AvitoChat]) -> list[AvitoChat]:
    """The chats that have changed at Avito since we have read them."""
    mine = Chat.objects.filter(avito_user_id=user_id, avito_id__in=[info.id for info in seen])
    held = dict(mine.values_list("avito_id", "avito_updated_at"))
    return [info for info in seen if (held.get(info.id) or _LONG_AGO) < info.updated_at]


def reconcile(account: Account) -> None:
    """Find the chats that changed at Avito since the last whole run, and have them read: webhooks may have been lost.

    All pages are seen before anything is marked, so a run that fails halfway leaves the next one the same work. The
    first run takes the newest IMPORTED_CHATS_MAX chats.
    """
    user_id = accounts.user_id(account)
    since = CatchUp.objects.get(account=account).seen_until
    found: dict[str, AvitoChat] = {}
    while True:
        offset = len(found)
        page = accounts.call(
            account,
            lambda client, at=offset: client.messenger.chats(user_id, offset=at, chat_types=("u2i", "u2u")),  # type: ignore[misc]
        )
        found.update({info.id: info for info in page.chats})
        reached = since is not None and any(info.updated_at < since for info in page.chats)
        enough = since is None and len(found) >= IMPORTED_CHATS_MAX
        # Newest first: behind a chat older than the last run there is no news.
        if reached or enough or not page.has_more or len(found) == offset or len(found) > OFFSET_MAX:
            break
    store_seen(account, [info for info in found.values() if since is None or info.updated_at >= since])
    if found:
        CatchUp.objects.filter(account=account).update(seen_until=max(info.updated_at for info in found.values()))


def store_messages(
    account: Account, avito_id: str, messages: Sequence[AvitoMessage], *, are_newest: bool = True
) -> None:
    """Keep messages that have just been read. `are_newest`: nothing was said after them."""
    with transaction.atomic():
        chat = chat_for(avito_id=avito_id, user_id=accounts.user_id(account), account=account)
        if not chat.name:
            want_sync(chat)
        _store(account, chat, messages, are_newest=are_newest)


def _store(account: Account, chat: Chat, messages: Sequence[AvitoMessage], *, are_newest: bool = True) -> None:
    """Needs the chat locked. Whether Avito shows what is said today, only the newest messages tell."""
    oldest_first = sorted(messages, key=lambda message: message.created_at)
    new = remember(chat, oldest_first, received_at=timezone.now())
    if not are_newest or not messages:
        return
    if not are_hidden(messages):
        news.messenger_paid(account)
    elif any(message.is_placeholder for message in new):
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
