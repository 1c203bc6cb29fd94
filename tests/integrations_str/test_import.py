"""Bookings as Avito tells them: what an answer proves, what it does not, and who hears of it."""

import logging
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from integrations_str import queue, serving, tasks
from integrations_str.models import Booking, BookingRevision, Night, QuarantinedBooking, SyncTask
from tests.integrations_str.conftest import Home, assert_agrees, work

TOLD = ("booking_new", "booking_moved", "booking_gone", "booking_back", "booking_unseen", "booking_strange",
        "booking_unreadable", "conflict", "conflict_solved")  # fmt: skip


def told(home: Home) -> list[str]:
    """What the host was told about bookings, the oldest first."""
    rows = home.api.get("/api/v1/notifications", pageSize=200).json()["results"]
    return [row["kind"] for row in reversed(rows) if row["kind"] in TOLD]


def held(home: Home) -> list[int]:
    """Nights that are held, by their distance from today."""
    dates = Night.objects.filter(property=home.id).order_by("date").values_list("date", flat=True)
    return [(date - home.today).days for date in dates]


def only(home: Home) -> dict[str, Any]:
    (row,) = home.bookings(source="avito")
    return row


@pytest.fixture
def on(home: Home) -> Home:
    """Connected, and Avito knows everything."""
    home.connect_and_push()
    return home


def test_a_booking_is_stored_as_avito_says_it_and_its_nights_close(on: Home) -> None:
    made = on.avito.book(
        on.item, on.day(4), on.day(7), basePrice=9900, guestCount=3, name="Анна", email="a@example.com",
        phone="9161234567",
    )  # fmt: skip
    on.read_now()
    row = only(on)
    assert row == {
        **row,
        "propertyId": on.id,
        "source": "avito",
        "avitoBookingId": made.id,
        "checkIn": on.day(4).isoformat(),
        "checkOut": on.day(7).isoformat(),
        "nights": 3,
        "guestName": "Анна",
        "guestPhone": "+79161234567",
        "guestEmail": "a@example.com",
        "guests": 3,
        "totalPrice": 9900,
        "status": "confirmed",
        "conflict": False,
    }
    booking = Booking.objects.get()
    # As Avito has sent them, apart; the markup stays where it is.
    assert (booking.deposit, booking.owner_amount, booking.commission) == (6187, 5569, 618)
    assert held(on) == [4, 5, 6]
    assert [on.calendar(8)[on.day(n)]["reason"] for n in (3, 4, 6, 7)] == [None, "booking", "booking", None]
    assert told(on) == ["booking_new"]
    assert_agrees(on)


def test_the_same_answer_again_writes_nothing(on: Home) -> None:
    on.avito.book(on.item, on.day(4), on.day(7))
    on.avito.book(on.item, on.day(8), on.day(9), paid=False)
    on.avito.raw_row(on.item, {"avito_booking_id": 5, "check_in": "soon"})
    on.read_now()
    work()
    on.avito.forget_rent_calls()
    tables = [model._meta.db_table for model in (Booking, BookingRevision, Night, QuarantinedBooking)]
    news = told(on)
    writes: list[str] = []
    for _time in range(3):
        SyncTask.objects.update(pull_at=timezone.now())
        (claim,) = queue.claim(5)
        with CaptureQueriesContext(connection) as queries:
            serving.serve_one(claim)
        said = [query["sql"] for query in queries if query["sql"].split(" ")[0] in ("INSERT", "UPDATE", "DELETE")]
        writes += [sql for sql in said if any(table in sql for table in tables) or "notifications_" in sql]
    # Nights are settled by statements that touch no row; only bookings that changed cause even those.
    assert writes == []
    assert told(on) == news
    assert on.writes() == []


def test_moved_dates_stay_the_same_booking_and_the_nights_follow(on: Home) -> None:
    made = on.avito.book(on.item, on.day(4), on.day(7))
    on.read_now()
    before = only(on)
    on.avito.move(made, on.day(6), on.day(9))
    on.read_now()
    after = only(on)
    assert (after["id"], after["avitoBookingId"]) == (before["id"], before["avitoBookingId"])
    assert (after["checkIn"], after["checkOut"]) == (on.day(6).isoformat(), on.day(9).isoformat())
    assert held(on) == [6, 7, 8]
    first, second = BookingRevision.objects.filter(booking=after["id"]).values_list("before", "after")
    assert first[0] is None
    assert second[0] == first[1]
    assert {**second[0], "check_in": after["checkIn"], "check_out": after["checkOut"]} == second[1]
    assert told(on) == ["booking_new", "booking_moved"]
    assert_agrees(on)


