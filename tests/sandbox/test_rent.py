"""Short-term rent at the sandbox: Avito's rules through HTTP, in both dialects."""

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.sandbox.conftest import Client
from tests.sandbox.driver import ALL_SCOPES, ANNA, OLEG, Booking, Sandbox

FIXTURES = Path(__file__).parents[1] / "fixtures" / "avito"
PATHS = {
    "official": {
        "reads": ("GET", "/realty/v1/accounts/{id}/items/{item}/bookings"),
        "prices": ("POST", "/realty/v1/accounts/{id}/items/{item}/prices"),
        "intervals": ("POST", "/realty/v1/items/intervals"),
        "base": ("POST", "/realty/v1/items/{item}/base"),
        "blocks": ("POST", "/core/v1/accounts/{id}/items/{item}/bookings"),
    },
    "guide": {
        "reads": ("GET", "/short_term_rent/accounts/{id}/items/{item}/bookings"),
        "prices": ("PUT", "/short_term_rent/accounts/{id}/items/{item}/prices"),
        "intervals": ("PUT", "/short_term_rent/accounts/{id}/items/{item}/availability"),
        "checks": ("POST", "/short_term_rent/accounts/{id}/items/{item}/check_connection"),
    },
}
SUCCESS = {"result": "success"}


class Owner(Client):
    """An owner's view of one listing; days are counted from the listing's today."""

    def __init__(self, sandbox: Sandbox, *, dialect: str = "official", item: int = 0, seller_id: int = ANNA) -> None:
        super().__init__(sandbox, seller_id)
        self.dialect, self.item = dialect, item or sandbox.make_rent_item(seller_id)
        self.today = sandbox.today(self.item)

    def day(self, number: int) -> dt.date:
        return self.today + dt.timedelta(days=number)

    def days(self, first: int, end: int) -> list[dt.date]:
        return [self.day(number) for number in range(first, end)]

    def rent(self, kind: str, **details: Any) -> requests.Response:
        method, path = PATHS[self.dialect][kind]
        return self.call(method, path.replace("{item}", str(self.item)), **details)

    def read(self, first: int = 0, last: int = 60, **query: Any) -> list[Any]:
        dates = {"date_start": self.day(first).isoformat(), "date_end": self.day(last).isoformat()}
        answer = self.rent("reads", params={**dates, **query})
        assert answer.status_code == 200, answer.text
        rows: list[Any] = answer.json()["bookings"]
        return rows

    def price(self, first: int, last: int, price: int | None = None, **more: Any) -> requests.Response:
        """`last` is included, as in the call."""
        row = {"date_from": self.day(first).isoformat(), "date_to": self.day(last).isoformat(), **more}
        return self.rent("prices", json={"prices": [row if price is None else {**row, "night_price": price}]})

    def open(self, *spans: tuple[int, int]) -> requests.Response:
        rows = [{**self.span(*span), "open": 1} for span in spans]
        return self.rent("intervals", json={"item_id": self.item, "intervals": rows, "source": "pms"})

    def block(self, *spans: tuple[int, int]) -> requests.Response:
        return self.rent("blocks", json={"bookings": [self.span(*span) for span in spans], "source": None})

    def span(self, first: int, end: int) -> dict[str, str]:
        return {"date_start": self.day(first).isoformat(), "date_end": self.day(end).isoformat()}

    def book(self, first: int, end: int, **details: Any) -> Booking:
        return self.sandbox.book(self.item, self.day(first), self.day(end), **details)

    def on_sale(self, first: int = 0, end: int = 365) -> set[int]:
        """The numbers of the nights that a guest may buy."""
        nights = self.sandbox.calendar(self.item, end - first, self.day(first))
        return {(on - self.today).days for on, night in nights.items() if night.open}


@pytest.fixture(params=["official", "guide"])
def owner(request: pytest.FixtureRequest, sandbox: Sandbox) -> Owner:
    return Owner(sandbox, dialect=request.param)


@pytest.fixture
def official(sandbox: Sandbox) -> Owner:
    return Owner(sandbox)


