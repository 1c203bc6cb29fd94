"""From the link to the tokens: who may open the flow, which browser may end it, what a refusal leaves behind."""

import re
import threading
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, parse_qsl, quote, urlsplit

import pytest
import requests
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core import signing
from django.test import Client
from django.utils import timezone

from api.roles import Role, set_role
from avito_accounts import webhooks
from avito_accounts.models import Account, Authorization, AuthorizationRequest
from avito_accounts.views import BROWSER_COOKIE
from tests.avito.loopback import ProxyServer
from tests.conftest import Api
from tests.factories import PASSWORD, authorize, look_after_webhook, make_account, make_proxy, make_user
from tests.sandbox.driver import ALL_SCOPES, ANNA, OLEG, Sandbox

FAMILIES = ["auth", "oauth"]
CALLBACK = "/api/v1/auth/avito/callback"


def authorize_path(account: Account, family: str = "auth") -> str:
    return f"/api/v1/{family}/avito/authorize/{account.pk}"


def link_for(api: Api, account: Account) -> str:
    answer = api.post(f"/api/v1/accounts/{account.pk}/authorize-link")
    assert answer.status_code == 200, answer.text
    assert answer.json()["expiresIn"] == 300
    link: str = answer.json()["url"]
    return link


def opened(browser: Api, link: str) -> str:
    """The state that a browser takes to Avito."""
    answer = browser.get(link)
    assert answer.status_code == 302, answer.text
    return parse_qs(urlsplit(answer.headers["Location"]).query)["state"][0]


def code_of(avito_sandbox: Sandbox, seller_id: int = ANNA) -> str:
    code: str = avito_sandbox.control("POST", "/authorize", sellerId=seller_id, scopes=list(ALL_SCOPES))["code"]
    return code


def result(answer: requests.Response) -> str:
    """What the service's own page says: "success", or the code of the refusal."""
    found = re.search(r'id="oauth-result" data-code="(\w+)"', answer.text)
    assert found, answer.text
    assert answer.status_code == (200 if found[1] == "success" else 400)
    return found[1]


def stored() -> list[Any]:
    """Everything that a refusal must leave as it was."""
    return [*Account.objects.order_by("pk").values(), *Authorization.objects.order_by("pk").values()]


@pytest.fixture
def fresh(product: str) -> Account:
    """An account that nobody has connected yet."""
    return make_account(name="Арбат", avito_user_id=None)


@pytest.fixture
def browser(product: str) -> Api:
    """A browser: it keeps cookies, and nobody is signed in."""
    return Api(product)


# Opening the flow


@pytest.mark.parametrize("family", FAMILIES)
def test_the_way_to_avito_names_every_parameter_and_no_other(
    owner: Api, fresh: Account, settings: LazySettings, family: str
) -> None:
    settings.AVITO_OAUTH_SCOPES = ["messenger:read", "user:read"]
    settings.AVITO_OAUTH_REDIRECT_URI = "https://back.example/api/v1/auth/avito/callback"
    answer = owner.get(authorize_path(fresh, family))
    assert answer.status_code == 302
    base, _, query = answer.headers["Location"].partition("?")
    assert base == settings.AVITO_OAUTH_AUTHORIZE_URL
    parameters = dict(parse_qsl(query, strict_parsing=True))
    state = parameters.pop("state")
    assert len(state) >= 43
    assert parameters == {
        "response_type": "code",
        "pro_users_flow": "true",
        "client_id": "sandbox-client",
        "scope": "messenger:read,user:read",
        "redirect_uri": "https://back.example/api/v1/auth/avito/callback",
    }
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_browser_is_marked_by_a_cookie_that_scripts_cannot_read(owner: Api, fresh: Account) -> None:
    cookie = owner.get(authorize_path(fresh)).headers["Set-Cookie"]
    assert re.match(rf"{BROWSER_COOKIE}=[\w-]{{43}};", cookie)
    assert {"HttpOnly", "Path=/api/v1/", "SameSite=Lax", "Max-Age=600"} <= set(cookie.split("; "))


def test_every_state_is_new(owner: Api, fresh: Account) -> None:
    assert len({opened(owner, authorize_path(fresh)) for _ in range(10)}) == 10


def test_states_and_browsers_are_stored_as_hashes_only(owner: Api, fresh: Account) -> None:
    state = opened(owner, authorize_path(fresh))
    row = str(AuthorizationRequest.objects.values().get())
    assert state not in row
    assert owner.session.cookies[BROWSER_COOKIE] not in row


def test_somebody_signed_in_to_the_back_office_opens_the_flow(browser: Api, owner: Api, fresh: Account) -> None:
    user = User.objects.get(username="owner")
    User.objects.filter(pk=user.pk).update(is_staff=True)
    browser.get("/admin/login/")
    form = {
        "username": "owner", "password": PASSWORD, "csrfmiddlewaretoken": browser.session.cookies["csrftoken"],
        "next": "/admin/",
    }  # fmt: skip
    assert browser.call("POST", "/admin/login/", data=form).status_code == 302
    opened(browser, authorize_path(fresh))
    assert AuthorizationRequest.objects.get().user == user


