"""The queue of connections: one row each, due at a time, held by one worker at a time.

A worker claims rows for a while, fairly over owners and with nights that have to close ahead of everything; it renews
its claim before each call, and writes nothing once somebody else has the row. Whoever dies is replaced when the claim
ends. All moments are the database's.
"""

import random
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from django.db import connection, transaction
from django.db.models import F, QuerySet
from django.db.models.functions import Coalesce, Now

from doorbell import ring_on_commit
from integrations_str import calendar
from integrations_str.models import ITEM_ERRORS, Integration, SyncTask

log = structlog.get_logger(__name__)

LEASE_SECONDS = 60
CALL_WITHIN_SECONDS = 30
"""After a renewal no call leaves later than this, so its answer is in before another worker may have the row."""
QUIET_SECONDS, QUIET_SECONDS_MAX = 1.0, 10.0
"""A change waits for more changes so long, and all of them together no longer than that."""
TRIES_MAX = 12
DEATHS_MAX = 3
ITEM_AGAIN_SECONDS = 3600
"""How often an item that is out of reach is asked for again."""

# Whose account works at all, as far as we know; the others' rows rest where they are.
_USABLE = """
    account.connection_error_code <> 'invalid_client' AND account.connection_status <> 'needs_reconnect'
    AND account.avito_user_id IS NOT NULL
    AND (authorization_row.dead_reason = ''
         OR (authorization_row.id IS NULL AND account.client_id <> '' AND account.client_secret <> ''))"""
_PUSH_DUE = "coalesce(push_at <= clock.now AND dead_at IS NULL AND pull_error_code <> ALL(%(item_errors)s), false)"
_DUE = f"least(CASE WHEN {_PUSH_DUE} THEN push_at END, pull_at)"

# An owner's prices wait while a night of theirs is to close, also one that another worker has in hand. Turns come
# before any row is locked: each owner's first row comes before anybody's second.
CLAIM = f"""
WITH due AS (
    SELECT task.id, property.owner_id, clock.now, claimed_until, deaths, {_DUE} AS due,
           is_closing AND {_PUSH_DUE} AS first, {_PUSH_DUE} AS pushes, pull_at <= clock.now AS pulls,
           bool_or(is_closing AND {_PUSH_DUE}) OVER (PARTITION BY property.owner_id) AS owner_closes
    FROM integrations_str_synctask task
    CROSS JOIN (SELECT coalesce(%(now)s, clock_timestamp()) AS now) clock
    JOIN integrations_str_integration integration ON integration.id = task.integration_id
    JOIN integrations_str_property property ON property.id = integration.property_id
    JOIN avito_accounts_account account ON account.id = integration.account_id
    LEFT JOIN avito_accounts_authorization authorization_row ON authorization_row.account_id = account.id
    WHERE (pull_at <= clock.now OR {_PUSH_DUE})
      AND integration.disconnected_at IS NULL AND integration.is_active AND {_USABLE}
), ready AS (
    SELECT id, owner_id, now, first, due, pushes AND (first OR NOT owner_closes) AS pushes, pulls,
           row_number() OVER (PARTITION BY owner_id, first ORDER BY due) AS turn
    FROM due
    WHERE (claimed_until IS NULL OR claimed_until < now) AND (claimed_until IS NOT NULL AND deaths > 0) = %(suspects)s
      AND (first OR pulls OR NOT owner_closes) AND (first OR NOT %(closings_only)s)
    ORDER BY first DESC, turn, due
    LIMIT %(count)s
), mine AS (
    SELECT task.id, ready.owner_id, ready.now, ready.first, ready.pushes, ready.pulls,
           task.claimed_until IS NOT NULL AS was_dropped
    FROM integrations_str_synctask task JOIN ready ON ready.id = task.id
    WHERE claimed_until IS NULL OR claimed_until < ready.now
    FOR UPDATE OF task SKIP LOCKED
)
UPDATE integrations_str_synctask task
SET claim = claim + 1, claimed_until = mine.now + make_interval(secs => %(lease)s),
    deaths = CASE WHEN was_dropped THEN deaths + 1 ELSE 0 END
FROM mine WHERE task.id = mine.id
RETURNING task.id, task.integration_id, mine.owner_id, task.claim, task.wanted, task.deaths,
          mine.first, mine.pushes, mine.pulls, push_failures, pull_failures
"""  # noqa: S608  made of our own words alone


