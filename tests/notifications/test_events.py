"""`/events`: who hears what, in which order, and that nobody misses or hears anything twice."""

import logging
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.test import Client
from django.utils import timezone
from rest_framework_simplejwt.tokens import AccessToken

from avito_accounts import tokens
from avito_accounts.models import Account
from chats import tasks
from notifications import events, stream
from notifications import services as notifications
from notifications import tasks as notification_tasks
from notifications.models import Event, Ticket
from tests.api import raw
from tests.api.conftest import assert_error
from tests.chats.test_intake import MAIN, message_event
from tests.conftest import Api
from tests.factories import make_account, make_chat, make_message, make_user
from tests.notifications.listening import EVENTS, Ear
from tests.sandbox.driver import ANNA, wait_for

TICKET = f"{EVENTS}/ticket"


def listeners(api: Api) -> float:
    found = re.search(r"^live_event_listeners (\S+)", api.get("/metrics").text, re.MULTILINE)
    assert found
    return float(found[1])


@pytest.fixture(autouse=True)
def _nobody_listens(nobody: Api) -> Iterator[None]:
    """A listener of another test would keep that test's events in memory."""
    yield
    wait_for(lambda: listeners(nobody) == 0)


def emit(type: events.Type, *ids: int, **for_whom: Any) -> None:
    with transaction.atomic():
        events.emit(type, *ids, **for_whom)


def knock(api: Api, ticket: str) -> requests.Response:
    """A stream that opens is not listened to."""
    answer = api.call("GET", EVENTS, params={"ticket": ticket}, stream=True)
    if answer.status_code == 200:
        answer.close()
    return answer


# What is heard


def test_a_buyers_message_is_heard_as_the_api_shows_it(nobody: Api, colleague: Api) -> None:
    account = make_account(name="Анна", avito_user_id=ANNA)
    with Ear(colleague) as ear:
        assert nobody.post(MAIN, message_event(content={"text": "Свободно?"})).status_code == 200
        tasks.process_inbox()
        chat = colleague.get("/api/v1/avito/chats").json()["results"][0]
        [message] = colleague.get("/api/v1/avito/chats/u2i-abc~1/messages").json()["results"]
        assert ear.wait("message.created", message["id"]).data == {
            **message,
            "chatId": "u2i-abc~1",
            "accountId": account.pk,
        }
        assert ear.wait("chat.created", chat["id"]).data == chat
        assert chat["accountId"] == account.pk
        # The next one of the same chat; nothing is told twice.
        assert nobody.post(MAIN, message_event(content={"text": "Ау!"})).status_code == 200
        tasks.process_inbox()
        assert ear.wait("chat.updated", chat["id"]).data["unreadCount"] == 2
        colleague.post("/api/v1/avito/chats/u2i-abc~1/read")
        wait_for(lambda: ear.heard[-1].data.get("unreadCount") == 0)
        assert ear.what.count(("chat.created", chat["id"])) == ear.what.count(("message.created", message["id"])) == 1
        assert ("message.updated", message["id"]) in ear.what
    for name, value in {
        "Content-Type": "text/event-stream; charset=utf-8",
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
        "Content-Length": None,
    }.items():
        assert ear.answer.headers[name] == value


def test_a_reply_is_heard_on_each_step_of_its_way(colleague: Api, anna: Account, avito_sandbox: Any) -> None:
    chat_id = avito_sandbox.control("POST", "/chats", sellerId=ANNA, buyerName="Пётр")["chatId"]
    chat = make_chat(anna, avito_id=chat_id)
    with Ear(colleague) as ear:
        message = colleague.post(f"/api/v1/avito/chats/{chat_id}/reply", {"text": "Да"}).json()
        assert ear.wait("message.created", message["id"]).data["chatId"] == chat_id
        tasks.deliver(message["id"])
        wait_for(lambda: any(one.data.get("deliveryStatus") == "sent" for one in ear.heard))
        assert ("chat.updated", chat.pk) in ear.what


def test_an_account_is_heard_without_its_secrets(colleague: Api, anna: Account) -> None:
    secret = anna.authorization.access_token
    with Ear(colleague) as ear:
        tokens.flag(anna)
        heard = ear.wait("account.updated", anna.pk).data
        assert heard == colleague.get(f"/api/v1/accounts/{anna.pk}").json()
        assert heard["connectionStatus"] == "needs_reconnect"
        assert secret not in str(heard)
        pk = anna.pk
        assert Api(colleague.base, make_user("admin", "admin")).delete(f"/api/v1/accounts/{pk}").status_code == 204
        wait_for(lambda: ear.heard[-1].data == {"id": pk})