@pytest.mark.parametrize("family", FAMILIES)
def test_only_who_may_manage_accounts_opens_the_flow(
    colleague: Api, stranger: Api, nobody: Api, fresh: Account, family: str
) -> None:
    answers = [api.get(authorize_path(fresh, family)) for api in (colleague, stranger, nobody)]
    assert [answer.status_code for answer in answers] == [403, 403, 401]
    assert not AuthorizationRequest.objects.exists()


def test_an_account_that_is_not_there_cannot_be_connected(owner: Api) -> None:
    assert owner.get("/api/v1/auth/avito/authorize/123456").status_code == 404
    assert owner.get("/api/v1/auth/avito/authorize/" + "9" * 30).status_code == 404


# Tickets


def ticket_refused(answer: requests.Response) -> bool:
    return answer.status_code == 401 and answer.json()["errors"][0]["code"] == "invalid_ticket"


def test_a_link_opens_the_flow_once_in_a_browser_where_nobody_is_signed_in(
    owner: Api, browser: Api, fresh: Account
) -> None:
    link = link_for(owner, fresh)
    assert link.startswith(f"{owner.base}{authorize_path(fresh)}?ticket=")
    opened(browser, link)
    assert ticket_refused(browser.get(link))
    assert ticket_refused(Api(owner.base).get(link))


def test_a_link_works_on_the_other_family_of_paths_and_still_once(owner: Api, browser: Api, fresh: Account) -> None:
    link = link_for(owner, fresh)
    opened(browser, link.replace("/auth/avito/", "/oauth/avito/"))
    assert ticket_refused(browser.get(link))


@pytest.mark.parametrize(("age", "works"), [(299, True), (302, False)])
def test_a_link_works_for_five_minutes(
    owner: Api, browser: Api, fresh: Account, monkeypatch: pytest.MonkeyPatch, age: int, works: bool
) -> None:
    link = link_for(owner, fresh)
    later = SimpleNamespace(time=lambda: timezone.now().timestamp() + age)
    monkeypatch.setattr(signing, "time", later)
    answer = browser.get(link)
    assert answer.status_code == 302 if works else ticket_refused(answer)


def test_a_ticket_opens_its_own_account_only(owner: Api, browser: Api, fresh: Account) -> None:
    other = make_account()
    ticket = link_for(owner, fresh).partition("=")[2]
    assert ticket_refused(browser.get(f"{authorize_path(other)}?ticket={ticket}"))
    opened(browser, f"{authorize_path(fresh)}?ticket={ticket}")


def test_a_ticket_of_somebody_who_lost_the_right_opens_nothing(owner: Api, browser: Api, fresh: Account) -> None:
    link = link_for(owner, fresh)
    set_role(User.objects.get(username="owner"), "operator")
    assert ticket_refused(browser.get(link))


def test_a_ticket_of_a_blocked_user_opens_nothing(owner: Api, browser: Api, fresh: Account) -> None:
    link = link_for(owner, fresh)
    User.objects.filter(username="owner").update(is_active=False)
    assert ticket_refused(browser.get(link))


def test_no_forged_ticket_opens_anything(owner: Api, browser: Api, fresh: Account) -> None:
    good = link_for(owner, fresh).partition("=")[2]
    row = AuthorizationRequest.objects.get()
    forged = [
        "x", ":", "%00", "1", str(row.pk), good[:-1], good + "a", good.replace(":", ";"), f"{row.pk}::", "%ED%A0%80",
        signing.TimestampSigner(salt="another").sign(str(row.pk)), signing.dumps(row.pk), "9" * 5000,
    ]  # fmt: skip
    for ticket in forged:
        assert ticket_refused(browser.get(f"{authorize_path(fresh)}?ticket={ticket}")), ticket
    opened(browser, f"{authorize_path(fresh)}?ticket={good}")


def test_without_the_applications_secrets_nothing_starts_and_the_ticket_is_kept(
    owner: Api, browser: Api, fresh: Account, settings: LazySettings
) -> None:
    link = link_for(owner, fresh)
    for name in ("AVITO_OAUTH_CLIENT_ID", "AVITO_OAUTH_CLIENT_SECRET"):
        value = getattr(settings, name)
        setattr(settings, name, "")
        answer = browser.get(link)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (503, "missing_avito_secrets")
        setattr(settings, name, value)
    opened(browser, link)


# The way back


@pytest.mark.parametrize("family", FAMILIES)
def test_a_consent_connects_the_account_and_fills_in_its_number(
    owner: Api, browser: Api, fresh: Account, avito_sandbox: Sandbox, family: str
) -> None:
    state = opened(browser, link_for(owner, fresh).replace("/auth/avito/", f"/{family}/avito/"))
    answer = browser.get(f"/api/v1/{family}/avito/callback", state=state, code=code_of(avito_sandbox))
    assert result(answer) == "success"
    assert "Арбат" in answer.text
    account = owner.get(f"/api/v1/accounts/{fresh.pk}").json()
    assert (account["userId"], account["connectionStatus"]) == (str(ANNA), "connected")
    assert account["authorization"]["kind"] == "oauth"
    assert set(account["authorization"]["scopes"]) == set(ALL_SCOPES)
    chats = owner.get(f"/api/v1/messenger/accounts/{fresh.pk}/chats")
    assert chats.status_code == 200


