import time

import pytest

from tests.sandbox.conftest import Client
from tests.sandbox.driver import ANNA, OLEG, Sandbox

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR" + (40).to_bytes(4, "big") + (30).to_bytes(4, "big") + b"\x08\x02\x00\x00\x00"
)
CHATS = "/messenger/v2/accounts/{id}/chats"
WEBHOOK = "/messenger/v3/webhook"


def test_self_and_balance_are_those_of_the_token(anna: Client) -> None:
    assert anna.call("GET", "/core/v1/accounts/self").json()["id"] == ANNA
    assert set(anna.call("GET", "/core/v1/accounts/{id}/balance/").json()) == {"real", "bonus"}


@pytest.mark.parametrize(
    ("method", "path", "details", "status"),
    [
        ("GET", "/messenger/v1/accounts/{id}/chats", {}, 404),
        ("GET", "/messenger/v3/accounts/{id}/chats/x/messages", {}, 404),
        ("GET", "/core/v1/accounts/{id}/balance", {}, 404),
        ("GET", CHATS + "/", {}, 404),
        ("GET", CHATS + "/unknown", {}, 404),
        ("GET", "/core/v1/accounts/1/balance/", {}, 404),
        ("POST", CHATS, {}, 405),
        ("HEAD", CHATS, {}, 405),
        ("GET", "/messenger/v1/subscriptions", {}, 405),
        ("DELETE", "/messenger/v1/accounts/{id}/chats/x/messages/y", {}, 405),
        ("GET", f"/messenger/v2/accounts/{OLEG}/chats", {}, 403),
        ("GET", CHATS, {"params": {"page": 1}}, 400),
        ("GET", CHATS, {"params": {"limit": 101}}, 400),
        ("GET", CHATS, {"params": {"limit": 0}}, 400),
        ("GET", CHATS, {"params": {"offset": 1001}}, 400),
        ("GET", CHATS, {"params": {"unread_only": "1"}}, 400),
        ("GET", CHATS, {"params": {"chat_types": "u2x"}}, 400),
        ("GET", CHATS, {"params": {"item_ids": "flat"}}, 400),
        ("GET", "/messenger/v1/accounts/{id}/getVoiceFiles", {}, 400),
        ("POST", WEBHOOK, {"json": {"url": "http://127.0.0.1/", "secret": "x"}}, 400),
        ("POST", WEBHOOK, {"json": {"url": 5}}, 400),
        ("POST", WEBHOOK, {"json": {"url": "127.0.0.1"}}, 400),
        ("POST", WEBHOOK, {"json": ["x"]}, 400),
        ("POST", WEBHOOK, {"data": {"url": "http://127.0.0.1/"}}, 400),
        ("POST", WEBHOOK, {"json": {}}, 400),
        ("POST", "/messenger/v1/accounts/{id}/chats/x/read", {"json": {"a": 1}}, 400),
        ("POST", "/messenger/v1/accounts/{id}/uploadImages", {"json": {}}, 400),
        ("POST", "/messenger/v2/accounts/{id}/blacklist", {"json": {"users": [{"user_id": 1}]}}, 400),
    ],
)
def test_unknown_calls_are_refused(
    anna: Client, method: str, path: str, details: dict[str, object], status: int
) -> None:
    answer = anna.call(method, path, **details)
    assert answer.status_code == status
    if method != "HEAD":
        assert answer.json()["error"]["code"] == status
        assert answer.json()["error"]["message"]


def test_call_without_a_known_token_is_unauthorized(sandbox: Sandbox) -> None:
    for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic nonsense"}):
        assert sandbox.call("GET", "/core/v1/accounts/self", headers=headers).status_code == 401


def test_missing_scope_is_forbidden(sandbox: Sandbox) -> None:
    reader = Client(sandbox, scopes=("messenger:read",))
    chat_id = reader.chats()[0]["id"]
    assert reader.send(chat_id, "привет").status_code == 403
    assert reader.call("GET", "/core/v1/accounts/self").status_code == 403


