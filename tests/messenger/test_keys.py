"""`Idempotency-Key`: however often it is asked for, and whoever dies meanwhile, a message goes out once."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import redis
from django.conf import LazySettings, settings
from django.utils import timezone

import sandbox.state
from avito_accounts import limits
from avito_accounts.models import Account
from chats import replies
from chats import tasks as chat_tasks
from chats.models import Chat, Message
from messenger import tasks
from messenger.models import SendKey
from tests.avito_accounts.test_tokens import ROOT, product_environment
from tests.chats.test_intake import connection_parameters
from tests.chats.test_replies import later
from tests.conftest import Api
from tests.factories import make_chat
from tests.messenger.conftest import PNG, Send, at_avito, failure
from tests.sandbox.driver import ANNA, Sandbox, wait_for

SEND = "/messages(/image)?$"
KINDS: dict[str, dict[str, Any]] = {"text": {"text": "Да"}, "image": {"image": PNG}}
both_kinds = pytest.mark.parametrize("what", KINDS.values(), ids=KINDS)


def settle() -> None:
    """Let time pass and the workers look until the message's fate is known."""
    for _each in range(3):
        later(60)
        replies.presume_lost()
        for message in Message.objects.filter(delivery_status="unknown"):
            chat_tasks.look_again(message.pk)


@both_kinds
def test_a_repeat_answers_the_first_result_and_sends_nothing(
    send: Send, avito_sandbox: Sandbox, empty_chat: str, what: dict[str, Any]
) -> None:
    first = send(**what, key="a key")
    assert first.status_code == 201, first.text
    calls = len(avito_sandbox.journal())
    for _each in range(3):
        again = send(**what, key="a key")
        assert (again.status_code, again.json()) == (201, first.json())
    assert len(avito_sandbox.journal()) == calls
    assert len(at_avito(avito_sandbox, empty_chat)) == Message.objects.count() == 1


@both_kinds
def test_a_repeat_answers_the_first_result_also_when_the_message_has_been_deleted(
    send: Send, colleague: Api, account_url: str, empty_chat: str, what: dict[str, Any]
) -> None:
    first = send(**what, key="a key").json()
    deleted = colleague.delete(f"{account_url}/chats/{empty_chat}/messages/{first['id']}")
    assert deleted.status_code == 204
    assert colleague.get(f"{account_url}/chats/{empty_chat}/messages").json()["messages"][0]["type"] == "deleted"
    again = send(**what, key="a key")
    assert (again.status_code, again.json()) == (201, first)


def test_without_a_key_and_with_another_one_it_is_another_message(
    send: Send, avito_sandbox: Sandbox, empty_chat: str
) -> None:
    for key in (None, None, "a", "b"):
        assert send("Да", key=key).status_code == 201
    assert len(at_avito(avito_sandbox, empty_chat)) == 4


def test_a_key_holds_for_its_chat_alone(
    send: Send, colleague: Api, account_url: str, avito_sandbox: Sandbox, empty_chat: str
) -> None:
    other = avito_sandbox.control("POST", "/chats", sellerId=ANNA)["chatId"]
    first = send("Да", key="a").json()
    second = colleague.post(f"{account_url}/chats/{other}/send", {"text": "Да"}, headers={"Idempotency-Key": "a"})
    assert second.status_code == 201
    assert second.json()["id"] != first["id"]
    assert send("Да", key="a").json() == first


@pytest.mark.parametrize("what", [{"text": "Нет"}, {"image": PNG}])
def test_another_body_under_the_same_key_is_refused(
    send: Send, avito_sandbox: Sandbox, empty_chat: str, what: dict[str, Any]
) -> None:
    send("Да", key="a")
    assert failure(send(**what, key="a")) == (409, "key_reused")
    assert len(at_avito(avito_sandbox, empty_chat)) == 1


def test_the_same_words_in_another_wrapping_are_the_same_body(
    send: Send, colleague: Api, account_url: str, empty_chat: str
) -> None:
    first = send("Да", key="a")
    body = json.dumps({"extra": 1, "text": "  Да "}, ensure_ascii=True, indent=3).encode()
    headers = {"Idempotency-Key": "a", "Content-Type": "application/json"}
    again = colleague.call("POST", f"{account_url}/chats/{empty_chat}/send", data=body, headers=headers)
    assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])


