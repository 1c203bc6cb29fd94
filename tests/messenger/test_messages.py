"""Taking messages back, and hearing voices."""

import time
from typing import Any

import pytest

from avito_accounts.models import Account
from chats import tasks
from chats.models import Chat, Message
from tests.conftest import Api
from tests.factories import make_chat, make_message
from tests.messenger.conftest import Send, at_avito, failure
from tests.messenger.test_live import as_written
from tests.sandbox.driver import OLEG, Sandbox


def test_a_deleted_message_is_deleted_at_avito_and_here(
    colleague: Api, send: Send, account_url: str, empty_chat: str, avito_sandbox: Sandbox
) -> None:
    sent = send("опечатка").json()
    for _twice in range(2):
        answer = colleague.delete(f"{account_url}/chats/{empty_chat}/messages/{sent['id']}")
        assert (answer.status_code, answer.content) == (204, b"")
    assert [row["type"] for row in at_avito(avito_sandbox, empty_chat)] == ["deleted"]
    stored = Message.objects.get()
    assert (stored.type, stored.text) == ("deleted", "опечатка")
    shown = colleague.get(f"/api/v1/avito/chats/{empty_chat}").json()
    assert shown["lastMessage"]["type"] == "deleted"
    assert "опечатка" not in shown["lastMessage"]["text"]


def test_nothing_else_can_be_deleted(
    colleague: Api, send: Send, account_url: str, avito_sandbox: Sandbox, empty_chat: str
) -> None:
    message_id = send("Важное").json()["id"]
    base = f"{account_url}/chats"
    for path in (base, f"{base}/{empty_chat}", f"{base}/{empty_chat}/messages", f"{base}/{empty_chat}/send",
                 f"{base}/{empty_chat}/messages/{message_id}/read", f"{account_url}/voice-files"):  # fmt: skip
        assert failure(colleague.delete(path)) == (405, "method_not_allowed"), path
    assert [row["type"] for row in at_avito(avito_sandbox, empty_chat)] == ["text"]


def test_a_message_that_is_not_stored_here_can_be_deleted(
    colleague: Api, account_url: str, empty_chat: str, avito_sandbox: Sandbox
) -> None:
    sent = avito_sandbox.control("POST", f"/chats/{empty_chat}/seller-message", text="из приложения")
    assert colleague.delete(f"{account_url}/chats/{empty_chat}/messages/{sent['id']}").status_code == 204
    assert not Chat.objects.exists()


def test_after_an_hour_avito_refuses_and_nothing_changes_here(
    anna: Account, colleague: Api, account_url: str, empty_chat: str, avito_sandbox: Sandbox
) -> None:
    old = int(time.time()) - 4000
    sent = avito_sandbox.control("POST", f"/chats/{empty_chat}/seller-message", text="давно", createdAt=old)
    make_message(make_chat(anna, avito_id=empty_chat), avito_id=sent["id"], direction="outbound", text="давно")
    answer = colleague.delete(f"{account_url}/chats/{empty_chat}/messages/{sent['id']}")
    assert failure(answer) == (422, "avito_rejected")
    assert "hour" in answer.json()["errors"][0]["detail"]
    assert Message.objects.get().type == "text"


def test_a_deletion_without_an_answer_is_looked_for_in_the_chat(
    colleague: Api, send: Send, account_url: str, empty_chat: str, avito_sandbox: Sandbox
) -> None:
    sent = send("опечатка").json()
    avito_sandbox.fault("reset", f"/messages/{sent['id']}$", apply="before", times=1)
    answer = colleague.delete(f"{account_url}/chats/{empty_chat}/messages/{sent['id']}")
    assert failure(answer) == (504, "avito_timeout")
    tasks.sync_chat(Chat.objects.get().pk)
    assert Message.objects.get().type == "deleted"


def test_a_buyers_message_cannot_be_deleted(
    colleague: Api, account_url: str, empty_chat: str, avito_sandbox: Sandbox
) -> None:
    sent = avito_sandbox.control("POST", f"/chats/{empty_chat}/buyer-message", text="Ау")
    answer = colleague.delete(f"{account_url}/chats/{empty_chat}/messages/{sent['id']}")
    assert failure(answer) == (403, "avito_forbidden")


@pytest.mark.parametrize("message_id", ["image", "..", ".", "%00", "a%2Fb", "x" * 300, "%ED%A0%80", "unknown"])
def test_no_message_id_leads_to_another_call(
    colleague: Api, account_url: str, empty_chat: str, avito_sandbox: Sandbox, message_id: str
) -> None:
    answer = as_written(colleague, "DELETE", f"{account_url}/chats/{empty_chat}/messages/{message_id}")
    assert answer.status_code in {404, 405}, answer.text
    assert not [row for row in avito_sandbox.journal() if row["path"].endswith("/image")]


@pytest.fixture
def voice_id(avito_sandbox: Sandbox, empty_chat: str) -> str:
    avito_sandbox.control(
        "POST", f"/chats/{empty_chat}/buyer-message", type="voice", content={"voice": {"voice_id": "v-1"}}
    )
    return "v-1"


def test_voices_are_found_by_their_ids(colleague: Api, account_url: str, avito_sandbox: Sandbox, voice_id: str) -> None:
    foreign = avito_sandbox.control("POST", "/chats", sellerId=OLEG)["chatId"]
    avito_sandbox.control(
        "POST", f"/chats/{foreign}/buyer-message", type="voice", content={"voice": {"voice_id": "theirs"}}
    )
    for query in ("v-1", "v-1,v-1,unknown", "theirs,v-1", ["v-1", "unknown"]):
        answer = colleague.get(f"{account_url}/voice-files", ids=query)
        assert answer.status_code == 200, answer.text
        assert list(answer.json()) == ["voicesUrls"]
        assert set(answer.json()["voicesUrls"]) == {"v-1"}
        assert answer.json()["voicesUrls"]["v-1"].startswith("http")


def test_a_hundred_voices_can_be_asked_for_at_once(colleague: Api, account_url: str, voice_id: str) -> None:
    ids = ",".join(["v-1", *(f"u-{number}" for number in range(99))])
    assert set(colleague.get(f"{account_url}/voice-files", ids=ids).json()["voicesUrls"]) == {"v-1"}


@pytest.mark.parametrize(
    "ids", [None, "", ",", ",".join(f"v{number}" for number in range(101)), "x" * 256, "a\0b", "  "]
)
def test_bad_voice_ids_are_named_and_avito_is_not_asked(
    colleague: Api, account_url: str, avito_sandbox: Sandbox, ids: str | None
) -> None:
    query: dict[str, Any] = {} if ids is None else {"ids": ids}
    answer = colleague.get(f"{account_url}/voice-files", **query)
    assert answer.status_code == 400, answer.text
    assert answer.json()["errors"][0]["attr"].partition(".")[0] == "ids"
    assert not [row for row in avito_sandbox.journal() if "Voice" in row["path"]]


def test_a_chat_of_nobody_is_not_made_by_marking_it_as_read(colleague: Api, account_url: str) -> None:
    assert failure(colleague.post(f"{account_url}/chats/u2i-nowhere/messages/x/read")) == (404, "avito_not_found")
    assert not Chat.objects.exists()
