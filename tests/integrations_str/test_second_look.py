"""What a second pair of eyes has found: rare meetings of two things that are each well by themselves."""

import datetime as dt
import os
import signal
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
import requests
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models.functions import Now
from django.utils import timezone

from avito_accounts.models import Account, Authorization
from integrations_str import bookings, queue, serving, tasks
from integrations_str.models import Booking, Conflict
from notifications.models import Problem
from tests.avito_accounts.test_oauth import CALLBACK, opened
from tests.conftest import Api
from tests.integrations_str.conftest import Home, assert_agrees, integration_of, start_worker, work
from tests.sandbox.driver import ANNA, wait_for


def waiting_for_a_lock(count: int) -> Callable[[], bool]:
    def look() -> bool:
        with connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
            return bool(cursor.fetchone()[0] >= count)

    return look


def at_once(home: Home, *calls: Callable[[], Any], meanwhile: Callable[[], object] = lambda: None) -> list[Any]:
    """What these calls answer when all of them wait for the property, which something happens to before they get it."""
    with ThreadPoolExecutor(len(calls)) as pool:
        with transaction.atomic():
            bookings.lock(home.id)
            answers: list[Future[Any]] = [pool.submit(call) for call in calls]
            wait_for(waiting_for_a_lock(len(calls)), 30)
            meanwhile()
        return [answer.result() for answer in answers]


# Bookings


def test_a_booking_of_an_item_that_was_taken_off_can_be_cancelled_while_another_item_is_connected(home: Home) -> None:
    home.connect_and_push()
    home.avito.book(home.item, home.day(4), home.day(6))
    home.read_now()
    home.api.delete(f"{home.path}/avito")
    home.item = home.avito.make_rent_item()
    home.connect_and_push()
    assert not home.calendar()[home.day(4)]["open"]
    (row,) = home.bookings(source="avito")
    answer = home.api.post(f"/api/v1/str/bookings/{row['id']}/cancel")
    assert answer.status_code == 200, answer.text
    work()
    assert home.calendar()[home.day(4)]["open"]
    assert_agrees(home)


def test_two_changes_that_fit_alone_and_not_together_are_one_change_and_one_refusal(home: Home) -> None:
    path = f"/api/v1/str/bookings/{home.book(10, 12).json()['id']}"
    other = Api(home.api.base, User.objects.get(username="host"))
    answers = at_once(
        home,
        lambda: home.api.put(path, {"checkOut": home.day(11).isoformat()}),
        lambda: other.put(path, {"checkIn": home.day(11).isoformat()}),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 400]


def test_what_comes_for_a_property_that_is_deleted_meanwhile_finds_nothing(home: Home) -> None:
    def delete() -> None:
        from integrations_str.models import Property

        Property.objects.filter(pk=home.id).delete()

    path = f"/api/v1/str/bookings/{home.book(10, 12).json()['id']}"
    host = User.objects.get(username="host")
    one, other = Api(home.api.base, host), Api(home.api.base, host)
    answers = at_once(
        home,
        lambda: home.book(3, 5),
        lambda: one.put(path, {"checkOut": home.day(11).isoformat()}),
        lambda: other.put(f"{home.path}", {"basePrice": 3000}),
        meanwhile=delete,
    )
    assert [answer.status_code for answer in answers] == [404, 404, 404], [answer.text for answer in answers]


def test_guests_written_down_again_are_forgotten_again(home: Home) -> None:
    row = home.book(-400, -398, guestName="Анна").json()
    tasks.forget_old()
    path = f"/api/v1/str/bookings/{row['id']}"
    assert home.api.get(path).json()["guestName"] == ""
    home.api.put(path, {"guestName": "Анна"})
    tasks.forget_old()
    assert home.api.get(path).json()["guestName"] == ""


def test_an_unpaid_guest_who_pays_closes_the_nights_ahead_of_everything(home: Home, settings: LazySettings) -> None:
    settings.AVITO_STR_BOOKINGS_CLOSE_DATES = False
    home.connect_and_push()
    home.api.patch(f"{home.path}/avito", {"holdPending": False})
    made = home.avito.book(home.item, home.day(4), home.day(6), paid=False)
    home.read_now()
    home.avito.pay(made)
    home.tasks.update(pull_at=Now())
    (claim,) = queue.claim(1)
    serving.serve_one(claim)
    assert home.tasks.get().is_closing