def test_news_is_heard_in_the_listeners_language(colleague: Api) -> None:
    with Ear(colleague) as russian, Ear(colleague, language="en") as english:
        told = notifications.tell("test_returned", needs="accounts.read", params={"name": "Анна"})
        assert russian.wait("notification.created", told.pk).data["title"] == "Анна: токены обновлены."
        heard = english.wait("notification.created", told.pk)
        assert heard.data["title"] == "Анна: the tokens were renewed."
        [shown] = colleague.call("GET", "/api/v1/notifications", headers={"Accept-Language": "en"}).json()["results"]
        assert heard.data == shown


def test_changes_of_one_transaction_are_told_once_and_undone_ones_never(colleague: Api) -> None:
    with Ear(colleague) as ear:
        with transaction.atomic():
            events.emit("chat.created", 1)
            events.emit("chat.updated", 1, 1, 2)
            with transaction.atomic():
                events.emit("chat.updated", 3, 2)
                transaction.set_rollback(True)
            events.emit("chat.updated", 3, 2)
        with transaction.atomic():
            events.emit("chat.updated", 4)
            transaction.set_rollback(True)
        emit("chat.updated", 5)
        ear.wait("chat.updated", 5)
        assert ear.what == [("chat.created", 1), *[("chat.updated", number) for number in (2, 3, 5)]]


def test_what_cannot_be_shown_does_not_silence_the_rest(colleague: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "_kinds", {**events._kinds, "booking": events.Kind("", "builtins.len")})
    with Ear(colleague) as ear:
        emit("booking.created", 7, needs="chats.use")
        emit("integration.updated", 8, needs="chats.use")  # of no kind that is known here
        ear.wait("integration.updated", 8)
        assert [one.data for one in ear.heard] == [{"id": 7}, {"id": 8}]


# Who hears what


def test_people_hear_what_they_may_read(owner: Api, colleague: Api, stranger: Api, product: str) -> None:
    host = make_user("host")
    ears = [Ear(api) for api in (owner, colleague, stranger, Api(product, host))]
    someone = User.objects.get(username="stranger")
    emit("chat.updated", 1)
    emit("account.updated", 2)
    emit("integration.updated", 3, needs="accounts.manage")
    emit("booking.created", 4, user=someone)
    emit("booking.created", 5, user=host)
    emit("booking.created", 6, needs="accounts.manage", user=someone)
    for number, who in enumerate(("owner", "colleague", "stranger", "host")):  # the last word to each
        emit("booking.conflict", 10 + number, user=User.objects.get(username=who))
    heard = [[1, 2, 3, 6, 10], [1, 2, 11], [4, 6, 12], [5, 13]]
    for ear, ids in zip(ears, heard, strict=True):
        ear.wait("booking.conflict", ids[-1])
        assert [one.data["id"] for one in ear.heard] == ids
        ear.__exit__()
    wait_for(lambda: listeners(owner) == 0)
    for api, ids in zip((owner, colleague, stranger, Api(product, host)), heard, strict=True):
        with Ear(api, after=0) as ear:  # the same from the table
            ear.wait("booking.conflict", ids[-1])
            assert [one.data["id"] for one in ear.heard] == ids


def test_who_may_no_longer_hear_hears_no_more(colleague: Api, product: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "RIGHTS_SECONDS_BUSY", 0.0)
    demoted, blocked = make_user("demoted", "operator"), make_user("blocked", "operator")
    with Ear(Api(product, demoted)) as demoted_ear, Ear(Api(product, blocked)) as blocked_ear, Ear(colleague) as ear:
        emit("chat.updated", 1)
        for each in (demoted_ear, blocked_ear, ear):
            each.wait("chat.updated", 1)
        demoted.groups.clear()
        User.objects.filter(pk=blocked.pk).update(is_active=False)
        emit("chat.updated", 2)
        ear.wait("chat.updated", 2)
        assert blocked_ear.ended.wait(5)
        emit("booking.created", 3, user=demoted)
        demoted_ear.wait("booking.created", 3)
        assert (demoted_ear.what, blocked_ear.what) == (
            [("chat.updated", 1), ("booking.created", 3)],
            [("chat.updated", 1)],
        )


