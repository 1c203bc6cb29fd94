"""Token custody: one refresh however many ask, the pair stored before use, no healthy account flagged."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from django.conf import LazySettings
from django.db import DatabaseError, connection, connections
from django.utils import timezone

import avito
from avito_accounts import services, tasks, tokens
from avito_accounts.errors import AccountNotAuthorized, ReconnectRequired
from avito_accounts.models import Account, Authorization
from tests.conftest import Api
from tests.factories import authorize, make_account
from tests.sandbox.driver import ALL_SCOPES, ANNA, Sandbox, wait_for

ROOT = Path(__file__).parents[2]


def refreshes(sandbox: Sandbox) -> list[dict[str, Any]]:
    return [row for row in sandbox.journal() if row["grantType"] == "refresh_token"]


@contextmanager
def another_session() -> Iterator[psycopg.Cursor[Any]]:
    """The test's database as somebody else sees it."""
    parameters = {**connection.get_connection_params(), "cursor_factory": psycopg.Cursor}
    parameters.pop("pool", None)
    with psycopg.connect(**parameters, autocommit=True) as session, session.cursor() as cursor:
        yield cursor


def lock_key(account: Account) -> int:
    return (tokens.LOCK_NAMESPACE << 32) | account.pk


def locks_held() -> int:
    """How many token locks any session holds in the test's own database."""
    with another_session() as session:
        session.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database AS own ON own.oid = pg_locks.database"
            " WHERE locktype = 'advisory' AND granted AND classid::bigint = %s AND datname = current_database()",
            [tokens.LOCK_NAMESPACE],
        )
        row = session.fetchone()
        assert row is not None
        return int(row[0])


def expire(account: Account, sandbox: Sandbox) -> None:
    """The access token is past its time, at Avito and by our clock."""
    sandbox.control("POST", "/tokens/expire", sellerId=ANNA)
    past = timezone.now() - timedelta(seconds=5)
    Authorization.objects.filter(account=account).update(expires_at=past, refresh_at=past - timedelta(minutes=5))


