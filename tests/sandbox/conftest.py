"""One sandbox for the run, spoken to over a socket, and back to its seeds before each test."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests

from sandbox.server import running
from tests.sandbox.driver import ALL_SCOPES, ANNA, Sandbox


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
    """A webhook's receiving end; `statuses` are answered first, then 200. It may take a while over each."""

    def __init__(self) -> None:
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.statuses: list[int] = []
        self.pause_seconds = 0.0
        self.begun = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.begun.set()
                time.sleep(receiver.pause_seconds)
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
