"""What a channel manager is certified for, through our API, with Avito's journal counting the calls."""

import datetime as dt
from collections import defaultdict
from collections.abc import Callable
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import time_machine
from django.conf import LazySettings
from django.contrib.auth.models import User

from avito_accounts import limits
from avito_accounts.models import Account
from integrations_str.models import Booking, BookingRevision, Property
from tests.conftest import Api
from tests.factories import authorize
from tests.integrations_str.conftest import (
    Home,
    assert_agrees,
    first_writes,
    in_both_dialects,
    make_connected,
    make_home,
    work,
)
from tests.sandbox.driver import ALL_SCOPES, ANNA, Sandbox


def dated(home: Home, first: int, last: int | None = None, **values: Any) -> dict[str, Any]:
    """A range of rates, both ends included, by the distance from today."""
    last = first if last is None else last
    return {"from": home.day(first).isoformat(), "to": home.day(last).isoformat(), **values}


def sent_prices(home: Home) -> list[tuple[dt.date, dt.date, int, int]]:
    """The ranges of the one call that has sent prices."""
    (call,) = home.calls("prices")
    dates = dt.date.fromisoformat
    return [
        (dates(one["date_from"]), dates(one["date_to"]), one["night_price"], one["minimal_duration"])
        for one in call.body["prices"]
    ]


@in_both_dialects
def test_connecting_reads_the_bookings_and_then_writes_the_year_once(home: Home) -> None:
    home.set_rate(5, 9, price=3000)
    home.set_rate(20, 29, closed=True)
    home.set_rate(40, 60, minStay=3)
    for week in range(12, 40):
        home.set_rate(7 * week + 5, 7 * week + 6, price=2500 + week)
    home.avito.book(home.item, home.day(70), home.day(75))
    home.connect()
    assert [call.kind for call in home.avito.rent_calls(home.item)] == ["reads"]
    work()
    kinds = [call.kind for call in home.avito.rent_calls(home.item)]
    assert kinds.index("reads") == 0
    assert kinds.count("reads") == 1
    assert sorted(home.writes()) == first_writes()
    assert_agrees(home)
    assert home.connection()["status"] == "ok"
    home.avito.forget_rent_calls()
    assert home.api.post(f"{home.path}/avito/sync").status_code == 202
    work()
    assert home.writes() == []


@in_both_dialects
def test_a_saved_change_is_one_call_of_its_kind_and_no_other(home: Home) -> None:
    def three_overlapping_ranges() -> None:
        home.set_rates(
            dated(home, 30, 39, price=4000), dated(home, 39, 45, price=4100), dated(home, 30, 49, price=4200)
        )

    def forty_edits() -> None:
        for number in range(40):
            home.set_rate(100 + number % 7, price=5000 + number)

    def min_stay_and_closed() -> None:
        home.set_rates(
            dated(home, 200, 210, minStay=1),
            dated(home, 205, 215, minStay=6),
            dated(home, 212, 214, minStay=2, closed=True),
            dated(home, 216, 220, minStay=10),
        )

    changes: list[tuple[Callable[[], object], dict[str, int]]] = [
        (lambda: home.set_rate(7, price=333), {"prices": 1}),
        (lambda: home.set_rates(*(dated(home, day, price=3000 + day) for day in (11, 13, 17))), {"prices": 1}),
        (three_overlapping_ranges, {"prices": 1}),
        (lambda: home.set_rates(*(dated(home, 60 + stay, minStay=stay) for stay in (3, 2, 5))), {"prices": 1}),
        (lambda: home.set_rates(*(dated(home, day, closed=True) for day in (80, 85, 90))), {"intervals": 1}),
        (min_stay_and_closed, {"prices": 1, "intervals": 1}),
        (lambda: home.set_rate(120, 300, price=3333, minStay=4), {"prices": 1}),
        (forty_edits, {"prices": 1}),
        (lambda: home.book(50, 51), {"intervals": 1}),
        (lambda: home.set_rates(dated(home, 80, 86, closed=True), dated(home, 87, 94, closed=False)), {"intervals": 1}),
    ]
    home.connect_and_push()
    ranges = []
    for number, (change, calls) in enumerate(changes):
        home.avito.forget_rent_calls()
        change()
        work()
        writes = home.writes()
        assert {kind: writes.count(kind) for kind in writes} == calls, f"change {number}: {writes}"
        assert_agrees(home)
        ranges.append(sent_prices(home) if "prices" in calls else [])
    marked_up = [round(price * 1.15) for price in (333, 3011, 3013, 3017, 4200)]
    assert ranges[0] == [(home.day(7), home.day(7), marked_up[0], 1)]
    assert ranges[1] == [(home.day(11 + at), home.day(11 + at), marked_up[1 + n], 1) for n, at in enumerate((0, 2, 6))]
    assert ranges[2] == [(home.day(30), home.day(49), marked_up[4], 1)]
    assert [(first, stay) for first, _last, _price, stay in ranges[3]] == [(home.day(60 + n), n) for n in (2, 3, 5)]
    assert [stay for *_range, stay in ranges[5]] == [6, 2, 6, 10]
    assert len(ranges[6]) == 1
    assert len(ranges[7]) == 7


