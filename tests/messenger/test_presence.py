"""Eternal online: at the promised times, through the account's own way, and recorded as it happened."""

import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import redis
from django.conf import LazySettings, settings
from django.db import OperationalError, connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from avito_accounts import limits, tokens
from avito_accounts.models import Account, Authorization
from messenger import presence, tasks
from messenger.models import PresenceAttempt
from tests.conftest import Api
from tests.factories import authorize, make_account, make_proxy
from tests.recording_proxy import recording_proxy
from tests.sandbox.driver import ANNA, Sandbox

BASE = "/api/v1/eternal-online"
STATUS, SELF = f"/messenger/v2/accounts/{ANNA}/status/online", "/core/v1/accounts/self"
FIELDS = {
    "accountId", "eternalOnlineEnabled", "onlineKeepAliveInterval", "isOnline", "onlineMethod", "lastOnlineAt",
    "nextDueAt", "consecutiveFailures", "onlineError",
}  # fmt: skip


@pytest.fixture
def knows_status(avito_sandbox: Sandbox) -> None:
    avito_sandbox.control("PATCH", "/settings", statusOnlineKnown=True)


def enabled(api: Api, account: Account, **body: Any) -> Any:
    answer = api.post(f"{BASE}/accounts/{account.pk}/enable", body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def shown(api: Api, account: Account) -> Any:
    rows = api.get(f"{BASE}/status").json()["results"]
    return next(row for row in rows if row["accountId"] == account.pk)


def history(api: Api, account: Account, **query: Any) -> Any:
    return api.get(f"{BASE}/accounts/{account.pk}/history", **query).json()


def paths(sandbox: Sandbox) -> list[str]:
    return [call["path"] for call in sandbox.journal() if call["path"] != "/token"]


def due(account: Account, seconds_ago: float = 0.1) -> None:
    Account.objects.filter(pk=account.pk).update(online_due_at=timezone.now() - timedelta(seconds=seconds_ago))


# What is recorded is what happened


@pytest.mark.usefixtures("knows_status")
def test_an_account_is_online_by_status_when_avito_accepts_the_call(
    owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    begun = enabled(owner, anna, interval=60)
    assert set(begun) == FIELDS
    assert (begun["isOnline"], begun["onlineMethod"], begun["lastOnlineAt"]) == (False, None, None)
    tasks.keep_online()
    now = shown(owner, anna)
    assert (now["isOnline"], now["onlineMethod"], now["consecutiveFailures"]) == (True, "status", 0)
    assert paths(avito_sandbox) == [STATUS]
    [attempt] = history(owner, anna)
    assert set(attempt) == {"at", "method", "ok", "code", "latencyMs"}
    assert (attempt["method"], attempt["ok"], attempt["code"]) == ("status", True, None)
    assert isinstance(attempt["latencyMs"], int)


@pytest.mark.parametrize("status", [404, 405])
def test_an_account_is_online_by_activity_where_avito_knows_no_such_call(
    owner: Api, anna: Account, avito_sandbox: Sandbox, status: int
) -> None:
    avito_sandbox.fault("status", "status/online$", status=status)
    enabled(owner, anna)
    tasks.keep_online()
    assert (shown(owner, anna)["isOnline"], shown(owner, anna)["onlineMethod"]) == (True, "activity")
    assert paths(avito_sandbox) == [STATUS, SELF]
    due(anna)
    tasks.keep_online()
    assert paths(avito_sandbox) == [STATUS, SELF, SELF]  # it was told a moment ago
    Account.objects.update(online_status_unknown_until=timezone.now() - timedelta(seconds=1))
    due(anna)
    tasks.keep_online()
    assert paths(avito_sandbox)[-2:] == [STATUS, SELF]
    assert [one["method"] for one in history(owner, anna)] == ["activity"] * 3


@pytest.mark.usefixtures("knows_status")
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"kind": "status", "status": 500}, "avito_unavailable"),
        ({"kind": "status", "status": 403}, "avito_forbidden"),
        ({"kind": "429", "seconds": 30}, "avito_rate_limited"),
        ({"kind": "rubbish"}, "avito_unavailable"),
        ({"kind": "silence"}, "avito_timeout"),
    ],
)
def test_whatever_else_avito_says_is_a_failure_with_its_cause(
    owner: Api, anna: Account, avito_sandbox: Sandbox, settings: LazySettings, fault: dict[str, Any], code: str
) -> None:
    settings.AVITO_TIMEOUT_SECONDS = 1
    tokens.transports.close()
    details = {**fault}
    avito_sandbox.fault(details.pop("kind"), "status/online$", **details)
    enabled(owner, anna)
    tasks.keep_online()
    now = shown(owner, anna)
    assert (now["isOnline"], now["lastOnlineAt"], now["consecutiveFailures"]) == (False, None, 1)
    assert now["onlineError"]["code"] == code
    assert now["onlineError"]["detail"]
    [attempt] = history(owner, anna)
    assert (attempt["ok"], attempt["code"], attempt["method"], attempt["latencyMs"]) == (False, code, None, None)
    assert SELF not in paths(avito_sandbox)


