"""What becomes of deliveries: each message once, in any order, through any path."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from hypothesis import given, settings, strategies

from avito_accounts.models import Account
from chats import inbox, tasks
from chats.models import Chat, Message, WebhookEvent
from notifications.models import Notification, Problem
from tests.avito_accounts.test_tokens import ROOT, product_environment
from tests.chats.test_intake import MAIN, message_event
from tests.conftest import Api
from tests.factories import make_account
from tests.sandbox.driver import ANNA, Sandbox

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


def _told() -> list[dict[str, Any]]:
    """What happens in two chats: said, answered, read, deleted, told twice and in both bodies."""
    question = {"id": "m-question", "created": 1_795_000_000, "content": {"text": "Свободно?"}}
    number = {"id": "m-number", "created": 1_795_000_001, "content": {"text": "Мой номер 8 (916) 123-45-67"}}
    answer = {"id": "m-answer", "created": 1_795_000_001, "author_id": ANNA, "content": {"text": "да"}}
    return [
        message_event(**question),
        message_event(**question),
        message_event(**question, read=1_795_000_009),
        message_event(**number),
        message_event(**{**number, "type": "deleted", "content": {}}),
        message_event(**answer),
        message_event(**answer, read=1_795_000_005),
        message_event(id="m-other", created=1_795_000_002, chat_id="u2i-second"),
    ]


def _store(events: list[dict[str, Any]]) -> None:
    for event in events:
        body = json.dumps(event).encode()
        WebhookEvent.objects.create(body=body, digest=hashlib.sha256(body).digest(), received_at=timezone.now())


@settings(max_examples=int(os.environ.get("ORDERS", "40")), deadline=None, derandomize=True)
@given(data=strategies.data())
def _check_orders(expected: list[Any], data: strategies.DataObject) -> None:
    order = data.draw(strategies.permutations(_told()))
    ends = data.draw(strategies.sets(strategies.integers(1, len(order))))
    Chat.objects.all().delete()
    WebhookEvent.objects.all().delete()
    for number, event in enumerate(order, 1):
        _store([event])
        if number in ends:
            tasks.process_inbox()
    tasks.process_inbox()
    assert set(statuses()) == {"processed"}
    assert _state() == expected


def test_any_order_of_arrival_in_any_batches_ends_in_the_same_state(account: Account) -> None:
    _store(_told())
    tasks.process_inbox()
    expected = _state()
    chats = [(row[0], row[1], row[2]) for row in expected[0]]
    assert (chats, expected[0][0][5]) == ([("u2i-abc~1", 2, 3), ("u2i-second", 1, 1)], "+79161234567")
    _check_orders(expected)


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
    deliver(nobody, *_told(), legacy(), message_event(chat_id="u2i-2"))
    before = checksums()
    for _twice in range(2):
        assert inbox.replay(WebhookEvent.objects.all()) == len(_told()) + 2
        tasks.process_inbox()
        assert checksums() == before
    assert set(statuses()) == {"processed"}


def checksums() -> list[Any]:
    """Of every column of the tables that hold conversations."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (SELECT md5(string_agg(chat::text, '|' ORDER BY id)) FROM chats_chat chat),"
            " (SELECT md5(string_agg(message::text, '|' ORDER BY id)) FROM chats_message message)"
        )
        return list(cursor.fetchone())


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
    deliver(nobody, message_event(content={"text": "или +7 495 123-45-67"}, created=1_795_400_000))
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


WORKER = """
import os, signal, django
django.setup()
from avito import webhooks
from chats import tasks
parse = webhooks.parse
def deadly(body):
    if b"u2i-deadly" in body:
        os.kill(os.getpid(), signal.SIGKILL)
    return parse(body)
webhooks.parse = deadly
tasks.process_inbox()
"""


def test_an_event_that_kills_its_workers_is_put_aside_and_the_rest_of_its_batch_is_done(
    account: Account, nobody: Api, avito_sandbox: Sandbox
) -> None:
    for number in range(5):
        nobody.post(MAIN, message_event(chat_id="u2i-deadly" if number == 2 else f"u2i-{number}"))
    codes: list[int] = []
    while WebhookEvent.objects.filter(status="received").exists() and len(codes) < 9:
        worker = subprocess.run([sys.executable, "-c", WORKER], env=product_environment(avito_sandbox), cwd=ROOT)
        codes.append(worker.returncode)
        WebhookEvent.objects.filter(retry_at__isnull=False).update(retry_at=timezone.now())  # the leases end
    assert codes == [-signal.SIGKILL] * inbox.DEATHS_MAX + [0]
    assert sorted(statuses()) == ["dead", *["processed"] * 4]
    dead = WebhookEvent.objects.get(status="dead")
    assert "workers died" in dead.error
    inbox.replay(WebhookEvent.objects.filter(pk=dead.pk))
    tasks.process_inbox()
    assert set(statuses()) == {"processed"}


@pytest.fixture
def poison() -> Iterator[str]:
    """The id of a message that the database refuses with an error of its own."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'poison'; END $$;"
            " CREATE TRIGGER refuse BEFORE INSERT ON chats_message FOR EACH ROW"
            " WHEN (NEW.avito_id = 'm-poison') EXECUTE FUNCTION refuse()"
        )
    yield "m-poison"
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION IF EXISTS refuse CASCADE")


def test_an_event_that_fails_fails_alone_and_is_kept_with_its_reason_until_it_is_replayed(
    account: Account, nobody: Api, poison: str
) -> None:
    for number in range(20):
        nobody.post(MAIN, message_event(**({"id": poison} if number == 7 else {}), chat_id=f"u2i-{number % 3}"))
    tasks.process_inbox()
    assert sorted(statuses()) == [*["processed"] * 19, "received"]
    assert Message.objects.count() == 19
    for _attempt in range(inbox.ATTEMPTS_MAX):
        WebhookEvent.objects.update(retry_at=timezone.now())
        tasks.process_inbox()
    assert list(Notification.objects.values_list("kind", flat=True)) == ["webhooks_dead"]
    dead = WebhookEvent.objects.get(status="dead")
    assert (dead.attempts, "poison" in dead.error) == (inbox.ATTEMPTS_MAX, True)
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER refuse ON chats_message")
    assert inbox.replay(WebhookEvent.objects.all()) == 20
    tasks.process_inbox()
    assert (set(statuses()), Message.objects.count()) == ({"processed"}, 20)
    assert not Problem.objects.filter(solved_at=None).exists()


def test_an_account_with_many_waiting_events_does_not_keep_another_ones_waiting(account: Account, nobody: Api) -> None:
    other = make_account()
    for _each in range(3 * inbox.BATCH):
        nobody.post(MAIN, message_event())
    nobody.post(MAIN, message_event(user_id=other.avito_user_id, chat_id="u2i-other"))
    tasks.process_inbox()
    order = list(WebhookEvent.objects.order_by("processed_at", "id").values_list("chat_avito_id", flat=True))
    assert order.index("u2i-other") < inbox.BATCH
    assert set(statuses()) == {"processed"}


def test_the_number_of_queries_does_not_grow_with_the_number_of_events(account: Account) -> None:
    def queries(count: int) -> int:
        _store([message_event(chat_id=f"u2i-{count}-{number}", id=f"{count}-{number}") for number in range(count)])
        Account.objects.update(updated_at=timezone.now())
        with CaptureQueriesContext(connection) as asked:
            tasks.process_inbox()
        return len(asked)

    assert queries(5) == queries(60)
    assert Message.objects.count() == Chat.objects.count() == 65