class Lost(Exception):
    """Somebody else has the row by now, or it is gone: nothing more may be sent or written for it."""


@dataclass(slots=True)
class Claim:
    """A row in hand, as it was when it was taken. `owner_id`: on whose behalf; no other's rows are to be touched.

    `until`: a moment of `time.monotonic` after which no call may leave.
    """

    task_id: int
    integration_id: int
    owner_id: int
    number: int
    wanted: int
    deaths: int
    is_closing: bool
    pushes: bool
    pulls: bool
    push_failures: int
    pull_failures: int
    until: float = 0.0

    @property
    def row(self) -> QuerySet[SyncTask]:
        """The row, as long as it is ours."""
        return SyncTask.objects.filter(pk=self.task_id, claim=self.number)

    def renew(self) -> None:
        """To be said before every call; raises Lost, also when the connection was paused or ended meanwhile."""
        here = time.monotonic()
        row = self.row.filter(integration__is_active=True, integration__disconnected_at=None)
        if not row.update(claimed_until=_in(LEASE_SECONDS)):
            raise Lost
        self.until = here + CALL_WITHIN_SECONDS

    def lock(self) -> SyncTask:
        """Inside a transaction: hold the row until its end; raises Lost."""
        task = self.row.select_for_update().first()
        if task is None:
            raise Lost
        return task

    def let_go(self) -> None:
        self.row.update(claimed_until=None)


def claim(
    count: int, *, closings_only: bool = False, suspects: bool = False, now: datetime | None = None
) -> list[Claim]:
    """Take up to `count` rows that are due. `suspects`: those in whose hands several workers have died, and no others.

    `now`: for tests.
    """
    here = time.monotonic()
    asked = {
        "count": count,
        "closings_only": closings_only,
        "suspects": suspects,
        "now": now,
        "lease": LEASE_SECONDS,
        "item_errors": list(ITEM_ERRORS),
    }
    with connection.cursor() as cursor:
        cursor.execute(CLAIM, asked)
        taken = [Claim(*row) for row in cursor.fetchall()]
    for one in taken:
        one.until = here + CALL_WITHIN_SECONDS
    return sorted(taken, key=lambda one: not one.is_closing)


def hold(integration_id: int) -> Claim | None:
    """Take a connection's row out of its turn, for a person; None while a worker has it."""
    free = SyncTask.objects.filter(integration=integration_id, claimed_until=None) | SyncTask.objects.filter(
        integration=integration_id, claimed_until__lt=Now()
    )
    with transaction.atomic():
        task = free.select_related("integration__property").select_for_update(of=("self",), skip_locked=True).first()
        if task is None:
            return None
        SyncTask.objects.filter(pk=task.pk).update(claim=F("claim") + 1, claimed_until=_in(LEASE_SECONDS))
    return Claim(
        task.pk, integration_id, task.integration.property.owner_id, task.claim + 1, task.wanted, task.deaths,
        False, False, False, task.push_failures, task.pull_failures, time.monotonic() + CALL_WITHIN_SECONDS,
    )  # fmt: skip


# An edit of what fails already waits with it, unless nights have to close; what was given up gets another chance.
TOUCH = """
UPDATE integrations_str_synctask task
SET wanted = wanted + 1,
    is_closing = is_closing OR %(closes)s,
    dirty_since = coalesce(dirty_since, clock.now),
    edited_at = CASE WHEN %(by_person)s THEN clock.now ELSE edited_at END,
    push_at = CASE
        WHEN %(closes)s THEN clock.now
        WHEN push_at IS NOT NULL AND (is_closing OR push_error_code = ANY(%(item_errors)s)
                                      OR (push_failures > 0 AND dead_at IS NULL)) THEN push_at
        ELSE least(clock.now + make_interval(secs => %(quiet)s),
                   coalesce(dirty_since, clock.now) + make_interval(secs => %(most)s)) END,
    push_failures = CASE WHEN dead_at IS NULL THEN push_failures ELSE 0 END,
    dead_at = NULL,
    waits_for_consent = false
FROM integrations_str_integration integration, (SELECT clock_timestamp() AS now) clock
WHERE integration.id = task.integration_id AND integration.disconnected_at IS NULL
  AND integration.property_id = ANY(%(properties)s)
RETURNING dirty_since = clock.now OR push_at <= clock.now
"""


