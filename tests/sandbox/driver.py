"""Driving the sandbox from a test: plain HTTP, and the few calls that every test needs."""

import time
from collections.abc import Callable
from typing import Any

import requests

ANNA = 94235311
OLEG = 4294967311
ALL_SCOPES = ("messenger:read", "messenger:write", "user:read", "user_balance:read", "items:info", "stats:read")
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
