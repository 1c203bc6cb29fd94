"""Short-term rent as callers see it: what is sent in either dialect, how oddly Avito may answer, what is never sent."""

import json
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from hypothesis import example, given
from hypothesis import strategies as st

import avito
from avito import Client, FreeInterval, PriceRange, RentBlock, Snapshot
from avito.protocol import Request, Response
from avito.rent import BASE_MIN_STAY_MAX, MIN_STAY_MAX, Dialect, RentCalls
from avito_accounts import tokens
from tests.config.test_settings import manage
from tests.factories import make_account, make_proxy

FIXTURES = Path(__file__).parents[1] / "fixtures" / "avito"
ME, FLAT = 141906442, 4341979279
SUCCESS = {"result": "success"}
BOOKING: dict[str, object] = {
    "avito_booking_id": 77777777,
    "check_in": "2026-12-01",
    "check_out": "2026-12-04",
    "status": "active",
    "contact": {"name": "s3cr3t", "email": "s3cr3t@example.com", "phone": "s3cr3t"},
}
REASONS = {"not_an_object", "bad_id", "id_repeated", "no_dates", "bad_dates", "dates_reversed"}


class Avito:
    """In place of a transport: keeps requests, answers as told."""

    def __init__(self, answer: object = SUCCESS, status: int = 200, *, content_type: str = "application/json") -> None:
        self.requests: list[Request] = []
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.response = Response(status, {"Content-Type": content_type}, body)

    def send(self, request: Request, *, deadline_seconds: float | None = None) -> Response:
        self.requests.append(request)
        return self.response

    def said(self) -> list[tuple[str, str, object]]:
        return [(one.method, one.path, json.loads(one.body) if one.body else None) for one in self.requests]


def rent(transport: Avito, dialect: Dialect = "official") -> RentCalls:
    return Client("token", transport, dialect).rent


def day(number: int) -> date:
    return date(2026, 12, number)


def snapshot(*rows: object) -> Snapshot:
    return rent(Avito({"bookings": rows})).bookings(ME, FLAT, start=day(1), end=day(31))


def fixture(name: str) -> bytes:
    return (FIXTURES / name).read_bytes()


# What is sent


OFFICIAL = f"/realty/v1/accounts/{ME}/items/{FLAT}"
GUIDE = f"/short_term_rent/accounts/{ME}/items/{FLAT}"


@pytest.mark.parametrize(
    ("dialect", "method", "prices", "free"),
    [
        ("official", "POST", f"{OFFICIAL}/prices", "/realty/v1/items/intervals"),
        ("guide", "PUT", f"{GUIDE}/prices", f"{GUIDE}/availability"),
    ],
)
def test_each_dialect_has_its_paths_and_all_have_the_same_bodies(
    dialect: Dialect, method: str, prices: str, free: str
) -> None:
    transport = Avito()
    calls = rent(transport, dialect)
    calls.set_prices(ME, FLAT, [PriceRange(day(1), day(1), 2289, None), PriceRange(day(2), day(31), 3000, 30)])
    calls.set_prices(ME, FLAT, [PriceRange(day(1), day(9), None, 1)])
    calls.set_free(ME, FLAT, [FreeInterval(day(1), day(4)), FreeInterval(day(4), day(11), open=5)])
    calls.set_free(ME, FLAT, [])
    one_day = {"date_from": "2026-12-01", "date_to": "2026-12-01", "night_price": 2289}
    others = {"date_from": "2026-12-02", "date_to": "2026-12-31", "night_price": 3000, "minimal_duration": 30}
    first = {"date_start": "2026-12-01", "date_end": "2026-12-04", "open": 1}
    second = {"date_start": "2026-12-04", "date_end": "2026-12-11", "open": 5}
    stay = {"date_from": "2026-12-01", "date_to": "2026-12-09", "minimal_duration": 1}
    assert transport.said() == [
        (method, prices, {"prices": [one_day, others]}),
        (method, prices, {"prices": [stay]}),
        (method, free, {"item_id": FLAT, "intervals": [first, second], "source": "avito-service"}),
        (method, free, {"item_id": FLAT, "intervals": [], "source": "avito-service"}),
    ]
    assert all(one.headers["Content-Type"] == "application/json" and not one.query for one in transport.requests)


