"""Eternal online: each enabled account gives a sign of life at its own interval; recorded is what happened.

An account's next slot is a column. Whoever claims a slot moves the column to the next one in the same statement, so a
slot is served at most once, whoever dies, sleeps or comes second. Slots of an account are one interval apart, nudged a
little towards its own place in the interval, so that accounts enabled together drift apart.

No crowd comes after an outage: a late slot moves to some moment within the tolerance that is left to it, and one that
was missed by more than the tolerance is not made up for, as the next one comes within the interval.

All moments are the database's: hosts may disagree about the time, or jump. Between two of them a host only measures.
"""

import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import structlog
from django.conf import settings
from django.db import connection, connections, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

import avito
import doorbell
from avito_accounts import limits, services
from avito_accounts.errors import AccountUnusable, code_of, text_of
from avito_accounts.models import WITHIN_AN_INTERVAL, Account, database_now
from avito_accounts.proxies import is_resting
from messenger.models import PresenceAttempt
from notifications import events

log = structlog.get_logger(__name__)

HANDS = 64
"""Signs of life that one process gives at the same time."""
AT_HAND = 16
"""Slots more than hands are claimed, so that no hand waits while results are written."""
BATCH_SECONDS = 0.1
"""How long results are gathered before they are written together, and their hands get other work."""
PATIENCE_SECONDS = 5.0
BACKOFF_SECONDS_MAX = 1800
HISTORY_KEPT = timedelta(days=3)
HISTORY_BATCH = 10_000
TOLERANCE_SHARE, TOLERANCE_SECONDS = 0.05, 5.0
"""By how much of its interval, and by how much beside, a sign may miss its time."""
LATE_SECONDS, OFFLINE_WAITS_SECONDS = 2.0, 3.0
"""A slot is late when nobody was there to serve it for longer than a look and a full hand take. Who is not online,
perhaps since a person has just switched it on, waits only so much more.
"""

# The place of an account in its interval, from 0 to the interval: neighbours in id lie far apart.
_PLACE = "mod(account.id * 2654435761, online_keep_alive_interval)"
_NEXT_PLACE = f"""to_timestamp({_PLACE} + online_keep_alive_interval * (
        floor((extract(epoch FROM now) - {_PLACE}) / online_keep_alive_interval) + 1))"""
# How far a slot lies from the account's place, from minus to plus half an interval.
_AWAY = f"""mod(mod({_PLACE} - extract(epoch FROM slot), online_keep_alive_interval)
            + 1.5 * online_keep_alive_interval, online_keep_alive_interval) - 0.5 * online_keep_alive_interval"""

CLAIM = f"""
WITH due AS (
    SELECT account.id, account.online_due_at AS slot, now,
           extract(epoch FROM now - account.online_due_at) AS late,
           %(share)s * online_keep_alive_interval + %(seconds)s AS tolerance,
           coalesce(last_online_at > now - make_interval(secs => 2 * online_keep_alive_interval), false) AS is_online,
           account.online_due_at - last_online_at < make_interval(secs => 0.5 * online_keep_alive_interval)
               AS is_awaited
    FROM avito_accounts_account account
    CROSS JOIN (SELECT coalesce(%(now)s, clock_timestamp()) AS now) clock
    WHERE account.online_due_at <= now
      AND account.connection_error_code <> 'invalid_client'
      AND account.connection_status <> 'needs_reconnect'
      AND NOT EXISTS (SELECT FROM avito_accounts_authorization dead
                      WHERE dead.account_id = account.id AND dead.dead_reason <> '')
    ORDER BY account.online_due_at
    LIMIT %(count)s
    FOR UPDATE OF account SKIP LOCKED
)
UPDATE avito_accounts_account account
SET online_due_at = CASE
    WHEN late > tolerance THEN {_NEXT_PLACE}
    WHEN late > %(late)s THEN now + make_interval(secs => random() * least(
        tolerance - late, CASE WHEN is_online AND NOT is_awaited THEN tolerance ELSE %(offline)s END)::float)
    ELSE slot + make_interval(secs => (online_keep_alive_interval + greatest(
        -0.04 * online_keep_alive_interval - 2, least(0.04 * online_keep_alive_interval + 2,
            {_AWAY})))::float) END,
    online_status_unknown_until = CASE WHEN online_status_unknown_until > now THEN online_status_unknown_until END
FROM due WHERE due.id = account.id
RETURNING account.id, late > %(late)s, late > tolerance
"""  # noqa: S608  made of our own words alone

