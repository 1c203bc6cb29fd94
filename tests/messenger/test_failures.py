"""Each failure of Avito's, for each call: its own status and code, and nothing half done."""

from collections.abc import Callable
from typing import Any

import pytest
import requests
from django.conf import LazySettings

from avito_accounts.models import Account, Authorization
from chats.models import Message
from tests.avito.loopback import ProxyServer
from tests.conftest import Api
from tests.factories import make_account, make_chat, make_proxy
from tests.messenger.conftest import PNG, at_avito, failure
from tests.sandbox.driver import ANNA, Sandbox

Call = Callable[[Api, str, str], requests.Response]


# What is asked of us, and the call of Avito's that shall fail under it.
CALLS: dict[str, tuple[Call, str]] = {
    "chats": (lambda api, account, chat: api.get(f"{account}/chats"), "/chats$"),
    "chat": (lambda api, account, chat: api.get(f"{account}/chats/{chat}"), "/chats/[^/]+$"),
    "messages": (lambda api, account, chat: api.get(f"{account}/chats/{chat}/messages"), "/messages/$"),
    "send text": (lambda api, account, chat: api.post(f"{account}/chats/{chat}/send", {"text": "Да"}), "/messages$"),
    "upload": (
        lambda api, account, chat: api.call("POST", f"{account}/chats/{chat}/send", files={"image": ("a", PNG)}),
        "/uploadImages$",
    ),
    "send image": (
        lambda api, account, chat: api.call("POST", f"{account}/chats/{chat}/send", files={"image": ("a", PNG)}),
        "/messages/image$",
    ),
    "read": (lambda api, account, chat: api.post(f"{account}/chats/{chat}/messages/m/read"), "/read$"),
    "delete": (lambda api, account, chat: api.delete(f"{account}/chats/{chat}/messages/m"), "/messages/m$"),
    "voices": (lambda api, account, chat: api.get(f"{account}/voice-files", ids="v"), "/getVoiceFiles$"),
    "webhook": (lambda api, account, chat: api.get(f"{account}/webhook"), "/subscriptions$"),
    "subscribe": (lambda api, account, chat: api.post(f"{account}/webhook"), "/v3/webhook$"),
    "unsubscribe": (lambda api, account, chat: api.delete(f"{account}/webhook"), "/subscriptions$"),
}
SENDING = {"send text", "send image"}
every_call = pytest.mark.parametrize("name", CALLS)


def upstream(status: int) -> dict[str, Any]:
    return {"kind": "status", "status": status, "body": '{"error": {"code": 1, "message": "Своими словами"}}'}


FAILURES: list[tuple[str, dict[str, Any], int, str]] = [
    ("400", upstream(400), 422, "avito_rejected"),
    ("422", upstream(422), 422, "avito_rejected"),
    ("402", upstream(402), 402, "avito_subscription_required"),
    ("403", upstream(403), 403, "avito_forbidden"),
    ("404", upstream(404), 404, "avito_not_found"),
    ("429", {"kind": "429", "seconds": 7}, 503, "avito_rate_limited"),
    ("500", upstream(500), 502, "avito_unavailable"),
    ("503", upstream(503), 502, "avito_unavailable"),
    ("rubbish", {"kind": "rubbish"}, 502, "avito_unavailable"),
    ("truncated", {"kind": "truncated"}, 502, "avito_unavailable"),
    ("redirect", {"kind": "redirect"}, 502, "avito_unavailable"),
    ("reset", {"kind": "reset"}, 504, "avito_timeout"),
]


@pytest.fixture
def ask(colleague: Api, owner: Api, account_url: str, empty_chat: str) -> Callable[..., requests.Response]:
    """Make one of the calls, as somebody who may."""

    def ask(name: str, account: Account | None = None) -> requests.Response:
        api = owner if CALLS[name][1].endswith(("/subscriptions$", "/webhook$")) else colleague
        url = account_url if account is None else f"/api/v1/messenger/accounts/{account.pk}"
        return CALLS[name][0](api, url, empty_chat)

    return ask


