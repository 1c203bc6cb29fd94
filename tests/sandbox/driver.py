"""Driving the sandbox from a test: plain HTTP, and the few calls that every test needs."""

import datetime as dt
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import requests

ANNA = 94235311
OLEG = 4294967311
RENT_SCOPES = ("short_term_rent:read", "short_term_rent:write")
ALL_SCOPES = (
    "messenger:read", "messenger:write", "user:read", "user_balance:read", "items:info", "stats:read", *RENT_SCOPES,
)  # fmt: skip
KEYS = {"client_id": "sandbox-client", "client_secret": "sandbox-secret"}


def wait_for(condition: Callable[[], Any], seconds: float = 5) -> Any:
    """The first true value of `condition`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError("waited in vain")


@dataclass(frozen=True)
class Night:
    """A night of a listing as a guest would find it; `open`: units for sale, 0 for booked, blocked or closed."""

    price: int
    minimal_duration: int
    open: int
    # The bookings that hold it: one, or more after an overbooking.
    booked_by: tuple[int, ...] = ()
    # "manual" or "booking" if the owner's call 7.2 closed it.
    blocked: str | None = None


@dataclass(frozen=True)
class Booking:
    """A booking as it is at Avito; `row`: what the answer to its owner says of it."""

    id: int
    item_id: int
    # active (paid), pending, overbook, canceled, expired, or whatever a test has written.
    status: str
    check_in: dt.date
    check_out: dt.date
    base_price: int
    hidden: bool
    row: dict[str, Any]


@dataclass(frozen=True)
class RentCall:
    """A call for short-term rent as it came in; `status` is None while, or if, nothing was answered."""

    at: float
    # reads, prices, intervals, base, blocks or checks: the same names in both dialects.
    kind: str
    item: int | None
    method: str
    path: str
    query: str
    status: int | None
    # The kind of the fault that struck it.
    fault: str | None
    user_id: int | None
    # The JSON that was sent.
    body: Any


class Sandbox:
    """Plain HTTP to the sandbox, with the few calls every test needs."""

    def __init__(self, base: str) -> None:
        self.base = base
        self.session = requests.Session()
        self.session.trust_env = False

    def call(self, method: str, path: str, **details: Any) -> requests.Response:
        return self.session.request(method, self.base + path, timeout=details.pop("timeout", 5), **details)

    def control(self, method: str, path: str, /, **body: Any) -> Any:
        answer = self.call(method, f"/_sandbox{path}", json=body or None)
        assert answer.ok, answer.text
        return answer.json() if answer.content else None

    def token_call(self, **fields: str) -> requests.Response:
        return self.call("POST", "/token", data={**KEYS, **fields})

    def tokens(self, seller_id: int = ANNA, scopes: tuple[str, ...] = ALL_SCOPES) -> dict[str, Any]:
        code = self.control("POST", "/authorize", sellerId=seller_id, scopes=list(scopes))["code"]
        answer: dict[str, Any] = self.token_call(grant_type="authorization_code", code=code).json()
        return answer

    def fault(self, kind: str, path_regex: str = "self$", /, **details: Any) -> dict[str, Any]:
        fault: dict[str, Any] = self.control("POST", "/faults", kind=kind, pathRegex=path_regex, **details)
        return fault

    def journal(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.control("GET", "/journal")
        return rows

    # Short-term rent

    def make_rent_item(
        self, seller_id: int = ANNA, title: str = "Квартира посуточно", *, price: int = 3500, id: int | None = None
    ) -> int:
        """A new listing, all nights open at `price`; gives its id."""
        return self.make_rent_items(1, seller_id, title, price=price, id=id)[0]

    def make_rent_items(
        self, count: int, seller_id: int = ANNA, title: str = "Квартира", *, price: int = 3500, id: int | None = None
    ) -> list[int]:
        """Many of them in one call."""
        body = {"sellerId": seller_id, "title": title, "price": price, "count": count}
        ids: list[int] = self.control("POST", "/rent/items", **body, **({} if id is None else {"id": id}))["ids"]
        return ids

    def drop_item(self, item: int) -> None:
        """The listing vanishes: its calls answer 404. `control("PATCH", f"/items/{item}", status="active")`: back."""
        self.control("PATCH", f"/items/{item}", status="removed")

    def today(self, item: int) -> dt.date:
        """The date where the listing is, by the sandbox's clock."""
        return dt.date.fromisoformat(self.rent_item(item)["today"])

    def rent_item(self, item: int) -> dict[str, Any]:
        """`{id, today, base, switches, bookings, rawRows}`; `base` holds the last values of the call /base."""
        row: dict[str, Any] = self.control("GET", f"/rent/items/{item}")
        return row

    def shift_clock(self, **span: float) -> None:
        """Move the sandbox's "today" against the machine's clock: `shift_clock(days=1, hours=-3)`, `()` for back."""
        self.switch(clockShiftSeconds=dt.timedelta(**span).total_seconds())

    def switch(self, item: int | None = None, **changes: Any) -> None:
        """How Avito behaves where its documents are silent: for one listing, or for all.

        Without `item` the names are those of the settings (`rentClosedRows=True`, `callsPerMinute=60`), with it the
        same without "rent" (`closedRows=True`), and None takes the listing's own choice back. The switches, with
        their defaults first: timezone "Europe/Moscow" · minimalDurationOmitted "keep"|"clear" · canceledStay True ·
        expired "vanish"|"cancel" · staysInProgress True · closedRows False · cancellationReopens True ·
        blocksPartial True · blocksReplace False · totalForBuyer False · extraFields False.
        """
        self.control("PATCH", "/settings" if item is None else f"/rent/items/{item}/switches", **changes)

    def calendar(self, item: int, days: int = 365, start: dt.date | None = None) -> dict[dt.date, Night]:
        """The nights from `start` (the listing's today) on."""
        query = {"days": str(days), **({"from": start.isoformat()} if start else {})}
        answer = self.call("GET", f"/_sandbox/rent/items/{item}/calendar", params=query)
        assert answer.ok, answer.text
        return {
            dt.date.fromisoformat(on): Night(
                night["price"], night["minimalDuration"], night["open"], tuple(night["bookedBy"]), night["blocked"]
            )
            for on, night in answer.json().items()
        }

    def book(
        self,
        item: int,
        check_in: dt.date,
        check_out: dt.date,
        *,
        paid: bool = True,
        force: bool = False,
        **details: Any,
    ) -> Booking:
        """A guest books (`paid`: status active, otherwise pending).

        Avito refuses nights that are closed, taken or past, and too short stays (AssertionError); `force` overbooks.
        `details`: id, status, basePrice, guestCount, name, email, phone, and `changes`, laid over the row in Avito's
        answer, where None removes a key: `changes={"contact": None, "check_out": "soon"}`.
        """
        status = details.pop("status", "active" if paid else "pending")
        dates = {"checkIn": check_in.isoformat(), "checkOut": check_out.isoformat()}
        return _booking(
            self.control("POST", "/rent/bookings", itemId=item, **dates, status=status, force=force, **details)
        )

    def pay(self, booking: Booking) -> Booking:
        """The guest pays: active."""
        return self._act(booking, "pay")

    def cancel(self, booking: Booking) -> Booking:
        """Canceled, by whomever; the nights are for sale again unless a switch says no."""
        return self._act(booking, "cancel")

    def expire(self, booking: Booking) -> Booking:
        """The time to pay is over: it vanishes from the answer, or is canceled, as the switch says."""
        return self._act(booking, "expire")

    def move(self, booking: Booking, check_in: dt.date, check_out: dt.date, *, force: bool = False) -> Booking:
        """The same booking on other dates."""
        body = {"checkIn": check_in.isoformat(), "checkOut": check_out.isoformat(), "force": force}
        return _booking(self.control("POST", f"/rent/bookings/{booking.id}/move", **body))

    def edit(self, booking: Booking, **changes: Any) -> Booking:
        """Set status (any word), basePrice, guestCount, name, email, phone, hidden or changes; the dates stay."""
        return _booking(self.control("PATCH", f"/rent/bookings/{booking.id}", **changes))

    def hide(self, booking: Booking, hidden: bool = True) -> Booking:
        """Drop it from Avito's answers, or bring it back; it holds its nights all the while."""
        return self.edit(booking, hidden=hidden)

    def raw_row(self, item: int, row: Any) -> None:
        """Add any JSON to the listing's bookings as Avito answers them."""
        self.control("POST", f"/rent/items/{item}/rows", row=row)

    def clear_raw_rows(self, item: int) -> None:
        self.control("DELETE", f"/rent/items/{item}/rows")

    def rent_calls(self, item: int | None = None, kind: str | None = None, since: float = 0) -> list[RentCall]:
        """The calls that came in, oldest first: of one listing, of one kind, from the unix time `since` on."""
        return [
            RentCall(
                row["at"],
                row["rent"],
                row["itemId"],
                row["method"],
                row["path"],
                row["query"],
                row["status"],
                row["fault"],
                row["userId"],
                row["body"],
            )
            for row in self._calls(item, kind, since).json()
        ]

    def count_rent_calls(self, item: int | None = None, kind: str | None = None, since: float = 0) -> int:
        """How many, without carrying their bodies over."""
        count: int = self._calls(item, kind, since, countOnly="true").json()["count"]
        return count

    def forget_rent_calls(self) -> None:
        self.control("DELETE", "/rent/calls")

    def rent_fault(
        self, fault: str, kind: str | None = None, item: int | None = None, **details: Any
    ) -> dict[str, Any]:
        """A fault for calls of one kind, of one listing: `rent_fault("status", "prices", status=503, times=1)`.

        `details` as for `fault`; `apply="before"`: the call takes effect and then nothing, or an error, is answered.
        """
        known = {"rent": kind, "itemId": item}
        chosen = {name: value for name, value in known.items() if value is not None}
        path = "^/(realty/|short_term_rent/|core/v1/accounts/[0-9]+/items/[0-9]+/bookings$)"
        return self.fault(fault, path, **chosen, **details)

    def _act(self, booking: Booking, action: str) -> Booking:
        return _booking(self.control("POST", f"/rent/bookings/{booking.id}/{action}"))

    def _calls(self, item: int | None, kind: str | None, since: float, **more: str) -> requests.Response:
        query = {"itemId": item, "kind": kind, "since": since, **more}
        answer = self.call("GET", "/_sandbox/rent/calls", params={k: v for k, v in query.items() if v is not None})
        assert answer.ok, answer.text
        return answer


def _booking(row: dict[str, Any]) -> Booking:
    return Booking(
        id=row["id"],
        item_id=row["itemId"],
        status=row["status"],
        check_in=dt.date.fromisoformat(row["checkIn"]),
        check_out=dt.date.fromisoformat(row["checkOut"]),
        base_price=row["basePrice"],
        hidden=row["hidden"],
        row=row["row"],
    )