def test_a_cancelled_booking_is_kept_its_nights_open_and_it_may_come_back(on: Home) -> None:
    made = on.avito.book(on.item, on.day(4), on.day(7))
    on.read_now()
    on.avito.cancel(made)
    for _twice in range(2):
        on.read_now()
    assert (only(on)["status"], held(on)) == ("cancelled", [])
    assert told(on) == ["booking_new", "booking_gone"]
    assert_agrees(on)
    on.avito.edit(made, status="active")
    on.read_now()
    assert (only(on)["status"], held(on)) == ("confirmed", [4, 5, 6])
    assert told(on)[2:] == ["booking_back"]
    assert BookingRevision.objects.count() == 3


def test_a_booking_that_comes_back_over_nights_sold_meanwhile_is_in_conflict(on: Home) -> None:
    made = on.avito.book(on.item, on.day(4), on.day(7))
    on.read_now()
    on.avito.cancel(made)
    on.read_now()
    local = on.book(5, 6).json()
    on.avito.edit(made, status="active")
    on.read_now()
    assert [row["conflict"] for row in on.bookings()] == [True, True]
    assert Night.objects.get(date=on.day(5)).booking_id == local["id"]
    assert held(on) == [4, 5, 6]


def test_a_cancellation_without_other_data_keeps_the_history(on: Home) -> None:
    made = on.avito.book(on.item, on.day(4), on.day(7), basePrice=9900, name="Анна")
    on.read_now()
    nothing = dict.fromkeys(("base_price", "guest_count", "contact", "safe_deposit", "nights"))
    on.avito.edit(made, status="canceled", changes=nothing)
    on.read_now()
    row = only(on)
    assert (row["status"], row["guestName"], row["checkIn"]) == ("cancelled", "Анна", on.day(4).isoformat())
    assert told(on) == ["booking_new", "booking_gone"]


def test_a_missing_booking_is_not_cancelled_and_after_three_answers_its_host_is_told(on: Home) -> None:
    made = on.avito.book(on.item, on.day(4), on.day(7))
    on.read_now()
    on.avito.hide(made)
    for expected in ([], [], ["booking_unseen"], ["booking_unseen"]):
        on.read_now()
        assert told(on)[1:] == expected
    assert (only(on)["status"], held(on)) == ("confirmed", [4, 5, 6])
    on.avito.hide(made, hidden=False)
    on.read_now()
    assert Booking.objects.get().unseen_polls == 0
    on.avito.hide(made)
    on.read_now()
    assert told(on)[1:] == ["booking_unseen"]


def test_an_answer_about_no_bookings_at_all_cancels_nothing(on: Home) -> None:
    on.avito.book(on.item, on.day(4), on.day(7))
    on.read_now()
    on.avito.rent_fault("status", "reads", status=200, body='{"bookings": []}', times=2)
    for _time in range(2):
        on.read_now()
    assert (only(on)["status"], held(on)) == ("confirmed", [4, 5, 6])


def test_a_state_that_nobody_knows_keeps_its_nights_closed(on: Home) -> None:
    made = on.avito.book(on.item, on.day(4), on.day(5), paid=False)
    on.avito.switch(on.item, extraFields=True)
    on.read_now()
    on.avito.edit(made, status="overbook")
    for _twice in range(2):
        on.read_now()
    row = only(on)
    assert (row["status"], Booking.objects.get().raw_status) == ("pending", "overbook")
    assert held(on) == [4]
    assert on.connection()["status"] == "ok"
    assert told(on) == ["booking_new", "booking_moved", "booking_strange"]
    # One that runs out is no longer "pending" at Avito, so it does not vanish unasked.
    on.avito.hide(made)
    for _time in range(4):
        on.read_now()
    assert (only(on)["status"], held(on)) == ("pending", [4])


