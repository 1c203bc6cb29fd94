"""Two bookings for the same nights: both are kept, the host is told once, and it ends when one of them goes."""

from typing import Any

import pytest

from integrations_str.models import Conflict, Night
from tests.integrations_str.conftest import Home, assert_agrees, work
from tests.integrations_str.test_import import held, told
from tests.sandbox.driver import Booking

CONFLICTS = "/api/v1/str/conflicts"


class Scene:
    """A host's own stay from 4 to 7, and one from 5 to 9 that Avito has sold at the same moment."""

    def __init__(self, home: Home) -> None:
        self.home = home
        home.connect_and_push()
        self.theirs: Booking = home.avito.book(home.item, home.day(5), home.day(9))
        self.local: dict[str, Any] = home.book(4, 7).json()
        home.read_now()
        self.imported = home.bookings(source="avito")[0]

    def path(self) -> str:
        return f"/api/v1/str/bookings/{self.local['id']}"

    def in_conflict(self) -> set[int]:
        return {row["id"] for row in self.home.bookings() if row["conflict"]}

    def both(self) -> set[int]:
        return {self.local["id"], self.imported["id"]}

    def listed(self) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.home.api.get(CONFLICTS).json()["results"]
        return rows

    def holders(self) -> dict[int, int]:
        rows = Night.objects.filter(property=self.home.id).values_list("date", "booking")
        return {(date - self.home.today).days: booking for date, booking in rows}


@pytest.fixture
def scene(home: Home) -> Scene:
    return Scene(home)


def test_a_booking_of_avitos_over_one_by_hand_is_kept_and_told_of_once(scene: Scene) -> None:
    home, local = scene.home, scene.local["id"]
    for _time in range(3):
        home.read_now()
    assert scene.in_conflict() == scene.both()
    (listed,) = scene.listed()
    assert listed == {
        "id": listed["id"],
        "propertyId": home.id,
        "from": home.day(5).isoformat(),
        "to": home.day(7).isoformat(),
        "bookings": sorted(scene.both()),
        "since": listed["since"],
    }
    assert told(home).count("conflict") == 1
    # Nobody's nights are held twice; all nights of both are closed.
    assert scene.holders() == {4: local, 5: local, 6: local, 7: scene.imported["id"], 8: scene.imported["id"]}
    assert [row["open"] for row in home.calendar(10).values()] == [True] * 4 + [False] * 5 + [True]
    assert_agrees(home)


ENDINGS = ["cancelled here", "moved here", "shortened here", "cancelled at Avito", "moved at Avito"]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_conflict_ends_by_itself_when_one_of_the_two_goes(scene: Scene, ending: str) -> None:
    home, local, imported = scene.home, scene.local["id"], scene.imported["id"]
    match ending:
        case "cancelled here":
            home.api.post(f"{scene.path()}/cancel")
            holders = dict.fromkeys((5, 6, 7, 8), imported)
        case "moved here":
            dates = {"checkIn": home.day(20).isoformat(), "checkOut": home.day(21).isoformat()}
            assert home.api.put(scene.path(), dates).status_code == 200
            holders = {**dict.fromkeys((5, 6, 7, 8), imported), 20: local}
        case "shortened here":
            assert home.api.put(scene.path(), {"checkOut": home.day(5).isoformat()}).status_code == 200
            holders = {4: local, **dict.fromkeys((5, 6, 7, 8), imported)}
        case "cancelled at Avito":
            home.avito.cancel(scene.theirs)
            holders = dict.fromkeys((4, 5, 6), local)
        case _:
            home.avito.move(scene.theirs, home.day(7), home.day(9), force=True)
            holders = {**dict.fromkeys((4, 5, 6), local), **dict.fromkeys((7, 8), imported)}
    home.read_now()
    assert (scene.in_conflict(), scene.listed()) == (set(), [])
    assert scene.holders() == holders
    kept = Conflict.objects.get()
    assert kept.solved_at is not None
    assert [kind for kind in told(home) if kind.startswith("conflict")] == ["conflict", "conflict_solved"]
    work()
    assert_agrees(home)


def test_a_conflict_that_shrinks_stays_the_same_one(scene: Scene) -> None:
    (before,) = scene.listed()
    scene.home.api.put(scene.path(), {"checkOut": scene.home.day(6).isoformat()})
    (after,) = scene.listed()
    assert after == {**before, "to": scene.home.day(6).isoformat()}
    assert told(scene.home).count("conflict") == 1


def test_nights_of_a_conflict_are_nobody_elses(scene: Scene) -> None:
    answers = [scene.home.book(night, night + 1).status_code for night in range(4, 9)]
    assert answers == [409] * 5
    assert sorted(held(scene.home)) == [4, 5, 6, 7, 8]
    assert_agrees(scene.home)


def test_freed_nights_go_to_the_paid_before_the_unpaid_and_the_earlier_before_the_later(home: Home) -> None:
    home.connect_and_push()
    local = home.book(4, 6).json()
    unpaid = home.avito.book(home.item, home.day(4), home.day(6), paid=False, force=True)
    paid = [home.avito.book(home.item, home.day(4), home.day(6), force=True) for _number in range(2)]
    home.read_now()
    assert len(home.api.get(CONFLICTS).json()["results"]) == 6
    ids = {int(row["avitoBookingId"]): row["id"] for row in home.bookings(source="avito")}
    home.api.post(f"/api/v1/str/bookings/{local['id']}/cancel")
    for holder, goes in ((paid[0], True), (paid[1], True), (unpaid, False)):
        assert {row.booking_id for row in Night.objects.all()} == {ids[holder.id]}
        if goes:
            home.avito.cancel(holder)
            home.read_now()
    assert home.api.get(CONFLICTS).json()["count"] == 0


def test_a_conflict_belongs_to_one_property(scene: Scene) -> None:
    home = scene.home
    other = home.api.post("/api/v1/str/properties", {"name": "Вторая", "basePrice": 1}).json()["id"]
    body = {"propertyId": other, "checkIn": home.day(5).isoformat(), "checkOut": home.day(9).isoformat()}
    booking = home.api.post("/api/v1/str/bookings", body)
    assert (booking.status_code, booking.json()["conflict"]) == (201, False)
    assert len(scene.listed()) == 1