def test_a_night_sold_by_hand_closes_before_any_price_leaves(home: Home) -> None:
    home.connect_and_push()
    home.set_rate(10, 20, price=2500)
    assert home.book(30, 31).status_code == 201
    work()
    assert home.writes() == ["intervals", "prices"]
    (call,) = home.calls("intervals")
    spans = [(one["date_start"], one["date_end"]) for one in call.body["intervals"]]
    assert spans == [
        (home.today.isoformat(), home.day(30).isoformat()),
        (home.day(31).isoformat(), home.day(365).isoformat()),
    ]
    assert {one["open"] for one in call.body["intervals"]} == {1}
    assert_agrees(home)


@in_both_dialects
def test_a_booking_of_avitos_is_followed_through_its_life_in_one_row(home: Home) -> None:
    home.connect_and_push()
    guest = home.avito.book(home.item, home.day(10), home.day(13), name="Мария")
    home.read_now()
    (row,) = home.bookings()
    assert (row["checkIn"], row["status"], row["guestName"]) == (home.day(10).isoformat(), "confirmed", "Мария")
    assert home.writes() == [], "Avito has closed the nights by itself"
    assert_agrees(home)

    home.avito.move(guest, home.day(12), home.day(15))
    home.read_now()
    assert home.bookings()[0]["id"] == row["id"]
    assert home.bookings()[0]["checkOut"] == home.day(15).isoformat()
    assert_agrees(home)

    home.avito.switch(home.item, cancellationReopens=False)
    home.avito.forget_rent_calls()
    home.avito.cancel(guest)
    home.read_now()
    assert [(one["id"], one["status"]) for one in home.bookings()] == [(row["id"], "cancelled")]
    assert home.writes() == ["intervals"]
    assert_agrees(home)

    home.avito.forget_rent_calls()
    for _ in range(3):
        home.read_now()
    assert home.writes() == []
    assert home.news() == ["booking_new", "booking_moved", "booking_gone"]
    assert BookingRevision.objects.filter(booking=row["id"]).count() == 3
    assert Booking.objects.get().raw_status == "canceled"


def test_a_row_that_makes_no_sense_is_put_aside_once_and_the_others_are_imported(home: Home) -> None:
    home.connect_and_push()
    home.avito.book(home.item, home.day(20), home.day(22))
    home.avito.raw_row(
        home.item,
        {
            "avito_booking_id": 77,
            "status": "active",
            "check_in": home.day(9).isoformat(),
            "check_out": home.day(9).isoformat(),
            "contact": {"name": "Пётр", "email": "p@example.com"},
        },
    )
    home.avito.book(home.item, home.day(30), home.day(32))
    for _ in range(4):
        home.read_now()
    assert {one["checkIn"] for one in home.bookings()} == {home.day(20).isoformat(), home.day(30).isoformat()}
    assert sorted(home.news()) == ["booking_new", "booking_new", "booking_unreadable"]
    assert_agrees(home)


def test_a_change_that_avito_refuses_twice_is_sent_three_times_with_the_latest_values(home: Home) -> None:
    home.connect_and_push()
    home.avito.rent_fault("status", "prices", home.item, status=503, times=2)
    home.set_rate(10, price=2500)
    work()
    home.set_rate(10, price=2600)
    home.push_again()
    home.set_rate(11, price=2700)
    home.push_again()
    assert [len(call.body["prices"]) for call in home.calls("prices")] == [1, 1, 2]
    assert home.calls("prices")[-1].body["prices"][0]["night_price"] == 2990
    for _ in range(3):
        home.read_now()
    assert home.writes() == ["prices"] * 3
    assert_agrees(home)
    assert [row["attempt"] for row in home.api.get(f"{home.path}/avito/log").json()["results"][:3]] == [3, 2, 1]


def test_a_connection_that_avito_ends_rests_and_goes_on_by_itself_once_it_is_renewed(home: Home) -> None:
    home.connect_and_push()
    home.avito.control("POST", "/tokens/revoke", sellerId=ANNA)
    home.set_rate(10, price=2500)
    work()
    assert home.connection()["status"] == "needs_reconnect"
    assert home.connection()["lastError"]["code"] == "token_expired"
    home.avito.forget_rent_calls()
    home.set_rate(11, price=2600)
    home.tasks.update(pull_at=dt.datetime.now(dt.UTC))
    for _ in range(3):
        home.push_again()
    assert home.avito.rent_calls() == [], "nobody asks with dead tokens"
    pair = home.avito.tokens(ANNA, ALL_SCOPES)
    authorize(home.account, access_token=pair["access_token"], refresh_token=pair["refresh_token"])
    home.push_again()
    assert home.writes() == ["prices"], "what Avito has acknowledged before is not sent again"
    assert_agrees(home)
    assert home.connection()["status"] == "ok"


