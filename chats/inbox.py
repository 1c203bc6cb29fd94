"""What becomes of a delivery: waiting events are claimed in batches and turned into chats and messages.

All of it is PostgreSQL; nothing here waits for Avito. A batch takes its events from several accounts, a fair share of
each, so that a noisy one does not keep the others waiting. An event that fails is tried again alone. One whose worker
was killed is taken up again when its lease ends, alone as well, and is put aside when it has ended several workers.
"""

import random
import threading
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
from django.db import OperationalError, connection, transaction
from django.db.models import Exists, F, OuterRef, QuerySet
from django.db.models.functions import Greatest
from django.utils import timezone
from prometheus_client import Counter

import avito
from avito import webhooks
from avito.content import is_subscription_placeholder
from avito_accounts import news as accounts_news
from avito_accounts.models import Account
from chats import bulk, memory, news, sync, tasks
from chats.memory import Told, Wanted
from chats.models import Chat, WebhookEvent
from chats.phones import phone_in
from doorbell import ring_on_commit, stopping

log = structlog.get_logger(__name__)

ATTEMPTS_MAX = 5
DEATHS_MAX = 3
LEASE = timedelta(seconds=20)
BATCH = 64
LANES, ROUNDS = 16, 3
"""Accounts of which one batch takes events, and how often it looks for others when these are in other hands."""
Status = WebhookEvent.Status
processed = Counter("avito_webhook_events_total", "Webhook events by what became of them", ["status"])

# The next few accounts that have events nobody has tried and that are due, without looking at all their events.
NEXT_LANES = """
WITH RECURSIVE waiting AS (
    (SELECT lane FROM chats_webhookevent
     WHERE status = 'received' AND attempts = 0 AND lane > %(after)s
       AND (retry_at IS NULL OR retry_at <= statement_timestamp())
     ORDER BY lane LIMIT 1)
    UNION ALL
    SELECT (SELECT lane FROM chats_webhookevent
            WHERE status = 'received' AND attempts = 0 AND lane > waiting.lane
              AND (retry_at IS NULL OR retry_at <= statement_timestamp())
            ORDER BY lane LIMIT 1)
    FROM waiting WHERE waiting.lane IS NOT NULL
)
SELECT lane FROM waiting WHERE lane IS NOT NULL LIMIT %(count)s
"""
# The claim is committed before the work, so that an event which kills its workers is known by its deaths.
CLAIM = """
WITH share AS (
    SELECT event.id, row_number() OVER (PARTITION BY event.lane ORDER BY event.id) AS turn
    FROM unnest(%(lanes)s::bigint[]) AS wanted (lane)
    CROSS JOIN LATERAL (
        SELECT id, lane FROM chats_webhookevent
        WHERE status = 'received' AND attempts = 0 AND lane = wanted.lane
          AND (retry_at IS NULL OR retry_at <= statement_timestamp())
        ORDER BY id LIMIT %(count)s
    ) event
), mine AS (
    SELECT id FROM chats_webhookevent
    WHERE id IN (SELECT id FROM share ORDER BY turn, id LIMIT %(count)s)
      AND status = 'received' AND attempts = 0 AND (retry_at IS NULL OR retry_at <= statement_timestamp())
    ORDER BY id FOR UPDATE SKIP LOCKED
)
UPDATE chats_webhookevent event
SET attempts = attempts + 1, deaths = deaths + 1, retry_at = statement_timestamp() + make_interval(secs => %(lease)s)
FROM mine WHERE event.id = mine.id
RETURNING event.id
"""
CLAIM_TRIED = """
WITH mine AS (
    SELECT id FROM chats_webhookevent
    WHERE status = 'received' AND attempts > 0 AND (retry_at IS NULL OR retry_at <= statement_timestamp())
    ORDER BY retry_at NULLS FIRST, id LIMIT 1 FOR UPDATE SKIP LOCKED
)
UPDATE chats_webhookevent event
SET attempts = attempts + 1, deaths = deaths + 1, retry_at = statement_timestamp() + make_interval(secs => %(lease)s)
FROM mine WHERE event.id = mine.id
RETURNING event.id
"""


def process_waiting() -> int:
    """Process events until none is left that is due; the number of them.

    One caller per process does it at a time: others leave it to that one, who looks again before it goes.
    """
    count = 0
    _wanted.set()
    while _wanted.is_set() and _one_at_a_time.acquire(blocking=False):
        try:
            _wanted.clear()
            _give_back(_unfinished)
            _unfinished.clear()
            while not stopping.is_set() and (done := _process_batch() + _process_single()):
                count += done
        finally:
            _one_at_a_time.release()
    return count


