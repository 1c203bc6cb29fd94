"""`/messenger/accounts/{id}`: Avito's messenger, live, through the account's token and proxy."""

import threading
from datetime import timedelta
from typing import Any

import pytest
import requests
from django.conf import LazySettings
from django.utils import timezone

from avito_accounts import news
from avito_accounts.models import Account, Authorization
from chats import tasks
from chats.models import Chat, Message
from notifications.models import Notification, Problem
from tests.avito.loopback import ProxyServer
from tests.conftest import Api
from tests.factories import make_account, make_chat, make_proxy
from tests.sandbox.driver import ANNA, OLEG, Sandbox


def base(account: Account) -> str:
    return f"/api/v1/messenger/accounts/{account.pk}/chats"


def failure(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["errors"][0]["code"]


@pytest.fixture
def chat_id(avito_sandbox: Sandbox) -> str:
    """The chat that Anna has with a buyer: a question, and an answer."""
    return chat_of(avito_sandbox, ANNA)


def chat_of(avito_sandbox: Sandbox, seller_id: int) -> str:
    found: str = avito_sandbox.call("GET", f"/_sandbox/chats?sellerId={seller_id}").json()[0]["chatId"]
    return found


def at_avito(avito_sandbox: Sandbox, chat_id: str) -> list[dict[str, Any]]:
    messages: list[dict[str, Any]] = avito_sandbox.control("GET", f"/chats/{chat_id}/messages")
    return messages


# Reading


def test_chats_are_shown_as_avito_has_them(colleague: Api, anna: Account, chat_id: str) -> None:
    answer = colleague.get(base(anna))
    assert answer.status_code == 200, answer.text
    assert set(answer.json()) == {"chats", "meta"}
    assert answer.json()["meta"] == {"hasMore": False}
    (chat,) = answer.json()["chats"]
    assert set(chat) == {"id", "createdAt", "updatedAt", "users", "item", "lastMessage"}
    assert chat["id"] == chat_id
    assert chat["createdAt"].endswith("Z")
    assert {user["name"] for user in chat["users"]} == {"Иван Петров", "Анна Смирнова"}
    assert all(set(user) == {"id", "name", "avatarUrl", "profileUrl"} for user in chat["users"])
    assert set(chat["item"]) == {"id", "title", "priceString", "url", "imageUrl"}
    assert chat["item"]["id"] == "1768287444"
    assert (chat["lastMessage"]["text"], chat["lastMessage"]["direction"]) == (
        "Добрый день! Да, заезд после 14:00.",
        "out",
    )
    assert colleague.get(f"{base(anna)}/{chat_id}").json() == chat


def test_after_a_send_without_an_answer_the_chat_is_read_before_the_next_one(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str
) -> None:
    path = f"{base(anna)}/{chat_id}/send"
    avito_sandbox.fault("reset", "/messages$", method="POST", times=1, apply="before")
    assert failure(colleague.post(path, {"text": "Да"})) == (504, "avito_timeout")
    avito_sandbox.fault("status", "/messages/$", status=500, times=1)
    assert failure(colleague.post(path, {"text": "Заезжайте"})) == (502, "avito_unavailable")
    assert len(at_avito(avito_sandbox, chat_id)) == 3  # nothing goes out while the chat cannot be read
    assert colleague.post(path, {"text": "Заезжайте"}).status_code == 201
    assert not Message.objects.exclude(delivery_status__in=("sent", "received")).exists()
    assert [row["content"]["text"] for row in at_avito(avito_sandbox, chat_id)[:2]] == ["Заезжайте", "Да"]


def test_a_token_that_is_refused_twice_marks_the_account(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str
) -> None:
    avito_sandbox.fault("status", "/messages$", status=401, method="POST")
    assert failure(colleague.post(f"{base(anna)}/{chat_id}/send", {"text": "Да"})) == (409, "reconnect_required")
    anna.refresh_from_db()
    assert anna.connection_status == "needs_reconnect"


@pytest.mark.parametrize("way", ["list", "one"])
def test_chats_that_are_seen_are_stored_and_those_with_news_are_read_whole(
    colleague: Api, anna: Account, chat_id: str, avito_sandbox: Sandbox, way: str
) -> None:
    path = base(anna) if way == "list" else f"{base(anna)}/{chat_id}"
    assert colleague.get(path).status_code == 200
    [stored] = colleague.get("/api/v1/avito/chats").json()["results"]
    assert (stored["chatId"], stored["accountId"], stored["name"]) == (chat_id, anna.pk, "Иван Петров")
    assert (stored["itemId"], stored["chatType"], stored["messagesCount"]) == ("1768287444", "u2i", 1)
    assert stored["lastMessage"]["text"] == "Добрый день! Да, заезд после 14:00."
    tasks.sync_chat(stored["id"])
    assert Chat.objects.get().messages_count == 2
    assert colleague.get(path).status_code == 200  # of the second in which it was read more may have come
    tasks.sync_chat(stored["id"])
    calls = len(avito_sandbox.journal())
    assert colleague.get(path).status_code == 200
    tasks.sync_chat(stored["id"])
    assert len(avito_sandbox.journal()) == calls + 1  # nothing is new, so nothing is read again
    avito_sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text="А парковка есть?")
    Chat.objects.update(avito_updated_at=timezone.now() - timedelta(minutes=1))  # Avito tells time in seconds
    assert colleague.get(path).status_code == 200
    now = Chat.objects.get()
    assert (now.messages_count, now.unread_count, now.sync_due_at is None) == (3, 1, False)


