"""Deliveries, replies, readings and two accounts in one chat, as they get in each other's way."""

import hashlib
import json
import threading
import time
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction
from django.utils import timezone

from avito_accounts.models import Account
from chats import cities, inbox, replies, tasks
from chats.models import CatchUp, Chat, Message, WebhookEvent
from notifications.models import Event
from tests.chats.test_intake import MAIN, message_event
from tests.conftest import Api
from tests.factories import make_account, make_chat, make_message
from tests.sandbox.driver import ANNA, Sandbox

CHATS = "/api/v1/avito/chats"


def store(**value: Any) -> None:
    event = message_event(**value)
    body = json.dumps(event).encode()
    lane = event["payload"]["value"]["user_id"]
    WebhookEvent.objects.create(body=body, digest=hashlib.sha256(body).digest(), received_at=timezone.now(), lane=lane)


def told() -> set[str]:
    return set(Event.objects.values_list("type", flat=True))


def in_doubt(chat: Chat, text: str) -> Message:
    """A reply of ours that has been sent, perhaps."""
    return make_message(
        chat, direction="outbound", avito_id=None, text=text, delivery_status="unknown",
        sending_at=timezone.now() - timedelta(minutes=1), retry_at=timezone.now() + timedelta(hours=1),
    )  # fmt: skip


def test_a_late_delivery_that_waits_for_a_reply_does_not_set_the_chat_back(anna: Account, nobody: Api) -> None:
    old = timezone.now() - timedelta(days=3)
    chat = make_chat(anna, avito_id="u2i-abc~1", last_message_at=old, activity_at=old, messages_count=1)
    Chat.objects.update(last_message=make_message(chat, created_at=old))
    nobody.post(MAIN, message_event(created=int(old.timestamp()) + 60))

    def work() -> None:
        try:
            tasks.process_inbox()
        finally:
            connections.close_all()

    worker = threading.Thread(target=work)
    with transaction.atomic():
        reply = replies.put(chat, text="Свободно", author=None, status="queued")
        worker.start()
        time.sleep(0.7)  # by now it waits for the chat
    worker.join()
    chat.refresh_from_db()
    assert (chat.last_message_id, chat.messages_count, chat.activity_at > old + timedelta(days=1)) == (
        reply.pk,
        3,
        True,
    )


def test_accounts_whose_events_are_not_due_hide_nobody(product: str) -> None:
    for number in range(inbox.LANES + 1):
        make_account(avito_user_id=1000 + number)
        store(user_id=1000 + number, chat_id=f"u2i-{number}")
    last = WebhookEvent.objects.latest("lane")
    later = timezone.now() + timedelta(seconds=30)
    for attempts in (0, 1):
        WebhookEvent.objects.exclude(pk=last.pk).update(status="received", attempts=attempts, retry_at=later)
        WebhookEvent.objects.filter(pk=last.pk).update(status="received", attempts=0)
        tasks.process_inbox()
        last.refresh_from_db()
        assert last.status == "processed"


def test_every_account_has_its_turn_however_many_there_are(product: str) -> None:
    for number in range(inbox.LANES + 1):
        make_account(avito_user_id=1000 + number)
        for _each in range(20 if number < inbox.LANES else 1):
            store(user_id=1000 + number, chat_id=f"u2i-{number}")
    tasks.process_inbox()
    order = list(WebhookEvent.objects.order_by("processed_at", "id").values_list("lane", flat=True))
    assert order.index(1000 + inbox.LANES) < 3 * inbox.BATCH
    assert not WebhookEvent.objects.exclude(status="processed").exists()


def test_the_first_phone_of_a_client_counts_in_any_order(product: str) -> None:
    make_account(avito_user_id=ANNA)
    said = [(1_795_000_000, "мой 8 916 123-45-67"), (1_795_000_100, "или 8 916 765-43-21")]
    for chat_id, order in (("u2i-x", said), ("u2i-y", said[::-1])):
        for created, text in order:
            store(chat_id=chat_id, created=created, content={"text": text})
            tasks.process_inbox()
    assert set(Chat.objects.values_list("phone", flat=True)) == {"+79161234567"}


def test_what_was_lost_in_the_second_of_a_reading_is_found(anna: Account, avito_sandbox: Sandbox, nobody: Api) -> None:
    made = avito_sandbox.control("POST", "/chats", sellerId=ANNA)["chatId"]
    at = int(time.time()) - 5
    first = avito_sandbox.control("POST", f"/chats/{made}/buyer-message", text="Свободно?", drop=True, createdAt=at)
    store(id=first["id"], chat_id=made, content={"text": "Свободно?"}, created=at)
    tasks.process_inbox()
    tasks.sync_chat(Chat.objects.get().pk)  # a stranger is read at once
    avito_sandbox.control("POST", f"/chats/{made}/buyer-message", text="Нас двое", drop=True, createdAt=at)
    for _run in range(2):
        CatchUp.objects.update(ran_at=timezone.now() - timedelta(days=1))
        tasks.reconcile(anna.pk)
        for chat in Chat.objects.filter(sync_due_at__isnull=False):
            tasks.sync_chat(chat.pk)
    assert Message.objects.filter(text="Нас двое").exists()
    assert not Chat.objects.filter(sync_due_at__isnull=False).exists()


