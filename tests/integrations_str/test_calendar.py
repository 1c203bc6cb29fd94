"""The arithmetic of calendars by itself: what a night costs and whether it is sold, and how Avito is told."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from avito.rent import YEAR_DAYS, FreeInterval, PriceRange
from integrations_str.calendar import (
    COLD_CLOSED_DAYS,
    UNKNOWN,
    Acked,
    Book,
    Claim,
    Day,
    EmptyCalendar,
    Rate,
    Reason,
    Traffic,
    backoff_seconds,
    changes,
    channel_price,
    date_ranges,
    free_intervals,
    overlaps,
    price_ranges,
    span,
    sync_state,
    tier,
    wanted_days,
)

patient = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
"""A busy machine is no failure."""
TODAY = date(2026, 3, 1)
MARKUP = Decimal(15)


def on(number: int) -> date:
    """So many days from today."""
    return TODAY + timedelta(number)


def a_day(number: int, price: int = 2300, min_stay: int = 1, reason: Any = None, **more: Any) -> Day:
    return Day(on(number), price, price, min_stay, reason, **more)


def has(day: Day, **more: Any) -> Acked:
    """What Avito has if it has this day."""
    return Acked(price=day.channel_price, min_stay=day.min_stay, is_open=day.is_open, **more)


def wanted(book: Book, days: int = 10, markup: Decimal = Decimal(0)) -> list[Day]:
    return wanted_days(book, markup, TODAY, on(days), today=TODAY)


# Avito's own reading of what it is sent, written anew from its document


def prices_at_avito(ranges: Iterable[PriceRange]) -> dict[date, tuple[int | None, int | None]]:
    """`date_to` is a date of the range itself."""
    return {
        date.fromordinal(number): (one.night_price, one.min_stay)
        for one in ranges
        for number in range(one.first.toordinal(), one.last.toordinal() + 1)
    }


def open_at_avito(intervals: Iterable[FreeInterval]) -> set[date]:
    """`date_end` is the first date that is not meant."""
    return {
        date.fromordinal(number) for one in intervals for number in range(one.start.toordinal(), one.end.toordinal())
    }


DAYS = st.dictionaries(
    st.integers(0, YEAR_DAYS + 5),
    st.tuples(
        st.sampled_from((1, 2300, 2301)),
        st.sampled_from((1, 2, 30)),
        st.sampled_from((None, None, "booking", "closed", "pending_booking", "past")),
    ),
    max_size=30,
).map(lambda known: [a_day(number, *said) for number, said in known.items()])
"""Any days in any order, with gaps between them, the first and the last of the year among them."""


@patient
@given(DAYS)
def test_prices_that_avito_reads_from_ranges_are_the_days_prices(days: list[Day]) -> None:
    assert prices_at_avito(price_ranges(days)) == {day.date: (day.channel_price, day.min_stay) for day in days}


@patient
@given(DAYS)
def test_price_ranges_are_in_order_apart_and_as_few_as_can_be(days: list[Day]) -> None:
    ranges = price_ranges(days)
    assert all(one.first <= one.last for one in ranges)
    for one, after in pairwise(ranges):
        assert one.last < after.first
        touch = one.last + timedelta(1) == after.first
        assert not touch or (one.night_price, one.min_stay) != (after.night_price, after.min_stay)


@patient
@given(DAYS)
def test_nights_that_avito_reads_as_free_are_the_open_days(days: list[Day]) -> None:
    free = free_intervals(days, closes_all=True)
    assert open_at_avito(free) == {day.date for day in days if day.is_open}


@patient
@given(DAYS)
def test_intervals_are_in_order_never_touch_and_each_has_a_night_to_sell(days: list[Day]) -> None:
    free = free_intervals(days, closes_all=True)
    assert all(one.start < one.end and one.open == 1 for one in free)
    assert all(one.end < after.start for one, after in pairwise(free))


@patient
@given(DAYS)
def test_a_year_is_never_closed_by_accident(days: list[Day]) -> None:
    if any(day.is_open for day in days):
        assert free_intervals(days)
    else:
        with pytest.raises(EmptyCalendar):
            free_intervals(days)
        assert free_intervals(days, closes_all=True) == []


def test_an_empty_reading_of_ones_own_calendar_does_not_close_the_year() -> None:
    with pytest.raises(EmptyCalendar):
        free_intervals([])


def test_a_booking_leaves_the_day_of_its_check_out_for_sale() -> None:
    days = wanted(Book(2000, 1, held=dict.fromkeys(span(on(3), on(5)), "booking")))
    assert free_intervals(days) == [FreeInterval(on(0), on(3)), FreeInterval(on(5), on(10))]
    assert days[3].reason == days[4].reason == "booking"
    assert days[5].is_open


def test_one_night_is_a_price_of_one_date_and_an_interval_of_two() -> None:
    assert price_ranges([a_day(3)]) == [PriceRange(on(3), on(3), 2300, 1)]
    assert free_intervals([a_day(3)]) == [FreeInterval(on(3), on(4))]


@patient
@given(st.sets(st.integers(0, 60)))
def test_ranges_of_dates_are_half_open_in_order_and_as_few_as_can_be(numbers: set[int]) -> None:
    ranges = date_ranges(on(number) for number in numbers)
    assert [day for start, end in ranges for day in span(start, end)] == [on(number) for number in sorted(numbers)]
    assert all(end < after for (_start, end), (after, _end) in pairwise(ranges))


# What a night should be


def test_a_night_is_as_its_rate_says_and_else_as_the_property() -> None:
    rates = {on(1): Rate(price=3000), on(2): Rate(min_stay=5), on(3): Rate(closed=True), on(4): Rate(closed=False)}
    days = wanted(Book(2000, 2, rates), markup=MARKUP)
    assert [(day.price, day.channel_price, day.min_stay, day.reason) for day in days[:5]] == [
        (2000, 2300, 2, None),
        (3000, 3450, 2, None),
        (2000, 2300, 5, None),
        (2000, 2300, 2, "closed"),
        (2000, 2300, 2, None),
    ]


def test_a_night_is_closed_by_the_past_before_a_booking_before_its_owner() -> None:
    book = Book(2000, 1, {on(day): Rate(closed=True) for day in range(4)}, {on(0): "booking", on(2): "pending_booking"})
    days = wanted_days(book, MARKUP, TODAY, on(4), today=on(1))
    assert [day.reason for day in days] == ["past", "closed", "pending_booking", "closed"]


def test_after_midnight_the_past_is_gone_and_what_was_to_come_is_not() -> None:
    book = Book(2000, 1, {on(day): Rate(price=3000) for day in range(5)})
    today = wanted_days(book, MARKUP, on(1), on(1 + YEAR_DAYS), today=on(1))
    assert price_ranges(today)[0] == PriceRange(on(1), on(4), 3450, 1)
    assert free_intervals(today) == [FreeInterval(on(1), on(1 + YEAR_DAYS))]


def test_a_new_day_is_one_day_more_to_send() -> None:
    book, markup = Book(2000, 1), MARKUP
    known = {day.date: has(day) for day in wanted_days(book, markup, TODAY, on(YEAR_DAYS), today=TODAY)}
    found = changes(wanted_days(book, markup, on(1), on(1 + YEAR_DAYS), today=on(1)), known)
    assert [day.date for day in found.prices] == [day.date for day in found.opens] == [on(YEAR_DAYS)]


@pytest.mark.parametrize(
    ("price", "markup", "channel"),
    [
        (1990, "15", 2289),  # 2288.50
        (100, "0.49", 100),
        (100, "0.50", 101),
        (100, "0.51", 101),
        (100, "1.49", 101),
        (100, "1.50", 102),  # up again: not to the even one
        (100, "1.51", 102),
        (1, "0.50", 1),
        (3, "-50", 2),  # 1.5
        (1990, "-5", 1891),  # 1890.5
        (2000, "-90", 200),
        (2000, "300", 8000),
        (4, "-90", 1),  # 0.4, but nothing is given away
        (1, "-90", 1),
        (100_000_000, "300", 400_000_000),
        (2000, "0", 2000),
        (110, "15", 127),  # 126.5, where floats have 126.49999999999999
    ],
)
def test_the_markup_is_rounded_half_up_to_whole_roubles_and_never_below_one(
    price: int, markup: str, channel: int
) -> None:
    assert channel_price(price, Decimal(markup)) == channel


@patient
@given(st.integers(1, 10**8), st.decimals(-90, 300, places=2))
def test_a_channel_price_is_within_half_a_rouble(price: int, markup: Decimal) -> None:
    exact = Decimal(price) * (100 + markup) / 100
    found = channel_price(price, markup)
    assert found >= 1
    assert Decimal("-0.5") < found - exact <= Decimal("0.5") or found == 1


def test_another_markup_reprices_every_day_to_come_in_one_call() -> None:
    book = Book(2000, 1, {on(3): Rate(price=3000)})
    known = {day.date: has(day) for day in wanted(book, YEAR_DAYS, Decimal(15))}
    found = changes(wanted(book, YEAR_DAYS, Decimal(20)), known)
    assert len(found.prices) == YEAR_DAYS
    assert not found.opens
    assert [one.night_price for one in price_ranges(found.prices)] == [2400, 3600, 2400]


# What Avito has to hear


def test_nothing_is_sent_where_nothing_differs() -> None:
    days = [a_day(0), a_day(1, reason="booking"), a_day(2, price_waits=True)]
    found = changes(days, {day.date: has(day) for day in days})
    assert (found.prices, found.opens, found.left, found.days) == ((), (), (), set())


def test_what_is_not_known_is_sent() -> None:
    day = a_day(0)
    assert changes([day], {}).prices == changes([day], {}).opens == (day,)
    for unknown in ("price", "min_stay"):
        found = changes([day], {day.date: replace(has(day), **{unknown: None})})
        assert (found.prices, found.opens) == ((day,), ())
    found = changes([day], {day.date: replace(has(day), is_open=None)})
    assert (found.prices, found.opens) == ((), (day,))
    assert sync_state(day, UNKNOWN) == "pending"


def test_an_override_taken_away_sends_the_propertys_own_price() -> None:
    known = {day.date: has(day) for day in wanted(Book(2000, 1, {on(4): Rate(price=3000, min_stay=3)}))}
    found = changes(wanted(Book(2000, 1)), known)
    assert price_ranges(found.prices) == [PriceRange(on(4), on(4), 2000, 1)]


def test_a_price_never_goes_out_without_its_minimum_stay() -> None:
    """Whether a price alone clears the minimum at Avito is not documented."""
    known = {day.date: has(day) for day in wanted(Book(2000, 4))}
    found = changes(wanted(Book(2100, 4)), known)
    assert {(one.night_price, one.min_stay) for one in price_ranges(found.prices)} == {(2100, 4)}


def test_a_price_waits_for_a_guest_who_has_not_paid_while_the_night_closes_at_once() -> None:
    held: Mapping[date, Literal["pending_booking"]] = {on(2): "pending_booking"}
    known = {day.date: has(day) for day in wanted(Book(2000, 1))}
    found = changes(wanted(Book(2500, 1, held=held, unpaid={on(2), on(3)})), known)
    assert {on(2), on(3)}.isdisjoint(day.date for day in found.prices)
    assert found.left == (on(2), on(3))
    assert [day.date for day in found.opens] == [on(2)]
    assert found.closes
    assert price_ranges(changes(wanted(Book(2500, 1)), {day.date: has(day) for day in wanted(Book(2000, 1))}).prices)


@pytest.mark.parametrize("differs", [{"price": 2400}, {"min_stay": 2}])
def test_what_was_refused_waits_until_something_else_is_wanted(differs: dict[str, Any]) -> None:
    day = a_day(0)
    refused = {day.date: Acked(is_open=True, refused_price=day.channel_price, refused_min_stay=day.min_stay)}
    assert (changes([day], refused).prices, changes([day], refused).left) == ((), (day.date,))
    assert sync_state(day, refused[day.date]) == "failed"
    other = a_day(0, **differs)
    assert (changes([other], refused).prices, changes([other], refused).left) == ((other,), ())
    assert sync_state(other, refused[day.date]) == "pending"


@pytest.mark.parametrize("reason", [None, "closed"])
def test_a_refused_opening_waits_until_the_opposite_is_wanted_and_a_refused_closing_does_not(
    reason: Reason | None,
) -> None:
    day, other = a_day(0, reason=reason), a_day(0, reason=None if reason else "closed")
    refused = {day.date: replace(has(day), is_open=None, refused_open=day.is_open)}
    found = changes([day], refused)
    assert (found.opens, found.left) == (((day,), ()) if reason else ((), (day.date,)))
    assert sync_state(day, refused[day.date]) == "failed"
    assert (changes([other], refused).opens, changes([other], refused).left) == ((other,), ())
    assert sync_state(other, refused[day.date]) == "pending"


def test_days_differ_once_however_they_do() -> None:
    waits = a_day(3, price_waits=True)
    known = {waits.date: Acked(refused_open=True)}
    found = changes([a_day(1), a_day(2, reason="closed"), waits], known)
    assert found.days == {on(1), on(2), on(3)}
    assert found.closes
    assert not changes([a_day(1)], {}).closes


def test_a_day_stands_as_avito_has_it() -> None:
    day = a_day(0)
    assert sync_state(day, has(day)) == "synced"
    assert sync_state(day, has(a_day(0, price=1))) == "pending"
    assert sync_state(day, has(a_day(0, reason="closed"))) == "pending"
    assert sync_state(day, None) == "off"
    assert sync_state(a_day(0, reason="past"), has(day)) == "off"
    refused_before = has(day, refused_price=day.channel_price, refused_min_stay=day.min_stay, refused_open=True)
    assert sync_state(day, refused_before) == "synced"


# Bookings that claim the same nights

CLAIMS = st.lists(st.tuples(st.integers(0, 20), st.integers(1, 6)), max_size=8).map(
    lambda stays: [Claim(number, on(start), on(start + length)) for number, (start, length) in enumerate(stays)]
)


@patient
@given(CLAIMS, st.randoms(use_true_random=False))
def test_bookings_overlap_exactly_where_both_claim_a_night(claims: list[Claim], random: Any) -> None:
    random.shuffle(claims)
    nights = {claim.id: set(span(claim.check_in, claim.check_out)) for claim in claims}
    found = overlaps(claims)
    assert {pair: set(span(*both)) for pair, both in found.items()} == {
        (one, other): nights[one] & nights[other]
        for one in nights
        for other in nights
        if one < other and nights[one] & nights[other]
    }


def test_one_party_may_move_in_on_the_day_when_another_moves_out() -> None:
    assert overlaps([Claim(1, on(1), on(5)), Claim(2, on(5), on(8))]) == {}
    assert overlaps([Claim(2, on(4), on(8)), Claim(1, on(1), on(5))]) == {(1, 2): (on(4), on(5))}


# How often bookings are read

HOUR, MINUTE, LONG = timedelta(hours=1), timedelta(minutes=1), timedelta(days=400)
QUIET = Traffic(
    since_connected=LONG, since_edit=None, has_pending=False, to_check_in=None, since_booking=None, open_soon=False
)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, "cold"),
        ({"since_connected": 24 * HOUR - MINUTE}, "hot"),
        ({"since_connected": 24 * HOUR}, "cold"),
        ({"since_edit": 10 * MINUTE - timedelta(seconds=1)}, "hot"),
        ({"since_edit": 10 * MINUTE}, "cold"),
        ({"has_pending": True}, "hot"),
        ({"to_check_in": timedelta(0)}, "hot"),
        ({"to_check_in": timedelta(days=3)}, "hot"),
        ({"to_check_in": timedelta(days=4)}, "normal"),
        ({"since_booking": timedelta(days=60) - MINUTE}, "normal"),
        ({"since_booking": timedelta(days=60)}, "cold"),
        ({"open_soon": True}, "normal"),
    ],
)
def test_a_connection_is_read_as_often_as_something_goes_on(facts: dict[str, Any], expected: str) -> None:
    assert tier(replace(QUIET, **facts)) == expected


def test_soon_is_a_fortnight() -> None:
    assert COLD_CLOSED_DAYS == 14


# How long a failure waits

FIRST, MOST, CLOSING_MOST = 5, 600, 60


@patient
@given(st.integers(1, 100_000), st.booleans(), st.floats(0, 1))
def test_a_wait_is_never_near_zero_and_never_too_long(failures: int, is_closing: bool, chance: float) -> None:
    seconds = backoff_seconds(failures, is_closing=is_closing, chance=chance)
    whole = min(CLOSING_MOST if is_closing else MOST, FIRST * 2 ** min(failures - 1, 30))
    assert whole / 2 <= seconds <= whole


def test_waits_double_up_to_ten_minutes_and_to_one_for_closings() -> None:
    waits = [backoff_seconds(failures, is_closing=False, chance=1) for failures in range(1, 10)]
    assert waits == [5, 10, 20, 40, 80, 160, 320, 600, 600]
    closing = [backoff_seconds(failures, is_closing=True, chance=1) for failures in range(1, 7)]
    assert closing == [5, 10, 20, 40, 60, 60]
    assert backoff_seconds(3, is_closing=False, chance=0) == 10


def test_those_who_fail_together_do_not_come_back_together() -> None:
    waits = {backoff_seconds(4, is_closing=False, chance=number / 100) for number in range(101)}
    assert len(waits) == 101