def touch(*property_ids: int, closes: bool = False, by_person: bool = True) -> None:
    """What Avito should have of these properties may have changed; belongs into the transaction of the change.

    `closes`: nights have to close, which waits for nothing.
    """
    from integrations_str import tasks

    asked: dict[str, Any] = {
        "closes": closes,
        "by_person": by_person,
        "item_errors": list(ITEM_ERRORS),
        "quiet": QUIET_SECONDS,
        "most": QUIET_SECONDS_MAX,
        "properties": list(property_ids),
    }
    with connection.cursor() as cursor:
        cursor.execute(TOUCH, asked)
        is_news = any(is_first for (is_first,) in cursor.fetchall())
    if is_news or closes:  # else the worker that was rung for before is still waiting for the last change
        ring_on_commit(tasks.serve)


def due_now(integration: Integration) -> None:
    """A person wants the bookings read and the differences sent at once, also where that was given up."""
    push_now(integration, pull_at=Now(), pull_failures=0)


def push_now(integration: Integration, **more: Any) -> None:
    """Send what differs at once, whatever happened before."""
    from integrations_str import tasks

    with transaction.atomic():
        SyncTask.objects.filter(integration=integration).update(
            wanted=F("wanted") + 1,
            push_at=Now(),
            dirty_since=Coalesce("dirty_since", Now()),
            dead_at=None,
            push_failures=0,
            waits_for_consent=False,
            **more,
        )
        ring_on_commit(tasks.serve)


