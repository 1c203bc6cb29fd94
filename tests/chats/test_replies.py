"""Replies out: in order, at most once, and never silently lost."""

import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
import redis
import time_machine
from django.conf import LazySettings, settings
from django.db import connections
from django.utils import timezone

from avito.types import Message as AvitoMessage
from avito_accounts import limits
from avito_accounts.models import Account, Authorization
from chats import memory, replies, sync, tasks
from chats.models import Chat, Message
from tests.avito_accounts.test_tokens import ROOT, product_environment
from tests.chats.test_intake import MAIN, message_event
from tests.conftest import Api
from tests.factories import make_account, make_chat, make_message
from tests.sandbox.driver import ANNA, Sandbox, wait_for

SEND = "/chats/[^/]+/messages$"


@pytest.fixture
def chat(anna: Account, avito_sandbox: Sandbox) -> Chat:
    """A chat of Anna's that the sandbox knows."""
    made = avito_sandbox.control("POST", "/chats", sellerId=ANNA, buyerName="Пётр")
    return make_chat(anna, avito_id=made["chatId"])


def reply(api: Api, chat: Chat, text: str = "Свободно") -> dict[str, Any]:
    answer = api.post(f"/api/v1/avito/chats/{chat.avito_id}/reply", {"text": text})
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def at_avito(sandbox: Sandbox, chat: Chat) -> list[str]:
    """The seller's texts in the chat as Avito has them, oldest first."""
    rows = sandbox.control("GET", f"/chats/{chat.avito_id}/messages")
    return [row["content"]["text"] for row in reversed(rows) if row["author_id"] == ANNA]


def later(seconds: int) -> None:
    """Let time pass for what waits."""
    for column in ("retry_at", "sending_at"):
        rows = Message.objects.filter(**{f"{column}__isnull": False})
        for row in rows:
            Message.objects.filter(pk=row.pk).update(**{column: getattr(row, column) - timedelta(seconds=seconds)})


def test_a_reply_is_queued_and_then_delivered(chat: Chat, colleague: Api, avito_sandbox: Sandbox) -> None:
    queued = reply(colleague, chat)
    assert (queued["deliveryStatus"], queued["direction"], queued["messageId"]) == ("queued", "outbound", None)
    tasks.deliver(queued["id"])
    [stored] = colleague.get(f"/api/v1/avito/chats/{chat.avito_id}/messages").json()["results"]
    assert (stored["id"], stored["deliveryStatus"]) == (queued["id"], "sent")
    assert stored["messageId"]
    assert at_avito(avito_sandbox, chat) == ["Свободно"]


def test_a_reply_rung_for_many_times_at_once_is_sent_once(chat: Chat, colleague: Api, avito_sandbox: Sandbox) -> None:
    queued = reply(colleague, chat)
    avito_sandbox.fault("latency", SEND, seconds=0.2)

    def ring(_number: int) -> None:
        tasks.deliver(queued["id"])
        connections.close_all()

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(ring, range(24)))
    assert at_avito(avito_sandbox, chat) == ["Свободно"]


def test_replies_of_one_chat_go_out_in_their_order(chat: Chat, colleague: Api, avito_sandbox: Sandbox) -> None:
    ids = [reply(colleague, chat, text)["id"] for text in ("раз", "два", "три")]
    for message_id in reversed(ids):
        tasks.deliver(message_id)
    assert at_avito(avito_sandbox, chat) == ["раз"]
    for _each in ids:
        tasks.deliver_next(chat.pk)
    assert at_avito(avito_sandbox, chat) == ["раз", "два", "три"]


def test_what_avito_surely_did_not_take_is_sent_later(chat: Chat, colleague: Api, avito_sandbox: Sandbox) -> None:
    queued = reply(colleague, chat)
    avito_sandbox.fault("429", SEND, times=1, seconds=7)
    tasks.deliver(queued["id"])
    row = Message.objects.get()
    assert row.delivery_status == "queued"
    assert row.retry_at is not None
    assert 5 <= (row.retry_at - timezone.now()).total_seconds() <= 10
    tasks.deliver(queued["id"])
    assert at_avito(avito_sandbox, chat) == []  # Avito asked for a pause
    later(12)
    limits.reset()
    tasks.deliver(queued["id"])
    assert at_avito(avito_sandbox, chat) == ["Свободно"]