# Conflicts


def in_conflict(home: Home) -> None:
    home.connect_and_push()
    assert home.book(4, 6).status_code == 201
    home.avito.book(home.item, home.day(5), home.day(7), force=True)
    home.read_now()
    assert home.api.get("/api/v1/str/conflicts").json()["count"] == 1


def test_a_conflict_that_time_has_passed_over_is_none(home: Home) -> None:
    in_conflict(home)
    Booking.objects.update(check_in=home.day(-6), check_out=home.day(-4))
    Conflict.objects.update(start=home.day(-6), end=home.day(-4))
    tasks.forget_old()
    assert home.api.get("/api/v1/str/conflicts").json()["count"] == 0
    assert not Problem.objects.filter(key__startswith="conflict:", solved_at=None).exists()
    assert "conflict_solved" not in home.news(), "nobody has solved it"


def test_no_trouble_outlives_its_property(home: Home) -> None:
    in_conflict(home)
    home.api.delete(f"{home.path}/avito")
    assert home.api.delete(home.path).status_code == 204
    assert not Problem.objects.filter(solved_at=None).exists()


# What Avito refuses


def test_a_night_that_was_refused_is_there_once_the_whole_year_is_accepted(home: Home) -> None:
    home.set_rate(3, closed=True)
    home.connect_and_push()
    home.avito.rent_fault("status", "intervals", home.item, status=422, times=1)
    home.set_rate(3, closed=None)
    work()
    assert home.calendar()[home.day(3)]["sync"] == "failed"
    home.set_rate(8, closed=True)
    work()
    assert_agrees(home)
    assert home.calendar()[home.day(3)]["sync"] == "synced"
    assert (home.connection()["status"], home.connection()["pendingDays"]) == ("ok", 0)


def test_nights_that_are_taken_close_however_often_avito_refuses_that(home: Home) -> None:
    home.connect_and_push()
    home.avito.switch(home.item, timezone="Pacific/Kiritimati")  # tomorrow already, or at least before the property
    home.avito.shift_clock(hours=12)
    assert home.book(3, 5).status_code == 201
    work()
    assert home.calls("intervals")[-1].status == 422
    assert home.connection()["lastError"]["code"] == "avito_rejected"
    home.avito.switch(home.item, timezone="Europe/Moscow")
    home.avito.shift_clock()
    home.push_again()
    assert_agrees(home)
    assert home.connection()["status"] == "ok"


def test_a_refused_price_is_told_of_as_long_as_it_is_refused(home: Home) -> None:
    home.connect_and_push()
    home.avito.rent_fault("status", "prices", home.item, status=422, times=1)
    home.set_rate(3, price=2500)
    work()
    refused = home.connection()
    assert (refused["status"], refused["lastError"]["code"]) == ("error", "avito_rejected")
    home.set_rate(8, price=2600)
    work()
    assert home.calendar()[home.day(8)]["sync"] == "synced"
    assert home.calendar()[home.day(3)]["sync"] == "failed"
    assert home.connection()["lastError"] == refused["lastError"]
    home.set_rate(3, price=2700)
    work()
    assert home.connection()["status"] == "ok"
    assert_agrees(home)


# How a connection fares


def test_what_waits_for_consent_is_said_to_wait_for_it_also_when_a_night_has_to_close(home: Home) -> None:
    home.avito.switch(home.item, closedRows=True)
    assert home.book(4, 6).status_code == 201
    home.avito.book(home.item, home.day(5), home.day(7), force=True)
    home.connect()
    work()
    assert home.connection()["awaitingConsent"]
    assert home.book(10, 12).status_code == 201
    work()
    home.tasks.update(dirty_since=Now() - dt.timedelta(minutes=5))
    assert home.connection()["lastError"]["code"] == "consent_needed"


