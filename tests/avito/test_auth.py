"""Tokens: the authorization address, the grants and their refusals."""

import json
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest

from avito import (
    Broken,
    InvalidClient,
    InvalidGrant,
    RateLimited,
    Token,
    Unreadable,
    authorize_url,
    client_credentials,
    exchange_code,
    refresh,
)
from avito.protocol import Request, Response

PAIR = {"access_token": "a1", "refresh_token": "r1", "expires_in": 86400, "scope": "messenger:read,user:read"}


class Endpoint:
    def __init__(self, status: int, body: object) -> None:
        self.response = Response(status, {}, json.dumps(body).encode())
        self.requests: list[Request] = []

    def send(self, request: Request, *, deadline_seconds: float | None = None) -> Response:
        self.requests.append(request)
        return self.response


def refreshed(status: int, body: object) -> Token:
    return refresh(Endpoint(status, body), client_id="id", client_secret="s3cret", refresh_token="r0")


def test_authorization_address_holds_what_avito_wants() -> None:
    url = authorize_url(
        "https://avito.ru/oauth",
        client_id="a b&c",
        scopes=["messenger:read", "messenger:write"],
        state="s&t=1",
        redirect_uri="https://me.example/callback?x=1",
    )
    assert url.startswith("https://avito.ru/oauth?response_type=code&pro_users_flow=true&client_id=")
    assert "scope=messenger:read,messenger:write&" in url
    assert {name: value for name, [value] in parse_qs(urlsplit(url).query, strict_parsing=True).items()} == {
        "response_type": "code",
        "pro_users_flow": "true",
        "client_id": "a b&c",
        "scope": "messenger:read,messenger:write",
        "state": "s&t=1",
        "redirect_uri": "https://me.example/callback?x=1",
    }


def test_grants_send_a_form_and_no_redirect_uri() -> None:
    endpoint = Endpoint(200, PAIR)
    assert exchange_code(endpoint, client_id="id", client_secret="s&=", code="c") == Token(
        "a1", "r1", 86400, ("messenger:read", "user:read")
    )
    refresh(endpoint, client_id="id", client_secret="s", refresh_token="r0")
    client_credentials(endpoint, client_id="id", client_secret="s")
    forms = [dict(parse_qsl((request.body or b"").decode())) for request in endpoint.requests]
    assert forms == [
        {"grant_type": "authorization_code", "client_id": "id", "client_secret": "s&=", "code": "c"},
        {"grant_type": "refresh_token", "client_id": "id", "client_secret": "s", "refresh_token": "r0"},
        {"grant_type": "client_credentials", "client_id": "id", "client_secret": "s"},
    ]
    assert all("Authorization" not in request.headers for request in endpoint.requests)


@pytest.mark.parametrize("status", [200, 400, 401, 403])
@pytest.mark.parametrize(
    "body",
    [
        {"error": "invalid_grant", "error_description": "used"},
        {"error": {"code": 400, "message": "invalid_grant"}},
        {"error": {"code": "invalid_grant", "message": "used"}},
        {"code": "invalid_grant", "message": "used"},
    ],
)
def test_invalid_grant_is_told_whatever_the_status(status: int, body: dict[str, object]) -> None:
    if status == 200 and "error" not in body:
        return
    with pytest.raises(InvalidGrant) as caught:
        refreshed(status, body)
    assert not caught.value.maybe_done
    assert caught.value.code == "invalid_grant"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": "invalid_client"}),
        (200, {"error": "invalid_client"}),
        (401, {}),
        (403, {"error": "unauthorized_client"}),
    ],
)
def test_wrong_application_is_not_the_accounts_fault(status: int, body: object) -> None:
    with pytest.raises(InvalidClient):
        refreshed(status, body)


def test_other_refusals_are_the_usual_ones() -> None:
    with pytest.raises(RateLimited):
        refreshed(429, {})
    with pytest.raises(Broken) as caught:
        refreshed(500, {"error": "invalid_grant"})
    assert caught.value.maybe_done


@pytest.mark.parametrize(
    "change",
    [
        {"access_token": None},
        {"access_token": ""},
        {"access_token": 5},
        {"access_token": "a b"},
        {"access_token": "a\r\nX: y"},
        {"access_token": "я"},
        {"refresh_token": None},
        {"refresh_token": ""},
        {"expires_in": None},
        {"expires_in": 0},
        {"expires_in": -5},
        {"expires_in": True},
        {"expires_in": "86400"},
        {"expires_in": 10**12},
    ],
)
def test_half_a_token_is_unreadable(change: dict[str, object]) -> None:
    with pytest.raises(Unreadable) as caught:
        refreshed(200, PAIR | change)
    assert caught.value.maybe_done


def test_token_without_refresh_is_right_for_client_credentials_only() -> None:
    lone = {"access_token": "a", "expires_in": 86400.0, "token_type": "Bearer"}
    assert client_credentials(Endpoint(200, lone), client_id="i", client_secret="s") == Token("a", None, 86400, ())
    with pytest.raises(Unreadable):
        refreshed(200, lone)


def test_secrets_that_avito_repeats_are_not_in_the_error() -> None:
    for body in ({"error": "invalid_grant", "error_description": "r0 of s3cret"}, {"message": "r0 of s3cret"}):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            refreshed(400, body)
        assert str(caught.value) == "*** of ***"