def fields(answer: requests.Response) -> set[str]:
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], bool(error["message"])) == (422, 422, True)
    return set(error["fields"])


# Access


@pytest.mark.parametrize(
    ("dialect", "kind", "body"),
    [
        ("official", "reads", None),
        ("official", "prices", {"prices": []}),
        ("official", "intervals", {"intervals": []}),
        ("official", "base", {}),
        ("official", "blocks", {"bookings": []}),
        ("guide", "reads", None),
        ("guide", "prices", {"prices": []}),
        ("guide", "intervals", {"intervals": []}),
        ("guide", "checks", {}),
    ],
)
def test_every_call_needs_token_scope_and_own_listing(
    sandbox: Sandbox, dialect: str, kind: str, body: dict[str, Any] | None
) -> None:
    owner = Owner(sandbox, dialect=dialect)
    strange = sandbox.make_rent_item(OLEG)

    def status(who: Client, item: int, **query: str) -> int:
        method, path = PATHS[dialect][kind]
        dates = owner.span(0, 9) if kind == "reads" else {}
        sent = {"item_id": item, **body} if kind == "intervals" and body is not None else body
        answer = who.call(method, path.replace("{item}", str(item)), params={**dates, **query}, json=sent)
        return answer.status_code

    assert [status(owner, item) for item in (owner.item, strange, 5)] == [200, 403, 404]
    sandbox.drop_item(owner.item)
    assert status(owner, owner.item) == 404
    skips = 400 if kind in {"base", "blocks", "checks"} else 200
    assert [status(owner, item, skip_error="true") for item in (strange, 5)] == [skips, skips]
    other = "write" if kind in {"reads", "checks"} else "read"
    for scopes in (("items:info",), (f"short_term_rent:{other}",)):
        assert status(Client(sandbox, scopes=scopes), owner.item) == 403
    owner.headers = {"Authorization": "Bearer nonsense"}
    assert status(owner, owner.item) == 401


def test_guide_names_the_user_as_the_official_call_does(anna: Client) -> None:
    assert anna.call("GET", "/user").json() == anna.call("GET", "/core/v1/accounts/self").json()


def test_dialects_speak_of_one_state(sandbox: Sandbox) -> None:
    official = Owner(sandbox)
    guide = Owner(sandbox, dialect="guide", item=official.item)
    booking = official.book(3, 5)
    assert official.open((1, 9)).json() == guide.price(2, 2, 5000).json() == guide.rent("checks").json() == SUCCESS
    assert official.read() == guide.read() == [booking.row]
    nights = sandbox.calendar(official.item, 4)
    assert [night.price for night in nights.values()] == [3500, 3500, 5000, 3500]
    elsewhere = guide.rent("intervals", json={"item_id": 5, "intervals": []})
    assert fields(elsewhere) == {"item_id"}
    assert guide.rent("intervals", json={"intervals": []}).json() == SUCCESS
    assert official.on_sale() == set()


# Reading bookings


def test_booking_is_told_as_documented(sandbox: Sandbox, official: Owner) -> None:
    *expected, strange = json.loads((FIXTURES / "rent_bookings.json").read_text())["bookings"]
    for row, (first, end) in zip(expected, ((1, 4), (4, 5)), strict=True):
        row |= {"check_in": official.day(first).isoformat(), "check_out": official.day(end).isoformat()}
        known = {name: row["contact"].get(name) for name in ("name", "email", "phone")}
        details = {"basePrice": row["base_price"], "guestCount": row["guest_count"], "status": row["status"]}
        later = {name: row[name] for name in ("total_for_buyer",) if name in row}
        contact = {"contact": row["contact"]} if known["phone"] is None else {}
        official.book(first, end, id=row["avito_booking_id"], **known, **details, changes={**later, **contact})
    sandbox.raw_row(official.item, strange)
    assert official.read(with_unpaid="true") == [*expected, strange]
    assert official.read() == official.read(with_unpaid="false") == [expected[0], strange]