_one_at_a_time = threading.Lock()
_wanted = threading.Event()
_unfinished: set[int] = set()
"""Events in hand when the database went away: no fault of theirs."""
_turns = {"after": random.getrandbits(33)}  # in another place of the round in each process


def _process_batch() -> int:
    """Events that nobody has tried yet, together."""
    ids = _claim()
    _work(ids)
    return len(ids)


def _process_single() -> int:
    """An event that has been tried before: it may have failed, or have killed its worker."""
    with connection.cursor() as cursor:
        cursor.execute(CLAIM_TRIED, {"lease": LEASE.total_seconds()})
        ids = [event_id for (event_id,) in cursor.fetchall()]
    if not ids:
        return 0
    with transaction.atomic():
        deadly = WebhookEvent.objects.select_for_update().filter(status=Status.RECEIVED, deaths__gt=DEATHS_MAX)
        event = deadly.filter(pk__in=ids).first()
        if event is not None:
            event.settle(Status.DEAD, error=f"{DEATHS_MAX} workers died while they processed it")
            _write([event])
            log.error("webhook_event_kills_workers", event_id=event.pk)
    if event is None:
        _work(ids)
    return 1


def _work(ids: Sequence[int]) -> None:
    """Settle claimed events in one transaction; should it fail, in halves, until the one to blame is alone."""
    try:
        _settle_all(ids)
    except Exception as error:
        if isinstance(error, OperationalError) and not connection.is_usable():
            _unfinished.update(ids)
            raise
        if len(ids) > 1:
            middle = len(ids) // 2
            _work(ids[:middle])
            _work(ids[middle:])
        elif isinstance(error, OperationalError):
            log.warning("webhook_event_given_back", event_id=ids[0], error=str(error)[:200])
            _give_back(ids)  # the database's trouble, not the event's
        else:
            _postpone(ids[0], traceback.format_exc())


def _claim() -> list[int]:
    """Take some due events that nobody has tried: a fair share of each account's, the oldest first.

    The next batch begins with the next accounts, so that each has its turn however many there are.
    """
    with connection.cursor() as cursor:
        for _round in range(ROUNDS):
            lanes: list[int] = []
            for after in (_turns["after"], -(2**63)):
                if len(lanes) < LANES:
                    cursor.execute(NEXT_LANES, {"after": after, "count": LANES - len(lanes)})
                    lanes += [lane for (lane,) in cursor.fetchall() if lane not in lanes]
            if not lanes:
                return []
            _turns["after"] = lanes[-1]
            cursor.execute(CLAIM, {"lanes": lanes, "count": BATCH, "lease": LEASE.total_seconds()})
            ids = sorted(event_id for (event_id,) in cursor.fetchall())
            if ids or len(lanes) < LANES:  # else another worker holds just these
                return ids
    return []


def _give_back(event_ids: Iterable[int]) -> None:
    """The claims did not count; the lease that they took is the pause before the next."""
    held = WebhookEvent.objects.filter(pk__in=list(event_ids), status=Status.RECEIVED)
    held.update(attempts=Greatest(F("attempts") - 1, 0), deaths=0)


def replay(events: QuerySet[WebhookEvent]) -> int:
    """Have events processed again, from the stored bytes; the number of them. Doing so changes nothing twice."""
    count = events.order_by().update(status=Status.RECEIVED, attempts=0, deaths=0, retry_at=None, error="")
    if not WebhookEvent.objects.filter(status=Status.DEAD).exists():
        news.no_event_is_dead()
    ring_on_commit(tasks.process_inbox)
    return count


def match_again() -> int:
    """Take up the unmatched events whose account has appeared meanwhile."""
    owner = Account.objects.filter(avito_user_id=OuterRef("avito_user_id"))
    found = WebhookEvent.objects.filter(Exists(owner), status=Status.UNMATCHED)
    return found.update(status=Status.RECEIVED, attempts=0, deaths=0, retry_at=None)


def _postpone(event_id: int, trace: str) -> None:
    with transaction.atomic():
        event = WebhookEvent.objects.select_for_update().filter(pk=event_id, status=Status.RECEIVED).first()
        if event is None:  # somebody else has settled it meanwhile
            return
        event.error, event.deaths = trace[-4000:].replace("\0", ""), 0
        if event.attempts >= ATTEMPTS_MAX:
            event.settle(Status.DEAD, error=event.error)
        else:
            event.retry_at = timezone.now() + timedelta(seconds=2**event.attempts)
        _write([event])
    log.error("webhook_event_failed", event_id=event.pk, attempts=event.attempts)