def test_many_items_changed_at_once_stay_within_the_budget(
    product: str, avito_sandbox: Sandbox, anna: Account, host: User, settings: LazySettings, monkeypatch: Any
) -> None:
    homes = make_connected(product, avito_sandbox, anna, host, 30)
    settings.AVITO_RATE_LIMIT_PER_MINUTE = 20
    monkeypatch.setattr(limits.shared, "window_seconds", 1.0)
    limits.reset()
    avito_sandbox.switch(callsPerMinute=20, limitWindowSeconds=1.0)
    for home in homes:
        home.set_rate(10, price=2500)
    assert homes[-1].book(40, 42).status_code == 201
    for _ in range(50):
        for home in homes:
            home.tasks.filter(push_at__isnull=False).update(push_at=dt.datetime.now(dt.UTC))
        work()
        if not any(home.tasks.filter(push_at__isnull=False) for home in homes):
            break
    calls = avito_sandbox.rent_calls()
    assert {call.status for call in calls} == {200}
    assert sorted(call.kind for call in calls) == ["intervals", *["prices"] * 30]
    assert calls[0].kind == "intervals"


def test_nothing_is_written_while_nothing_changes(home: Home) -> None:
    home.connect_and_push()
    for _ in range(5):
        home.read_now()
    assert home.writes() == []


@in_both_dialects
def test_at_night_the_year_moves_on_with_one_call_of_each_kind_spread_over_the_hours(
    product: str, avito_sandbox: Sandbox, anna: Account, host: User
) -> None:
    homes = make_connected(product, avito_sandbox, anna, host, 4)
    home = homes[0]
    for one in homes[1:]:
        one.set_rate(3, 5, price=2500)
    work()
    midnight = dt.datetime.combine(home.day(1), dt.time(), ZoneInfo("Europe/Moscow"))
    hours: defaultdict[int, set[int]] = defaultdict(set)
    avito_sandbox.forget_rent_calls()
    for hour in range(-1, 7):
        with time_machine.travel(midnight + dt.timedelta(hours=hour, minutes=5)):
            for one in homes:
                one.read_now()
            for one in homes:
                if one.writes() and not any(one.item in found for found in hours.values()):
                    hours[hour].add(one.item)
    assert not hours.keys() & {-1}
    assert len(hours) > 1, f"all at once: {hours}"
    with time_machine.travel(midnight + dt.timedelta(hours=12)):
        for one in homes:
            assert sorted(one.writes()) == ["intervals", "prices"]
            (call,) = one.calls("intervals")
            assert call.body["intervals"][0]["date_start"] == one.today.isoformat()
            assert sent_prices(one) == [(one.day(364), one.day(364), 2300, 1)]
            one.api = Api(product, host)
            assert_agrees(one)


@pytest.mark.parametrize(
    ("zone", "avitos_zone", "day"),
    [
        ("Europe/Kaliningrad", "Europe/Kaliningrad", "property"),
        ("Europe/Kaliningrad", "Europe/Moscow", "latest"),
        ("Asia/Kamchatka", "Asia/Kamchatka", "property"),
        ("Asia/Kamchatka", "Europe/Moscow", "property"),
    ],
)
def test_what_waits_over_midnight_where_the_property_stands_is_cut_to_the_new_day(
    product: str,
    avito_sandbox: Sandbox,
    anna: Account,
    host: User,
    settings: LazySettings,
    zone: str,
    avitos_zone: str,
    day: str,
) -> None:
    settings.AVITO_STR_DAY = day
    tomorrow = dt.datetime.now(ZoneInfo(zone)).date() + dt.timedelta(days=1)
    midnight = dt.datetime.combine(tomorrow, dt.time(), ZoneInfo(zone))
    with time_machine.travel(midnight - dt.timedelta(minutes=10)):
        home = make_home(product, avito_sandbox, anna, host, timezone=zone)
        avito_sandbox.switch(home.item, timezone=avitos_zone)
        home.connect_and_push()
        home.set_rate(0, 9, price=2500)
        home.set_rate(0, 1, closed=True)
        home.set_rate(20, price=2600)
        assert Property.objects.get().today() == tomorrow - dt.timedelta(days=1)
    with time_machine.travel(midnight + dt.timedelta(minutes=10)):
        home.push_again()
        assert {call.status for call in home.avito.rent_calls(home.item)} == {200}
        assert [span[:2] for span in sent_prices(home)] == [(tomorrow, home.day(8)), (home.day(19), home.day(19))]
        (call,) = home.calls("intervals")
        assert call.body["intervals"][0]["date_start"] == home.day(1).isoformat()
        assert {one["sync"] for one in home.calendar(60).values()} == {"synced"}
