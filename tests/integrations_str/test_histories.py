"""Histories of a calendar, made up at random: our arithmetic on one side, a small model of Avito on the other.

What is kept of Avito's answers is kept as `push` does it: unknown before a call, acknowledged after it. `HISTORIES`
says how many are played (300). A failing one is told by its number: `random.Random(number)` decides every step.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from avito.rent import FreeInterval, PriceRange
from integrations_str.calendar import (
    UNKNOWN,
    Acked,
    Book,
    Changes,
    Claim,
    Day,
    Rate,
    changes,
    free_intervals,
    overlaps,
    price_ranges,
    span,
    sync_state,
    wanted_days,
)

HISTORIES = int(os.environ.get("HISTORIES", "300"))
YEAR = 30
"""Nights that Avito's calendar has here: whatever is wrong shows in a month as well."""
STEPS = 25
START = date(2026, 12, 20)
DAY = timedelta(1)


class NoAnswer(Exception):
    pass


class Refused(Exception):
    pass


class Avito:
    """What it knows of a listing, by its own rules; `trouble` decides how the next call ends."""

    def __init__(self, random: Random) -> None:
        self.random, self.today = random, START
        self.prices: dict[date, tuple[int | None, int | None]] = {}
        self.sold: set[date] = set()
        self.bookings: dict[int, tuple[date, date, bool]] = {}
        self.troubles = 0.0
        self.priced: list[set[date]] = []
        self.calls = 0

    def set_prices(self, ranges: list[PriceRange]) -> None:
        def take() -> None:
            days = {day: (one.night_price, one.min_stay) for one in ranges for day in span(one.first, one.last + DAY)}
            assert days, "a call that says nothing"
            assert min(days) >= self.today, "a price of the past"
            assert sum((one.last - one.first).days + 1 for one in ranges) == len(days), "a night priced twice"
            self.priced.append(set(days))
            self.prices |= days

        self._answer(take)

    def set_free(self, intervals: list[FreeInterval]) -> None:
        def take() -> None:
            free = [day for one in intervals for day in span(one.start, one.end)]
            assert len(free) == len(set(free)), "a night offered twice"
            assert not free or min(free) >= self.today, "a night of the past"
            year = set(span(self.today, self.today + YEAR * DAY))
            self.sold = (self.sold - year) | set(free)

        self._answer(take)

    def _answer(self, take: Callable[[], None]) -> None:
        """Taken and said so; or refused; or nothing is said, whether taken or not."""
        self.calls += 1
        if self.random.random() >= self.troubles:
            take()
            return
        trouble = self.random.choice(("refused", "lost", "lost but taken"))
        if trouble == "refused":
            raise Refused
        if trouble == "lost but taken":
            take()
        raise NoAnswer


class Host:
    """What is written down, what Avito is known to have, and the rules by which that goes out."""

    def __init__(self, random: Random, avito: Avito) -> None:
        self.random, self.avito, self.today = random, avito, START
        self.base, self.min_stay, self.markup = 2000, 1, Decimal(15)
        self.rates: dict[date, Rate] = {}
        self.stays: dict[int, tuple[date, date, bool]] = {}
        self.acked: dict[date, Acked] = {}

    def days(self) -> list[Day]:
        held: dict[date, Any] = {}
        unpaid = set()
        for start, end, is_paid in (*self.stays.values(), *self.avito.bookings.values()):
            for day in span(start, end):
                held[day] = "booking" if is_paid else held.get(day, "pending_booking")
                unpaid |= set() if is_paid else {day}
        book = Book(self.base, self.min_stay, self.rates, held, unpaid)
        return wanted_days(book, self.markup, self.today, self.today + YEAR * DAY, today=self.today)

    def push(self) -> Changes:
        """One push: each kind of call once, a failure ends it."""
        days = self.days()
        found = changes(days, self.acked)
        closes_all = not any(day.is_open for day in days)
        calls: list[Callable[[], None]] = []
        if found.prices:
            calls.append(lambda: self._send_prices(found.prices))
        if found.opens:
            calls.append(lambda: self._send_free(found.opens, free_intervals(days, closes_all=closes_all)))
        for call in reversed(calls) if found.closes else calls:
            try:
                call()
            except NoAnswer:
                break
        return found

    def _send_prices(self, days: tuple[Day, ...]) -> None:
        self._keep(days, lambda day: {"price": None, "min_stay": None})
        try:
            self.avito.set_prices(price_ranges(days))
        except Refused:
            self._keep(days, lambda day: {"refused_price": day.channel_price, "refused_min_stay": day.min_stay})
        else:
            self._keep(
                days,
                lambda day: {
                    "price": day.channel_price, "min_stay": day.min_stay,
                    "refused_price": None, "refused_min_stay": None,
                },
            )  # fmt: skip

    def _send_free(self, days: tuple[Day, ...], intervals: list[FreeInterval]) -> None:
        self._keep(days, lambda day: {"is_open": None})
        try:
            self.avito.set_free(intervals)
        except Refused:
            self._keep(days, lambda day: {"refused_open": day.is_open})
        else:
            self._keep(days, lambda day: {"is_open": day.is_open, "refused_open": None})

    def _keep(self, days: tuple[Day, ...], values: Callable[[Day], dict[str, Any]]) -> None:
        for day in days:
            self.acked[day.date] = replace(self.acked.get(day.date, UNKNOWN), **values(day))

    def forget_refusals(self) -> None:
        """As if the host had wanted something else for a moment."""
        self.acked = {
            day: replace(one, refused_price=None, refused_min_stay=None, refused_open=None)
            for day, one in self.acked.items()
        }