def next_push_in() -> float | None:
    """Seconds until the next change has waited long enough; None when none waits."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT extract(epoch FROM min(push_at) - clock_timestamp()) FROM integrations_str_synctask"
            " WHERE push_at > clock_timestamp() AND dead_at IS NULL AND push_failures = 0"
        )
        (seconds,) = cursor.fetchone()
    return None if seconds is None else float(seconds)


def pushed(claim: Claim, *, left_days: int = 0, more: bool = False) -> None:
    """All that could be sent is there. `left_days`: refused, or waiting. `more`: prices still wait for their turn."""
    _write(claim, """
        is_closing = is_closing AND wanted <> %(wanted)s,
        push_at = CASE WHEN %(more)s OR (is_closing AND wanted <> %(wanted)s) THEN clock_timestamp()
                       WHEN wanted <> %(wanted)s THEN clock_timestamp() + make_interval(secs => %(quiet)s) END,
        dirty_since = CASE WHEN %(more)s OR wanted <> %(wanted)s THEN clock_timestamp() END,
        push_failures = 0, push_error_code = '', push_error_detail = '', left_days = %(left_days)s
    """, wanted=claim.wanted, more=more, left_days=left_days, quiet=QUIET_SECONDS)  # fmt: skip


def push_refused(claim: Claim, code: str, detail: str, *, left_days: int, more: bool) -> None:
    """Avito has rejected some days: they wait for the owner. `more`: others can be sent without them."""
    pushed(claim, left_days=left_days, more=more)
    _write(claim, "push_error_code = %(code)s, push_error_detail = %(detail)s", code=code, detail=detail)


def push_waits_for_consent(claim: Claim) -> None:
    _write(claim, """
        waits_for_consent = wanted = %(wanted)s,
        push_at = CASE WHEN wanted <> %(wanted)s THEN push_at END
    """, wanted=claim.wanted)  # fmt: skip


def push_failed(claim: Claim, code: str, detail: str) -> bool:
    """It may go better later. True when it was given up now: after TRIES_MAX in a row, but for nights to close."""
    failures = claim.push_failures + 1
    is_dead = failures >= TRIES_MAX and not claim.is_closing
    wait = calendar.backoff_seconds(failures, is_closing=claim.is_closing, chance=random.random())  # noqa: S311
    _write(claim, """
        push_failures = %(failures)s, push_error_code = %(code)s, push_error_detail = %(detail)s,
        push_at = CASE WHEN is_closing AND NOT %(is_closing)s THEN push_at
                       ELSE clock_timestamp() + make_interval(secs => %(wait)s) END,
        dead_at = CASE WHEN %(is_dead)s AND NOT is_closing THEN clock_timestamp() END
    """, failures=min(failures, 30_000), code=code, detail=detail, is_closing=claim.is_closing, wait=wait,
        is_dead=is_dead)  # fmt: skip
    return is_dead


def item_refused(claim: Claim, code: str, detail: str) -> None:
    """The item takes no writes: tried again once an hour, and when a person says so. Bookings are read as ever."""
    _write(claim, """
        push_error_code = %(code)s, push_error_detail = %(detail)s,
        push_at = clock_timestamp() + make_interval(secs => %(wait)s)
    """, wait=ITEM_AGAIN_SECONDS * (0.9 + 0.2 * random.random()), code=code, detail=detail)  # fmt: skip  # noqa: S311


def pulled(claim: Claim, *, next_in: float) -> None:
    _write(claim, """
        pull_at = clock_timestamp() + make_interval(secs => %(wait)s),
        pull_failures = 0, pull_error_code = '', pull_error_detail = ''
    """, wait=next_in)  # fmt: skip


def pull_failed(claim: Claim, code: str, detail: str) -> None:
    failures = claim.pull_failures + 1
    wait = calendar.backoff_seconds(failures, is_closing=False, chance=random.random())  # noqa: S311
    if code in ITEM_ERRORS:
        wait = ITEM_AGAIN_SECONDS * (0.9 + 0.2 * random.random())  # noqa: S311
    _write(claim, """
        pull_at = clock_timestamp() + make_interval(secs => %(wait)s),
        pull_failures = %(failures)s, pull_error_code = %(code)s, pull_error_detail = %(detail)s
    """, wait=wait, failures=min(failures, 30_000), code=code, detail=detail)  # fmt: skip


def account_failed(claim: Claim, code: str, detail: str, *, again_in: float) -> None:
    """The account cannot be used: nothing counts as the connection's failure, its row waits for the account."""
    put_off(claim, again_in)
    _write(claim, "pull_error_code = %(code)s, pull_error_detail = %(detail)s", code=code, detail=detail)


def put_off(claim: Claim, seconds: float) -> None:
    """Avito, or our own budget, asks for a pause: everything of this row waits, and nothing counts as a failure."""
    wait = seconds * (1 + 0.2 * random.random())  # noqa: S311
    _write(claim, """
        push_at = CASE WHEN push_at IS NOT NULL
                       THEN greatest(push_at, clock_timestamp() + make_interval(secs => %(wait)s)) END,
        pull_at = greatest(pull_at, clock_timestamp() + make_interval(secs => %(wait)s))
    """, wait=wait)  # fmt: skip


def _write(claim: Claim, assignments: str, **values: Any) -> None:
    """Only as long as the row is ours; raises Lost."""
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE integrations_str_synctask SET {assignments} WHERE id = %(id)s AND claim = %(claim)s",  # noqa: S608
            {"id": claim.task_id, "claim": claim.number, **values},
        )
        if not cursor.rowcount:
            raise Lost


def _in(seconds: float) -> Any:
    return Now() + timedelta(seconds=seconds)


def isolate(claim: Claim) -> None:
    """Workers die of it: given up, until somebody has looked; bookings are tried again once an hour."""
    _write(claim, """
        dead_at = clock_timestamp(), push_error_code = 'worker_died', push_error_detail = '',
        pull_at = clock_timestamp() + make_interval(secs => %(wait)s), is_closing = false
    """, wait=ITEM_AGAIN_SECONDS)  # fmt: skip
