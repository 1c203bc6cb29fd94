"""The queue of connections: who does what, in which order, and what becomes of it when somebody dies."""

import datetime as dt
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from avito_accounts import limits
from avito_accounts.models import Account
from integrations_str import health, queue
from integrations_str.models import SyncTask
from tests.factories import make_user
from tests.integrations_str.conftest import (
    Home,
    assert_agrees,
    integration_of,
    make_connected,
    start_worker,
    work,
)
from tests.sandbox.driver import Sandbox, wait_for

EDITS = int(os.environ.get("STR_EDITS", "100"))
"""How often one item is edited in a burst; 1000 in ten seconds is what the rule speaks of."""
EDITS_QUIET = float(os.environ.get("STR_EDITS_QUIET", "1"))


@pytest.fixture
def others(product: str) -> User:
    return make_user("another host")


def make_due(*homes: Home, seconds_ago: float = 1) -> None:
    """Prices of all of them have waited long enough."""
    due = SyncTask.objects.filter(integration__property__in=[home.id for home in homes])
    due.update(push_at=Now() - dt.timedelta(seconds=seconds_ago), wanted=2)


def test_what_falls_due_while_the_queue_is_looked_at_is_not_left_behind(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "QUIET_SECONDS", 0.012)
    home.connect_and_push()
    for number in range(12):
        home.set_rate(5, price=2500 + number)
        work()
        assert len(home.writes()) == number + 1


def test_one_due_item_is_served_in_the_first_round_whatever_others_have(
    product: str, avito_sandbox: Sandbox, anna: Account, host: User, others: User
) -> None:
    mine = make_connected(product, avito_sandbox, anna, host, 500, days=0)
    (theirs,) = make_connected(product, avito_sandbox, anna, others, 1, days=0)
    make_due(*mine, seconds_ago=600)
    make_due(theirs)
    taken = queue.claim(2)
    assert integration_of(theirs).pk in {one.integration_id for one in taken}
    assert {one.owner_id for one in taken} == {host.pk, others.pk}


def test_nights_close_before_any_price_of_their_owner_leaves(
    product: str, avito_sandbox: Sandbox, anna: Account, host: User, others: User
) -> None:
    homes = make_connected(product, avito_sandbox, anna, host, 5)
    (stranger,) = make_connected(product, avito_sandbox, anna, others, 1)
    make_due(*homes, stranger, seconds_ago=60)
    assert homes[-1].book(3, 5).status_code == 201
    closing = queue.claim(5, closings_only=True)
    assert [one.integration_id for one in closing] == [integration_of(homes[-1]).pk]
    assert closing[0].is_closing
    assert {one.owner_id for one in queue.claim(5)} == {others.pk}, "it is on its way and not there yet"
    queue.pushed(closing[0])
    closing[0].let_go()
    assert len(queue.claim(5)) == 4


def test_two_pollers_never_have_the_same_row(
    product: str, avito_sandbox: Sandbox, anna: Account, host: User, others: User
) -> None:
    for owner in (host, others):
        make_due(*make_connected(product, avito_sandbox, anna, owner, 60, days=0))
    start = threading.Barrier(6)

    def poll(_number: int) -> list[int]:
        start.wait()
        taken = []
        while claims := queue.claim(7):
            taken += [one.task_id for one in claims]
        connection.close()
        return taken

    with ThreadPoolExecutor(6) as pool:
        taken = Counter(task for tasks in pool.map(poll, range(6)) for task in tasks)
    assert len(taken) == 120
    assert set(taken.values()) == {1}


def test_a_connection_has_one_row_however_often_it_changes(home: Home) -> None:
    home.connect_and_push()
    for number in range(5):
        home.set_rate(3, price=2500 + number)
    row = home.tasks.get()
    assert row.wanted > 5
    with pytest.raises(IntegrityError), transaction.atomic():
        SyncTask.objects.create(integration=integration_of(home))


def test_what_is_rolled_back_is_not_queued(home: Home) -> None:
    home.connect_and_push()
    assert home.book(3, 5).status_code == 201
    work()
    before = home.tasks.values().get()
    assert home.book(4, 6).status_code == 409
    assert home.tasks.values().get() == before


def test_the_work_of_a_worker_that_is_killed_in_the_middle_of_a_call_goes_on(home: Home) -> None:
    home.connect_and_push()
    home.avito.rent_fault("silence", "prices", home.item, seconds=20, times=1, apply="before")
    home.set_rate(10, price=2500)
    assert home.book(20, 21).status_code == 201
    worker = start_worker(home.avito, "from integrations_str import tasks\nwhile True: tasks.serve()")
    wait_for(lambda: home.calls("prices"), 30)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    work()
    assert home.writes() == ["intervals", "prices"], "the row is the dead one's until its lease ends"
    assert home.calendar()[home.day(10)]["sync"] == "pending"
    home.tasks.update(claimed_until=Now() - dt.timedelta(seconds=1))
    work()
    assert home.writes() == ["intervals", "prices", "prices"]
    assert_agrees(home)
    assert home.connection()["pendingDays"] == 0
    assert home.tasks.get().deaths == 1


