"""A host's properties, the rates of their nights and the calendar that comes of them, through the API."""

import datetime as dt
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.utils import timezone

from integrations_str.models import Property, Rate, SyncTask
from tests.api.conftest import assert_error
from tests.conftest import Api
from tests.integrations_str.conftest import Home, each, work

PROPERTIES = "/api/v1/str/properties"
GOOD = {
    "name": "Дом у моря",
    "address": "Сочи, Морская, 1",
    "timezone": "Asia/Kamchatka",
    "currency": "RUB",
    "basePrice": 4500,
    "minStay": 7,
    "maxGuests": 6,
}


@pytest.fixture
def api(product: str, host: User) -> Api:
    return Api(product, host)


def test_a_property_is_kept_as_it_was_written(api: Api) -> None:
    made = api.post(PROPERTIES, GOOD)
    assert made.status_code == 201
    shown = made.json()
    assert {name: shown[name] for name in GOOD} == GOOD
    assert (shown["avito"], shown["warnings"]) == (None, [])
    assert shown["createdAt"].endswith("Z")
    path = f"{PROPERTIES}/{shown['id']}"
    assert api.get(path).json() == shown
    changed = api.put(path, {"basePrice": 5000}).json()
    assert changed == {**shown, "basePrice": 5000, "updatedAt": changed["updatedAt"]}
    listed = api.get(PROPERTIES).json()
    assert (listed["count"], listed["results"], listed["next"]) == (1, [changed], None)
    assert api.delete(path).status_code == 204
    assert_error(api.get(path), 404, "not_found")


def test_what_is_not_said_has_a_sensible_beginning(api: Api) -> None:
    shown = api.post(PROPERTIES, {"name": "Дом", "basePrice": 1}).json()
    said = {name: shown[name] for name in ("address", "timezone", "currency", "minStay", "maxGuests")}
    assert said == {"address": "", "timezone": "Europe/Moscow", "currency": "RUB", "minStay": 1, "maxGuests": 2}


BAD_FIELDS: list[tuple[str, Any]] = [
    *each("name", "", "   ", None, "x" * 121, ["x"], {"a": 1}, "a\0b"),
    *each("address", None, "x" * 501, {}, "a\0b"),
    *each("timezone", "", None, "Moscow", "Europe/Atlantis", "+03:00", "../etc/passwd", 3, "x" * 65),
    *each("currency", "", None, "USD", "rub", "RUBLES", 643),
    *each("basePrice", 0, -1, None, "много", 100_000_001, 10**30, 1.5, True, []),
    *each("minStay", 0, -1, 31, None, "два", 10**30, 2.5),
    *each("maxGuests", 0, -1, 101, None, "все", 10**30),
]


def test_every_wrong_field_is_refused_by_its_name(api: Api, subtests: pytest.Subtests) -> None:
    path = f"{PROPERTIES}/{api.post(PROPERTIES, GOOD).json()['id']}"
    for name, bad in BAD_FIELDS:
        with subtests.test(f"{name}={str(bad)[:20]!r}"):
            assert_error(api.post(PROPERTIES, {**GOOD, name: bad}), 400, attr=name)
            assert_error(api.put(path, {name: bad}), 400, attr=name)
    for name in ("name", "basePrice"):
        assert_error(api.post(PROPERTIES, {**GOOD, name: ...} | {name: None}), 400, attr=name)
        without = {key: value for key, value in GOOD.items() if key != name}
        assert_error(api.post(PROPERTIES, without), 400, "required", attr=name)
    wrong = api.post(PROPERTIES, {"name": "", "basePrice": 0, "minStay": 99, "currency": "USD"}).json()["errors"]
    assert {one["attr"] for one in wrong} == {"name", "basePrice", "minStay", "currency"}
    shown = api.get(path).json()
    assert {name: shown[name] for name in GOOD} == GOOD
    assert Property.objects.count() == 1


def test_another_currency_is_refused_and_never_converted(api: Api) -> None:
    error = assert_error(api.post(PROPERTIES, {**GOOD, "currency": "USD"}), 400, attr="currency")
    assert "RUB" in error["detail"]
    assert not Property.objects.exists()