@every_call
@pytest.mark.parametrize(("fault", "status", "code"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
def test_each_failure_has_its_own_answer(
    ask: Callable[..., requests.Response], anna: Account, avito_sandbox: Sandbox, empty_chat: str,
    name: str, fault: dict[str, Any], status: int, code: str,
) -> None:  # fmt: skip
    make_chat(anna, avito_id=empty_chat)
    details = {field: value for field, value in fault.items() if field != "kind"}
    avito_sandbox.fault(fault["kind"], CALLS[name][1], **details)
    answer = ask(name)
    assert failure(answer) == (status, code), answer.text
    assert (answer.headers.get("Retry-After") == "7") is (code == "avito_rate_limited")
    assert answer.json()["type"] == ("server_error" if status >= 500 else "client_error")
    detail = answer.json()["errors"][0]["detail"]
    assert detail
    if status in {402, 403, 404, 422}:
        assert "Своими словами" in detail
    left = Message.objects.values_list("delivery_status", flat=True)
    assert list(left) == ([] if name not in SENDING else ["unknown" if status in {502, 504} else "failed"])
    assert at_avito(avito_sandbox, empty_chat) == []


@pytest.mark.parametrize("name", [name for name in CALLS if name != "upload"])  # that may take a minute
def test_silence_is_a_timeout(
    ask: Callable[..., requests.Response], avito_sandbox: Sandbox, settings: LazySettings, name: str
) -> None:
    settings.AVITO_TIMEOUT_SECONDS = 1
    avito_sandbox.fault("silence", CALLS[name][1])
    assert failure(ask(name)) == (504, "avito_timeout")


@every_call
def test_a_proxy_that_fails_is_named_and_nobody_goes_around_it(
    ask: Callable[..., requests.Response], anna: Account, avito_sandbox: Sandbox, empty_chat: str, name: str
) -> None:
    make_chat(anna, avito_id=empty_chat)
    proxy = ProxyServer(refuse=True)
    Account.objects.filter(pk=anna.pk).update(proxy=make_proxy(type="socks5", port=proxy.port))
    calls = len(avito_sandbox.journal())
    assert failure(ask(name)) == (502, "proxy_failed")
    assert len(avito_sandbox.journal()) == calls
    assert proxy.seen
    proxy.close()


@every_call
def test_an_account_that_cannot_be_used_asks_avito_nothing(
    ask: Callable[..., requests.Response], anna: Account, avito_sandbox: Sandbox, settings: LazySettings, name: str
) -> None:
    calls = len(avito_sandbox.journal())
    assert failure(ask(name, make_account())) == (409, "account_not_authorized")
    settings.AVITO_OAUTH_CLIENT_ID = ""
    Authorization.objects.update(expires_at="2020-01-01T00:00Z", refresh_at="2020-01-01T00:00Z")
    assert failure(ask(name)) == (503, "missing_avito_secrets")
    Authorization.objects.update(dead_reason="invalid_grant")
    assert failure(ask(name)) == (409, "reconnect_required")
    assert len(avito_sandbox.journal()) == calls
    assert not Message.objects.exists()


@every_call
def test_a_token_that_avito_refuses_is_renewed_once_and_the_call_made(
    ask: Callable[..., requests.Response], avito_sandbox: Sandbox, empty_chat: str, name: str
) -> None:
    avito_sandbox.control("POST", "/tokens/expire", sellerId=ANNA)
    answer = ask(name)
    assert answer.status_code in {200, 201, 204} or (name, answer.status_code) == ("delete", 404), answer.text
    assert len([row for row in avito_sandbox.journal() if row["grantType"] == "refresh_token"]) == 1
    assert len(at_avito(avito_sandbox, empty_chat)) == (name.startswith("send") or name == "upload")


@every_call
def test_who_may_not_gets_nothing(
    product: str, stranger: Api, nobody: Api, colleague: Api, account_url: str, empty_chat: str, avito_sandbox: Sandbox,
    name: str,
) -> None:  # fmt: skip
    calls = len(avito_sandbox.journal())
    make, path = CALLS[name]
    refused = [(nobody, 401), (stranger, 403)]
    if path.endswith(("/subscriptions$", "/webhook$")):
        refused.append((colleague, 403))
    for api, status in refused:
        assert make(api, account_url, empty_chat).status_code == status
    assert len(avito_sandbox.journal()) == calls


@every_call
@pytest.mark.parametrize("account_id", ["987654321", "9" * 30, "0", "-1", "x"])
def test_an_account_that_is_not_there_is_404(owner: Api, name: str, account_id: str) -> None:
    answer = CALLS[name][0](owner, f"/api/v1/messenger/accounts/{account_id}", "u2i-1")
    assert answer.status_code == 404, answer.text
    assert answer.headers["Content-Type"].startswith("application/json")