def test_what_avito_refuses_is_shown_with_its_words_and_can_be_sent_again(
    chat: Chat, colleague: Api, avito_sandbox: Sandbox
) -> None:
    queued = reply(colleague, chat)
    again = f"/api/v1/avito/chats/{chat.avito_id}/messages/{queued['id']}/retry"
    assert colleague.post(again).json()["errors"][0]["code"] == "not_failed"
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", messengerPaid=False)
    tasks.deliver(queued["id"])
    [shown] = colleague.get(f"/api/v1/avito/chats/{chat.avito_id}/messages").json()["results"]
    assert shown["deliveryStatus"] == "failed"
    assert "подписку" in shown["error"]["detail"]
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", messengerPaid=True)
    assert colleague.post(again.replace(chat.avito_id, make_chat(chat.account).avito_id)).status_code == 404
    answer = colleague.post(again)
    assert (answer.status_code, answer.json()["deliveryStatus"], answer.json()["error"]) == (202, "queued", None)
    assert colleague.post(again).status_code == 409
    tasks.deliver(queued["id"])
    assert at_avito(avito_sandbox, chat) == ["Свободно"]


@pytest.fixture
def short_of_patience(settings: LazySettings) -> None:
    settings.AVITO_TIMEOUT_SECONDS = 1


@pytest.mark.parametrize("kind", ["silence", "reset", "status", "truncated"])
def test_a_reply_whose_answer_was_lost_is_found_in_the_chat_and_not_sent_twice(
    short_of_patience: None, chat: Chat, colleague: Api, avito_sandbox: Sandbox, kind: str
) -> None:
    queued = reply(colleague, chat)
    status = {"status": 500} if kind == "status" else {}
    avito_sandbox.fault(kind, SEND, apply="before", times=1, method="POST", **status)
    tasks.deliver(queued["id"])
    assert Message.objects.get(pk=queued["id"]).delivery_status == "unknown"
    tasks.deliver(queued["id"])
    later(5)
    tasks.sweep_replies()
    tasks.look_again(queued["id"])
    assert Message.objects.get(pk=queued["id"]).delivery_status == "sent"
    assert at_avito(avito_sandbox, chat) == ["Свободно"]
    assert Message.objects.filter(direction="outbound").count() == 1


@pytest.mark.parametrize("kind", ["silence", "status"])
def test_a_reply_that_two_looks_do_not_find_is_sent_again(
    short_of_patience: None, chat: Chat, colleague: Api, avito_sandbox: Sandbox, kind: str
) -> None:
    queued = reply(colleague, chat)
    avito_sandbox.fault(kind, SEND, times=1, method="POST", **({"status": 503} if kind == "status" else {}))
    tasks.deliver(queued["id"])
    # Without an answer it may still be on its way, and early looks prove nothing.
    for expected in ("unknown", "unknown", "unknown", "queued") if kind == "silence" else ("unknown", "queued"):
        later(15)
        tasks.look_again(queued["id"])
        assert Message.objects.get(pk=queued["id"]).delivery_status == expected
        assert at_avito(avito_sandbox, chat) == []
    later(15)
    tasks.deliver(queued["id"])
    assert at_avito(avito_sandbox, chat) == ["Свободно"]


def test_an_unknown_reply_holds_the_next_one_of_its_chat(
    short_of_patience: None, chat: Chat, colleague: Api, avito_sandbox: Sandbox
) -> None:
    first, second = (reply(colleague, chat, text)["id"] for text in ("раз", "два"))
    avito_sandbox.fault("silence", SEND, times=1, method="POST")
    tasks.deliver(first)
    tasks.deliver(second)
    assert Message.objects.get(pk=second).delivery_status == "queued"
    assert at_avito(avito_sandbox, chat) == []


def test_while_the_chat_cannot_be_read_an_unknown_reply_stays_unknown(
    short_of_patience: None, chat: Chat, colleague: Api, avito_sandbox: Sandbox
) -> None:
    queued = reply(colleague, chat)
    avito_sandbox.fault("status", "/messenger/", status=500)
    tasks.deliver(queued["id"])
    for _again in range(4):
        later(60)
        tasks.look_again(queued["id"])
    assert Message.objects.get().delivery_status == "unknown"


def test_the_echo_of_a_reply_is_the_reply(chat: Chat, colleague: Api, nobody: Api, avito_sandbox: Sandbox) -> None:
    avito_sandbox.call("POST", "/_sandbox/deliveries/hold")
    queued = reply(colleague, chat)
    tasks.deliver(queued["id"])
    sent = Message.objects.get()
    echo = message_event(id=sent.avito_id, chat_id=chat.avito_id, author_id=ANNA, content={"text": "Свободно"})
    nobody.post(MAIN, echo)
    tasks.process_inbox()
    assert Message.objects.count() == 1


