"""What a host is told: in words, in their language, once; and live, with the object as the API shows it."""

from typing import Any

import pytest

from integrations_str import health
from integrations_str.models import SyncTask
from tests.integrations_str.conftest import Home, integration_of, work
from tests.notifications.listening import Ear
from tests.sandbox.driver import wait_for

NAME = "Квартира на Арбате"


def words(home: Home, language: str) -> list[tuple[str, str, str]]:
    """Level, title and detail of what the host was told, the oldest first."""
    answer = home.api.call("GET", "/api/v1/notifications", headers={"Accept-Language": language})
    return [(row["level"], row["title"], row["detail"]) for row in reversed(answer.json()["results"])]


def test_guests_are_told_of_in_words_once(home: Home) -> None:
    home.connect_and_push()
    made = home.avito.book(home.item, home.day(4), home.day(6))
    home.read_now()
    home.avito.move(made, home.day(5), home.day(8))
    home.read_now()
    home.avito.cancel(made)
    for _twice in range(2):
        home.read_now()
    first, then = stay(home, 4, 6), stay(home, 5, 8)
    assert words(home, "en") == [
        ("info", f"New booking from Avito: {NAME}", first),
        ("info", f"A booking from Avito has changed: {NAME}", then),
        ("info", f"A booking from Avito was cancelled: {NAME}", then),
    ]
    russian = words(home, "ru")
    first, then = stay(home, 4, 6, "%d.%m.%Y"), stay(home, 5, 8, "%d.%m.%Y")
    assert all(dates in detail for (_level, _title, detail), dates in zip(russian, (first, then, then), strict=True))
    assert all(NAME in title and not title.isascii() and "Avito" not in title for _level, title, _detail in russian)


def stay(home: Home, check_in: int, check_out: int, spelling: str = "%-d %b %Y") -> str:
    """Dates as a reader writes them."""
    return f"{home.day(check_in):{spelling}} – {home.day(check_out):{spelling}}"


def test_what_was_booked_before_is_no_news_when_a_property_is_connected(home: Home) -> None:
    home.avito.book(home.item, home.day(4), home.day(6))
    home.connect()
    for _twice in range(2):
        home.read_now()
    assert home.news() == []


def test_a_conflict_and_its_end_are_told_of_once_each(home: Home) -> None:
    home.connect_and_push()
    made = home.avito.book(home.item, home.day(5), home.day(8))
    home.book(4, 6)
    for _twice in range(2):
        home.read_now()
    home.avito.cancel(made)
    for _twice in range(2):
        home.read_now()
    told = [(level, title, detail) for level, title, detail in words(home, "en") if "booking from Avito" not in title]
    nights = stay(home, 5, 6)
    assert [(level, title) for level, title, _detail in told] == [
        ("error", f"Two bookings for the same nights: {NAME}"),
        ("info", f"The conflict is over: {NAME}"),
    ]
    assert [detail.startswith(nights) for _level, _title, detail in told] == [True, True]


def test_a_connection_that_falls_and_recovers_is_told_of_once_each(home: Home) -> None:
    home.connect_and_push()
    home.avito.drop_item(home.item)
    home.read_now()
    for _twice in range(2):
        health.watch()
    assert home.connection()["status"] == "item_unavailable"
    assert home.connection()["lastError"]["code"] == "avito_not_found"
    home.avito.control("PATCH", f"/items/{home.item}", status="active")
    home.api.post(f"{home.path}/avito/sync")
    work()
    for _twice in range(2):
        health.watch()
    assert home.connection()["status"] == "ok"
    fell, well = words(home, "en")
    assert fell[:2] == ("error", f"Avito calendar of {NAME}: trouble")
    assert fell[2].startswith("Avito no longer knows the item.")
    assert well[:2] == ("info", f"Avito calendar of {NAME}: works again")
    assert not any(text.isascii() for _level, *texts in words(home, "ru") for text in texts)


def test_a_connection_taken_off_in_trouble_is_forgotten_without_a_word(home: Home) -> None:
    home.connect_and_push()
    home.avito.drop_item(home.item)
    home.read_now()
    health.watch()
    home.api.delete(f"{home.path}/avito")
    health.watch()
    assert home.news() == ["connection_fell"]


# Live


def as_shown(home: Home, path: str) -> dict[str, Any]:
    shown: dict[str, Any] = home.api.get(path).json()
    return shown


@pytest.fixture
def on(home: Home) -> Home:
    home.connect_and_push()
    return home


def test_a_stay_is_followed_live_from_its_beginning_to_its_end(on: Home) -> None:
    with Ear(on.api) as ear:
        booking = on.book(4, 6, guestName="Пётр").json()
        path = f"/api/v1/str/bookings/{booking['id']}"
        assert ear.wait("booking.created", booking["id"]).data == booking
        on.api.put(path, {"guests": 4})
        assert ear.wait("booking.updated", booking["id"]).data == as_shown(on, path)
        made = on.avito.book(on.item, on.day(5), on.day(8), force=True)
        on.read_now()
        (theirs,) = on.bookings(source="avito")
        assert ear.wait("booking.created", theirs["id"]).data == theirs
        for row in (booking["id"], theirs["id"]):
            heard = ear.wait("booking.conflict", row).data
            assert (heard["conflict"], heard) == (True, as_shown(on, f"/api/v1/str/bookings/{row}"))
        on.avito.cancel(made)
        on.read_now()
        gone = ear.wait("booking.cancelled", theirs["id"]).data
        assert (gone["status"], gone["conflict"]) == ("cancelled", False)
        # The other one hears that the conflict is over.
        wait_for(
            lambda: [one.data["conflict"] for one in ear.heard if one.what == ("booking.updated", booking["id"])][1:]
        )
        on.api.post(f"{path}/cancel")
        assert ear.wait("booking.cancelled", booking["id"]).data == as_shown(on, path)


def test_a_connection_is_followed_live(on: Home) -> None:
    number = integration_of(on).pk
    with Ear(on.api) as ear:

        def changes() -> list[dict[str, Any]]:
            return [one.data for one in ear.heard if one.what == ("integration.updated", number)]

        on.api.patch(f"{on.path}/avito", {"markupPercent": 30})
        wait_for(lambda: changes() and changes()[-1]["pendingDays"] == 365)
        work()
        wait_for(lambda: changes()[-1] == as_shown(on, f"{on.path}/avito"))
        assert changes()[-1]["pendingDays"] == 0
        on.avito.drop_item(on.item)
        on.read_now()
        wait_for(lambda: changes()[-1]["status"] == "item_unavailable")
        on.api.delete(f"{on.path}/avito")
        wait_for(lambda: changes()[-1] == {"id": number})  # it is gone
    assert not SyncTask.objects.exists()
