"""The calendar of a listing for short-term rent: prices, minimal stays, open nights, bookings. Knows no HTTP.

A night is named by the date on which it begins; a stay holds the nights from its check-in up to, but without, its
check-out. A night may be sold if the quota last sent for it exceeds the bookings that hold it (`active` and `pending`;
`overbook` holds nothing), and no block lies on it. Nights nobody ever spoke of are open, as on a new listing.
"""

import datetime as dt
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from sandbox.settings import Settings, camel

DAY = dt.timedelta(days=1)
# What an own open listing offers for a night: itself, once.
USUAL_QUOTA = 1
UNPAID = frozenset({"pending", "overbook"})
HOLDING = frozenset({"active", "pending"})
# The settings `rent_…` that one listing may have otherwise than the rest: short names in camelCase, and in Python.
SWITCHES = {camel(name[5:]): name[5:] for name in vars(Settings()) if name.startswith("rent_")}


class NotForSale(Exception):
    """A guest cannot have these nights; the text is for people."""


def nights(first: dt.date, end: dt.date) -> Iterator[dt.date]:
    """The nights from `first` on, without `end`."""
    return (first + DAY * n for n in range((end - first).days))


@dataclass
class Booking:
    """A guest's booking; prices in roubles. `changes` are laid over its row in Avito's answer, null removes a key."""

    id: int
    item_id: int
    check_in: dt.date
    check_out: dt.date
    # `active` is a paid one, `pending` waits for the payment; a test may write any word.
    status: str
    base_price: int
    guest_count: int = 2
    name: str = "Иван"
    email: str = "guest@example.com"
    phone: str | None = "9161234567"
    hidden: bool = False
    changes: dict[str, Any] = field(default_factory=dict)

    @property
    def nights(self) -> int:
        return (self.check_out - self.check_in).days

    @property
    def holds(self) -> bool:
        return self.status in HOLDING

    def covers(self, first: dt.date, end: dt.date) -> bool:
        """Does it hold one of the nights from `first` on, without `end`?"""
        return self.holds and self.check_in < end and first < self.check_out


@dataclass(frozen=True)
class Night:
    """What a guest meets on one night; `open` is the number of units still for sale."""

    price: int
    minimal_duration: int
    open: int
    booked_by: list[int]
    blocked: str | None