def at_once(count: int, work: Callable[[], Any]) -> list[Any]:
    """The outcomes of `count` threads that start together; an exception is an outcome too."""
    start = threading.Barrier(count)

    def run(_number: int) -> Any:
        start.wait()
        try:
            return work()
        except Exception as error:
            return error
        finally:
            connections.close_all()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_a_living_token_is_used_without_asking_anybody(anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.control("DELETE", "/journal")
    services.call(anna, lambda client: client.user.me())
    assert [row["path"] for row in avito_sandbox.journal()] == ["/core/v1/accounts/self"]


def test_forty_callers_on_an_expired_token_make_one_refresh(anna: Account, avito_sandbox: Sandbox) -> None:
    expire(anna, avito_sandbox)
    avito_sandbox.control("PATCH", "/settings", tokenDelaySeconds=0.3)
    owners = at_once(40, lambda: services.call(anna, lambda client: client.user.me()).id)
    assert Counter(owners) == {ANNA: 40}
    assert [row["status"] for row in refreshes(avito_sandbox)] == [200]


def test_forty_callers_whose_token_avito_refuses_make_one_refresh(anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.control("POST", "/tokens/expire", sellerId=ANNA)  # by our clock it lives
    avito_sandbox.control("PATCH", "/settings", tokenDelaySeconds=0.3)
    owners = at_once(40, lambda: services.call(anna, lambda client: client.user.me()).id)
    assert Counter(owners) == {ANNA: 40}
    assert len(refreshes(avito_sandbox)) == 1


def test_forty_refreshes_by_hand_make_one(anna: Account, owner: Api, avito_sandbox: Sandbox) -> None:
    old = timezone.now() - timedelta(minutes=1)
    Authorization.objects.filter(account=anna).update(renewed_at=old)
    avito_sandbox.control("PATCH", "/settings", tokenDelaySeconds=0.5)
    path = f"{owner.base}/api/v1/auth/avito/refresh/{anna.pk}"
    headers = {"Authorization": str(owner.session.headers["Authorization"])}
    answers = at_once(40, lambda: Api(owner.base, None, **headers).post(path))
    assert Counter(answer.status_code for answer in answers) == {200: 40}
    assert len(refreshes(avito_sandbox)) == 1


def test_forty_refreshes_by_hand_make_one_also_when_avito_answers_at_once(
    anna: Account, owner: Api, avito_sandbox: Sandbox
) -> None:
    path = f"{owner.base}/api/v1/auth/avito/refresh/{anna.pk}"
    headers = {"Authorization": str(owner.session.headers["Authorization"])}
    with another_session() as session, ThreadPoolExecutor(1) as pool:
        session.execute("SELECT pg_advisory_lock(%s)", [lock_key(anna)])  # until all of them have arrived
        asking = pool.submit(at_once, 40, lambda: Api(owner.base, None, **headers).post(path).status_code)
        wait_for(lambda: tokens._asking.get(anna.pk, (0,))[0] >= 10)
        time.sleep(0.5)
        session.execute("SELECT pg_advisory_unlock(%s)", [lock_key(anna)])
        assert Counter(asking.result()) == {200: 40}
    assert len(refreshes(avito_sandbox)) == 1
    assert not tokens._asking


def test_two_refreshes_by_hand_one_after_the_other_are_two_also_right_after_connecting(
    anna: Account, owner: Api, avito_sandbox: Sandbox
) -> None:
    for _again in range(2):
        assert owner.post(f"/api/v1/auth/avito/refresh/{anna.pk}").status_code == 200
    assert [row["status"] for row in refreshes(avito_sandbox)] == [200, 200]


CALLERS = """
import os, sys, threading
import django
django.setup()
from django.conf import settings
from django.db import connections
from avito_accounts import services
from avito_accounts.models import Account
account = Account.objects.get(pk=int(sys.argv[1]))
sys.stdin.readline()
def run():
    owner = services.call(account, lambda client: client.user.me()).id
    os.write(1, f"{owner}\\n".encode())  # whole lines, also from threads
    connections.close_all()
threads = [threading.Thread(target=run) for _ in range(int(sys.argv[2]))]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
"""


def product_environment(sandbox: Sandbox) -> dict[str, str]:
    """What another process of the product needs to work on the test's database and sandbox."""
    parameters = connection.get_connection_params()
    url = f"postgresql://{parameters['user']}@:{parameters['port']}/{parameters['host']}/{parameters['dbname']}"
    return {
        **os.environ,
        "DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "AVITO_API_BASE_URL": sandbox.base,
        "AVITO_OAUTH_CLIENT_ID": "sandbox-client",
        "AVITO_OAUTH_CLIENT_SECRET": "sandbox-secret",
    }


def start_callers(account: Account, sandbox: Sandbox, *, threads: int = 10) -> subprocess.Popen[str]:
    """Another process of the product, on the same database; it goes when a line is written to it."""
    return subprocess.Popen(
        [sys.executable, "-c", CALLERS, str(account.pk), str(threads)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=product_environment(sandbox),
        cwd=ROOT,
    )


def test_callers_in_several_processes_make_one_refresh(anna: Account, avito_sandbox: Sandbox) -> None:
    expire(anna, avito_sandbox)
    avito_sandbox.control("PATCH", "/settings", tokenDelaySeconds=1)
    processes = [start_callers(anna, avito_sandbox, threads=20) for _ in range(2)]
    for process in processes:
        _release(process)
    said = [line for process in processes for line in process.communicate(timeout=60)[0].split()]
    assert Counter(said) == {str(ANNA): 40}
    assert [row["status"] for row in refreshes(avito_sandbox)] == [200]


def _release(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_the_rotated_pair_is_stored_before_it_is_used(anna: Account, avito_sandbox: Sandbox) -> None:
    expire(anna, avito_sandbox)
    avito_sandbox.fault("silence", "accounts/self$")
    old = Authorization.objects.get(account=anna).refresh_token
    caller = start_callers(anna, avito_sandbox, threads=1)
    _release(caller)
    wait_for(lambda: any(row["path"].endswith("/self") for row in avito_sandbox.journal()), 20)
    caller.kill()  # while the very first use of the new token is under way
    caller.communicate()
    avito_sandbox.control("DELETE", "/faults")
    assert Authorization.objects.get(account=anna).refresh_token != old
    assert services.call(anna, lambda client: client.user.me()).id == ANNA


def test_a_token_is_renewed_ahead_of_its_end_and_only_then(anna: Account, avito_sandbox: Sandbox) -> None:
    tokens.renew_ahead(anna)
    assert not refreshes(avito_sandbox)
    Authorization.objects.filter(account=anna).update(refresh_at=timezone.now())
    for _twice in range(2):
        tasks.refresh_expiring_tokens()
        tasks.refresh_token(anna.pk)
    assert len(refreshes(avito_sandbox)) == 1


def test_a_failing_renewal_ahead_goes_on_with_the_token_that_still_lives(anna: Account, avito_sandbox: Sandbox) -> None:
    Authorization.objects.filter(account=anna).update(refresh_at=timezone.now())
    avito_sandbox.fault("status", "/token$", status=500)
    assert services.call(anna, lambda client: client.user.me()).id == ANNA


def test_a_403_with_a_fresh_token_is_a_matter_of_rights(anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.fault("status", "self$", status=403)
    with pytest.raises(avito.Forbidden):
        services.call(anna, lambda client: client.user.me())
    assert not refreshes(avito_sandbox)


def test_a_403_with_a_token_past_its_time_is_answered_by_one_refresh(anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.control("PATCH", "/settings", expiredStatus=403)
    token = tokens.access_token(anna)
    expire(anna, avito_sandbox)
    # Between the look at the clock and the call the token has passed its end.
    Authorization.objects.filter(account=anna).update(refresh_at=timezone.now() + timedelta(hours=1))
    assert tokens.access_token(anna) == token
    assert services.call(anna, lambda client: client.user.me()).id == ANNA
    assert len(refreshes(avito_sandbox)) == 1


def test_a_revoked_account_is_flagged_after_one_refusal_and_then_left_alone(
    anna: Account, avito_sandbox: Sandbox
) -> None:
    avito_sandbox.control("POST", "/tokens/revoke", sellerId=ANNA)
    for _again in range(3):
        with pytest.raises(ReconnectRequired):
            services.call(anna, lambda client: client.user.me())
    assert [row["status"] for row in refreshes(avito_sandbox)] == [400]
    anna.refresh_from_db()
    assert (anna.connection_status, anna.connection_error_code) == ("needs_reconnect", "token_expired")


def test_a_refusal_is_not_final_when_a_newer_pair_was_stored_meanwhile(anna: Account, avito_sandbox: Sandbox) -> None:
    expire(anna, avito_sandbox)
    avito_sandbox.fault("latency", "/token$", seconds=1.0, grantType="refresh_token")
    avito_sandbox.control("POST", "/tokens/revoke", sellerId=ANNA)
    with ThreadPoolExecutor(1) as pool:
        caller = pool.submit(lambda: at_once(1, lambda: services.call(anna, lambda client: client.user.me()).id))
        time.sleep(0.4)  # the old refresh token is on its way; a person gives a new consent now
        pair = avito_sandbox.tokens(ANNA, ALL_SCOPES)
        authorize(anna, access_token=pair["access_token"], refresh_token=pair["refresh_token"])
        assert caller.result() == [ANNA]
    assert Authorization.objects.get(account=anna).dead_reason == ""


def test_a_refresh_that_avito_fails_is_repeated_later_and_flags_nobody(anna: Account, avito_sandbox: Sandbox) -> None:
    expire(anna, avito_sandbox)
    avito_sandbox.fault("status", "/token$", status=500, times=3)
    for _attempt in range(3):
        with pytest.raises(avito.Broken) as caught:
            services.call(anna, lambda client: client.user.me())
        assert not caught.value.maybe_done  # the caller's own call was never made
    assert services.call(anna, lambda client: client.user.me()).id == ANNA


@pytest.fixture
def short_of_patience(settings: LazySettings) -> None:
    settings.AVITO_TIMEOUT_SECONDS = 1


def test_a_lost_answer_costs_nothing_while_the_access_token_lives(
    short_of_patience: None, anna: Account, avito_sandbox: Sandbox
) -> None:
    avito_sandbox.fault("silence", "/token$", apply="before", times=1)
    with pytest.raises(avito.TimedOut):
        tokens.renew(anna, asked_at=timezone.now() + timedelta(minutes=1))
    Authorization.objects.filter(account=anna).update(refresh_at=timezone.now())
    for _again in range(3):
        assert services.call(anna, lambda client: client.user.me()).id == ANNA
    assert len(refreshes(avito_sandbox)) == 1


def test_after_a_lost_answer_a_dead_token_gets_one_more_try_and_then_a_person(
    short_of_patience: None, anna: Account, avito_sandbox: Sandbox
) -> None:
    expire(anna, avito_sandbox)
    avito_sandbox.fault("silence", "/token$", apply="never", times=2)
    for _attempt in range(2):
        with pytest.raises(avito.TimedOut):
            services.call(anna, lambda client: client.user.me())
    for _again in range(2):
        with pytest.raises(ReconnectRequired):
            services.call(anna, lambda client: client.user.me())
    assert len(refreshes(avito_sandbox)) == 2


def test_those_who_waited_for_a_refresh_whose_answer_was_lost_share_the_loss(
    short_of_patience: None, anna: Account, avito_sandbox: Sandbox
) -> None:
    expire(anna, avito_sandbox)
    avito_sandbox.fault("silence", "/token$", apply="never", times=1)
    outcomes = at_once(10, lambda: services.call(anna, lambda client: client.user.me()))
    assert {type(outcome) for outcome in outcomes} == {avito.TimedOut}
    assert len(refreshes(avito_sandbox)) == 1
    assert services.call(anna, lambda client: client.user.me()).id == ANNA


def test_after_a_lost_answer_the_one_more_try_brings_the_account_back(
    short_of_patience: None, anna: Account, avito_sandbox: Sandbox
) -> None:
    expire(anna, avito_sandbox)
    avito_sandbox.fault("silence", "/token$", apply="never", times=1)
    with pytest.raises(avito.TimedOut):
        services.call(anna, lambda client: client.user.me())
    assert services.call(anna, lambda client: client.user.me()).id == ANNA
    row = Authorization.objects.get(account=anna)
    assert (row.refresh_sent_at, row.refreshes_unanswered) == (None, 0)


def test_nothing_is_tried_while_nobody_can_say_whether_the_token_is_dead(
    short_of_patience: None, anna: Account, avito_sandbox: Sandbox
) -> None:
    expire(anna, avito_sandbox)
    avito_sandbox.fault("silence", "/token$|/self$")
    for _attempt in range(3):
        with pytest.raises(avito.TimedOut):
            services.call(anna, lambda client: client.user.me())
    assert len(refreshes(avito_sandbox)) == 1
    assert Authorization.objects.get(account=anna).dead_reason == ""


def test_a_refresh_by_hand_after_a_lost_answer_asks_first_whether_the_token_lives(
    short_of_patience: None, owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    avito_sandbox.fault("silence", "/token$", apply="before", times=1)
    path = f"/api/v1/auth/avito/refresh/{anna.pk}"
    assert [owner.post(path).status_code for _again in range(4)] == [504, 200, 200, 200]
    assert len(refreshes(avito_sandbox)) == 1
    assert services.call(anna, lambda client: client.user.me()).id == ANNA


def test_a_403_does_not_prove_that_a_young_token_is_dead(
    short_of_patience: None, owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    avito_sandbox.fault("silence", "/token$", apply="before", times=1)
    avito_sandbox.fault("status", "self$", status=403, times=1)
    path = f"/api/v1/auth/avito/refresh/{anna.pk}"
    assert [owner.post(path).status_code for _again in range(3)] == [504, 403, 200]
    assert len(refreshes(avito_sandbox)) == 1


@pytest.mark.parametrize("status", [400, 402, 403, 404, 405, 429])
def test_a_filter_in_front_of_avito_that_refuses_every_refresh_flags_nobody(
    anna: Account, avito_sandbox: Sandbox, status: int
) -> None:
    expire(anna, avito_sandbox)
    avito_sandbox.fault("status", "/token$", status=status, times=4)
    for _attempt in range(4):
        with pytest.raises(avito.Refused):
            services.call(anna, lambda client: client.user.me())
    assert services.call(anna, lambda client: client.user.me()).id == ANNA


def test_a_failing_statement_leaves_no_lock_behind_in_the_pool(
    anna: Account, avito_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "STORE_ATTEMPTS", 2)
    at_once(5, lambda: connection.cursor().execute("SELECT pg_sleep(0.3)"))  # so that the pool has several sessions
    with another_session() as session:
        session.execute("ALTER TABLE avito_accounts_authorization ADD CONSTRAINT full_disk CHECK (version < 2)")
        try:
            with pytest.raises(DatabaseError):
                tokens.renew(anna, asked_at=timezone.now())
        finally:
            session.execute("ALTER TABLE avito_accounts_authorization DROP CONSTRAINT full_disk")
    connection.close()  # as at the end of a request: back into the pool
    assert locks_held() == 0


def test_a_new_pair_outlasts_a_session_that_the_database_ends(anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.fault("latency", "/token$", seconds=1.0)
    with ThreadPoolExecutor(1) as pool, another_session() as session:
        asking = pool.submit(at_once, 1, lambda: tokens.renew(anna, asked_at=timezone.now()).version)
        wait_for(lambda: Authorization.objects.get().refresh_sent_at)
        session.execute("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'")
        assert asking.result() == [2]
    assert locks_held() == 0
    assert services.call(anna, lambda client: client.user.me()).id == ANNA


def test_a_flag_on_a_living_authorisation_is_lifted_by_the_next_success(
    owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    avito_sandbox.fault("status", "self$", status=401, times=2)
    with pytest.raises(avito.Unauthorized):
        services.call(anna, lambda client: client.user.me())
    path = f"/api/v1/accounts/{anna.pk}"
    assert owner.get(path).json()["connectionStatus"] == "needs_reconnect"
    services.call(Account.objects.get(), lambda client: client.user.me())
    shown = owner.get(path).json()
    assert (shown["connectionStatus"], shown["connectionError"]) == ("connected", None)


def test_a_pair_that_was_stored_meanwhile_is_not_flagged_with_the_old_one(
    anna: Account, avito_sandbox: Sandbox
) -> None:
    old = Authorization.objects.get()
    Authorization.objects.update(refreshes_unanswered=2, refresh_sent_at=timezone.now())
    new = tokens.renew(anna, asked_at=old.renewed_at)  # stored at that very moment, so it is shared
    assert new.version == old.version
    authorize(anna, access_token="newer")
    assert tokens._bury(anna, old, "invalid_grant").access_token == "newer"
    anna.refresh_from_db()
    assert (anna.connection_status, Authorization.objects.get().dead_reason) == ("connected", "")


def test_an_authorisation_that_ends_while_avito_is_asked_is_no_breakdown(anna: Account, avito_sandbox: Sandbox) -> None:
    def end(client: avito.Client) -> None:
        Authorization.objects.all().delete()
        raise avito.Forbidden

    with pytest.raises(AccountNotAuthorized):
        services.call(anna, end)


def test_calls_that_wait_for_avito_keep_no_database_connection(
    colleague: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    avito_sandbox.fault("latency", "/messenger/", seconds=2.0)
    headers = {"Authorization": str(colleague.session.headers["Authorization"])}
    live = f"{colleague.base}/api/v1/messenger/accounts/{anna.pk}/chats"
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(at_once, 40, lambda: Api(colleague.base, None, **headers).get(live).status_code)
        time.sleep(1)
        assert colleague.get("/api/v1/avito/chats").status_code == 200
        assert Counter(waiting.result()) == {200: 40}


@pytest.mark.parametrize("effect", ["before", "never"])
def test_a_process_killed_while_it_refreshes_leaves_an_account_that_works_or_is_flagged(
    anna: Account, avito_sandbox: Sandbox, effect: str
) -> None:
    expire(anna, avito_sandbox)
    avito_sandbox.fault("silence", "/token$", apply=effect, times=1)
    process = start_callers(anna, avito_sandbox, threads=1)
    _release(process)
    wait_for(lambda: refreshes(avito_sandbox), 20)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if effect == "never":
        assert services.call(anna, lambda client: client.user.me()).id == ANNA
    else:  # Avito has rotated, and nobody ever saw the new pair
        with pytest.raises(ReconnectRequired):
            services.call(anna, lambda client: client.user.me())
        anna.refresh_from_db()
        assert anna.connection_status == "needs_reconnect"


def test_an_account_without_credentials_says_so(product: str) -> None:
    with pytest.raises(AccountNotAuthorized):
        tokens.access_token(make_account())
