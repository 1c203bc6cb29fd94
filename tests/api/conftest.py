"""What the tests of the API's common ground share: the one shape of errors, and a chat to write into."""

import re
from typing import Any

import pytest
import requests

from avito_accounts.models import Account
from chats.models import Chat
from tests.factories import make_chat
from tests.sandbox.driver import Sandbox

KINDS = {"validation_error", "client_error", "server_error"}
CODE = re.compile(r"[a-z][a-z0-9_]*")
ATTR = re.compile(r"[a-z][a-zA-Z0-9.]*|non_field_errors")


def assert_error(answer: requests.Response, status: int, code: str | None = None, attr: str | None = None) -> Any:
    """The answer is an error in the one shape; returns its first error."""
    assert answer.status_code == status, answer.text[:500]
    assert answer.headers["Content-Type"].partition(";")[0] == "application/json"
    assert answer.headers["X-Request-ID"]
    content = answer.json()
    assert set(content) == {"type", "errors"}
    assert content["type"] in KINDS
    assert (content["type"] == "server_error") == (status >= 500)
    for error in content["errors"]:
        assert set(error) == {"code", "detail", "attr"}
        assert CODE.fullmatch(error["code"])
        assert isinstance(error["detail"], str)
        assert error["detail"]
        assert error["attr"] is None or ATTR.fullmatch(error["attr"])
    first = content["errors"][0]
    if code is not None:
        assert first["code"] == code, content
    if attr is not None:
        assert first["attr"] == attr, content
    return first


@pytest.fixture
def chat(anna: Account) -> Chat:
    return make_chat(anna, avito_id="u2i-somebody~1")


@pytest.fixture
def live_chat(avito_sandbox: Sandbox, anna: Account) -> str:
    """The path of a chat of Anna's that exists at Avito."""
    chat_id = next(row["id"] for row in avito_sandbox.control("GET", "/chats") if row["sellerId"] == anna.avito_user_id)
    return f"/api/v1/messenger/accounts/{anna.pk}/chats/{chat_id}"
