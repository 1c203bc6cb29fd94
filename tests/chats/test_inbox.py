"""What becomes of deliveries: each message once, in any order, through any path."""

import itertools
import random
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections
from django.utils import timezone

from avito_accounts.models import Account
from chats import inbox, tasks
from chats.models import Chat, Message, WebhookEvent
from tests.chats.test_intake import MAIN, message_event
from tests.conftest import Api
from tests.factories import make_account
from tests.sandbox.driver import ANNA

ALIAS = "/api/v1/webhook/avito"


@pytest.fixture
def account(product: str) -> Account:
    return make_account(name="Анна", avito_user_id=ANNA)


def deliver(api: Api, *events: dict[str, Any], path: str = MAIN) -> None:
    for event in events:
        assert api.post(path, event).status_code == 200
    tasks.process_inbox()


def statuses() -> list[str]:
    return list(WebhookEvent.objects.order_by("id").values_list("status", flat=True))


def test_a_buyers_message_makes_a_chat_that_shows_it(account: Account, nobody: Api, colleague: Api) -> None:
    deliver(nobody, message_event(content={"text": "Свободно?"}))
    [chat] = colleague.get("/api/v1/avito/chats").json()["results"]
    assert (chat["chatId"], chat["accountId"], chat["itemId"]) == ("u2i-abc~1", account.pk, "1768287444")
    assert (chat["unreadCount"], chat["messagesCount"], chat["lastMessage"]["text"]) == (1, 1, "Свободно?")
    assert chat["lastMessage"]["direction"] == "inbound"


def test_our_own_words_come_back_as_outgoing_and_are_not_unread(account: Account, nobody: Api) -> None:
    deliver(nobody, message_event(author_id=ANNA))
    message = Message.objects.get()
    assert (message.direction, message.delivery_status) == ("outbound", "sent")
    assert Chat.objects.get().unread_count == 0


def test_twenty_copies_of_each_event_through_both_paths_leave_each_message_once(account: Account, product: str) -> None:
    events = [message_event(chat_id=f"u2i-{number % 7}", created=1_795_000_000 + number) for number in range(200)]
    copies = [(event, path) for event in events for path in [MAIN, ALIAS] * 10]
    random.Random(1).shuffle(copies)
    clients = [Api(product) for _ in range(16)]

    def post_share(number: int) -> list[int]:
        share = copies[number :: len(clients)]
        return [clients[number].post(path, event).status_code for event, path in share]

    def work(_number: int) -> None:
        tasks.process_inbox()
        connections.close_all()

    with ThreadPoolExecutor(20) as pool:
        posting = [pool.submit(post_share, number) for number in range(len(clients))]
        working = [pool.submit(work, number) for number in range(12)]
        assert {status for share in posting for status in share.result()} == {200}
        for done in working:
            done.result()
    # An event that a passing trouble of the database has given back is due again after its lease.
    WebhookEvent.objects.filter(status="received").update(retry_at=None)
    tasks.process_inbox()
    assert set(statuses()) == {"processed"}
    assert Message.objects.count() == 200
    assert sum(Chat.objects.values_list("unread_count", flat=True)) == 200
    assert sum(Chat.objects.values_list("messages_count", flat=True)) == 200


def test_a_delivery_repeated_with_another_envelope_changes_nothing(account: Account, nobody: Api) -> None:
    event = message_event()
    deliver(nobody, event, {**event, "id": str(uuid.uuid4()), "timestamp": event["timestamp"] + 5})
    assert statuses() == ["processed", "processed"]
    assert (Message.objects.count(), Chat.objects.get().unread_count) == (1, 1)


def test_a_known_id_with_other_words_changes_nothing_and_is_kept(account: Account, nobody: Api) -> None:
    event = message_event(content={"text": "первое"})
    other = message_event(id=event["payload"]["value"]["id"], content={"text": "второе"})
    deliver(nobody, event, other)
    assert Message.objects.get().text == "первое"
    assert statuses() == ["processed", "ignored"]
    assert "conflict" in WebhookEvent.objects.last().note  # type: ignore[union-attr]


def test_a_known_id_in_another_chat_changes_nothing(account: Account, nobody: Api) -> None:
    event = message_event()
    deliver(nobody, event, message_event(id=event["payload"]["value"]["id"], chat_id="u2i-other"))
    assert Message.objects.get().chat.avito_id == "u2i-abc~1"
    assert Message.objects.count() == 1


def _state() -> list[Any]:
    chats = Chat.objects.order_by("avito_id").values_list(
        "avito_id", "unread_count", "messages_count", "last_message__avito_id", "last_message_at", "phone"
    )
    messages = Message.objects.order_by("avito_id").values_list("avito_id", "direction", "text", "created_at")
    return [list(chats), list(messages)]


def test_any_order_of_arrival_ends_in_the_same_state(account: Account, nobody: Api) -> None:
    events = [
        message_event(created=1_795_000_000),
        message_event(created=1_795_000_001, author_id=ANNA, content={"text": "да"}),
        message_event(created=1_795_000_001, content={"text": "мой номер 8 (916) 123-45-67"}),
        message_event(created=1_795_000_002, chat_id="u2i-second"),
    ]
    seen = []
    for order in itertools.islice(itertools.permutations(events), 0, None, 3):
        Chat.objects.all().delete()
        WebhookEvent.objects.all().delete()
        deliver(nobody, *order)
        seen.append(_state())
    assert len(seen) == 8
    assert all(state == seen[0] for state in seen)


