"""Avito's advertisement in place of a buyer's words: kept, shown as a notice, and taken for nothing else."""

from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.utils import timezone

from avito.types import Message as AvitoMessage
from avito_accounts.models import Account
from chats import inbox, services, sync, tasks
from chats.models import Chat, Message, WebhookEvent
from notifications.models import Notification, Problem
from tests.chats.test_intake import MAIN, message_event
from tests.conftest import Api
from tests.factories import make_chat, make_message
from tests.sandbox.driver import ANNA, Sandbox

PLACEHOLDER = "Перейдите на подписку с API мессенджера, чтобы получить доступ к чатам: 8 916 123-45-67"
ID = "c0ffee"


def deliver(api: Api, **value: Any) -> None:
    event = message_event(**{"id": ID, "content": {"text": PLACEHOLDER}, **value})
    assert api.post(MAIN, event).status_code == 200
    tasks.process_inbox()


def told() -> list[str]:
    return list(Notification.objects.order_by("id").values_list("kind", flat=True))


def seen(text: str, *, id: str = ID, minutes_ago: int = 0, direction: Any = "in") -> AvitoMessage:
    at = timezone.now() - timedelta(minutes=minutes_ago)
    return AvitoMessage(id, 5, direction, "text", text, {"text": text}, at, is_read=False)


@pytest.fixture
def chat(anna: Account) -> Chat:
    """A closed chat in which somebody has written."""
    chat = make_chat(anna, avito_id="u2i-abc~1", status="closed")
    message = make_message(chat, text="Добрый день")
    Chat.objects.update(last_message=message, last_message_at=message.created_at, messages_count=1)
    chat.refresh_from_db()
    return chat


def unchanged(chat: Chat) -> None:
    before = (chat.last_message_id, chat.last_message_at, chat.activity_at, chat.status, chat.phone, chat.unread_count)
    now = Chat.objects.get()
    assert before == (now.last_message_id, now.last_message_at, now.activity_at, now.status, now.phone, 0)


def test_from_a_webhook_it_is_stored_and_changes_nothing_in_the_chat(chat: Chat, nobody: Api, colleague: Api) -> None:
    deliver(nobody)
    message = Message.objects.get(avito_id=ID)
    assert (message.is_placeholder, message.text) == (True, PLACEHOLDER)
    unchanged(chat)
    [row] = [row for row in chat_messages(colleague, chat) if row["messageId"] == ID]
    assert (row["type"], row["content"]) == ("system", {"text": PLACEHOLDER})
    assert "messenger API" in row["text"]
    assert WebhookEvent.objects.get().status == "processed"


def chat_messages(api: Api, chat: Chat) -> list[dict[str, Any]]:
    api.session.headers["Accept-Language"] = "en"
    rows: list[dict[str, Any]] = api.get(f"/api/v1/avito/chats/{chat.avito_id}/messages").json()["results"]
    return rows


def test_from_a_live_reading_it_is_stored_and_shown_as_a_notice(
    anna: Account, colleague: Api, avito_sandbox: Sandbox
) -> None:
    chat_id = avito_sandbox.control("POST", "/chats", sellerId=ANNA)["chatId"]
    avito_sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text=PLACEHOLDER)
    make_chat(anna, avito_id=chat_id)
    colleague.session.headers["Accept-Language"] = "en"
    base = f"/api/v1/messenger/accounts/{anna.pk}/chats/{chat_id}"
    [live] = colleague.get(f"{base}/messages").json()["messages"]
    assert (live["type"], live["content"]) == ("system", {"text": PLACEHOLDER})
    assert "messenger API" in live["text"]
    assert colleague.get(base).json()["lastMessage"]["text"] == live["text"]
    chat = Chat.objects.get()
    assert Message.objects.get().is_placeholder
    assert (chat.unread_count, chat.last_message, chat.phone) == (0, None, "")
    assert told() == ["messenger_unpaid"]


def test_from_a_reading_in_the_background_it_is_stored_and_the_chat_read_again_later(
    anna: Account, avito_sandbox: Sandbox
) -> None:
    chat_id = avito_sandbox.control("POST", "/chats", sellerId=ANNA)["chatId"]
    avito_sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text=PLACEHOLDER)
    chat = make_chat(anna, avito_id=chat_id, sync_due_at=timezone.now())
    tasks.sync_chat(chat.pk)
    assert Message.objects.get().is_placeholder
    due_at = Chat.objects.get().sync_due_at
    assert due_at is not None
    assert due_at > timezone.now() + timedelta(hours=1)


def test_the_account_has_one_problem_however_often_it_comes(chat: Chat, nobody: Api) -> None:
    for number in range(3):
        deliver(nobody, id=f"m-{number}", chat_id=f"u2i-{number}")
    assert told() == ["messenger_unpaid"]
    problem = Problem.objects.get()
    assert (problem.key, problem.solved_at) == (f"messenger:{chat.account_id}", None)


def test_replaying_its_event_tells_nobody_again(anna: Account, chat: Chat, nobody: Api) -> None:
    deliver(nobody)
    sync.store_messages(anna, chat.avito_id, [seen("Свободно?", id="next")])
    inbox.replay(WebhookEvent.objects.all())
    tasks.process_inbox()
    assert told() == ["messenger_unpaid", "messenger_paid"]
    assert WebhookEvent.objects.get().status == "processed"