@pytest.mark.parametrize("shown", ["Свободно,  заезжайте!", " Свободно, заезжайте!\r\n", "Свободно,\u00a0заезжайте!"])
def test_a_reply_is_known_by_its_words_whatever_avito_makes_of_the_spaces(
    anna: Account, chat: Chat, shown: str
) -> None:
    row = make_message(
        chat, avito_id=None, direction="outbound", text="Свободно,\nзаезжайте!", delivery_status="unknown", attempts=1,
        sending_at=timezone.now() - timedelta(seconds=5),
    )  # fmt: skip
    echo = AvitoMessage("m", ANNA, "out", "text", shown, {"text": shown}, timezone.now())
    sync.store_messages(anna, chat.avito_id, [echo])
    row.refresh_from_db()
    assert (row.delivery_status, row.avito_id, Message.objects.count()) == ("sent", "m", 1)


def test_an_echo_that_comes_before_the_answer_settles_the_reply(
    chat: Chat, colleague: Api, nobody: Api, avito_sandbox: Sandbox
) -> None:
    queued = reply(colleague, chat)
    Message.objects.update(delivery_status="sending", sending_at=timezone.now())
    nobody.post(
        MAIN,
        message_event(
            id="echo", chat_id=chat.avito_id, author_id=ANNA, content={"text": "Свободно"}, created=int(time.time())
        ),
    )
    tasks.process_inbox()
    row = Message.objects.get(pk=queued["id"])
    assert (row.delivery_status, row.avito_id, Message.objects.count()) == ("sent", "echo", 1)


WORKER = """
import os, sys, django
django.setup()
from chats import tasks
tasks.deliver(int(sys.argv[1]))
"""


@pytest.mark.parametrize("effect", ["before", "never"])
def test_a_worker_killed_while_sending_neither_doubles_nor_loses_the_reply(
    chat: Chat, colleague: Api, avito_sandbox: Sandbox, effect: str
) -> None:
    queued = reply(colleague, chat)
    avito_sandbox.fault("silence", SEND, apply=effect, times=1, method="POST")
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(queued["id"])], env=product_environment(avito_sandbox), cwd=ROOT
    )
    wait_for(lambda: Message.objects.get().delivery_status == "sending", 20)
    wait_for(lambda: any(row["path"].endswith("/messages") for row in avito_sandbox.journal()), 20)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    later(60)
    replies.presume_lost()
    for _each in range(3):
        tasks.look_again(queued["id"])
        later(15)
        tasks.deliver(queued["id"])
    assert Message.objects.get().delivery_status == "sent"
    assert at_avito(avito_sandbox, chat) == ["Свободно"]


SLEEPER = """
import sys, django
from datetime import timedelta
django.setup()
from chats import replies, tasks
replies.SENDING_MARGIN = timedelta(seconds=0.1)
tasks.deliver(int(sys.argv[1]))
"""


def test_a_worker_that_sleeps_before_it_sends_does_not_send_when_it_wakes(
    chat: Chat, colleague: Api, avito_sandbox: Sandbox
) -> None:
    queued = reply(colleague, chat)
    # The call waits for its budget, and meanwhile the worker is stopped.
    pause = f"{limits.PREFIX}{chat.account_id}:messenger:pause"
    redis.Redis.from_url(settings.REDIS_URL).set(pause, int((time.time() + 4) * 1_000_000), px=4000)
    environment = {**product_environment(avito_sandbox), "REDIS_URL": settings.REDIS_URL}
    worker = subprocess.Popen([sys.executable, "-c", SLEEPER, str(queued["id"])], env=environment, cwd=ROOT)
    wait_for(lambda: Message.objects.get().delivery_status == "sending", 20)
    worker.send_signal(signal.SIGSTOP)
    later(60)
    assert replies.presume_lost() == 1
    limits.reset()
    for _each in range(3):
        tasks.look_again(queued["id"])
        later(15)
        tasks.deliver(queued["id"])
    time.sleep(0.2)
    worker.send_signal(signal.SIGCONT)
    assert worker.wait(20) == 0
    assert at_avito(avito_sandbox, chat) == ["Свободно"]
    assert Message.objects.get().delivery_status == "sent"


