"""The arithmetic of calendars: what we want of Avito, how it differs from what Avito has, and how that is said.

Pure: no database, no network, no clock. A day stands for the night that begins on it.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from itertools import combinations, groupby
from typing import Literal, TypeVar

from avito.rent import FreeInterval, PriceRange

Reason = Literal["booking", "pending_booking", "closed", "past"]
SyncState = Literal["synced", "pending", "failed", "off"]
Tier = Literal["hot", "normal", "cold"]
K = TypeVar("K")
DAY = timedelta(days=1)

HOT_AFTER_CONNECTING, HOT_AFTER_EDIT, HOT_BEFORE_CHECK_IN = (
    timedelta(hours=24),
    timedelta(minutes=10),
    timedelta(days=3),
)
COLD_WITHOUT_BOOKING, COLD_CLOSED_DAYS = timedelta(days=60), 14
TIER_SHARES: dict[Tier, float] = {"hot": 0.25, "normal": 1.0, "cold": 5.0}
"""How long a connection waits for the next reading, in the usual interval."""

BACKOFF_SECONDS, BACKOFF_SECONDS_MAX, CLOSING_BACKOFF_SECONDS_MAX = 5.0, 600.0, 60.0


class EmptyCalendar(ValueError):
    """Nothing is open, which closes the whole year at Avito; to be sent only where that is wanted."""


@dataclass(frozen=True, slots=True)
class Rate:
    """What is said of one night; None: nothing, so the property's own counts."""

    price: int | None = None
    min_stay: int | None = None
    closed: bool | None = None


@dataclass(frozen=True, slots=True)
class Book:
    """What a host has written down. `held`: nights that bookings hold; unpaid ones hold theirs as "pending_booking".

    `unpaid`: nights of unpaid bookings, whether they hold them or not.
    """

    base_price: int
    min_stay: int
    rates: Mapping[date, Rate] = field(default_factory=dict)
    held: Mapping[date, Literal["booking", "pending_booking"]] = field(default_factory=dict)
    unpaid: Collection[date] = frozenset()


@dataclass(frozen=True, slots=True)
class Day:
    """One night as it should be: `price` for the host, `channel_price` at Avito, roubles; `reason`: why it is closed.

    `price_waits`: an unpaid booking lies on it, which a new price would throw out at Avito.
    """

    date: date
    price: int
    channel_price: int
    min_stay: int
    reason: Reason | None
    price_waits: bool = False

    @property
    def is_open(self) -> bool:
        return self.reason is None


@dataclass(frozen=True, slots=True)
class Acked:
    """What Avito last accepted for a night, and what it has refused; None: not known, or nothing."""

    price: int | None = None
    min_stay: int | None = None
    is_open: bool | None = None
    refused_price: int | None = None
    refused_min_stay: int | None = None
    refused_open: bool | None = None


UNKNOWN = Acked()


@dataclass(frozen=True, slots=True)
class Changes:
    """Days that differ from what Avito has and may be sent: in price or minimum stay, and in being open.

    `left`: days that differ and may not be sent, since they wait for an unpaid booking or were `refused`.
    """

    prices: tuple[Day, ...] = ()
    opens: tuple[Day, ...] = ()
    left: tuple[date, ...] = ()
    refused: tuple[date, ...] = ()

    @property
    def days(self) -> set[date]:
        return {day.date for day in (*self.prices, *self.opens)} | set(self.left)

    @property
    def closes(self) -> bool:
        return any(not day.is_open for day in self.opens)


def channel_price(price: int, markup_percent: Decimal) -> int:
    """The price at Avito: with the markup, half up to whole roubles, never below 1."""
    marked_up = Decimal(price) * (100 + markup_percent) / 100
    return max(1, int(marked_up.quantize(Decimal(1), rounding=ROUND_HALF_UP)))


def span(start: date, end: date) -> Iterator[date]:
    """The days from `start` on, before `end`."""
    return (start + DAY * number for number in range((end - start).days))


def wanted_days(book: Book, markup_percent: Decimal, start: date, end: date, *, today: date) -> list[Day]:
    """How each night from `start` on, before `end`, should be; those before `today` are past."""
    prices: dict[int, int] = {}
    days = []
    for day in span(start, end):
        rate = book.rates.get(day, Rate())
        price = book.base_price if rate.price is None else rate.price
        if price not in prices:
            prices[price] = channel_price(price, markup_percent)
        reason: Reason | None = book.held.get(day) or ("closed" if rate.closed else None)
        days.append(
            Day(
                date=day,
                price=price,
                channel_price=prices[price],
                min_stay=book.min_stay if rate.min_stay is None else rate.min_stay,
                reason="past" if day < today else reason,
                price_waits=day in book.unpaid,
            )
        )
    return days


