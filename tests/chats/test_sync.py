"""Chats are read at Avito: who writes, about what, and what webhooks have missed."""

import time
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from avito.types import Message as AvitoMessage
from avito_accounts.models import Account
from chats import sync, tasks
from chats.models import CatchUp, Chat, Message, WebhookEvent
from tests.chats.test_intake import MAIN, message_event
from tests.conftest import Api
from tests.factories import make_chat, make_message
from tests.sandbox.driver import ANNA, Sandbox, wait_for

LONG_AGO = datetime(2020, 1, 1, tzinfo=UTC)


@pytest.fixture
def chat_id(avito_sandbox: Sandbox, anna: Account) -> str:
    made = avito_sandbox.control(
        "POST", "/chats", sellerId=ANNA, buyerName="Мария Иванова", itemTitle="Студия у метро", itemPrice=3500
    )
    return str(made["chatId"])


def test_a_new_chat_learns_the_buyers_name_the_item_and_what_was_said_before(
    anna: Account, avito_sandbox: Sandbox, chat_id: str, nobody: Api
) -> None:
    now = int(time.time())
    for text, created in (("раз", now - 10), ("два", now)):
        avito_sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text=text, createdAt=created)
    last = avito_sandbox.control("GET", f"/chats/{chat_id}/messages")[0]
    nobody.post(MAIN, message_event(id=last["id"], chat_id=chat_id, content=last["content"], created=last["created"]))
    tasks.process_inbox()
    tasks.sync_chat(Chat.objects.get().pk)
    chat = Chat.objects.get()
    assert (chat.name, chat.item_title, chat.chat_type) == ("Мария Иванова", "Студия у метро", "u2i")
    assert (chat.messages_count, chat.unread_count, chat.sync_due_at) == (2, 2, None)
    assert [message.text for message in chat.messages.order_by("created_at", "id")] == ["раз", "два"]


def test_the_number_of_queries_does_not_grow_with_the_number_of_messages(anna: Account) -> None:
    def seen(number: int) -> AvitoMessage:
        text = f"Вопрос {number}"
        return AvitoMessage(f"m-{number}", 5, "in", "text", text, {"text": text}, timezone.now())

    def queries(count: int) -> int:
        with CaptureQueriesContext(connection) as asked:
            sync.store_messages(anna, f"u2i-{count}", [seen(1000 * count + number) for number in range(count)])
        return len(asked)

    queries(1)
    first_time = queries(2), queries(100)
    again = queries(2), queries(100)
    assert first_time[0] == first_time[1]
    assert again[0] == again[1] < first_time[0]
    assert sorted(Chat.objects.values_list("messages_count", "unread_count")) == [(1, 1), (2, 2), (100, 100)]


def test_a_name_that_is_known_is_not_overwritten(anna: Account, chat_id: str) -> None:
    chat = make_chat(anna, avito_id=chat_id, name="Маша, постоянная", sync_due_at=timezone.now())
    tasks.sync_chat(chat.pk)
    chat.refresh_from_db()
    assert (chat.name, chat.item_title) == ("Маша, постоянная", "Студия у метро")


def test_reading_twice_changes_nothing(anna: Account, avito_sandbox: Sandbox, chat_id: str) -> None:
    avito_sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text="раз")
    chat = make_chat(anna, avito_id=chat_id, sync_due_at=timezone.now())
    for _twice in range(2):
        Chat.objects.update(sync_due_at=timezone.now())
        tasks.sync_chat(chat.pk)
    chat.refresh_from_db()
    assert (chat.messages_count, chat.unread_count, Message.objects.count()) == (1, 1, 1)


def test_without_a_subscription_the_chat_is_known_though_its_words_are_not(
    anna: Account, avito_sandbox: Sandbox, chat_id: str
) -> None:
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", messengerPaid=False)
    avito_sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text="раз")
    chat = make_chat(anna, avito_id=chat_id, name="", sync_due_at=timezone.now())
    tasks.sync_chat(chat.pk)
    chat.refresh_from_db()
    assert (chat.name, chat.messages_count) == ("Мария Иванова", 0)


def test_a_failing_read_is_tried_again_later(anna: Account, avito_sandbox: Sandbox, chat_id: str) -> None:
    chat = make_chat(anna, avito_id=chat_id, sync_due_at=timezone.now())
    avito_sandbox.fault("status", "/messenger/", status=500)
    tasks.sync_chat(chat.pk)
    chat.refresh_from_db()
    assert chat.sync_failures == 1
    assert chat.sync_due_at is not None
    assert chat.sync_due_at > timezone.now() + timedelta(seconds=5)


