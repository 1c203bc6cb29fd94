"""What goes to Avito: only what differs, as it is when it is sent, and never more than was meant."""

import datetime as dt
import threading
from decimal import ROUND_HALF_UP, Decimal

import pytest
from django.db import connection

from tests.integrations_str.conftest import Home, assert_agrees, in_both_dialects, work
from tests.sandbox.driver import wait_for


def serve() -> None:
    """A worker in a thread of its own."""
    work()
    connection.close()


def touched_nights(home: Home) -> set[dt.date]:
    """Nights to which a price was sent."""
    nights = set()
    for call in home.calls("prices"):
        for one in call.body["prices"]:
            first, last = dt.date.fromisoformat(one["date_from"]), dt.date.fromisoformat(one["date_to"])
            nights |= {first + dt.timedelta(days=number) for number in range((last - first).days + 1)}
    return nights


def test_a_change_and_its_undoing_are_no_call(home: Home) -> None:
    home.set_rate(3, price=2100, minStay=2)
    home.connect_and_push()
    home.set_rate(3, price=2500)
    home.set_rate(9, closed=True)
    home.book(20, 22)
    booking = home.bookings()[0]
    home.set_rate(3, price=2100)
    home.set_rate(9, closed=None)
    assert home.api.post(f"/api/v1/str/bookings/{booking['id']}/cancel").status_code == 200
    assert home.connection()["pendingDays"] == 0
    work()
    assert home.writes() == []
    assert home.connection()["status"] == "ok"


@in_both_dialects
@pytest.mark.parametrize("kind", ["prices", "intervals"])
def test_an_edit_while_the_same_item_is_being_sent_goes_out_next(home: Home, kind: str) -> None:
    def edit(number: int) -> None:
        home.set_rate(7, price=2500 + number, closed=number == 1)

    home.connect_and_push()
    home.avito.rent_fault("latency", kind, home.item, seconds=0.7, times=1, apply="before")
    edit(1)

    worker = threading.Thread(target=serve)
    worker.start()
    wait_for(lambda: home.calls(kind), 20)
    edit(2)
    assert home.calendar(10)[home.day(7)]["sync"] == "pending"
    worker.join()
    work()
    assert len(home.calls(kind)) == 2
    assert_agrees(home)
    assert home.connection()["status"] == "ok"


def test_nights_are_sold_again_on_the_day_of_check_out(home: Home) -> None:
    home.connect_and_push()
    assert home.book(4, 6).status_code == 201
    assert home.book(6, 9).status_code == 201
    work()
    (call,) = home.calls("intervals")
    assert [(one["date_start"], one["date_end"]) for one in call.body["intervals"]] == [
        (home.today.isoformat(), home.day(4).isoformat()),
        (home.day(9).isoformat(), home.day(365).isoformat()),
    ]
    assert_agrees(home)


@in_both_dialects
def test_the_whole_year_closes_only_when_every_night_of_it_is_meant_to(home: Home) -> None:
    home.connect_and_push()
    home.set_rate(0, 364, closed=True)
    assert home.api.get(f"{home.path}/avito/preview").json()["closesAll"] is True
    work()
    assert [call.body["intervals"] for call in home.calls("intervals")] == [[]]
    assert home.api.get(f"{home.path}/avito/log").json()["results"][0]["action"] == "close_all"
    assert_agrees(home)
    home.set_rate(50, closed=False)
    work()
    assert len(home.calls("intervals")[-1].body["intervals"]) == 1
    assert_agrees(home)


@in_both_dialects
@pytest.mark.parametrize("omitted", ["keep", "clear"])
def test_a_new_price_keeps_the_minimum_stay_that_avito_has(home: Home, omitted: str) -> None:
    home.avito.switch(home.item, minimalDurationOmitted=omitted)
    home.set_rate(5, 9, minStay=4)
    home.connect_and_push()
    home.set_rate(5, 9, price=2500)
    work()
    assert home.writes() == ["prices"]
    assert_agrees(home)
    assert {home.avito.calendar(home.item)[home.day(number)].minimal_duration for number in range(5, 10)} == {4}