@both_kinds
def test_twenty_equal_requests_at_the_same_instant_send_once(
    product: str, send: Send, colleague: Api, avito_sandbox: Sandbox, empty_chat: str, what: dict[str, Any]
) -> None:
    avito_sandbox.fault("latency", SEND, seconds=0.5)

    def ask(_number: int) -> tuple[int, str]:
        api = Api(product, Authorization=str(colleague.session.headers["Authorization"]))
        answer = send(**what, key="a", api=api)
        body = answer.json()
        return answer.status_code, body.get("id") or body["errors"][0]["code"]

    with ThreadPoolExecutor(20) as pool:
        answers = Counter(pool.map(ask, range(20)))
    [arrived] = at_avito(avito_sandbox, empty_chat)
    assert set(answers) <= {(201, arrived["id"]), (409, "in_progress")}
    assert answers[201, arrived["id"]] >= 1
    assert Message.objects.count() == 1
    assert send(**what, key="a").json()["id"] == arrived["id"]


def test_while_the_first_is_under_way_the_second_is_told_so(send: Send, avito_sandbox: Sandbox) -> None:
    avito_sandbox.fault("latency", SEND, seconds=1.5)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, "Да", key="a")
        wait_for(lambda: Message.objects.filter(delivery_status="sending").exists())
        assert failure(send("Да", key="a")) == (409, "in_progress")
        assert failure(send("Нет", key="a")) == (409, "key_reused")
        assert first.result().status_code == 201


@both_kinds
@pytest.mark.parametrize(
    ("fault", "status"),
    [({"kind": "status", "status": 400}, 422), ({"kind": "status", "status": 403}, 403), ({"kind": "429"}, 503)],
)
def test_a_refusal_is_not_kept(
    send: Send, avito_sandbox: Sandbox, empty_chat: str, what: dict[str, Any], fault: dict[str, Any], status: int
) -> None:
    details = {name: value for name, value in fault.items() if name != "kind"}
    avito_sandbox.fault(fault["kind"], SEND, times=1, method="POST", **details)
    assert send(**what, key="a").status_code == status
    limits.reset()
    assert send("Другое", key="a").status_code == 201  # even with other words
    assert [row["type"] for row in at_avito(avito_sandbox, empty_chat)] == ["text"]


@both_kinds
@pytest.mark.parametrize("arrived", [True, False])
def test_an_unknown_outcome_is_told_again_until_it_is_known(
    send: Send, avito_sandbox: Sandbox, empty_chat: str, what: dict[str, Any], arrived: bool
) -> None:
    avito_sandbox.fault("reset", SEND, times=1, method="POST", apply="before" if arrived else "never")
    calls = []
    for _each in range(3):
        assert failure(send(**what, key="a")) == (504, "avito_timeout")
        calls.append(len(avito_sandbox.journal()))
    assert calls[0] == calls[2]
    settle()
    answer = send(**what, key="a")
    assert answer.status_code == 201, answer.text
    [message] = at_avito(avito_sandbox, empty_chat)
    assert answer.json()["id"] == message["id"]