def test_a_list_that_shows_avitos_advertisement_tells_of_the_missing_subscription(
    colleague: Api, anna: Account, chat_id: str, avito_sandbox: Sandbox
) -> None:
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", messengerPaid=False)
    avito_sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text="А парковка есть?")
    [shown] = colleague.get(base(anna)).json()["chats"]
    assert shown["lastMessage"]["type"] == "system"
    assert Message.objects.get().is_placeholder
    assert Notification.objects.get().kind == "messenger_unpaid"


def test_an_old_page_does_not_tell_whether_the_messenger_is_paid_for(
    colleague: Api, anna: Account, chat_id: str, avito_sandbox: Sandbox
) -> None:
    news.messenger_unpaid(anna)
    assert colleague.get(f"{base(anna)}/{chat_id}/messages", offset=1).status_code == 200
    assert Problem.objects.filter(solved_at=None).exists()
    assert colleague.get(f"{base(anna)}/{chat_id}/messages").status_code == 200
    assert not Problem.objects.filter(solved_at=None).exists()


def test_a_chat_about_nothing_has_no_item(colleague: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    made = avito_sandbox.control("POST", "/chats", sellerId=ANNA, type="u2u")
    chat = colleague.get(f"{base(anna)}/{made['chatId']}").json()
    assert (chat["item"], chat["lastMessage"]) == (None, None)


def test_chats_are_filtered_and_paged(colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str) -> None:
    other = avito_sandbox.control("POST", "/chats", sellerId=ANNA, itemTitle="Другая", buyerName="Ольга")
    item_id = other["itemId"]
    avito_sandbox.control("POST", f"/chats/{other['chatId']}/buyer-message", text="Ещё свободно?")

    def ids(**query: Any) -> list[str]:
        answer = colleague.get(base(anna), **query)
        assert answer.status_code == 200, answer.text
        return [chat["id"] for chat in answer.json()["chats"]]

    assert set(ids()) == {chat_id, other["chatId"]}
    assert ids(unreadOnly="true") == [other["chatId"]]
    assert ids(itemIds=item_id) == [other["chatId"]]
    assert (
        set(ids(itemIds=f"{item_id},1768287444"))
        == set(ids(itemIds=[item_id, 1768287444]))
        == {chat_id, other["chatId"]}
    )
    assert ids(chatTypes="u2u,a2u") == []
    assert len(ids(limit=1)) == len(ids(limit=1, offset=1)) == 1
    assert ids(limit=1) != ids(limit=1, offset=1)
    assert colleague.get(base(anna), limit=1).json()["meta"] == {"hasMore": True}


@pytest.mark.parametrize(
    ("name", "value"),
    [("limit", "0"), ("limit", "101"), ("limit", "x"), ("offset", "-1"), ("offset", "1001"), ("itemIds", "x"),
     ("itemIds", "9223372036854775808"), ("itemIds", "0"), ("chatTypes", "u2i,nonsense"), ("unreadOnly", "perhaps")],
)  # fmt: skip
def test_a_bad_query_is_named_and_avito_is_not_asked(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, name: str, value: str
) -> None:
    answer = colleague.get(base(anna), **{name: value})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["attr"].partition(".")[0] == name
    assert [row for row in avito_sandbox.journal() if "chats" in row["path"]] == []


@pytest.mark.parametrize("as_array", [False, True])
def test_messages_come_newest_first_in_both_shapes_of_avitos_answer_and_are_stored(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str, as_array: bool
) -> None:
    avito_sandbox.control("PATCH", "/settings", messagesAsArray=as_array)
    avito_sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text="Спасибо!")
    for _twice in range(2):
        answer = colleague.get(f"{base(anna)}/{chat_id}/messages")
        assert answer.status_code == 200, answer.text
        assert answer.json()["meta"] == {"hasMore": False}
        shown = answer.json()["messages"]
        assert shown[0]["text"] == "Спасибо!"
        assert [m["direction"] for m in shown] == ["in", "out", "in"]
        keys = {"id", "authorId", "direction", "type", "text", "content", "createdAt", "isRead", "readAt"}
        assert all(set(message) == keys for message in shown)
    assert shown[0]["content"] == {"text": "Спасибо!"}
    assert (shown[0]["isRead"], shown[0]["readAt"]) == (False, None)
    assert shown[2]["isRead"] is True
    stored = Chat.objects.get()
    assert (stored.account, stored.avito_id, stored.messages_count, stored.unread_count) == (anna, chat_id, 3, 1)
    assert {m.avito_id for m in stored.messages.all()} == {m["id"] for m in shown}


