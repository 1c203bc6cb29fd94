"""Consent for a property: from the host's button over Avito's page to an account that the host may use."""

import re
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.utils import timezone

from avito_accounts import tokens
from avito_accounts.models import Account, Authorization, AuthorizationRequest
from integrations_str.models import Access, Property
from tests.api.conftest import assert_error
from tests.conftest import Api
from tests.factories import make_account
from tests.integrations_str.conftest import Home, assert_agrees, work
from tests.sandbox.driver import ALL_SCOPES, ANNA, OLEG, RENT_SCOPES, Sandbox

CALLBACK = "/api/v1/auth/avito/callback"
FRONTEND = "https://hosts.example"


@pytest.fixture
def host_api(product: str, host: User, settings: LazySettings) -> Api:
    settings.AVITO_OAUTH_SCOPES = list(ALL_SCOPES)
    settings.FRONTEND_URL = FRONTEND
    return Api(product, host)


@pytest.fixture
def path(host_api: Api) -> str:
    """The host's property; nobody is connected to Avito yet."""
    made = host_api.post("/api/v1/str/properties", {"name": "Дом", "basePrice": 2000})
    return f"/api/v1/str/properties/{made.json()['id']}"


@pytest.fixture
def browser(product: str) -> Api:
    """A browser: it keeps cookies, and nobody is signed in."""
    return Api(product)


def link(api: Api, path: str, verb: str = "authorize") -> str:
    answer = api.post(f"{path}/avito/{verb}")
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"url"}
    return str(answer.json()["url"])


def opened(browser: Api, link: str) -> dict[str, str]:
    """What the browser takes to Avito's consent page."""
    answer = browser.get(link)
    assert answer.status_code == 302, answer.text
    assert answer.headers["Cache-Control"] == "no-store"
    assert browser.get(answer.headers["Location"]).status_code == 200
    return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))


def decided(browser: Api, avito: Sandbox, asked: dict[str, str], seller_id: int = ANNA, decision: str = "allow") -> str:
    """Where Avito sends the browser once somebody has decided."""
    data = {**asked, "decision": decision, "user_id": seller_id}
    return browser.call("POST", f"{avito.base}/oauth", data=data).headers["Location"]


def walked(browser: Api, avito: Sandbox, link: str, **how: Any) -> requests.Response:
    return browser.get(decided(browser, avito, opened(browser, link), **how))


def landed(answer: requests.Response) -> str:
    assert answer.status_code == 302, answer.text
    return answer.headers["Location"].removeprefix(FRONTEND)


def ended_at(path: str) -> str:
    """The page of the frontend for this property."""
    return f"/properties/{path.rpartition('/')[2]}/avito"


def test_a_host_without_any_account_gets_one_by_consent_and_connects(
    host_api: Api, path: str, browser: Api, avito_sandbox: Sandbox, host: User
) -> None:
    url = link(host_api, path)
    assert url.startswith(f"{host_api.base}/api/v1/")
    assert landed(walked(browser, avito_sandbox, url)) == f"{ended_at(path)}?oauth=success"
    account = Account.objects.get()
    assert account.avito_user_id == ANNA
    assert re.fullmatch(rf"\S.* \({ANNA}\)", account.name)
    offered = host_api.get(f"{path}/avito/accounts").json()
    assert offered == [{"accountId": account.pk, "userId": str(ANNA), "name": account.name}]
    assert host_api.get("/api/v1/accounts").status_code == 403
    home = Home(host_api, avito_sandbox, account, int(path.rpartition("/")[2]), avito_sandbox.make_rent_item())
    home.connect()
    work()
    assert_agrees(home)
    # A second consent finds the same account.
    assert landed(walked(browser, avito_sandbox, link(host_api, path))).endswith("?oauth=success")
    assert Account.objects.count() == Access.objects.filter(user=host).count() == 1


