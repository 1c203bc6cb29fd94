"""Proxies: whose they are, where they may not lead, and the breaker that lets a dead one rest."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connections
from django.utils import timezone

import avito
from avito_accounts import checks, limits, proxies, services, tokens
from avito_accounts.errors import AccountNotAuthorized
from avito_accounts.models import Account, Proxy
from notifications.models import Notification
from tests.avito.loopback import serving
from tests.avito.test_addresses import ELSEWHERE, HERE, OWN_NAMES, UNREADABLE, hangs_up
from tests.conftest import Api
from tests.factories import make_account, make_proxy
from tests.recording_proxy import recording_proxy
from tests.sandbox.driver import Sandbox

ACCOUNTS = "/api/v1/accounts"
PLAIN: dict[str, Any] = {"proxyType": "socks5", "proxyHost": "proxy.example", "proxyPort": 1080, "proxyLogin": "u",
                         "proxyPassword": "p"}  # fmt: skip


def created(api: Api, name: str, **fields: Any) -> int:
    answer = api.post(ACCOUNTS, {"name": name, **fields})
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


# Whose they are


def test_accounts_with_the_very_same_proxy_share_it(owner: Api) -> None:
    one, two = created(owner, "a", **PLAIN), created(owner, "b", **PLAIN)
    other = created(owner, "c", **{**PLAIN, "proxyPassword": "another"})
    assert Account.objects.get(pk=one).proxy == Account.objects.get(pk=two).proxy
    assert Account.objects.get(pk=other).proxy != Account.objects.get(pk=one).proxy
    assert Proxy.objects.count() == 2


def test_who_changes_the_proxy_changes_it_for_one_account(owner: Api) -> None:
    one, two = created(owner, "a", **PLAIN), created(owner, "b", **PLAIN)
    assert owner.put(f"{ACCOUNTS}/{one}", {"proxyPassword": "new"}).status_code == 200
    kept = Account.objects.select_related("proxy").get(pk=two).proxy
    changed = Account.objects.select_related("proxy").get(pk=one).proxy
    assert kept is not None
    assert changed is not None
    assert (kept.password, changed.password) == ("p", "new")


def test_a_proxy_goes_with_its_last_account_unless_it_is_to_be_kept(owner: Api) -> None:
    one, two = created(owner, "a", **PLAIN), created(owner, "b", **PLAIN)
    assert owner.put(f"{ACCOUNTS}/{one}", {"proxyType": None}).json()["proxyStatus"] == "not_configured"
    assert Proxy.objects.count() == 1
    assert owner.delete(f"{ACCOUNTS}/{two}").status_code == 204
    assert Proxy.objects.count() == 0
    make_proxy(is_kept=True, type="socks5", host="proxy.example", port=1080, login="u", password="p")
    three = created(owner, "c", **PLAIN)
    assert Proxy.objects.count() == 1
    assert owner.delete(f"{ACCOUNTS}/{three}").status_code == 204
    assert Proxy.objects.count() == 1


def test_a_mask_keeps_the_password_when_the_address_changes(owner: Api) -> None:
    account = created(owner, "a", **PLAIN)
    shown = owner.get(f"{ACCOUNTS}/{account}").json()
    assert owner.put(f"{ACCOUNTS}/{account}", {**shown, "proxyPort": 1081}).json()["proxyPort"] == 1081
    assert (Proxy.objects.get().port, Proxy.objects.get().password) == (1081, "p")


def test_a_proxy_without_a_kind_is_refused_by_name(owner: Api) -> None:
    answer = owner.post(ACCOUNTS, {"name": "a", "proxyHost": "proxy.example", "proxyPort": 80})
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "proxyType")


def test_two_requests_at_once_leave_each_account_one_proxy(owner: Api) -> None:
    ids = [created(owner, f"a{number}") for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda pk: owner.put(f"{ACCOUNTS}/{pk}", PLAIN).status_code, ids))
        answers += pool.map(lambda pk: owner.put(f"{ACCOUNTS}/{pk}", {"proxyType": None}).status_code, ids)
    assert set(answers) == {200}
    assert Proxy.objects.count() == 0


# Where they may not lead


HOSTILE = [*HERE, *ELSEWHERE, *UNREADABLE[:-1], *OWN_NAMES]


def test_hostile_hosts_are_refused_when_saved(owner: Api, settings: LazySettings, monkeypatch: Any) -> None:
    settings.PROXY_ALLOW_PRIVATE = False
    account = created(owner, "a")
    assert len(set(HOSTILE)) > 60
    with serving(hangs_up) as listener:
        fields = {"proxyType": "http", "proxyPort": listener.port}
        for host in HOSTILE:
            for answer in (
                owner.put(f"{ACCOUNTS}/{account}", {**fields, "proxyHost": host}),
                owner.post(ACCOUNTS, {"name": f"b {host}"[:100], **fields, "proxyHost": host}),
            ):
                assert answer.status_code == 400, host
                assert answer.json()["errors"][0]["attr"] in {"proxyHost", "name"}, host
        assert listener.connections == 0
    assert Proxy.objects.count() == 0


@pytest.mark.parametrize("host", HERE)
def test_hostile_hosts_are_refused_when_connecting_however_they_were_stored(
    owner: Api, anna: Account, avito_sandbox: Sandbox, settings: LazySettings, host: str
) -> None:
    settings.PROXY_ALLOW_PRIVATE = False
    with serving(hangs_up) as listener:
        for kind in ("http", "https", "socks4", "socks5"):
            row = make_proxy(type=kind, host=host, port=listener.port)
            Account.objects.filter(pk=anna.pk).update(proxy=row)
            check = owner.post(f"{ACCOUNTS}/{anna.pk}/check-proxy").json()
            assert check["proxyStatus"] == "error"
            row.refresh_from_db()
            assert row.error_reason == "forbidden"
            assert owner.get(f"/api/v1/messenger/accounts/{anna.pk}/chats").status_code == 502
        assert listener.connections == 0
    assert avito_sandbox.journal() == [call for call in avito_sandbox.journal() if call["path"] == "/token"]


def test_in_development_a_private_proxy_is_fine(owner: Api, anna: Account) -> None:
    with recording_proxy("http") as proxy:
        fields = {"proxyType": "http", "proxyHost": proxy.host, "proxyPort": proxy.port}
        assert owner.put(f"{ACCOUNTS}/{anna.pk}", fields).status_code == 200
        assert owner.post(f"{ACCOUNTS}/{anna.pk}/check-connection").json()["proxyStatus"] == "working"
        assert proxy.requests


def test_a_name_that_does_not_resolve_is_told_so(owner: Api, settings: LazySettings) -> None:
    settings.PROXY_ALLOW_PRIVATE = False
    answer = owner.post(ACCOUNTS, {"name": "a", **PLAIN, "proxyHost": "nowhere.invalid"})
    error = answer.json()["errors"][0]
    assert (answer.status_code, error["code"], error["attr"]) == (400, "unknown_host", "proxyHost")


# The breaker


def calls(account_id: int, count: int) -> Counter[str]:
    """What becomes of so many calls, each with a fresh row, as tasks have."""
    seen: Counter[str] = Counter()
    for _time in range(count):
        account = Account.objects.select_related("proxy", "authorization").get(pk=account_id)
        try:
            services.call(account, lambda client: client.user.me())
            seen["done"] += 1
        except avito.ProxyFailed as error:
            seen[error.reason] += 1
    return seen


@pytest.fixture
def proxied(anna: Account) -> Any:
    with recording_proxy("socks5", mode="refuse login", login="u", password="p") as proxy:
        row = make_proxy(type="socks5", port=proxy.port, login="u", password="p")
        Account.objects.filter(pk=anna.pk).update(proxy=row)
        yield proxy, row


def later(row: Proxy, seconds: float) -> None:
    """Let the time pass for the breaker."""
    Proxy.objects.filter(pk=row.pk).update(
        retry_at=Proxy.objects.get(pk=row.pk).retry_at - timedelta(seconds=seconds)  # type: ignore[operator]
    )


def test_a_dead_proxy_is_asked_five_times_and_then_once_a_minute(anna: Account, proxied: Any) -> None:
    proxy, row = proxied
    assert calls(anna.pk, 20) == {"auth": 20}
    assert proxy.connections == proxies.OPENS_AFTER
    row.refresh_from_db()
    assert (row.status, row.error_reason) == ("error", "auth")
    for minute in range(1, 4):
        later(row, 61)
        assert calls(anna.pk, 10) == {"auth": 10}
        assert proxy.connections == proxies.OPENS_AFTER + minute
    assert Notification.objects.filter(kind="proxy_fell").count() == 1


def test_of_many_processes_one_makes_the_probe(anna: Account, proxied: Any) -> None:
    proxy, row = proxied
    calls(anna.pk, proxies.OPENS_AFTER)
    later(row, 61)
    ready = threading.Barrier(12)

    def probe(_number: int) -> None:
        ready.wait()
        calls(anna.pk, 1)
        connections.close_all()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(probe, range(12)))
    assert proxy.connections == proxies.OPENS_AFTER + 1


def test_a_proxy_that_works_again_is_used_again_and_people_hear_of_it(anna: Account, proxied: Any) -> None:
    proxy, row = proxied
    calls(anna.pk, 8)
    proxy.mode = "carry"
    assert calls(anna.pk, 3) == {"auth": 3}  # it rests
    later(row, 61)
    assert calls(anna.pk, 5) == {"done": 5}
    row.refresh_from_db()
    assert (row.status, row.failures, row.retry_at, row.error_reason) == ("working", 0, None, "")
    assert list(Notification.objects.order_by("id").values_list("kind", flat=True)) == ["proxy_fell", "proxy_returned"]


def test_failures_that_are_not_in_a_row_open_nothing(anna: Account, proxied: Any) -> None:
    proxy, row = proxied
    for _time in range(3):
        proxy.mode = "refuse login"
        tokens.transports.close()
        assert calls(anna.pk, 4) == {"auth": 4}
        proxy.mode = "carry"
        assert calls(anna.pk, 1) == {"done": 1}
    row.refresh_from_db()
    assert (row.failures, row.retry_at) == (0, None)
    assert not Notification.objects.exists()


def test_the_breaker_is_one_for_all_accounts_and_others_do_not_feel_it(
    owner: Api, anna: Account, proxied: Any, avito_sandbox: Sandbox
) -> None:
    proxy, row = proxied
    calls(anna.pk, 5)
    fellow = make_account(proxy=row, client_id="uyut-client", client_secret="uyut-secret", avito_user_id=None)
    free = make_account(client_id="uyut-client", client_secret="uyut-secret", avito_user_id=None)
    assert calls(fellow.pk, 3) == {"auth": 3}
    assert proxy.connections == 5
    assert calls(free.pk, 3) == {"done": 3}


def test_a_person_who_asks_for_a_check_gets_one_although_the_proxy_rests(
    owner: Api, anna: Account, proxied: Any
) -> None:
    proxy, _row = proxied
    calls(anna.pk, 5)
    proxy.mode = "carry"
    assert owner.post(f"{ACCOUNTS}/{anna.pk}/check-connection").json()["proxyStatus"] == "working"
    assert calls(anna.pk, 2) == {"done": 2}


def test_a_resting_proxy_is_an_error_of_the_api_with_its_cause(colleague: Api, anna: Account, proxied: Any) -> None:
    proxy, _row = proxied
    for _time in range(8):
        answer = colleague.get(f"/api/v1/messenger/accounts/{anna.pk}/chats")
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (502, "proxy_failed")
        assert "логин" in answer.json()["errors"][0]["detail"]
    assert proxy.connections == 5


def test_a_late_failure_does_not_count_against_another_address(anna: Account, proxied: Any) -> None:
    _proxy, row = proxied
    stale = Proxy.objects.get(pk=row.pk)
    row.port = 1
    proxies.save(row, {"port"})
    for _time in range(6):
        proxies.failed(stale, "timeout")
    checks.check_proxy(stale)
    row.refresh_from_db()
    assert (row.status, row.failures, row.retry_at) == ("not_checked", 0, None)
    assert row.updated_at <= timezone.now()


def test_a_login_too_long_for_socks5_is_refused_when_saved(owner: Api) -> None:
    answer = owner.post(ACCOUNTS, {"name": "a", **PLAIN, "proxyPassword": "п" * 64})
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "proxyLogin")
    assert owner.post(ACCOUNTS, {"name": "a", **PLAIN, "proxyPassword": "п" * 63}).status_code == 201


def test_a_background_check_respects_a_resting_proxy(anna: Account, proxied: Any) -> None:
    proxy, _row = proxied
    calls(anna.pk, proxies.OPENS_AFTER)
    for _time in range(10):
        account = Account.objects.select_related("proxy", "authorization").get(pk=anna.pk)
        check = checks.check_connection(account, by_person=False)
        assert proxies.is_resting(check.error or Exception())
    assert proxy.connections == proxies.OPENS_AFTER
    assert Account.objects.get(pk=anna.pk).connection_error_code == "proxy_failed"


def test_a_call_that_never_left_says_nothing_good_about_a_proxy(
    anna: Account, proxied: Any, settings: LazySettings
) -> None:
    _proxy, row = proxied
    calls(anna.pk, proxies.OPENS_AFTER)
    settings.AVITO_RATE_LIMIT_PER_MINUTE = 1  # of which more are used already
    account = Account.objects.select_related("proxy", "authorization").get(pk=anna.pk)
    assert isinstance(checks.check_connection(account).error, avito.RateLimited)
    row.refresh_from_db()
    assert (row.status, row.failures) == ("error", proxies.OPENS_AFTER)


def test_what_a_resting_proxy_refuses_takes_nothing_from_the_budget(anna: Account, proxied: Any) -> None:
    calls(anna.pk, proxies.OPENS_AFTER)
    used = limits.state().used
    assert calls(anna.pk, 20) == {"auth": 20}
    assert limits.state().used == used


def test_a_proxy_that_comes_in_the_middle_of_long_work_is_used_from_there(
    anna: Account, avito_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avito_accounts.models.PROXY_TRUSTED_SECONDS", 0)
    working = Account.objects.select_related("proxy", "authorization").get(pk=anna.pk)
    services.call(working, lambda client: client.user.me())
    with recording_proxy("socks5") as proxy:
        Account.objects.filter(pk=anna.pk).update(proxy=make_proxy(type="socks5", port=proxy.port))
        services.call(working, lambda client: client.user.me())
        assert len(proxy.requests) == 1


def test_a_password_that_no_key_opens_survives_a_rename(owner: Api, settings: LazySettings) -> None:
    account = created(owner, "a", **PLAIN)
    keys = settings.FIELD_ENCRYPTION_KEYS
    settings.FIELD_ENCRYPTION_KEYS = ["another key of at least thirty-two characters"]
    shown = owner.get(f"{ACCOUNTS}/{account}").json()
    assert owner.put(f"{ACCOUNTS}/{account}", {**shown, "name": "b"}).status_code == 200
    refused = owner.put(f"{ACCOUNTS}/{account}", {"proxyPort": 1})
    assert (refused.status_code, refused.json()["errors"][0]["attr"]) == (400, "proxyPassword")
    settings.FIELD_ENCRYPTION_KEYS = keys
    assert Proxy.objects.get().password == "p"


def test_accounts_that_swap_their_proxies_do_not_block_each_other(owner: Api) -> None:
    other = {**PLAIN, "proxyPort": 1081}
    ids = [created(owner, "a", **PLAIN), created(owner, "b", **other)]
    created(owner, "c", **PLAIN)
    created(owner, "d", **other)  # both rows stay whatever happens

    def swap(number: int) -> int:
        return owner.put(f"{ACCOUNTS}/{ids[number % 2]}", PLAIN if (number // 2) % 2 else other).status_code

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(swap, range(40))) == {200}


def test_an_account_that_goes_in_the_middle_of_long_work_ends_it_in_words(
    anna: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avito_accounts.models.PROXY_TRUSTED_SECONDS", 0)
    working = Account.objects.select_related("proxy", "authorization").get(pk=anna.pk)
    anna.delete()
    with pytest.raises(AccountNotAuthorized):
        services.call(working, lambda client: client.user.me())


def test_a_login_with_a_hash_is_refused_when_saved(owner: Api) -> None:
    answer = owner.post(ACCOUNTS, {"name": "a", **PLAIN, "proxyLogin": "a#b"})
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, "proxyLogin")