def test_a_person_walks_from_the_link_over_avitos_page_to_a_connected_account(
    owner: Api, browser: Api, fresh: Account, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    settings.AVITO_OAUTH_SCOPES = list(ALL_SCOPES)
    consent = browser.get(link_for(owner, fresh)).headers["Location"]
    asked = dict(parse_qsl(urlsplit(consent).query))
    assert browser.get(consent).status_code == 200
    allowed = browser.call("POST", f"{avito_sandbox.base}/oauth", data={**asked, "decision": "allow", "user_id": ANNA})
    back = allowed.headers["Location"]
    assert back.startswith(settings.AVITO_OAUTH_REDIRECT_URI + "?")
    assert result(browser.get(back)) == "success"


def test_somebody_who_declines_is_told_so(
    owner: Api, browser: Api, fresh: Account, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    settings.AVITO_OAUTH_SCOPES = list(ALL_SCOPES)
    consent = browser.get(link_for(owner, fresh)).headers["Location"]
    asked = dict(parse_qsl(urlsplit(consent).query))
    denied = browser.call("POST", f"{avito_sandbox.base}/oauth", data={**asked, "decision": "deny", "user_id": ANNA})
    before = stored()
    assert result(browser.get(denied.headers["Location"])) == "access_denied"
    assert stored() == before


def test_the_token_call_carries_no_redirect_uri(
    owner: Api, browser: Api, fresh: Account, avito_sandbox: Sandbox
) -> None:
    state = opened(browser, link_for(owner, fresh))
    # The sandbox refuses every field of /token that the documents do not name.
    assert result(browser.get(CALLBACK, state=state, code=code_of(avito_sandbox))) == "success"
    calls = [row for row in avito_sandbox.journal() if row["path"] == "/token"]
    assert [(row["status"], row["query"], row["grantType"]) for row in calls] == [(200, "", "authorization_code")]


def test_the_code_goes_through_the_accounts_proxy(
    owner: Api, browser: Api, fresh: Account, avito_sandbox: Sandbox
) -> None:
    proxy = ProxyServer(login=("u", "s3cret"))
    Account.objects.filter(pk=fresh.pk).update(proxy=make_proxy(port=proxy.port, login="u"))
    owner.put(f"/api/v1/accounts/{fresh.pk}", {"proxyPassword": "s3cret"})
    state = opened(browser, link_for(owner, fresh))
    assert result(browser.get(CALLBACK, state=state, code=code_of(avito_sandbox))) == "success"
    port = int(avito_sandbox.base.rpartition(":")[2])
    assert proxy.seen
    assert {seen[1:] for seen in proxy.seen} == {("127.0.0.1", port)}
    proxy.close()


def test_with_a_dead_proxy_the_code_goes_nowhere(
    owner: Api, browser: Api, fresh: Account, avito_sandbox: Sandbox
) -> None:
    proxy = ProxyServer()
    proxy.close()
    Account.objects.filter(pk=fresh.pk).update(proxy=make_proxy(port=proxy.port))
    state, before = opened(browser, link_for(owner, fresh)), stored()
    assert result(browser.get(CALLBACK, state=state, code=code_of(avito_sandbox))) == "exchange_failed"
    assert stored() == before
    assert [row for row in avito_sandbox.journal() if row["path"] == "/token"] == []


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ("", "missing_code"),
        ("&code=", "missing_code"),
        ("&code=a&code=b", "missing_code"),
        ("&error=access_denied", "access_denied"),
        ("&error=access_denied&code=a", "access_denied"),
        ("&error=%00", "access_denied"),
        ("&code=unknown", "exchange_failed"),
        ("&code=%00%ED%A0%80%0d%0a", "exchange_failed"),
        ("&code=" + "x" * 8000, "exchange_failed"),
    ],
)
def test_what_avito_brings_back_is_judged_and_the_state_is_burned(
    owner: Api, browser: Api, avito_sandbox: Sandbox, anna: Account, query: str, code: str
) -> None:
    state, before = opened(browser, link_for(owner, anna)), stored()
    assert result(browser.get(f"{CALLBACK}?state={state}{query}")) == code
    assert stored() == before
    assert result(browser.get(CALLBACK, state=state, code=code_of(avito_sandbox))) == "invalid_state"
    assert stored() == before


