"""Work on many accounts: one row a job, done by the lanes of the workers, with progress that people can watch.

A lane claims the next waiting job, does it, and writes the outcome if the claim is still its own. While it works it
keeps saying so; a job whose worker has gone silent is taken by another one.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

import structlog
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.expressions import CombinedExpression
from django.db.models.functions import Now
from django.utils import timezone

import avito
import doorbell
from avito_accounts import checks, limits, statistics, webhooks
from avito_accounts.errors import AccountUnusable, code_of
from avito_accounts.models import Account, Job, Run

log = structlog.get_logger(__name__)

LEASE_SECONDS = 60
DEATHS_MAX = 3
PUT_OFFS_MAX = 12
PUT_OFF_SECONDS_MAX = 300
RUNS_KEPT = timedelta(days=30)
FRESH = timedelta(minutes=2)
"""Figures that are younger are not read again by themselves."""


def start_run(kind: str, *, user: User | None, accounts: QuerySet[Account] | None = None) -> tuple[Run, int]:
    """Queue these accounts, or all of them; returns the run and how many of its jobs wait.

    While a run of this kind is under way it is joined. Who asks for webhooks wants them also where a person has taken
    them off before.
    """
    asked = Account.objects.all() if accounts is None else accounts
    if kind == Run.Kind.SUBSCRIBE:
        webhooks.want(asked)
    with transaction.atomic():
        run = _open_run(kind, user)
        queue(kind, asked.exclude(pk__in=run.jobs.values("account")), run=run)
        waiting = run.jobs.filter(finished_at=None).count()
        if not waiting:
            _finish_runs()
    return run, waiting


def _open_run(kind: str, user: User | None) -> Run:
    """The run of this kind that is under way, locked, or a new one."""
    while True:
        Run.objects.bulk_create([Run(kind=kind, started_by=user)], ignore_conflicts=True)
        run = Run.objects.select_for_update().filter(kind=kind, finished_at=None).first()
        if run is not None:  # else it has ended since we were told that there is one
            return run


def queue(kind: str, accounts: QuerySet[Account], *, run: Run | None = None, after: timedelta = timedelta(0)) -> int:
    """Let workers do this for these accounts; what waits already does not wait twice. Returns how many were added.

    `after`: so much later, and figures that a person has read meanwhile are not read again.
    """
    now = timezone.now() + after
    rows = [Job(kind=kind, account_id=pk, run=run, due_at=now) for pk in accounts.values_list("pk", flat=True)]
    before = Job.objects.filter(kind=kind, finished_at=None)
    if run is not None:
        before.filter(run=None, account__in=accounts.values("pk")).update(run=run, due_at=now)
    count = before.count()
    Job.objects.bulk_create(rows, ignore_conflicts=True, batch_size=1000)
    return before.count() - count


def queue_due(kind: str, accounts: QuerySet[Account], *, every: timedelta, at_field: str, share: float) -> int:
    """Queue those of these accounts whose last time is `every` ago.

    At most as many as `share` of all accounts at once, so they stay spread.
    """
    late = Q(**{at_field: None}) | Q(**{f"{at_field}__lte": timezone.now() - every})
    waiting = Job.objects.filter(account=OuterRef("pk"), kind=kind, finished_at=None)
    due = accounts.filter(late).exclude(Exists(waiting))
    most = max(10, round(Account.objects.count() * share))
    ids = list(due.order_by(F(at_field).asc(nulls_first=True)).values_list("pk", flat=True)[:most])
    return queue(kind, Account.objects.filter(pk__in=ids)) if ids else 0


def work() -> None:
    """One lane: do waiting jobs, one after the other, until there is none or the worker is to stop."""
    while not doorbell.stopping.is_set() and (job := claim()) is not None:
        _do(job)


def claim() -> Job | None:
    """Take the next job: those that a person waits for first. Jobs of workers that died come back here."""
    # Leases are told by the clock of the database: those of the workers' hosts may differ.
    free = Q(claimed_until=None) | Q(claimed_until__lt=Now())
    with transaction.atomic():
        waiting = Job.objects.filter(free, finished_at=None, due_at__lte=Now())
        job = (
            waiting.order_by(F("run").asc(nulls_last=True), "due_at", "id")
            .select_for_update(skip_locked=True, of=("self",))
            .first()
        )
        if job is None:
            return None
        job.deaths += job.claimed_until is not None
        job.claim += 1
        Job.objects.filter(pk=job.pk).update(deaths=job.deaths, claim=job.claim, claimed_until=_lease_end())
    return job


def _lease_end() -> CombinedExpression:
    return Now() + timedelta(seconds=LEASE_SECONDS)


def _do(job: Job) -> None:
    if job.deaths >= DEATHS_MAX:
        _finish(job, "worker_died")
        return
    account = Account.objects.select_related("authorization", "proxy").filter(pk=job.account_id).first()
    if account is None:
        return
    if job.run_id is None and job.kind == Job.Kind.SYNC and _is_fresh(account, job):
        _finish(job, "")
        return
    try:
        with _holding(job), limits.background():
            code = WORK[job.kind](account, job)
    except avito.RateLimited as error:
        _put_off(job, error.retry_after_seconds or 30)
    except (avito.AvitoError, AccountUnusable) as error:
        _finish(job, code_of(error))
    except Exception:
        log.exception("job_failed", job_id=job.pk, kind=job.kind, account_id=job.account_id)
        _finish(job, "error")
    else:
        _finish(job, code)


def _is_fresh(account: Account, job: Job) -> bool:
    """Somebody has read the figures while the job waited, or just before: Avito counts how often we ask."""
    return account.last_sync_at is not None and account.last_sync_at > job.due_at - FRESH and not account.sync_failures


def _check(account: Account, job: Job) -> str:
    # Whoever has asked for the run wants to know at once; a failure that nobody asked about has to happen twice.
    check = checks.check_connection(account, by_person=False, is_certain=job.run_id is not None)
    if isinstance(check.error, avito.RateLimited):
        raise check.error
    return code_of(check.error) if check.error else ""


def _sync(account: Account, job: Job) -> str:
    synced = statistics.sync(account, with_missed_days=True)
    for error in synced.failures.values():
        if isinstance(error, avito.RateLimited):  # what could be read is kept; the rest is worth another try
            raise error
    return next((code_of(error) for error in synced.failures.values()), "")


def _subscribe(account: Account, job: Job) -> str:
    webhooks.look_after(account)
    return ""


WORK: dict[str, Callable[[Account, Job], str]] = {
    Job.Kind.CHECK: _check,
    Job.Kind.SYNC: _sync,
    Job.Kind.SUBSCRIBE: _subscribe,
}


@contextmanager
def _holding(job: Job) -> Iterator[None]:
    """Keep the claim alive while the work lasts, from a thread of its own: the work may wait for Avito."""
    done = threading.Event()

    def hold() -> None:
        while not done.wait(LEASE_SECONDS / 3):
            try:
                _mine(job).update(claimed_until=_lease_end())
            except Exception as error:  # the database may be away: try again while there is time
                log.warning("job_not_held", job_id=job.pk, error=type(error).__name__)
            finally:
                connection.close()

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _mine(job: Job) -> QuerySet[Job]:
    return Job.objects.filter(pk=job.pk, claim=job.claim, finished_at=None)


def _put_off(job: Job, seconds: int) -> None:
    """Avito asked for a pause: later, but not for ever."""
    if job.put_offs >= PUT_OFFS_MAX:
        _finish(job, "avito_rate_limited")
        return
    later = timezone.now() + timedelta(seconds=min(seconds, PUT_OFF_SECONDS_MAX))
    _mine(job).update(due_at=later, claimed_until=None, put_offs=job.put_offs + 1)


def _finish(job: Job, code: str) -> None:
    """Write the outcome; a job that nobody watches is simply gone."""
    if job.run_id is None and _mine(job).filter(run=None).delete()[0]:
        return
    if _mine(job).update(finished_at=timezone.now(), claimed_until=None, error_code=code):
        _finish_runs()  # after the job's own commit: who adds jobs to the run holds it and waits for the job


def _finish_runs() -> None:
    """End the runs that have nothing left to do."""
    waiting = Job.objects.filter(run=OuterRef("pk"), finished_at=None)
    with transaction.atomic():
        # Locked first and asked then: jobs that are being added to a run count.
        running = [run.pk for run in Run.objects.select_for_update().filter(finished_at=None)]
        Run.objects.filter(~Exists(waiting), pk__in=running).update(finished_at=timezone.now())


def tidy() -> None:
    """End runs whose last account was deleted, forget old ones."""
    _finish_runs()
    Run.objects.filter(finished_at__lt=timezone.now() - RUNS_KEPT).delete()