def test_answer_holds_the_bookings_that_touch_the_dates(sandbox: Sandbox, owner: Owner) -> None:
    ids = [owner.book(first, end, force=True).id for first, end in ((-3, 0), (-2, 2), (2, 5), (9, 12), (13, 15))]
    assert [row["avito_booking_id"] for row in owner.read(0, 9)] == ids[:4]
    assert [row["avito_booking_id"] for row in owner.read(6, 8)] == []
    sandbox.switch(owner.item, staysInProgress=False)
    assert [row["avito_booking_id"] for row in owner.read(0, 9)] == ids[2:4]


@pytest.mark.parametrize(
    ("query", "status", "wrong"),
    [
        ({}, 422, {"date_start", "date_end"}),
        ({"date_start": "today"}, 422, {"date_start"}),
        ({"date_start": "20300101"}, 422, {"date_start"}),
        ({"date_start": "2020-01-01"}, 422, {"date_start"}),
        ({"date_end": "2020-01-01"}, 422, {"date_end"}),
        ({"date_start": "2030-01-02", "date_end": "2030-01-01"}, 422, {"date_end"}),
        ({"with_unpaid": "1"}, 400, {"with_unpaid"}),
        ({"skip_error": "yes"}, 400, {"skip_error"}),
        ({"page": "1"}, 400, {"page"}),
    ],
)
def test_reading_needs_dates_that_are_not_past(
    owner: Owner, query: dict[str, str], status: int, wrong: set[str]
) -> None:
    usual = owner.span(0, 9) if query else {}
    answer = owner.rent("reads", params={**usual, **query})
    assert (answer.status_code, set(answer.json()["error"]["fields"])) == (status, wrong)


def test_statuses_follow_the_guest(sandbox: Sandbox, official: Owner) -> None:
    def told() -> list[str]:
        return [row["status"] for row in official.read(with_unpaid="true")]

    asked, other = official.book(1, 3, paid=False), official.book(5, 6, paid=False)
    assert told() == ["pending", "pending"]
    assert sandbox.pay(asked).row["safe_deposit"] == {"total_amount": 4375, "owner_amount": 3938, "tax": 437}
    sandbox.expire(other)
    assert told() == ["active"]
    sandbox.switch(rentExpired="cancel")
    sandbox.expire(official.book(5, 6, paid=False))
    sandbox.cancel(asked)
    assert told() == ["canceled", "canceled"]
    sandbox.switch(rentCanceledStay=False)
    assert told() == []
    assert official.on_sale(0, 9) == set(range(9))


def test_listing_may_behave_otherwise_than_the_rest(sandbox: Sandbox, official: Owner) -> None:
    sandbox.cancel(official.book(1, 2))
    sandbox.switch(official.item, canceledStay=False)
    assert (official.read(), sandbox.rent_item(official.item)["switches"]) == ([], {"canceledStay": False})
    sandbox.switch(official.item, canceledStay=None)
    assert len(official.read()) == 1
    for path, wrong in (
        (f"/_sandbox/rent/items/{official.item}/switches", {"canceledStay": "no"}),
        (f"/_sandbox/rent/items/{official.item}/switches", {"rentCanceledStay": True}),
        ("/_sandbox/settings", {"rentExpired": "explode"}),
        ("/_sandbox/settings", {"rentTimezone": "Mars/Olympus"}),
    ):
        assert sandbox.call("PATCH", path, json=wrong).status_code == 400


def test_bookings_are_moved_edited_hidden_and_mangled(sandbox: Sandbox, official: Owner) -> None:
    booking = official.book(1, 3)
    moved = sandbox.move(booking, official.day(2), official.day(6))
    assert (moved.id, moved.row["check_in"], moved.row["nights"]) == (booking.id, official.day(2).isoformat(), 4)
    assert official.on_sale(0, 8) == {0, 1, 6, 7}
    edited = sandbox.edit(booking, status="strange", changes={"contact": None, "check_out": "soon"})
    assert official.read() == [edited.row]
    assert (edited.row["status"], edited.row["check_out"], "contact" in edited.row) == ("strange", "soon", False)
    sandbox.hide(booking)
    sandbox.raw_row(official.item, ["no", "booking"])
    assert official.read() == [["no", "booking"]]
    sandbox.clear_raw_rows(official.item)
    sandbox.hide(booking, False)
    assert official.read() == [edited.row]