def test_sent_text_is_the_newest_message(anna: Client, chat_id: str) -> None:
    sent = anna.send(chat_id, "Ждём вас").json()
    assert set(sent) == {"id", "created", "direction", "type", "content"}
    newest = anna.messages(chat_id)[0]
    assert (newest["id"], newest["direction"], newest["author_id"]) == (sent["id"], "out", ANNA)
    assert newest["content"] == {"text": "Ждём вас"}
    assert anna.chats()[0]["last_message"]["id"] == sent["id"]


@pytest.mark.parametrize("text", ["", "  ", "я" * 1001])
def test_text_of_a_wrong_length_is_refused(anna: Client, chat_id: str, text: str) -> None:
    assert anna.send(chat_id, text).status_code == 400
    assert len(anna.messages(chat_id)) == 2


@pytest.mark.parametrize(
    "body",
    [
        {"message": {"text": "a"}},
        {"type": "voice", "message": {"text": "a"}},
        {"type": "text", "message": {"text": 1}},
        {"type": "text", "message": {"text": "a", "quote": "b"}},
        {"type": "text", "message": {"text": "a"}, "url": "x"},
    ],
)
def test_text_in_a_wrong_body_is_refused(anna: Client, chat_id: str, body: object) -> None:
    path = f"/messenger/v1/accounts/{{id}}/chats/{chat_id}/messages"
    assert anna.call("POST", path, json=body).status_code == 400


def test_stranger_sees_nothing_of_a_chat(sandbox: Sandbox, chat_id: str) -> None:
    oleg = Client(sandbox, OLEG)
    assert oleg.call("GET", f"{CHATS}/{chat_id}").status_code == 404
    assert oleg.send(chat_id, "привет").status_code == 404


def test_buyers_message_makes_the_chat_unread_until_it_is_read(sandbox: Sandbox, anna: Client, chat_id: str) -> None:
    assert anna.chats(unread_only="true") == []
    sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text="Ещё вопрос")
    newest = anna.messages(chat_id)[0]
    assert (newest["direction"], newest["is_read"], newest["read"]) == ("in", False, None)
    assert [chat["id"] for chat in anna.chats(unread_only="true")] == [chat_id]
    assert anna.call("POST", f"/messenger/v1/accounts/{{id}}/chats/{chat_id}/read").json() == {"ok": True}
    assert anna.messages(chat_id)[0]["is_read"] is True
    assert anna.chats(unread_only="true") == []


def test_chats_are_filtered_and_paged(sandbox: Sandbox, anna: Client, chat_id: str) -> None:
    other = sandbox.control("POST", "/chats", sellerId=ANNA, buyerName="Пётр", itemTitle="Дача")
    direct = sandbox.control("POST", "/chats", sellerId=ANNA, buyerName="Павел", type="u2u")
    assert {chat["id"] for chat in anna.chats()} == {chat_id, other["chatId"]}
    assert [chat["id"] for chat in anna.chats(item_ids=other["itemId"])] == [other["chatId"]]
    (found,) = anna.chats(chat_types="u2u")
    assert found["id"] == direct["chatId"]
    assert "context" not in found
    page = anna.call("GET", CHATS, params={"limit": 1}).json()
    assert (len(page["chats"]), page["meta"]["has_more"]) == (1, True)
    rest = anna.call("GET", CHATS, params={"limit": 1, "offset": 1}).json()
    assert (len(rest["chats"]), rest["meta"]["has_more"]) == (1, False)


def test_messages_come_newest_first_in_pages_or_bare(sandbox: Sandbox, anna: Client, chat_id: str) -> None:
    path = f"/messenger/v3/accounts/{{id}}/chats/{chat_id}/messages/"
    times = [message["created"] for message in anna.messages(chat_id)]
    assert times == sorted(times, reverse=True)
    assert anna.call("GET", path, params={"limit": 1}).json()["meta"] == {"has_more": True}
    sandbox.control("PATCH", "/settings", messagesAsArray=True)
    assert len(anna.call("GET", path).json()) == 2


def test_own_young_message_can_be_deleted(sandbox: Sandbox, anna: Client, chat_id: str) -> None:
    path = f"/messenger/v1/accounts/{{id}}/chats/{chat_id}/messages/"
    message_id = anna.send(chat_id, "ошибка").json()["id"]
    assert anna.call("POST", path + message_id).json() == {}
    gone = anna.messages(chat_id)[0]
    assert (gone["id"], gone["type"], gone["content"]) == (message_id, "deleted", {})
    old = sandbox.control("POST", f"/chats/{chat_id}/seller-message", text="давно", createdAt=time.time() - 4000)
    assert anna.call("POST", path + old["id"]).status_code == 400
    buyers = sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text="не моё")
    assert anna.call("POST", path + buyers["id"]).status_code == 403


