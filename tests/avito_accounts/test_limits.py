"""The budget of calls to Avito: shared by all processes, kept in any minute, and never the reason of a failure."""

import multiprocessing
import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import redis
from django.conf import LazySettings
from django.conf import settings as django_settings

import avito
from avito import protocol
from avito_accounts import limits
from avito_accounts.limits import Limits, Metered
from config import embedded

_accounts = count(random.randrange(10**6, 10**9))
ME, ITEMS, STATS = "/core/v1/accounts/self", "/core/v1/items", "/stats/v2/accounts/1/items"


class Server(ThreadingHTTPServer):
    """Avito as far as this goes: notes when calls come, answers 200 or as it is told to."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, latency: Callable[[], float] = lambda: 0.0) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.latency = latency
        self.arrivals: list[tuple[float, str, str]] = []
        self.answers: list[tuple[int, dict[str, str]]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, *_: Any) -> None:
        """A client that was killed is no news."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.arrivals.append((time.monotonic(), self.path, self.headers["Authorization"]))
        time.sleep(self.server.latency())
        status, headers = self.server.answers.pop(0) if self.server.answers else (200, {})
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", "Content-Length": "2", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_GET

    def log_message(self, *_: Any) -> None:
        """The arrivals are enough."""


@contextmanager
def serving(latency: Callable[[], float] = lambda: 0.0) -> Iterator[Server]:
    server = Server(latency)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    limits.reset()
    yield
    limits.reset()


class Account:
    """A client of one account, which counts how often it gave its database connection back."""

    def __init__(self, server: Server, limits: Limits, pk: int | None = None) -> None:
        self.pk = pk or next(_accounts)
        self.waits = 0
        self.client = avito.Client(
            "token", Metered(avito.Transport(server.url), self.pk, before_waiting=self.note, limits=limits)
        )

    def note(self) -> None:
        self.waits += 1

    def call(self, path: str = ME) -> None:
        self.client.call(protocol.post(path) if path == STATS else protocol.get(path))

    def spend(self, path: str = ME, most: int = 100) -> int:
        """Call until it is enough; the number of calls that were made."""
        for made in range(most):
            try:
                self.call(path)
            except avito.RateLimited:
                return made
        return most


def most_in_a_window(arrivals: list[float], window: float) -> int:
    """The largest number of arrivals in any window."""
    ordered = sorted(arrivals)
    most, first = 0, 0
    for last, moment in enumerate(ordered):
        while moment - ordered[first] >= window:
            first += 1
        most = max(most, last - first + 1)
    return most


# Many processes


def hammer(url: str, number: int, limit: int, window: float, until: float, redis_url: str) -> None:
    """One process that calls as often as it is let."""
    django_settings.REDIS_URL = redis_url
    django_settings.AVITO_RATE_LIMIT_PER_MINUTE = limit
    meter = Metered(avito.Transport(url), number, limits=Limits(window_seconds=window))
    client = avito.Client(f"token-{number}", meter)
    while time.monotonic() < until:
        with suppress(avito.RateLimited):
            client.call(protocol.get(ME))


def test_twelve_processes_of_which_some_are_killed_never_exceed_the_limit_and_use_it() -> None:
    limit, window, seconds = 40, 2.0, 12.0
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    with serving(lambda: random.uniform(0, 0.2)) as server:
        until = time.monotonic() + seconds
        arguments = limit, window, until, django_settings.REDIS_URL
        make = [context.Process(target=hammer, args=(server.url, number, *arguments)) for number in range(16)]
        for process in make[:12]:
            process.start()
        while len(server.arrivals) < 3 * limit and time.monotonic() < until:
            time.sleep(0.05)
        for process in make[:4]:
            assert process.pid
            os.kill(process.pid, signal.SIGKILL)
        for process in make[12:]:
            process.start()
        for process in make:
            process.join(60)
        arrivals = [moment for moment, *_ in server.arrivals]
        callers = {token for *_, token in server.arrivals}
    assert [process.exitcode for process in make] == [-signal.SIGKILL] * 4 + [0] * 12
    assert callers >= {f"Bearer token-{number}" for number in range(4, 12)}
    assert most_in_a_window(arrivals, window) <= limit
    assert len(arrivals) > 3 * limit  # over several windows the tokens did come back


