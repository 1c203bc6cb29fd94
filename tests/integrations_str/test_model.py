"""Weeks in the life of a connected property, made up at random: the host, guests at Avito and all that can break.

A run is known by its number, which decides every step: `MODEL_SEED=17` plays that one alone, `MODEL_RUNS=500` plays
many. Whatever has happened, once everything works again both calendars agree and every booking is where it belongs.
"""

import datetime as dt
import os
import threading
from collections.abc import Callable
from contextlib import contextmanager
from decimal import ROUND_HALF_UP, Decimal
from itertools import combinations
from random import Random
from typing import Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.db import connection, connections, transaction
from django.utils import timezone

from avito_accounts import limits
from avito_accounts.models import Account
from integrations_str import bookings, pull, push, queue
from integrations_str.models import Booking, Integration, SyncTask
from tests.integrations_str.conftest import Home, assert_agrees, make_home, work
from tests.sandbox import driver
from tests.sandbox.driver import Sandbox

RUNS = int(os.environ.get("MODEL_RUNS", "2"))
SEEDS = [int(seed) for seed in os.environ["MODEL_SEED"].split(",")] if "MODEL_SEED" in os.environ else range(RUNS)
STEPS = 25
NIGHTS = 40
"""How far ahead most things happen; now and then something does at the end of the year."""
POLLS = 4
"""So many readings, and an unpaid booking that Avito no longer shows is over."""


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> None:
    """Nobody waits for a limit: what is refused is tried again when its time comes."""
    settings.AVITO_RATE_LIMIT_PER_MINUTE = 1_000_000
    for module in (push, pull):
        monkeypatch.setattr(module, "PATIENCE_SECONDS", 0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_happens_both_calendars_agree_in_the_end(
    seed: int, product: str, avito_sandbox: Sandbox, anna: Account, host: User
) -> None:
    random = Random(seed)
    life = Life(random, make_home(product, avito_sandbox, anna, host))
    with life.told_on_failure(seed):
        for _week in range(random.choice((1, 1, 2))):
            for _ in range(STEPS):
                life.step()
            life.heal()
            life.check()


class Life:
    """A property, its host's own record of what was said about it, and the guests at Avito."""

    def __init__(self, random: Random, home: Home) -> None:
        self.random, self.home, self.avito = random, home, home.avito
        self.today = home.today
        self.story: list[str] = []
        self.base = {"price": 2000, "min_stay": 1}
        self.markup = Decimal(15)
        self.rates: dict[dt.date, dict[str, Any]] = {}
        self.stays: dict[int, tuple[dt.date, dt.date]] = {}
        self.guests: list[driver.Booking] = []
        self.holds_pending = True
        self.switches = {
            "expired": random.choice(("vanish", "cancel")),
            "canceledStay": random.random() < 0.7,
            "minimalDurationOmitted": random.choice(("keep", "clear")),
            "closedRows": random.random() < 0.2,
            "cancellationReopens": random.random() < 0.8,
        }
        self.say("switches", self.switches)
        self.avito.switch(home.item, **self.switches)
        home.connect(consent=True)

    @contextmanager
    def told_on_failure(self, seed: int) -> Any:
        try:
            yield
        except BaseException as error:
            error.add_note(f"MODEL_SEED={seed}, today is {self.today}:\n" + "\n".join(self.story))
            raise

    def say(self, what: str, *details: object) -> None:
        self.story.append(f"{what} {' '.join(map(str, details))}")

    def step(self) -> None:
        host = {
            self.changes_rates: 5, self.changes_the_property: 2, self.changes_the_markup: 1, self.books: 4,
            self.moves: 2, self.cancels: 2, self.pauses_or_goes_on: 1, self.lets_pending_hold_or_not: 1,
        }  # fmt: skip
        others = {
            self.guest_books: 5, self.guest_acts: 5, self.something_breaks: 3, self.works: 6, self.reads: 4,
            self.time_passes: 4, self.edits_while_a_worker_works: 3, self.connects_anew: 1,
        }  # fmt: skip
        self._one_of({**host, **others})()

    def _one_of(self, weighted: dict[Callable[[], None], int]) -> Callable[[], None]:
        return self.random.choices(list(weighted), list(weighted.values()))[0]

    # The host

    def changes_rates(self) -> None:
        ranges = []
        for _ in range(self.random.randint(1, 3)):
            first, end = self._span(12)
            values = self.random.choice(
                (
                    {"price": self.random.choice((None, 1, 1990, 2500, 3333))},
                    {"minStay": self.random.choice((None, 1, 2, 30))},
                    {"closed": self.random.choice((None, False, True))},
                    {"price": None, "minStay": None, "closed": None},
                )
            )
            ranges.append({"from": first.isoformat(), "to": (end - dt.timedelta(1)).isoformat(), **values})
            for day in nights(first, end):
                self.rates.setdefault(day, {}).update(values)
        self.say("rates", ranges)
        self.home.set_rates(*ranges)

    def changes_the_property(self) -> None:
        self.base = {"price": self.random.choice((1999, 2000, 2400)), "min_stay": self.random.choice((1, 2, 9))}
        self.say("property", self.base)
        said = {"basePrice": self.base["price"], "minStay": self.base["min_stay"]}
        assert self.home.api.put(self.home.path, said).status_code == 200

    def changes_the_markup(self) -> None:
        self.markup = Decimal(self.random.choice(("15", "0", "-5.5", "20.25")))
        self._change(markupPercent=str(self.markup))

    def pauses_or_goes_on(self) -> None:
        self._change(isActive=self.random.random() < 0.6)

    def lets_pending_hold_or_not(self) -> None:
        self.holds_pending = not self.holds_pending
        self._change(holdPending=self.holds_pending)

    def _change(self, **said: Any) -> None:
        self.say("connection", said)
        answer = self.home.api.patch(f"{self.home.path}/avito", said)
        assert answer.status_code == 200, answer.text

    def books(self) -> None:
        first, end = self._span(6)
        body = {"propertyId": self.home.id, "checkIn": first.isoformat(), "checkOut": end.isoformat()}
        answer = self.home.api.post("/api/v1/str/bookings", body)
        self.say("books", first, end, answer.status_code)
        assert answer.status_code in (201, 409)
        if answer.status_code == 201:
            self.stays[answer.json()["id"]] = first, end

    def moves(self) -> None:
        if self.stays:
            id, (first, end) = self.random.choice(list(self.stays)), self._span(6)
            body = {"checkIn": first.isoformat(), "checkOut": end.isoformat()}
            answer = self.home.api.put(f"/api/v1/str/bookings/{id}", body)
            self.say("moves", id, first, end, answer.status_code)
            assert answer.status_code in (200, 409)
            if answer.status_code == 200:
                self.stays[id] = first, end

    def cancels(self) -> None:
        if self.stays:
            id = self.random.choice(list(self.stays))
            self.say("cancels", id, self.stays.pop(id))
            assert self.home.api.post(f"/api/v1/str/bookings/{id}/cancel").status_code == 200

    def connects_anew(self) -> None:
        """Off and on again, with the sales closed between or not; not while Avito is in trouble."""
        self._cure()
        closes = self.random.random() < 0.5
        self.say("connects anew, closing", closes)
        answer = self.home.api.delete(f"{self.home.path}/avito?closeSales={str(closes).lower()}")
        assert answer.status_code == 204, answer.text
        if self.random.random() < 0.5:
            self.books()
        self.home.connect(consent=True, markupPercent=str(self.markup))
        self.holds_pending = True

    # Guests

    def guest_books(self) -> None:
        (first, end), paid, force = self._span(6), self.random.random() < 0.6, self.random.random() < 0.2
        try:
            guest = self.avito.book(self.home.item, first, end, paid=paid, force=force)
        except AssertionError:
            self.say("guest cannot book", first, end)
        else:
            self.say("guest books", guest.id, first, end, "paid" if paid else "unpaid", "by force" if force else "")
            self.guests.append(guest)
        self._is_read_if_it_leaves_no_trace()

    def guest_acts(self) -> None:
        if not self.guests:
            return
        guest = self.avito_s(self.random.choice(self.guests))
        acts = {"pending": ("pay", "cancel", "expire", "move", "hide"), "active": ("cancel", "move", "hide", "show")}
        act = self.random.choice(
            acts.get(guest.status, ("cancel", "show") if guest.status == "overbook" else ("none",))
        )
        self.say("guest", guest.id, guest.status, act)
        match act:
            case "move":
                first, end = self._span(6)
                try:
                    self.avito.move(guest, first, end, force=self.random.random() < 0.2)
                except AssertionError:
                    self.say("  cannot move to", first, end)
                else:
                    self.say("  to", first, end)
            case "hide" | "show":
                self.avito.hide(guest, act == "hide")
            case "pay" | "cancel" | "expire":
                getattr(self.avito, act)(guest)
        self._is_read_if_it_leaves_no_trace()

    def _is_read_if_it_leaves_no_trace(self) -> None:
        """Where nights given up stay closed, nobody could know of a booking that came and went unread."""
        if not self.switches["cancellationReopens"]:
            self._cure()
            self._change(isActive=True)
            for guest in self.guests:
                self.avito.hide(guest, False)
            self.reads()

    def avito_s(self, guest: driver.Booking) -> driver.Booking:
        """The booking as it is by now."""
        rows = self.avito.rent_item(self.home.item)["bookings"]
        return next(driver._booking(row) for row in rows if row["id"] == guest.id)

    # Trouble, and a worker

    def something_breaks(self) -> None:
        kind, details = self.random.choice(
            (
                ("status", {"status": 503, "apply": "never"}),
                ("status", {"status": 500, "apply": "before"}),
                ("status", {"status": 403, "apply": "never"}),
                ("status", {"status": 422, "apply": "never"}),
                ("429", {"apply": "never"}),
                ("reset", {"apply": "never"}),
                ("reset", {"apply": "before"}),
                ("silence", {"seconds": 0.05, "apply": "before"}),
                ("cut", {"apply": "before"}),
                ("rubbish", {"apply": "before"}),
                ("latency", {"seconds": 0.2, "apply": "before"}),
                ("latency", {"seconds": 0.2, "apply": "after"}),
            )
        )
        calls = self.random.choice((None, "reads", "prices", "intervals", "base"))
        times = self.random.choice((1, 1, 2, 5))
        self.say("breaks", calls or "everything", kind, details, times)
        self.avito.rent_fault(kind, calls, self.home.item, times=times, **details)

    def works(self) -> None:
        self.say("works")
        work()

    def reads(self) -> None:
        self.say("reads")
        self.home.read_now()

    def time_passes(self) -> None:
        """All that waits for its time has come to it."""
        self.say("time passes")
        limits.reset()
        now = timezone.now()
        SyncTask.objects.filter(integration__property=self.home.id).update(pull_at=now)
        SyncTask.objects.filter(integration__property=self.home.id, push_at__gt=now).update(push_at=now)
        work()

    def edits_while_a_worker_works(self) -> None:
        self.say("while a worker works:")
        limits.reset()
        SyncTask.objects.filter(integration__property=self.home.id).update(pull_at=timezone.now())
        worker = _Apart(work)
        edits = {self.changes_rates: 2, self.books: 3, self.moves: 1, self.cancels: 1, self.changes_the_property: 1}
        for _ in range(self.random.randint(1, 4)):
            self._one_of(edits)()
        worker.join()
        self.say("done")

    def _cure(self) -> None:
        self.avito.control("DELETE", "/faults")
        limits.reset()

    def heal(self) -> None:
        """Avito works, every booking is shown, and everything that was refused is asked for by the host again."""
        self.say("heals")
        self._cure()
        for guest in self.guests:
            self.avito.hide(guest, False)
            if self.random.random() < 0.5 and self.avito_s(guest).status == "pending":
                self.avito.pay(guest)
        self._change(isActive=True)
        if self.task.dead_at or self.random.random() < 0.3:
            assert self.home.api.post(f"{self.home.path}/avito/sync").status_code == 202
        for _ in range(POLLS):
            self.time_passes()

    # What must be true

    def check(self) -> None:
        self.say("must be true")
        assert self.task.push_at is None, "something still waits to be sent"
        ours, theirs = self.home.calendar(), self.avito.calendar(self.home.item)
        rows = {row["id"]: row for row in self.home.bookings(pageSize=100)}
        claiming = {
            booking.pk: booking
            for booking in Booking.objects.filter(property=self.home.id).exclude(status="cancelled")
            if self.holds_pending or booking.raw_status != "pending"
        }
        self._no_booking_is_lost_or_doubled(rows)
        self._nights_are_held_once(claiming, ours)
        self._overlaps_are_conflicts(claiming, rows)
        self._our_calendar_says_what_the_host_said(ours, claiming)
        self._calendars_agree(ours, theirs)
        self._silence(ours)

    def _no_booking_is_lost_or_doubled(self, rows: dict[int, dict[str, Any]]) -> None:
        manual = {
            id: (row["checkIn"], row["checkOut"])
            for id, row in rows.items()
            if row["source"] == "manual" and row["status"] != "cancelled"
        }
        assert manual == {id: (first.isoformat(), end.isoformat()) for id, (first, end) in self.stays.items()}
        from_avito = [row for row in rows.values() if row["source"] == "avito"]
        by_number = {row["avitoBookingId"]: row for row in from_avito}
        assert len(by_number) == len(from_avito)
        statuses = {"active": "confirmed", "pending": "pending", "overbook": "pending", "canceled": "cancelled"}
        for guest in map(self.avito_s, self.guests):
            row = by_number.get(guest.id)
            is_shown = guest.status in statuses and (guest.status != "canceled" or self.switches["canceledStay"])
            assert row is not None or not is_shown or guest.status == "canceled", f"{guest.id} is lost"
            if row is not None and is_shown:
                assert row["status"] == statuses[guest.status], guest
                assert (row["checkIn"], row["checkOut"]) == (guest.check_in.isoformat(), guest.check_out.isoformat())

    def _nights_are_held_once(self, claiming: dict[int, Booking], ours: dict[dt.date, dict[str, Any]]) -> None:
        held: dict[dt.date, int] = {}
        for booking in Booking.objects.filter(property=self.home.id).prefetch_related("held_nights"):
            for night in booking.held_nights.all():
                assert night.date not in held
                held[night.date] = booking.pk
        claimed = {day: id for id, one in claiming.items() for day in nights(one.check_in, one.check_out)}
        assert held.keys() == claimed.keys()
        for day, id in held.items():
            holder = claiming[id]
            assert holder.check_in <= day < holder.check_out
        assert not [day for day, row in ours.items() if row["open"] and day in claimed]

    def _overlaps_are_conflicts(self, claiming: dict[int, Booking], rows: dict[int, dict[str, Any]]) -> None:
        overlapping = {
            (a.pk, b.pk): (max(a.check_in, b.check_in).isoformat(), min(a.check_out, b.check_out).isoformat())
            for a, b in combinations(sorted(claiming.values(), key=lambda one: one.pk), 2)
            if a.check_in < b.check_out and b.check_in < a.check_out
        }
        shown = self.home.api.get("/api/v1/str/conflicts", pageSize=100).json()["results"]
        assert {tuple(one["bookings"]): (one["from"], one["to"]) for one in shown} == overlapping
        assert {id for id, row in rows.items() if row["conflict"]} == {id for pair in overlapping for id in pair}

    def _our_calendar_says_what_the_host_said(
        self, ours: dict[dt.date, dict[str, Any]], claiming: dict[int, Booking]
    ) -> None:
        claimed = {day for one in claiming.values() for day in nights(one.check_in, one.check_out)}
        for day, row in ours.items():
            rate = {name: value for name, value in self.rates.get(day, {}).items() if value is not None}
            price = Decimal(rate.get("price", self.base["price"])) * (100 + self.markup) / 100
            assert row["channelPrice"] == max(1, int(price.quantize(Decimal(1), ROUND_HALF_UP))), day
            assert row["minStay"] == rate.get("minStay", self.base["min_stay"]), day
            assert row["open"] is not bool(rate.get("closed") or day in claimed), day

    def _calendars_agree(self, ours: dict[dt.date, dict[str, Any]], theirs: dict[dt.date, driver.Night]) -> None:
        """But for what Avito has refused, prices under a guest who has not paid, and nights a guest holds there."""
        unpaid = {
            day
            for one in Booking.objects.filter(property=self.home.id, status="pending")
            for day in nights(one.check_in, one.check_out)
        }
        refused = {day for day, row in ours.items() if row["sync"] == "failed"}
        assert not [day for day, row in ours.items() if row["sync"] == "pending" and day not in unpaid]
        prices = {
            day: (row["channelPrice"], row["minStay"], theirs[day])
            for day, row in ours.items()
            if (row["channelPrice"], row["minStay"]) != (theirs[day].price, theirs[day].minimal_duration)
        }
        assert not {day: differs for day, differs in prices.items() if day not in unpaid | refused}
        opens = {day: (row, theirs[day]) for day, row in ours.items() if row["open"] != (theirs[day].open > 0)}
        assert not {day: one for day, one in opens.items() if not one[1].booked_by and day not in refused}

    def _silence(self, ours: dict[dt.date, dict[str, Any]]) -> None:
        """Where nothing differs nothing is sent, and everybody knows that all is well."""
        self.avito.forget_rent_calls()
        for _ in range(2):
            self.home.read_now()
        assert self.home.writes() == []
        connection = self.home.connection()
        if not any(row["sync"] in ("failed", "pending") for row in ours.values()):
            assert (connection["status"], connection["pendingDays"]) == ("ok", 0), connection

    # Helpers

    @property
    def task(self) -> SyncTask:
        return SyncTask.objects.get(integration__property=self.home.id)

    def _span(self, longest: int) -> tuple[dt.date, dt.date]:
        start = self.random.randrange(NIGHTS) if self.random.random() < 0.9 else self.random.randrange(350, 370)
        first = self.today + dt.timedelta(start)
        return first, first + dt.timedelta(self.random.randint(1, longest))


def nights(first: dt.date, end: dt.date) -> list[dt.date]:
    return [first + dt.timedelta(number) for number in range((end - first).days)]


# What such lives have shown


def test_a_reading_and_a_booking_at_the_same_moment_do_not_lock_each_other_out(home: Home) -> None:
    """Whoever changes bookings takes the property before its task; so does the reading."""
    home.connect_and_push()
    _reading_is_due(home)
    with transaction.atomic():
        property = bookings.lock(home.id)
        worker = _Apart(work)
        driver.wait_for(_somebody_waits)
        queue.touch(property.pk)
    worker.join()
    work()
    assert home.connection()["status"] == "ok"


def test_a_push_and_a_change_of_the_connection_do_not_lock_each_other_out(home: Home) -> None:
    """A push writes the connection while it holds the task."""
    home.connect_and_push()
    with transaction.atomic():
        SyncTask.objects.select_for_update(of=("self",)).get(integration__property=home.id)
        change = _Apart(lambda: home.api.patch(f"{home.path}/avito", {"markupPercent": "20"}))
        driver.wait_for(_somebody_waits)
        Integration.objects.filter(property=home.id).update(base_price=None)
    change.join()
    assert change.result.status_code == 200
    work()
    assert_agrees(home)


def test_a_choice_made_during_a_reading_is_not_undone_by_it(home: Home) -> None:
    home.connect_and_push()
    home.avito.book(home.item, home.day(3), home.day(5), paid=False)
    home.avito.rent_fault("latency", "reads", home.item, seconds=0.5, apply="before", times=1)
    _reading_is_due(home)
    worker = _Apart(work)
    driver.wait_for(lambda: home.avito.rent_calls(home.item, "reads"))
    assert home.api.patch(f"{home.path}/avito", {"holdPending": False}).status_code == 200
    worker.join()
    work()
    assert home.bookings()[0]["status"] == "pending"
    assert [home.calendar()[home.day(number)]["open"] for number in (3, 4)] == [True, True]


def test_nights_of_a_paid_booking_that_vanishes_are_closed_by_ourselves(home: Home) -> None:
    """As long as it stood there it closed them; now nobody else does."""
    home.avito.switch(home.item, canceledStay=False)
    home.connect_and_push()
    guest = home.avito.book(home.item, home.day(3), home.day(5))
    home.read_now()
    assert home.writes() == []
    home.avito.cancel(guest)
    assert home.avito.calendar(home.item)[home.day(3)].open == 1
    home.read_now()
    assert home.writes() == ["intervals"]
    assert home.avito.calendar(home.item)[home.day(3)].open == 0
    assert_agrees(home)


def test_nights_of_a_paid_booking_that_turns_into_something_unknown_are_closed_by_ourselves(home: Home) -> None:
    home.connect_and_push()
    guest = home.avito.book(home.item, home.day(3), home.day(5))
    home.read_now()
    home.avito.edit(guest, status="overbook")
    home.read_now()
    assert home.avito.calendar(home.item)[home.day(3)].open == 0
    assert_agrees(home)


def test_nights_of_a_booking_that_came_and_went_unread_are_sold_again(home: Home) -> None:
    home.avito.switch(home.item, cancellationReopens=False)
    home.connect_and_push()
    home.avito.cancel(home.avito.book(home.item, home.day(3), home.day(5)))
    assert home.avito.calendar(home.item)[home.day(3)].open == 0
    home.read_now()
    assert_agrees(home)


def test_what_was_refused_of_the_year_is_there_once_the_year_is_taken(home: Home) -> None:
    home.connect_and_push()
    home.avito.rent_fault("status", "intervals", home.item, status=422, times=1)
    home.set_rate(3, closed=True)
    work()
    assert home.calendar()[home.day(3)]["sync"] == "failed"
    home.set_rate(9, closed=True)
    work()
    assert home.calendar()[home.day(3)]["sync"] == "synced"
    assert_agrees(home)
    assert (home.connection()["status"], home.connection()["pendingDays"]) == ("ok", 0)


class _Apart(threading.Thread):
    """Something done by somebody else meanwhile."""

    def __init__(self, action: Callable[[], Any]) -> None:
        super().__init__()
        self.action = action
        self.result: Any = None
        self.start()

    def run(self) -> None:
        try:
            self.result = self.action()
        finally:
            connections.close_all()


def _reading_is_due(home: Home) -> None:
    SyncTask.objects.filter(integration__property=home.id).update(pull_at=timezone.now())


def _somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])