@pytest.mark.parametrize(("dialect", "path"), [("official", f"{OFFICIAL}/bookings"), ("guide", f"{GUIDE}/bookings")])
def test_bookings_are_asked_for_between_two_days(dialect: Dialect, path: str) -> None:
    transport = Avito({"bookings": []})
    rent(transport, dialect).bookings(ME, FLAT, start=day(1), end=day(31))
    rent(transport, dialect).bookings(ME, FLAT, start=day(1), end=day(31), with_unpaid=False)
    dates = (("date_start", "2026-12-01"), ("date_end", "2026-12-31"))
    assert transport.said() == [("GET", path, None)] * 2
    assert [one.query for one in transport.requests] == [(*dates, ("with_unpaid", "true")), dates]


def test_base_is_set_where_there_is_one() -> None:
    transport = Avito(b"")
    calls = rent(transport)
    assert calls.has_base
    calls.set_base(FLAT, night_price=3000, min_stay=7)
    calls.set_base(FLAT, night_price=None, min_stay=2)
    path = f"/realty/v1/items/{FLAT}/base"
    assert transport.said() == [
        ("POST", path, {"night_price": 3000, "minimal_duration": 7}),
        ("POST", path, {"minimal_duration": 2}),
    ]
    guide = rent(transport, "guide")
    assert not guide.has_base
    with pytest.raises(avito.NotFound, match="no base"):
        guide.set_base(FLAT, night_price=3000, min_stay=7)
    assert len(transport.requests) == 2


def test_listing_is_checked_as_each_dialect_can() -> None:
    official, guide = Avito({"bookings": [BOOKING, 1]}), Avito(b"")
    rent(official).check_item(ME, FLAT)
    rent(guide, "guide").check_item(ME, FLAT)
    assert official.said() == [("GET", f"{OFFICIAL}/bookings", None)]
    start, end = (date.fromisoformat(value) for name, value in official.requests[0].query if name.startswith("date_"))
    assert (end - start).days == 1
    assert "skip_error" not in dict(official.requests[0].query)
    assert guide.said() == [("POST", f"{GUIDE}/check_connection", None)]


@pytest.mark.parametrize("dialect", ["official", "guide"])
@pytest.mark.parametrize(("status", "kind"), [(403, "Forbidden"), (404, "NotFound"), (401, "Unauthorized")])
def test_check_tells_a_foreign_listing_from_an_unknown_one(dialect: Dialect, status: int, kind: str) -> None:
    refusal = {"error": {"code": status, "message": "Нельзя"}}
    with pytest.raises(getattr(avito, kind), match="Нельзя"):
        rent(Avito(refusal, status), dialect).check_item(ME, FLAT)


def test_check_believes_no_empty_words() -> None:
    with pytest.raises(avito.Unreadable):
        rent(Avito({})).check_item(ME, FLAT)
    with pytest.raises(avito.Unreadable):
        rent(Avito({"connected": False}), "guide").check_item(ME, FLAT)


def test_each_dialect_asks_who_it_is_in_its_own_words() -> None:
    transport = Avito({"id": ME})
    assert Client("token", transport).user.me().id == Client("token", transport, "guide").user.me().id == ME
    assert [path for _, path, _ in transport.said()] == ["/core/v1/accounts/self", "/user"]


@pytest.mark.django_db
def test_product_speaks_the_dialect_of_its_settings(settings: LazySettings) -> None:
    account = make_account()
    assert settings.AVITO_STR_DIALECT == "official"
    assert tokens.client_for(account, "token").rent.has_base
    settings.AVITO_STR_DIALECT = "guide"
    assert not tokens.client_for(account, "token").rent.has_base
    account.proxy = make_proxy()
    account.save()
    assert not tokens.client_for(account, "token").rent.has_base


def test_product_does_not_start_with_an_unknown_dialect() -> None:
    checked = manage("check", AVITO_STR_DIALECT="Guide")
    assert checked.returncode != 0
    assert "AVITO_STR_DIALECT must be official or guide, not 'Guide'" in checked.stderr


# What is never sent