def test_a_chat_that_avito_does_not_know_is_not_asked_for_again(anna: Account) -> None:
    chat = make_chat(anna, avito_id="u2i-gone", sync_due_at=timezone.now())
    tasks.sync_chat(chat.pk)
    chat.refresh_from_db()
    assert chat.sync_due_at is None


def test_messages_whose_webhooks_never_came_are_found(anna: Account, avito_sandbox: Sandbox, chat_id: str) -> None:
    avito_sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text="не дошло")
    tasks.reconcile(anna.pk)
    tasks.sweep_chats()
    for chat in Chat.objects.filter(sync_due_at__isnull=False):
        tasks.sync_chat(chat.pk)
    assert Message.objects.get(chat__avito_id=chat_id).text == "не дошло"


def test_an_account_is_read_again_only_when_its_time_has_come(
    anna: Account, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    for _twice in range(2):
        tasks.reconcile(anna.pk)
    assert len([row for row in avito_sandbox.journal() if row["path"].endswith("/chats")]) == 1
    CatchUp.objects.update(ran_at=timezone.now() - timedelta(seconds=settings.AVITO_RECONCILE_SECONDS + 1))
    tasks.reconcile(anna.pk)
    assert len([row for row in avito_sandbox.journal() if row["path"].endswith("/chats")]) == 2


def test_a_chat_without_news_is_not_read_again(anna: Account, avito_sandbox: Sandbox, chat_id: str) -> None:
    for _twice in range(2):  # what changed within the last minute is looked at once more
        tasks.reconcile(anna.pk)
        sync_all()
        CatchUp.objects.update(ran_at=timezone.now() - timedelta(days=1))
    tasks.reconcile(anna.pk)
    assert not Chat.objects.filter(sync_due_at__isnull=False).exists()


def test_a_message_deleted_at_avito_is_shown_as_deleted(anna: Account, avito_sandbox: Sandbox, chat_id: str) -> None:
    sent = avito_sandbox.control("POST", f"/chats/{chat_id}/seller-message", text="опечатка")
    chat = make_chat(anna, avito_id=chat_id)
    stored = make_message(chat, avito_id=sent["id"], direction="outbound", text="опечатка", delivery_status="sent")
    headers = {"Authorization": f"Bearer {anna.authorization.access_token}"}
    path = f"/messenger/v1/accounts/{ANNA}/chats/{chat_id}/messages/{sent['id']}"
    assert avito_sandbox.call("POST", path, headers=headers).ok
    Chat.objects.update(sync_due_at=timezone.now())
    tasks.sync_chat(chat.pk)
    stored.refresh_from_db()
    assert (stored.type, stored.text) == ("deleted", "опечатка")


def test_a_catch_up_that_fails_halfway_leaves_the_next_one_the_same_work(anna: Account, avito_sandbox: Sandbox) -> None:
    for number in range(120):
        made = avito_sandbox.control("POST", "/chats", sellerId=ANNA, buyerName=f"Клиент {number}")
        avito_sandbox.control("POST", f"/chats/{made['chatId']}/buyer-message", text="?", drop=True)
    CatchUp.objects.create(account=anna, ran_at=timezone.now() - timedelta(days=1), seen_until=LONG_AGO)
    avito_sandbox.fault("status", "/chats$", status=500, skip=1)
    tasks.reconcile(anna.pk)
    assert not Chat.objects.exists()
    avito_sandbox.control("DELETE", "/faults")
    CatchUp.objects.update(ran_at=timezone.now() - timedelta(days=1))
    tasks.reconcile(anna.pk)
    assert Chat.objects.filter(sync_due_at__isnull=False).count() >= 120


def how_far() -> tuple[int, int]:
    """Chats found, chats left."""
    row = vars(CatchUp.objects.saying_how_far().get())
    return row["chats_found"], row["chats_left"]


def sync_all() -> None:
    """What the sweeps of the workers do, until nothing is due."""
    while due := list(Chat.objects.filter(sync_due_at__lte=timezone.now()).values_list("pk", flat=True)):
        for chat_id in due:
            tasks.sync_chat(chat_id)


def test_the_chats_that_an_account_has_had_before_are_all_imported_and_one_sees_how_far(
    anna: Account, avito_sandbox: Sandbox
) -> None:
    for number in range(130):
        made = avito_sandbox.control("POST", "/chats", sellerId=ANNA, buyerName=f"Клиент {number}")
    now = int(time.time())
    for number in range(120):
        avito_sandbox.control(
            "POST", f"/chats/{made['chatId']}/buyer-message", text=f"Вопрос {number}", drop=True, createdAt=now + number
        )
    tasks.reconcile(anna.pk)
    make_chat(anna, sync_due_at=timezone.now())  # a stranger who comes now is no part of the import
    assert (Chat.objects.count(), how_far()) == (132, (131, 131))
    newest = Chat.objects.order_by("sync_due_at").first()
    assert newest is not None
    assert newest.avito_id == made["chatId"]
    tasks.sync_chat(newest.pk)
    newest.refresh_from_db()
    assert (newest.messages_count, newest.unread_count) == (120, 120)
    assert how_far() == (131, 130)
    calls = len(avito_sandbox.journal())
    Chat.objects.filter(pk=newest.pk).update(sync_due_at=timezone.now())
    tasks.sync_chat(newest.pk)
    assert len(avito_sandbox.journal()) == calls + 2  # what is read is not read again
    CatchUp.objects.update(ran_at=timezone.now() - timedelta(days=1), seen_until=timezone.now() + timedelta(hours=1))
    tasks.reconcile(anna.pk)
    assert Chat.objects.count() == 132


def test_a_catch_up_that_fails_says_why_and_is_tried_again_in_a_minute(
    anna: Account, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    avito_sandbox.fault("status", "/chats$", status=500)
    tasks.reconcile(anna.pk)
    run = CatchUp.objects.get()
    assert (run.error_code, run.chats_found) == ("avito_unavailable", None)
    due_at = run.ran_at + timedelta(seconds=settings.AVITO_RECONCILE_SECONDS)
    assert timezone.now() < due_at < timezone.now() + timedelta(minutes=2)
    avito_sandbox.control("DELETE", "/faults")
    CatchUp.objects.update(ran_at=timezone.now() - timedelta(days=1))
    tasks.reconcile(anna.pk)
    assert (CatchUp.objects.get().error_code, CatchUp.objects.get().chats_found) == ("", 1)


def test_what_is_lost_of_the_webhooks_is_there_after_one_catch_up(
    anna: Account, nobody: Api, avito_sandbox: Sandbox, product: str
) -> None:
    """One in twenty at least; nothing is doubled by those that came."""
    webhook = {"url": f"{product}{MAIN}"}
    headers = {"Authorization": f"Bearer {anna.authorization.access_token}"}
    assert avito_sandbox.call("POST", "/messenger/v3/webhook", headers=headers, json=webhook).ok
    avito_sandbox.control("PATCH", "/settings", webhookDropProbability=0.2)
    chat_ids = [avito_sandbox.control("POST", "/chats", sellerId=ANNA)["chatId"] for _each in range(10)]
    said = set()
    for number in range(100):
        text = f"Вопрос {number}"
        avito_sandbox.control("POST", f"/chats/{chat_ids[number % 10]}/buyer-message", text=text)
        said.add((chat_ids[number % 10], text))
    wait_for(lambda: WebhookEvent.objects.count() > 50)
    tasks.process_inbox()
    arrived = Message.objects.count()
    assert 50 < arrived < 100
    tasks.reconcile(anna.pk)
    sync_all()
    tasks.process_inbox()
    kept = Message.objects.filter(chat__avito_id__in=chat_ids)
    assert set(kept.values_list("chat__avito_id", "text")) == said
    assert kept.count() == 100
    assert sum(Chat.objects.filter(avito_id__in=chat_ids).values_list("unread_count", flat=True)) == 100


def test_an_operator_sees_how_far_the_chats_of_each_account_are_read(
    anna: Account, colleague: Api, stranger: Api, avito_sandbox: Sandbox
) -> None:
    assert colleague.get("/api/v1/avito/catch-up").json()["results"] == []
    tasks.reconcile(anna.pk)
    [row] = colleague.get("/api/v1/avito/catch-up").json()["results"]
    assert (row["accountId"], row["accountName"], row["chatsFound"], row["chatsLeft"]) == (anna.pk, "Анна", 1, 1)
    assert row["error"] is None
    sync_all()
    CatchUp.objects.update(ran_at=timezone.now() - timedelta(days=1))
    avito_sandbox.fault("status", "/chats$", status=500)
    tasks.reconcile(anna.pk)
    [row] = colleague.get("/api/v1/avito/catch-up").json()["results"]
    assert (row["chatsLeft"], row["error"]["code"]) == (0, "avito_unavailable")
    assert stranger.get("/api/v1/avito/catch-up").status_code == 403
