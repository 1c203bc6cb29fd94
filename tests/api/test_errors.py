"""One shape of answers: errors, pages, times, ids of requests, slashes; and what Avito's failures become."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connections
from django.db.backends.postgresql.base import DatabaseWrapper

import avito
from avito_accounts.errors import AccountUnusable, code_of
from avito_accounts.models import Account, Authorization
from chats.models import Chat
from config.api import ACCOUNT_ERRORS
from config.asgi import intake
from tests.api.conftest import assert_error
from tests.conftest import Api
from tests.factories import make_account, make_message, make_proxy
from tests.sandbox.driver import Sandbox

RUSSIAN = re.compile("[а-яё]", re.IGNORECASE)


def test_every_kind_of_error_has_the_one_shape(
    nobody: Api, stranger: Api, owner: Api, anna: Account, subtests: pytest.Subtests
) -> None:
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    json = {"Content-Type": "application/json"}
    path = "/api/v1/accounts"
    calls: list[tuple[Any, int, str]] = [
        (nobody.get("/api"), 404, "not_found"),
        (nobody.get("/api/"), 404, "not_found"),
        (nobody.get("/api/v1"), 404, "not_found"),
        (nobody.get("/api/v1/nope"), 404, "not_found"),
        (nobody.post("/api/v2/accounts", {}), 404, "not_found"),
        (owner.get(f"{path}/987654"), 404, "not_found"),
        (owner.delete(path), 405, "method_not_allowed"),
        (owner.call("POST", path, data="a=b", headers=form), 415, "unsupported_media_type"),
        (owner.call("GET", path, headers={"Accept": "text/html"}), 406, "not_acceptable"),
        (owner.call("POST", path, data="{", headers=json), 400, "parse_error"),
        (owner.post(path, {}), 400, "required"),
        (owner.post(path, [1]), 400, "invalid"),
        (nobody.get(path), 401, "not_authenticated"),
        (nobody.call("GET", path, headers={"Authorization": "Bearer x"}), 401, "token_not_valid"),
        (stranger.get(path), 403, "permission_denied"),
        (owner.call("POST", path, data=b"{", headers={"Content-Encoding": "gzip"}), 415, "unsupported_encoding"),
        (owner.call("GET", path, headers={"x": "y" * 40_000}), 431, "headers_too_large"),
    ]
    for answer, status, code in calls:
        with subtests.test(f"{status} {code} {answer.request.path_url}"):
            assert_error(answer, status, code)


def test_a_body_over_a_megabyte_is_413(owner: Api) -> None:
    # Told before the body is sent; else the client might hear of a broken connection instead.
    answer = owner.call("POST", "/api/v1/accounts", headers={"Content-Length": str(1024 * 1024 + 1)})
    error = assert_error(answer, 413, "body_too_large")
    assert RUSSIAN.search(error["detail"])


def test_what_breaks_is_told_without_saying_what_it_was(owner: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("a secret in the trace")

    monkeypatch.setattr("avito_accounts.api.AccountFilter.by_name_or_number", broken)
    answer = owner.get("/api/v1/accounts", search="x")
    error = assert_error(answer, 500, "error")
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert RUSSIAN.search(error["detail"])


def test_what_breaks_outside_of_views_has_the_same_shape(owner: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("a secret in the trace")

    monkeypatch.setattr("django.middleware.clickjacking.XFrameOptionsMiddleware.process_response", broken)
    answer = owner.get("/api/v1/accounts")
    assert_error(answer, 500, "error")
    assert "secret" not in answer.text


def test_forged_host_is_refused_in_the_one_shape(owner: Api, settings: LazySettings) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    assert_error(owner.call("GET", "/api/v1/accounts", headers={"Host": "evil.example"}), 400, "bad_request")


def test_forged_host_is_refused(owner: Api, settings: LazySettings) -> None:
    settings.ALLOWED_HOSTS = ["127.0.0.1"]
    answer = owner.call("GET", "/api/v1/accounts", headers={"Host": "evil.example"})
    assert (answer.status_code, "evil" in answer.text) == (400, False)


def test_forwarded_host_is_not_believed(owner: Api) -> None:
    Account.objects.bulk_create([Account(name=f"n{number}") for number in range(3)])
    forged = {"X-Forwarded-Host": "evil.example", "X-Forwarded-Port": "1", "Forwarded": "host=evil.example"}
    answer = owner.call("GET", "/api/v1/accounts?pageSize=1", headers=forged)
    assert answer.json()["next"].startswith(owner.base)


def test_refused_post_to_a_plain_view_is_no_html_page(nobody: Api) -> None:
    assert_error(nobody.post("/api/v1/auth/avito/callback"), 405)


# Fields and words


@pytest.mark.parametrize(
    ("body", "attr"),
    [
        ({}, "name"),
        ({"name": "x", "userId": "x"}, "userId"),
        ({"name": "x", "proxyPort": 0}, "proxyPort"),
        ({"name": "x", "proxyType": "http"}, "proxyHost"),
        ({"name": "x", "onlineKeepAliveInterval": 1}, "onlineKeepAliveInterval"),
    ],
)
def test_attr_names_the_field_in_camel_case(owner: Api, body: Any, attr: str) -> None:
    assert_error(owner.post("/api/v1/accounts", body), 400, attr=attr)


LANGUAGES = [
    (None, True),
    ("ru", True),
    ("ru-RU,ru;q=0.9,en;q=0.8", True),
    ("de", True),
    ("*", True),
    ("nonsense;;q=x", True),
    ("en", False),
    ("en-GB,en;q=0.9", False),
    ("de,en;q=0.5", False),
    ("en;q=0.5,ru;q=0.9", True),
]


@pytest.mark.parametrize(("accepted", "russian"), LANGUAGES)
def test_detail_is_russian_or_as_the_caller_accepts(owner: Api, anna: Account, accepted: Any, russian: bool) -> None:
    headers = {"Accept-Language": accepted}
    Authorization.objects.all().delete()
    answers = [
        owner.call("GET", "/api/v1/nope", headers=headers),
        owner.call("POST", "/api/v1/accounts", json={}, headers=headers),
        owner.call("POST", "/api/v1/auth/token", json={"username": "x", "password": "y"}, headers=headers),
        owner.call("POST", "/api/v1/auth/token/refresh", json={"refresh": "x"}, headers=headers),
        owner.call("GET", "/api/v1/auth/me", headers={**headers, "Authorization": "Bearer x"}),
        owner.call("GET", f"/api/v1/messenger/accounts/{anna.pk}/chats", headers=headers),
        owner.call("GET", "/api/v1/accounts", headers={**headers, "Content-Encoding": "gzip"}),  # by the gate
    ]
    for answer in answers:
        detail = answer.json()["errors"][0]["detail"]
        assert bool(RUSSIAN.search(detail)) == russian, detail


# Ids of requests


@pytest.mark.parametrize("given", ["abc", "a" * 64, "7f3b-1.2_3", "0"])
@pytest.mark.parametrize("path", ["/api/v1/nope", "/health", "/api/v1/webhooks/avito", "/admin/login/", "/static/none"])
def test_sane_request_id_comes_back(nobody: Api, path: str, given: str) -> None:
    assert nobody.call("GET", path, headers={"X-Request-ID": given}).headers["X-Request-ID"] == given


@pytest.mark.parametrize("given", [None, "", "a" * 65, "a b", "a/b", "<script>", "ключ".encode(), 'a"b', "a,b"])
def test_other_request_ids_are_replaced(nobody: Api, given: Any) -> None:
    made = {nobody.call("GET", "/health", headers={"X-Request-ID": given}).headers["X-Request-ID"] for _ in range(2)}
    assert len(made) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)


# Slashes, pages, times


def test_trailing_slash_works_without_a_redirect(owner: Api, nobody: Api, chat: Chat, anna: Account) -> None:
    paths = ("accounts", f"accounts/{anna.pk}", "auth/me", "avito/chats", f"avito/chats/{chat.avito_id}")
    for path in paths:
        plain, slashed = owner.get(f"/api/v1/{path}"), owner.get(f"/api/v1/{path}/")
        assert (slashed.status_code, slashed.json()) == (200, plain.json())
    assert owner.call("GET", "/api/v1/accounts/?pageSize=1").json()["results"]
    assert owner.post("/api/v1/accounts/", {"name": "New"}).status_code == 201
    assert nobody.get("/health/").status_code == 200
    assert nobody.get("/api/schema/").status_code == nobody.get("/api/docs/").status_code == 200


def test_numbered_pages_lead_through_a_list_and_back(owner: Api) -> None:
    for _number in range(5):
        make_account()
    seen, link, path = [], None, "/api/v1/accounts?pageSize=2&ordering=id"
    while path:
        page = owner.call("GET", path).json()
        assert set(page) == {"count", "next", "previous", "results"}
        assert page["count"] == 5
        seen += [row["id"] for row in page["results"]]
        link, path = page["previous"], page["next"]
    assert len(seen) == len(set(seen)) == 5
    assert link is not None
    assert [row["id"] for row in owner.call("GET", link).json()["results"]] == seen[2:4]


def test_cursor_pages_lead_through_a_list_and_back(colleague: Api, chat: Chat) -> None:
    made = [make_message(chat).pk for _number in range(5)]
    path, seen, link = f"/api/v1/avito/chats/{chat.avito_id}/messages?limit=2", [], None
    while path:
        page = colleague.call("GET", path).json()
        assert set(page) == {"next", "previous", "results"}
        seen += [row["id"] for row in page["results"]]
        link, path = page["previous"], page["next"]
    assert seen == made[::-1]
    assert link is not None
    assert [row["id"] for row in colleague.call("GET", link).json()["results"]] == made[::-1][2:4]


def test_times_are_utc_and_end_with_z(owner: Api, chat: Chat, anna: Account) -> None:
    make_message(chat)
    shown = [owner.get(f"/api/v1/accounts/{anna.pk}").json(), owner.get(f"/api/v1/avito/chats/{chat.avito_id}").json()]
    times = [value for value in leaves(shown) if isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT", value)]
    assert len(times) >= 5
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", time) for time in times), times


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from leaves(one)
    else:
        yield value


def test_unknown_body_fields_are_ignored(owner: Api) -> None:
    assert owner.post("/api/v1/accounts", {"name": "New", "unknown": {"a": [1]}}).status_code == 201


def test_missing_fields_are_kept_by_put_and_patch(owner: Api, anna: Account) -> None:
    for method, interval in (("PUT", 120), ("PATCH", 180)):
        path = f"/api/v1/accounts/{anna.pk}"
        changed = owner.call(method, path, json={"onlineKeepAliveInterval": interval}).json()
        assert (changed["name"], changed["onlineKeepAliveInterval"]) == ("Анна", interval)


# What Avito's failures become

MESSENGER = "^/messenger/v"


@pytest.mark.parametrize(
    ("kind", "details", "status", "code"),
    [
        ("status", {"status": 400}, 422, "avito_rejected"),
        ("status", {"status": 422}, 422, "avito_rejected"),
        ("status", {"status": 402}, 402, "avito_subscription_required"),
        ("status", {"status": 403}, 403, "avito_forbidden"),
        ("status", {"status": 404}, 404, "avito_not_found"),
        ("429", {"seconds": 7}, 503, "avito_rate_limited"),
        ("status", {"status": 500}, 502, "avito_unavailable"),
        ("status", {"status": 503}, 502, "avito_unavailable"),
        ("rubbish", {}, 502, "avito_unavailable"),
        ("truncated", {}, 502, "avito_unavailable"),
        ("redirect", {}, 502, "avito_unavailable"),
        ("huge", {}, 502, "avito_unavailable"),
        ("silence", {}, 504, "avito_timeout"),
        ("reset", {}, 504, "avito_timeout"),
    ],
)
def test_failure_of_avito_becomes_an_error_of_ours(
    colleague: Api,
    anna: Account,
    avito_sandbox: Sandbox,
    settings: LazySettings,
    kind: str,
    details: dict[str, Any],
    status: int,
    code: str,
) -> None:
    settings.AVITO_TIMEOUT_SECONDS = 1
    avito_sandbox.fault(kind, MESSENGER, **details)
    answer = colleague.get(f"/api/v1/messenger/accounts/{anna.pk}/chats")
    error = assert_error(answer, status, code)
    if code == "avito_rejected":
        assert "Sandbox fault" in error["detail"]
    assert answer.headers.get("Retry-After") == ("7" if code == "avito_rate_limited" else None)


def test_account_without_credentials_is_409(colleague: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    Authorization.objects.all().delete()
    assert_error(colleague.get(f"/api/v1/messenger/accounts/{anna.pk}/chats"), 409, "account_not_authorized")
    assert not [call for call in avito_sandbox.journal() if "messenger" in call["path"]]


def test_revoked_token_is_409_and_says_what_to_do(colleague: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.control("POST", "/tokens/revoke", sellerId=anna.avito_user_id)
    path = f"/api/v1/messenger/accounts/{anna.pk}/chats"
    error = assert_error(colleague.get(path), 409, "reconnect_required")
    assert error["detail"] == "Срок действия доступа истёк. Подключите заново."
    english = colleague.call("GET", path, headers={"Accept-Language": "en"})
    assert assert_error(english, 409)["detail"] == "Token expired. Please reconnect."


def test_authorisation_known_to_be_dead_is_409(colleague: Api, anna: Account) -> None:
    Authorization.objects.update(dead_reason="token_expired")
    assert_error(colleague.get(f"/api/v1/messenger/accounts/{anna.pk}/chats"), 409, "reconnect_required")


def test_installation_without_an_application_is_503(colleague: Api, anna: Account, settings: LazySettings) -> None:
    settings.AVITO_OAUTH_CLIENT_ID = settings.AVITO_OAUTH_CLIENT_SECRET = ""
    Authorization.objects.update(expires_at="2020-01-01T00:00:00Z", refresh_at="2020-01-01T00:00:00Z")
    path = f"/api/v1/messenger/accounts/{anna.pk}/chats"
    assert_error(colleague.get(path), 503, "missing_avito_secrets")


def test_dead_proxy_is_502_and_avito_is_never_asked_directly(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    settings.AVITO_TIMEOUT_SECONDS = 2
    Account.objects.filter(pk=anna.pk).update(proxy=make_proxy())
    assert_error(colleague.get(f"/api/v1/messenger/accounts/{anna.pk}/chats"), 502, "proxy_failed")
    assert not [call for call in avito_sandbox.journal() if "messenger" in call["path"]]


def test_secrets_that_no_key_opens_are_503_and_stay_as_they_are(
    colleague: Api, anna: Account, settings: LazySettings
) -> None:
    keys, path = settings.FIELD_ENCRYPTION_KEYS, f"/api/v1/messenger/accounts/{anna.pk}/chats"
    settings.FIELD_ENCRYPTION_KEYS = ["another key of at least thirty-two characters"]
    error = assert_error(colleague.get(path), 503, "secrets_unreadable")
    assert "FIELD_ENCRYPTION_KEYS" in error["detail"]
    settings.FIELD_ENCRYPTION_KEYS = keys
    assert colleague.get(path).status_code == 200


def test_every_code_of_a_failure_has_a_status_and_words() -> None:
    assert {code_of(kind()) for kind in every_kind(AccountUnusable, avito.AvitoError)} | {"error"} == set(
        ACCOUNT_ERRORS
    )


def every_kind(*kinds: type[Exception]) -> Iterator[type[Exception]]:
    for kind in kinds:
        yield from every_kind(*kind.__subclasses__())
        if kind is not AccountUnusable:  # never raised itself
            yield kind


# Without a database


@pytest.fixture
def no_database(product: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """New connections find nobody at home; this thread's own one stays."""
    connections["default"].ensure_connection()
    alive = connections.settings["default"]
    pools: dict[str, Any] = {}
    monkeypatch.setattr(DatabaseWrapper, "_connection_pools", pools)
    monkeypatch.setitem(alive, "HOST", "127.0.0.1")
    monkeypatch.setitem(alive, "PORT", "9")
    monkeypatch.setitem(alive["OPTIONS"], "pool", {**alive["OPTIONS"]["pool"], "timeout": 0.5})
    if intake._connection is not None:
        with connections["default"].cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'intake'")
    yield
    for pool in pools.values():
        pool.close(timeout=1)


@pytest.mark.usefixtures("no_database")
def test_without_a_database_the_api_asks_for_patience(owner: Api, nobody: Api) -> None:
    for answer in (
        owner.get("/api/v1/accounts"),
        owner.post("/api/v1/accounts", {"name": "New"}),
        nobody.post("/api/v1/auth/token", {"username": "x", "password": "y"}),
        nobody.get("/api/v1/auth/avito/callback", state="x", code="y"),
    ):
        assert_error(answer, 503, "database_unavailable")
        assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.usefixtures("no_database")
def test_without_a_database_no_webhook_is_acknowledged(nobody: Api) -> None:
    answer = nobody.post("/api/v1/webhooks/avito", {"payload": 1})
    assert_error(answer, 503, "database_unavailable")
    assert int(answer.headers["Retry-After"]) > 0


@pytest.mark.usefixtures("no_database")
def test_without_a_database_the_process_is_alive_and_not_ready(nobody: Api) -> None:
    assert nobody.get("/health").json() == {"status": "ok"}
    ready = nobody.get("/health/ready")
    assert ready.status_code == 503
    assert ready.json() == {
        "database": "failed",
        "redis": "ok",
        "worker": "failed",
        "beat": "failed",
        "migrations": "failed",
    }
