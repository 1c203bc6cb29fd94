from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.sandbox.conftest import Client
from tests.sandbox.driver import ALL_SCOPES, ANNA, KEYS, OLEG, Sandbox

CONSENT = {
    "response_type": "code",
    "pro_users_flow": "true",
    "client_id": "sandbox-client",
    "scope": ",".join(ALL_SCOPES),
    "state": "a state & more",
    "redirect_uri": "http://127.0.0.1:5004/callback?from=avito",
}


def decide(sandbox: Sandbox, decision: str, **changes: str) -> dict[str, list[str]]:
    form = {k: v for k, v in {**CONSENT, **changes}.items() if k != "pro_users_flow"}
    answer = sandbox.call("POST", "/oauth", data={"decision": decision, **form}, allow_redirects=False)
    assert answer.status_code == 303
    target = urlsplit(answer.headers["location"])
    assert (target.netloc, target.path) == ("127.0.0.1:5004", "/callback")
    return parse_qs(target.query)


def whose(sandbox: Sandbox, access_token: str) -> int:
    answer = sandbox.call("GET", "/core/v1/accounts/self", headers={"Authorization": f"Bearer {access_token}"})
    id: int = answer.json()["id"]
    return id


def test_consent_page_offers_sellers_and_scopes(sandbox: Sandbox) -> None:
    page = sandbox.call("GET", "/oauth", params=CONSENT)
    assert page.status_code == 200
    for part in ('name="user_id"', f'value="{OLEG}"', 'value="new"', 'id="allow"', 'id="deny"', "messenger:write"):
        assert part in page.text
    assert "Разрешить" in page.text
    assert "Decline" in sandbox.call("GET", "/oauth", params={**CONSENT, "lang": "en"}).text


def test_seller_who_agrees_sends_a_code_that_becomes_his_tokens(sandbox: Sandbox) -> None:
    back = decide(sandbox, "allow", user_id=str(OLEG))
    assert back["state"] == [CONSENT["state"]]
    assert back["from"] == ["avito"]
    tokens = sandbox.token_call(grant_type="authorization_code", code=back["code"][0]).json()
    assert set(tokens) == {"access_token", "refresh_token", "expires_in", "token_type", "scope"}
    assert (tokens["expires_in"], tokens["token_type"], tokens["scope"]) == (86400, "Bearer", ",".join(ALL_SCOPES))
    assert whose(sandbox, tokens["access_token"]) == OLEG


def test_new_seller_can_agree(sandbox: Sandbox) -> None:
    code = decide(sandbox, "allow", user_id="new")["code"][0]
    tokens = sandbox.token_call(grant_type="authorization_code", code=code).json()
    assert whose(sandbox, tokens["access_token"]) not in {ANNA, OLEG}


def test_seller_who_declines_sends_an_error(sandbox: Sandbox) -> None:
    assert decide(sandbox, "deny") == {"error": ["access_denied"], "state": [CONSENT["state"]], "from": ["avito"]}


@pytest.mark.parametrize(
    "changes",
    [
        {"client_id": "nobody"},
        {"response_type": "token"},
        {"scope": "messenger:read messenger:write"},
        {"redirect_uri": "https://example.com/callback"},
        {"redirect_uri": "http://127.0.0.1.example.com/"},
        {"prompt": "none"},
    ],
)
def test_wrong_consent_request_shows_an_error(sandbox: Sandbox, changes: dict[str, str]) -> None:
    assert sandbox.call("GET", "/oauth", params={**CONSENT, **changes}).status_code == 400


def test_registered_redirect_address_is_the_only_one(sandbox: Sandbox) -> None:
    sandbox.control("PATCH", "/settings", redirectUris=["https://office.example/cb"])
    assert sandbox.call("GET", "/oauth", params=CONSENT).status_code == 400
    without = {k: v for k, v in CONSENT.items() if k != "redirect_uri"}
    assert "https://office.example/cb" in sandbox.call("GET", "/oauth", params=without).text


def test_code_works_once(sandbox: Sandbox) -> None:
    code = sandbox.control("POST", "/authorize", sellerId=ANNA)["code"]
    assert sandbox.token_call(grant_type="authorization_code", code=code).status_code == 200
    again = sandbox.token_call(grant_type="authorization_code", code=code)
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