def test_one_bad_row_among_fifty_is_kept_apart_and_told_of_once(on: Home) -> None:
    for number in range(49):
        on.avito.book(on.item, on.day(2 * number + 1), on.day(2 * number + 2))
    bad = {"avito_booking_id": 77, "status": "active", "contact": {"name": "Тайный", "email": "t@example.com"},
           "check_in": on.day(9).isoformat(), "check_out": on.day(9).isoformat()}  # fmt: skip
    on.avito.raw_row(on.item, bad)
    for _twice in range(2):
        on.read_now()
    assert len(on.bookings(source="avito", pageSize=200)) == 49
    kept = QuarantinedBooking.objects.get()
    assert (kept.reason, kept.avito_booking_id) == ("dates_reversed", 77)
    assert told(on).count("booking_unreadable") == 1
    assert on.connection()["status"] == "ok"
    # Once Avito writes it well, it is a booking like any other.
    on.avito.clear_raw_rows(on.item)
    on.avito.raw_row(on.item, {**bad, "check_in": on.day(200).isoformat(), "check_out": on.day(201).isoformat()})
    on.read_now()
    assert not QuarantinedBooking.objects.exists()
    assert Booking.objects.filter(avito_booking_id=77).exists()


def test_a_booking_whose_row_has_become_unreadable_keeps_its_nights_and_is_not_missed(on: Home) -> None:
    made = on.avito.book(on.item, on.day(4), on.day(7))
    on.read_now()
    on.avito.edit(made, changes={"check_out": "soon"})
    for _time in range(4):
        on.read_now()
    assert held(on) == [4, 5, 6]
    assert told(on) == ["booking_new", "booking_unreadable"]


def test_a_stay_under_way_is_not_lost_when_the_answer_leaves_it_out(on: Home) -> None:
    made = on.avito.book(on.item, on.day(0), on.day(3))
    on.read_now()
    Booking.objects.update(check_in=on.day(-2))
    on.avito.hide(made)
    for _time in range(4):
        on.read_now()
    assert (only(on)["status"], Booking.objects.get().unseen_polls) == ("confirmed", 0)
    assert told(on) == ["booking_new"]
    assert on.calendar(4)[on.day(1)]["reason"] == "booking"


def test_the_answer_asked_for_covers_every_stay_that_is_written_down(on: Home) -> None:
    on.avito.raw_row(
        on.item,
        {"avito_booking_id": 5, "status": "active", "check_in": on.day(360).isoformat(),
         "check_out": on.day(500).isoformat()},
    )  # fmt: skip
    on.read_now()
    on.avito.forget_rent_calls()
    on.read_now()
    (call,) = on.avito.rent_calls(on.item, "reads")
    assert f"date_end={on.day(500).isoformat()}" in call.query
    assert f"date_start={on.day(0).isoformat()}" in call.query
    assert "with_unpaid=true" in call.query
    on.avito.clear_raw_rows(on.item)
    on.avito.raw_row(
        on.item,
        {"avito_booking_id": 5, "status": "canceled", "check_in": on.day(360).isoformat(),
         "check_out": on.day(500).isoformat()},
    )  # fmt: skip
    on.read_now()
    assert only(on)["status"] == "cancelled"


@pytest.mark.parametrize("how", ["vanish", "cancel"])
def test_an_unpaid_booking_holds_its_nights_until_it_has_run_out(on: Home, how: str) -> None:
    on.avito.switch(on.item, expired=how)
    made = on.avito.book(on.item, on.day(4), on.day(6), paid=False)
    on.read_now()
    assert (only(on)["status"], held(on)) == ("pending", [4, 5])
    assert on.calendar(6)[on.day(4)]["reason"] == "pending_booking"
    on.avito.expire(made)
    for _time in range(3):
        on.read_now()
    assert (only(on)["status"], held(on)) == ("cancelled", [])
    assert told(on) == ["booking_new", "booking_gone"]
    work()
    assert_agrees(on)


def test_an_unpaid_booking_that_is_paid_is_confirmed(on: Home) -> None:
    made = on.avito.book(on.item, on.day(4), on.day(6), paid=False)
    on.read_now()
    on.avito.pay(made)
    on.read_now()
    assert (only(on)["status"], held(on)) == ("confirmed", [4, 5])
    assert told(on) == ["booking_new", "booking_moved"]