def test_an_event_of_an_unknown_account_waits_until_the_account_appears(nobody: Api) -> None:
    deliver(nobody, message_event())
    assert statuses() == ["unmatched"]
    account = make_account(avito_user_id=ANNA)
    tasks.sweep_inbox()
    assert statuses() == ["processed"]
    assert Chat.objects.get().account == account


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"payload": {"type": "review", "value": {}}}, "ignored"),
        ({"hello": "world"}, "ignored"),
        ([1, 2], "dead"),
        ("text", "dead"),
    ],
)
def test_what_we_do_not_handle_is_acknowledged_and_kept(nobody: Api, body: Any, status: str) -> None:
    deliver(nobody, body)
    assert statuses() == [status]


def test_replaying_every_event_changes_nothing(account: Account, nobody: Api) -> None:
    deliver(nobody, message_event(), message_event(author_id=ANNA), message_event(chat_id="u2i-2"))
    before = _state()
    assert inbox.replay(WebhookEvent.objects.all()) == 3
    tasks.process_inbox()
    assert _state() == before
    assert statuses() == ["processed"] * 3


def legacy(**fields: Any) -> dict[str, Any]:
    return {
        "event": "message.new",
        "chat_id": "u2i-legacy",
        "user_id": ANNA,
        "message": {"id": "m-1", "text": "Добрый день", "author_id": 520000009},
        "user": {"name": "Мария", "phone": "8 916 123-45-67"},
        **fields,
    }


@pytest.fixture
def legacy_chat(account: Account, nobody: Api) -> Chat:
    deliver(nobody, legacy())
    return Chat.objects.get()


def test_the_older_body_brings_name_phone_and_message(legacy_chat: Chat, account: Account) -> None:
    assert (legacy_chat.account, legacy_chat.name, legacy_chat.phone) == (account, "Мария", "+79161234567")
    assert legacy_chat.messages.get().text == "Добрый день"


def test_the_older_body_from_an_operator_is_outgoing(legacy_chat: Chat, nobody: Api) -> None:
    deliver(nobody, legacy(message={"id": "m-2", "content": "Здравствуйте", "author_id": 1, "from_operator": True}))
    assert legacy_chat.messages.get(avito_id="m-2").direction == "outbound"


def test_the_older_body_without_an_account_joins_the_chat_that_has_the_id(legacy_chat: Chat, nobody: Api) -> None:
    event = legacy(message={"id": "m-3", "text": "ещё", "author_id": 520000009})
    del event["user_id"]
    deliver(nobody, event)
    assert legacy_chat.messages.count() == 2


def test_a_chat_announced_without_an_account_is_taken_over_by_the_account_that_writes_in_it(
    account: Account, nobody: Api
) -> None:
    deliver(nobody, {"event": "chat.new", "chat_id": "u2i-abc~1", "user": {"name": "Пётр", "phone": ""}})
    assert Chat.objects.get().account is None
    deliver(nobody, message_event())
    chat = Chat.objects.get()
    assert (chat.account, chat.name, chat.messages_count) == (account, "Пётр", 1)


def test_both_bodies_of_one_message_are_one_message(account: Account, nobody: Api) -> None:
    new = message_event(id="m-1", chat_id="u2i-legacy", content={"text": "Добрый день"})
    deliver(nobody, legacy(), new)
    assert Message.objects.count() == 1


def test_a_phone_that_the_client_writes_fills_an_empty_field_only(account: Account, nobody: Api) -> None:
    deliver(nobody, message_event(content={"text": "звоните 8 916 123 45 67"}))
    deliver(nobody, message_event(content={"text": "или +7 495 123-45-67"}))
    assert Chat.objects.get().phone == "+79161234567"


def test_both_bodies_of_one_message_at_once_are_one_chat_and_one_message(account: Account, product: str) -> None:
    def both(number: int) -> list[dict[str, Any]]:
        chat_id, message_id = f"u2i-{number}", f"m-{number}"
        old = legacy(chat_id=chat_id, message={"id": message_id, "text": "Добрый день", "author_id": 520000009})
        del old["user_id"]
        return [old, message_event(id=message_id, chat_id=chat_id, content={"text": "Добрый день"})]

    api = Api(product)
    for number in range(30):
        for event in both(number):
            assert api.post(MAIN, event).status_code == 200

    def work(_number: int) -> None:
        tasks.process_inbox()
        connections.close_all()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    tasks.process_inbox()
    assert (Chat.objects.count(), Message.objects.count()) == (30, 30)
    assert set(Chat.objects.values_list("account_id", "messages_count")) == {(account.pk, 1)}


def test_an_event_that_kills_its_workers_is_put_aside_and_the_rest_is_done(account: Account, nobody: Api) -> None:
    nobody.post(MAIN, message_event())
    nobody.post(MAIN, message_event(chat_id="u2i-behind"))
    killer, behind = WebhookEvent.objects.order_by("id")
    for _death in range(inbox.DEATHS_MAX):
        assert inbox._claim_next() == killer.pk  # a worker claims it and is never heard of again
        tasks.process_inbox()
        WebhookEvent.objects.filter(pk=killer.pk).update(retry_at=timezone.now())
    tasks.process_inbox()
    killer.refresh_from_db()
    behind.refresh_from_db()
    assert (killer.status, behind.status) == ("dead", "processed")
    assert "workers died" in killer.error
    inbox.replay(WebhookEvent.objects.filter(pk=killer.pk))
    tasks.process_inbox()
    assert set(statuses()) == {"processed"}