def test_fields_of_later_times_come_on_demand(sandbox: Sandbox, official: Owner) -> None:
    official.book(1, 2)
    sandbox.switch(official.item, totalForBuyer=True, extraFields=True)
    (row,) = official.read()
    assert (row["total_for_buyer"], row["origin"]) == (3500, "avito")


def test_closed_nights_come_back_as_rows_on_demand(sandbox: Sandbox, official: Owner) -> None:
    official.open((0, 3), (5, 10))
    official.block((7, 9))
    assert official.read(0, 9) == []
    sandbox.switch(rentClosedRows=True)
    spans = [(official.day(first).isoformat(), official.day(end).isoformat()) for first, end in ((3, 5), (7, 9))]
    rows = official.read(0, 9)
    assert [(row["check_in"], row["check_out"]) for row in rows] == spans
    assert set(rows[0]) == {"status", "check_in", "check_out", "nights"}


# Intervals


def test_intervals_replace_a_year(sandbox: Sandbox, owner: Owner) -> None:
    assert owner.on_sale() == set(range(365))
    assert owner.open((1, 4), (4, 6), (9, 10)).json() == SUCCESS
    assert owner.on_sale() == {1, 2, 3, 4, 5, 9}
    owner.open((2, 3))
    assert owner.on_sale() == {2}
    assert sandbox.calendar(owner.item, 1, owner.day(365))[owner.day(365)].open == 1
    owner.open()
    assert owner.on_sale() == set()


@pytest.mark.parametrize(
    ("rows", "wrong"),
    [
        ([(1, 4, 1), (3, 6, 1)], {"intervals[1].date_start"}),
        ([(3, 6, 1), (1, 4, 1)], {"intervals[0].date_start"}),
        ([(1, 1, 1)], {"intervals[0].date_end"}),
        ([(1, 2, 1), (4, 3, 1)], {"intervals[1].date_end"}),
        ([(-1, 2, 1)], {"intervals[0].date_start"}),
        ([(1, 2, 0)], {"intervals[0].open"}),
        ([(1, 2, None)], {"intervals[0].open"}),
        ([(1, 2, True), (2, 3, "1")], {"intervals[0].open", "intervals[1].open"}),
    ],
)
def test_wrong_intervals_change_nothing(owner: Owner, rows: list[tuple[int, int, object]], wrong: set[str]) -> None:
    sent = [{**owner.span(first, end), "open": quota} for first, end, quota in rows]
    assert fields(owner.rent("intervals", json={"item_id": owner.item, "intervals": sent})) == wrong
    assert owner.on_sale() == set(range(365))


def test_bodies_are_judged_by_shape_and_by_field(official: Owner) -> None:
    for kind, list_name in (("intervals", "intervals"), ("prices", "prices"), ("blocks", "bookings")):
        id = {"item_id": official.item} if kind == "intervals" else {}
        for body, wrong in (
            ({}, {list_name}),
            ({list_name: {}}, {list_name}),
            ({list_name: [1]}, None),
            ({list_name: [], "extra": 1}, {"extra"}),
            ({list_name: [{"color": "red"}]}, None),
        ):
            found = fields(official.rent(kind, json={**id, **body}))
            assert found == wrong if wrong else f"{list_name}[0]" in " ".join(found)
        assert official.rent(kind, json=[]).status_code == 400
        assert official.rent(kind, data="{").status_code == 400
    assert fields(official.rent("intervals", json={"intervals": []})) == {"item_id"}


# Prices