@pytest.mark.parametrize(
    ("kind", "path", "details"),
    [
        ("status", "^/token", {"status": 500}),
        ("status", "^/token", {"status": 403}),
        ("429", "^/token", {}),
        ("reset", "^/token", {}),
        ("rubbish", "^/token", {}),
        ("status", "^/token", {"status": 200, "body": '{"error": "invalid_grant"}'}),
        ("status", "^/token", {"status": 200, "body": '{"access_token": "only", "expires_in": 5}'}),
        ("status", "self$", {"status": 500}),
        ("status", "self$", {"status": 403}),
        ("status", "self$", {"status": 401}),
        ("truncated", "self$", {}),
        ("status", "self$", {"status": 200, "body": '{"name": "Nobody"}'}),
    ],
)
def test_an_exchange_that_fails_changes_nothing(
    owner: Api, browser: Api, anna: Account, avito_sandbox: Sandbox, kind: str, path: str, details: dict[str, Any]
) -> None:
    state, code, before = opened(browser, link_for(owner, anna)), code_of(avito_sandbox), stored()
    avito_sandbox.fault(kind, path, **details)
    assert result(browser.get(CALLBACK, state=state, code=code)) == "exchange_failed"
    assert stored() == before


def test_without_secrets_a_consent_fails_and_says_so(
    owner: Api, browser: Api, fresh: Account, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    state, before = opened(browser, link_for(owner, fresh)), stored()
    settings.AVITO_OAUTH_CLIENT_SECRET = ""
    assert result(browser.get(CALLBACK, state=state, code=code_of(avito_sandbox))) == "exchange_failed"
    assert stored() == before


# Whose token it is


def test_another_sellers_consent_is_refused(owner: Api, browser: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    state, before = opened(browser, link_for(owner, anna)), stored()
    assert result(browser.get(CALLBACK, state=state, code=code_of(avito_sandbox, OLEG))) == "account_mismatch"
    assert stored() == before


def test_a_seller_who_has_an_account_here_cannot_take_a_second_one(
    owner: Api, browser: Api, anna: Account, fresh: Account, avito_sandbox: Sandbox
) -> None:
    state, before = opened(browser, link_for(owner, fresh)), stored()
    assert result(browser.get(CALLBACK, state=state, code=code_of(avito_sandbox))) == "user_id_taken"
    assert stored() == before


def test_of_two_accounts_that_one_seller_connects_at_once_one_is_connected(
    owner: Api, fresh: Account, avito_sandbox: Sandbox
) -> None:
    accounts = [fresh, make_account(avito_user_id=None), make_account(avito_user_id=None)]
    walks = []
    for account in accounts:
        browser = Api(owner.base)
        walks.append((browser, opened(browser, link_for(owner, account)), code_of(avito_sandbox)))
    avito_sandbox.fault("latency", "self$", seconds=0.3)
    outcomes: list[str] = []

    def come_back(browser: Api, state: str, code: str) -> None:
        outcomes.append(result(browser.get(CALLBACK, state=state, code=code)))

    threads = [threading.Thread(target=come_back, args=walk) for walk in walks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["success", "user_id_taken", "user_id_taken"]
    assert Account.objects.filter(avito_user_id=ANNA).count() == 1
    assert Authorization.objects.count() == 1


def test_a_new_consent_replaces_a_dead_authorisation(
    owner: Api, browser: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    Authorization.objects.update(dead_reason="invalid_grant")
    Account.objects.update(connection_status="needs_reconnect", connection_error_code="token_expired")
    state = opened(browser, link_for(owner, anna))
    assert result(browser.get(CALLBACK, state=state, code=code_of(avito_sandbox))) == "success"
    account = owner.get(f"/api/v1/accounts/{anna.pk}").json()
    assert (account["connectionStatus"], account["connectionError"]) == ("connected", None)
    assert account["authorization"]["refreshable"] is True


# Sessions are not mixed up


class Attack:
    """A victim and an attacker, each with a flow of their own under way, for accounts of their own."""

    def __init__(self, owner: Api, avito_sandbox: Sandbox) -> None:
        self.owner, self.avito = owner, avito_sandbox
        self.account, self.other = make_account(avito_user_id=None), make_account(avito_user_id=None)
        self.victim, self.attacker = Api(owner.base), Api(owner.base)
        self.state = opened(self.victim, link_for(owner, self.account))
        self.foreign_state = opened(self.attacker, link_for(owner, self.other))

    def come(self, browser: Api, *states: str, **cookies: str) -> requests.Response:
        """A callback with a good code; `cookies` take the place of the browser's own."""
        for name, value in cookies.items():
            browser.session.cookies.clear()
            browser.session.headers["Cookie"] = f"{name}={value}"
        return browser.get(CALLBACK, state=list(states), code=code_of(self.avito))

    def row(self) -> AuthorizationRequest:
        return AuthorizationRequest.objects.get(account=self.account)

    def age(self, seconds: int) -> None:
        AuthorizationRequest.objects.update(opened_at=timezone.now() - timedelta(seconds=seconds))


def grown_old(scene: Attack) -> requests.Response:
    scene.age(601)
    return scene.come(scene.victim, scene.state)


ATTACKS: dict[str, Callable[[Attack], requests.Response]] = {
    "a stolen state in a browser without a cookie": lambda a: a.come(Api(a.owner.base), a.state),
    "a stolen state in a browser with a flow of its own": lambda a: a.come(a.attacker, a.state),
    "the attacker's state slipped to a browser without a cookie": lambda a: a.come(Api(a.owner.base), a.foreign_state),
    "the attacker's state slipped to the victim's browser": lambda a: a.come(a.victim, a.foreign_state),
    "a forged state": lambda a: a.come(a.victim, "A" * 43),
    "no state": lambda a: a.come(a.victim),
    "an empty state": lambda a: a.come(a.victim, ""),
    "the victim's state before the attacker's": lambda a: a.come(a.victim, a.state, a.foreign_state),
    "the attacker's state before the victim's": lambda a: a.come(a.victim, a.foreign_state, a.state),
    "the state's hash from a copy of the database": lambda a: a.come(a.victim, str(a.row().state_hash)),
    "the browser's hash from a copy of the database": lambda a: a.come(
        Api(a.owner.base), a.state, **{BROWSER_COOKIE: a.row().browser_hash}
    ),
    "an empty cookie": lambda a: a.come(Api(a.owner.base), a.state, **{BROWSER_COOKIE: ""}),
    "a state that has grown old": grown_old,
    "a state of which one letter differs in case": lambda a: a.come(a.victim, a.state.swapcase()),
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_session_ends_anothers_flow(owner: Api, avito_sandbox: Sandbox, attack: str) -> None:
    scene = Attack(owner, avito_sandbox)
    before = stored()
    assert result(ATTACKS[attack](scene)) == "invalid_state"
    assert stored() == before
    assert [row for row in avito_sandbox.journal() if row["path"] == "/token"] == [], "the code was spent"


def test_a_state_that_showed_up_in_a_wrong_browser_is_burned(owner: Api, avito_sandbox: Sandbox) -> None:
    scene = Attack(owner, avito_sandbox)
    scene.come(scene.attacker, scene.state)
    assert result(scene.come(scene.victim, scene.state)) == "invalid_state"


def test_a_state_works_once_and_for_ten_minutes(owner: Api, avito_sandbox: Sandbox) -> None:
    scene = Attack(owner, avito_sandbox)
    scene.age(590)
    assert result(scene.come(scene.victim, scene.state)) == "success"
    before = stored()
    assert result(scene.come(scene.victim, scene.state)) == "invalid_state"
    assert stored() == before


def test_the_callback_cannot_be_turned_to_another_account(owner: Api, avito_sandbox: Sandbox) -> None:
    scene = Attack(owner, avito_sandbox)
    extra = {"accountId": scene.other.pk, "account_id": scene.other.pk, "id": scene.other.pk}
    answer = scene.victim.get(CALLBACK, state=scene.state, code=code_of(avito_sandbox), **extra)
    assert result(answer) == "success"
    assert Authorization.objects.get().account == scene.account


def test_two_flows_in_one_browser_do_not_disturb_each_other(
    owner: Api, browser: Api, fresh: Account, avito_sandbox: Sandbox
) -> None:
    other = make_account(avito_user_id=None)
    first, second = opened(browser, link_for(owner, fresh)), opened(browser, link_for(owner, other))
    assert result(browser.get(CALLBACK, state=first, code=code_of(avito_sandbox, ANNA))) == "success"
    assert result(browser.get(CALLBACK, state=second, code=code_of(avito_sandbox, OLEG))) == "success"
    assert list(Account.objects.order_by("pk").values_list("avito_user_id", flat=True)) == [ANNA, OLEG]


def test_a_state_that_arrives_twice_at_once_works_once(owner: Api, avito_sandbox: Sandbox) -> None:
    scene = Attack(owner, avito_sandbox)
    cookie = scene.victim.session.cookies[BROWSER_COOKIE]
    start, outcomes = threading.Barrier(4), []

    def come_back() -> None:
        browser = Api(owner.base, Cookie=f"{BROWSER_COOKIE}={cookie}")
        code = code_of(avito_sandbox)
        start.wait()
        outcomes.append(result(browser.get(CALLBACK, state=scene.state, code=code)))

    threads = [threading.Thread(target=come_back) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == ["invalid_state", "invalid_state", "invalid_state", "success"]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "HEAD"])
def test_the_callback_is_read_by_get_alone(owner: Api, avito_sandbox: Sandbox, method: str) -> None:
    scene = Attack(owner, avito_sandbox)
    answer = scene.victim.call(method, CALLBACK, params={"state": scene.state, "code": code_of(avito_sandbox)})
    assert answer.status_code == 405
    assert result(scene.come(scene.victim, scene.state)) == "success"


def test_a_browser_that_accepts_nothing_but_html_gets_its_page(owner: Api, avito_sandbox: Sandbox) -> None:
    scene = Attack(owner, avito_sandbox)
    asked = {"state": scene.state, "code": code_of(avito_sandbox)}
    answer = scene.victim.call("GET", CALLBACK, params=asked, headers={"Accept": "text/html"})
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert "no-store" in answer.headers["Cache-Control"]


# Where the browser ends


def landed(answer: requests.Response) -> str:
    assert answer.status_code == 302
    assert answer.content == b""
    return answer.headers["Location"]


def test_a_frontend_gets_the_browser_back(
    owner: Api, browser: Api, fresh: Account, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    settings.FRONTEND_URL = "https://front.example"
    state = opened(browser, link_for(owner, fresh))
    answer = browser.get(CALLBACK, state=state, code=code_of(avito_sandbox))
    assert landed(answer) == f"https://front.example/accounts/{fresh.pk}?oauth=success"


def test_a_frontend_is_told_what_went_wrong(browser: Api, fresh: Account, settings: LazySettings) -> None:
    settings.FRONTEND_URL = "https://front.example"
    location = landed(browser.get(CALLBACK, state="x", code="y"))
    base, _, query = location.partition("?")
    assert base == "https://front.example/accounts"
    assert location.isascii()
    said = dict(parse_qsl(query, strict_parsing=True))
    assert (said["oauth"], said["code"]) == ("error", "invalid_state")
    assert len(said["message"]) > 20


def test_the_paths_of_the_frontend_can_be_chosen(
    owner: Api, browser: Api, fresh: Account, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    settings.FRONTEND_URL = "https://front.example/app"
    settings.AVITO_OAUTH_SUCCESS_PATH = "/done/{id}/{id}"
    settings.AVITO_OAUTH_ERROR_PATH = "/#/failed/{id}/{code}/{message}"
    state = opened(browser, link_for(owner, fresh))
    answer = browser.get(CALLBACK, state=state, error="access_denied")
    *_, account_id, code, message = landed(answer).split("/")
    assert landed(answer).startswith("https://front.example/app/#/failed/")
    assert (account_id, code) == (str(fresh.pk), "access_denied")
    assert "%20" in message
    assert " " not in message
    state = opened(browser, link_for(owner, fresh))
    answer = browser.get(CALLBACK, state=state, code=code_of(avito_sandbox))
    assert landed(answer) == f"https://front.example/app/done/{fresh.pk}/{fresh.pk}"


@pytest.mark.parametrize("extra", ["next", "redirect", "redirect_uri", "return_to", "code", "error", "message"])
def test_nothing_in_the_callback_leads_the_browser_elsewhere(
    browser: Api, fresh: Account, settings: LazySettings, extra: str
) -> None:
    settings.FRONTEND_URL = "https://front.example"
    for value in ("//evil.example", "https://evil.example", "/\\evil.example", "@evil.example", "\r\nLocation: x"):
        location = landed(browser.get(f"{CALLBACK}?state=x&{extra}={quote(value)}"))
        assert location.startswith("https://front.example/accounts?oauth=error&code=invalid_state&message=")
        assert "evil" not in location


def test_without_a_frontend_the_service_shows_a_page_of_its_own(
    owner: Api, browser: Api, fresh: Account, avito_sandbox: Sandbox
) -> None:
    Account.objects.filter(pk=fresh.pk).update(name="<script>alert(1)</script>")
    good = browser.get(CALLBACK, state=opened(browser, link_for(owner, fresh)), code=code_of(avito_sandbox))
    bad = browser.get(CALLBACK, state=opened(browser, link_for(owner, fresh)))
    for page, status in ((good, 200), (bad, 400)):
        assert page.status_code == status
        assert page.headers["Content-Type"].startswith("text/html")
        assert "no-store" in page.headers["Cache-Control"]
        assert "&lt;script&gt;alert(1)" in page.text
        assert "<script>alert" not in page.text
        assert f"/admin/avito_accounts/account/{fresh.pk}/change/" in page.text
        assert "unfold/css" in page.text


@pytest.mark.parametrize(("role", "way"), [(None, "/admin/"), ("operator", "/admin/avito_accounts/account/")])
def test_the_page_leads_to_where_its_reader_may_go(client: Client, product: str, role: Role | None, way: str) -> None:
    client.force_login(make_user("reader", role, is_staff=True))
    page = client.get(CALLBACK, {"state": "x", "code": "y"}).content.decode()
    [link] = re.findall(r'href="([^"]+)"', page[page.index('id="oauth-result"') : page.index("</main>")])
    assert link == way
    assert client.get(way).status_code == 200


@pytest.mark.parametrize(("language", "words"), [("en", "used already"), ("ru", 'lang="ru"')])
def test_the_page_speaks_the_readers_language(browser: Api, fresh: Account, language: str, words: str) -> None:
    page = browser.call("GET", CALLBACK, headers={"Accept-Language": language})
    assert words in page.text


# Renewal by hand


def made_earlier() -> None:
    """Pairs are a minute old: those who ask within seconds of a renewal share it."""
    Authorization.objects.update(renewed_at=timezone.now() - timedelta(minutes=1))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_tokens_are_renewed_on_request(
    owner: Api, anna: Account, avito_sandbox: Sandbox, family: str, method: str
) -> None:
    made_earlier()
    before = Authorization.objects.get().access_token
    answer = owner.call(method, f"/api/v1/{family}/avito/refresh/{anna.pk}")
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"success", "expiresIn", "expiresAt"}
    assert answer.json()["success"] is True
    assert 86_000 < answer.json()["expiresIn"] <= 86_400
    assert answer.json()["expiresAt"].endswith("Z")
    assert Authorization.objects.get().access_token != before


@pytest.mark.parametrize("account", ["without a refresh token", "never connected", "dead"])
def test_what_cannot_be_renewed_asks_for_a_consent(
    owner: Api, fresh: Account, avito_sandbox: Sandbox, account: str
) -> None:
    if account != "never connected":
        authorize(fresh, refresh_token="" if account == "without a refresh token" else "unknown-to-avito")
    made_earlier()
    for _ in range(2):
        answer = owner.post(f"/api/v1/auth/avito/refresh/{fresh.pk}")
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (409, "reconnect_required")
    if account != "never connected":
        shown = owner.get(f"/api/v1/accounts/{fresh.pk}").json()
        assert (shown["connectionStatus"], shown["connectionError"]["code"]) == ("needs_reconnect", "token_expired")
        assert shown["authorization"]["refreshable"] is False


def test_only_who_may_manage_accounts_renews_tokens(
    colleague: Api, stranger: Api, nobody: Api, owner: Api, anna: Account, settings: LazySettings
) -> None:
    path = f"/api/v1/auth/avito/refresh/{anna.pk}"
    assert [api.post(path).status_code for api in (colleague, stranger, nobody)] == [403, 403, 401]
    assert owner.post("/api/v1/auth/avito/refresh/123456").status_code == 404
    made_earlier()
    settings.AVITO_OAUTH_CLIENT_SECRET = ""
    answer = owner.post(path)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (503, "missing_avito_secrets")


# After connecting


def webhooks_of(avito_sandbox: Sandbox, seller_id: int = ANNA) -> list[str]:
    sellers = {seller["id"]: seller for seller in avito_sandbox.control("GET", "/sellers")}
    urls: list[str] = sellers[seller_id]["webhooks"]
    return urls


def test_the_webhook_follows_the_newest_key_and_older_addresses_of_ours_are_taken_off(
    anna: Account, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    avito_sandbox.call(
        "POST",
        "/messenger/v3/webhook",
        json={"url": "https://another.example/hook"},
        headers={"Authorization": f"Bearer {Authorization.objects.get().access_token}"},
    ).raise_for_status()
    base = f"{settings.PUBLIC_URL}/api/v1/webhooks/avito"
    for keys, url in (([], base), (["old"], f"{base}/old"), (["new", "old"], f"{base}/new")):
        settings.AVITO_WEBHOOK_KEYS = keys
        for _ in range(2):
            look_after_webhook(anna.pk)
            assert webhooks_of(avito_sandbox) == ["https://another.example/hook", url]
    anna.refresh_from_db()
    assert anna.webhook_subscribed_at is not None


def test_a_failed_subscription_is_tried_again(anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.fault("status", "webhook$", status=500, times=1)
    look_after_webhook(anna.pk)
    anna.refresh_from_db()
    assert (anna.webhook_subscribed_at, webhooks_of(avito_sandbox)) == (None, [])
    look_after_webhook(anna.pk)
    assert len(webhooks_of(avito_sandbox)) == 1


def test_an_old_address_that_could_not_be_taken_off_is_tried_again(
    anna: Account, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    settings.AVITO_WEBHOOK_KEYS = ["old"]
    look_after_webhook(anna.pk)
    settings.AVITO_WEBHOOK_KEYS = ["new"]
    avito_sandbox.fault("status", "webhook/unsubscribe$", status=500, times=1)
    look_after_webhook(anna.pk)
    assert len(webhooks_of(avito_sandbox)) == 2
    assert not webhooks.to_subscribe().exists()  # messages come
    look_after_webhook(anna.pk)
    assert len(webhooks_of(avito_sandbox)) == 1


# Accounts with keys of their own


def with_keys(owner: Api, client_id: str = "anna-client", secret: str = "anna-secret", **fields: Any) -> Account:
    body = {"name": "Со своим ключом", "clientId": client_id, "clientSecret": secret, **fields}
    answer = owner.post("/api/v1/accounts", body)
    assert answer.status_code == 201, answer.text
    return Account.objects.get(pk=answer.json()["id"])


def test_own_keys_fetch_a_token_at_first_use_and_tell_whose_it_is(owner: Api, avito_sandbox: Sandbox) -> None:
    account = with_keys(owner)
    assert owner.get(f"/api/v1/messenger/accounts/{account.pk}/chats").status_code == 200
    shown = owner.get(f"/api/v1/accounts/{account.pk}").json()
    assert (shown["userId"], shown["connectionStatus"], shown["clientId"]) == (str(ANNA), "connected", "anna-cli…")
    assert shown["authorization"]["kind"] == "client_credentials"
    assert shown["authorization"]["refreshable"] is True
    owner.get(f"/api/v1/messenger/accounts/{account.pk}/chats")
    calls = [row["grantType"] for row in avito_sandbox.journal() if row["path"] == "/token"]
    assert calls == ["client_credentials"]


def test_own_keys_whose_first_ring_failed_are_connected_by_the_sweep(owner: Api, avito_sandbox: Sandbox) -> None:
    account = with_keys(owner)
    assert list(webhooks.to_subscribe()) == [account]
    for fault in ("/token$", "self$"):  # before there is a token, and before there is a number
        avito_sandbox.fault("status", fault, status=500, times=1)
        look_after_webhook(account.pk)
        assert list(webhooks.to_subscribe()) == [account]
    look_after_webhook(account.pk)
    assert len(webhooks_of(avito_sandbox)) == 1
    assert not webhooks.to_subscribe().exists()


def test_the_sweep_leaves_wrong_keys_to_a_person(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    wrong = with_keys(owner, secret="wrong")
    mismatch = with_keys(owner, name="Чужой номер", userId=str(OLEG))
    taken = with_keys(owner, name="Занятый номер")
    make_account(client_id="only-an-id")
    for account in (anna, wrong, mismatch, taken):
        look_after_webhook(account.pk)
    assert not webhooks.to_subscribe().exists()
    owner.put(f"/api/v1/accounts/{anna.pk}", {"userId": "1"})
    owner.put(f"/api/v1/accounts/{mismatch.pk}", {"userId": str(ANNA)})  # the person corrects it
    assert list(webhooks.to_subscribe()) == [mismatch]


def test_own_keys_renew_their_token_when_avito_refuses_it(owner: Api, avito_sandbox: Sandbox) -> None:
    account = with_keys(owner)
    path = f"/api/v1/messenger/accounts/{account.pk}/chats"
    assert owner.get(path).status_code == 200
    avito_sandbox.control("POST", "/tokens/revoke", sellerId=ANNA)
    assert owner.get(path).status_code == 200
    assert owner.post(f"/api/v1/auth/avito/refresh/{account.pk}").status_code == 200


def token_calls(avito_sandbox: Sandbox) -> list[Any]:
    return [row for row in avito_sandbox.journal() if row["path"] == "/token"]


def test_own_keys_that_worked_are_not_asked_again_once_they_are_refused(owner: Api, avito_sandbox: Sandbox) -> None:
    account = with_keys(owner)
    path = f"/api/v1/messenger/accounts/{account.pk}/chats"
    assert owner.get(path).status_code == 200
    avito_sandbox.control("POST", "/tokens/revoke", sellerId=ANNA)
    avito_sandbox.fault("status", "/token$", status=401, times=1)
    assert [owner.get(path).status_code for _again in range(3)] == [409] * 3
    assert len(token_calls(avito_sandbox)) == 2
    owner.put(f"/api/v1/accounts/{account.pk}", {"clientSecret": "anna-secret"})  # the same, typed anew
    assert owner.get(path).status_code == 200


def test_wrong_own_keys_ask_for_others(owner: Api, avito_sandbox: Sandbox) -> None:
    account = with_keys(owner, secret="wrong")
    answer = owner.get(f"/api/v1/messenger/accounts/{account.pk}/chats")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (409, "reconnect_required")
    shown = owner.get(f"/api/v1/accounts/{account.pk}").json()
    assert (shown["connectionStatus"], shown["connectionError"]["code"]) == ("needs_reconnect", "invalid_client")
    assert owner.post(f"/api/v1/auth/avito/refresh/{account.pk}").status_code == 409
    assert len(token_calls(avito_sandbox)) == 1  # asked once, then remembered
    owner.put(f"/api/v1/accounts/{account.pk}", {"clientSecret": "anna-secret"})
    assert owner.get(f"/api/v1/messenger/accounts/{account.pk}/chats").status_code == 200


def test_keys_of_another_seller_are_shown_as_a_mismatch_and_subscribe_nothing(
    owner: Api, avito_sandbox: Sandbox
) -> None:
    account = with_keys(owner, userId=str(OLEG))
    look_after_webhook(account.pk)
    shown = owner.get(f"/api/v1/accounts/{account.pk}").json()
    assert (shown["connectionStatus"], shown["connectionError"]["code"]) == ("error", "account_mismatch")
    assert shown["userId"] == str(OLEG)
    assert webhooks_of(avito_sandbox, ANNA) == webhooks_of(avito_sandbox, OLEG) == []


def test_keys_of_a_seller_who_has_an_account_here_are_shown_as_taken(
    owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    account = with_keys(owner)
    answer = owner.get(f"/api/v1/messenger/accounts/{account.pk}/chats")
    assert answer.status_code == 409
    shown = owner.get(f"/api/v1/accounts/{account.pk}").json()
    assert (shown["connectionStatus"], shown["connectionError"]["code"]) == ("error", "user_id_taken")
    assert shown["userId"] is None


def test_a_user_who_is_gone_leaves_no_open_flow(owner: Api, browser: Api, fresh: Account) -> None:
    visitor = Api(owner.base, make_user("visitor", "admin"))
    link = link_for(visitor, fresh)
    User.objects.get(username="visitor").delete()
    assert ticket_refused(browser.get(link))
