"""What becomes of a delivery: waiting events are claimed one by one and turned into chats and messages.

All of it is PostgreSQL; nothing here waits for Avito. An event whose worker was killed is taken up again when its
lease ends, and is put aside when it has ended several workers.
"""

import traceback
from datetime import timedelta

import structlog
from django.db import OperationalError, connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.utils import timezone
from prometheus_client import Counter

import avito
from avito import webhooks
from avito.content import is_subscription_placeholder
from avito_accounts import news
from avito_accounts.models import Account
from chats import services, tasks
from chats.models import Message, WebhookEvent
from doorbell import ring_on_commit

log = structlog.get_logger(__name__)

ATTEMPTS_MAX = 5
DEATHS_MAX = 3
LEASE = timedelta(seconds=20)
Status = WebhookEvent.Status
processed = Counter("avito_webhook_events_total", "Webhook events by what became of them", ["status"])


def process_waiting() -> int:
    """Process events until none is left that is due; the number of them."""
    count = 0
    while process_next():
        count += 1
    return count


def process_next() -> bool:
    """Claim the oldest waiting event that is due, and settle it. False when there is none.

    The claim is committed before the work, so that an event which kills its workers is known by its deaths.
    """
    event_id = _claim_next()
    if event_id is None:
        return False
    try:
        with transaction.atomic():
            event = WebhookEvent.objects.select_for_update().get(pk=event_id)
            if event.status == Status.RECEIVED:
                _process(event)
    except Exception as error:
        if isinstance(error, OperationalError):
            if not connection.is_usable():
                raise
            log.warning("webhook_event_given_back", event_id=event_id, error=str(error)[:200])
            _give_back(event_id)  # the database's trouble, not the event's
        else:
            _postpone(event_id, traceback.format_exc())
    else:
        processed.labels(event.status).inc()
    return True


def _give_back(event_id: int) -> None:
    """The claim did not count; the lease that it took is the pause before the next."""
    WebhookEvent.objects.filter(pk=event_id).update(attempts=F("attempts") - 1, deaths=0)


def _claim_next() -> int | None:
    now = timezone.now()
    with transaction.atomic():
        due = Q(retry_at=None) | Q(retry_at__lte=now)
        waiting = WebhookEvent.objects.filter(due, status=Status.RECEIVED).order_by("id")
        event = waiting.select_for_update(skip_locked=True).first()
        if event is None:
            return None
        if event.deaths >= DEATHS_MAX:
            event.settle(Status.DEAD, error=f"{event.deaths} workers died while they processed it")
            log.error("webhook_event_kills_workers", event_id=event.pk)
            return event.pk
        event.attempts, event.deaths, event.retry_at = event.attempts + 1, event.deaths + 1, now + LEASE
        event.save(update_fields=["attempts", "deaths", "retry_at"])
        return event.pk


def replay(events: QuerySet[WebhookEvent]) -> int:
    """Have events processed again, from the stored bytes; the number of them. Doing so changes nothing twice."""
    count = events.order_by().update(status=Status.RECEIVED, attempts=0, deaths=0, retry_at=None, error="")
    ring_on_commit(tasks.process_inbox)
    return count


def match_again() -> int:
    """Take up the unmatched events whose account has appeared meanwhile."""
    owner = Account.objects.filter(avito_user_id=OuterRef("avito_user_id"))
    found = WebhookEvent.objects.filter(Exists(owner), status=Status.UNMATCHED)
    return found.update(status=Status.RECEIVED, attempts=0, deaths=0, retry_at=None)


def _postpone(event_id: int, trace: str) -> None:
    with transaction.atomic():
        event = WebhookEvent.objects.select_for_update().get(pk=event_id)
        event.error, event.deaths = trace[-4000:].replace("\0", ""), 0
        if event.attempts >= ATTEMPTS_MAX:
            event.settle(Status.DEAD, error=event.error)
        else:
            event.retry_at = timezone.now() + timedelta(seconds=2**event.attempts)
            event.save(update_fields=["error", "deaths", "retry_at"])
    log.error("webhook_event_failed", event_id=event.pk, attempts=event.attempts)


def _process(event: WebhookEvent) -> None:
    try:
        delivered = webhooks.parse(bytes(event.body))
    except avito.Unreadable as error:
        event.settle(Status.DEAD, error=error.message)
        return
    event.type = (delivered.type or delivered.kind)[:100]
    event.avito_user_id = delivered.user_id
    event.chat_avito_id = delivered.chat_id
    event.message_avito_id = delivered.message.id if delivered.message else ""
    if delivered.duplicate_keys:
        event.note = "; ".join(filter(None, [event.note, "the body names a key twice"]))
    if delivered.kind not in {"chat", "message"}:
        event.settle(Status.IGNORED)
        return
    account = None
    if delivered.user_id is not None:
        account = Account.objects.filter(avito_user_id=delivered.user_id).first()
        if account is None:
            event.settle(Status.UNMATCHED)
            return
    _store(event, delivered, account)


def _store(event: WebhookEvent, delivered: webhooks.Event, account: Account | None) -> None:
    said = delivered.message
    chat = services.chat_for(avito_id=delivered.chat_id, user_id=delivered.user_id or 0, account=account)
    is_new = not chat.messages_count and not chat.name
    services.describe(
        chat,
        chat_type=delivered.chat_type[:20],
        item_id=delivered.item_id,
        name="" if chat.name else delivered.client_name[:255],
        phone="" if chat.phone else services.phone_in(delivered.client_phone),
    )
    chat.save()
    is_hidden = said is not None and is_subscription_placeholder(said.text)
    is_news = said is not None and bool(services.remember(chat, [said], received_at=event.received_at))
    if said is not None and not is_news:
        known = Message.objects.filter(avito_user_id=chat.avito_user_id, avito_id=said.id).first()
        text = known.text if known and is_hidden else said.text
        if known is None or (known.text, known.chat_id) != (text, chat.pk):
            event.settle(Status.IGNORED, note="conflict: a known message id with another content")
            return
    if is_new:
        services.want_sync(chat)
    if is_hidden:
        event.note = "Avito's placeholder for a missing subscription"
        if is_news and chat.account is not None:
            news.messenger_unpaid(chat.account)
    event.settle(Status.PROCESSED, error="")