def test_messages_are_paged(colleague: Api, anna: Account, chat_id: str) -> None:
    first = colleague.get(f"{base(anna)}/{chat_id}/messages", limit=1).json()
    second = colleague.get(f"{base(anna)}/{chat_id}/messages", limit=1, offset=1).json()
    assert (len(first["messages"]), first["meta"]["hasMore"], second["meta"]["hasMore"]) == (1, True, False)
    assert first["messages"][0]["id"] != second["messages"][0]["id"]


@pytest.mark.parametrize("kind", ["image", "voice", "location", "link", "call", "deleted", "system", "item", "video"])
def test_a_message_of_any_kind_is_shown(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str, kind: str
) -> None:
    avito_sandbox.control("POST", f"/chats/{chat_id}/buyer-message", type=kind, content={})
    shown = colleague.get(f"{base(anna)}/{chat_id}/messages").json()["messages"][0]
    assert (shown["type"], shown["content"]) == (kind, {})


# Writing


def test_what_is_sent_arrives_and_is_stored(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str
) -> None:
    answer = colleague.post(f"{base(anna)}/{chat_id}/send", {"text": "Ждём вас <b>завтра</b> 🙂"})
    assert answer.status_code == 201, answer.text
    sent = answer.json()
    assert (sent["text"], sent["direction"], sent["type"]) == ("Ждём вас <b>завтра</b> 🙂", "out", "text")
    newest = at_avito(avito_sandbox, chat_id)[0]
    assert (newest["id"], newest["content"]["text"]) == (sent["id"], sent["text"])
    stored = Message.objects.get()
    assert (stored.avito_id, stored.delivery_status, stored.text) == (sent["id"], "sent", sent["text"])
    assert stored.written_by is not None
    assert stored.written_by.username == "colleague"
    assert stored.chat.avito_id == chat_id
    colleague.get(f"{base(anna)}/{chat_id}/messages")
    assert Message.objects.filter(text=sent["text"]).count() == 1


@pytest.mark.parametrize("text", [None, "", "  ", "x" * 1001, "a\0b", {}, []])
def test_a_text_that_cannot_be_sent_is_refused_here(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str, text: object
) -> None:
    answer = colleague.post(f"{base(anna)}/{chat_id}/send", {"text": text})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["attr"] == "text"
    assert len(at_avito(avito_sandbox, chat_id)) == 2
    assert not Message.objects.exists()


def test_the_longest_text_arrives_whole(colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str) -> None:
    assert colleague.post(f"{base(anna)}/{chat_id}/send", {"text": "ы" * 1000}).status_code == 201
    assert at_avito(avito_sandbox, chat_id)[0]["content"]["text"] == "ы" * 1000