STOPPED = """
import os, signal
from integrations_str import queue, tasks
queue.CALL_WITHIN_SECONDS = 0.3
renew = queue.Claim.renew
def renew_and_stop(claim):
    renew(claim)
    os.kill(os.getpid(), signal.SIGSTOP)
queue.Claim.renew = renew_and_stop
tasks.serve()
"""


def test_a_worker_that_was_stopped_before_its_call_sends_nothing_late_and_writes_nothing(home: Home) -> None:
    home.connect_and_push()
    home.set_rate(10, price=2500)
    worker = start_worker(home.avito, STOPPED)
    os.waitpid(worker.pid, os.WUNTRACED)
    stopped_at = time.monotonic()
    home.tasks.update(claimed_until=Now() - dt.timedelta(seconds=1))
    home.set_rate(10, price=2600)
    home.push_again()
    assert len(home.calls("prices")) == 1
    row = home.tasks.values().get()
    time.sleep(max(0.0, stopped_at + 0.5 - time.monotonic()))
    os.kill(worker.pid, signal.SIGCONT)
    worker.wait(20)
    assert len(home.calls("prices")) == 1
    assert home.tasks.values().get() == row
    assert_agrees(home)


def test_a_stale_owner_writes_nothing(home: Home) -> None:
    home.connect_and_push()
    home.set_rate(10, price=2500)
    make_due(home)
    (stale,) = queue.claim(1)
    home.tasks.update(claimed_until=Now() - dt.timedelta(seconds=1))
    (fresh,) = queue.claim(1)
    row = home.tasks.values().get()
    writes: list[Callable[[], object]] = [
        stale.renew,
        lambda: queue.pushed(stale),
        lambda: queue.push_refused(stale, "avito_rejected", "", left_days=1, more=False),
        lambda: queue.push_failed(stale, "avito_timeout", ""),
        lambda: queue.push_waits_for_consent(stale),
        lambda: queue.pulled(stale, next_in=60),
        lambda: queue.pull_failed(stale, "avito_timeout", ""),
        lambda: queue.put_off(stale, 60),
        lambda: queue.isolate(stale),
    ]
    for write in writes:
        with pytest.raises(queue.Lost):
            write()
    with pytest.raises(queue.Lost), transaction.atomic():
        stale.lock()
    stale.let_go()
    assert home.tasks.values().get() == row
    fresh.renew()


def test_what_fails_for_ever_holds_up_nobody_is_given_up_and_revived_by_one_click(
    product: str, avito_sandbox: Sandbox, anna: Account, host: User
) -> None:
    homes = make_connected(product, avito_sandbox, anna, host, 4)
    bad, *good = homes
    avito_sandbox.rent_fault("status", "prices", bad.item, status=500)
    for home in homes:
        home.set_rate(10, price=2500)
    work()
    assert [home.writes() for home in good] == [["prices"]] * 3
    assert bad.connection()["status"] == "syncing"
    for failures in range(2, queue.TRIES_MAX + 1):
        waits = bad.tasks.get().push_at
        assert waits is not None
        bad.push_again()
        assert bad.tasks.get().push_failures == failures
    bad.push_again()
    assert len(bad.calls("prices")) == queue.TRIES_MAX
    assert bad.connection()["status"] == "error"
    assert bad.connection()["lastError"]["code"] == "avito_unavailable"
    assert bad.connection()["pendingDays"] == 1
    health.watch()
    assert "connection_fell" in bad.news()
    avito_sandbox.control("DELETE", "/faults")
    assert bad.api.post(f"{bad.path}/avito/sync").status_code == 202
    work()
    assert_agrees(bad)
    assert bad.connection()["status"] == "ok"


def test_a_closing_is_never_given_up_and_alarms(home: Home) -> None:
    home.connect_and_push()
    home.avito.rent_fault("status", "intervals", home.item, status=500)
    assert home.book(10, 12).status_code == 201
    work()
    for _ in range(queue.TRIES_MAX + 2):
        home.push_again()
    row = home.tasks.get()
    assert (row.dead_at, row.is_closing, row.push_failures) == (None, True, queue.TRIES_MAX + 3)
    home.tasks.update(dirty_since=Now() - health.CLOSING_LATE - dt.timedelta(seconds=1))
    health.watch()
    assert home.news() == ["connection_fell"]
    assert home.connection()["lastError"]["code"] == "closing_late"
    home.avito.control("DELETE", "/faults")
    home.push_again()
    assert_agrees(home)
    health.watch()
    assert home.news() == ["connection_fell", "connection_well"]