def test_what_could_not_be_read_for_want_of_a_subscription_is_read_whole_later(
    anna: Account, avito_sandbox: Sandbox
) -> None:
    made = avito_sandbox.control("POST", "/chats", sellerId=ANNA)["chatId"]
    at = int(time.time()) - 5000
    for number in range(110):
        avito_sandbox.control(
            "POST", f"/chats/{made}/buyer-message", text=f"{number}", drop=True, createdAt=at + number
        )
    chat = make_chat(anna, avito_id=made)
    for paid in (False, True):
        avito_sandbox.control("PATCH", f"/sellers/{ANNA}", messengerPaid=paid)
        Chat.objects.update(sync_due_at=timezone.now())
        tasks.sync_chat(chat.pk)
    chat.refresh_from_db()
    assert chat.messages_count == 110


def test_of_two_accounts_in_one_chat_each_side_can_be_opened_read_and_answered(anna: Account, colleague: Api) -> None:
    other = make_account(avito_user_id=555)
    mine = make_chat(anna, avito_id="u2u-1", activity_at=timezone.now())
    theirs = make_chat(other, avito_id="u2u-1", activity_at=timezone.now() - timedelta(minutes=1), unread_count=1)
    make_message(theirs, text="Слышно?")
    opened = colleague.get(f"{CHATS}/u2u-1", accountId=other.pk).json()
    assert (opened["id"], opened["messages"][0]["text"]) == (theirs.pk, "Слышно?")
    assert colleague.get(f"{CHATS}/u2u-1").json()["id"] == mine.pk
    colleague.post(f"{CHATS}/u2u-1/read?accountId={other.pk}")
    theirs.refresh_from_db()
    assert theirs.unread_count == 0
    for odd in ("x", "0", "9" * 30):
        assert colleague.get(f"{CHATS}/u2u-1", accountId=odd).status_code == 404


def test_a_delivery_that_names_no_account_finds_the_same_chat_again(product: str, nobody: Api) -> None:
    make_account(avito_user_id=11)
    make_account(avito_user_id=22)
    unnamed = {"event": "message.new", "chat_id": "u2u-1", "message": {"id": "L1", "text": "Слышно?"}, "user": {}}
    for event in (
        message_event(user_id=11, author_id=22, chat_id="u2u-1", created=1_795_000_000),
        unnamed,
        message_event(user_id=22, author_id=22, chat_id="u2u-1", created=1_795_000_100),
    ):
        nobody.post(MAIN, event)
        tasks.process_inbox()
    inbox.replay(WebhookEvent.objects.all())
    tasks.process_inbox()
    assert Message.objects.count() == 3


def test_a_city_that_is_found_is_told(anna: Account, avito_sandbox: Sandbox) -> None:
    make_chat(anna, item_id=1768287444)
    CatchUp.objects.create(account=anna, ran_at=timezone.now())
    cities.find(anna)
    assert Chat.objects.get().city
    assert "chat.updated" in told()


def test_a_reply_that_is_tried_again_is_the_chats_last_message(anna: Account, colleague: Api) -> None:
    chat = make_chat(anna)
    failed = make_message(
        chat,
        direction="outbound",
        avito_id=None,
        delivery_status="failed",
        created_at=timezone.now() - timedelta(hours=1),
    )
    Chat.objects.update(last_message=make_message(chat))
    assert colleague.post(f"{CHATS}/{chat.avito_id}/messages/{failed.pk}/retry").status_code == 202
    shown = colleague.get(f"{CHATS}/{chat.avito_id}").json()
    assert shown["lastMessage"]["id"] == shown["messages"][-1]["id"] == failed.pk
    assert shown["lastMessageAt"] == shown["lastMessage"]["createdAt"]


@pytest.mark.parametrize("what", ["deleted", "lost"])
def test_a_chat_is_told_of_when_what_it_shows_has_changed(
    anna: Account, colleague: Api, avito_sandbox: Sandbox, what: str
) -> None:
    made = avito_sandbox.control("POST", "/chats", sellerId=ANNA)["chatId"]
    base = f"/api/v1/messenger/accounts/{anna.pk}/chats/{made}"
    sent = colleague.post(f"{base}/send", {"text": "Да"}).json()
    Event.objects.all().delete()
    if what == "deleted":
        assert colleague.delete(f"{base}/messages/{sent['id']}").status_code == 204
    else:
        Message.objects.update(delivery_status="sending", sending_at=timezone.now() - timedelta(hours=1))
        assert replies.presume_lost() == 1
    assert told() == {"chat.updated", "message.updated"}


def test_an_echo_that_comes_twice_settles_one_reply(anna: Account, nobody: Api) -> None:
    chat = make_chat(anna, avito_id="u2i-abc~1")
    first, second = in_doubt(chat, "Да,  конечно"), in_doubt(chat, "Да,  конечно")
    echo = message_event(id="A", author_id=ANNA, content={"text": "Да, конечно"}, created=int(time.time()))
    for event in (echo, {**echo, "timestamp": 5}):
        nobody.post(MAIN, event)
    tasks.process_inbox()
    first.refresh_from_db()
    second.refresh_from_db()
    assert [(row.avito_id, row.delivery_status) for row in (first, second)] == [("A", "sent"), (None, "unknown")]
    assert set(WebhookEvent.objects.values_list("status", flat=True)) == {"processed"}