def test_a_minimum_stay_that_avito_has_no_base_for_is_told_of_and_kept(api: Api) -> None:
    shown = api.post(PROPERTIES, {**GOOD, "minStay": 9}).json()
    assert shown["minStay"] == 9
    assert [one["code"] for one in shown["warnings"]] == ["min_stay_above_base"]
    assert "7" in shown["warnings"][0]["detail"]
    assert "30" in assert_error(api.put(f"{PROPERTIES}/{shown['id']}", {"minStay": 31}), 400, attr="minStay")["detail"]
    assert api.put(f"{PROPERTIES}/{shown['id']}", {"minStay": 7}).json()["warnings"] == []


def test_a_connected_property_is_not_deleted(home: Home) -> None:
    home.connect()
    assert_error(home.api.delete(home.path), 409, "property_connected")
    assert home.api.delete(f"{home.path}/avito").status_code == 204
    assert home.api.delete(home.path).status_code == 204
    assert not Property.objects.exists()


# Rates


def day(home: Home, number: int) -> str:
    return home.day(number).isoformat()


def rates(home: Home, first: int, last: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = home.api.get(
        f"{home.path}/rates", **{"from": day(home, first), "to": day(home, last)}
    ).json()
    return rows


def test_of_ranges_both_ends_count_and_the_later_one_wins_field_by_field(home: Home) -> None:
    said = home.api.put(
        f"{home.path}/rates",
        {
            "ranges": [
                {"from": day(home, 1), "to": day(home, 4), "price": 100, "minStay": 3},
                {"from": day(home, 3), "to": day(home, 5), "price": 200, "closed": True},
                {"from": day(home, 5), "to": day(home, 5), "closed": False},
            ]
        },
    )
    assert said.status_code == 200
    expected = {
        1: (100, 3, False, True),
        2: (100, 3, False, True),
        3: (200, 3, True, True),
        4: (200, 3, True, True),
        5: (200, 1, False, True),
    }
    as_told = [
        {
            "date": day(home, number), "price": price, "minStay": min_stay, "closed": closed, "overridden": overridden,
        }
        for number, (price, min_stay, closed, overridden) in expected.items()
    ]  # fmt: skip
    assert said.json() == as_told
    assert rates(home, 1, 5) == as_told
    around = rates(home, 0, 0) + rates(home, 6, 6)
    assert [(row["price"], row["minStay"], row["closed"], row["overridden"]) for row in around] == [
        (2000, 1, False, False)
    ] * 2


def test_null_clears_and_what_is_left_out_stays(home: Home) -> None:
    home.set_rate(1, 3, price=100, minStay=3, closed=True)
    home.set_rate(2, price=None)
    home.set_rate(3, price=None, minStay=None, closed=None)
    shown = [(row["price"], row["minStay"], row["closed"], row["overridden"]) for row in rates(home, 1, 3)]
    assert shown == [(100, 3, True, True), (2000, 3, True, True), (2000, 1, False, False)]
    assert Rate.objects.filter(property=home.id).count() == 2  # a night of which nothing is said leaves no row


def test_the_propertys_own_values_follow_wherever_nothing_else_is_said(home: Home) -> None:
    home.set_rate(2, price=100)
    home.api.put(home.path, {"basePrice": 3000, "minStay": 2})
    assert [(row["price"], row["minStay"]) for row in rates(home, 1, 2)] == [(3000, 2), (100, 2)]


def test_every_wrong_rate_is_refused_by_its_name_and_nothing_is_kept(home: Home, subtests: pytest.Subtests) -> None:
    one = {"from": day(home, 1), "to": day(home, 2)}
    bad: list[tuple[str, Any]] = [
        *each("from", None, "", "soon", "2026-02-30", "01.08.2026", 7, {}, "0000-01-01"),
        *each("to", None, "", "2026-13-01", day(home, 0), "9999-12-31", day(home, 731)),
        *each("price", 0, -5, "дорого", 1.5, 100_000_001, 10**40, [], "1e5"),
        *each("minStay", 0, 31, 45, "неделя", -1),
        *each("closed", "может быть", 7, {}, []),
    ]
    for name, value in bad:
        with subtests.test(f"{name}={str(value)[:60]}"):
            answer = home.api.put(f"{home.path}/rates", {"ranges": [one, {**one, "price": 5, name: value}]})
            assert_error(answer, 400, attr=f"ranges.1.{name}")
    wrong: list[Any] = [None, [], {}, "x", [one] * 732, [None], ["x"]]
    for ranges in wrong:
        with subtests.test(str(ranges)[:20]):
            error = assert_error(home.api.put(f"{home.path}/rates", {"ranges": ranges}), 400)
            assert error["attr"].startswith("ranges")
    assert_error(home.api.put(f"{home.path}/rates", {}), 400, "required", attr="ranges")
    assert not Rate.objects.exists()


@pytest.mark.parametrize("what", ["rates", "calendar"])
def test_questions_for_impossible_dates_are_refused_by_their_name(
    home: Home, what: str, subtests: pytest.Subtests
) -> None:
    for name, query in (
        ("from", {"from": "soon"}),
        ("to", {"to": "2026-02-30"}),
        ("to", {"from": day(home, 3), "to": day(home, 2)}),
        ("to", {"from": day(home, 0), "to": day(home, 731)}),
        ("to", {"from": "9999-12-31"}),
        ("to", {"from": "9999-12-30", "to": "9999-12-31"}),
    ):
        with subtests.test(str(query)):
            assert_error(home.api.get(f"{home.path}/{what}", **query), 400, attr=name)
    assert len(home.api.get(f"{home.path}/{what}", **{"from": day(home, 0), "to": day(home, 730)}).json()) == 731
    usual = home.api.get(f"{home.path}/{what}").json()
    assert [usual[0]["date"], usual[-1]["date"], len(usual)] == [day(home, 0), day(home, 29), 30]


# The calendar


def test_the_calendar_says_of_each_night_what_it_costs_why_it_is_closed_and_what_avito_knows(home: Home) -> None:
    home.set_rate(3, price=1990, minStay=4)
    home.set_rate(5, closed=True)
    home.avito.book(home.item, home.day(7), home.day(8), paid=False)
    assert home.book(1, 3).status_code == 201
    home.connect()
    work()
    home.set_rate(9, price=700)  # not sent yet

    def row(number: int, price: int, channel: int, **other: Any) -> dict[str, Any]:
        plain = {"minStay": 1, "open": True, "reason": None, "sync": "synced"}
        return {"date": day(home, number), "price": price, "channelPrice": channel, **plain, **other}

    answer = home.api.get(f"{home.path}/calendar", **{"from": day(home, -1), "to": day(home, 9)})
    assert answer.json() == [
        row(-1, 2000, 2300, open=False, reason="past", sync="off"),
        row(0, 2000, 2300),
        row(1, 2000, 2300, open=False, reason="booking"),
        row(2, 2000, 2300, open=False, reason="booking"),
        row(3, 1990, 2289, minStay=4),
        row(4, 2000, 2300),
        row(5, 2000, 2300, open=False, reason="closed"),
        row(6, 2000, 2300),
        row(7, 2000, 2300, open=False, reason="pending_booking", sync="pending"),  # its price waits for the guest
        row(8, 2000, 2300),
        row(9, 700, 805, sync="pending"),
    ]
    beyond = home.api.get(f"{home.path}/calendar", **{"from": day(home, 364), "to": day(home, 365)}).json()
    assert [one["sync"] for one in beyond] == ["synced", "off"]


def test_without_a_connection_the_calendar_is_the_hosts_own(home: Home) -> None:
    assert {(one["channelPrice"], one["sync"]) for one in home.calendar(40).values()} == {(2000, "off")}
    home.connect_and_push()
    home.api.patch(f"{home.path}/avito", {"isActive": False})
    assert {one["sync"] for one in home.calendar(40).values()} == {"off"}


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_day_begins_where_the_property_stands(home: Home, zone: str) -> None:
    home.api.put(home.path, {"timezone": zone})
    today = timezone.now().astimezone(ZoneInfo(zone)).date()
    rows = home.api.get(
        f"{home.path}/calendar", **{"from": (today - dt.timedelta(1)).isoformat(), "to": today.isoformat()}
    ).json()
    assert [row["reason"] for row in rows] == ["past", None]


def test_a_change_that_says_what_is_there_already_asks_for_nothing(home: Home) -> None:
    home.connect_and_push()
    home.set_rate(3, price=900)
    work()
    before = SyncTask.objects.values().get()
    home.set_rate(3, price=900)
    home.set_rates({"from": day(home, 4), "to": day(home, 5)})
    home.api.put(home.path, {"basePrice": 2000, "timezone": "Europe/Moscow"})
    home.api.put(home.path, {"name": "Другое имя", "address": "Другой адрес"})
    assert SyncTask.objects.values().get() == before