@dataclass(slots=True)
class Case:
    """An event that tells of a chat, and whose chat it is."""

    event: WebhookEvent
    delivered: webhooks.Event
    wanted: Wanted


def _settle_all(event_ids: Sequence[int]) -> None:
    """Turn claimed events into chats and messages, all or none. The number of queries does not grow with theirs."""
    if not event_ids:
        return
    with transaction.atomic():
        waiting = WebhookEvent.objects.select_for_update().filter(pk__in=event_ids, status=Status.RECEIVED)
        events = list(waiting.order_by("id"))
        cases = _cases(events)
        chats = memory.chats_for(case.wanted for case in cases)
        _tell(cases, chats)
        memory.save_chats({chat.pk: chat for chat in chats.values()}.values())
        _write(events)
    for event in events:
        processed.labels(event.status).inc()


def _cases(events: Iterable[WebhookEvent]) -> list[Case]:
    """Those that tell of a chat of ours; what all others come to is written on them."""
    read: list[tuple[WebhookEvent, webhooks.Event]] = []
    for event in events:
        try:
            delivered = webhooks.parse(bytes(event.body))
        except avito.Unreadable as error:
            event.settle(Status.DEAD, error=error.message)
            continue
        event.type = (delivered.type or delivered.kind)[:100]
        event.avito_user_id = delivered.user_id
        event.chat_avito_id = delivered.chat_id
        event.message_avito_id = delivered.message.id if delivered.message else ""
        if delivered.duplicate_keys:
            event.note = "; ".join(filter(None, [event.note, "the body names a key twice"]))
        if delivered.kind in {"chat", "message"}:
            read.append((event, delivered))
        else:
            event.settle(Status.IGNORED)
    numbers = {delivered.user_id for _event, delivered in read if delivered.user_id is not None}
    owners = {account.avito_user_id: account for account in Account.objects.filter(avito_user_id__in=numbers)}
    cases = []
    for event, delivered in read:
        account = owners.get(delivered.user_id) if delivered.user_id is not None else None
        if delivered.user_id is not None and account is None:
            event.settle(Status.UNMATCHED)
        else:
            wanted = Wanted(delivered.chat_id, delivered.user_id or 0, account)
            cases.append(Case(event, delivered, wanted))
    return cases


def _tell(cases: Sequence[Case], chats: dict[Wanted, Chat]) -> None:
    """Have the chats learn what the events say, and write on each what it came to."""
    strangers = [chat for chat in chats.values() if not chat.messages_count and not chat.name]
    told = {}
    for case in cases:
        chat, delivered = chats[case.wanted], case.delivered
        memory.describe(
            chat,
            chat_type=delivered.chat_type[:20],
            item_id=delivered.item_id,
            name="" if chat.name else delivered.client_name[:255],
        )
        if (chat.phone_at or not chat.phone) and (phone := phone_in(delivered.client_phone)):
            memory.describe(chat, phone=phone)
            chat.phone_at = None  # the profile knows better than any message
        if delivered.message is not None:
            told[case.event.pk] = Told(chat, delivered.message, case.event.received_at)
    remembered = memory.remember(list(told.values()))
    sync.wish_sync(strangers)
    news_of = {told[case.event.pk].key: case.event.pk for case in reversed(cases) if case.event.pk in told}
    unpaid = {}
    for case in cases:
        one = told.get(case.event.pk)
        is_news = one is not None and one.key in remembered.new and news_of[one.key] == case.event.pk
        if one is not None and not is_news and _is_conflict(one, remembered):
            case.event.settle(Status.IGNORED, note="conflict: a known message id with another content")
            continue
        if one is not None and is_subscription_placeholder(one.seen.text):
            case.event.note = "Avito's placeholder for a missing subscription"
            if is_news and one.chat.account is not None:
                unpaid[one.chat.account.pk] = one.chat.account
        case.event.settle(Status.PROCESSED, error="")
    for _number, account in sorted(unpaid.items()):
        accounts_news.messenger_unpaid(account)


def _is_conflict(told: Told, remembered: memory.Remembered) -> bool:
    """Do we have other words under this id, or the same in another chat?"""
    known = remembered.rows.get(told.key)
    if known is None or known.chat_id != told.chat.pk:
        return True
    says_nothing = told.seen.type == "deleted" or is_subscription_placeholder(told.seen.text)
    return not says_nothing and memory.plain(known.text) != memory.plain(told.seen.text)


def _write(events: Sequence[WebhookEvent]) -> None:
    bulk.write(events, WebhookEvent.OUTCOME)
    if any(event.status == Status.DEAD for event in events):
        news.events_died()
