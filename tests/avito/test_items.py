"""Listings and their figures as callers see them: lenient reading, pages, limits."""

import json
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from avito import Client, Invalid, Unreadable
from avito.protocol import Request, Response

FIXTURES = Path(__file__).parents[1] / "fixtures" / "avito"
ME = 141906442
LISTING = {"id": 1, "status": "active"}
DAY = {"date": "2026-11-21", "uniqViews": 7, "uniqContacts": 2, "uniqFavorites": 1}
SINCE, UNTIL = date(2026, 11, 20), date(2026, 11, 21)


class Recorder:
    """In place of a transport: keeps requests, answers as told."""

    def __init__(self, answer: Callable[[Request], object]) -> None:
        self.answer = answer
        self.requests: list[Request] = []

    def send(self, request: Request, *, deadline_seconds: float | None = None) -> Response:
        self.requests.append(request)
        return Response(200, {"Content-Type": "application/json"}, json.dumps(self.answer(request)).encode())


def client(value: object) -> Client:
    return Client("token", Recorder(lambda request: value))


def fixture(name: str) -> Any:
    return json.loads((FIXTURES / name).read_text())


def listings(*ids: int, per_page: int = 99) -> object:
    return {"meta": {"per_page": per_page}, "resources": [LISTING | {"id": id} for id in ids]}


def pages(request: Request, total: int) -> object:
    """A seller with `total` listings."""
    query = {name: int(value) for name, value in request.query if name != "status"}
    first = (query["page"] - 1) * query["per_page"] + 1
    return listings(*range(first, min(total + 1, first + query["per_page"])))


def figures(*days: object) -> object:
    return {"result": {"items": [{"itemId": 4341979279, "stats": list(days)}]}}


# Listings


def test_list_of_listings_is_read() -> None:
    page = client(fixture("items.json")).items.page()
    assert page.is_last
    flat, job = page.listings
    assert (flat.id, flat.title, flat.price, flat.status) == (4341979279, "Студия у моря, 28 м²", 3500, "active")
    assert (flat.category, flat.category_id) == ("Квартиры", 24)
    assert flat.address.endswith("Приморская ул., 1")
    assert flat.url.endswith("_4341979279")
    assert (job.price, job.url, job.status) == (None, "", "old")


def test_listing_with_least_is_read() -> None:
    [listing] = client({"resources": [{"id": 2**63 - 1, "status": "paused"}]}).items.page().listings
    assert (listing.id, listing.status) == (2**63 - 1, "paused")
    assert (listing.title, listing.price, listing.url, listing.address) == ("", None, "", "")
    assert (listing.category, listing.category_id) == ("", None)


@pytest.mark.parametrize(
    "change",
    [
        {"id": None},
        {"id": 0},
        {"id": "1"},
        {"id": 2**63},
        {"status": None},
        {"status": 10},
        {"price": "3500"},
        {"price": -1},
        {"price": True},
        {"price": 10**16},
        {"category": "Квартиры"},
    ],
)
def test_listing_that_breaks_its_shape_is_unreadable(change: dict[str, object]) -> None:
    with pytest.raises(Unreadable) as caught:
        client({"resources": [LISTING | change]}).items.page()
    assert next(iter(change)) in caught.value.message


@pytest.mark.parametrize("answer", [None, [], {}, {"resources": None}, {"resources": [1]}])
def test_list_that_is_none_is_unreadable(answer: object) -> None:
    with pytest.raises(Unreadable):
        client(answer).items.page()


@pytest.mark.parametrize(
    ("meta", "is_last"),
    [
        ({"per_page": 2}, False),
        ({"per_page": 3}, True),
        ({"per_page": 99}, True),
        ({"per_page": 0}, True),
        ({}, True),
        (None, True),
    ],
)
def test_page_is_last_unless_it_is_as_full_as_avito_makes_them(meta: object, is_last: bool) -> None:
    page = client({"meta": meta, "resources": [LISTING, LISTING | {"id": 2}]}).items.page(per_page=3)
    assert page.is_last is is_last


def test_full_page_as_asked_is_not_the_last_whatever_avito_says_of_larger_ones() -> None:
    page = client(listings(1, 2, per_page=50)).items.page(per_page=2)
    assert (page.per_page, page.is_last) == (2, False)


@pytest.mark.parametrize(("total", "calls"), [(0, 1), (1, 1), (98, 1), (99, 2), (100, 2), (1500, 16)])
def test_all_listings_are_read_until_a_short_page(total: int, calls: int) -> None:
    recorder = Recorder(lambda request: pages(request, total))
    found = Client("token", recorder).items.iter_all(("active", "old"))
    assert recorder.requests == []
    assert [listing.id for listing in found] == list(range(1, total + 1))
    assert [dict(request.query) for request in recorder.requests] == [
        {"page": str(number), "per_page": "99", "status": "active,old"} for number in range(1, calls + 1)
    ]


def test_listing_that_slides_to_the_next_page_comes_once() -> None:
    answers = iter([listings(*range(1, 100)), listings(99, 100)])
    found = Client("token", Recorder(lambda request: next(answers))).items.iter_all()
    assert [listing.id for listing in found] == list(range(1, 101))