def test_a_host_whose_clock_is_ahead_presumes_nothing_lost_that_is_being_sent(chat: Chat, colleague: Api) -> None:
    queued, began = reply(colleague, chat), timezone.now()
    with time_machine.travel(began - timedelta(minutes=10)):
        tasks.deliver(queued["id"])
    row = Message.objects.get()
    assert row.sending_at is not None
    assert (row.delivery_status, row.sending_at >= began) == ("sent", True)
    Message.objects.update(delivery_status="sending")
    with time_machine.travel(began + timedelta(minutes=10)):
        assert replies.presume_lost() == 0


def test_a_sender_that_is_merely_slow_is_not_presumed_lost(chat: Chat, colleague: Api) -> None:
    reply(colleague, chat)
    Message.objects.update(delivery_status="sending", sending_at=timezone.now())
    assert replies.presume_lost() == 0


def test_a_chat_without_a_usable_account_takes_no_reply(colleague: Api, anna: Account) -> None:
    Authorization.objects.filter(account=anna).update(dead_reason="invalid_grant")
    for chat in (make_chat(), make_chat(make_account()), make_chat(anna)):
        answer = colleague.post(f"/api/v1/avito/chats/{chat.avito_id}/reply", {"text": "?"})
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (409, "account_not_authorized")
    assert not Message.objects.exists()


def test_a_reply_without_a_worker_to_hear_the_bell_is_found_by_the_sweep(
    chat: Chat, colleague: Api, avito_sandbox: Sandbox
) -> None:
    queued = reply(colleague, chat)
    assert replies.due_for_delivery() == [queued["id"]]


def test_reading_a_chat_marks_it_here_and_at_avito(chat: Chat, colleague: Api, avito_sandbox: Sandbox) -> None:
    avito_sandbox.control("POST", f"/chats/{chat.avito_id}/buyer-message", text="Алло?")
    make_message(chat)
    Chat.objects.update(unread_count=1)
    assert colleague.post(f"/api/v1/avito/chats/{chat.avito_id}/read").json() == {"ok": True}
    assert colleague.get(f"/api/v1/avito/chats/{chat.avito_id}").json()["unreadCount"] == 0
    [at_sandbox] = [row for row in avito_sandbox.control("GET", "/chats") if row["chatId"] == chat.avito_id]
    assert at_sandbox["unread"] == 0


def test_a_second_bell_does_not_make_an_unknown_reply_a_queued_one(
    short_of_patience: None, chat: Chat, colleague: Api, avito_sandbox: Sandbox
) -> None:
    queued = reply(colleague, chat)
    avito_sandbox.fault("silence", SEND, apply="before", times=1, method="POST")
    tasks.deliver(queued["id"])
    Authorization.objects.update(expires_at=timezone.now(), refresh_at=timezone.now())
    avito_sandbox.fault("status", "/token$", status=503)
    tasks.deliver(queued["id"])
    assert Message.objects.get().delivery_status == "unknown"
    avito_sandbox.control("DELETE", "/faults")
    for _each in range(3):
        later(30)
        tasks.deliver(queued["id"])
        tasks.look_again(queued["id"])
    assert at_avito(avito_sandbox, chat) == ["Свободно"]


def test_a_late_outcome_of_an_attempt_that_others_have_judged_is_void(chat: Chat, colleague: Api) -> None:
    queued = reply(colleague, chat)
    stale = Message.objects.select_related("chat__account__authorization").get(pk=queued["id"])
    Message.objects.update(attempts=1)  # somebody else has tried meanwhile
    replies.deliver(stale)
    assert Message.objects.get().attempts == 1


def test_a_chat_whose_messages_avito_does_not_show_proves_nothing(
    short_of_patience: None, chat: Chat, colleague: Api, avito_sandbox: Sandbox
) -> None:
    queued = reply(colleague, chat)
    avito_sandbox.fault("silence", SEND, apply="before", times=1, method="POST")
    tasks.deliver(queued["id"])
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", messengerPaid=False)
    for _each in range(4):
        later(300)
        tasks.look_again(queued["id"])
    assert Message.objects.get().delivery_status == "unknown"
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", messengerPaid=True)
    later(300)
    tasks.look_again(queued["id"])
    assert Message.objects.get().delivery_status == "sent"
    assert at_avito(avito_sandbox, chat) == ["Свободно"]


