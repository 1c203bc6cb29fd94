"""What people do with chats: enter them, correct them, give them to somebody, put them away, answer from a stock."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User

from avito_accounts.models import Account
from chats import tasks
from chats.models import CannedReply, CatchUp, Chat
from tests.api.conftest import assert_error
from tests.conftest import Api
from tests.factories import make_account, make_chat, make_user
from tests.sandbox.driver import Sandbox

CHATS = "/api/v1/avito/chats"
CANNED = "/api/v1/avito/canned-replies"


def legacy(api: Api, chat_id: str, text: str, **user: str) -> None:
    """A message arrives, told by the legacy webhook, and is processed."""
    message = {"id": f"m-{abs(hash(text))}", "text": text, "author_id": 77}
    body = {"event": "message.new", "chat_id": chat_id, "message": message, "user": user}
    assert api.post("/api/v1/webhooks/avito", body).status_code == 200
    tasks.process_inbox()


# By hand


def test_a_chat_is_entered_by_hand_once(colleague: Api) -> None:
    account = make_account(name="Арбат")
    body = {"chatId": "u2i-new~1", "accountId": account.pk, "name": " Мария ", "phone": "8 (916) 123-45-67"}
    answer = colleague.post(CHATS, {**body, "city": "Тверь", "status": "closed", "unreadCount": 9, "extra": 1})
    assert answer.status_code == 201
    shown = {"chatId": "u2i-new~1", "accountName": "Арбат", "name": "Мария", "phone": "+79161234567", "city": "Тверь"}
    expected: dict[str, Any] = {
        **shown,
        "status": "closed",
        "unreadCount": 0,
        "tags": [],
        "assigneeId": None,
        "lastMessage": None,
    }
    assert expected.items() <= answer.json().items()
    for again in (body, {"chatId": "u2i-new~1"}):
        assert_error(colleague.post(CHATS, again), 409, "chat_exists")


def test_of_two_who_enter_the_same_chat_at_once_one_has_made_it(colleague: Api) -> None:
    def enter(chat_id: str) -> int:
        authorization = str(colleague.session.headers["Authorization"])
        return Api(colleague.base, Authorization=authorization).post(CHATS, {"chatId": chat_id}).status_code

    for number in range(3):
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(enter, [f"race-{number}"] * 6))
        assert sorted(answers) == [201] + [409] * 5
    assert Chat.objects.count() == 3


@pytest.mark.parametrize(
    ("body", "attr"),
    [
        ({}, "chatId"), ({"chatId": "a/b"}, "chatId"), ({"chatId": "x" * 256}, "chatId"), ({"chatId": "\0"}, "chatId"),
        ({"chatId": "x", "accountId": 987654}, "accountId"), ({"chatId": "x", "accountId": "y"}, "accountId"),
        ({"chatId": "x", "phone": "none"}, "phone"), ({"chatId": "x", "phone": "123"}, "phone"),
        ({"chatId": "x", "phone": "1234567890123456"}, "phone"), ({"chatId": "x", "phone": 7}, "phone"),
        ({"chatId": "x", "status": "open"}, "status"), ({"chatId": "x", "name": "x" * 256}, "name"),
    ],
)  # fmt: skip
def test_a_chat_that_makes_no_sense_is_refused(colleague: Api, body: Any, attr: str) -> None:
    assert_error(colleague.post(CHATS, body), 400, attr=attr)
    assert not Chat.objects.exists()


def test_a_chat_is_changed_field_by_field(colleague: Api) -> None:
    other = make_user("other", "director")
    chat = make_chat(name="Пётр", phone="+79161234567", tags=["старый"])
    path = f"{CHATS}/{chat.avito_id}"
    assert colleague.put(path, {}).json()["name"] == "Пётр"
    shown = colleague.put(
        path, {"tags": [" vip ", "срочно", "vip"], "assigneeId": other.pk, "status": "archived"}
    ).json()
    assert (shown["tags"], shown["assigneeId"], shown["status"]) == (["vip", "срочно"], other.pk, "archived")
    shown = colleague.patch(path, {"assigneeId": None, "phone": None, "status": "active"}).json()
    assert (shown["assigneeId"], shown["phone"], shown["status"]) == (None, "", "active")
    assert (shown["name"], shown["tags"]) == ("Пётр", ["vip", "срочно"])


@pytest.mark.parametrize(
    ("body", "attr"),
    [
        ({"phone": "звоните"}, "phone"), ({"status": "gone"}, "status"), ({"tags": "vip"}, "tags"),
        ({"tags": [""]}, "tags.0"), ({"tags": ["x" * 51]}, "tags.0"), ({"tags": ["a\0"]}, "tags.0"),
        ({"tags": [str(n) for n in range(21)]}, "tags"), ({"assigneeId": "me"}, "assigneeId"),
        ({"assigneeId": 987654321}, "assigneeId"), ({"assigneeId": 2**63}, "assigneeId"), ({"city": "x" * 101}, "city"),
    ],
)  # fmt: skip
def test_a_change_that_makes_no_sense_changes_nothing(colleague: Api, body: Any, attr: str) -> None:
    chat = make_chat()
    assert_error(colleague.put(f"{CHATS}/{chat.avito_id}", {"name": "Другой", **body}), 400, attr=attr)
    assert Chat.objects.get().name == "Пётр"


def test_chats_are_given_only_to_those_who_may_use_them(colleague: Api) -> None:
    chat = make_chat()
    for user in (make_user("roleless"), make_user("gone", "operator", is_active=False)):
        assert_error(colleague.put(f"{CHATS}/{chat.avito_id}", {"assigneeId": user.pk}), 400, attr="assigneeId")


def test_chats_are_found_by_phone_in_any_spelling(colleague: Api) -> None:
    wanted = [make_chat(phone="+79161234567").pk for _each in range(2)]
    make_chat(phone="+79161234568")
    for spelling in ("8 916 123-45-67", "+79161234567", "79161234567", "9161234567"):
        found = colleague.get(f"{CHATS}/by-phone/{spelling}").json()
        assert [chat["id"] for chat in found] == wanted[::-1]
    assert colleague.get(f"{CHATS}/by-phone/+79160000000").json() == []
    for wrong in ("12345", "x", "%00", "9" * 60):
        assert_error(colleague.get(f"{CHATS}/by-phone/{wrong}"), 400, attr="phone")


# What arrives meanwhile


def test_what_a_person_entered_or_emptied_is_not_overwritten_by_what_arrives(colleague: Api, nobody: Api) -> None:
    colleague.post(CHATS, {"chatId": "by-hand", "phone": "+79031112233"})
    make_chat(avito_id="emptied", name="Пётр", phone="+79031112233")
    colleague.put(f"{CHATS}/emptied", {"name": "", "phone": ""})
    make_chat(avito_id="untouched", name="", phone="")
    colleague.put(f"{CHATS}/untouched", {"name": "", "phone": "", "city": "", "tags": ["vip"]})  # as it was
    for chat_id in ("by-hand", "emptied", "untouched"):
        legacy(nobody, chat_id, f"{chat_id}: 8 916 123 45 67", name="Мария", phone="+79161234567")
    found = {chat.avito_id: (chat.name, chat.phone) for chat in Chat.objects.all()}
    assert found["by-hand"] == ("Мария", "+79031112233")
    assert found["emptied"] == ("", "")
    assert found["untouched"] == ("Мария", "+79161234567")


@pytest.mark.parametrize("status", ["closed", "archived"])
def test_a_new_message_of_the_client_opens_a_chat_again_and_one_of_ours_does_not(nobody: Api, status: str) -> None:
    chat = make_chat(avito_id="put-away", status=status)
    own = {"id": "own", "text": "До свидания", "from_operator": True}
    nobody.post("/api/v1/webhooks/avito", {"event": "message.new", "chat_id": "put-away", "message": own})
    tasks.process_inbox()
    chat.refresh_from_db()
    assert (chat.status, chat.messages_count) == (status, 1)
    legacy(nobody, "put-away", "Вы ещё здесь?")
    chat.refresh_from_db()
    assert (chat.status, chat.unread_count) == ("active", 1)


def test_the_city_comes_from_the_listing_and_listings_are_read_once(anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.control("DELETE", "/journal")
    CatchUp.objects.create(account=anna, ran_at="2026-01-01T00:00:00Z")
    item_id = 1768287444  # in Москва, ул. Арбат, 12
    chats = [
        make_chat(anna, item_id=item_id),
        make_chat(anna, item_id=item_id, entered=["city"]),
        make_chat(anna, item_id=5),
    ]
    tasks.reconcile(anna.pk)
    CatchUp.objects.update(ran_at="2026-01-01T00:00:00Z", cities_at=None)
    tasks.reconcile(anna.pk)
    assert [Chat.objects.get(pk=chat.pk).city for chat in chats] == ["Москва", "", ""]
    asked = [call for call in avito_sandbox.control("GET", "/journal") if call["path"] == "/core/v1/items"]
    assert len(asked) == 2  # the active ones, then all others


# Canned replies


def test_canned_replies_are_filled_in_for_a_chat(colleague: Api, owner: Api) -> None:
    mine = colleague.post(CANNED, {"title": "2", "text": "Здравствуйте, {name}! «{item}» свободна."})
    assert (mine.status_code, mine.json()["isShared"]) == (201, False)
    assert owner.post(CANNED, {"title": "1", "text": "{name}, до встречи", "isShared": True}).json()["isShared"] is True
    CannedReply.objects.create(title="чужой", text="x", owner=make_user("other", "operator"))
    known = make_chat(name="Мария {item}", item_title="Студия")
    unknown = make_chat(name="", item_title="")
    shown = colleague.get(f"{CHATS}/{known.avito_id}/canned-replies").json()
    assert [reply["text"] for reply in shown] == [
        "Мария {item}, до встречи",
        "Здравствуйте, Мария {item}! «Студия» свободна.",
    ]
    shown = colleague.get(f"{CHATS}/{unknown.avito_id}/canned-replies").json()
    assert [reply["text"] for reply in shown] == ["До встречи", "Здравствуйте! «объявление» свободна."]


def test_a_canned_reply_that_grows_too_long_says_so(colleague: Api) -> None:
    colleague.post(CANNED, {"title": "x", "text": "{item}" + "x" * 990})
    shown = [colleague.get(f"{CHATS}/{make_chat(item_title=title).avito_id}/canned-replies").json()[0]["isTooLong"]
             for title in ("Студия", "Студия на Арбате")]  # fmt: skip
    assert shown == [False, True]


@pytest.mark.parametrize("text", ["", "x" * 1001, "Привет, {имя}", "{}", "{name.x}", "\0"])
def test_a_canned_reply_that_could_not_be_filled_in_is_refused(colleague: Api, text: str) -> None:
    assert_error(colleague.post(CANNED, {"title": "x", "text": text}), 400, attr="text")


def test_shared_replies_are_written_by_admins_and_directors_and_others_by_their_owner(
    colleague: Api, owner: Api
) -> None:
    assert_error(colleague.post(CANNED, {"title": "x", "text": "x", "isShared": True}), 403)
    shared = owner.post(CANNED, {"title": "x", "text": "x", "isShared": True}).json()["id"]
    for refused in (
        colleague.put(f"{CANNED}/{shared}", {"text": "y"}),
        colleague.patch(f"{CANNED}/{shared}", {"isShared": False}),
        colleague.delete(f"{CANNED}/{shared}"),
    ):
        assert_error(refused, 403)
    own = colleague.post(CANNED, {"title": "y", "text": "y"}).json()["id"]
    assert owner.get(f"{CANNED}/{own}").status_code == 404
    assert colleague.put(f"{CANNED}/{own}", {"text": "z"}).json()["title"] == "y"
    assert [reply["id"] for reply in colleague.get(CANNED).json()["results"]] == [shared, own]
    assert colleague.delete(f"{CANNED}/{own}").status_code == 204
    assert set(User.objects.values_list("username", flat=True)) == {"colleague", "owner"}