def test_a_fallback_that_fails_is_a_failure(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.fault("status", "accounts/self$", status=503)
    enabled(owner, anna)
    tasks.keep_online()
    assert shown(owner, anna)["isOnline"] is False
    assert history(owner, anna)[0]["code"] == "avito_unavailable"


@pytest.mark.usefixtures("knows_status")
def test_online_ends_with_twice_the_interval(owner: Api, anna: Account) -> None:
    enabled(owner, anna, interval=60)
    tasks.keep_online()
    for seconds, is_online in ((110, True), (121, False)):
        Account.objects.update(last_online_at=timezone.now() - timedelta(seconds=seconds))
        assert shown(owner, anna)["isOnline"] is is_online
        assert owner.get(f"/api/v1/accounts/{anna.pk}").json()["isOnline"] is is_online


@pytest.mark.usefixtures("knows_status")
def test_a_success_after_failures_forgets_them(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.fault("status", "status/online$", status=500, times=2)
    enabled(owner, anna)
    for _time in range(3):
        due(anna)
        tasks.keep_online()
    now = shown(owner, anna)
    assert (now["isOnline"], now["consecutiveFailures"], now["onlineError"]) == (True, 0, None)
    assert [one["ok"] for one in history(owner, anna)] == [True, False, False]
    assert len(history(owner, anna, limit=2)) == 2


@pytest.mark.usefixtures("knows_status")
def test_the_sign_goes_through_the_accounts_own_proxy_or_not_at_all(
    owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    with recording_proxy("socks5", login="u", password="p") as proxy:
        row = make_proxy(type="socks5", port=proxy.port, login="u", password="p")
        Account.objects.filter(pk=anna.pk).update(proxy=row)
        enabled(owner, anna)
        tasks.keep_online()
        assert len(proxy.requests) == 1
    assert shown(owner, anna)["isOnline"] is True
    tokens.transports.close()
    calls = len(avito_sandbox.journal())
    due(anna)
    tasks.keep_online()
    assert history(owner, anna)[0]["code"] == "proxy_failed"
    assert len(avito_sandbox.journal()) == calls


def test_a_revoked_account_is_left_alone_and_shown(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.control("POST", "/tokens/revoke", sellerId=ANNA)
    enabled(owner, anna)
    tasks.keep_online()
    assert shown(owner, anna)["onlineError"]["code"] == "reconnect_required"
    calls = len(avito_sandbox.journal())
    for _time in range(3):
        due(anna)
        tasks.keep_online()
    assert len(avito_sandbox.journal()) == calls
    assert len(history(owner, anna)) == 1
    Authorization.objects.all().delete()
    assert [row["accountId"] for row in owner.get(f"{BASE}/status", failing="true").json()["results"]] == [anna.pk]


def test_an_answer_that_says_no_is_no_success(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.fault("status", "status/online$", status=200, body='{"ok": false}')
    enabled(owner, anna)
    tasks.keep_online()
    assert (shown(owner, anna)["isOnline"], history(owner, anna)[0]["ok"]) == (False, False)


def test_activity_of_another_profile_is_none_of_this_account(owner: Api, avito_sandbox: Sandbox) -> None:
    account = make_account(client_id="uyut-client", client_secret="uyut-secret", avito_user_id=ANNA)
    avito_sandbox.fault("status", "status/online$", status=404)
    enabled(owner, account)
    tasks.keep_online()
    assert shown(owner, account)["isOnline"] is False


def flagged(account: Account) -> None:
    tokens.flag(account)


def dead(account: Account) -> None:
    Authorization.objects.filter(account=account).update(dead_reason="invalid_grant")


def refused(account: Account) -> None:
    Authorization.objects.filter(account=account).delete()
    tokens.flag(account, code="invalid_client")


@pytest.mark.parametrize(
    ("ended", "code"), [(flagged, "reconnect_required"), (dead, "reconnect_required"), (refused, "invalid_client")]
)
def test_an_account_that_is_revoked_elsewhere_is_left_alone_and_shown_until_it_is_connected_again(
    owner: Api, anna: Account, avito_sandbox: Sandbox, ended: Callable[[Account], None], code: str
) -> None:
    Account.objects.update(online_failures=5, online_due_at=timezone.now() + timedelta(minutes=25))  # it backs off
    enabled(owner, anna, interval=60)
    Account.objects.update(online_due_at=timezone.now() + timedelta(minutes=25), last_online_at=timezone.now())
    ended(anna)
    now = shown(owner, anna)
    assert (now["onlineError"]["code"], now["nextDueAt"], now["consecutiveFailures"]) == (code, None, 0)
    assert now["onlineError"]["detail"]
    assert owner.get(f"/api/v1/accounts/{anna.pk}").json()["onlineError"] == now["onlineError"]
    assert [owner.get(f"{BASE}/status", failing=word).json()["count"] for word in ("true", "false")] == [1, 0]
    pair = avito_sandbox.tokens(ANNA)
    due(anna, seconds_ago=-1500)
    authorize(anna, access_token=pair["access_token"], refresh_token=pair["refresh_token"])
    now = shown(owner, anna)
    assert now["onlineError"] is None
    assert datetime.fromisoformat(now["nextDueAt"]) - timezone.now() < timedelta(seconds=60)
    assert [owner.get(f"{BASE}/status", failing=word).json()["count"] for word in ("true", "false")] == [0, 1]
    due(anna)
    tasks.keep_online()
    assert shown(owner, anna)["isOnline"] is True


def test_accounts_that_are_left_alone_are_not_claimed_and_come_back_apart(anna: Account) -> None:
    accounts = many(200, 60)
    Account.objects.update(connection_status="needs_reconnect")
    assert served(600) == {}
    Account.objects.update(connection_status="connected")
    times = served(720, since=600, tick=1)
    assert all(times[account.pk][0] <= 662 for account in accounts)
    assert max(Counter(int(calls[0]) for calls in times.values()).values()) <= 3 * 200 / 60


@pytest.mark.usefixtures("knows_status")
def test_a_pause_and_what_a_person_tries_leave_the_next_slot_alone(
    owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    enabled(owner, anna, interval=60)
    avito_sandbox.fault("429", "status/online$", seconds=50)
    for _time in range(4):
        due(anna)
        tasks.keep_online()
    due_at = Account.objects.get(pk=anna.pk).online_due_at
    assert due_at is not None
    assert due_at - timezone.now() <= timedelta(seconds=68)
    avito_sandbox.control("DELETE", "/faults")
    limits.reset()
    avito_sandbox.fault("status", "status/online$", status=500)
    for _time in range(4):
        owner.post(f"{BASE}/accounts/{anna.pk}/set-online")
    assert Account.objects.get(pk=anna.pk).online_due_at == due_at


@pytest.mark.usefixtures("knows_status")
def test_what_was_done_while_the_database_was_away_is_recorded_later(
    owner: Api, anna: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    enabled(owner, anna)
    written = presence.record

    def away(attempts: Any) -> None:
        raise OperationalError("gone")

    monkeypatch.setattr(presence, "record", away)
    with pytest.raises(OperationalError):
        tasks.keep_online()
    monkeypatch.setattr(presence, "record", written)
    tasks.keep_online()
    assert [one["ok"] for one in history(owner, anna)] == [True]


@pytest.mark.usefixtures("knows_status")
def test_the_status_call_is_a_setting_and_may_be_none(
    owner: Api, anna: Account, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    enabled(owner, anna)
    settings.AVITO_ONLINE_STATUS_PATH = "off"
    tasks.keep_online()
    assert owner.post(f"{BASE}/accounts/{anna.pk}/set-online").json()["onlineMethod"] == "activity"
    assert paths(avito_sandbox) == [SELF, SELF]
    assert [one["method"] for one in history(owner, anna)] == ["activity"] * 2
    settings.AVITO_ONLINE_STATUS_PATH = "/messenger/v9/{user_id}/here"
    avito_sandbox.fault("status", "/here$", status=200, body="{}")
    due(anna)
    tasks.keep_online()
    assert paths(avito_sandbox)[-1] == f"/messenger/v9/{ANNA}/here"
    assert shown(owner, anna)["onlineMethod"] == "status"


# By hand


@pytest.mark.usefixtures("knows_status")
def test_a_person_may_set_an_account_online(owner: Api, colleague: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    answer = owner.post(f"{BASE}/accounts/{anna.pk}/set-online")
    assert answer.status_code == 200
    assert (answer.json()["isOnline"], answer.json()["onlineMethod"]) == (True, "status")
    online = colleague.post(f"/api/v1/messenger/accounts/{anna.pk}/status/online")
    assert online.status_code == 200
    assert set(online.json()) == {"isOnline", "onlineMethod", "lastOnlineAt"}
    assert len(history(owner, anna)) == 2
    avito_sandbox.fault("status", "status/online$", status=500)
    failed = owner.post(f"{BASE}/accounts/{anna.pk}/set-online")
    assert (failed.status_code, failed.json()["errors"][0]["code"]) == (502, "avito_unavailable")
    assert history(owner, anna)[0]["ok"] is False


def test_an_account_that_never_was_connected_cannot_be_online(owner: Api, product: str) -> None:
    account = make_account()
    answer = owner.post(f"{BASE}/accounts/{account.pk}/set-online")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (409, "account_not_authorized")
    enabled(owner, account)
    tasks.keep_online()
    assert shown(owner, account)["onlineError"]["code"] == "account_not_authorized"


@pytest.mark.parametrize("interval", [59, 3601, 0, -60, None, 60.5, "soon", [], True])
def test_an_interval_out_of_range_is_refused(owner: Api, anna: Account, interval: Any) -> None:
    answer = owner.post(f"{BASE}/accounts/{anna.pk}/enable", {"interval": interval})
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "interval")
    assert Account.objects.get(pk=anna.pk).eternal_online_enabled is False


def test_without_an_interval_the_stored_one_stays(owner: Api, anna: Account) -> None:
    assert enabled(owner, anna)["onlineKeepAliveInterval"] == 300
    assert enabled(owner, anna, interval="60")["onlineKeepAliveInterval"] == 60
    assert owner.post(f"{BASE}/accounts/{anna.pk}/enable").json()["onlineKeepAliveInterval"] == 60
    off = owner.post(f"{BASE}/accounts/{anna.pk}/disable").json()
    assert (off["eternalOnlineEnabled"], off["nextDueAt"]) == (False, None)


def test_the_accounts_form_switches_it_as_well(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    owner.put(f"/api/v1/accounts/{anna.pk}", {"eternalOnlineEnabled": True, "onlineKeepAliveInterval": 3600})
    tasks.keep_online()
    assert len(history(owner, anna)) == 1
    owner.put(f"/api/v1/accounts/{anna.pk}", {"onlineKeepAliveInterval": 60})  # does not wait for the hour to end
    tasks.keep_online()
    assert len(history(owner, anna)) == 2
    owner.put(f"/api/v1/accounts/{anna.pk}", {"eternalOnlineEnabled": False})
    tasks.keep_online()
    assert len(history(owner, anna)) == 2


def test_the_status_of_all_is_paged_and_filtered(owner: Api, product: str) -> None:
    on, off = make_account(eternal_online_enabled=True, online_failures=2), make_account()
    page = owner.get(f"{BASE}/status", pageSize=1).json()
    assert (page["count"], len(page["results"])) == (2, 1)
    for query, expected in (({"enabled": "true"}, on), ({"enabled": "false"}, off), ({"failing": "true"}, on)):
        assert [row["accountId"] for row in owner.get(f"{BASE}/status", **query).json()["results"]] == [expected.pk]


# The schedule


START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def clock(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def served(until: float, *, since: float = 0.0, tick: float = 2.0, asleep: tuple[float, float] = (0, 0)) -> Any:
    """When each account was called, in seconds, by a sweep that looks every `tick`."""
    times: defaultdict[int, list[float]] = defaultdict(list)
    second = since
    while second < until:
        if not asleep[0] <= second < asleep[1]:
            while claimed := presence.claim(500, now=clock(second)):
                for account in claimed:
                    times[account.pk].append(second)
        second += tick
    return times


def many(count: int, interval: int | None = None) -> list[Account]:
    """Accounts whose first slot is the same instant: the worst of beginnings."""
    accounts = Account.objects.bulk_create(
        Account(
            name=f"a{number}",
            eternal_online_enabled=True,
            online_keep_alive_interval=interval or (60, 90, 300, 600)[number % 4],
            online_due_at=START,
        )
        for number in range(count)
    )
    analyze()
    return accounts


def analyze() -> None:
    """So that slots are claimed by their index, as where accounts have long been there."""
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE avito_accounts_account")


def spread(count: int) -> list[Account]:
    """Accounts online that drifted apart long ago: intervals of one to ten minutes, first slots anywhere within."""
    accounts = many(count)
    for number, account in enumerate(accounts):
        account.online_keep_alive_interval = 60 + 540 * number // count
        account.online_due_at = clock(number * 2654435761 % account.online_keep_alive_interval)
    Account.objects.bulk_update(accounts, ["online_keep_alive_interval", "online_due_at"])
    Account.objects.update(last_online_at=clock(86_400))  # they stay online, though nothing is recorded here
    return accounts


@pytest.mark.django_db(transaction=True)
def test_each_account_is_called_at_its_own_interval() -> None:
    accounts = {account.pk: account.online_keep_alive_interval for account in many(200)}
    for pk, times in served(1800).items():
        interval = accounts[pk]
        gaps = [after - before for before, after in pairwise(times)]
        assert len(times) >= 1800 // (1.05 * interval + 5)
        assert all(abs(gap - interval) <= 0.05 * interval + 5 for gap in gaps), (interval, gaps)


@pytest.mark.django_db(transaction=True)
def test_accounts_that_begin_together_drift_apart() -> None:
    many(400, 60)
    times = served(1200, tick=1)
    late = Counter(int(second) for calls in times.values() for second in calls if second > 900)
    assert max(late.values()) <= 3 * statistics.mean(late[second] for second in range(901, 1199))


@pytest.mark.django_db(transaction=True)
def test_after_an_outage_nobody_waits_longer_than_an_interval_and_no_crowd_comes() -> None:
    accounts = {account.pk: account.online_keep_alive_interval for account in many(600, 60)}
    served(900)
    times = served(2400, since=900, tick=1, asleep=(1000, 1800))
    for pk, calls in times.items():
        after = [second for second in calls if second >= 1800]
        assert after[0] - 1800 <= accounts[pk] + 2
    crowd = Counter(int(second) for calls in times.values() for second in calls if second >= 1800)
    assert max(crowd.values()) <= 3 * 600 / 60


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("seconds", [15, 170])
def test_after_a_short_outage_what_was_late_comes_apart_and_within_its_tolerance(seconds: int) -> None:
    accounts = {account.pk: account.online_keep_alive_interval for account in spread(800)}
    times = served(1300 + 2 * seconds, tick=1, asleep=(1000, 1000 + seconds))
    for pk, calls in times.items():
        gaps = [after - before for before, after in pairwise(calls)]
        assert all(gap <= 2 * (1.05 * accounts[pk] + 5) + seconds for gap in gaps)
        assert sum(gap > 1.1 * accounts[pk] + 10 for gap in gaps) <= 1, "not more than the one slot is left out"
    by_second = Counter(int(second) for calls in times.values() for second in calls)
    crowd = max(by_second[second] for second in range(1000, 1300 + seconds))
    # Served together they would be as many as the outage has seconds, or as their tolerances.
    assert crowd <= 10 * sum(1 / interval for interval in accounts.values())


def test_who_comes_online_by_hand_is_kept_online_from_then_on(owner: Api, anna: Account) -> None:
    later = timezone.now() + timedelta(minutes=30)
    Account.objects.update(
        eternal_online_enabled=True, online_keep_alive_interval=60, online_failures=9, online_due_at=later
    )
    given = owner.post(f"{BASE}/accounts/{anna.pk}/set-online").json()
    assert (given["isOnline"], given["consecutiveFailures"]) == (True, 0)
    assert datetime.fromisoformat(given["nextDueAt"]) < timezone.now() + timedelta(seconds=69)


def test_who_has_just_been_switched_on_waits_only_seconds_though_it_is_online(owner: Api, anna: Account) -> None:
    owner.post(f"{BASE}/accounts/{anna.pk}/set-online")
    enabled(owner, anna, interval=3600)
    now = timezone.now()
    assert presence.claim(10, now=now + timedelta(seconds=2)) == []
    due_at = Account.objects.get(pk=anna.pk).online_due_at
    assert due_at
    assert due_at - now <= timedelta(seconds=2 + presence.OFFLINE_WAITS_SECONDS)


def test_a_sign_whose_slot_passes_while_it_waits_for_its_turn_is_not_given(
    owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    enabled(owner, anna, interval=60)
    [account] = presence.claim(10)
    pause = f"{limits.PREFIX}{anna.pk}:core:pause"
    for section in ("core", "messenger", "user"):
        key = pause.replace("core", section)
        redis.Redis.from_url(settings.REDIS_URL).set(key, int((time.time() + 1) * 1_000_000), px=1000)
    account.read_at = time.monotonic() - 7.5  # of the 8 seconds that a slot of a minute may be late
    assert presence._served(account) is None
    assert paths(avito_sandbox) == []


@pytest.mark.parametrize("name", ["enabled", "failing"])
def test_a_filter_that_is_neither_true_nor_false_is_named(owner: Api, name: str) -> None:
    answer = owner.get(f"{BASE}/status", **{name: "banana"})
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, name)


@pytest.mark.parametrize("age_seconds", [None, 700])
def test_who_is_late_and_not_online_waits_only_seconds(anna: Account, age_seconds: int | None) -> None:
    online_at = None if age_seconds is None else timezone.now() - timedelta(seconds=age_seconds)
    Account.objects.update(eternal_online_enabled=True, last_online_at=online_at)
    due(anna, seconds_ago=4)
    assert presence.claim(10) == []
    due_at = Account.objects.get(pk=anna.pk).online_due_at
    assert due_at
    assert due_at - timezone.now() <= timedelta(seconds=presence.OFFLINE_WAITS_SECONDS)


@pytest.mark.django_db(transaction=True)
def test_a_clock_that_jumps_calls_nobody_twice() -> None:
    many(50, 60)
    served(300)
    assert sum(map(len, served(300, since=100).values())) == 0  # back: those slots are over
    ahead = served(960, since=900)
    assert all(len(calls) <= 2 for calls in ahead.values())


@pytest.mark.django_db(transaction=True)
def test_a_slot_is_served_once_whoever_asks() -> None:
    many(100, 60)

    def sweep(_number: int) -> list[int]:
        try:
            return [account.pk for _time in range(20) for account in presence.claim(7, now=clock(1))]
        finally:
            connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        claimed = [pk for pks in pool.map(sweep, range(8)) for pk in pks]
    assert (len(claimed), len(set(claimed))) == (100, 100)


@pytest.mark.usefixtures("knows_status")
def test_a_claimed_slot_whose_worker_dies_costs_one_interval(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    enabled(owner, anna, interval=60)
    [claimed] = presence.claim(10)
    assert claimed == anna  # and here the worker dies
    tasks.keep_online()
    assert paths(avito_sandbox) == []
    due_at = Account.objects.get(pk=anna.pk).online_due_at
    assert due_at is not None
    assert due_at - timezone.now() <= timedelta(seconds=68)
    due(anna)
    tasks.keep_online()
    assert paths(avito_sandbox) == [STATUS]


@pytest.mark.usefixtures("knows_status")
def test_repeated_failure_backs_off_up_to_a_cap(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.fault("status", "status/online$", status=500)
    enabled(owner, anna, interval=60)
    waits = []
    for _time in range(8):
        due(anna)
        tasks.keep_online()
        due_at = Account.objects.get(pk=anna.pk).online_due_at
        assert due_at is not None
        waits.append((due_at - timezone.now()).total_seconds())
    assert waits[0] <= 70
    assert waits[2] > 2 * 60
    assert all(wait <= 1.1 * presence.BACKOFF_SECONDS_MAX for wait in waits)
    assert waits[-1] >= 0.85 * presence.BACKOFF_SECONDS_MAX


@pytest.mark.usefixtures("knows_status")
def test_one_dead_proxy_does_not_keep_the_others_waiting(
    owner: Api, anna: Account, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    settings.AVITO_TIMEOUT_SECONDS = 2
    with recording_proxy("socks5", mode="swallow") as proxy:
        stuck = make_account(
            proxy=make_proxy(type="socks5", port=proxy.port), client_id="uyut-client", client_secret="uyut-secret"
        )
        enabled(owner, stuck)
        enabled(owner, anna)
        tasks.keep_online()
    first = {one.account_id: one for one in PresenceAttempt.objects.order_by("-at")}
    assert (first[anna.pk].ok, first[stuck.pk].code) == (True, "proxy_failed")


def test_queries_are_as_many_for_a_hundred_accounts_as_for_ten(avito_sandbox: Sandbox, product: str) -> None:
    avito_sandbox.control("PATCH", "/settings", statusOnlineKnown=True)

    def queries(count: int) -> int:
        Account.objects.all().delete()
        for number in range(count):
            keys = {"clientId": f"{count}-{number}", "clientSecret": "secret"}
            seller = avito_sandbox.control("POST", "/sellers", name="s", **keys)
            account = make_account(
                avito_user_id=seller["id"], client_id=keys["clientId"], client_secret="secret",
                eternal_online_enabled=True, online_due_at=timezone.now(),
            )  # fmt: skip
            tokens.access_token(account)
        claimed = presence.claim(count)
        attempts = [presence.give_sign(account) for account in claimed]
        assert {attempt.method for attempt in attempts} == {"status"}
        Account.objects.update(online_due_at=timezone.now())
        with CaptureQueriesContext(connection) as caught:
            again = presence.claim(count)
            made = [presence.give_sign(account) for account in again]
            presence.record(made)
        assert PresenceAttempt.objects.filter(account__in=again).count() == count
        return len(caught)

    assert queries(100) == queries(10)


def test_the_status_of_a_hundred_accounts_costs_as_many_queries_as_that_of_ten(owner: Api) -> None:
    def queries(count: int) -> int:
        for number in range(count):
            account = make_account(eternal_online_enabled=True, online_failures=number % 2, proxy=make_proxy())
            authorize(account)
        client = Client(headers={"Authorization": str(owner.session.headers["Authorization"])})
        with CaptureQueriesContext(connection) as caught:
            answer = client.get(f"{BASE}/status", {"pageSize": "200", "failing": "true"}).json()
        assert len(answer["results"]) == Account.objects.filter(online_failures=1).count()
        return len(caught)

    assert queries(10) == queries(90)


def test_history_older_than_three_days_is_forgotten(anna: Account) -> None:
    for days in (0, 2, 4, 5):
        PresenceAttempt.objects.create(account=anna, at=timezone.now() - timedelta(days=days))
    tasks.forget_old_attempts()
    tasks.forget_old_attempts()
    assert PresenceAttempt.objects.count() == 2