def prices(*ranges: PriceRange) -> Callable[[RentCalls], None]:
    return lambda calls: calls.set_prices(ME, FLAT, ranges)


def free(*intervals: FreeInterval) -> Callable[[RentCalls], None]:
    return lambda calls: calls.set_free(ME, FLAT, intervals)


@pytest.mark.parametrize(
    ("field", "wrong"),
    [
        ("date_to", prices(PriceRange(day(2), day(1), 1, 1))),
        ("night_price", prices(PriceRange(day(1), day(1), 0, 1))),
        ("night_price", prices(PriceRange(day(1), day(1), -1, None))),
        ("night_price", prices(PriceRange(day(1), day(1), None, None))),
        ("minimal_duration", prices(PriceRange(day(1), day(1), 1, 0))),
        ("minimal_duration", prices(PriceRange(day(1), day(1), 1, MIN_STAY_MAX + 1))),
        ("prices", prices(PriceRange(day(1), day(3), 1, 1), PriceRange(day(3), day(4), 2, 1))),
        ("prices", prices(PriceRange(day(3), day(4), 2, 1), PriceRange(day(1), day(3), 1, 1))),
        ("date_end", free(FreeInterval(day(1), day(1)))),
        ("date_end", free(FreeInterval(day(2), day(1)))),
        ("open", free(FreeInterval(day(1), day(2), open=0))),
        ("intervals", free(FreeInterval(day(1), day(3)), FreeInterval(day(2), day(4)))),
        ("intervals", free(FreeInterval(day(3), day(4)), FreeInterval(day(1), day(2)))),
        ("night_price", lambda calls: calls.set_base(FLAT, night_price=0, min_stay=1)),
        ("night_price", lambda calls: calls.set_base(FLAT, night_price=None, min_stay=None)),
        ("minimal_duration", lambda calls: calls.set_base(FLAT, night_price=1, min_stay=BASE_MIN_STAY_MAX + 1)),
        ("minimal_duration", lambda calls: calls.set_base(FLAT, night_price=1, min_stay=0)),
        ("date_end", lambda calls: calls.bookings(ME, FLAT, start=day(2), end=day(1))),
    ],
)
def test_what_breaks_a_rule_is_not_sent(field: str, wrong: Callable[[RentCalls], Any]) -> None:
    transport = Avito()
    with pytest.raises(avito.Invalid) as caught:
        wrong(rent(transport))
    assert list(caught.value.fields) == [field]
    assert not caught.value.maybe_done
    assert transport.requests == []


def test_no_prices_ask_nothing() -> None:
    transport = Avito()
    rent(transport).set_prices(ME, FLAT, [])
    assert transport.requests == []


# Whether it was done

WRITES: list[Callable[[RentCalls], None]] = [prices(PriceRange(day(1), day(1), 1, 1)), free()]


def set_base(calls: RentCalls) -> None:
    calls.set_base(FLAT, night_price=1, min_stay=None)


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    "answer", [b"", {}, [], "success", None, {"result": "accepted"}, {"result": {"success": True}}, b"<html>", b"OK"]
)
def test_only_success_is_success(write: Callable[[RentCalls], None], answer: object) -> None:
    with pytest.raises(avito.Unreadable) as caught:
        write(rent(Avito(answer)))
    assert caught.value.maybe_done


@pytest.mark.parametrize("write", [*WRITES, set_base])
def test_error_with_status_200_is_an_error(write: Callable[[RentCalls], None]) -> None:
    with pytest.raises(avito.Forbidden, match="чужое"):
        write(rent(Avito({"error": {"code": 403, "message": "чужое"}})))


@pytest.mark.parametrize("write", [*WRITES, set_base])
def test_refusal_names_the_fields(write: Callable[[RentCalls], None]) -> None:
    with pytest.raises(avito.Invalid, match="Validation error") as caught:
        write(rent(Avito(fixture("rent_prices_refused.json"), 422)))
    assert caught.value.fields == {"prices[1].date_from": "Дата не может быть в прошлом"}
    assert (caught.value.status, caught.value.maybe_done) == (422, False)


@pytest.mark.parametrize("status", [200, 201, 204])
@pytest.mark.parametrize("answer", [b"", SUCCESS, {}, "ok"])
def test_base_needs_no_words(status: int, answer: object) -> None:
    set_base(rent(Avito(answer, status)))


