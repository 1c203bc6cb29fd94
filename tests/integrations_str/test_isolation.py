"""What is one owner's is nobody else's: another's row answers exactly as one that is not there."""

import re
from dataclasses import replace
from typing import Any

import pytest
from django.contrib.auth.models import User

from integrations_str import queue, serving
from integrations_str.models import Access, Booking, Conflict, Integration, Property, SyncTask
from tests.api.test_roles import operations
from tests.conftest import Api
from tests.factories import make_user
from tests.integrations_str.conftest import Home, integration_of, make_home, work
from tests.notifications.listening import Ear
from tests.sandbox.driver import wait_for

MISSING = 987654321
BODIES: dict[str, Any] = {
    "PUT /api/v1/str/properties/{id}": {"name": "Моё"},
    "PATCH /api/v1/str/properties/{id}": {"name": "Моё"},
    "PUT /api/v1/str/properties/{id}/rates": {"ranges": [{"from": "2030-01-01", "to": "2030-01-01", "price": 1}]},
    "POST /api/v1/str/properties/{id}/avito": {"accountId": 1, "itemId": "1"},
    "POST /api/v1/str/properties/{id}/avito/check-item": {"accountId": 1, "itemId": "1"},
    "PATCH /api/v1/str/properties/{id}/avito": {"markupPercent": 20, "consent": True},
    "PUT /api/v1/str/bookings/{id}": {"guestName": "Мой"},
    "PATCH /api/v1/str/bookings/{id}": {"guestName": "Мой"},
}


@pytest.fixture
def rich(home: Home) -> Home:
    """A home with everything that there is: a connection, bookings, a conflict, news."""
    home.connect_and_push()
    home.book(4, 6, guestName="Тайный")
    home.avito.book(home.item, home.day(5), home.day(7), force=True)
    home.read_now()
    assert Conflict.objects.count() == 1
    return home


@pytest.fixture
def others(home: Home) -> dict[str, Api]:
    base = home.api.base
    return {
        "neighbour": Api(base, make_user("neighbour")),
        "operator": Api(base, make_user("operator", "operator")),
        "admin": Api(base, make_user("admin", "admin")),
        "superuser": Api(base, make_user("superuser", is_superuser=True, is_staff=True)),
    }


def rows_of(home: Home) -> dict[str, int]:
    booking = Booking.objects.filter(property=home.id).order_by("pk").first()
    assert booking is not None
    return {"properties": home.id, "bookings": booking.pk}


def everything() -> list[Any]:
    tables = (Property, Booking, Integration, SyncTask, Access, Conflict)
    return [row for model in tables for row in model._default_manager.order_by("pk").values()]


def test_anothers_row_answers_exactly_as_one_that_is_not_there(
    rich: Home, others: dict[str, Api], subtests: pytest.Subtests
) -> None:
    schema = rich.api.get("/api/schema", format="json").json()
    own = [(method, path) for method, path in operations(schema) if re.match(r"/api/v1/str/.*\{id\}", path)]
    assert len(own) >= 15
    before, rows = everything(), rows_of(rich)
    for method, path in own:
        kind = path.split("/")[4]
        body = BODIES.get(f"{method} {path}", {} if method in ("POST", "PUT", "PATCH") else None)
        for name, api in others.items():
            with subtests.test(f"{name} {method} {path}"):
                theirs, none = (
                    api.call(method, path.replace("{id}", str(number)), json=body) for number in (rows[kind], MISSING)
                )
                assert theirs.status_code == none.status_code == 404
                assert theirs.text == none.text
    assert everything() == before
    # The same calls reach the owner.
    reads = [path for method, path in own if method == "GET"]
    answers = {path: rich.api.get(path.replace("{id}", str(rows[path.split("/")[4]]))).status_code for path in reads}
    assert set(answers.values()) == {200}, answers


def test_lists_and_counts_hold_ones_own_alone(rich: Home, others: dict[str, Api]) -> None:
    for path in ("properties", "bookings", "conflicts"):
        mine = rich.api.get(f"/api/v1/str/{path}").json()
        assert mine["count"] == len(mine["results"]) > 0
        for name, api in others.items():
            theirs = api.get(f"/api/v1/str/{path}").json()
            assert (theirs["count"], theirs["results"]) == (0, []), (name, path)
    for api in others.values():
        assert api.get("/api/v1/str/bookings", propertyId=rich.id).json()["count"] == 0


