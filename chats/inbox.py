"""What becomes of a delivery: waiting events are claimed one by one and turned into chats and messages.

The claim is the row's lock: no lease to time out, and a worker that is killed lets go of it at once. All of it is
PostgreSQL; nothing here waits for Avito.
"""

import traceback
from datetime import timedelta

import structlog
from django.db import OperationalError, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from prometheus_client import Counter

import avito
from avito import webhooks
from avito.messenger import is_subscription_placeholder
from avito_accounts.models import Account
from chats import services, tasks
from chats.models import Chat, Message, WebhookEvent
from doorbell import ring_on_commit

log = structlog.get_logger(__name__)

ATTEMPTS_MAX = 5
Status = WebhookEvent.Status
processed = Counter("avito_webhook_events_total", "Webhook events by what became of them", ["status"])


def process_waiting() -> int:
    """Process events until none is left that is due; the number of them."""
    count = 0
    while process_next():
        count += 1
    return count


def process_next() -> bool:
    """Claim the oldest waiting event that nobody else holds, and settle it. False when there is none."""
    with transaction.atomic():
        due = Q(retry_at=None) | Q(retry_at__lte=timezone.now())
        waiting = WebhookEvent.objects.filter(due, status=Status.RECEIVED).order_by("id")
        event = waiting.select_for_update(skip_locked=True).first()
        if event is None:
            return False
        event.attempts += 1
        try:
            with transaction.atomic():
                _process(event)
        except OperationalError:
            raise  # the database's trouble, not the event's
        except Exception:
            _postpone(event)
    processed.labels(status=event.status).inc()
    return True


def replay(events: QuerySet[WebhookEvent]) -> int:
    """Have events processed again, from the stored bytes; the number of them. Doing so changes nothing twice."""
    count = events.order_by().update(status=Status.RECEIVED, attempts=0, retry_at=None, error="")
    ring_on_commit(tasks.process_inbox)
    return count


def match_again() -> int:
    """Take up the unmatched events whose account has appeared meanwhile."""
    owner = Account.objects.filter(avito_user_id=OuterRef("avito_user_id"))
    found = WebhookEvent.objects.filter(Exists(owner), status=Status.UNMATCHED)
    return found.update(status=Status.RECEIVED, attempts=0, retry_at=None)


def _postpone(event: WebhookEvent) -> None:
    event.error = traceback.format_exc()[-4000:].replace("\0", "")
    if event.attempts >= ATTEMPTS_MAX:
        event.settle(Status.DEAD)
    else:
        event.retry_at = timezone.now() + timedelta(seconds=2**event.attempts)
        event.save()
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
        event.note = "the body names a key twice"
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
    chat = _chat_of(delivered, account)
    is_new = not chat.messages_count and not chat.name
    services.describe(
        chat,
        chat_type=delivered.chat_type[:20],
        item_id=delivered.item_id,
        name="" if chat.name else delivered.client_name[:255],
        phone="" if chat.phone else services.phone_in(delivered.client_phone),
    )
    chat.save()
    note = event.note
    if delivered.message is not None:
        if is_subscription_placeholder(delivered.message.text):
            event.settle(Status.IGNORED, note="Avito's placeholder for a missing subscription")
            return
        known = Message.objects.filter(avito_user_id=chat.avito_user_id, avito_id=delivered.message.id).first()
        if known is None:
            services.remember(chat, delivered.message, received_at=event.received_at)
        elif (known.text, known.chat_id) != (delivered.message.text, chat.pk):
            event.settle(Status.IGNORED, note="conflict: a known message id with another content")
            return
    if is_new:
        services.want_sync(chat)
    event.settle(Status.PROCESSED, note=note, error="")


def _chat_of(delivered: webhooks.Event, account: Account | None) -> Chat:
    """The chat, locked. A delivery that names no account goes to the chat that has this id already."""
    if account is None:
        known = Chat.objects.at_avito(delivered.chat_id).first()
        if known is not None:
            return Chat.objects.select_for_update(of=("self",)).get(pk=known.pk)
    return services.chat_for(avito_id=delivered.chat_id, user_id=delivered.user_id or 0, account=account)