def test_prices_are_written_up_to_the_last_day(sandbox: Sandbox, owner: Owner) -> None:
    assert owner.price(1, 3, 1990, minimal_duration=2, extra_guest_fee=700).json() == SUCCESS
    owner.price(3, 3, 5000)
    nights = list(sandbox.calendar(owner.item, 5).values())
    assert [(night.price, night.minimal_duration) for night in nights] == [
        (3500, 1), (1990, 2), (1990, 2), (5000, 2), (3500, 1),
    ]  # fmt: skip
    sandbox.switch(owner.item, minimalDurationOmitted="clear")
    owner.price(2, 2, 1990)
    assert [night.minimal_duration for night in sandbox.calendar(owner.item, 5).values()] == [1, 2, 1, 2, 1]


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"night_price": 0}, "night_price"),
        ({"night_price": 2**63}, "night_price"),
        ({"night_price": 1990.5}, "night_price"),
        ({"night_price": None}, "night_price"),
        ({"minimal_duration": 31}, "minimal_duration"),
        ({"minimal_duration": 0}, "minimal_duration"),
        ({"extra_guest_fee": -1}, "extra_guest_fee"),
        ({"date_from": None}, "date_from"),
        ({"date_from": "2020-01-01"}, "date_from"),
        ({"date_to": "2020-01-01"}, "date_to"),
        ({"date_to": "2026-13-01"}, "date_to"),
        ({"date_end": "2030-01-01"}, "date_end"),
    ],
)
def test_one_wrong_price_refuses_all(sandbox: Sandbox, owner: Owner, change: dict[str, Any], wrong: str) -> None:
    day = {"date_from": owner.day(1).isoformat(), "date_to": owner.day(1).isoformat(), "night_price": 100}
    answer = owner.rent("prices", json={"prices": [day, day, day, {**day, **change}]})
    assert fields(answer) == {f"prices[3].{wrong}"}
    assert sandbox.calendar(owner.item, 2)[owner.day(1)].price == 3500


def test_refusal_names_the_field(owner: Owner) -> None:
    days = ({"date_from": str(first), "date_to": str(owner.day(2))} for first in (owner.day(1), "2020-01-01"))
    answer = owner.rent("prices", json={"prices": [{**span, "night_price": 100} for span in days]})
    expected = json.loads((FIXTURES / "rent_prices_refused.json").read_text())
    assert (answer.status_code, answer.json()) == (422, expected)


def test_price_written_over_an_unpaid_booking_makes_it_overbook(sandbox: Sandbox, official: Owner) -> None:
    for first, end in ((0, 2), (2, 3), (3, 5), (5, 7), (7, 8)):
        official.book(first, end, paid=first == 3)
    official.price(2, 5, 9000)
    rows = official.read(with_unpaid="true")
    assert [row["status"] for row in rows] == ["pending", "overbook", "active", "overbook", "pending"]
    assert official.on_sale(0, 9) == {2, 5, 6, 8}


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({"night_price": None, "minimal_duration": 7, "refund": {"days": 14}, "discount": []}, set()),
        ({"instant": {"active": True, "min_days": 5, "max_days": None}, "fees": {"pets": None}}, set()),
        ({"fees": {"cleaning": {"amount": 0}, "pets": {"allowed": True, "application": "by_night"}}}, set()),
        ({"minimal_duration": 9, "night_price": 0}, {"minimal_duration", "night_price"}),
        ({"base_price": 1}, {"base_price"}),
        ({"extra_guest_threshold": 9}, {"extra_guest_threshold"}),
        ({"refund": {"days": 2}}, {"refund.days"}),
        ({"instant": {"max_days": 31, "active": 1}}, {"instant.max_days", "instant.active"}),
        ({"discount": [{"threshold": 7, "percent": 10}, {"threshold": 8}]}, {"discount[1].threshold"}),
        ({"fees": {"pets": {"application": "by_paw"}}}, {"fees.pets.application"}),
    ],
)
def test_base_is_set_for_all_nights_without_an_own_value(
    sandbox: Sandbox, official: Owner, body: dict[str, Any], wrong: set[str]
) -> None:
    official.price(1, 1, 7000)
    assert official.rent("base", json={"night_price": 4000}).content == b""
    answer = official.rent("base", json=body)
    assert (answer.status_code == 200 and set()) == wrong or fields(answer) == wrong
    assert [night.price for night in sandbox.calendar(official.item, 3).values()] == [4000, 7000, 4000]
    assert sandbox.calendar(official.item, 1)[official.today].minimal_duration == (
        7 if "refund" in body and not wrong else 1
    )


# Blocks