def test_a_message_is_found_though_avitos_clock_is_behind(
    send: Send, avito_sandbox: Sandbox, empty_chat: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    late = SimpleNamespace(time=lambda: time.time() - 240)
    monkeypatch.setattr(sandbox.state, "time", late)  # Avito's own
    avito_sandbox.fault("reset", SEND, times=1, method="POST", apply="before")
    assert failure(send("Да", key="a")) == (504, "avito_timeout")
    Message.objects.update(retry_at=timezone.now())
    chat_tasks.look_again(Message.objects.get().pk)
    assert Message.objects.get().delivery_status == "sent"
    assert send("Да", key="a").status_code == 201
    assert len(at_avito(avito_sandbox, empty_chat)) == 1


def test_what_may_have_arrived_for_ever_keeps_its_key(send: Send, avito_sandbox: Sandbox, empty_chat: str) -> None:
    avito_sandbox.fault("reset", SEND, times=1, method="POST", apply="before")
    send("Да", key="a")
    Message.objects.update(delivery_status="failed", error_code="outcome_unknown")
    assert failure(send("Да", key="a")) == (504, "avito_timeout")
    assert len(at_avito(avito_sandbox, empty_chat)) == 1


def test_a_failed_message_that_a_person_has_sent_again_holds_its_key(
    send: Send, avito_sandbox: Sandbox, empty_chat: str
) -> None:
    avito_sandbox.fault("status", SEND, status=403, times=1)
    send("Да", key="a")
    message = Message.objects.get()
    assert replies.retry(message)
    assert failure(send("Да", key="a")) == (409, "in_progress")
    chat_tasks.deliver(message.pk)
    assert send("Да", key="a").status_code == 201
    assert len(at_avito(avito_sandbox, empty_chat)) == 1


def test_after_a_day_the_key_is_forgotten(send: Send, avito_sandbox: Sandbox, empty_chat: str) -> None:
    for swept in (False, True):
        assert send("Да", key="a").status_code == 201
        SendKey.objects.update(created_at=timezone.now() - timedelta(hours=24, seconds=1))
        if swept:
            tasks.forget_old_keys()
            assert not SendKey.objects.exists()
    assert send("Нет", key="a").status_code == 201
    tasks.forget_old_keys()
    assert send("Нет", key="a").status_code == 201
    assert len(at_avito(avito_sandbox, empty_chat)) == 3


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb", "ключ".encode().decode("latin-1")])
def test_a_bad_key_is_named_and_nothing_is_sent(send: Send, avito_sandbox: Sandbox, empty_chat: str, key: str) -> None:
    answer = send("Да", key=key)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["attr"] == "Idempotency-Key"
    assert at_avito(avito_sandbox, empty_chat) == []


@pytest.mark.parametrize("key", ["x", "x" * 255, "~!@#$%^&*() '\"\\;,", "2f1c8a9e-0000-4000-8000-000000000000"])
def test_a_good_key_is_taken(send: Send, key: str) -> None:
    assert [send("Да", key=key).status_code for _twice in range(2)] == [201, 201]
    assert Message.objects.count() == 1


def test_keys_are_not_stored_in_clear_and_go_with_their_account(send: Send, owner: Api, anna: Account) -> None:
    send("Да", key="a-secret-of-the-client")
    assert b"secret" not in bytes(SendKey.objects.get().digest)
    assert owner.delete(f"/api/v1/accounts/{anna.pk}").status_code == 204
    assert not SendKey.objects.exists()
    assert Message.objects.count() == 1


# Killed at every step

WEB = """
import sys, django
django.setup()
from avito_accounts.models import Account
from chats.replies import Picture
from messenger import services
account, chat_id, kind = sys.argv[1:]
png = sys.stdin.buffer.read()
outgoing = services.Outgoing("Да") if kind == "text" else services.Outgoing(picture=Picture(png, "image/png"))
print("ready", flush=True)
services.send(Account.objects.get(pk=account), chat_id=chat_id, outgoing=outgoing, author=None, key="a")
print("done", flush=True)
"""


class Web:
    """Another process of the product, which sends with the key "a" and is killed."""

    def __init__(self, account: Account, chat_id: str, sandbox: Sandbox, kind: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", WEB, str(account.pk), chat_id, kind],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**product_environment(sandbox), "REDIS_URL": settings.REDIS_URL},
            cwd=ROOT,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(PNG)
        self.process.stdin.close()

    def kill_once(self, condition: Any) -> None:
        wait_for(condition, 30)
        self.process.send_signal(signal.SIGKILL)
        assert self.process.stdout is not None
        assert b"done" not in self.process.stdout.read()
        self.process.wait()


def asked(sandbox: Sandbox, pattern: str) -> int:
    return len(sandbox.call("GET", "/_sandbox/journal", params={"pathRegex": pattern}).json())


def check(send: Send, sandbox: Sandbox, chat_id: str, what: dict[str, Any]) -> None:
    """Who repeats gets the message through, exactly once, and hears of it."""
    sandbox.control("DELETE", "/faults")
    limits.reset()
    statuses = []
    for _each in range(6):
        answer = send(**what, key="a")
        statuses.append(answer.status_code)
        if answer.status_code == 201:
            break
        assert answer.status_code in {409, 504}, answer.text
        settle()
    assert statuses[-1] == 201, statuses
    [arrived] = at_avito(sandbox, chat_id)
    assert answer.json()["id"] == arrived["id"]
    assert Message.objects.filter(delivery_status="sent").count() == 1
    assert not Message.objects.exclude(delivery_status__in=("sent", "failed")).exists()


kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_killed_before_there_is_a_row(
    anna: Account, send: Send, avito_sandbox: Sandbox, empty_chat: str, kind: str
) -> None:
    before = "uploadImages$" if kind == "image" else f"/chats/{empty_chat}$"
    avito_sandbox.fault("silence", before)
    Web(anna, empty_chat, avito_sandbox, kind).kill_once(lambda: asked(avito_sandbox, before))
    assert not Message.objects.exists()
    check(send, avito_sandbox, empty_chat, KINDS[kind])


@kinds
def test_killed_between_the_row_and_the_call(
    anna: Account, send: Send, avito_sandbox: Sandbox, empty_chat: str, kind: str
) -> None:
    before = "uploadImages$" if kind == "image" else f"/chats/{empty_chat}$"
    avito_sandbox.fault("latency", before, seconds=1)
    web = Web(anna, empty_chat, avito_sandbox, kind)
    wait_for(lambda: asked(avito_sandbox, before), 30)
    # From now on the next call waits at its budget.
    pause = f"{limits.PREFIX}{anna.pk}:messenger:pause"
    redis.Redis.from_url(settings.REDIS_URL).set(pause, int((time.time() + 4) * 1_000_000), px=4000)
    web.kill_once(lambda: Message.objects.filter(delivery_status="sending").exists())
    assert not asked(avito_sandbox, SEND)
    check(send, avito_sandbox, empty_chat, KINDS[kind])


@kinds
@pytest.mark.parametrize("effect", ["before", "never"])
def test_killed_during_the_call(
    anna: Account, send: Send, avito_sandbox: Sandbox, empty_chat: str, kind: str, effect: str
) -> None:
    avito_sandbox.fault("silence", SEND, method="POST", apply=effect)
    Web(anna, empty_chat, avito_sandbox, kind).kill_once(lambda: asked(avito_sandbox, SEND))
    check(send, avito_sandbox, empty_chat, KINDS[kind])


@kinds
def test_killed_between_the_answer_and_its_row(
    anna: Account, send: Send, avito_sandbox: Sandbox, empty_chat: str, kind: str
) -> None:
    chat = make_chat(anna, avito_id=empty_chat)
    avito_sandbox.fault("latency", SEND, seconds=1)
    web = Web(anna, empty_chat, avito_sandbox, kind)
    wait_for(lambda: asked(avito_sandbox, SEND), 30)
    with psycopg.connect(**connection_parameters()) as other:
        other.execute("SELECT 1 FROM chats_chat WHERE id = %s FOR UPDATE", [chat.pk])
        web.kill_once(lambda: at_avito(avito_sandbox, empty_chat) and waits_for_a_lock())
    assert Chat.objects.count() == 1
    check(send, avito_sandbox, empty_chat, KINDS[kind])


def waits_for_a_lock() -> bool:
    with psycopg.connect(**connection_parameters()) as other:
        waiting = other.execute(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        ).fetchall()
    return bool(waiting)


def test_patience_is_not_needed_while_the_sender_lives(
    send: Send, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    """What is still being sent is not presumed lost, however often somebody asks."""
    avito_sandbox.fault("latency", SEND, seconds=1)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(send, "Да", key="a")
        wait_for(lambda: Message.objects.filter(delivery_status="sending").exists())
        assert replies.presume_lost() == 0
        assert first.result().status_code == 201
