"""Chats are read at Avito: one that has news, all that have changed since the last look, those that a person opens."""

import random
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

import avito
from avito.content import is_subscription_placeholder
from avito.messenger import OFFSET_MAX, PAGE_MAX
from avito.types import Chat as AvitoChat
from avito.types import Message as AvitoMessage
from avito_accounts import news
from avito_accounts import services as accounts
from avito_accounts.errors import AccountUnusable, code_of, text_of
from avito_accounts.models import Account
from chats import cities, memory, tasks
from chats.models import CatchUp, Chat
from doorbell import ring_on_commit

log = structlog.get_logger(__name__)
T = TypeVar("T")

SYNC_LEASE = timedelta(minutes=2)
UNPAID_PAUSE = timedelta(hours=6)
RINGS = 4
HIDDEN_FOR = timedelta(days=1)
RETRY = timedelta(minutes=1)
SECOND_LOOK_WITHIN = timedelta(minutes=1)
CHAT_TYPES = ("u2i", "u2u", "a2u")


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
    is_whole = not are_hidden(messages)
    store_chat(info, user_id=user_id, account=account, messages=messages, is_whole=is_whole)
    return is_whole


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


def store_chat(
    info: AvitoChat,
    *,
    user_id: int,
    account: Account,
    messages: Sequence[AvitoMessage] = (),
    is_whole: bool = False,
) -> Chat:
    """Keep a chat, and the newest messages of it, as Avito shows them. `is_whole`: all that was said has been read."""
    with transaction.atomic():
        chat = memory.chat_for(avito_id=info.id, user_id=user_id, account=account)
        _describe_as(chat, info)
        if is_whole:
            chat.avito_updated_at = _read_until(chat, info)
        if info.item is not None and not chat.city:
            memory.describe(chat, city=cities.known(info.item.id))
        _store(account, chat, messages)
    return chat


def _read_until(chat: Chat, info: AvitoChat) -> datetime:
    """Up to which of Avito's moments nothing is missing here.

    Avito's times are whole seconds: of one that was hardly over, more may have come since. So that state is looked at
    once more by the next run, and is final when it has stayed the same.
    """
    moment = info.updated_at - timedelta(seconds=1)
    is_over = timezone.now() - info.updated_at > SECOND_LOOK_WITHIN or chat.avito_updated_at == moment
    return info.updated_at if is_over else moment


def _describe_as(chat: Chat, info: AvitoChat) -> None:
    kind = info.id.partition("-")[0]
    memory.describe(chat, chat_type=kind if kind in CHAT_TYPES else "")
    buyer = next((user for user in info.users if user.id != chat.avito_user_id), None)
    if buyer is not None and not chat.name:
        memory.describe(chat, name=buyer.name[:255])
    if info.item is not None:
        memory.describe(chat, item_id=info.item.id, item_title=info.item.title[:500], item_url=info.item.url[:1000])


def store_seen(account: Account, seen: Sequence[AvitoChat]) -> None:
    """Keep chats as a list of Avito's shows them, each with its last message; those with news are read whole soon."""
    user_id, now = accounts.user_id(account), timezone.now()
    infos = _with_news(user_id, seen)
    if not infos:
        return
    with transaction.atomic():
        wanted = {info.id: memory.Wanted(info.id, user_id, account) for info in infos}
        chats = memory.chats_for(wanted.values())
        for number, info in enumerate(infos):
            chat = chats[wanted[info.id]]
            _describe_as(chat, info)
            # Also over the lease of a sync under way, which may have read before the news came; the newest first.
            chat.sync_due_at = now + timedelta(microseconds=number)
        _ring_for(list(chats.values()))
        new = memory.remember(
            [memory.Told(chats[wanted[info.id]], info.last_message, now) for info in infos if info.last_message]
        ).new
        memory.save_chats(chats.values())
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
        run.chats_found, run.found_at = len(found), timezone.now()
    run.error_code = run.error_detail = ""
    run.save(update_fields=["seen_until", "chats_found", "found_at", "error_code", "error_detail"])


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
        chat = memory.chat_for(avito_id=avito_id, user_id=accounts.user_id(account), account=account)
        if not chat.name:
            wish_sync([chat])
        _store(account, chat, messages, are_newest=are_newest)


def _store(account: Account, chat: Chat, messages: Sequence[AvitoMessage], *, are_newest: bool = True) -> None:
    """Saves the chat, which is locked. Whether Avito shows what is said today, only the newest messages tell."""
    now, oldest_first = timezone.now(), sorted(messages, key=lambda message: message.created_at)
    new = memory.remember([memory.Told(chat, message, now) for message in oldest_first]).new
    memory.save_chats([chat])
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
