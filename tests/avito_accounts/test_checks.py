"""Checks of accounts and proxies: real calls, told apart by cause, and news that comes once."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.utils import timezone

import avito
from avito.types import ProxyType
from avito_accounts import checks, tasks, tokens
from avito_accounts.models import Account, Authorization, Proxy
from notifications.models import Notification, Problem
from tests.conftest import Api
from tests.factories import authorize, make_account, make_proxy
from tests.recording_proxy import Mode, RecordingProxy, recording_proxy
from tests.sandbox.driver import ALL_SCOPES, ANNA, OLEG, Sandbox

ACCOUNTS = "/api/v1/accounts"
KINDS: list[ProxyType] = ["http", "https", "socks4", "socks5"]


@pytest.fixture
def impatient(settings: LazySettings) -> Iterator[None]:
    settings.AVITO_TIMEOUT_SECONDS = 1
    return iter(())


def checked(api: Api, account: Account) -> Any:
    answer = api.post(f"{ACCOUNTS}/{account.pk}/check-connection")
    assert answer.status_code == 200, answer.text
    return answer.json()


def through(account: Account, proxy: RecordingProxy, **fields: Any) -> Proxy:
    row = make_proxy(
        **{"type": proxy.type, "port": proxy.port, "login": proxy.login, "password": proxy.password, **fields}
    )
    Account.objects.filter(pk=account.pk).update(proxy=row)
    return row


def news() -> list[str]:
    return list(Notification.objects.order_by("id").values_list("kind", flat=True))


def directly(avito_sandbox: Sandbox) -> list[Any]:
    return [call for call in avito_sandbox.journal() if not call["path"].startswith("/_")]


def test_a_check_says_who_the_account_is_and_how_long_it_took(owner: Api, anna: Account) -> None:
    check = checked(owner, anna)
    assert set(check) == {
        "connectionStatus", "connectionError", "proxyStatus", "proxyError", "latencyMs", "checkedAt", "accountInfo",
    }  # fmt: skip
    assert (check["connectionStatus"], check["connectionError"]) == ("connected", None)
    assert (check["proxyStatus"], check["proxyError"]) == ("not_configured", None)
    assert check["accountInfo"]["id"] == str(ANNA)
    assert set(check["accountInfo"]) == {"id", "name", "email", "phone", "profileUrl"}
    assert isinstance(check["latencyMs"], int)
    assert owner.get(f"{ACCOUNTS}/{anna.pk}").json()["connectionCheckedAt"] == check["checkedAt"]


def test_an_account_with_keys_of_its_own_learns_its_number(owner: Api, product: str) -> None:
    account = owner.post(ACCOUNTS, {"name": "Анна", "clientId": "anna-client", "clientSecret": "anna-secret"}).json()
    check = owner.post(f"{ACCOUNTS}/{account['id']}/check-connection").json()
    assert (check["connectionStatus"], check["accountInfo"]["id"]) == ("connected", str(ANNA))
    assert owner.get(f"{ACCOUNTS}/{account['id']}").json()["userId"] == str(ANNA)


def test_keys_of_another_profile_are_an_account_mismatch(owner: Api, product: str) -> None:
    fields = {"name": "Олег", "userId": str(OLEG), "clientId": "anna-client", "clientSecret": "anna-secret"}
    account = owner.post(ACCOUNTS, fields).json()
    check = owner.post(f"{ACCOUNTS}/{account['id']}/check-connection").json()
    assert (check["connectionStatus"], check["connectionError"]["code"]) == ("error", "account_mismatch")
    assert owner.get(f"{ACCOUNTS}/{account['id']}").json()["connectionError"]["code"] == "account_mismatch"


def test_refused_keys_need_a_person(owner: Api, product: str) -> None:
    account = owner.post(ACCOUNTS, {"name": "Анна", "clientId": "anna-client", "clientSecret": "wrong-secret"}).json()
    check = owner.post(f"{ACCOUNTS}/{account['id']}/check-connection").json()
    assert (check["connectionStatus"], check["connectionError"]["code"]) == ("needs_reconnect", "invalid_client")


def test_who_never_was_connected_is_told_so_and_nobody_is_alarmed(owner: Api, product: str) -> None:
    check = checked(owner, make_account())
    assert (check["connectionStatus"], check["connectionError"]["code"]) == ("error", "account_not_authorized")
    assert news() == []


def test_a_revoked_account_needs_reconnecting_and_people_hear_of_it_once(
    owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    avito_sandbox.control("POST", "/tokens/revoke", sellerId=ANNA)
    for _time in range(3):
        check = checked(owner, anna)
        assert (check["connectionStatus"], check["connectionError"]["code"]) == ("needs_reconnect", "token_expired")
    assert news() == ["account_fell"]
    pair = avito_sandbox.tokens(ANNA, ALL_SCOPES)
    authorize(anna, access_token=pair["access_token"], refresh_token=pair["refresh_token"])
    for _time in range(3):
        assert checked(owner, anna)["connectionStatus"] == "connected"
    assert news() == ["account_fell", "account_returned"]


@pytest.mark.parametrize(
    ("status", "code", "kinds"),
    [
        (500, "avito_unavailable", ["avito_fell", "avito_returned"]),
        (403, "avito_forbidden", ["account_fell", "account_returned"]),
        (402, "avito_subscription_required", ["account_fell", "account_returned"]),
    ],
)
def test_what_avito_answers_is_told_and_whose_fault_it_is(
    owner: Api, anna: Account, avito_sandbox: Sandbox, status: int, code: str, kinds: list[str]
) -> None:
    fault = avito_sandbox.fault("status", "self$", status=status)
    for _time in range(2):
        check = checked(owner, anna)
        assert (check["connectionStatus"], check["connectionError"]["code"]) == ("error", code)
        assert check["latencyMs"] is None
    avito_sandbox.control("DELETE", f"/faults/{fault['id']}")
    assert checked(owner, anna)["connectionStatus"] == "connected"
    assert news() == kinds


def test_a_pause_of_avitos_says_nothing_about_the_account(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.fault("429", "self$")
    check = checked(owner, anna)
    assert (check["connectionStatus"], check["connectionError"]["code"]) == ("connected", "avito_rate_limited")
    assert owner.get(f"{ACCOUNTS}/{anna.pk}").json()["connectionError"] is None
    assert news() == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_call_goes_through_the_proxy_the_renewal_of_tokens_too(
    owner: Api, anna: Account, avito_sandbox: Sandbox, settings: LazySettings, kind: ProxyType
) -> None:
    login, password = ("", "") if kind == "socks4" else ("us/er@", "pä:ss/%")
    with recording_proxy(kind, login=login, password=password) as proxy:
        settings.SSL_CERT_FILE = proxy.ca_file or None
        row = through(anna, proxy)
        avito_sandbox.control("POST", "/tokens/expire", sellerId=ANNA)
        before = len(directly(avito_sandbox))
        check = checked(owner, anna)
        assert (check["connectionStatus"], check["proxyStatus"]) == ("connected", "working")
        calls = directly(avito_sandbox)[before:]
        assert [call["path"] for call in calls] == ["/core/v1/accounts/self", "/token", "/core/v1/accounts/self"]
        port = int(avito_sandbox.base.rpartition(":")[2])
        assert proxy.requests
        assert {(asked.host, asked.port) for asked in proxy.requests} == {("127.0.0.1", port)}
        assert {(asked.login, asked.password) for asked in proxy.requests} == {(proxy.login, proxy.password)}
    row.refresh_from_db()
    assert (row.status, row.latency_ms) == ("working", check["latencyMs"])


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("mode", "reason"),
    [("refuse login", "auth"), ("swallow", "timeout"), ("nonsense", "protocol"), ("gone", "unreachable")],
)
def test_a_proxy_that_fails_is_told_by_its_cause_and_never_gone_around(
    owner: Api, anna: Account, avito_sandbox: Sandbox, settings: LazySettings, kind: ProxyType, mode: Any, reason: str
) -> None:
    before = len(directly(avito_sandbox))
    known: Mode = "carry" if mode == "gone" else mode
    with recording_proxy(kind, mode=known) as proxy:
        settings.SSL_CERT_FILE = proxy.ca_file or None
        row = through(anna, proxy, login="u", password="p")
        if mode == "gone":
            proxy.close()
        checks = [checked(owner, anna) for _time in range(2)]
        alone = owner.post(f"{ACCOUNTS}/{anna.pk}/check-proxy").json()
    row.refresh_from_db()
    assert (row.status, row.error_reason) == ("error", reason)
    # A proxy that forwards stands for Avito: when it is silent or raves, nobody can say which of the two it was.
    forwarded = {"swallow": "avito_timeout", "nonsense": "avito_unavailable"} if kind == "http" else {}
    for check in checks:
        code = forwarded.get(mode, "proxy_failed")
        assert (check["connectionStatus"], check["connectionError"]["code"]) == ("error", code)
        assert (check["proxyStatus"], check["proxyError"]["code"]) == ("error", "proxy_failed")
    assert (alone["proxyStatus"], alone["proxyError"]) == ("error", checks[0]["proxyError"])
    assert len(directly(avito_sandbox)) == before
    assert "proxy_fell" in news()
    assert len(news()) == len(set(news()))


@pytest.mark.usefixtures("impatient")
def test_the_causes_differ_in_words_in_both_languages(owner: Api, anna: Account) -> None:
    row = make_proxy()
    Account.objects.filter(pk=anna.pk).update(proxy=row)
    said = set()
    for reason in ("auth", "unreachable", "timeout", "protocol", "forbidden"):
        Proxy.objects.update(status="error", error_reason=reason)
        for language in ("ru", "en"):
            answer = owner.call("GET", f"{ACCOUNTS}/{anna.pk}", headers={"Accept-Language": language})
            said.add(answer.json()["proxyError"]["detail"])
    assert len(said) == 10


def test_the_proxy_of_an_account_without_tokens_is_checked_all_the_same(owner: Api, avito_sandbox: Sandbox) -> None:
    account = make_account()
    with recording_proxy("socks5") as proxy:
        through(account, proxy)
        api_check = checked(owner, account)
        alone = owner.post(f"{ACCOUNTS}/{account.pk}/check-proxy")
    assert (api_check["connectionStatus"], api_check["proxyStatus"]) == ("error", "working")
    assert alone.status_code == 200
    assert set(alone.json()) == {"proxyStatus", "proxyError", "proxyLatencyMs", "checkedAt"}
    assert (alone.json()["proxyStatus"], alone.json()["proxyError"]) == ("working", None)
    assert isinstance(alone.json()["proxyLatencyMs"], int)


def test_an_account_without_a_proxy_has_none_to_check(owner: Api, anna: Account) -> None:
    check = owner.post(f"{ACCOUNTS}/{anna.pk}/check-proxy").json()
    assert (check["proxyStatus"], check["proxyError"], check["proxyLatencyMs"]) == ("not_configured", None, None)
    assert check["checkedAt"].endswith("Z")


def test_a_proxy_that_falls_and_returns_is_news_once_each_for_all_its_accounts(
    owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    with recording_proxy("socks5", login="u", password="p") as proxy:
        row = through(anna, proxy, password="wrong")
        other = make_account(proxy=row)
        for account in (anna, other, anna, other):
            owner.post(f"{ACCOUNTS}/{account.pk}/check-proxy")
        assert news() == ["proxy_fell"]
        told = owner.get("/api/v1/notifications").json()["results"][0]
        assert told["detail"] != "proxy_fell"
        assert "wrong" not in str(told)
        assert owner.put(f"{ACCOUNTS}/{anna.pk}", {"proxyPassword": "p"}).json()["proxyStatus"] == "not_checked"
        assert checked(owner, anna)["proxyStatus"] == "working"
    assert Account.objects.get(pk=other.pk).proxy == row  # the other account keeps what it had
    assert news() == ["proxy_fell"]


def test_the_periodic_check_asks_again_a_proxy_that_has_fallen(anna: Account, avito_sandbox: Sandbox) -> None:
    def a_minute_later() -> None:
        tokens.transports.close()  # a connection that is still open would carry one more call
        long_ago = "2020-01-01T00:00:00Z"
        Proxy.objects.update(checked_at=long_ago)
        Proxy.objects.exclude(retry_at=None).update(retry_at=long_ago)
        tasks.check_proxies()

    with recording_proxy("http") as proxy:
        through(anna, proxy)
        tasks.check_proxies()
        assert (news(), Proxy.objects.get().status) == ([], "working")
        asked = len(proxy.requests)
        tasks.check_proxies()  # it was heard of just now
        assert len(proxy.requests) == asked
        proxy.mode = "close"
        a_minute_later()
        assert (news(), Proxy.objects.get().status) == ([], "error")  # once is no fall yet
        a_minute_later()
        a_minute_later()
        assert news() == ["proxy_fell"]
        proxy.mode = "carry"
        a_minute_later()
    assert news() == ["proxy_fell", "proxy_returned"]


def test_checking_twice_changes_nothing_more(owner: Api, anna: Account) -> None:
    checked(owner, anna)
    before = Authorization.objects.values().get()
    checked(owner, anna)
    assert Authorization.objects.values().get() == before
    assert news() == []


def test_accounts_that_a_proxy_has_failed_are_checked_as_soon_as_it_works_again(
    owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    with recording_proxy("socks5", mode="refuse login", login="u", password="p") as proxy:
        through(anna, proxy)
        assert checked(owner, anna)["connectionStatus"] == "error"
        proxy.mode = "carry"
        owner.post(f"{ACCOUNTS}/{anna.pk}/check-proxy")
        tasks.work_jobs()
    assert owner.get(f"{ACCOUNTS}/{anna.pk}").json()["connectionStatus"] == "connected"


def test_news_of_a_proxy_show_neither_login_nor_password(colleague: Api, owner: Api, anna: Account) -> None:
    with recording_proxy("socks5", mode="refuse login", login="lo-gin", password="pass-word") as proxy:
        through(anna, proxy)
        owner.post(f"{ACCOUNTS}/{anna.pk}/check-proxy")
    told = colleague.get("/api/v1/notifications").text
    assert f"socks5://127.0.0.1:{proxy.port}" in told
    assert "lo-gin" not in told
    assert "pass-word" not in told


def test_a_failure_found_in_the_background_is_news_when_it_happens_again(anna: Account, avito_sandbox: Sandbox) -> None:
    fault = avito_sandbox.fault("status", "self$", status=403)
    checks.check_connection(anna, by_person=False, is_certain=False)
    assert news() == []
    for _time in range(3):
        checks.check_connection(anna, by_person=False, is_certain=False)
    assert news() == ["account_fell"]
    avito_sandbox.control("DELETE", f"/faults/{fault['id']}")
    checks.check_connection(anna, by_person=False, is_certain=False)
    assert news() == ["account_fell", "account_returned"]


def test_one_account_that_avito_fails_is_not_avitos_fall(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    fellows = [make_account(client_id="uyut-client", client_secret="uyut-secret", avito_user_id=OLEG)]
    fellows += [make_account(client_id=f"x{number}", client_secret="y") for number in range(2)]
    avito_sandbox.fault("status", "self$", status=500, sellerId=ANNA)
    for _time in range(2):
        checked(owner, anna)
        checked(owner, fellows[0])
    assert news() == ["account_fell"]


def test_avitos_silence_behind_healthy_proxies_is_told_once(
    owner: Api, anna: Account, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    oleg = make_account(client_id="uyut-client", client_secret="uyut-secret", avito_user_id=OLEG)
    with recording_proxy("socks5") as proxy:
        row = through(anna, proxy)
        Account.objects.filter(pk=oleg.pk).update(proxy=row)
        avito_sandbox.fault("status", "self$", status=503)
        for _time in range(2):
            checked(owner, anna)
            checked(owner, oleg)
    assert news() == ["avito_fell"]
    assert Proxy.objects.get().status == "working"


def test_news_of_a_refusal_say_what_avito_said(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    body = '{"error": {"code": 403, "message": "Нет прав"}}'
    avito_sandbox.fault("status", "self$", status=403, body=body)
    checked(owner, anna)
    told = owner.get("/api/v1/notifications").json()["results"][0]
    assert "Нет прав" in told["detail"]
    assert "%" not in told["detail"]


def test_two_checks_at_once_leave_no_problem_open(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    healthy = Account.objects.get(pk=anna.pk)  # read before the fall
    avito_sandbox.fault("status", "self$", status=403, times=1)
    checked(owner, anna)
    checks.check_connection(healthy)
    assert not Problem.objects.filter(solved_at=None).exists()
    avito_sandbox.fault("status", "self$", status=403, times=1)
    checked(owner, anna)
    assert news() == ["account_fell", "account_returned", "account_fell"]


def test_a_check_that_ends_after_its_account_is_gone_leaves_no_problem(anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.fault("status", "self$", status=403)
    stale = Account.objects.get(pk=anna.pk)
    anna.delete()
    checks._judge_account(stale, checks.Check(timezone.now(), error=avito.Forbidden("no")), is_certain=True)
    assert not Problem.objects.exists()


def test_a_renewal_of_tokens_heals_nothing_else(anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.fault("status", "self$", status=403)
    checks.check_connection(anna)
    with tokens.asking_together(anna.pk) as asked_at:
        tokens.renew(anna, asked_at=asked_at)
    assert Account.objects.get(pk=anna.pk).connection_error_code == "avito_forbidden"
    assert news() == ["account_fell"]


def test_a_proxy_whose_password_cannot_be_read_is_told_so(
    owner: Api, anna: Account, settings: LazySettings, avito_sandbox: Sandbox
) -> None:
    with recording_proxy("socks5", login="u", password="p") as proxy:
        row = through(anna, proxy)
        Proxy.objects.filter(pk=row.pk).update(cipher_id=uuid.uuid4())
        check = checked(owner, anna)
        assert (check["connectionStatus"], check["proxyStatus"]) == ("error", "error")
        alone = owner.post(f"{ACCOUNTS}/{anna.pk}/check-proxy").json()
        assert alone["proxyStatus"] == "error"
        assert "FIELD_ENCRYPTION_KEYS" in alone["proxyError"]["detail"]
        assert proxy.connections == 0
    assert Proxy.objects.values_list("error_reason", flat=True).get() == "unreadable"