def test_what_was_used_outlives_the_processes(server: Server, settings: LazySettings) -> None:
    settings.AVITO_RATE_LIMIT_PER_MINUTE = 5
    assert Account(server, Limits()).spend() == 5
    assert Account(server, Limits()).spend() == 0
    assert len(server.arrivals) == 5


def test_a_call_that_never_ended_is_counted_until_it_can_no_longer_arrive(
    server: Server, settings: LazySettings
) -> None:
    settings.AVITO_RATE_LIMIT_PER_MINUTE = 1
    shared = Limits(window_seconds=0.5)
    killed = limits.Call("killed", 1, "user", 0, False, seconds=1.5)
    assert shared.take(killed) == 0
    began = time.monotonic()
    Account(server, shared).call()
    assert server.arrivals[0][0] - began >= 1.9


def test_asking_twice_for_the_same_call_takes_one_token(settings: LazySettings) -> None:
    call = limits.Call("one", 1, "user", 0, False, seconds=1)
    shared = Limits()
    assert shared.take(call) == shared.take(call) == 0
    assert shared.state().used == 1


# Two budgets, and all or none


def test_a_call_takes_of_both_budgets_or_of_none(server: Server, settings: LazySettings) -> None:
    settings.AVITO_RATE_LIMIT_PER_MINUTE = 30
    shared = Limits()
    anna, boris = Account(server, shared), Account(server, shared)
    assert anna.spend(ITEMS) == 25
    assert [anna.spend(ITEMS) for _ in range(3)] == [0, 0, 0]
    assert shared.state().used == 25
    assert boris.spend(ITEMS) == 5
    assert boris.spend(ME) == 0


def test_people_are_told_when_to_come_back_and_avito_is_not_asked(server: Server) -> None:
    anna = Account(server, Limits())
    anna.call(STATS)
    with pytest.raises(avito.RateLimited) as caught:
        anna.call(STATS)
    assert caught.value.retry_after_seconds in range(55, 61)
    assert not caught.value.maybe_done
    assert len(server.arrivals) == 1
    assert anna.waits == 0


def test_people_wait_for_a_short_while(server: Server, settings: LazySettings) -> None:
    settings.AVITO_RATE_LIMIT_PER_MINUTE = 2
    anna = Account(server, Limits(window_seconds=1))
    assert anna.spend(most=5) == 5
    assert most_in_a_window([moment for moment, *_ in server.arrivals], 1) <= 2
    assert anna.waits >= 2


def test_a_failed_call_has_used_its_token(settings: LazySettings) -> None:
    settings.AVITO_RATE_LIMIT_PER_MINUTE = 1
    shared = Limits()
    with serving() as gone:
        account = Account(gone, shared)
    with pytest.raises(avito.NotConnected):
        account.call()
    with pytest.raises(avito.RateLimited):
        account.call()


# People first