def test_server_that_repeats_itself_is_left() -> None:
    recorder = Recorder(lambda request: listings(*range(1, 100)))
    assert len(list(Client("token", recorder).items.iter_all())) == 99
    assert len(recorder.requests) == 2


def test_server_without_end_is_left() -> None:
    recorder = Recorder(lambda request: listings(len(recorder.requests), per_page=1))
    assert len(list(Client("token", recorder).items.iter_all())) == 1000


@pytest.mark.parametrize(
    ("field", "break_limit"),
    [
        ("page", lambda calls: calls.page(page=0)),
        ("per_page", lambda calls: calls.page(per_page=0)),
        ("per_page", lambda calls: calls.page(per_page=100)),
        ("status", lambda calls: calls.page(statuses=())),
        ("status", lambda calls: calls.page(statuses=("active", "not_found"))),
        ("status", lambda calls: list(calls.iter_all(["sold"]))),
    ],
)
def test_limits_of_the_list_are_kept_without_asking(field: str, break_limit: Callable[[Any], object]) -> None:
    recorder = Recorder(lambda request: listings())
    with pytest.raises(Invalid) as caught:
        break_limit(Client("token", recorder).items)
    assert recorder.requests == []
    assert set(caught.value.fields) == {field}


# Statistics


def test_figures_are_read() -> None:
    recorder = Recorder(lambda request: fixture("item_statistics.json"))
    first, second = Client("token", recorder).statistics.items(ME, [4341979279, 24122231], since=SINCE, until=UNTIL)
    assert (first.item_id, second.item_id, second.days) == (4341979279, 24122231, ())
    assert [(day.date, day.views, day.contacts, day.favorites) for day in first.days] == [
        (date(2026, 11, 20), 10, 1, 0),
        (date(2026, 11, 21), 7, 0, 0),
    ]
    [request] = recorder.requests
    assert (request.method, request.path) == ("POST", f"/stats/v1/accounts/{ME}/items")
    assert json.loads(request.body or b"") == {
        "itemIds": [4341979279, 24122231],
        "dateFrom": "2026-11-20",
        "dateTo": "2026-11-21",
        "fields": ["uniqViews", "uniqContacts", "uniqFavorites"],
        "periodGrouping": "day",
    }


@pytest.mark.parametrize(
    "change",
    [
        {"date": None},
        {"date": "21.11.2026"},
        {"date": "20261121"},
        {"date": "2026-W47-6"},
        {"date": "2026-02-30"},
        {"date": "2026-11-21T00:00:00"},
        {"date": "٢٠٢٦-١١-٢١"},
        {"date": 20261121},
        {"uniqViews": -1},
        {"uniqViews": 10**9 + 1},
        {"uniqViews": 1.5},
        {"uniqContacts": "2"},
        {"uniqFavorites": True},
    ],
)
def test_day_that_breaks_its_shape_is_unreadable(change: dict[str, object]) -> None:
    with pytest.raises(Unreadable) as caught:
        client(figures(DAY | change)).statistics.items(ME, [4341979279], since=SINCE, until=UNTIL)
    assert next(iter(change)) in caught.value.message


@pytest.mark.parametrize(
    "answer",
    [
        None,
        [],
        {},
        {"result": None},
        {"result": {}},
        {"result": {"items": [{"stats": [DAY]}]}},
        {"result": {"items": [{"itemId": "1", "stats": [DAY]}]}},
        {"result": {"items": [{"itemId": 1, "stats": DAY}]}},
    ],
)
def test_figures_that_are_none_are_unreadable(answer: object) -> None:
    with pytest.raises(Unreadable):
        client(answer).statistics.items(ME, [1], since=SINCE, until=UNTIL)


@pytest.mark.parametrize("stats", [{}, {"stats": None}, {"stats": []}])
def test_listing_without_figures_has_no_days(stats: dict[str, object]) -> None:
    answer = {"result": {"items": [{"itemId": 1, **stats}]}}
    [found] = client(answer).statistics.items(ME, [1], since=SINCE, until=UNTIL)
    assert found.days == ()


@pytest.mark.parametrize(
    "break_limit",
    [
        lambda calls: calls.items(ME, range(1, 202), since=SINCE, until=UNTIL),
        lambda calls: calls.items(ME, [1], since=UNTIL, until=SINCE),
        lambda calls: calls.items(ME, [1], since=UNTIL - timedelta(days=271), until=UNTIL),
    ],
)
def test_too_much_at_once_is_not_asked(break_limit: Callable[[Any], object]) -> None:
    recorder = Recorder(lambda request: figures())
    with pytest.raises(ValueError, match="at most"):
        break_limit(Client("token", recorder).statistics)
    assert recorder.requests == []


def test_most_at_once_is_asked_and_nothing_asks_nothing() -> None:
    recorder = Recorder(lambda request: {"result": {"items": []}})
    statistics = Client("token", recorder).statistics
    assert statistics.items(ME, range(1, 201), since=UNTIL - timedelta(days=270), until=UNTIL) == []
    assert statistics.items(ME, [], since=SINCE, until=UNTIL) == []
    assert len(recorder.requests) == 1