def test_failures_wait_longer_and_longer_and_never_near_nothing(home: Home) -> None:
    home.connect_and_push()
    home.avito.rent_fault("status", "prices", home.item, status=503)
    home.set_rate(10, price=2500)
    home.push_again()
    for failures in (1, 2, 3, 4):
        row = home.tasks.get()
        assert row.push_at is not None
        with connection.cursor() as cursor:
            cursor.execute("SELECT extract(epoch FROM %s - clock_timestamp())", [row.push_at])
            (wait,) = cursor.fetchone()
        least = 5.0 * 2 ** (failures - 1) / 2
        assert least - 3 < wait <= 2 * least  # from `least` on, less what the machine has used of it
        work()
        assert len(home.calls("prices")) == failures, "not before its time"
        home.push_again()


def test_a_429_is_obeyed_and_is_nobodys_failure(home: Home) -> None:
    home.connect_and_push()
    home.avito.rent_fault("429", "intervals", home.item, seconds=600, times=1)
    home.set_rate(30, price=2500)
    assert home.book(10, 12).status_code == 201
    work()
    row = home.tasks.get()
    assert (row.push_failures, row.push_error_code, row.is_closing, row.dead_at) == (0, "", True, None)
    assert home.connection()["status"] == "syncing"
    for _ in range(3):
        home.push_again()
    assert home.writes() == ["intervals"], "Avito is not asked before the time it has named"
    assert home.tasks.get().push_failures == 0
    limits.reset()  # the ten minutes are over
    home.push_again()
    assert home.writes() == ["intervals", "intervals", "prices"]
    assert_agrees(home)


DEADLY = """
import os, signal, sys
from integrations_str import push, tasks
real = push.push
def deadly(integration, claim):
    if integration.pk == int(sys.argv[1]):
        os.kill(os.getpid(), signal.SIGKILL)
    real(integration, claim)
push.push = deadly
tasks.serve()
"""


def test_what_kills_its_workers_three_times_is_put_aside_and_the_rest_is_done(
    product: str, avito_sandbox: Sandbox, anna: Account, host: User
) -> None:
    homes = make_connected(product, avito_sandbox, anna, host, 3)
    bad, *good = homes
    for home in homes:
        home.set_rate(10, price=2500)
    code = DEADLY.replace("sys.argv[1]", str(integration_of(bad).pk))
    codes: list[int] = []
    while not bad.tasks.filter(dead_at__isnull=False) and len(codes) < 6:
        make_due(*(home for home in homes if home.tasks.filter(push_at__isnull=False, dead_at=None)))
        SyncTask.objects.filter(claimed_until__isnull=False).update(claimed_until=Now() - dt.timedelta(seconds=1))
        worker = start_worker(avito_sandbox, code)
        codes.append(worker.wait(60))
    assert codes == [-signal.SIGKILL] * queue.DEATHS_MAX + [0]
    assert bad.calls("prices") == []
    assert bad.connection()["lastError"]["code"] == "worker_died"
    for home in good:
        home.push_again()
        assert_agrees(home)
    bad.api.post(f"{bad.path}/avito/sync")
    work()
    assert_agrees(bad)


def test_a_thousand_edits_are_few_calls_and_the_last_one_wins(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "QUIET_SECONDS", EDITS_QUIET)
    monkeypatch.setattr(queue, "QUIET_SECONDS_MAX", EDITS_QUIET)
    home.connect_and_push()
    is_over = threading.Event()

    def worker() -> None:
        while not is_over.wait(0.05):
            work()
        connection.close()

    def edit(number: int) -> None:
        home.set_rate(number % 16, price=2500 + number, closed=number % 3 == 0 or None)

    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        serving = pool.submit(worker)
        for _ in pool.map(edit, range(EDITS)):
            pass
        seconds = time.monotonic() - began
        home.set_rate(5, price=9999, closed=None)
        wait_for(lambda: home.tasks.filter(push_at=None), 20)
        is_over.set()
        serving.result()
    kinds = Counter(home.writes())
    assert kinds["prices"] <= 2 + seconds / EDITS_QUIET
    assert_agrees(home)
    assert home.calendar()[home.day(5)]["price"] == 9999


def test_edits_and_readings_at_once_never_block_each_other_for_good(home: Home) -> None:
    home.connect_and_push()
    guest = home.avito.book(home.item, home.day(40), home.day(42))
    is_over = threading.Event()

    def worker() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            home.avito.move(guest, home.day(40 + number % 5), home.day(50), force=True)
            home.read_now()
        connection.close()

    def edit(number: int) -> tuple[int, int]:
        path, body = f"{home.path}/rates", {"from": home.day(3).isoformat(), "to": home.day(9).isoformat()}
        rates = home.api.put(path, {"ranges": [{**body, "price": 2500 + number}]}).status_code
        return rates, home.api.patch(f"{home.path}/avito", {"markupPercent": number % 30}).status_code

    with ThreadPoolExecutor(5) as pool:
        serving = pool.submit(worker)
        answers = Counter(pool.map(edit, range(30)))
        is_over.set()
        serving.result()
    assert answers == {(200, 200): 30}
    work()
    assert_agrees(home)