def test_background_work_leaves_a_reserve_to_people(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BACKGROUND_PATIENCE_SECONDS", 1.0)
    anna = Account(server, Limits())
    with limits.background():
        assert anna.spend(ITEMS) == 20
    assert anna.spend(ITEMS) == 5


def test_a_budget_of_one_serves_background_work_too(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BACKGROUND_PATIENCE_SECONDS", 1.0)
    anna = Account(server, Limits())
    with limits.background():
        assert anna.spend(STATS) == 1
    assert anna.spend(STATS) == 0


def test_background_work_does_not_eat_a_minute_at_once(
    server: Server, settings: LazySettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.AVITO_RATE_LIMIT_PER_MINUTE = 100
    monkeypatch.setattr(limits, "BACKGROUND_PATIENCE_SECONDS", 1.0)
    anna = Account(server, Limits())
    with limits.background():
        assert anna.spend() == 16
    assert anna.spend(most=84) == 84
    assert anna.spend() == 0


def test_background_work_waits_without_a_database_connection(server: Server, settings: LazySettings) -> None:
    settings.AVITO_RATE_LIMIT_PER_MINUTE = 5
    shared = Limits(window_seconds=7)
    anna = Account(server, shared)
    assert anna.spend() == 5
    boris = Account(server, shared)
    with limits.background():
        boris.call()
    assert boris.waits == 1
    assert len(server.arrivals) == 6


def test_background_work_is_marked_in_its_own_thread_only(server: Server) -> None:
    anna = Account(server, Limits())
    with ThreadPoolExecutor(1) as pool, limits.background():
        assert pool.submit(anna.spend, ITEMS).result() == 25


# What Avito says


def test_a_lower_limit_is_learnt_and_a_higher_one_is_not(server: Server) -> None:
    shared = Limits()
    anna, boris = Account(server, shared), Account(server, shared)
    server.answers = [(200, {"X-RateLimit-Limit": "3"}), (200, {"X-RateLimit-Limit": "1000"})]
    assert anna.spend() == 3
    assert boris.spend(most=10) == 10
    server.answers = [(200, {"X-RateLimit-Limit": "1000", "X-RateLimit-Remaining": "999"})]
    assert anna.spend(ITEMS) == 25


def test_what_others_use_of_the_same_key_is_used(server: Server) -> None:
    anna = Account(server, Limits())
    server.answers = [(200, {"X-RateLimit-Limit": "25", "X-RateLimit-Remaining": "4"})]
    assert anna.spend(ITEMS) == 5


def test_calls_before_the_limit_was_known_count_as_well(server: Server) -> None:
    anna = Account(server, Limits())
    assert anna.spend(most=4) == 4
    server.answers = [(200, {"X-RateLimit-Limit": "6"})]
    assert anna.spend() == 2


def test_a_pause_that_avito_asks_for_holds_for_everybody_with_that_budget(server: Server) -> None:
    anna = Account(server, Limits())
    server.answers = [(429, {"Retry-After": "30"})]
    with pytest.raises(avito.RateLimited) as caught:
        anna.call()
    assert caught.value.retry_after_seconds == 30
    again = Account(server, Limits(), anna.pk)
    with pytest.raises(avito.RateLimited) as caught:
        again.call()
    assert caught.value.retry_after_seconds in range(25, 31)
    assert len(server.arrivals) == 1
    again.call("/messenger/v2/accounts/1/chats")
    Account(server, Limits()).call()


def test_a_pause_of_a_server_in_trouble_is_kept_too(server: Server) -> None:
    anna = Account(server, Limits())
    server.answers = [(503, {"Retry-After": "30"})]
    with pytest.raises(avito.Broken):
        anna.call()
    with pytest.raises(avito.RateLimited):
        anna.call()


def test_without_a_word_from_avito_the_pauses_grow_and_end_with_the_first_success(server: Server) -> None:
    shared = Limits(first_pause_seconds=0.5, longest_pause_seconds=100)
    anna = Account(server, shared)
    told = []
    server.answers = [(429, {"Retry-After": "0"}), (429, {}), (429, {})]
    for _ in range(3):
        with pytest.raises(avito.RateLimited) as caught:
            anna.call()
        told.append(caught.value.retry_after_seconds)
    assert told == [1, 2, 3]  # 0.5, 1 and 2 seconds, a little more, in whole seconds
    anna.call()
    server.answers = [(429, {})]
    with pytest.raises(avito.RateLimited) as caught:
        anna.call()
    assert caught.value.retry_after_seconds == 1


def test_in_the_background_a_refused_call_is_waited_for_and_repeated(server: Server) -> None:
    anna = Account(server, Limits(first_pause_seconds=0.2))
    server.answers = [(429, {"Retry-After": "1"}), (429, {})]
    with limits.background():
        anna.call()
    moments = [moment for moment, *_ in server.arrivals]
    assert len(moments) == 3
    assert moments[1] - moments[0] >= 1
    assert moments[2] - moments[1] >= 0.2
    assert anna.waits == 1


def test_in_the_background_a_long_pause_is_not_waited_for(server: Server) -> None:
    anna = Account(server, Limits())
    server.answers = [(429, {"Retry-After": "3600"})]
    with limits.background(), pytest.raises(avito.RateLimited) as caught:
        anna.call()
    assert caught.value.retry_after_seconds in range(3590, 3601)
    assert len(server.arrivals) == 1


def test_when_one_account_after_the_other_is_refused_all_pause(server: Server) -> None:
    shared = Limits()
    accounts = [Account(server, shared) for _ in range(5)]
    server.answers = [(429, {"Retry-After": "3600"})] * 2
    assert [account.spend(most=1) for account in accounts[:3]] == [0, 0, 1]
    assert shared.state().paused_until is None
    server.answers = [(429, {"Retry-After": "3600"})] * 3
    assert [account.spend(most=1) for account in accounts[2:]] == [0, 0, 0]
    assert shared.state().paused_until is not None
    with pytest.raises(avito.RateLimited) as caught:
        Account(server, shared).call()
    assert caught.value.retry_after_seconds in range(55, 61)


# Redis


@pytest.fixture
def own_valkey(tmp_path: Path, settings: LazySettings) -> Iterator[embedded.Valkey]:
    """A Valkey that this test may stop."""
    valkey = embedded.Valkey(tmp_path, durable=False)
    valkey.start()
    valkey.wait_ready()
    settings.REDIS_URL = embedded.redis_url(tmp_path)
    yield valkey
    valkey.stop()
    shutil.rmtree(embedded.socket_dir(tmp_path), ignore_errors=True)


def test_without_redis_a_process_lives_on_its_share_and_comes_back_by_itself(
    own_valkey: embedded.Valkey, server: Server, settings: LazySettings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.AVITO_RATE_LIMIT_PER_MINUTE = 48
    shared = Limits(silence_seconds=0.2)
    anna = Account(server, shared)
    anna.call()
    own_valkey.stop()
    assert anna.spend() == 5  # an eighth, of which one was used before
    assert shared.state() == limits.State(6, 6, None, is_shared=False)
    assert sum("avito_limits_without_redis" in line for line in caplog.messages) == 1

    own_valkey.start()
    own_valkey.wait_ready()
    time.sleep(0.3)
    assert anna.spend() == 42
    assert shared.state() == limits.State(48, 48, None)
    assert sum("avito_limits_with_redis_again" in line for line in caplog.messages) == 1


def test_a_redis_that_hangs_is_not_waited_for_by_one_caller_after_the_other(
    own_valkey: embedded.Valkey, server: Server
) -> None:
    anna = Account(server, Limits())
    anna.call()
    assert own_valkey.pid
    client = redis.Redis.from_url(django_settings.REDIS_URL)
    client.client_pause(20_000)
    began = time.monotonic()
    assert anna.spend(most=20) == 20
    assert time.monotonic() - began < 10


def test_an_account_without_redis_keeps_to_the_pause_that_avito_asks_for(
    server: Server, settings: LazySettings
) -> None:
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    anna = Account(server, Limits())
    server.answers = [(429, {"Retry-After": "30"})]
    assert [anna.spend(), anna.spend()] == [0, 0]
    assert len(server.arrivals) == 1


def test_nothing_stays_in_redis(server: Server, settings: LazySettings) -> None:
    settings.AVITO_RATE_LIMIT_PER_MINUTE = 10
    client = redis.Redis.from_url(settings.REDIS_URL)
    anna = Account(server, Limits(window_seconds=1))
    with limits.background():
        server.answers = [(429, {"Retry-After": "1"}), (200, {"X-RateLimit-Limit": "5", "X-RateLimit-Remaining": "1"})]
        anna.spend(most=5)
    for key in client.scan_iter(f"{limits.PREFIX}*"):
        assert client.pttl(key) > 0, key
        if client.type(key) == b"zset":
            assert client.zcard(key) <= 10


def test_the_state_is_shown(server: Server, settings: LazySettings) -> None:
    settings.AVITO_RATE_LIMIT_PER_MINUTE = 7
    assert limits.state() == limits.State(7, 0, None)
    avito.Client("token", Metered(avito.Transport(server.url), next(_accounts))).call(protocol.get(ME))
    assert limits.state() == limits.State(7, 1, None)