def test_blocks_leave_out_what_guests_have_paid(sandbox: Sandbox, official: Owner) -> None:
    official.book(4, 6, id=11111)
    official.book(10, 11, paid=False)
    answer = official.block((1, 3), (5, 8), (9, 12))
    assert answer.status_code == 409
    expected = json.loads((FIXTURES / "rent_conflict.json").read_text())
    conflict = expected["error"]["conflicts"][0]
    conflict["interval"] = official.span(5, 8)
    conflict["bookings"][0] |= {"check_in": official.day(4).isoformat(), "check_out": official.day(6).isoformat()}
    assert answer.json() == expected
    assert official.on_sale(0, 13) == {0, 3, 6, 7, 8, 12}
    sandbox.switch(official.item, blocksPartial=False)
    official.block((0, 1), (5, 8))
    assert 0 in official.on_sale()
    assert official.block((6, 8)).json() == SUCCESS
    assert official.on_sale(0, 13) == {0, 3, 8, 12}


def test_blocks_add_or_replace_and_intervals_take_them_away(sandbox: Sandbox, official: Owner) -> None:
    official.block((1, 2))
    official.block((3, 4))
    assert official.on_sale(0, 6) == {0, 2, 4, 5}
    sandbox.switch(official.item, blocksReplace=True)
    official.block((2, 3))
    assert official.on_sale(0, 6) == {0, 1, 3, 4, 5}
    official.block((370, 372))
    official.open((0, 4))
    assert official.on_sale(0, 374) == {*range(4), *range(365, 370), 372, 373}
    official.open((371, 372))
    assert official.on_sale(0, 374) == {*range(365, 370), 371, 372, 373}


def test_wrong_blocks_are_named(official: Owner) -> None:
    assert fields(official.block((1, 4), (3, 5))) == {"bookings[1].date_start"}
    assert fields(official.block((-1, 4))) == {"bookings[0].date_start"}
    row = {**official.span(1, 2), "type": "holiday", "comment": 5}
    answer = official.rent("blocks", json={"bookings": [row]})
    assert fields(answer) == {"bookings[0].type", "bookings[0].comment"}
    kinds = [
        {**official.span(n, n + 1), "type": kind, "comment": None} for n, kind in enumerate(("manual", "booking", None))
    ]
    assert official.rent("blocks", json={"bookings": kinds}).json() == SUCCESS


# Guests and nights


def test_guest_gets_only_what_is_for_sale(sandbox: Sandbox, official: Owner) -> None:
    official.open((0, 10))
    official.price(4, 4, 3500, minimal_duration=3)
    official.book(1, 3)
    for first, end in ((0, 2), (2, 4), (9, 11), (4, 6), (-1, 1), (5, 5)):
        dates = {"checkIn": official.day(first).isoformat(), "checkOut": official.day(end).isoformat()}
        body = {"itemId": official.item, **dates}
        assert sandbox.call("POST", "/_sandbox/rent/bookings", json=body).status_code == 409, (first, end)
    official.book(0, 1)
    official.book(4, 7)
    assert len(sandbox.calendar(official.item, 2)[official.day(1)].booked_by) == 1
    second = official.book(0, 2, force=True)
    assert second.id in sandbox.calendar(official.item, 2)[official.day(1)].booked_by
    onto = {"checkIn": official.day(1).isoformat(), "checkOut": official.day(4).isoformat()}
    assert sandbox.call("POST", f"/_sandbox/rent/bookings/{second.id}/move", json=onto).status_code == 409


@pytest.mark.parametrize(("reopens", "on_sale"), [(True, {0, 1, 2, 3, 4}), (False, {0, 3, 4})])
def test_given_up_nights_are_for_sale_again_or_not(
    sandbox: Sandbox, official: Owner, reopens: bool, on_sale: set[int]
) -> None:
    sandbox.switch(official.item, cancellationReopens=reopens)
    sandbox.cancel(official.book(1, 3))
    assert official.on_sale(0, 5) == on_sale
    sandbox.move(official.book(4, 5), official.day(5), official.day(6))
    assert (4 in official.on_sale()) is reopens
    moved = sandbox.move(official.book(10, 12), official.day(11), official.day(13))
    sandbox.switch(official.item, cancellationReopens=True)
    sandbox.cancel(moved)
    assert official.on_sale(10, 13) == ({10, 11, 12} if reopens else {11, 12})
    official.open((0, 3))
    booking = official.book(1, 3)
    official.open((0, 1))
    sandbox.cancel(booking)
    assert official.on_sale() == {0}


