"""The conversations themselves: finding them, remembering what was said, reading them at Avito."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import phonenumbers
import structlog
from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import F, Q
from django.utils import timezone

import avito
from avito import webhooks
from avito.messenger import OFFSET_MAX, is_subscription_placeholder
from avito.types import Chat as AvitoChat
from avito.types import Message as AvitoMessage
from avito_accounts import services as accounts
from avito_accounts.errors import AccountUnusable
from avito_accounts.models import Account
from chats import tasks
from chats.models import Chat, Message
from doorbell import ring_on_commit

log = structlog.get_logger(__name__)

SYNC_LEASE = timedelta(minutes=2)
SYNC_FAILURES_MAX = 12
CLOCK_SKEW = timedelta(seconds=5)  # Avito writes whole seconds, by a clock of its own
IMPORTED_CHATS_MAX = 100


def chat_for(*, avito_id: str, user_id: int, account: Account | None) -> Chat:
    """The chat, locked; made if it is new. Needs a transaction.

    A chat that was entered by hand, before Avito named its account, becomes this account's.
    """
    chats = Chat.objects.select_for_update(of=("self",))
    chat = chats.filter(avito_id=avito_id, avito_user_id=user_id).first()
    if chat is None and user_id:
        unowned = chats.filter(avito_id=avito_id, avito_user_id=0).filter(Q(account=None) | Q(account=account)).first()
        if unowned is not None:
            unowned.avito_user_id = user_id
            unowned.save(update_fields=["avito_user_id", "updated_at"])
            unowned.messages.update(avito_user_id=user_id)
            chat = unowned
    if chat is None:
        Chat.objects.bulk_create(
            [Chat(avito_id=avito_id, avito_user_id=user_id, account=account)], ignore_conflicts=True
        )
        chat = chats.get(avito_id=avito_id, avito_user_id=user_id)
    if account is not None and chat.account_id != account.pk:
        chat.account = account
        chat.save(update_fields=["account", "updated_at"])
    return chat


def describe(chat: Chat, **known: Any) -> None:
    """Fill in what we have learnt about a chat; empty news changes nothing. Does not save."""
    for name, value in known.items():
        if value:
            setattr(chat, name, value)


def remember(chat: Chat, seen: AvitoMessage | webhooks.IncomingMessage, *, received_at: datetime) -> Message | None:
    """Keep a message that Avito has shown us, once; None when we had it. Needs the chat locked, and saves it.

    An outgoing one may be a reply of ours whose delivery we were not sure of: then it settles that reply.
    """
    known = Message.objects.filter(avito_user_id=chat.avito_user_id, avito_id=seen.id).first()
    if known is not None:
        _bring_up_to_date(chat, known, seen)
        return None
    outbound = seen.direction == "out"
    created_at = seen.created_at or received_at
    if outbound and (reply := _reply_on_its_way(chat, seen.text, created_at)):
        mark_sent(reply, avito_id=seen.id)
        return None
    read_at = seen.read_at if outbound else (received_at if getattr(seen, "is_read", None) else None)
    message = Message(
        chat=chat,
        avito_user_id=chat.avito_user_id,
        avito_id=seen.id,
        direction=Message.Direction.OUTBOUND if outbound else Message.Direction.INBOUND,
        type=seen.type[:50],
        text=seen.text,
        content=seen.content,
        author_id=seen.author_id,
        delivery_status=Message.DeliveryStatus.SENT if outbound else Message.DeliveryStatus.RECEIVED,
        created_at=created_at,
        read_at=read_at,
    )
    try:
        with transaction.atomic():
            message.save(force_insert=True)
    except IntegrityError:  # the same id came for another chat of this account at the same moment
        return None
    add_to_chat(chat, message)
    return message


def add_to_chat(chat: Chat, message: Message) -> None:
    """Count a new message and let the chat show it. Needs the chat locked, and saves it."""
    inbound = message.direction == Message.Direction.INBOUND
    chat.messages_count += 1
    if inbound and message.read_at is None:
        chat.unread_count += 1
    if inbound and not chat.phone:
        chat.phone = phone_in(message.text)
    # By Avito's time and then by id, never by arrival: any order of arrival ends in the same state.
    newest = chat.last_message
    if newest is None or (newest.created_at, newest.avito_id or "~") <= (message.created_at, message.avito_id or "~"):
        chat.last_message, chat.last_message_at, chat.activity_at = message, message.created_at, message.created_at
    chat.save()


def _bring_up_to_date(chat: Chat, known: Message, seen: AvitoMessage | webhooks.IncomingMessage) -> None:
    """What may change in a message that we have: it is read, or deleted. Its words never change."""
    changed = []
    if seen.type == "deleted" and known.type != "deleted":
        known.type = "deleted"
        changed.append("type")
    inbound = known.direction == Message.Direction.INBOUND
    read_at = (timezone.now() if getattr(seen, "is_read", None) else None) if inbound else seen.read_at
    if read_at and known.read_at is None:
        known.read_at = read_at
        changed.append("read_at")
        if inbound:
            chat.unread_count = max(0, chat.unread_count - 1)
            chat.save(update_fields=["unread_count", "updated_at"])
    if changed:
        known.save(update_fields=changed)


def _reply_on_its_way(chat: Chat, text: str, created_at: datetime) -> Message | None:
    """The oldest reply of this chat that may be the message which Avito shows."""
    return (
        chat.messages.filter(
            delivery_status__in=Message.ON_ITS_WAY,
            avito_id=None,
            text=text,
            sending_at__lte=created_at + CLOCK_SKEW,
        )
        .order_by("id")
        .first()
    )


def mark_sent(message: Message, *, avito_id: str) -> None:
    """A reply has arrived as `avito_id`. Any row that was made of its echo meanwhile gives way to it."""
    with transaction.atomic():
        chat = Chat.objects.select_for_update().get(pk=message.chat_id)
        mine = Message.objects.select_for_update().get(pk=message.pk)
        if mine.avito_id is not None:
            return  # the echo has settled it already
        echoes = Message.objects.filter(avito_user_id=chat.avito_user_id, avito_id=avito_id).exclude(pk=mine.pk)
        if echoes.filter(written_by=None, attempts=0).delete()[0]:
            Chat.objects.filter(pk=chat.pk).update(messages_count=F("messages_count") - 1)
        Message.objects.filter(pk=mine.pk).update(
            delivery_status=Message.DeliveryStatus.SENT,
            avito_id=avito_id,
            avito_user_id=chat.avito_user_id,
            error_code="",
            error_detail="",
            retry_at=None,
        )
    ring_on_commit(tasks.deliver_next, message.chat_id)


def mark_read(chat: Chat) -> None:
    """Everything in this chat has been read here; Avito is told too, when the account can."""
    if chat.account is not None:
        user_id = accounts.user_id(chat.account)
        accounts.call(chat.account, lambda client: client.messenger.mark_read(user_id, chat.avito_id))
    mark_read_here(chat)


def mark_read_here(chat: Chat) -> None:
    with transaction.atomic():
        locked = Chat.objects.select_for_update().get(pk=chat.pk)
        inbound = locked.messages.filter(direction=Message.Direction.INBOUND, read_at=None)
        inbound.update(read_at=timezone.now())
        locked.unread_count = 0
        locked.save(update_fields=["unread_count", "updated_at"])


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
        read_chat(chat)
    except (avito.AvitoError, AccountUnusable) as error:
        final = isinstance(error, avito.NotFound | avito.Forbidden) or chat.sync_failures >= SYNC_FAILURES_MAX
        pause = timedelta(seconds=min(3600, 15 * 2**chat.sync_failures))
        mine.update(sync_due_at=None if final else now + pause, sync_failures=F("sync_failures") + 1)
        log.warning("chat_sync_failed", chat_id=chat.pk, error=type(error).__name__)
    else:
        mine.update(sync_due_at=None, sync_failures=0)


def read_chat(chat: Chat) -> None:
    """Fetch chat and messages, then store them in one transaction. Raises AvitoError, AccountUnusable."""
    account = chat.account
    assert account is not None  # noqa: S101  the callers ask only for chats of an account
    user_id = accounts.user_id(account)
    info = accounts.call(account, lambda client: client.messenger.chat(user_id, chat.avito_id))
    try:
        messages = accounts.call(account, lambda client: client.messenger.messages(user_id, chat.avito_id)).messages
    except avito.SubscriptionRequired:  # without it Avito shows the chat, but not what was said
        messages = ()
    store_chat(info, user_id=user_id, account=account, messages=messages)


def store_chat(info: AvitoChat, *, user_id: int, account: Account, messages: tuple[AvitoMessage, ...] = ()) -> Chat:
    """Keep a chat, and messages of it, as Avito shows them."""
    buyer = next((user for user in info.users if user.id != user_id), None)
    with transaction.atomic():
        chat = chat_for(avito_id=info.id, user_id=user_id, account=account)
        describe(chat, chat_type=info.id.partition("-")[0] if "-" in info.id else "", avito_updated_at=info.updated_at)
        if buyer is not None and not chat.name:
            chat.name = buyer.name[:255]
        if info.item is not None:
            describe(chat, item_id=info.item.id, item_title=info.item.title[:500], item_url=info.item.url[:1000])
        chat.save()
        store_messages(account, info.id, messages)
    return chat


def reconcile(account: Account) -> None:
    """Find the chats that changed at Avito since we looked, and have them read: webhooks may have been lost.

    The first run after connecting takes the newest IMPORTED_CHATS_MAX chats.
    """
    user_id = accounts.user_id(account)
    held = dict(Chat.objects.filter(avito_user_id=user_id).values_list("avito_id", "avito_updated_at"))
    offset = 0
    while True:
        page = accounts.call(account, lambda client, at=offset: client.messenger.chats(user_id, offset=at))  # type: ignore[misc]
        changed = [info for info in page.chats if (held.get(info.id) or _LONG_AGO) < info.updated_at]
        for info in changed:
            with transaction.atomic():
                want_sync(chat_for(avito_id=info.id, user_id=user_id, account=account))
        offset += len(page.chats)
        # Newest first: a page without news has none behind it.
        if not changed or not page.has_more or not held or offset > OFFSET_MAX:
            return


def store_messages(account: Account, avito_id: str, messages: Iterable[AvitoMessage]) -> None:
    """Keep what somebody has just read live."""
    with transaction.atomic():
        chat = chat_for(avito_id=avito_id, user_id=accounts.user_id(account), account=account)
        if not chat.name:
            want_sync(chat)
        for message in sorted(messages, key=lambda message: message.created_at):
            if not is_subscription_placeholder(message.text):
                remember(chat, message, received_at=timezone.now())


def accounts_to_reconcile() -> Any:
    before = timezone.now() - timedelta(seconds=settings.AVITO_RECONCILE_SECONDS)
    return Account.objects.authorized().filter(Q(reconciled_at=None) | Q(reconciled_at__lt=before))


_LONG_AGO = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
