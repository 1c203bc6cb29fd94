"""Short-term rent, from Avito's section of that name: a listing's calendar, its prices and its guests' bookings.

Two dialects: "official", as Avito documents it, and "guide", the paths of a guide for property managers, which no
document of Avito's knows. The bodies are the same; what a caller sees differs in `has_base` alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal
from zoneinfo import ZoneInfo

from avito import errors, protocol
from avito.protocol import Request, demand
from avito.types import RentBlock, RentBooking, Snapshot, UnreadableBooking
from avito.user import ME_PATH

__all__ = [
    "BASE_MIN_STAY_MAX",
    "DIALECTS",
    "MIN_STAY_MAX",
    "YEAR_DAYS",
    "Dialect",
    "FreeInterval",
    "PriceRange",
    "RentBlock",
    "RentBooking",
    "RentCalls",
    "Snapshot",
    "UnreadableBooking",
]

MIN_STAY_MAX = 30
"""Nights, of a range of dates. Source: Short-term rent, ParamPriceItemRealty.minimal_duration."""
BASE_MIN_STAY_MAX = 7
"""Nights, of a listing's base. Source: Short-term rent, BaseParams.minimal_duration."""
YEAR_DAYS = 365
"""How far ahead `set_free` closes what it is not given. Source: Short-term rent, putIntervals."""
SOURCE = "avito-service"
"""The name by which Avito knows who fills the calendar. Source: Short-term rent, PostCalendarDataV2.source."""
MOSCOW = ZoneInfo("Europe/Moscow")
"""Whose today is Avito's."""


@dataclass(frozen=True, slots=True)
class PriceRange:
    """Dates with one price, BOTH INCLUDED, as Avito has them in this call alone.

    `night_price`: whole roubles. `min_stay`: nights, 1 to MIN_STAY_MAX. None is not sent; one of the two must be.
    """

    first: date
    last: date
    night_price: int | None
    min_stay: int | None


@dataclass(frozen=True, slots=True)
class FreeInterval:
    """Nights that may be sold, half-open: [start, end). `open`: how many at once."""

    start: date
    end: date
    open: int = 1


Dialect = Literal["official", "guide"]


@dataclass(frozen=True, slots=True)
class _Paths:
    """Where a dialect has its calls: `{0}` is the account, `{1}` the listing. None: it has no such call."""

    me: str
    check: str | None
    bookings: str
    prices: str
    free: str
    base: str | None
    write: Callable[[str, object], Request]


DIALECTS: dict[Dialect, _Paths] = {
    "official": _Paths(
        me=ME_PATH,
        check=None,
        bookings="/realty/v1/accounts/{0}/items/{1}/bookings",
        prices="/realty/v1/accounts/{0}/items/{1}/prices",
        free="/realty/v1/items/intervals",
        base="/realty/v1/items/{}/base",
        write=protocol.post,
    ),
    "guide": _Paths(
        me="/user",
        check="/short_term_rent/accounts/{0}/items/{1}/check_connection",
        bookings="/short_term_rent/accounts/{0}/items/{1}/bookings",
        prices="/short_term_rent/accounts/{0}/items/{1}/prices",
        free="/short_term_rent/accounts/{0}/items/{1}/availability",
        base=None,
        write=protocol.put,
    ),
}