def test_a_host_may_sell_on_until_a_guest_has_paid(on: Home) -> None:
    made = on.avito.book(on.item, on.day(4), on.day(6), paid=False)
    on.read_now()
    answer = on.api.patch(f"{on.path}/avito", {"holdPending": False})
    assert answer.json()["holdPending"] is False
    assert (held(on), on.calendar(6)[on.day(4)]["open"]) == ([], True)
    local = on.book(5, 7)
    assert local.status_code == 201
    on.read_now()
    assert [row["conflict"] for row in on.bookings()] == [False, False]
    on.avito.pay(made)
    on.read_now()  # now both have a claim
    assert [row["conflict"] for row in on.bookings()] == [True, True]
    assert held(on) == [4, 5, 6]
    on.api.post(f"/api/v1/str/bookings/{local.json()['id']}/cancel")
    assert held(on) == [4, 5]


def test_unpaid_bookings_hold_again_when_the_host_wants_it_so(on: Home) -> None:
    on.api.patch(f"{on.path}/avito", {"holdPending": False})
    on.avito.book(on.item, on.day(4), on.day(6), paid=False)
    on.read_now()
    assert held(on) == []
    on.api.patch(f"{on.path}/avito", {"holdPending": True})
    assert held(on) == [4, 5]


def test_our_own_closures_that_come_back_as_rows_are_no_bookings_and_make_no_loop(on: Home) -> None:
    on.avito.switch(on.item, closedRows=True)
    on.set_rate(10, 14, closed=True)
    assert on.book(20, 22).status_code == 201
    work()
    on.avito.forget_rent_calls()
    for _time in range(3):
        on.read_now()
    assert on.bookings(source="avito") == []
    assert not QuarantinedBooking.objects.exists()
    assert on.writes() == []
    assert held(on) == [20, 21]