def test_no_price_is_sent_over_nights_of_an_unpaid_booking_until_it_is_paid(home: Home) -> None:
    home.connect_and_push()
    guest = home.avito.book(home.item, home.day(10), home.day(13), paid=False)
    home.read_now()
    unpaid = {home.day(number) for number in (10, 11, 12)}
    home.set_rate(8, 14, price=2500)
    assert home.api.patch(f"{home.path}/avito", {"markupPercent": 20}).status_code == 200
    work()
    assert touched_nights(home)
    assert not touched_nights(home) & unpaid
    assert home.avito.rent_item(home.item)["bookings"][0]["status"] == "pending", "not thrown out"
    assert {home.calendar()[day]["sync"] for day in unpaid} == {"pending"}
    assert home.connection()["pendingDays"] == 3
    home.avito.pay(guest)
    home.read_now()
    assert touched_nights(home) > unpaid
    assert home.avito.rent_item(home.item)["bookings"][0]["status"] == "active"
    assert_agrees(home)


def test_a_removed_override_sends_the_base_price(home: Home) -> None:
    home.set_rate(5, 9, price=3000, minStay=3)
    home.connect_and_push()
    home.set_rate(5, 9, price=None, minStay=None)
    work()
    (call,) = home.calls("prices")
    assert [(one["night_price"], one["minimal_duration"]) for one in call.body["prices"]] == [(2300, 1)]
    assert touched_nights(home) == {home.day(number) for number in range(5, 10)}
    assert_agrees(home)


@in_both_dialects
def test_another_markup_prices_every_night_ahead_anew_in_one_call(home: Home) -> None:
    home.api.put(home.path, {"basePrice": 1990})
    home.set_rate(5, 9, price=3330)
    home.connect_and_push()
    preview = home.api.get(f"{home.path}/avito/preview", markupPercent=17.5).json()
    assert preview["changedDays"] == 365
    home.api.patch(f"{home.path}/avito", {"markupPercent": 17.5})
    work()
    assert home.calls("intervals") == []
    assert len(home.calls("prices")) == 1
    half_up = [int((Decimal(price) * Decimal("1.175")).quantize(1, ROUND_HALF_UP)) for price in (1990, 3330)]
    assert sorted({one["night_price"] for one in home.calls("prices")[0].body["prices"]}) == half_up
    assert [preview["channelPrices"]["min"], preview["channelPrices"]["max"]] == half_up
    assert_agrees(home)


@in_both_dialects
@pytest.mark.parametrize(("status", "code"), [(404, "avito_not_found"), (403, "avito_forbidden")])
def test_an_item_out_of_reach_gets_no_writes_and_comes_back_by_itself(home: Home, status: int, code: str) -> None:
    home.connect_and_push()
    home.avito.rent_fault("status", None, home.item, status=status)
    home.set_rate(10, price=2500)
    work()
    assert home.connection()["status"] == "item_unavailable"
    assert home.connection()["lastError"]["code"] == code
    assert home.writes() == ["prices"]
    home.set_rate(11, price=2600)
    work()
    assert home.writes() == ["prices"], "not tried again at once"
    home.read_now()
    home.book(20, 22)
    for _ in range(2):
        home.push_again()
        home.read_now()
    assert home.writes() == ["prices"], "nothing is sent while not even the bookings can be read"
    assert home.connection()["status"] == "item_unavailable"
    home.avito.control("DELETE", "/faults")
    home.read_now()
    home.push_again()
    assert_agrees(home)
    assert home.connection()["status"] == "ok"


def test_a_paused_connection_makes_no_call_and_keeps_its_edits(home: Home) -> None:
    home.connect_and_push()
    assert home.api.patch(f"{home.path}/avito", {"isActive": False}).json()["status"] == "off"
    home.set_rate(10, 12, price=2500)
    home.book(20, 22)
    home.api.post(f"{home.path}/avito/sync")
    for _ in range(3):
        home.push_again()
        home.read_now()
    assert home.avito.rent_calls() == []
    assert {day["sync"] for day in home.calendar().values()} == {"off"}
    home.api.patch(f"{home.path}/avito", {"isActive": True})
    work()
    assert sorted(home.writes()) == ["intervals", "prices"]
    assert next(call.kind for call in home.avito.rent_calls(home.item)) == "intervals"
    assert_agrees(home)


def test_a_pause_in_the_middle_of_a_push_lets_no_further_call_out(home: Home) -> None:
    home.set_rate(10, closed=True)
    home.connect_and_push()
    home.avito.rent_fault("latency", "prices", home.item, seconds=0.7, times=1)
    home.set_rate(10, price=2500, closed=None)
    worker = threading.Thread(target=serve)
    worker.start()
    wait_for(lambda: home.calls("prices"), 20)
    home.api.patch(f"{home.path}/avito", {"isActive": False})
    worker.join()
    assert home.writes() == ["prices"]
    home.api.patch(f"{home.path}/avito", {"isActive": True})
    work()
    assert home.calls("intervals")
    assert_agrees(home)