def test_image_is_uploaded_and_sent(sandbox: Sandbox, anna: Client, chat_id: str) -> None:
    upload = "/messenger/v1/accounts/{id}/uploadImages"
    ((image_id, sizes),) = anna.call("POST", upload, files={"uploadfile[]": ("a.png", PNG)}).json().items()
    sent = anna.call(
        "POST", f"/messenger/v1/accounts/{{id}}/chats/{chat_id}/messages/image", json={"image_id": image_id}
    ).json()
    assert (sent["type"], sent["author_id"], sent["content"]["image"]["sizes"]) == ("image", ANNA, sizes)
    assert sandbox.session.get(sizes["1280x960"]).content == PNG


@pytest.mark.parametrize(
    "files",
    [
        [("uploadfile[]", ("a.txt", b"text"))],
        [("uploadfile", ("a.png", PNG))],
        [("uploadfile[]", ("a.png", PNG)), ("uploadfile[]", ("b.png", PNG))],
        [("uploadfile[]", ("a.png", PNG[:16] + b"\x00\x01\x00\x00" * 2))],
    ],
)
def test_wrong_upload_is_refused(anna: Client, files: object) -> None:
    assert anna.call("POST", "/messenger/v1/accounts/{id}/uploadImages", files=files).status_code == 400


def test_voice_links_are_given_for_own_chats(sandbox: Sandbox, anna: Client, chat_id: str) -> None:
    voice = {"voice": {"voice_id": "v-1"}}
    sandbox.control("POST", f"/chats/{chat_id}/buyer-message", type="voice", content=voice)
    path = "/messenger/v1/accounts/{id}/getVoiceFiles"
    for asked in ({"voice_ids": "v-1,v-2"}, {"voice_ids": ["v-1", "v-2"]}):
        urls = anna.call("GET", path, params=asked).json()["voices_urls"]
        assert list(urls) == ["v-1"]
    assert sandbox.session.get(urls["v-1"]).headers["content-type"] == "audio/mp4"


def test_blacklisted_buyer_can_write_no_more(sandbox: Sandbox, anna: Client, chat_id: str) -> None:
    buyer_id = next(user["id"] for user in anna.chats()[0]["users"] if user["id"] != ANNA)
    body = {"users": [{"user_id": buyer_id, "context": {"item_id": 1768287444, "reason_id": 1}}]}
    answer = anna.call("POST", "/messenger/v2/accounts/{id}/blacklist", json=body)
    assert (answer.status_code, answer.content) == (200, b"")
    blocked = sandbox.call("POST", f"/_sandbox/chats/{chat_id}/buyer-message", json={"text": "а?"})
    assert blocked.status_code == 409


def test_webhook_subscriptions_belong_to_the_account(sandbox: Sandbox, anna: Client) -> None:
    body = {"url": "http://127.0.0.1:9/hook"}
    for _ in range(2):
        assert anna.call("POST", WEBHOOK, json=body).json() == {"ok": True}
    listed = anna.call("POST", "/messenger/v1/subscriptions").json()
    assert listed == {"subscriptions": [{"url": body["url"], "version": "3"}]}
    assert Client(sandbox, OLEG).call("POST", "/messenger/v1/subscriptions").json() == {"subscriptions": []}
    assert anna.call("POST", "/messenger/v1/webhook/unsubscribe", json=body).json() == {"ok": True}
    assert anna.call("POST", "/messenger/v1/subscriptions").json() == {"subscriptions": []}


def test_unpaid_messenger_answers_402_and_a_placeholder(sandbox: Sandbox, anna: Client, chat_id: str) -> None:
    sandbox.control("PATCH", f"/sellers/{ANNA}", messengerPaid=False)
    refused = anna.send(chat_id, "привет")
    assert (refused.status_code, refused.json()["code"]) == (402, 402)
    assert anna.chats()[0]["last_message"]["content"]["text"].startswith("Перейдите на подписку")