# In one order, so that two who record never block each other.
LOCK = "SELECT id, online_error_code = '' FROM avito_accounts_account WHERE id = ANY(%s) ORDER BY id FOR NO KEY UPDATE"
RECORD = """
UPDATE avito_accounts_account account SET
    online_method = CASE WHEN code = '' THEN method ELSE online_method END,
    last_online_at = CASE WHEN code = '' THEN greatest(last_online_at, at) ELSE last_online_at END,
    online_error_code = code,
    online_error_detail = detail,
    online_failures = CASE WHEN code = '' THEN 0 ELSE least(online_failures + 1, 1000) END,
    online_status_unknown_until = CASE
        WHEN status_is_unknown THEN at + make_interval(secs => %s) ELSE online_status_unknown_until END,
    online_due_at = CASE
        WHEN online_due_at IS NULL THEN NULL
        WHEN code = '' THEN least(online_due_at, at + make_interval(secs => 1.05 * online_keep_alive_interval + 5))
        WHEN keeps_slot THEN online_due_at
        ELSE greatest(online_due_at, at + make_interval(secs => spread * least(
            online_keep_alive_interval * power(2, least(online_failures, 10)),
            greatest(online_keep_alive_interval, %s)))) END
FROM unnest(%s::bigint[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::bool[], %s::float[], %s::bool[])
    AS result (account_id, at, method, code, detail, status_is_unknown, spread, keeps_slot)
WHERE account.id = result.account_id AND (code = '' OR last_online_at IS NULL OR at >= last_online_at)
"""


@dataclass(frozen=True, slots=True)
class Attempt:
    """What came of one sign of life.

    `began`: by this process's `time.monotonic`. `method`: the call that Avito accepted, or "". `error`: why it failed.
    `status_is_unknown`: Avito has just said that it knows no status call.
    """

    account_id: int
    began: float
    method: str
    latency_ms: int | None
    error: Exception | None = None
    status_is_unknown: bool = False
    by_hand: bool = False

    @property
    def keeps_slot(self) -> bool:
        """The next slot stays where it is: a pause is no failure of the account's, nor is what a person tries."""
        is_pause = isinstance(self.error, avito.RateLimited) or (self.error is not None and is_resting(self.error))
        return self.by_hand or is_pause

    @property
    def code(self) -> str:
        return code_of(self.error) if self.error else ""

    @property
    def detail(self) -> str:
        return text_of(self.error)[:500] if self.error else ""


def enable(account: Account, *, interval: int | None = None) -> Account:
    """Keep the account online from now on; without `interval` the stored one stays."""
    account.eternal_online_enabled = True
    changed = {"eternal_online_enabled"}
    if interval is not None:
        account.online_keep_alive_interval = interval
        changed.add("online_keep_alive_interval")
    return services.save(account, changed)


def disable(account: Account) -> Account:
    account.eternal_online_enabled = False
    return services.save(account, {"eternal_online_enabled"})


def enable_many(accounts: QuerySet[Account]) -> int:
    """Keep these accounts online; the first signs come spread, each within its interval. How many were off before."""
    return _switch(accounts, True, online_due_at=WITHIN_AN_INTERVAL)


def disable_many(accounts: QuerySet[Account]) -> int:
    """Leave these accounts alone from now on. How many were on before."""
    return _switch(accounts, False, online_due_at=None)


def _switch(accounts: QuerySet[Account], enabled: bool, **fields: Any) -> int:
    """As `services.save` does it for one, the history included."""
    others = Account.objects.filter(pk__in=accounts.order_by().values("pk"), eternal_online_enabled=not enabled)
    with transaction.atomic():
        locked = list(others.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))
        switched = Account.objects.filter(pk__in=locked)
        switched.update(eternal_online_enabled=enabled, online_failures=0, updated_at=Now(), **fields)
        Account.history.bulk_history_create(switched, batch_size=HISTORY_BATCH, update=True)
        events.emit("account.updated", *locked)
    return len(locked)


def set_online(account: Account) -> Account:
    """Give a sign of life now, because a person wants it. Raises AvitoError, AccountUnusable, after recording it."""
    attempt = give_sign(account, by_hand=True)
    record([attempt])
    account.refresh_from_db()
    if attempt.error is not None:
        raise attempt.error
    return account


def give_sign(account: Account, *, by_hand: bool = False, until: float | None = None) -> Attempt:
    """Call Avito; failures are results, not exceptions.

    The status call first, unless Avito has said of late that it knows none, and then a call that counts as activity.
    `account`: as it was claimed. `by_hand`: a person wants it; then the status call is made although it was unknown.
    `until`: a moment of `time.monotonic` after which nothing is sent, and the attempt has the error avito.TooLate.
    """
    began, path = time.monotonic(), settings.AVITO_ONLINE_STATUS_PATH
    asks = path != "off" and (by_hand or account.online_status_unknown_until is None)
    method, error, is_unknown = "", None, False
    try:
        user_id = services.user_id(account)
        if asks:
            try:
                services.call(account, lambda client: client.presence.report_online(user_id, path=path), until=until)
                method = "status"
            except avito.NotFound:
                is_unknown = True
        if not method:
            services.recognise(account, services.call(account, lambda client: client.user.me(), until=until))
            method = "activity"
    except (avito.AvitoError, AccountUnusable) as caught:
        error = caught
    latency = None if error else round((time.monotonic() - began) * 1000)
    return Attempt(account.pk, began, method, latency, error, is_unknown, by_hand)