def test_a_stream_ends_with_the_token_or_the_session_that_opened_it(
    product: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "RIGHTS_SECONDS_IDLE", 0.1)
    user = make_user("colleague", "operator", is_staff=True)
    token = AccessToken.for_user(user)
    token.set_exp(lifetime=timedelta(seconds=2))
    brief = Api(product, Authorization=f"Bearer {token}")
    browser = Client()
    browser.force_login(user)
    session = Api(product)
    session.session.cookies.update({name: morsel.value for name, morsel in browser.cookies.items()})
    with Ear(brief) as by_token, Ear(session) as by_session, Ear(Api(product, user)) as other:
        by_ticket = Ear(Api(product), ticket=brief.post(TICKET).json()["ticket"])
        assert not by_session.ended.is_set()
        browser.logout()
        for ear in (by_token, by_ticket, by_session):
            assert ear.ended.wait(5)
        assert not other.ended.is_set()


# Order, and coming back


def test_whoever_comes_back_misses_nothing_of_late_commits_and_hears_nothing_twice(colleague: Api) -> None:
    """Transactions write their events in one order and commit in the reverse one."""
    count = 6
    written = [threading.Event() for _ in range(count)]
    may_commit = [threading.Event() for _ in range(count)]

    def change(number: int) -> None:
        if number:
            assert written[number - 1].wait(10)
        with transaction.atomic():
            events.emit("chat.updated", number)
            written[number].set()
            assert may_commit[number].wait(10)
        connections.close_all()

    with ThreadPoolExecutor(count) as pool, Ear(colleague) as ear:
        changes = [pool.submit(change, number) for number in range(count)]
        assert written[-1].wait(10)
        for number in reversed(range(count)):
            may_commit[number].set()
            changes[number].result()
            ear.wait("chat.updated", number)  # so the later one is heard before the earlier one can be seen
        heard = ear.heard
    assert [one.data["id"] for one in heard] == list(reversed(range(count)))
    assert [one.id for one in heard] == sorted({one.id for one in heard})
    for place, one in enumerate(heard[:-1]):
        with Ear(colleague, after=one.id) as again:
            again.wait("chat.updated", 0)
            assert again.heard == heard[place + 1 :]


@pytest.mark.parametrize(("in_memory", "page"), [(2000, 100), (5, 3)])
def test_listeners_who_come_and_go_hear_everything_once_while_many_write(
    colleague: Api, monkeypatch: pytest.MonkeyPatch, in_memory: int, page: int
) -> None:
    """From memory, and from the table with each seam between the two crossed."""
    monkeypatch.setattr(stream, "IN_MEMORY", in_memory)
    monkeypatch.setattr(stream, "PAGE", page)
    writers, each = 6, 25
    emit("chat.updated", 0)

    def write(writer: int) -> None:
        dice = random.Random(writer)
        for number in range(each):
            with transaction.atomic():
                events.emit("chat.updated", 1 + writer * each + number)
                time.sleep(dice.random() / 200)
                events.emit("account.updated", 1 + writer * each + number)
        connections.close_all()

    def listen(patience: int) -> list[tuple[int, tuple[str, int]]]:
        heard: list[tuple[int, tuple[str, int]]] = []
        after: int = 0
        while len(heard) < 1 + 2 * writers * each:
            with Ear(colleague, after=after, in_query=bool(patience % 2)) as ear:
                enough = min(patience, 1 + 2 * writers * each - len(heard))
                wait_for(partial(ear.has_heard, enough), 20)
                heard += [(one.id, one.what) for one in ear.heard]
                after = heard[-1][0]
        return heard

    with ThreadPoolExecutor(writers) as pool, ThreadPoolExecutor(4) as ears:
        listening = [ears.submit(listen, patience) for patience in (20, 45, 90, 1000)]
        list(pool.map(write, range(writers)))
        stories = [future.result() for future in listening]
    assert len(stories[0]) == len({what for _id, what in stories[0]}) == 1 + 2 * writers * each
    assert [id for id, _what in stories[0]] == sorted({id for id, _what in stories[0]})
    assert all(story == stories[0] for story in stories)


@pytest.mark.parametrize("unknown", ["0", "999999999999999999", "9" * 40, "-1", "abc", "1.5", "١"])
def test_an_unknown_id_brings_all_that_is_kept_and_none_brings_nothing(colleague: Api, unknown: str) -> None:
    emit("chat.updated", 1, 2, 3)
    with Ear(colleague) as fresh, Ear(colleague, after=unknown.encode().decode("latin-1")) as ear:
        ear.wait("chat.updated", 3)
        emit("chat.updated", 4)
        ear.wait("chat.updated", 4)
        fresh.wait("chat.updated", 4)
        assert [one.data["id"] for one in ear.heard] == [1, 2, 3, 4]
        assert [one.data["id"] for one in fresh.heard] == [4]