def test_a_send_without_an_answer_is_unknown_until_the_chat_is_read_and_is_sent_once(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str, settings: LazySettings
) -> None:
    avito_sandbox.fault("reset", "messages$", method="POST", apply="before")
    answer = colleague.post(f"{base(anna)}/{chat_id}/send", {"text": "Дошло?"})
    assert failure(answer) == (504, "avito_timeout")
    message = Message.objects.get(text="Дошло?")
    assert message.delivery_status == "unknown"
    avito_sandbox.control("DELETE", "/faults")
    Message.objects.update(retry_at=message.created_at)
    tasks.look_again(message.pk)
    message.refresh_from_db()
    arrived = [m for m in at_avito(avito_sandbox, chat_id) if m["content"]["text"] == "Дошло?"]
    assert (message.delivery_status, message.avito_id) == ("sent", arrived[0]["id"])
    assert len(arrived) == 1


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
        ("reset", {}, 504, "avito_timeout"),
    ],
)
def test_each_failure_of_avitos_has_its_own_answer(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str,
    kind: str, details: dict[str, Any], status: int, code: str,
) -> None:  # fmt: skip
    avito_sandbox.fault(kind, "messages", **details)
    for answer in (
        colleague.post(f"{base(anna)}/{chat_id}/send", {"text": "Да"}),
        colleague.get(f"{base(anna)}/{chat_id}/messages"),
    ):
        assert failure(answer) == (status, code)
        assert (answer.headers.get("Retry-After") == "7") is (kind == "429")
        assert answer.json()["errors"][0]["detail"]
    sent = Message.objects.get()
    maybe_arrived = status in {502, 504}
    assert sent.delivery_status == ("unknown" if maybe_arrived else "failed")
    assert sent.error_code


def test_silence_is_a_timeout(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str, settings: LazySettings
) -> None:
    settings.AVITO_TIMEOUT_SECONDS = 1
    avito_sandbox.fault("silence", "chats$")
    assert failure(colleague.get(base(anna))) == (504, "avito_timeout")


def test_without_a_subscription_avitos_words_reach_the_reader(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str
) -> None:
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", messengerPaid=False)
    answers = [
        colleague.post(f"{base(anna)}/{chat_id}/send", {"text": "Да"}),
        colleague.get(f"{base(anna)}/{chat_id}/messages"),
    ]
    assert [failure(answer) for answer in answers] == [(402, "avito_subscription_required")] * 2
    assert all("подписку" in answer.json()["errors"][0]["detail"] for answer in answers)
    assert Message.objects.get().delivery_status == "failed"


def test_reading_marks_the_chat_here_and_at_avito(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str
) -> None:
    avito_sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text="Ау?")
    newest = colleague.get(f"{base(anna)}/{chat_id}/messages").json()["messages"][0]
    assert Chat.objects.get().unread_count == 1
    answer = colleague.post(f"{base(anna)}/{chat_id}/messages/{newest['id']}/read")
    assert (answer.status_code, answer.json()) == (200, {"ok": True})
    assert at_avito(avito_sandbox, chat_id)[0]["read"] is not None
    assert Chat.objects.get().unread_count == 0
    assert not Message.objects.filter(direction="inbound", read_at=None).exists()


# Tokens, proxies, strangers


def calls_since(avito_sandbox: Sandbox, count: int) -> list[tuple[str, int]]:
    return [(row["path"].rpartition("/")[2], row["status"]) for row in avito_sandbox.journal()[count:]]


def test_an_expired_token_is_renewed_once_and_the_call_repeated(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str
) -> None:
    make_chat(anna, avito_id=chat_id)
    avito_sandbox.control("POST", "/tokens/expire", sellerId=ANNA)
    count = len(avito_sandbox.journal())
    assert colleague.post(f"{base(anna)}/{chat_id}/send", {"text": "Да"}).status_code == 201
    assert calls_since(avito_sandbox, count) == [("messages", 401), ("token", 200), ("messages", 200)]
    assert len(at_avito(avito_sandbox, chat_id)) == 3


