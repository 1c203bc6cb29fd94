"""One sandbox for the run, spoken to over a socket, and back to its seeds before each test."""

import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from sandbox.server import running

ANNA = 94235311
OLEG = 4294967311
ALL_SCOPES = ("messenger:read", "messenger:write", "user:read", "user_balance:read")
KEYS = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}


def wait_for(condition: Callable[[], Any], seconds: float = 5) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("waited in vain")


class Sandbox:
    """Plain HTTP to the sandbox, with the few calls every test needs."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.session = requests.Session()
        self.session.trust_env = False

    def call(self, method: str, path: str, **details: Any) -> requests.Response:
        return self.session.request(method, self.base + path, timeout=details.pop("timeout", 5), **details)

    def control(self, method: str, path: str, /, **body: Any) -> Any:
        answer = self.call(method, f"/_sandbox{path}", json=body or None)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def token_call(self, **fields: str) -> requests.Response:
        return self.call("POST", "/token", data={**KEYS, **fields})

    def tokens(self, seller_id: int = ANNA, scopes: tuple[str, ...] = ALL_SCOPES) -> dict[str, Any]:
        code = self.control("POST", "/authorize", sellerId=seller_id, scopes=list(scopes))["code"]
        answer: dict[str, Any] = self.token_call(grant_type="authorization_code", code=code).json()
        return answer

    def fault(self, kind: str, path_regex: str = "self$", /, **details: Any) -> dict[str, Any]:
        fault: dict[str, Any] = self.control("POST", "/faults", kind=kind, pathRegex=path_regex, **details)
        return fault

    def journal(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.control("GET", "/journal")
        return rows


class Client:
    """A seller's view: calls that carry a token."""

    def __init__(self, sandbox: Sandbox, seller_id: int = ANNA, scopes: tuple[str, ...] = ALL_SCOPES) -> None:
        self.sandbox, self.id = sandbox, seller_id
        self.tokens = sandbox.tokens(seller_id, scopes)
        self.headers = {"Authorization": f"Bearer {self.tokens['access_token']}"}

    def call(self, method: str, path: str, **details: Any) -> requests.Response:
        return self.sandbox.call(method, path.replace("{id}", str(self.id)), headers=self.headers, **details)

    def chats(self, **query: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.call("GET", "/messenger/v2/accounts/{id}/chats", params=query).json()["chats"]
        return rows

    def messages(self, chat_id: str, **query: Any) -> list[dict[str, Any]]:
        answer = self.call("GET", f"/messenger/v3/accounts/{{id}}/chats/{chat_id}/messages/", params=query)
        rows: list[dict[str, Any]] = answer.json()["messages"]
        return rows

    def send(self, chat_id: str, text: str, **details: Any) -> requests.Response:
        body = {"type": "text", "message": {"text": text}}
        return self.call("POST", f"/messenger/v1/accounts/{{id}}/chats/{chat_id}/messages", json=body, **details)


class Receiver:
    """A webhook's receiving end; `statuses` are answered first, then 200."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.requests.append(({k.lower(): v for k, v in self.headers.items()}, body))
                self.send_response(receiver.statuses.pop(0) if receiver.statuses else 200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/webhooks/avito"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture(scope="session")
def base() -> Iterator[str]:
    with running() as address:
        yield address


@pytest.fixture
def sandbox(base: str) -> Sandbox:
    sandbox = Sandbox(base)
    sandbox.control("POST", "/reset", webhookRetrySeconds=[0.05, 0.05])
    return sandbox


@pytest.fixture
def anna(sandbox: Sandbox) -> Client:
    return Client(sandbox)


@pytest.fixture
def chat_id(anna: Client) -> str:
    chat_id: str = anna.chats()[0]["id"]
    return chat_id


@pytest.fixture
def receiver(anna: Client) -> Iterator[Receiver]:
    """A receiving end that Anna has subscribed."""
    receiver = Receiver()
    assert anna.call("POST", "/messenger/v3/webhook", json={"url": receiver.url}).json() == {"ok": True}
    yield receiver
    receiver.server.shutdown()
    receiver.server.server_close()
