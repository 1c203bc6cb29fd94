"""Eternal online when something breaks: each slot is served once, and nobody is forgotten."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta

import pytest
import time_machine
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import OperationalError, connection, connections
from django.db.models.functions import Now
from django.utils import timezone

from avito_accounts import tokens
from avito_accounts.models import Account
from bench.servers import ROOT
from messenger import presence, tasks
from messenger.models import PresenceAttempt
from tests.avito_accounts.test_tokens import product_environment
from tests.conftest import Api
from tests.factories import make_account
from tests.messenger.test_presence import SELF, STATUS, enabled, history, paths
from tests.sandbox.driver import ANNA, Sandbox, wait_for

SIGN = "status/online$"
WORKER = """
import sys, time, django
django.setup()
from messenger import presence, tasks
presence.HANDS, presence.TOLERANCE_SECONDS, presence.LATE_SECONDS = int(sys.argv[1]), float(sys.argv[2]), 60
print("ready", flush=True)
sys.stdin.readline()
while True:
    try:
        tasks.keep_online()
    except Exception:
        pass
    print("looked", flush=True)
    time.sleep(0.05)
"""


@pytest.fixture(autouse=True)
def _knows_status(product: str, avito_sandbox: Sandbox) -> None:
    avito_sandbox.control("PATCH", "/settings", statusOnlineKnown=True)


def sellers(sandbox: Sandbox, count: int) -> list[Account]:
    """Accounts with tokens, switched on at intervals of a minute, whose slot has not come."""
    made = []
    for number in range(count):
        keys = {"clientId": f"id-{number}", "clientSecret": "secret"}
        seller = sandbox.control("POST", "/sellers", name=f"Продавец {number}", **keys)
        made.append(make_account(
            client_id=keys["clientId"], client_secret="secret", avito_user_id=seller["id"],
            eternal_online_enabled=True, online_keep_alive_interval=60,
            online_due_at=timezone.now() + timedelta(hours=1),
        ))  # fmt: skip
        tokens.access_token(made[-1])
    return made


def all_due() -> None:
    Account.objects.update(online_due_at=Now())


def signs(sandbox: Sandbox) -> Counter[int]:
    return Counter(call["userId"] for call in sandbox.journal() if call["path"].endswith("status/online"))


def each(accounts: list[Account], times: int = 1) -> Counter[int]:
    return Counter({account.avito_user_id or 0: times for account in accounts})


def are_claimed() -> bool:
    return not Account.objects.filter(online_due_at__lte=Now()).exists()


@contextmanager
def workers(
    sandbox: Sandbox, count: int, *, hands: int = 64, tolerance: float = 60
) -> Iterator[list[subprocess.Popen[str]]]:
    """Processes that keep accounts online, all beginning as soon as the block does."""
    command = [sys.executable, "-c", WORKER, str(hands), str(tolerance)]
    environment = product_environment(sandbox)
    pipe = subprocess.PIPE
    started = [
        subprocess.Popen(command, env=environment, cwd=ROOT, stdin=pipe, stdout=pipe, text=True)
        for _number in range(count)
    ]
    try:
        for worker in started:
            assert worker.stdout
            assert worker.stdout.readline() == "ready\n"
        all_due()
        for worker in started:
            assert worker.stdin
            worker.stdin.write("go\n")
            worker.stdin.flush()
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.communicate()


# Processes


def test_two_workers_share_the_slots_and_one_that_is_killed_costs_an_interval(avito_sandbox: Sandbox) -> None:
    accounts = sellers(avito_sandbox, 24)
    avito_sandbox.fault("latency", SIGN, seconds=0.3)
    with workers(avito_sandbox, 2, hands=4) as (killed, _other):
        wait_for(lambda: PresenceAttempt.objects.count() == 24, 30)
        assert signs(avito_sandbox) == each(accounts)
        avito_sandbox.control("DELETE", "/faults")
        avito_sandbox.fault("latency", SIGN, seconds=3, times=1)
        all_due()
        wait_for(are_claimed, 10)
        killed.kill()
        wait_for(lambda: PresenceAttempt.objects.count() >= 25, 10)
    latest = Account.objects.latest("online_due_at").online_due_at
    assert latest
    assert latest - timezone.now() < timedelta(seconds=68)
    assert max(signs(avito_sandbox).values()) <= 2, "a slot that was claimed is not served again"
    PresenceAttempt.objects.all().delete()
    avito_sandbox.control("DELETE", "/faults")
    avito_sandbox.control("DELETE", "/journal")
    all_due()
    tasks.keep_online()
    assert signs(avito_sandbox) == each(accounts)
    assert PresenceAttempt.objects.filter(code="").count() == 24


def test_a_paused_worker_leaves_out_the_slots_that_are_over(avito_sandbox: Sandbox) -> None:
    accounts = sellers(avito_sandbox, 5)
    avito_sandbox.fault("latency", SIGN, seconds=0.2)
    with workers(avito_sandbox, 1, hands=1, tolerance=-2.2) as (paused,):  # 0.8 s in all
        wait_for(are_claimed, 10)
        paused.send_signal(signal.SIGSTOP)
        time.sleep(0.9)
        all_due()
        tasks.keep_online()  # somebody else serves the next slots
        paused.send_signal(signal.SIGCONT)
        assert paused.stdout
        assert paused.stdout.readline() == "looked\n"
    assert not each(accounts) - signs(avito_sandbox)
    assert (signs(avito_sandbox) - each(accounts)).total() <= 1, "only what was in the one hand comes twice"
    assert Account.objects.filter(online_failures=0, last_online_at__isnull=False).count() == 5


# What the workers stand on


def test_signs_are_given_while_redis_is_away(
    owner: Api, anna: Account, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    enabled(owner, anna)
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    tasks.keep_online()
    assert [one["ok"] for one in history(owner, anna)] == [True]


def test_a_database_that_cuts_its_connections_loses_and_doubles_no_sign(avito_sandbox: Sandbox) -> None:
    accounts = sellers(avito_sandbox, 20)
    avito_sandbox.fault("latency", SIGN, seconds=0.4)
    all_due()

    def work() -> None:
        try:
            while PresenceAttempt.objects.count() < 20:
                tasks.keep_online()
        except OperationalError:
            work()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        wait_for(lambda: signs(avito_sandbox).total() >= 10)
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        working.result(30)
    assert signs(avito_sandbox) == each(accounts)
    assert PresenceAttempt.objects.filter(code="").count() == 20


# Clocks


def parsed(moment: str) -> datetime:
    return datetime.fromisoformat(moment)


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_host_whose_clock_jumps_promises_and_records_by_the_clock_of_the_database(
    product: str, owner: Api, anna: Account, avito_sandbox: Sandbox, minutes: int
) -> None:
    with time_machine.travel(timezone.now() - timedelta(minutes=11)):
        owner = Api(product, User.objects.get(username="owner"))  # a token that holds whatever the time
    near: Callable[[str], bool] = lambda moment: abs(parsed(moment) - true) < timedelta(minutes=2)  # noqa: E731
    enabled(owner, anna, interval=60)
    tasks.keep_online()
    avito_sandbox.fault("status", SIGN, status=500)
    true = timezone.now()
    with time_machine.travel(true + timedelta(minutes=minutes)):
        begun = enabled(owner, anna)
        tasks.keep_online()
        failed, accepted = history(owner, anna)
        due = owner.get("/api/v1/eternal-online/status").json()["results"][0]
    assert near(begun["nextDueAt"])
    assert (near(failed["at"]), near(accepted["at"])) == (True, True)
    assert (failed["code"], due["consecutiveFailures"], due["onlineError"]["code"]) == (
        "avito_unavailable", 1, "avito_unavailable",
    )  # fmt: skip
    assert near(due["nextDueAt"])
    with time_machine.travel(true + timedelta(minutes=minutes)):
        tasks.keep_online()
    assert len(history(owner, anna)) == 2, "no slot has come"


@pytest.mark.parametrize("minutes", [-11, 11])
def test_a_clock_that_jumps_asks_no_sooner_for_the_call_that_avito_did_not_know(
    owner: Api, anna: Account, avito_sandbox: Sandbox, minutes: int
) -> None:
    avito_sandbox.fault("status", SIGN, status=404)
    enabled(owner, anna)
    tasks.keep_online()
    all_due()
    with time_machine.travel(timezone.now() + timedelta(minutes=minutes)):
        tasks.keep_online()
    assert paths(avito_sandbox) == [STATUS, SELF, SELF]
    Account.objects.update(online_status_unknown_until=Now(), online_due_at=Now())
    tasks.keep_online()
    assert paths(avito_sandbox)[-2:] == [STATUS, SELF]


def test_a_claim_takes_no_moment_of_its_own_host(anna: Account) -> None:
    Account.objects.update(eternal_online_enabled=True, online_due_at=timezone.now() + timedelta(minutes=5))
    with time_machine.travel(timezone.now() + timedelta(minutes=10)):
        assert presence.claim(10) == []
    assert anna.avito_user_id == ANNA