def test_without_a_frontend_the_browser_ends_at_a_page_that_says_how_it_went(
    host_api: Api, path: str, browser: Api, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    settings.FRONTEND_URL = ""
    done = browser.call("GET", walked_to(browser, avito_sandbox, link(host_api, path)))
    assert done.status_code in (200, 302)
    assert "error" not in done.headers.get("Location", "")
    assert Access.objects.count() == 1
    refused = walked(browser, avito_sandbox, link(host_api, path), decision="deny")
    assert "access_denied" in refused.text + refused.headers.get("Location", "")


def walked_to(browser: Api, avito: Sandbox, link: str) -> str:
    return decided(browser, avito, opened(browser, link))


def test_the_page_that_the_browser_ends_at_can_be_chosen(
    host_api: Api, path: str, browser: Api, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    settings.AVITO_STR_RETURN_PATH = "/my/{id}?tab=avito&oauth=success"
    number = path.rpartition("/")[2]
    answers = [landed(walked(browser, avito_sandbox, link(host_api, path), decision=how)) for how in ("allow", "deny")]
    assert answers == [
        f"/my/{number}?tab=avito&oauth=success",
        f"/my/{number}?tab=avito&oauth=error&code=access_denied",
    ]


def test_a_host_who_declines_at_avito_is_told_so_and_nothing_is_kept(
    host_api: Api, path: str, browser: Api, avito_sandbox: Sandbox
) -> None:
    answer = walked(browser, avito_sandbox, link(host_api, path), decision="deny")
    assert landed(answer) == f"{ended_at(path)}?oauth=error&code=access_denied"
    assert not Account.objects.exists()
    assert not Access.objects.exists()


def invalid_ticket(answer: requests.Response) -> bool:
    return assert_error(answer, 401, "invalid_ticket") is not None


def test_a_link_opens_once_and_for_its_property_alone(
    host_api: Api, path: str, browser: Api, avito_sandbox: Sandbox, owner: Api
) -> None:
    url = link(host_api, path)
    ticket = url.partition("ticket=")[2]
    account = make_account()
    assert invalid_ticket(browser.get(f"/api/v1/auth/avito/authorize/{account.pk}?ticket={ticket}"))
    opened(browser, url)
    assert invalid_ticket(browser.get(url))
    for wrong in ("", "?ticket=", "?ticket=1", f"?ticket={ticket}x"):
        assert invalid_ticket(browser.get(url.partition("?")[0] + wrong))
    accounts_link = owner.post(f"/api/v1/accounts/{account.pk}/authorize-link").json()["url"]
    assert invalid_ticket(browser.get(f"{url.partition('?')[0]}?ticket={accounts_link.partition('ticket=')[2]}"))


def test_another_browser_cannot_end_what_one_has_begun(
    host_api: Api, path: str, browser: Api, avito_sandbox: Sandbox, product: str
) -> None:
    back = decided(browser, avito_sandbox, opened(browser, link(host_api, path)))
    for one in (Api(product), browser):  # and the state is burned by the attempt
        answer = one.get(back)
        assert answer.status_code == 302
        assert "code=invalid_state" in answer.headers["Location"]
    assert not Account.objects.exists()


@pytest.mark.parametrize("when", ["before it is opened", "before it comes back"])
def test_a_property_that_is_gone_meanwhile_connects_nothing(
    host_api: Api, path: str, browser: Api, avito_sandbox: Sandbox, when: str
) -> None:
    url = link(host_api, path)
    if when == "before it is opened":
        assert host_api.delete(path).status_code == 204
        assert invalid_ticket(browser.get(url))
    else:
        asked = opened(browser, url)
        assert host_api.delete(path).status_code == 204
        answer = browser.get(decided(browser, avito_sandbox, asked))
        assert landed(answer) == f"{ended_at(path)}?oauth=error&code=invalid_state"
    assert not Account.objects.exists()


def test_a_state_grown_old_connects_nothing(host_api: Api, path: str, browser: Api, avito_sandbox: Sandbox) -> None:
    back = decided(browser, avito_sandbox, opened(browser, link(host_api, path)))
    AuthorizationRequest.objects.update(opened_at=timezone.now() - timedelta(seconds=601))
    assert "code=invalid_state" in landed(browser.get(back))
    assert not Account.objects.exists()


def scopes_of(account: Account) -> set[str]:
    return set(Authorization.objects.get(account=account).scopes)


def test_a_living_authorisation_that_may_do_more_stays(
    host_api: Api, path: str, browser: Api, avito_sandbox: Sandbox, anna: Account, host: User, settings: LazySettings
) -> None:
    before = tokens.store(anna, wide(avito_sandbox), kind=Authorization.Kind.OAUTH)
    settings.AVITO_OAUTH_SCOPES = [*RENT_SCOPES, "user:read"]
    assert landed(walked(browser, avito_sandbox, link(host_api, path))).endswith("?oauth=success")
    after = Authorization.objects.get(account=anna)
    assert (scopes_of(anna), after.access_token) == (set(ALL_SCOPES), before.access_token)
    assert Access.objects.filter(account=anna, user=host).exists()
    # A dead one is worth less than any other.
    Authorization.objects.update(dead_reason="invalid_grant")
    assert landed(walked(browser, avito_sandbox, link(host_api, path))).endswith("?oauth=success")
    assert scopes_of(anna) == {*RENT_SCOPES, "user:read"}
    # And one as wide or wider takes its place.
    settings.AVITO_OAUTH_SCOPES = list(ALL_SCOPES)
    assert landed(walked(browser, avito_sandbox, link(host_api, path))).endswith("?oauth=success")
    assert scopes_of(anna) == set(ALL_SCOPES)


def wide(avito: Sandbox) -> Any:
    import avito as client

    pair = avito.tokens(ANNA, ALL_SCOPES)
    return client.Token(pair["access_token"], pair["refresh_token"], pair["expires_in"], ALL_SCOPES)


def test_a_reconnection_by_another_profile_is_refused(home: Home, settings: LazySettings, browser: Api) -> None:
    settings.FRONTEND_URL, settings.AVITO_OAUTH_SCOPES = FRONTEND, list(ALL_SCOPES)
    home.connect_and_push()
    before = list(Authorization.objects.values())
    answer = walked(browser, home.avito, link(home.api, home.path, "reconnect"), seller_id=OLEG)
    assert landed(answer) == f"{ended_at(home.path)}?oauth=error&code=account_mismatch"
    assert list(Authorization.objects.values()) == before
    assert not Account.objects.filter(avito_user_id=OLEG).exists()
    assert landed(walked(browser, home.avito, link(home.api, home.path, "reconnect"))).endswith("?oauth=success")
    assert home.connection()["accountId"] == home.account.pk


def test_a_new_account_finds_a_name_of_its_own(host_api: Api, path: str, browser: Api, avito_sandbox: Sandbox) -> None:
    assert landed(walked(browser, avito_sandbox, link(host_api, path))).endswith("?oauth=success")
    name = Account.objects.get().name
    Account.objects.update(avito_user_id=1)  # somebody else's by now, and so named
    assert landed(walked(browser, avito_sandbox, link(host_api, path))).endswith("?oauth=success")
    assert Account.objects.get(avito_user_id=ANNA).name != name
    assert Property.objects.get().integrations.count() == 0
