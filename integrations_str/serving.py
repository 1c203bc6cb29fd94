"""Workers at the queue: claimed rows are served by a few hands, one crew per process.

The database is asked every few seconds, and at once when somebody rings; while changes wait for more of their kind the
crew waits with them. Some hands are kept free for nights that have to close.
"""

import threading
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from functools import cache

import structlog
from django.db import connection, connections
from django.db.models import Exists, OuterRef

import doorbell
from integrations_str import pull as reading
from integrations_str import push, queue
from integrations_str.models import Access, Integration
from integrations_str.queue import Claim

log = structlog.get_logger(__name__)

HANDS, HANDS_FOR_CLOSINGS = 16, 4
LOOK_SECONDS = 0.1
"""How often the queue is looked at while hands are at work."""

_crew = threading.Lock()
_rung = threading.Event()


@cache
def _hands() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(HANDS + HANDS_FOR_CLOSINGS, thread_name_prefix="str")


def serve() -> None:
    """Serve what is due, until nothing is. One crew per process: who rings while it works is heard by it."""
    _rung.set()
    while _rung.is_set() and _crew.acquire(blocking=False):
        try:
            _rung.clear()
            _serve()
        finally:
            _crew.release()


def _serve() -> None:
    at_work: set[Future[None]] = set()
    while not doorbell.stopping.is_set() or at_work:
        # Asked before the claim, so that what falls due in between is claimed.
        soon = None if at_work else queue.next_push_in()
        claimed = [] if doorbell.stopping.is_set() else _claim(HANDS + HANDS_FOR_CLOSINGS - len(at_work))
        at_work |= {_hands().submit(_served, one) for one in claimed}
        connection.close()  # while Avito is waited for
        if at_work:
            _done, at_work = wait(at_work, timeout=LOOK_SECONDS, return_when=FIRST_COMPLETED)
            continue
        if suspect := queue.claim(1, suspects=True):  # alone, so that it takes nobody with it
            _served(suspect[0])
            continue
        if soon is None or soon > queue.QUIET_SECONDS:
            return
        connection.close()
        _rung.wait(max(0.02, soon))
        _rung.clear()


def _claim(free: int) -> list[Claim]:
    if free <= 0:
        return []
    if free <= HANDS_FOR_CLOSINGS:
        return queue.claim(free, closings_only=True)
    return queue.claim(free - HANDS_FOR_CLOSINGS)


def _served(claim: Claim) -> None:
    try:
        serve_one(claim)
    except queue.Lost:  # or paused meanwhile: then the row is still ours
        log.warning("str_claim_lost", integration_id=claim.integration_id)
        claim.let_go()
    except Exception:
        log.exception("str_failed", integration_id=claim.integration_id)
        _broke(claim)
    finally:
        connections.close_all()


def serve_one(claim: Claim) -> None:
    """Do what is due for one connection: nights to close first, else the bookings before anything is sent."""
    integration = load(claim)
    if integration is None:  # or gone, and its row with it
        queue.account_failed(claim, "account_not_authorized", "", again_in=push.ACCOUNT_AGAIN_SECONDS)
        claim.let_go()
        return
    if claim.deaths >= queue.DEATHS_MAX:
        queue.isolate(claim)
    else:
        is_read = integration.last_pull_at is not None
        if claim.is_closing and is_read:
            push.push(integration, claim)
        is_to_send = claim.pushes and not claim.is_closing
        if claim.pulls or not is_read:
            reading.pull(integration, claim)
            if is_to_send:
                integration = load(claim) or integration
        if is_to_send and integration.last_pull_at is not None:
            push.push(integration, claim)
    claim.let_go()


def load(claim: Claim) -> Integration | None:
    """The connection, as its owner's own: with a property of theirs, and an account that they may use; else None."""
    access = Access.objects.filter(user=claim.owner_id, account=OuterRef("account"))
    mine = Integration.objects.connected().filter(
        Exists(access), pk=claim.integration_id, property__owner=claim.owner_id
    )
    return mine.select_related("property__owner", "account__authorization", "account__proxy").first()


def _broke(claim: Claim) -> None:
    """An error of ours: it is in the log, and the row is tried again as after any failure."""
    try:
        if claim.pulls:
            queue.pull_failed(claim, "error", "")
        if claim.pushes:
            queue.push_failed(claim, "error", "")
        claim.let_go()
    except Exception as error:  # the database may be away: the claim ends by itself
        log.warning("str_not_written", integration_id=claim.integration_id, error=type(error).__name__)