def keep_online() -> None:
    """Serve the slots that are due, until none is. One per process at a time; several processes share the work."""
    with _one_at_a_time:
        hands = _hands()
        while True:
            if hands.done:
                record(hands.done)
                hands.done.clear()
            free = 0 if doorbell.stopping.is_set() else HANDS + AT_HAND - len(hands.under_way)
            claimed = claim(free) if free > 0 else []
            hands.under_way |= {hands.pool.submit(_served, account) for account in claimed}
            if not hands.under_way:
                return
            connection.close()  # while Avito is waited for
            done, hands.under_way = wait(hands.under_way, timeout=BATCH_SECONDS)
            hands.done += filter(None, (future.result() for future in done))


class _Hands:
    """The threads of this process, and what they have in hand: it outlives a database that goes away meanwhile."""

    def __init__(self) -> None:
        self.pool = ThreadPoolExecutor(HANDS, thread_name_prefix="presence")
        self.under_way: set[Future[Attempt | None]] = set()
        self.done: list[Attempt] = []


_one_at_a_time = threading.Lock()
_hands = cache(_Hands)


def _served(account: Account) -> Attempt | None:
    """None if this process was stopped for so long that the slot is over; others may be at the next one by now."""
    began = time.monotonic()
    until = account.read_at + TOLERANCE_SHARE * account.online_keep_alive_interval + TOLERANCE_SECONDS
    try:
        with limits.background(PATIENCE_SECONDS):
            attempt = give_sign(account, until=until)
        if not isinstance(attempt.error, avito.TooLate):
            return attempt
        log.warning("presence_slot_over", account_id=account.pk)
        return None
    except Exception as error:  # one account's trouble is not the others'
        log.exception("presence_failed", account_id=account.pk)
        return Attempt(account.pk, began, "", None, error)
    finally:
        connections.close_all()


def claim(count: int, *, now: datetime | None = None) -> list[Account]:
    """Take up to `count` due slots, for good. Those that are late move on unserved. `now`: for tests."""
    mine: list[int] = []
    asked = {
        "share": TOLERANCE_SHARE,
        "seconds": TOLERANCE_SECONDS,
        "late": LATE_SECONDS,
        "offline": OFFLINE_WAITS_SECONDS,
    }
    while not mine:
        here = time.monotonic()
        with connection.cursor() as cursor:
            cursor.execute(CLAIM, {**asked, "count": count, "now": now})
            rows = cursor.fetchall()
        mine = [account_id for account_id, is_late, _is_missed in rows if not is_late]
        if len(mine) < len(rows):
            missed = sum(is_missed for *_, is_missed in rows)
            log.warning("presence_slots_late", count=len(rows) - len(mine), missed=missed)
        if len(rows) < count:
            break
    if not mine:
        return []
    accounts = list(Account.objects.select_related("authorization", "proxy").filter(pk__in=mine))
    for account in accounts:
        account.read_at = here  # not later than the claim, though this process may have been stopped in between
    return accounts


def record(attempts: Sequence[Attempt], *, now: datetime | None = None) -> None:
    """Write down what happened, in a few statements whatever the number. Repeated failure makes the next slot later.

    `now`: for tests.
    """
    now, here = now or database_now(), time.monotonic()
    timed = [(one, now - timedelta(seconds=here - one.began)) for one in attempts]
    rows = [
        (one.account_id, at, one.method, one.code, one.detail, one.status_is_unknown,
         random.uniform(0.9, 1.1), one.keeps_slot)  # noqa: S311
        for one, at in timed
    ]  # fmt: skip
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute(LOCK, [[one.account_id for one in attempts]])
            was_fine = dict(cursor.fetchall())
            seconds = settings.AVITO_ONLINE_STATUS_AGAIN_SECONDS, BACKOFF_SECONDS_MAX
            cursor.execute(RECORD, [*seconds, *map(list, zip(*rows, strict=True))])
        PresenceAttempt.objects.bulk_create(
            PresenceAttempt(
                account_id=one.account_id,
                at=at,
                method=one.method,
                code=one.code,
                detail=one.detail,
                latency_ms=one.latency_ms,
            )
            for one, at in timed
            if one.account_id in was_fine
        )
        # A sign of life every minute is no news; that they fail, or no longer do, is.
        turned = [one for one in attempts if was_fine.get(one.account_id, not one.code) != (not one.code)]
        events.emit("account.updated", *(one.account_id for one in turned))


def forget_old() -> None:
    """History is kept for a few days; deleted in batches, each on its own."""
    old = PresenceAttempt.objects.filter(at__lt=Now() - HISTORY_KEPT)
    while PresenceAttempt.objects.filter(pk__in=list(old.values_list("pk", flat=True)[:HISTORY_BATCH])).delete()[0]:
        pass
