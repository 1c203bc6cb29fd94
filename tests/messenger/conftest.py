"""A chat of Anna's, and what every test of the live messenger asks."""

from collections.abc import Callable
from typing import Any

import pytest
import requests

from avito_accounts.models import Account
from tests.conftest import Api
from tests.sandbox.driver import ANNA, Sandbox
from tests.test_secrets import told as everything_told  # noqa: F401  a fixture

PNG = b"\x89PNG\r\n\x1a\n" + bytes(4) + b"IHDR" + (640).to_bytes(4, "big") + (480).to_bytes(4, "big") + bytes(8)
Send = Callable[..., requests.Response]


def failure(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["code"]


def at_avito(sandbox: Sandbox, chat_id: str) -> list[dict[str, Any]]:
    """What the seller has written, oldest first."""
    rows = sandbox.control("GET", f"/chats/{chat_id}/messages")
    return [row for row in reversed(rows) if row["author_id"] == ANNA]


@pytest.fixture
def empty_chat(avito_sandbox: Sandbox, anna: Account) -> str:
    """A chat in which nobody has written yet."""
    made: str = avito_sandbox.control("POST", "/chats", sellerId=ANNA, buyerName="Пётр")["chatId"]
    return made


@pytest.fixture
def account_url(anna: Account) -> str:
    return f"/api/v1/messenger/accounts/{anna.pk}"


@pytest.fixture
def send(colleague: Api, account_url: str, empty_chat: str) -> Send:
    """Send a text, or a picture, with a key or without."""

    def send(
        text: str | None = None, *, image: bytes | None = None, key: str | None = None, api: Api = colleague
    ) -> requests.Response:
        headers = {} if key is None else {"Idempotency-Key": key}
        path = f"{account_url}/chats/{empty_chat}/send"
        if image is None:
            return api.post(path, {"text": text}, headers=headers)
        return api.call("POST", path, files={"image": ("кот.png", image, "image/png")}, headers=headers)

    return send