def test_a_booking_is_not_written_into_anothers_property(rich: Home, others: dict[str, Api]) -> None:
    dates = {"checkIn": rich.day(20).isoformat(), "checkOut": rich.day(21).isoformat()}
    for api in others.values():
        theirs, none = (
            api.post("/api/v1/str/bookings", {**dates, "propertyId": number}) for number in (rich.id, MISSING)
        )
        assert theirs.status_code == none.status_code == 400
        assert theirs.text.replace(str(rich.id), "N") == none.text.replace(str(MISSING), "N")


def test_an_account_is_offered_to_those_who_gave_consent_and_to_those_who_manage_all(
    home: Home, others: dict[str, Api]
) -> None:
    offered = {}
    for name, api in others.items():
        number = api.post("/api/v1/str/properties", {"name": name, "basePrice": 1}).json()["id"]
        rows = api.get(f"/api/v1/str/properties/{number}/avito/accounts").json()
        offered[name] = [row["accountId"] for row in rows]
    anna = home.account.pk
    assert offered == {"neighbour": [], "operator": [], "admin": [anna], "superuser": [anna]}


def test_live_events_and_notifications_reach_the_owner_alone(home: Home, others: dict[str, Api]) -> None:
    home.connect_and_push()
    with Ear(home.api) as owner, Ear(others["neighbour"]) as neighbour, Ear(others["superuser"]) as superuser:
        home.book(4, 6)
        home.avito.book(home.item, home.day(10), home.day(12))
        home.read_now()
        wait_for(lambda: {"booking.created", "integration.updated", "notification.created"} <= types(owner))
        # What comes last is heard by all who may hear it, so nothing is still on its way.
        for api, ear in ((others["neighbour"], neighbour), (others["superuser"], superuser)):
            number = api.post("/api/v1/str/properties", {"name": "Своя", "basePrice": 1}).json()["id"]
            dates = {"checkIn": home.day(1).isoformat(), "checkOut": home.day(2).isoformat()}
            booking = api.post("/api/v1/str/bookings", {"propertyId": number, **dates}).json()["id"]
            ear.wait("booking.created", booking)
            assert ear.what == [("booking.created", booking)]
    for name, api in others.items():
        kinds = {row["kind"] for row in api.get("/api/v1/notifications", pageSize=200).json()["results"]}
        assert not {kind for kind in kinds if kind.startswith(("booking", "conflict", "connection"))}, name
    assert "booking_new" in home.news()


def types(ear: Ear) -> set[str]:
    return {one.type for one in ear.heard}


# Workers


def test_a_worker_loads_nothing_for_a_claim_of_another_owners(home: Home, others: dict[str, Api]) -> None:
    home.connect()
    (claim,) = queue.claim(5)
    assert serving.load(claim) is not None
    neighbour = User.objects.get(username="neighbour")
    forged = replace(claim, owner_id=neighbour.pk)
    assert serving.load(forged) is None
    Access.objects.create(account=home.account, user=neighbour)
    assert serving.load(forged) is None  # the account would do, but the property is not theirs
    calls = len(home.avito.rent_calls(home.item))
    serving.serve_one(forged)
    assert len(home.avito.rent_calls(home.item)) == calls


def test_an_account_that_its_owner_may_no_longer_use_is_not_asked(home: Home) -> None:
    home.connect_and_push()
    Access.objects.all().delete()
    home.set_rate(3, price=900)
    home.read_now()  # and the worker does not come back to it at once, over and over
    assert home.avito.rent_calls(home.item) == []
    assert home.connection()["lastError"]["code"] == "account_not_authorized"
    Access.objects.create(account=home.account, user=User.objects.get(username="host"))
    home.read_now()
    home.push_again()
    assert home.writes() == ["prices"]
    assert home.connection()["status"] == "ok"


def test_two_owners_of_one_account_see_their_own_item_alone(home: Home) -> None:
    neighbour = make_home(home.api.base, home.avito, home.account, make_user("neighbour"))
    for one in (home, neighbour):
        one.connect()
    work()
    home.avito.book(neighbour.item, home.day(3), home.day(5))
    home.read_now()
    neighbour.read_now()
    assert (len(home.bookings()), len(neighbour.bookings())) == (0, 1)
    assert home.news() == []
    assert integration_of(home).item_id != integration_of(neighbour).item_id