def changes(days: Iterable[Day], acked: Mapping[date, Acked]) -> Changes:
    """What of these days Avito has to hear."""
    prices, opens, left, refused = [], [], [], []
    for day in days:
        has = acked.get(day.date, UNKNOWN)
        if not has_price(day, has):
            if is_price_refused(day, has):
                refused.append(day.date)
            elif day.price_waits:
                left.append(day.date)
            else:
                prices.append(day)
        if has.is_open is not day.is_open:
            if has.refused_open is day.is_open and day.is_open:  # what is taken has to close, whatever Avito says
                refused.append(day.date)
            else:
                opens.append(day)
    return Changes(tuple(prices), tuple(opens), tuple(dict.fromkeys(left + refused)), tuple(refused))


def has_price(day: Day, acked: Acked) -> bool:
    return (acked.price, acked.min_stay) == (day.channel_price, day.min_stay)


def is_price_refused(day: Day, acked: Acked) -> bool:
    return (acked.refused_price, acked.refused_min_stay) == (day.channel_price, day.min_stay)


def sync_state(day: Day, acked: Acked | None) -> SyncState:
    """Where the day stands at Avito. `acked`: None where nothing is kept in agreement."""
    if acked is None or day.reason == "past":
        return "off"
    price_agrees, open_agrees = has_price(day, acked), acked.is_open is day.is_open
    if price_agrees and open_agrees:
        return "synced"
    if not price_agrees and is_price_refused(day, acked):
        return "failed"
    return "failed" if not open_agrees and acked.refused_open is day.is_open else "pending"


def price_ranges(days: Iterable[Day]) -> list[PriceRange]:
    """Days as Avito takes prices: inclusive ranges of one price and minimum stay, in order, none overlapping."""
    return [
        PriceRange(first=run[0].date, last=run[-1].date, night_price=price, min_stay=min_stay)
        for (price, min_stay), run in _runs(days, lambda day: (day.channel_price, day.min_stay))
    ]


def free_intervals(days: Iterable[Day], *, closes_all: bool = False) -> list[FreeInterval]:
    """The open ones of ALL days of the year as Avito takes them: half-open, in order; what is left out closes.

    Raises EmptyCalendar when none is open, but for `closes_all`: the year is meant to close.
    """
    free = [FreeInterval(run[0].date, run[-1].date + DAY) for is_open, run in _runs(days, _is_open) if is_open]
    if not free and not closes_all:
        raise EmptyCalendar
    return free


def date_ranges(days: Iterable[date]) -> list[tuple[date, date]]:
    """Days as half-open ranges, in order."""
    known = set(days)
    ordered = sorted(known)
    starts = [day for day in ordered if day - DAY not in known]
    ends = [day + DAY for day in ordered if day + DAY not in known]
    return list(zip(starts, ends, strict=True))


def _is_open(day: Day) -> bool:
    return day.is_open


def _runs(days: Iterable[Day], key: Callable[[Day], K]) -> Iterator[tuple[K, list[Day]]]:
    """Days that follow each other and share the key."""
    numbered = enumerate(sorted(days, key=lambda day: day.date))
    for (value, _start), run in groupby(numbered, lambda one: (key(one[1]), one[1].date - DAY * one[0])):
        yield value, [day for _number, day in run]


@dataclass(frozen=True, slots=True)
class Claim:
    """A booking that claims its nights, from `check_in` on, before `check_out`."""

    id: int
    check_in: date
    check_out: date


def overlaps(claims: Sequence[Claim]) -> dict[tuple[int, int], tuple[date, date]]:
    """Pairs of bookings that claim the same nights, smaller id first, and which nights: half-open."""
    found = {}
    for one, other in combinations(sorted(claims, key=lambda claim: claim.id), 2):
        start, end = max(one.check_in, other.check_in), min(one.check_out, other.check_out)
        if start < end:
            found[one.id, other.id] = start, end
    return found


@dataclass(frozen=True, slots=True)
class Traffic:
    """What decides how often a connection's bookings are read; times are ages, None: never.

    `to_check_in`: until the next arrival. `open_soon`: a night of the next COLD_CLOSED_DAYS is open.
    """

    since_connected: timedelta
    since_edit: timedelta | None
    has_pending: bool
    to_check_in: timedelta | None
    since_booking: timedelta | None
    open_soon: bool


def tier(traffic: Traffic) -> Tier:
    """Hot where something is about to happen, cold where nothing has happened for long and nothing can."""
    is_edited = traffic.since_edit is not None and traffic.since_edit < HOT_AFTER_EDIT
    is_awaited = traffic.to_check_in is not None and traffic.to_check_in <= HOT_BEFORE_CHECK_IN
    if traffic.since_connected < HOT_AFTER_CONNECTING or is_edited or traffic.has_pending or is_awaited:
        return "hot"
    is_booked = traffic.since_booking is not None and traffic.since_booking < COLD_WITHOUT_BOOKING
    return "normal" if is_booked or traffic.to_check_in is not None or traffic.open_soon else "cold"


def backoff_seconds(failures: int, *, is_closing: bool, chance: float) -> float:
    """How long to wait after so many failures in a row. `chance`: 0 to 1; half of the wait is never given away."""
    most = CLOSING_BACKOFF_SECONDS_MAX if is_closing else BACKOFF_SECONDS_MAX
    seconds = min(most, BACKOFF_SECONDS * 2.0 ** min(failures - 1, 20))
    return seconds / 2 + seconds / 2 * chance