def test_page_of_a_filter_is_no_success_of_the_base() -> None:
    with pytest.raises(avito.Unreadable):
        set_base(rent(Avito(b"<html>", content_type="text/html")))


# What is read


def test_bookings_are_read() -> None:
    found = rent(Avito(fixture("rent_bookings.json"))).bookings(ME, FLAT, start=day(1), end=day(31))
    first, second = found.bookings
    assert (first.id, first.status, first.guests, first.base_price) == (4102938475, "active", 2, 8000)
    assert (first.check_in, first.check_out) == (day(1), day(4))
    assert (first.prepayment, first.payout, first.commission) == (5000, 4500, 500)
    assert (first.guest_name, first.guest_email, first.guest_phone) == ("Иван", "guest@example.com", "9997770000")
    assert first.raw["total_for_buyer"] == 7600
    assert (second.status, second.guest_phone, second.payout) == ("pending", "", 0)
    assert found.blocks == (RentBlock(date(2026, 12, 30), date(2027, 1, 9)),)
    assert found.unreadable == ()


def test_booking_with_least_is_read() -> None:
    [booking] = snapshot({"avito_booking_id": 1, "check_in": "2026-12-01", "check_out": "2026-12-02"}).bookings
    assert (booking.status, booking.guest_name, booking.guest_email, booking.guest_phone) == ("", "", "", "")
    assert [booking.guests, booking.base_price, booking.prepayment, booking.payout, booking.commission] == [None] * 5


@pytest.mark.parametrize("answer", [b"", None, [], "x", {}, {"bookings": None}, {"bookings": {}}, b"<html>", b"[" * 99])
def test_list_that_is_none_is_unreadable(answer: object) -> None:
    with pytest.raises(avito.Unreadable):
        rent(Avito(answer)).bookings(ME, FLAT, start=day(1), end=day(31))


@pytest.mark.parametrize(
    ("change", "field", "value"),
    [
        ({"avito_booking_id": "123"}, "id", 123),
        ({"avito_booking_id": 123.0}, "id", 123),
        ({"avito_booking_id": 2**63 - 1}, "id", 2**63 - 1),
        ({"status": "overbook"}, "status", "overbook"),
        ({"status": None}, "status", ""),
        ({"status": ["active"]}, "status", ""),
        ({"status": "x" * 1000}, "status", "x" * 64),
        ({"guest_count": "4"}, "guests", 4),
        ({"guest_count": 0}, "guests", None),
        ({"guest_count": True}, "guests", None),
        ({"base_price": 0}, "base_price", 0),
        ({"base_price": -1}, "base_price", None),
        ({"base_price": 8000.5}, "base_price", None),
        ({"base_price": 1e300}, "base_price", None),
        ({"base_price": 2**63}, "base_price", None),
        ({"base_price": "٣"}, "base_price", None),
        ({"base_price": "9" * 4000}, "base_price", None),
        ({"safe_deposit": []}, "payout", None),
        ({"safe_deposit": {"owner_amount": "4500"}}, "payout", 4500),
        ({"contact": "Иван"}, "guest_name", ""),
        ({"contact": {"phone": 9997770000}}, "guest_phone", "9997770000"),
        ({"contact": {"name": "x" * 1000}}, "guest_name", "x" * 255),
        ({"contact": {"name": "\ud800\0"}}, "guest_name", "\ufffd\ufffd"),
    ],
)
def test_booking_is_read_leniently(change: dict[str, object], field: str, value: object) -> None:
    [booking] = snapshot(BOOKING | change).bookings
    assert getattr(booking, field) == value
    assert hash(booking) == hash(booking)