class History:
    def __init__(self, number: int) -> None:
        self.random = Random(number)
        self.avito = Avito(self.random)
        self.host = Host(self.random, self.avito)

    def play(self) -> None:
        acts = {
            self.prices: 5, self.closes_or_opens: 4, self.changes_everything: 1, self.books: 3, self.guest_books: 3,
            self.cancels_or_moves: 4, self.pays: 1, self.midnight: 1, self.pushes: 8, self.rests: 2,
            self.changes_its_mind: 2,
        }  # fmt: skip
        for act in self.random.choices(list(acts), list(acts.values()), k=STEPS):
            self.avito.troubles = self.random.choice((0.0, 0.2, 0.6))
            act()
        self.avito.bookings = {id: (start, end, True) for id, (start, end, _) in self.avito.bookings.items()}
        self.rests()

    # What the host and guests do

    def prices(self) -> None:
        values: dict[str, Any] = self.random.choice(
            ({"price": self.random.choice((None, 1, 2500))}, {"min_stay": self.random.choice((None, 2, 30))})
        )
        self._rate(**values)

    def closes_or_opens(self) -> None:
        self._rate(longest=YEAR + 5, closed=self.random.choice((None, True, False)))

    def _rate(self, longest: int = 8, **values: Any) -> None:
        for day in span(*self._span(longest)):
            self.host.rates[day] = replace(self.host.rates.get(day, Rate()), **values)

    def changes_everything(self) -> None:
        self.host.base = self.random.choice((1990, 2000))
        self.host.markup = Decimal(self.random.choice(("15", "-5", "20.5")))

    def books(self) -> None:
        start, end = self._span(5)
        if not self._claimed() & set(span(start, end)):
            self.host.stays[self.random.randrange(10**9)] = start, end, True

    def guest_books(self) -> None:
        start, end = self._span(5)
        nights = set(span(start, end))
        if nights <= self.avito.sold and not nights & self._claimed():
            self.avito.bookings[self.random.randrange(10**9)] = start, end, self.random.random() < 0.5

    def cancels_or_moves(self) -> None:
        bookings = self.random.choice((self.host.stays, self.avito.bookings))
        if bookings:
            id = self.random.choice(list(bookings))
            was = bookings.pop(id)
            start, end = self._span(5)
            if self.random.random() < 0.5 and not self._claimed() & set(span(start, end)):
                bookings[id] = start, end, was[2]

    def pays(self) -> None:
        self.avito.bookings |= {
            id: (start, end, True) for id, (start, end, _) in self.avito.bookings.items() if self.random.random() < 0.5
        }

    def midnight(self) -> None:
        """At Avito the same night passes, and what it has beyond its year nobody has closed."""
        nights = self.random.choice((1, 1, 2, 9))
        self.host.today += nights * DAY
        self.avito.today += nights * DAY
        self.host.acked = {day: one for day, one in self.host.acked.items() if day >= self.host.today}

    def _claimed(self) -> set[date]:
        stays = (*self.host.stays.values(), *self.avito.bookings.values())
        return {day for start, end, _ in stays for day in span(start, end)}

    def _span(self, longest: int) -> tuple[date, date]:
        start = self.host.today + self.random.randrange(-2, YEAR + 3) * DAY
        return start, start + self.random.randint(1, longest) * DAY

    # What must be true

    def pushes(self) -> None:
        """Only days that differ are in a call; and the night after tells what of it has come true."""
        before, self.avito.priced = dict(self.host.acked), []
        found = self.host.push()
        for priced in self.avito.priced:
            assert priced == {day.date for day in found.prices}
            for day in found.prices:
                has = before.get(day.date, UNKNOWN)
                assert (has.price, has.min_stay) != (day.channel_price, day.min_stay)
                assert not day.price_waits

    def rests(self) -> None:
        """All answers arrive, and both calendars are one."""
        self.avito.troubles = 0.0
        self.host.forget_refusals()
        self.host.push()
        days = self.host.days()
        for day in days:
            assert (day.date in self.avito.sold) is day.is_open, day
            if not day.price_waits:
                assert self.avito.prices[day.date] == (day.channel_price, day.min_stay), day
                assert sync_state(day, self.host.acked[day.date]) == "synced"
        assert self.says_nothing()

    def changes_its_mind(self) -> None:
        """A change and its undo send nothing."""
        self.rests()
        rates, base, stays = dict(self.host.rates), self.host.base, dict(self.host.stays)
        for change in self.random.choices(
            (self.prices, self.closes_or_opens, self.changes_everything, self.books), k=3
        ):
            markup = self.host.markup
            change()
            self.host.markup = markup
        self.host.rates, self.host.base, self.host.stays = rates, base, stays
        assert self.says_nothing()

    def says_nothing(self) -> bool:
        calls = self.avito.calls
        self.host.push()
        return self.avito.calls == calls


@pytest.mark.parametrize("part", range(3))
def test_whenever_a_history_comes_to_rest_both_calendars_are_one(part: int) -> None:
    for number in range(part, HISTORIES, 3):
        try:
            History(number).play()
        except BaseException as error:
            error.add_note(f"history {number}")
            raise


def test_every_overlap_of_a_history_is_named_until_it_is_gone() -> None:
    """Stays come, move and go; what is called an overlap is always what two of them claim."""
    for number in range(HISTORIES):
        random, stays = Random(number), dict[int, Claim]()
        for _ in range(STEPS):
            id, start = random.randrange(6), START + random.randrange(12) * DAY
            stays[id] = Claim(id, start, start + random.randint(1, 5) * DAY)
            if random.random() < 0.3:
                del stays[id]
            claimed = [day for one in stays.values() for day in span(one.check_in, one.check_out)]
            told = {day for start, end in overlaps(list(stays.values())).values() for day in span(start, end)}
            assert told == {day for day in claimed if claimed.count(day) > 1}