@pytest.mark.parametrize("zone", ["Europe/Kaliningrad", "Asia/Kamchatka"])
def test_today_is_that_of_the_listing(sandbox: Sandbox, official: Owner, zone: str) -> None:
    sandbox.switch(official.item, timezone=zone)
    # The sandbox's clock is brought to noon in Moscow: far from every midnight that this test does not mean.
    here = dt.datetime.now(dt.timezone(dt.timedelta(hours=3)))
    noon = here.replace(hour=12, minute=0, second=0, microsecond=0)
    offset = {"Europe/Kaliningrad": -1, "Asia/Kamchatka": 9}[zone]
    for hours in (11 - offset, 12 - offset + 1):
        sandbox.shift_clock(seconds=(noon - here).total_seconds(), hours=hours)
        official.today = here.date() + dt.timedelta(days=hours >= 12 - offset)
        assert sandbox.today(official.item) == official.today
        assert fields(official.price(-1, 0, 100)) == {"prices[0].date_from"}
        assert official.price(0, 0, 100).json() == SUCCESS


# Driving and watching


def test_calls_are_counted_by_listing_and_kind(sandbox: Sandbox) -> None:
    official = Owner(sandbox)
    guide = Owner(sandbox, dialect="guide")
    sandbox.rent_fault("status", "prices", guide.item, status=503, times=1)
    for owner in (official, guide):
        owner.read()
        owner.price(0, 0, 100)
        owner.open((0, 1))
    official.rent("base", json={})
    official.block()
    guide.rent("checks")
    calls = sandbox.rent_calls(official.item)
    assert [call.kind for call in calls] == ["reads", "prices", "intervals", "base", "blocks"]
    assert calls[2].body["intervals"] == [{**official.span(0, 1), "open": 1}]
    assert (calls[0].body, calls[0].status, calls[0].user_id) == (None, 200, ANNA)
    assert [(call.status, call.fault) for call in sandbox.rent_calls(kind="prices")] == [(200, None), (503, "status")]
    assert [call.kind for call in sandbox.rent_calls(guide.item)] == ["reads", "prices", "intervals", "checks"]
    assert sandbox.count_rent_calls(since=calls[3].at) == 3
    sandbox.forget_rent_calls()
    assert sandbox.count_rent_calls() == 0


@pytest.mark.parametrize("apply", ["never", "before", "after"])
def test_write_may_take_effect_though_nobody_is_told(sandbox: Sandbox, owner: Owner, apply: str) -> None:
    sandbox.rent_fault("silence", "intervals", owner.item, times=1, apply=apply, seconds=0.1)
    with pytest.raises(requests.ConnectionError):
        owner.open((0, 1))
    assert owner.on_sale(0, 3) == ({0, 1, 2} if apply == "never" else {0})
    sandbox.rent_fault("status", "prices", times=1, apply=apply, status=502)
    assert owner.price(0, 0, 100).status_code == 502
    assert sandbox.calendar(owner.item, 1)[owner.today].price == (3500 if apply == "never" else 100)


def test_limits_and_their_headers_count_rent_calls(sandbox: Sandbox, official: Owner) -> None:
    sandbox.switch(callsPerMinute=2, rateLimitHeaders=True, retryAfterSeconds=7)
    answers = [official.rent("base", json={}) for _ in range(3)]
    told = [(answer.status_code, answer.headers["x-ratelimit-remaining"]) for answer in answers]
    assert told == [(200, "1"), (200, "0"), (429, "0")]
    assert (answers[0].headers["x-ratelimit-limit"], answers[2].headers["retry-after"]) == ("2", "7")


def test_scopes_of_rent_are_among_those_of_every_account() -> None:
    assert {"short_term_rent:read", "short_term_rent:write"} <= set(ALL_SCOPES)