def test_a_refusal_for_want_of_a_subscription_is_the_same_problem_and_sending_solves_it(
    anna: Account, colleague: Api, avito_sandbox: Sandbox
) -> None:
    chat_id = avito_sandbox.control("POST", "/chats", sellerId=ANNA)["chatId"]
    base = f"/api/v1/messenger/accounts/{anna.pk}/chats/{chat_id}"
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", messengerPaid=False)
    for answer in (colleague.get(f"{base}/messages"), colleague.post(f"{base}/send", {"text": "Да"})):
        assert answer.status_code == 402
    assert told() == ["messenger_unpaid"]
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", messengerPaid=True)
    assert colleague.post(f"{base}/send", {"text": "Да"}).status_code == 201
    assert told() == ["messenger_unpaid", "messenger_paid"]
    assert not Problem.objects.filter(solved_at=None).exists()


@pytest.mark.parametrize("way", ["reply", "sync"])
def test_the_background_meets_and_solves_the_problem_too(
    anna: Account, colleague: Api, avito_sandbox: Sandbox, way: str
) -> None:
    chat_id = avito_sandbox.control("POST", "/chats", sellerId=ANNA)["chatId"]
    avito_sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text="Свободно?")
    chat = make_chat(anna, avito_id=chat_id)

    def try_it() -> None:
        if way == "sync":
            Chat.objects.update(sync_due_at=timezone.now())
            tasks.sync_chat(chat.pk)
        else:
            answer = colleague.post(f"/api/v1/avito/chats/{chat_id}/reply", {"text": "Да"})
            tasks.deliver(answer.json()["id"])

    for paid, expected in ((False, ["messenger_unpaid"]), (True, ["messenger_unpaid", "messenger_paid"])):
        avito_sandbox.control("PATCH", f"/sellers/{ANNA}", messengerPaid=paid)
        try_it()
        assert told() == expected


def test_once_avito_shows_the_words_they_are_news(anna: Account, chat: Chat, nobody: Api) -> None:
    deliver(nobody)
    services.mark_read_here(chat)
    for _twice in range(2):
        sync.store_messages(anna, chat.avito_id, [seen("Мой номер 8 916 123-45-67")])
    message, now = Message.objects.get(avito_id=ID), Chat.objects.get()
    assert (message.type, message.text, message.is_placeholder) == ("text", "Мой номер 8 916 123-45-67", False)
    assert (now.unread_count, now.messages_count, now.phone) == (1, 2, "+79161234567")
    assert message.read_at is None


def test_words_that_are_known_are_not_hidden_again(anna: Account, chat: Chat, nobody: Api) -> None:
    sync.store_messages(anna, chat.avito_id, [seen("Свободно?")])
    deliver(nobody)
    sync.store_messages(anna, chat.avito_id, [seen(PLACEHOLDER)])
    assert Message.objects.get(avito_id=ID).text == "Свободно?"
    assert (WebhookEvent.objects.get().status, told()) == ("processed", [])


def test_an_old_one_behind_newer_words_is_no_problem_of_today(anna: Account, chat: Chat) -> None:
    old, new = seen(PLACEHOLDER, id="old", minutes_ago=60 * 48), seen("Свободно?", id="new")
    sync.store_messages(anna, chat.avito_id, [new, old])
    assert Message.objects.get(avito_id="old").is_placeholder
    assert told() == []


def test_a_reply_that_is_being_looked_for_is_not_missing_where_words_are_hidden(
    anna: Account, colleague: Api, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    settings.AVITO_TIMEOUT_SECONDS = 1
    chat_id = avito_sandbox.control("POST", "/chats", sellerId=ANNA)["chatId"]
    make_chat(anna, avito_id=chat_id)
    queued = colleague.post(f"/api/v1/avito/chats/{chat_id}/reply", {"text": "Да"}).json()["id"]
    avito_sandbox.fault("silence", "/messages$", times=1, method="POST")
    tasks.deliver(queued)
    avito_sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text=PLACEHOLDER)
    for _look in range(4):
        Message.objects.filter(retry_at__isnull=False).update(retry_at=timezone.now())
        tasks.look_again(queued)
    assert Message.objects.get(pk=queued).delivery_status == "unknown"


def test_words_that_are_shown_again_settle_the_reply_they_are(anna: Account, chat: Chat) -> None:
    reply = make_message(
        chat, avito_id=None, direction="outbound", text="Да", delivery_status="unknown", attempts=1,
        sending_at=timezone.now() - timedelta(seconds=5),
    )  # fmt: skip
    Chat.objects.update(messages_count=2)
    sync.store_messages(anna, chat.avito_id, [seen(PLACEHOLDER, direction="out")])
    assert (Chat.objects.get().messages_count, Message.objects.filter(is_placeholder=True).count()) == (3, 1)
    sync.store_messages(anna, chat.avito_id, [seen("Да", direction="out"), seen("Спасибо", id="next")])
    reply.refresh_from_db()
    assert (reply.delivery_status, reply.avito_id) == ("sent", ID)
    assert (Chat.objects.get().messages_count, Message.objects.count()) == (3, 3)


def test_a_message_of_another_chat_is_not_shown_again_in_this_one(anna: Account, chat: Chat, nobody: Api) -> None:
    deliver(nobody)
    sync.store_messages(anna, "u2i-other", [seen("Свободно?")])
    assert Message.objects.get(avito_id=ID).is_placeholder
    assert set(Chat.objects.values_list("unread_count", flat=True)) == {0}


def test_the_account_that_goes_takes_its_problem_along(chat: Chat, nobody: Api, owner: Api) -> None:
    deliver(nobody)
    assert owner.delete(f"/api/v1/accounts/{chat.account_id}").status_code == 204
    assert not Problem.objects.filter(solved_at=None).exists()