def test_who_knows_of_one_trouble_hears_of_a_worse_one(home: Home) -> None:
    assert home.book(4, 6).status_code == 201
    home.avito.book(home.item, home.day(5), home.day(7), force=True)
    home.connect()
    work()
    tasks.watch()
    assert home.news().count("connection_fell") == 1
    Account.objects.update(connection_status="needs_reconnect")
    for _time in range(3):
        tasks.watch()
    assert home.news().count("connection_fell") == 2
    Account.objects.update(connection_status="connected")
    home.api.patch(f"{home.path}/avito", {"consent": True})
    work()
    tasks.watch()
    assert home.news()[-1] == "connection_well"


def test_what_was_given_up_is_not_said_to_come_next(home: Home) -> None:
    home.connect_and_push()
    home.tasks.update(push_at=Now() - dt.timedelta(hours=1), dead_at=Now(), push_error_code="avito_unavailable")
    assert dt.datetime.fromisoformat(home.connection()["nextSyncAt"]) > timezone.now()


# Taking off


def test_of_two_who_disconnect_at_once_the_second_finds_nothing(home: Home) -> None:
    home.connect_and_push()
    home.avito.rent_fault("latency", "intervals", home.item, seconds=1, times=1)
    second = Api(home.api.base, User.objects.get(username="host"))
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(home.api.delete, f"{home.path}/avito?closeSales=true")
        wait_for(lambda: home.calls("intervals"), 30)
        answer = pool.submit(second.delete, f"{home.path}/avito").result()
        assert first.result().status_code == 204
    assert answer.status_code == 404, answer.text


def test_a_year_that_was_closed_by_one_who_died_of_it_opens_again(home: Home) -> None:
    home.connect_and_push()
    home.avito.rent_fault("silence", "intervals", home.item, seconds=20, times=1, apply="before")
    worker = start_worker(
        home.avito,
        "from integrations_str import connecting\nfrom integrations_str.models import Integration\n"
        f"connecting.disconnect(Integration.objects.get(pk={integration_of(home).pk}), close_sales=True)",
    )
    wait_for(lambda: home.calls("intervals"), 30)
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    home.tasks.update(claimed_until=Now() - dt.timedelta(seconds=1))
    home.push_again()
    assert_agrees(home)


# Consent


def test_the_budget_of_calls_is_kept_while_nobody_knows_yet_whose_consent_it_is(
    home: Home, caplog: pytest.LogCaptureFixture
) -> None:
    link = home.api.post(f"{home.path}/avito/authorize").json()["url"]
    given(home, link, NARROW)
    assert "avito_limits_without_redis" not in caplog.text


def given(home: Home, link: str, scopes: list[str]) -> requests.Response:
    """A browser goes to Avito and comes back."""
    browser = Api(home.api.base)
    state = opened(browser, link)
    code = home.avito.control("POST", "/authorize", sellerId=ANNA, scopes=scopes)["code"]
    return browser.get(CALLBACK, state=state, code=code)


NARROW = ["user:read", "short_term_rent:read", "short_term_rent:write"]


@pytest.mark.parametrize("flagged", [True, False])
def test_a_consent_replaces_what_avito_no_longer_takes_whatever_that_was_for(home: Home, flagged: bool) -> None:
    home.connect_and_push()
    if flagged:
        Account.objects.update(connection_status="needs_reconnect", connection_error_code="token_expired")
    before = Authorization.objects.get(account=home.account)
    assert not set(before.scopes) <= set(NARROW)
    link = home.api.post(f"{home.path}/avito/reconnect").json()["url"]
    answer = given(home, link, NARROW)
    assert "success" in answer.text + answer.headers.get("Location", ""), answer.text
    after = Authorization.objects.get(account=home.account)
    assert (after.access_token != before.access_token) is flagged
    assert home.connection()["status"] != "needs_reconnect"


def test_the_consent_of_somebody_who_was_locked_out_counts_for_nothing(home: Home, host: User) -> None:
    link = home.api.post(f"{home.path}/avito/authorize").json()["url"]
    browser = Api(home.api.base)
    state = opened(browser, link)
    code = home.avito.control("POST", "/authorize", sellerId=ANNA, scopes=NARROW)["code"]
    User.objects.filter(pk=host.pk).update(is_active=False)
    answer = browser.get(CALLBACK, state=state, code=code)
    assert "code=invalid_state" in answer.headers["Location"]