class Calendar:
    """What Avito knows of one listing's nights."""

    def __init__(self, item_id: int, price: int, settings: Settings) -> None:
        self.item_id, self.settings = item_id, settings
        self.switches: dict[str, Any] = {}
        # The parameters of the call /base, as sent; a night's own price and stay go before them.
        self.base: dict[str, Any] = {"night_price": price, "minimal_duration": 1}
        self.prices: dict[dt.date, int] = {}
        self.stays: dict[dt.date, int] = {}
        self.fees: dict[dt.date, int] = {}
        self.quotas: dict[dt.date, int] = {}
        self.blocks: dict[dt.date, str] = {}
        self.bookings: dict[int, Booking] = {}
        # Rows of Avito's answer that are no bookings at all: what a test wants the reader to stumble over.
        self.raw_rows: list[Any] = []

    # Settings and time

    def switch(self, name: str) -> Any:
        """A setting `rent_{name}`, or what this listing has in its place."""
        return self.switches.get(name, getattr(self.settings, f"rent_{name}"))

    def today(self) -> dt.date:
        """The date where the listing is, by the sandbox's own clock."""
        shifted = time.time() + self.settings.clock_shift_seconds
        return dt.datetime.fromtimestamp(shifted, _zone(self.switch("timezone"))).date()

    # Nights

    def night(self, on: dt.date) -> Night:
        holders = [booking.id for booking in self.bookings.values() if booking.covers(on, on + DAY)]
        return Night(
            price=self.prices.get(on, self.base["night_price"]),
            minimal_duration=self.stays.get(on, self.base["minimal_duration"]),
            open=0 if on in self.blocks else max(0, self.quotas.get(on, USUAL_QUOTA) - len(holders)),
            booked_by=holders,
            blocked=self.blocks.get(on),
        )

    def set_prices(
        self, first: dt.date, last: dt.date, *, price: int | None, stay: int | None, fee: int | None
    ) -> None:
        """Write every night from `first` to `last`, both included; None: not in the call.

        A missing price or fee leaves what was there. Unconfirmed bookings on these nights become `overbook`.
        """
        for on in nights(first, last + DAY):
            if price is not None:
                self.prices[on] = price
            if fee is not None:
                self.fees[on] = fee
            if stay is not None:
                self.stays[on] = stay
            elif self.switch("minimal_duration_omitted") == "clear":
                self.stays.pop(on, None)
        for booking in self.bookings.values():
            if booking.status == "pending" and booking.covers(first, last + DAY):
                booking.status = "overbook"

    def set_intervals(self, intervals: Iterable[tuple[dt.date, dt.date, int]]) -> None:
        """Open these nights (the second date is the first that is not meant) and close all others of a year ahead."""
        today = self.today()
        year_end = today + DAY * 365
        opened = {on: quota for first, end, quota in intervals for on in nights(first, end)}
        beyond = {on: quota for on, quota in self.quotas.items() if not today <= on < year_end}
        self.quotas = {**beyond, **dict.fromkeys(nights(today, year_end), 0), **opened}
        self.blocks = {on: kind for on, kind in self.blocks.items() if on not in opened}

    def set_blocks(self, ranges: list[tuple[dt.date, dt.date, str]]) -> dict[int, list[Booking]]:
        """Close these nights; gives the paid bookings in the way, by the number of the range, which stays open."""
        conflicts = {number: self.paid_on(first, end) for number, (first, end, _) in enumerate(ranges)}
        conflicts = {number: found for number, found in conflicts.items() if found}
        if conflicts and not self.switch("blocks_partial"):
            return conflicts
        if self.switch("blocks_replace"):
            self.blocks.clear()
        for number, (first, end, kind) in enumerate(ranges):
            if number not in conflicts:
                self.blocks.update(dict.fromkeys(nights(first, end), kind))
        return conflicts

    def paid_on(self, first: dt.date, end: dt.date) -> list[Booking]:
        return [
            booking for booking in self.bookings.values() if booking.status == "active" and booking.covers(first, end)
        ]

    # Guests

    def refuse_unsold(self, check_in: dt.date, check_out: dt.date, *, besides: Booking | None = None) -> None:
        """Raise NotForSale unless a guest may have this stay; nights that only `besides` holds count as free."""
        if check_in >= check_out:
            raise NotForSale("выезд должен быть позже заезда")
        if check_in < self.today():
            raise NotForSale("заезд в прошлом")
        for on in nights(check_in, check_out):
            night = self.night(on)
            own = besides is not None and night.booked_by == [besides.id] and night.blocked is None
            if night.open == 0 and not own:
                raise NotForSale(f"ночь {on:%d.%m.%Y} занята или закрыта")
        least = self.night(check_in).minimal_duration
        if (check_out - check_in).days < least:
            raise NotForSale(f"минимальный срок с {check_in:%d.%m.%Y}: {least} сут.")

    def price_of(self, check_in: dt.date, check_out: dt.date) -> int:
        return sum(self.night(on).price for on in nights(check_in, check_out))

    def release(self, first: dt.date, end: dt.date) -> None:
        """Nights that a guest gave back: open again if the last intervals had them open, unless a switch says no."""
        if not self.switch("cancellation_reopens"):
            self.quotas.update(dict.fromkeys(nights(first, end), 0))

    def cancel(self, booking: Booking) -> None:
        if booking.holds:
            self.release(booking.check_in, booking.check_out)
        booking.status = "canceled"

    def expire(self, booking: Booking) -> None:
        """The time to pay is over."""
        self.cancel(booking)
        if self.switch("expired") == "vanish":
            booking.status = "expired"

    def move(self, booking: Booking, check_in: dt.date, check_out: dt.date) -> None:
        kept = set(nights(check_in, check_out))
        for on in nights(booking.check_in, booking.check_out):
            if on not in kept and booking.holds:
                self.release(on, on + DAY)
        booking.check_in, booking.check_out = check_in, check_out

    # What the owner reads

    def shown(self, first: dt.date, last: dt.date, *, with_unpaid: bool) -> list[Booking]:
        """The bookings that touch these dates, as far as this Avito shows them."""
        return [
            booking
            for booking in self.bookings.values()
            if booking.check_in <= last
            and booking.check_out >= first
            and not booking.hidden
            and booking.status != "expired"
            and (with_unpaid or booking.status not in UNPAID)
            and (self.switch("canceled_stay") or booking.status != "canceled")
            and (self.switch("stays_in_progress") or booking.check_in >= first)
        ]

    def closed_runs(self, first: dt.date, last: dt.date) -> list[tuple[dt.date, dt.date]]:
        """Nights closed by the owner, joined to ranges whose second date is the first free one."""
        runs: list[tuple[dt.date, dt.date]] = []
        for on in nights(first, last + DAY):
            if on in self.blocks or self.quotas.get(on, USUAL_QUOTA) == 0:
                if runs and runs[-1][1] == on:
                    runs[-1] = (runs[-1][0], on + DAY)
                else:
                    runs.append((on, on + DAY))
        return runs


@lru_cache
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)
