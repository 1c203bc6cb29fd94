"""Bookings by hand: half-open stays, never two parties in one night, whoever asks and however many at once."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from integrations_str.models import Booking, BookingRevision, Night
from tests.api.conftest import assert_error
from tests.conftest import Api
from tests.factories import make_user
from tests.integrations_str.conftest import Home, each, make_home

BOOKINGS = "/api/v1/str/bookings"


def nights_of(home: Home) -> dict[str, int]:
    rows = Night.objects.filter(property=home.id).values_list("date", "booking")
    return {f"{(date - home.today).days}": booking for date, booking in rows}


def path_of(booking: Any) -> str:
    return f"{BOOKINGS}/{booking['id']}"


def test_a_booking_is_shown_as_the_contract_says(home: Home) -> None:
    made = home.book(
        2, 5, guestName="Пётр", guestPhone="8 (916) 123-45-67", guestEmail="p@example.com", guests=3, totalPrice=9000
    )
    assert made.status_code == 201
    shown = made.json()
    assert shown == {
        "id": shown["id"],
        "propertyId": home.id,
        "source": "manual",
        "avitoBookingId": None,
        "checkIn": home.day(2).isoformat(),
        "checkOut": home.day(5).isoformat(),
        "nights": 3,
        "guestName": "Пётр",
        "guestPhone": "+79161234567",
        "guestEmail": "p@example.com",
        "guests": 3,
        "totalPrice": 9000,
        "status": "confirmed",
        "conflict": False,
        "createdAt": shown["createdAt"],
        "updatedAt": shown["updatedAt"],
    }
    assert home.api.get(path_of(shown)).json() == shown
    assert home.bookings() == [shown]


@pytest.mark.parametrize(
    ("written", "kept"),
    [("89161234567", "+79161234567"), ("9161234567", "+79161234567"), ("+7 916 123-45-67", "+79161234567"), ("", "")],
)
def test_phones_are_kept_in_one_spelling(home: Home, written: str, kept: str) -> None:
    assert home.book(1, 2, guestPhone=written).json()["guestPhone"] == kept


def test_stays_back_to_back_share_no_night(home: Home) -> None:
    answers = [home.book(5, 8), home.book(3, 5), home.book(8, 9)]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    for first, last in ((4, 6), (7, 9), (5, 8), (6, 7), (1, 30), (8, 9)):
        assert_error(home.book(first, last), 409, "dates_taken")
    assert sorted(nights_of(home), key=int) == ["3", "4", "5", "6", "7", "8"]
    assert Booking.objects.count() == 3


def test_every_wrong_field_is_refused_by_its_name(home: Home, subtests: pytest.Subtests) -> None:
    good = {"propertyId": home.id, "checkIn": home.day(1).isoformat(), "checkOut": home.day(3).isoformat()}
    elsewhere = make_home(home.api.base, home.avito, home.account, make_user("elsewhere"))
    bad: list[tuple[str, Any]] = [
        *each("propertyId", None, "", "x", 987654321, 10**30, -1, [], elsewhere.id),
        *each("checkIn", None, "", "soon", "2026-02-30", {}),
        *each("checkOut", None, "2026-13-01", good["checkIn"], home.day(0).isoformat()),
        *each("checkOut", "9999-12-31", home.day(732).isoformat()),
        *each("guestName", "x" * 256, {}, None, "a\0b"),
        *each("guestPhone", "позвоните", "123", "x" * 300, {}, None),
        *each("guestEmail", "нет", "a@", "a@b.c" + "c" * 300, None),
        *each("guests", 0, -1, 101, "двое", 1.5),
        *each("totalPrice", -1, "дорого", 10**13, 1.5),
    ]
    kept = home.book(10, 12).json()
    for name, value in bad:
        with subtests.test(f"{name}={str(value)[:20]!r}"):
            assert_error(home.api.post(BOOKINGS, {**good, name: value}), 400, attr=name)
            if name != "checkOut":
                assert_error(home.api.put(path_of(kept), {name: value}), 400, attr=name)
    for year in (1, 1999, 2200):
        old = {"checkIn": f"{year:04}-01-01", "checkOut": f"{year:04}-01-03"}
        assert_error(home.api.post(BOOKINGS, {**good, **old}), 400, attr="checkIn")
    for name in good:
        without = {key: value for key, value in good.items() if key != name}
        assert_error(home.api.post(BOOKINGS, without), 400, "required", attr=name)
    assert home.bookings() == [kept]


def test_what_is_not_for_a_host_to_say_is_ignored(home: Home) -> None:
    said = {"source": "avito", "avitoBookingId": 7, "status": "cancelled", "conflict": True, "id": 1, "nights": 9}
    shown = home.book(1, 2, **said).json()
    assert (shown["source"], shown["avitoBookingId"], shown["status"]) == ("manual", None, "confirmed")
    assert (shown["conflict"], shown["nights"]) == (False, 1)


def test_a_booking_moves_as_a_whole_or_not_at_all(home: Home) -> None:
    fixed, moving = home.book(5, 8).json(), home.book(1, 3, guestName="Пётр").json()
    assert_error(home.api.put(path_of(moving), {"checkOut": home.day(6).isoformat()}), 409, "dates_taken")
    assert home.api.get(path_of(moving)).json() == moving
    assert nights_of(home) == {"1": moving["id"], "2": moving["id"], **dict.fromkeys("567", fixed["id"])}
    dates = {"checkIn": home.day(2).isoformat(), "checkOut": home.day(5).isoformat()}
    moved = home.api.put(path_of(moving), dates).json()
    assert moved == {**moving, **dates, "nights": 3, "updatedAt": moved["updatedAt"]}
    assert nights_of(home) == {**dict.fromkeys("234", moving["id"]), **dict.fromkeys("567", fixed["id"])}
    revisions = BookingRevision.objects.filter(booking=moving["id"]).values_list("before", "after")
    assert [(before and before["check_in"], after["check_in"]) for before, after in revisions] == [
        (None, moving["checkIn"]),
        (moving["checkIn"], dates["checkIn"]),
    ]


def test_a_booking_stays_at_its_property(home: Home) -> None:
    other = home.api.post("/api/v1/str/properties", {"name": "Вторая", "basePrice": 1}).json()["id"]
    booking = home.book(1, 3).json()
    assert home.api.put(path_of(booking), {"propertyId": other}).json()["propertyId"] == home.id


def test_a_cancelled_booking_is_kept_and_its_nights_are_free(home: Home) -> None:
    booking = home.book(1, 3).json()
    for _twice in range(2):
        answer = home.api.post(f"{path_of(booking)}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "cancelled")
    assert nights_of(home) == {}
    assert BookingRevision.objects.filter(booking=booking["id"]).count() == 2
    assert home.book(1, 3).status_code == 201
    # A cancelled one claims nothing, however it is moved.
    assert home.api.put(path_of(booking), {"checkOut": home.day(4).isoformat()}).json()["status"] == "cancelled"
    assert home.book(3, 4).status_code == 201


def test_bookings_are_found_by_property_dates_status_and_source(home: Home) -> None:
    made = {name: home.book(*dates).json()["id"] for name, dates in {"a": (1, 3), "b": (3, 5), "c": (9, 10)}.items()}
    home.api.post(f"{BOOKINGS}/{made['c']}/cancel")
    home.avito.book(home.item, home.day(20), home.day(22))
    home.connect()
    (made["d"],) = (row["id"] for row in home.bookings(source="avito"))
    names = {id: name for name, id in made.items()}

    def found(**query: Any) -> str:
        return "".join(sorted(names[row["id"]] for row in home.bookings(**query)))

    assert found() == "abcd"
    assert (found(status="cancelled"), found(status="confirmed"), found(status="pending")) == ("c", "abd", "")
    assert (found(source="manual"), found(source="avito")) == ("abc", "d")
    # Both ends of the question are nights, a booking's own last day is not.
    assert found(**{"from": home.day(3).isoformat(), "to": home.day(3).isoformat()}) == "b"
    assert found(**{"from": home.day(2).isoformat(), "to": home.day(3).isoformat()}) == "ab"
    assert found(**{"from": home.day(5).isoformat()}) == "cd"
    assert found(to=home.day(0).isoformat()) == ""
    assert [row["id"] for row in home.bookings(pageSize=2)] == [made["d"], made["c"]]
    assert home.api.get(BOOKINGS, propertyId=987654321).json()["results"] == []
    for name, value in (("from", "soon"), ("to", "2026-02-30"), ("status", "gone"), ("source", "booking.com"),
                        ("propertyId", "x"), ("propertyId", "9" * 30)):  # fmt: skip
        assert_error(home.api.get(BOOKINGS, **{name: value}), 400, attr=name)


def at_once(count: int, act: Any) -> list[Any]:
    together = threading.Barrier(count)

    def go(number: int) -> Any:
        together.wait(20)
        return act(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(go, range(count)))


def test_of_many_who_ask_for_the_same_nights_at_once_exactly_one_gets_them(home: Home) -> None:
    token = home.api.session.headers["Authorization"]
    askers = [Api(home.api.base, Authorization=str(token)) for _ in range(8)]
    for night in range(1, 21, 4):
        # Not the same nights, but all of them over the second one.
        stays = [(home.day(night + shift).isoformat(), home.day(night + shift + 2).isoformat()) for shift in (0, 1)]

        def ask(number: int, stays: list[tuple[str, str]] = stays) -> int:
            body = dict(zip(("checkIn", "checkOut"), stays[number % 2], strict=True))
            return askers[number].post(BOOKINGS, {"propertyId": home.id, **body}).status_code

        assert Counter(at_once(8, ask)) == {201: 1, 409: 7}
    assert Booking.objects.count() == 5
    assert Night.objects.count() == 10


def test_of_two_bookings_that_move_onto_the_same_night_at_once_one_gets_it(home: Home) -> None:
    token = home.api.session.headers["Authorization"]
    rows = [home.book(1, 2).json(), home.book(3, 4).json()]
    dates = {"checkIn": home.day(2).isoformat(), "checkOut": home.day(3).isoformat()}

    def move(number: int) -> int:
        api = Api(home.api.base, Authorization=str(token))
        return api.put(path_of(rows[number]), dates).status_code

    assert sorted(at_once(2, move)) == [200, 409]
    assert sorted(nights_of(home)) in (["1", "2"], ["2", "3"])


def test_the_database_itself_refuses_a_second_party_in_a_night(home: Home) -> None:
    booking = home.book(1, 3).json()
    row = Booking.objects.get(pk=booking["id"])
    other = Booking.objects.create(property=row.property, check_in=row.check_in, check_out=row.check_out)
    with pytest.raises(IntegrityError, match="one_booking_per_night"), transaction.atomic():
        Night.objects.create(property=row.property, date=row.check_in, booking=other)