@pytest.mark.parametrize(
    ("change", "avito_id", "reason"),
    [
        ({"avito_booking_id": True}, None, "bad_id"),
        ({"avito_booking_id": False}, None, "bad_id"),
        ({"avito_booking_id": 1.5}, None, "bad_id"),
        ({"avito_booking_id": -1}, None, "bad_id"),
        ({"avito_booking_id": 2**63}, None, "bad_id"),
        ({"avito_booking_id": "12 3"}, None, "bad_id"),
        ({"avito_booking_id": ""}, None, "bad_id"),
        ({"check_in": None}, 77777777, "no_dates"),
        ({"check_in": 20261201}, 77777777, "bad_dates"),
        ({"check_in": "2026-12-01T14:00:00+03:00"}, 77777777, "bad_dates"),
        ({"check_in": "01.12.2026"}, 77777777, "bad_dates"),
        ({"check_in": "2026-02-30"}, 77777777, "bad_dates"),
        ({"check_in": "0001-01-01"}, 77777777, "bad_dates"),
        ({"check_out": "9999-12-31"}, 77777777, "bad_dates"),
        ({"check_out": "10000-01-01"}, 77777777, "bad_dates"),
        ({"check_out": "2026-12-01"}, 77777777, "dates_reversed"),
        ({"check_in": "2026-12-09"}, 77777777, "dates_reversed"),
        ({"avito_booking_id": None, "check_out": "2026-12-01"}, None, "dates_reversed"),
    ],
)
def test_booking_that_is_not_certain_is_told_apart(
    change: dict[str, object], avito_id: int | None, reason: str
) -> None:
    row = BOOKING | change
    found = snapshot({**BOOKING, "avito_booking_id": 1}, row, {**BOOKING, "avito_booking_id": 2})
    assert [one.id for one in found.bookings] == [1, 2]
    [unreadable] = found.unreadable
    assert (unreadable.avito_id, unreadable.reason, unreadable.raw) == (avito_id, reason, row)


@pytest.mark.parametrize("written", [{}, {"avito_booking_id": None}, {"avito_booking_id": 0}])
def test_nights_that_nobody_has_booked_on_avito_are_a_block(written: dict[str, object]) -> None:
    dates = {"check_in": "2026-12-01", "check_out": "2026-12-02"}
    assert snapshot(dates | written) == Snapshot(blocks=(RentBlock(day(1), day(2)),))


def test_row_said_twice_counts_once_and_rows_that_differ_are_not_believed() -> None:
    assert len(snapshot(BOOKING, dict(BOOKING)).bookings) == 1
    found = snapshot(BOOKING, BOOKING | {"status": "canceled"}, BOOKING)
    assert found.bookings == ()
    assert {(one.avito_id, one.reason) for one in found.unreadable} == {(77777777, "id_repeated")}


def test_guest_is_in_no_repr() -> None:
    found = snapshot(BOOKING, BOOKING | {"avito_booking_id": 1, "check_in": None})
    assert (len(found.bookings), len(found.unreadable)) == (1, 1)
    assert "s3cr3t" not in repr(found)


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=20),
    st.sampled_from(["123", "-1", "2026-12-01", "2026-12-32", "0001-01-01", "9999-12-31", "٢", "\ud800", "\0", 2**63]),
    st.dates().map(str),
    st.datetimes().map(str),
    st.lists(st.none(), max_size=2),
    st.fixed_dictionaries({}, optional={"name": st.integers(), "tax": st.text(max_size=5)}),
)
NAMES = ("avito_booking_id", "check_in", "check_out", "status", "guest_count", "base_price", "safe_deposit", "contact")


@given(
    row=st.one_of(
        ODD,
        st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, ODD)),
        ODD.map(lambda odd: BOOKING | {"avito_booking_id": odd}),
    )
)
@example(row={**BOOKING, "avito_booking_id": 10**4000})
def test_row_is_a_booking_a_block_or_unreadable_and_nothing_else(row: Any) -> None:
    found = snapshot(BOOKING, row)
    if isinstance(row, dict) and row.get("avito_booking_id") in (77777777, "77777777"):
        return
    booked = [one for one in found.bookings if one.id != 77777777]
    assert len(found.bookings) - len(booked) == 1
    assert len(booked) + len(found.blocks) + len(found.unreadable) == 1
    for one in booked:
        assert 1 <= one.id < 2**63
        assert one.check_in < one.check_out
        for number in (one.guests, one.base_price, one.prepayment, one.payout, one.commission):
            assert number is None or 0 <= number <= 10**15
    assert all(block.start < block.end for block in found.blocks)
    assert {one.reason for one in found.unreadable} <= REASONS