class RentCalls:
    """`client.rent`. `user_id`: the account's own id at Avito (`Owner.id`); `item_id`: its listing.

    All raise the errors of `avito.errors`: Forbidden for a listing of somebody else's, NotFound for one that does not
    exist, Invalid for what Avito does not take, `fields` saying why. What breaks a documented rule is refused here, as
    Invalid, unsent. Writes say what shall be, not what changes: harmless to repeat after an error with `maybe_done`.
    Nothing is sent with skip_error, which would hide a lost listing behind a success.
    """

    def __init__(self, call: Callable[..., Any], dialect: _Paths) -> None:
        self._call = call
        self._dialect = dialect

    @property
    def has_base(self) -> bool:
        """Is there `set_base`?"""
        return self._dialect.base is not None

    def check_item(self, user_id: int, item_id: int) -> None:
        """Make sure that the listing is the account's and open to this API; raises Forbidden or NotFound if not.

        Source: Avito has no such call: officially this reads the bookings of tomorrow, a day past nowhere in Russia.
        """
        if self._dialect.check is None:
            tomorrow = datetime.now(MOSCOW).date() + timedelta(days=1)
            self.bookings(user_id, item_id, start=tomorrow, end=tomorrow + timedelta(days=1))
            return
        answer = self._call(protocol.post(protocol.path(self._dialect.check, user_id, item_id)))
        if isinstance(answer, dict) and any(value is False for value in answer.values()):
            raise errors.Unreadable("Avito answers that the listing is not connected, but not why")

    def bookings(self, user_id: int, item_id: int, *, start: date, end: date, with_unpaid: bool = True) -> Snapshot:
        """What is booked from `start` to `end`, neither in the past by the Moscow calendar. Needs short_term_rent:read.

        `with_unpaid`: also those that wait for the guest's money, as pending. A row that cannot be read is told apart
        and spoils no other. Whether a cancelled booking stays in the answer, and one whose guest has moved in already,
        Avito does not say: a missing one proves nothing.
        Source: Avito API, Short-term rent, getRealtyBookings.
        """
        demand(start <= end, "date_end", "not before date_start")
        query = [("date_start", start.isoformat()), ("date_end", end.isoformat())]
        if with_unpaid:
            query.append(("with_unpaid", "true"))
        path = protocol.path(self._dialect.bookings, user_id, item_id)
        return Snapshot.from_json(self._call(protocol.get(path, query)))

    def set_prices(self, user_id: int, item_id: int, ranges: Sequence[PriceRange]) -> None:
        """Set prices and shortest stays of the dates given, no others. Needs short_term_rent:write.

        `ranges`: none in the past, none over another; without any nothing is asked. Bookings on these dates that are
        not confirmed yet go to the status overbook.
        Source: Avito API, Short-term rent, postRealtyPrices.
        """
        for one in ranges:
            demand(one.first <= one.last, "date_to", "not before date_from")
            _demand_terms(one.night_price, one.min_stay, MIN_STAY_MAX)
        in_order = sorted(ranges, key=lambda one: one.first)
        demand(all(one.last < after.first for one, after in pairwise(in_order)), "prices", "no date twice")
        if ranges:
            self._write(self._dialect.prices, user_id, item_id, {"prices": list(map(_price, ranges))})

    def set_free(self, user_id: int, item_id: int, intervals: Sequence[FreeInterval]) -> None:
        """REPLACE the whole calendar: these nights may be sold, ALL OTHERS of the next YEAR_DAYS ARE CLOSED.

        AN EMPTY LIST CLOSES THE WHOLE YEAR: the listing sells nothing any more. So send the year as it shall be, never
        a difference, and never what an unsuccessful reading of one's own calendar has left empty.
        `intervals`: in order, not over each other; they may touch. Needs short_term_rent:write.
        Source: Avito API, Short-term rent, putIntervals.
        """
        for one in intervals:
            demand(one.start < one.end, "date_end", "after date_start")
            demand(one.open >= 1, "open", "from 1")
        demand(
            all(one.end <= after.start for one, after in pairwise(intervals)), "intervals", "in order, no night twice"
        )
        free = [
            {"date_start": one.start.isoformat(), "date_end": one.end.isoformat(), "open": one.open}
            for one in intervals
        ]
        body = {"item_id": item_id, "intervals": free, "source": SOURCE}
        self._write(self._dialect.free, user_id, item_id, body)

    def set_base(self, item_id: int, *, night_price: int | None, min_stay: int | None) -> None:
        """Set what holds for dates without a price of their own. Needs short_term_rent:write.

        `night_price`: whole roubles. `min_stay`: nights, 1 to BASE_MIN_STAY_MAX. None is not sent; one must be.
        NotFound, unsent, without `has_base`.
        Source: Avito API, Short-term rent, postBaseParams.
        """
        if self._dialect.base is None:
            raise errors.NotFound("This dialect of short-term rent has no base terms")
        _demand_terms(night_price, min_stay, BASE_MIN_STAY_MAX)
        self._call(protocol.post(protocol.path(self._dialect.base, item_id), _terms(night_price, min_stay)))

    def _write(self, path: str, user_id: int, item_id: int, body: object) -> None:
        answer = self._call(self._dialect.write(protocol.path(path, user_id, item_id), body))
        if not isinstance(answer, dict) or answer.get("result") != "success":
            raise errors.Unreadable("Avito did not answer that it has succeeded")


def _demand_terms(night_price: int | None, min_stay: int | None, min_stay_max: int) -> None:
    demand(night_price is not None or min_stay is not None, "night_price", "this or minimal_duration")
    demand(night_price is None or night_price >= 1, "night_price", "from 1")
    demand(min_stay is None or 1 <= min_stay <= min_stay_max, "minimal_duration", f"1 to {min_stay_max}")


def _terms(night_price: int | None, min_stay: int | None) -> dict[str, int]:
    said = {"night_price": night_price, "minimal_duration": min_stay}
    return {name: value for name, value in said.items() if value is not None}


def _price(one: PriceRange) -> dict[str, object]:
    dates = {"date_from": one.first.isoformat(), "date_to": one.last.isoformat()}
    return {**dates, **_terms(one.night_price, one.min_stay)}