def test_a_booking_whose_notice_was_never_written_is_read_again_and_told_of_once(
    on: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    on.avito.book(on.item, on.day(4), on.day(6))
    with monkeypatch.context() as broken:
        broken.setattr("integrations_str.pull.roll", lambda *_: 1 / 0)  # the last word of the transaction
        on.read_now()
    assert not Booking.objects.exists()
    assert told(on) == []
    on.read_now()
    assert told(on) == ["booking_new"]
    assert held(on) == [4, 5]


# Of Avito's bookings, what a host may do


def test_avitos_booking_is_changed_at_avito_but_for_notes_about_the_guest(on: Home) -> None:
    on.avito.book(on.item, on.day(4), on.day(6), name="Анна", email="a@example.com")
    on.read_now()
    path = f"/api/v1/str/bookings/{only(on)['id']}"
    for body in ({"checkOut": on.day(9).isoformat()}, {"guests": 7}, {"totalPrice": 1}):
        answer = on.api.put(path, body)
        assert (answer.status_code, answer.json()["errors"][0]["code"]) == (409, "avito_booking"), body
    cancelled = on.api.post(f"{path}/cancel")
    assert (cancelled.status_code, cancelled.json()["errors"][0]["code"]) == (409, "avito_booking")
    assert on.api.put(path, {"guestName": "Анна Петровна", "guestPhone": "89160000000"}).status_code == 200
    on.read_now()  # Avito's words do not write over the host's
    row = only(on)
    assert (row["guestName"], row["guestPhone"], row["guestEmail"]) == (
        "Анна Петровна", "+79160000000", "a@example.com",
    )  # fmt: skip


def cancelled(home: Home) -> Any:
    return home.api.post(f"/api/v1/str/bookings/{only(home)['id']}/cancel")


@pytest.mark.parametrize("comes_back", [False, True])
def test_a_booking_that_avito_no_longer_shows_is_the_hosts_to_cancel(on: Home, comes_back: bool) -> None:
    on.avito.switch(on.item, canceledStay=False)  # Avito lets cancelled ones vanish
    made = on.avito.book(on.item, on.day(4), on.day(6))
    on.read_now()
    on.avito.cancel(made)
    for _time in range(2):
        on.read_now()
    assert cancelled(on).status_code == 409
    on.read_now()
    assert told(on)[-1] == "booking_unseen"
    assert cancelled(on).json()["status"] == "cancelled"
    if comes_back:
        on.avito.edit(made, status="active")
    for _twice in range(2):
        on.read_now()
    assert held(on) == ([4, 5] if comes_back else [])
    assert only(on)["status"] == ("confirmed" if comes_back else "cancelled")
    work()
    if not comes_back:
        assert_agrees(on)


@pytest.mark.parametrize("has_another", [False, True])
def test_bookings_of_an_item_that_was_taken_off_are_the_hosts_to_cancel(on: Home, has_another: bool) -> None:
    on.avito.book(on.item, on.day(4), on.day(6))
    on.read_now()
    assert cancelled(on).status_code == 409
    on.api.delete(f"{on.path}/avito")
    if has_another:
        on.item = on.avito.make_rent_item()
        on.connect_and_push()
        for _time in range(4):
            on.read_now()
        assert told(on) == ["booking_new"]  # nobody expects the other item to show it
    assert cancelled(on).json()["status"] == "cancelled"
    assert held(on) == []


# The guest's name, phone and e-mail

SECRETS = ("Засекреченный", "secret-guest@example.com", "9035550199")


@pytest.fixture
def logged() -> Iterator[list[str]]:
    lines: list[str] = []

    class Ear(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(repr(record.__dict__))

    ear, level = Ear(logging.DEBUG), logging.root.level
    logging.root.addHandler(ear)
    logging.root.setLevel(logging.DEBUG)
    yield lines
    logging.root.removeHandler(ear)
    logging.root.setLevel(level)


def stored() -> str:
    """Every table as text."""
    rows: list[str] = []
    with connection.cursor() as cursor:
        for table in connection.introspection.table_names(cursor):
            cursor.execute(f'SELECT t::text FROM "{table}" t')
            rows += [row[0] for row in cursor.fetchall()]
    return "\n".join(rows)


def test_a_guest_is_kept_under_lock_and_named_nowhere_else(on: Home, logged: list[str]) -> None:
    name, email, phone = SECRETS
    made = on.avito.book(on.item, on.day(4), on.day(6), name=name, email=email, phone=phone)
    on.avito.raw_row(on.item, {**made.row, "avito_booking_id": 9, "check_out": "soon"})
    on.book(8, 9, guestName=name, guestEmail=email, guestPhone=phone)
    on.read_now()
    on.avito.move(made, on.day(8), on.day(10), force=True)
    on.read_now()  # a conflict, too
    assert only(on)["guestName"] == name
    assert len(told(on)) >= 4
    everything = stored()
    said = "\n".join(logged) + on.api.get("/api/v1/notifications").text + on.api.get(f"{on.path}/avito/log").text
    assert "str" in said
    for secret in SECRETS:
        assert secret not in everything, secret
        assert secret not in said, secret


def test_guests_of_stays_long_over_are_forgotten(on: Home, settings: LazySettings) -> None:
    settings.AVITO_STR_CONTACTS_KEPT_DAYS = 30
    name, email, phone = SECRETS
    made = on.avito.book(on.item, on.day(4), on.day(6), name=name, email=email, phone=phone)
    on.read_now()
    on.avito.raw_row(on.item, {**made.row, "avito_booking_id": 9, "check_out": "soon"})
    on.read_now()
    for days, is_kept in ((30, True), (31, False)):
        Booking.objects.update(check_out=timezone.now().date() - timedelta(days=days), check_in=on.day(-50))
        QuarantinedBooking.objects.update(seen_at=timezone.now() - timedelta(days=days))
        for _twice in range(2):
            tasks.forget_old()
        row = only(on)
        guest = [row["guestName"], row["guestEmail"], row["guestPhone"]]
        assert guest == ([name, email, f"+7{phone}"] if is_kept else ["", "", ""])
        assert QuarantinedBooking.objects.exists() is is_kept
    assert (row["totalPrice"], row["status"]) == (made.base_price, "confirmed")
    # Avito still tells of the stay: its guest stays forgotten.
    on.avito.clear_raw_rows(on.item)
    on.read_now()
    assert only(on)["guestName"] == ""


def test_an_unpaid_booking_holds_its_nights_again_once_the_property_is_connected_anew(on: Home) -> None:
    on.api.patch(f"{on.path}/avito", {"holdPending": False})
    on.avito.book(on.item, on.day(4), on.day(6), paid=False)
    on.read_now()
    assert held(on) == []
    on.api.delete(f"{on.path}/avito")
    on.connect_and_push()
    assert held(on) == [4, 5]
    assert on.calendar(10)[on.day(4)]["reason"] == "pending_booking"