def test_refresh_token_rotates_and_works_once(sandbox: Sandbox) -> None:
    first = sandbox.tokens()
    second = sandbox.token_call(grant_type="refresh_token", refresh_token=first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert second["access_token"] != first["access_token"]
    reused = sandbox.token_call(grant_type="refresh_token", refresh_token=first["refresh_token"])
    assert (reused.status_code, reused.json()["error"]) == (400, "invalid_grant")
    assert whose(sandbox, first["access_token"]) == ANNA
    assert sandbox.token_call(grant_type="refresh_token", refresh_token=second["refresh_token"]).status_code == 200


def test_old_access_token_dies_if_so_set(sandbox: Sandbox) -> None:
    sandbox.control("PATCH", "/settings", oldTokensDie=True)
    old, _ = Client(sandbox), sandbox.tokens()
    assert old.call("GET", "/core/v1/accounts/self").status_code == 401


def test_own_key_gets_a_token_without_refresh(sandbox: Sandbox) -> None:
    answer = sandbox.token_call(grant_type="client_credentials", client_id="anna-client", client_secret="anna-secret")
    assert set(answer.json()) == {"access_token", "expires_in", "token_type"}
    assert whose(sandbox, answer.json()["access_token"]) == ANNA


@pytest.mark.parametrize(
    ("fields", "status", "error"),
    [
        ({"grant_type": "client_credentials", "client_secret": "wrong"}, 401, "invalid_client"),
        ({"grant_type": "client_credentials"}, 400, "unauthorized_client"),
        ({"grant_type": "password"}, 400, "unsupported_grant_type"),
        ({"grant_type": "authorization_code"}, 400, "invalid_request"),
        (
            {"grant_type": "authorization_code", "code": "x", "redirect_uri": "http://127.0.0.1/"},
            400,
            "invalid_request",
        ),
        ({"grant_type": "refresh_token", "refresh_token": "x"}, 400, "invalid_grant"),
    ],
)
def test_wrong_token_requests_are_refused(sandbox: Sandbox, fields: dict[str, str], status: int, error: str) -> None:
    answer = sandbox.token_call(**fields)
    assert (answer.status_code, answer.json()["error"]) == (status, error)


def test_token_takes_a_form_at_the_documented_path_alone(sandbox: Sandbox) -> None:
    fields: dict[str, Any] = {**KEYS, "grant_type": "client_credentials"}
    assert sandbox.call("POST", "/token", json=fields).status_code == 400
    assert sandbox.call("POST", "/token/", data=fields).status_code == 404
    assert sandbox.call("GET", "/token", params=fields).status_code == 405


def test_expired_token_is_401_or_403_as_set(sandbox: Sandbox) -> None:
    sandbox.control("PATCH", "/settings", accessTokenSeconds=0)
    client = Client(sandbox)
    assert client.tokens["expires_in"] == 0
    assert client.call("GET", "/core/v1/accounts/self").status_code == 401
    sandbox.control("PATCH", "/settings", expiredStatus=403)
    assert client.call("GET", "/core/v1/accounts/self").status_code == 403


def test_tokens_can_be_expired_and_revoked(sandbox: Sandbox) -> None:
    client = Client(sandbox)
    sandbox.control("POST", "/tokens/expire", sellerId=ANNA)
    assert client.call("GET", "/core/v1/accounts/self").status_code == 401
    fresh = sandbox.token_call(grant_type="refresh_token", refresh_token=client.tokens["refresh_token"]).json()
    assert whose(sandbox, fresh["access_token"]) == ANNA
    sandbox.control("POST", "/tokens/revoke", sellerId=ANNA)
    dead = sandbox.token_call(grant_type="refresh_token", refresh_token=fresh["refresh_token"])
    assert dead.json()["error"] == "invalid_grant"


def test_journal_tells_grants_apart_and_holds_no_token(sandbox: Sandbox) -> None:
    tokens = sandbox.tokens()
    fresh = sandbox.token_call(grant_type="refresh_token", refresh_token=tokens["refresh_token"]).json()
    assert [row["grantType"] for row in sandbox.journal()] == ["authorization_code", "refresh_token"]
    assert {row["userId"] for row in sandbox.journal()} == {ANNA}
    for secret in (*tokens.values(), fresh["access_token"], "sandbox-secret"):
        assert str(secret) == "Bearer" or f'"{secret}"' not in sandbox.call("GET", "/_sandbox/journal").text