def test_an_echo_settles_a_reply_that_is_about_to_be_sent_again(
    short_of_patience: None, chat: Chat, colleague: Api, nobody: Api, avito_sandbox: Sandbox
) -> None:
    queued = reply(colleague, chat)
    now = timezone.now()
    Message.objects.update(attempts=1, sending_at=now - timedelta(seconds=20), retry_at=now + timedelta(seconds=30))
    echo = message_event(
        id="late", chat_id=chat.avito_id, author_id=ANNA, content={"text": "Свободно"}, created=int(time.time())
    )
    nobody.post(MAIN, echo)
    tasks.process_inbox()
    later(60)
    tasks.deliver(queued["id"])
    row = Message.objects.get()
    assert (row.delivery_status, row.avito_id) == ("sent", "late")
    assert at_avito(avito_sandbox, chat) == []


def test_two_equal_replies_whose_echoes_are_mixed_up_end_as_two_messages(chat: Chat) -> None:
    first, second = (
        make_message(
            chat,
            avito_id=None,
            direction="outbound",
            text="Да",
            delivery_status="sending",
            attempts=1,
            sending_at=timezone.now(),
        )
        for _each in range(2)
    )
    memory.mark_sent(first, avito_id="b")  # the second one's echo, taken for the first
    memory.mark_sent(second, avito_id="b")
    memory.mark_sent(first, avito_id="a")
    first.refresh_from_db()
    second.refresh_from_db()
    assert [(row.avito_id, row.delivery_status) for row in (first, second)] == [("a", "sent"), ("b", "sent")]


def test_an_echo_in_other_words_gives_way_to_the_reply_and_the_chat_still_shows_it(
    anna: Account, chat: Chat, colleague: Api
) -> None:
    queued = reply(colleague, chat, "Да")
    tasks.deliver(queued["id"])
    sent = Message.objects.get()
    Message.objects.update(avito_id=None, delivery_status="sending")
    echo = make_message(chat, avito_id=sent.avito_id, direction="outbound", text="Да.", delivery_status="sent")
    Chat.objects.update(last_message=echo, messages_count=2)
    memory.mark_sent(sent, avito_id=str(sent.avito_id))
    [shown] = colleague.get("/api/v1/avito/chats").json()["results"]
    assert (shown["lastMessage"]["text"], shown["messagesCount"]) == ("Да", 1)


def test_a_reply_whose_outcome_nobody_can_find_out_does_not_hold_its_chat_for_ever(
    chat: Chat, colleague: Api, avito_sandbox: Sandbox
) -> None:
    first, second = (reply(colleague, chat, text)["id"] for text in ("раз", "два"))
    long_ago = timezone.now() - timedelta(days=2)
    Message.objects.filter(pk=first).update(
        delivery_status="unknown", attempts=1, sending_at=long_ago, retry_at=long_ago, created_at=long_ago
    )
    tasks.look_again(first)
    assert Message.objects.get(pk=first).delivery_status == "failed"
    tasks.deliver(second)
    assert at_avito(avito_sandbox, chat) == ["два"]


def test_a_failing_token_is_not_asked_for_again_at_once(chat: Chat, colleague: Api, avito_sandbox: Sandbox) -> None:
    queued = reply(colleague, chat)
    Authorization.objects.update(expires_at=timezone.now(), refresh_at=timezone.now())
    avito_sandbox.fault("status", "/token$", status=503)
    for _each in range(5):
        tasks.deliver(queued["id"])
    assert len([row for row in avito_sandbox.journal() if row["path"] == "/token"]) == 2  # one was the connecting
    assert Message.objects.get().delivery_status == "queued"


def test_errors_of_a_reply_have_the_codes_of_the_api(chat: Chat, colleague: Api, avito_sandbox: Sandbox) -> None:
    queued = reply(colleague, chat)
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", messengerPaid=False)
    tasks.deliver(queued["id"])
    [shown] = colleague.get(f"/api/v1/avito/chats/{chat.avito_id}/messages").json()["results"]
    assert shown["error"]["code"] == "avito_subscription_required"


def test_a_chat_of_an_account_that_lost_its_access_can_still_be_marked_as_read(
    chat: Chat, anna: Account, colleague: Api
) -> None:
    make_message(chat)
    Chat.objects.update(unread_count=1)
    Authorization.objects.update(dead_reason="invalid_grant")
    assert colleague.post(f"/api/v1/avito/chats/{chat.avito_id}/read").status_code == 200
    assert Chat.objects.get().unread_count == 0