def test_a_token_past_its_time_that_avito_forbids_is_renewed(
    colleague: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    avito_sandbox.control("PATCH", "/settings", expiredStatus=403)
    avito_sandbox.control("POST", "/tokens/expire", sellerId=ANNA)
    Authorization.objects.update(expires_at=Authorization.objects.get().expires_at.replace(year=2020))
    count = len(avito_sandbox.journal())
    assert colleague.get(base(anna)).status_code == 200
    assert calls_since(avito_sandbox, count) == [("chats", 403), ("token", 200), ("chats", 200)]


def test_a_fresh_token_that_is_forbidden_is_not_renewed(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str
) -> None:
    avito_sandbox.fault("status", "chats", status=403)
    assert failure(colleague.get(base(anna))) == (403, "avito_forbidden")
    assert [row for row in avito_sandbox.journal() if row["grantType"] == "refresh_token"] == []


def test_a_revoked_account_asks_to_be_connected_again(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str
) -> None:
    avito_sandbox.control("POST", "/tokens/revoke", sellerId=ANNA)
    for _ in range(2):
        assert failure(colleague.get(base(anna))) == (409, "reconnect_required")
    assert failure(colleague.post(f"{base(anna)}/{chat_id}/send", {"text": "Да"})) == (409, "reconnect_required")
    shown = colleague.get(f"/api/v1/accounts/{anna.pk}").json()
    assert (shown["connectionStatus"], shown["connectionError"]["code"]) == ("needs_reconnect", "token_expired")
    assert not Message.objects.exists()


def test_an_account_that_was_never_connected_asks_avito_nothing(
    colleague: Api, avito_sandbox: Sandbox, chat_id: str
) -> None:
    account = make_account()
    assert failure(colleague.get(base(account))) == (409, "account_not_authorized")
    answer = colleague.post(f"{base(account)}/{chat_id}/send", {"text": "Да"})
    assert failure(answer) == (409, "account_not_authorized")
    assert avito_sandbox.journal() == []
    assert not Chat.objects.exists()


def test_every_call_goes_through_the_accounts_proxy_and_never_around_it(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str
) -> None:
    proxy = ProxyServer()
    Account.objects.filter(pk=anna.pk).update(proxy=make_proxy(type="socks5", port=proxy.port))
    assert colleague.get(base(anna)).status_code == 200
    assert {kind for kind, *_ in proxy.seen} == {"socks5"}
    assert Chat.objects.get().avito_id == chat_id
    proxy.close()
    calls = len(avito_sandbox.journal())
    answer = colleague.post(f"{base(anna)}/{chat_id}/send", {"text": "Да"})
    assert failure(answer) == (502, "proxy_failed")
    assert len(avito_sandbox.journal()) == calls
    assert Message.objects.get(text="Да").delivery_status == "failed"


def test_another_sellers_chat_is_not_reachable(colleague: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    foreign = chat_of(avito_sandbox, OLEG)
    assert failure(colleague.get(f"{base(anna)}/{foreign}")) == (404, "avito_not_found")
    assert failure(colleague.get(f"{base(anna)}/{foreign}/messages")) == (404, "avito_not_found")
    assert failure(colleague.post(f"{base(anna)}/{foreign}/send", {"text": "Да"})) == (404, "avito_not_found")
    assert len(at_avito(avito_sandbox, foreign)) == 1


def as_written(api: Api, method: str, path: str) -> requests.Response:
    """A call to exactly this path: `requests` would tidy it up."""
    request = requests.Request(method, api.base, headers=dict(api.session.headers)).prepare()
    request.url = api.base + path
    return api.session.send(request, timeout=10)


@pytest.mark.parametrize("chat_id", ["..", ".", "%00", "%2e%2e", "a%2Fb", "x" * 300, "%0d%0aX", "%ED%A0%80", "self"])
def test_no_chat_id_leads_to_another_call(colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str) -> None:
    for path in (f"{base(anna)}/{chat_id}", f"{base(anna)}/{chat_id}/messages"):
        answer = as_written(colleague, "GET", path)
        assert answer.status_code == 404, answer.text
    asked = [row["path"] for row in avito_sandbox.journal() if row["path"] != "/token"]
    assert {path.rpartition("/chats/")[0] for path in asked} <= {
        f"/messenger/v2/accounts/{ANNA}",
        f"/messenger/v3/accounts/{ANNA}",
    }


def test_who_may_not_use_the_messenger_gets_nothing(
    stranger: Api, nobody: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str
) -> None:
    one = f"{base(anna)}/{chat_id}"
    for api, status in ((stranger, 403), (nobody, 401)):
        assert {api.get(path).status_code for path in (base(anna), one, f"{one}/messages")} == {status}
        assert api.post(f"{one}/send", {"text": "Да"}).status_code == status
        assert api.post(f"{one}/messages/x/read").status_code == status
    assert avito_sandbox.journal() == [] or len(at_avito(avito_sandbox, chat_id)) == 2


def test_an_account_that_is_not_there_is_404(colleague: Api, chat_id: str) -> None:
    for path in ("/api/v1/messenger/accounts/123456/chats", f"/api/v1/messenger/accounts/{'9' * 30}/chats"):
        assert colleague.get(path).status_code == 404
        assert colleague.get(f"{path}/{chat_id}").status_code == 404


def test_callers_that_meet_an_expired_token_together_cause_one_renewal(
    colleague: Api, anna: Account, avito_sandbox: Sandbox, chat_id: str
) -> None:
    avito_sandbox.control("POST", "/tokens/expire", sellerId=ANNA)
    statuses: list[int] = []

    def read() -> None:
        api = Api(colleague.base)
        api.session.headers.update(colleague.session.headers)
        statuses.append(api.get(base(anna)).status_code)

    threads = [threading.Thread(target=read) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [200] * 6
    assert len([row for row in avito_sandbox.journal() if row["grantType"] == "refresh_token"]) == 1