def test_events_are_kept_for_more_than_an_hour_and_not_for_ever(
    colleague: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "BATCH", 2)
    emit("chat.updated", 1, 2, 3, 4, 5)
    for ids, age in (((1, 2, 3), timedelta(hours=3)), ((4,), timedelta(minutes=61))):
        Event.objects.filter(object_id__in=ids).update(created_at=timezone.now() - age)
    notification_tasks.sweep_events()
    for _time in range(2):
        notification_tasks.forget_old_events()
        notification_tasks.sweep_events()
    with Ear(colleague, after=0) as ear:
        ear.wait("chat.updated", 5)
        assert [one.data["id"] for one in ear.heard] == [4, 5]


# The way in


def test_a_ticket_opens_one_stream_for_its_owner(colleague: Api, nobody: Api, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    assert_error(nobody.post(TICKET), 401)
    answer = colleague.post(TICKET)
    assert (answer.status_code, answer.json()["expiresIn"]) == (200, 60)
    ticket = answer.json()["ticket"]
    with Ear(nobody, ticket=ticket) as ear:
        emit("chat.updated", 1)
        ear.wait("chat.updated", 1)
        assert_error(knock(nobody, ticket), 401, "token_not_valid")
    assert Ticket.objects.count() == 0
    assert ticket not in "\n".join(record.getMessage() for record in caplog.records)


def test_of_many_who_come_with_one_ticket_one_gets_in(colleague: Api, product: str) -> None:
    ticket = colleague.post(TICKET).json()["ticket"]

    def come(_number: int) -> int:
        return knock(Api(product), ticket).status_code

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(come, range(8))) == [200, *[401] * 7]


def test_a_ticket_is_for_a_minute_and_for_people_who_may_enter(colleague: Api, nobody: Api) -> None:
    late, blocked = (colleague.post(TICKET).json()["ticket"] for _ in range(2))
    row = Ticket.objects.order_by("pk").first()
    assert row is not None
    Ticket.objects.filter(pk=row.pk).update(expires_at=timezone.now())
    assert_error(knock(nobody, late), 401, "token_not_valid")
    User.objects.update(is_active=False)
    assert_error(knock(nobody, blocked), 401, "token_not_valid")
    notification_tasks.forget_old_events()
    assert Ticket.objects.count() == 0


def test_refusals_have_the_one_shape(colleague: Api, nobody: Api, settings: LazySettings) -> None:
    settings.CORS_ALLOWED_ORIGINS = ["https://crm.example"]
    origin = {"Origin": "https://crm.example"}
    refused = nobody.call("GET", EVENTS, headers={"Accept": "text/event-stream", **origin})
    assert_error(refused, 401)
    assert refused.headers["Access-Control-Allow-Origin"] == "https://crm.example"
    for ticket in ("", "x", "я\0" * 50):
        assert_error(knock(nobody, ticket), 401, "token_not_valid")
    assert_error(colleague.call("GET", EVENTS, headers={"Accept": "image/png"}), 406)
    assert_error(colleague.post(EVENTS), 405)
    assert colleague.call("HEAD", EVENTS).status_code == 200  # and no stream


# Streams that last


def test_a_silent_stream_gives_signs_of_life(stranger: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "HEARTBEAT_SECONDS", 0.3)
    with Ear(stranger) as ear:
        for number in range(30):  # what others hear is none
            emit("chat.updated", number)
            time.sleep(0.02)
        wait_for(lambda: ear.comments >= 2)
        assert ear.heard == []


def test_who_does_not_read_is_left_alone_and_holds_up_nobody(
    colleague: Api, product: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "SEND_SECONDS", 0.5)
    message = make_message(make_chat(), text="х" * 100_000)
    address = urlsplit(product)
    with Ear(colleague) as ear, socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.connect((address.hostname, address.port))
        token = str(colleague.session.headers["Authorization"])
        deaf.sendall(raw.head(product, "GET", EVENTS, f"Authorization: {token}"))
        wait_for(lambda: listeners(colleague) == 2)
        for number in range(100):  # 20 MB, far more than sockets hold
            emit("message.updated", message.pk)
            emit("chat.updated", number)
        ear.wait("chat.updated", 99, 20)
        wait_for(lambda: listeners(colleague) == 1)
        assert not ear.ended.is_set()


def test_a_client_that_goes_away_is_forgotten_at_once(colleague: Api, stranger: Api) -> None:
    with Ear(colleague), Ear(stranger):
        assert listeners(colleague) == 2
    wait_for(lambda: listeners(colleague) == 0, 1)
