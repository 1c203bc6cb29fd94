import datetime as dt
from typing import Any

import pytest
import requests

from sandbox.items import moscow_day
from sandbox.settings import Settings
from tests.sandbox.conftest import Client
from tests.sandbox.driver import ANNA, OLEG, Sandbox, wait_for

ITEMS = "/core/v1/items"
INFO = "/core/v1/accounts/{id}/items/1768287444/"
STATISTICS = "/stats/v1/accounts/{id}/items"
FLAT, STUDIO, LOFT = 1768287444, 1768287512, 4341979279


def listed(client: Client, **query: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = client.call("GET", ITEMS, params=query).json()["resources"]
    return rows


def asked(client: Client, *item_ids: int, **change: Any) -> requests.Response:
    """The figures of yesterday and today, unless `change` says otherwise."""
    today = days_ago(0)
    body = {"itemIds": list(item_ids), "dateFrom": days_ago(1), "dateTo": today, **change}
    return client.call("POST", STATISTICS, json={name: value for name, value in body.items() if value is not ...})


def figures(client: Client, *item_ids: int, **change: Any) -> dict[int, list[dict[str, Any]]]:
    return {row["itemId"]: row["stats"] for row in asked(client, *item_ids, **change).json()["result"]["items"]}


def days_ago(days: int) -> str:
    now = dt.datetime.now(dt.UTC).timestamp()
    return (moscow_day(now) - dt.timedelta(days=days)).isoformat()


# Listings


def test_active_listings_of_the_seller_are_listed(anna: Client) -> None:
    answer = anna.call("GET", ITEMS).json()
    assert answer["meta"] == {"page": 1, "per_page": 25}
    assert len(answer["resources"]) == 5
    first = answer["resources"][0]
    assert (first["id"], first["price"], first["status"]) == (FLAT, 4500, "active")
    assert first["category"] == {"id": 24, "name": "Квартиры"}
    assert first["address"].startswith("Москва")
    assert LOFT not in {row["id"] for row in answer["resources"]}


def test_every_seller_has_a_list_of_his_own(sandbox: Sandbox) -> None:
    oleg = Client(sandbox, OLEG)
    assert {row["status"] for row in listed(oleg)} == {"active"}
    assert (len(listed(oleg)), listed(oleg)[0]["id"]) == (6, LOFT)
    made = sandbox.control("POST", "/sellers", name="Хостел")
    assert [row["id"] for row in listed(Client(sandbox, made["id"]))] == [item["id"] for item in made["items"]]


def test_listings_come_in_pages(sandbox: Sandbox, anna: Client) -> None:
    made = sandbox.control("POST", "/items", sellerId=ANNA, count=1500, title="Студия")["ids"]
    assert len(set(made)) == 1500
    pages = [listed(anna, page=page, per_page=99) for page in range(1, 18)]
    assert [len(page) for page in pages] == [99] * 15 + [20, 0]
    assert [row["id"] for page in pages for row in page][5:] == made
    assert pages[0][5]["title"] == "Студия № 1"


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ({}, 5),
        ({"status": "old"}, 1),
        ({"status": "active,old"}, 6),
        ({"status": ["active", "old"]}, 6),
        ({"status": "blocked"}, 0),
        ({"category": 24}, 5),
        ({"category": 25}, 0),
        ({"updatedAtFrom": "2024-01-01"}, 5),
        ({"updatedAtFrom": "2999-01-01"}, 0),
        ({"page": 2, "per_page": 4}, 1),
    ],
)
def test_list_is_filtered(anna: Client, query: dict[str, Any], count: int) -> None:
    assert len(listed(anna, **query)) == count


@pytest.mark.parametrize(
    ("method", "path", "details", "status"),
    [
        ("GET", ITEMS + "/", {}, 404),
        ("GET", INFO[:-1], {}, 404),
        ("GET", f"/core/v1/accounts/{OLEG}/items/{LOFT}/", {}, 403),
        ("POST", ITEMS, {}, 405),
        ("GET", STATISTICS, {}, 405),
        ("GET", ITEMS, {"params": {"per_page": 100}}, 400),
        ("GET", ITEMS, {"params": {"per_page": 0}}, 400),
        ("GET", ITEMS, {"params": {"page": 0}}, 400),
        ("GET", ITEMS, {"params": {"perPage": 10}}, 400),
        ("GET", ITEMS, {"params": {"status": "sold"}}, 400),
        ("GET", ITEMS, {"params": {"status": "active,"}}, 400),
        ("GET", ITEMS, {"params": {"updatedAtFrom": "01.02.2026"}}, 400),
        ("GET", ITEMS, {"params": {"category": "flats"}}, 400),
        ("GET", INFO, {"params": {"page": 1}}, 400),
    ],
)
def test_unknown_calls_are_refused(
    anna: Client, method: str, path: str, details: dict[str, object], status: int
) -> None:
    answer = anna.call(method, path, **details)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, status)


def test_each_call_needs_its_scope(sandbox: Sandbox) -> None:
    for scope, statuses in (("items:info", [200, 200, 403]), ("stats:read", [403, 403, 200])):
        client = Client(sandbox, scopes=(scope,))
        answers = [client.call("GET", ITEMS), client.call("GET", INFO), asked(client, FLAT)]
        assert [answer.status_code for answer in answers] == statuses


def test_listing_tells_its_state(sandbox: Sandbox, anna: Client) -> None:
    assert anna.call("GET", INFO).json()["status"] == "active"
    sandbox.control("PATCH", f"/items/{FLAT}", status="blocked", title="Новое имя", price=1)
    assert anna.call("GET", INFO).json()["status"] == "blocked"
    assert [(row["title"], row["price"]) for row in listed(anna, status="blocked")] == [("Новое имя", 1)]
    for item_id, status in ((LOFT, "another_user"), (5, "not_found")):
        answer = anna.call("GET", f"/core/v1/accounts/{{id}}/items/{item_id}/")
        assert (answer.status_code, answer.json()["status"], answer.json()["url"]) == (200, status, None)


# Statistics


def test_figures_of_a_day_are_always_the_same(sandbox: Sandbox, anna: Client) -> None:
    before = figures(anna, FLAT, STUDIO)
    sandbox.control("POST", "/reset")
    assert figures(Client(sandbox), FLAT, STUDIO) == before
    assert before[FLAT] != before[STUDIO]
    assert [row["date"] for row in before[FLAT]] == [days_ago(1), days_ago(0)]


def test_weekends_are_livelier(anna: Client) -> None:
    rows = figures(anna, FLAT, dateFrom=days_ago(60))[FLAT]
    views = {dt.date.fromisoformat(row["date"]): row["uniqViews"] for row in rows}
    weekend = [count for on, count in views.items() if on.weekday() >= 5]
    assert min(weekend) > max(count for on, count in views.items() if on.weekday() < 5)
    assert all(row["uniqViews"] > row["uniqContacts"] + row["uniqFavorites"] >= 0 for row in rows)


def test_future_has_no_figures(sandbox: Sandbox, anna: Client) -> None:
    assert [row["date"] for row in figures(anna, FLAT, dateTo="2999-12-31")[FLAT]] == [days_ago(1), days_ago(0)]
    assert figures(anna, FLAT, dateFrom=days_ago(-1), dateTo=days_ago(-9)) == {FLAT: []}


def test_only_own_listings_have_figures(anna: Client) -> None:
    assert list(figures(anna, LOFT, FLAT, 5, FLAT, STUDIO)) == [FLAT, STUDIO]
    answer = anna.call("POST", f"/stats/v1/accounts/{OLEG}/items", json={})
    assert answer.status_code == 404


@pytest.mark.parametrize(
    ("fields", "keys"),
    [
        (..., {"date", "uniqViews", "uniqContacts", "uniqFavorites"}),
        (["uniqContacts"], {"date", "uniqContacts"}),
        (["views", "favorites"], {"date", "views", "favorites"}),
        ([], {"date"}),
    ],
)
def test_only_the_fields_asked_for_are_given(anna: Client, fields: object, keys: set[str]) -> None:
    assert all(set(row) == keys for row in figures(anna, FLAT, fields=fields)[FLAT])


def test_figures_are_grouped(anna: Client) -> None:
    first = dt.date.fromisoformat(days_ago(40))
    days = figures(anna, FLAT, dateFrom=days_ago(40))[FLAT]
    for grouping in ("week", "month"):
        rows = figures(anna, FLAT, dateFrom=days_ago(40), periodGrouping=grouping)[FLAT]
        assert sum(row["uniqViews"] for row in rows) == sum(row["uniqViews"] for row in days)
        assert len(rows) < len(days)
        assert dt.date.fromisoformat(rows[0]["date"]) <= first


@pytest.mark.parametrize(
    "change",
    [
        {"itemIds": list(range(1, 202))},
        {"itemIds": []},
        {"itemIds": ["1"]},
        {"itemIds": [True]},
        {"itemIds": ...},
        {"dateFrom": ...},
        {"dateTo": ...},
        {"dateFrom": "05.01.2026"},
        {"dateFrom": "2026-02-30"},
        {"dateFrom": "2026-2-3"},
        {"dateFrom": days_ago(271)},
        {"dateFrom": days_ago(-2), "dateTo": days_ago(-1)[:-1]},
        {"dateTo": days_ago(2)},
        {"dateTo": 20260101},
        {"fields": ["uniqViews", "uniqCalls"]},
        {"fields": "uniqViews"},
        {"fields": [{}]},
        {"periodGrouping": "year"},
        {"limit": 5},
    ],
)
def test_wrong_question_about_figures_is_refused(anna: Client, change: dict[str, Any]) -> None:
    answer = asked(anna, FLAT, **change)
    assert answer.status_code == 400
    assert set(answer.json()["error"]["fields"]) <= set(change) | {"dateTo"}


def test_most_that_is_documented_is_answered(anna: Client) -> None:
    rows = figures(anna, itemIds=[FLAT, *range(1, 200)], dateFrom=days_ago(270))
    assert len(rows[FLAT]) == 271


def test_figures_are_set(sandbox: Sandbox, anna: Client) -> None:
    untouched = figures(anna, FLAT)[FLAT][0]
    days = [{"date": days_ago(0), "views": 700, "contacts": 8, "favorites": 9}]
    sandbox.control("PUT", "/statistics", itemId=FLAT, days=days)
    today = {"date": days_ago(0), "uniqViews": 700, "uniqContacts": 8, "uniqFavorites": 9}
    assert figures(anna, FLAT)[FLAT] == [untouched, today]
    answer = sandbox.control("PUT", "/statistics", sellerId=ANNA, days=[{"date": days_ago(1), "contacts": 1}])
    assert answer == {"items": 6, "days": 1}
    for rows in figures(anna, FLAT, STUDIO).values():
        assert rows[0] == {"date": days_ago(1), "uniqViews": 0, "uniqContacts": 1, "uniqFavorites": 0}


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/items", {"count": 1}, 400),
        ("POST", "/items", {"sellerId": 1}, 404),
        ("POST", "/items", {"sellerId": ANNA, "count": 100_001}, 400),
        ("POST", "/items", {"sellerId": ANNA, "status": "sold"}, 400),
        ("PATCH", f"/items/{FLAT}", {"status": "not_found"}, 400),
        ("PATCH", f"/items/{FLAT}", {"address": "Москва"}, 400),
        ("PATCH", "/items/5", {"status": "old"}, 404),
        ("PUT", "/statistics", {"days": []}, 400),
        ("PUT", "/statistics", {"itemId": FLAT, "sellerId": ANNA, "days": []}, 400),
        ("PUT", "/statistics", {"itemId": FLAT}, 400),
        ("PUT", "/statistics", {"itemId": 5, "days": []}, 404),
        ("PUT", "/statistics", {"itemId": FLAT, "days": [1]}, 400),
        ("PUT", "/statistics", {"itemId": FLAT, "days": [{"views": 1}]}, 400),
        ("PUT", "/statistics", {"itemId": FLAT, "days": [{"date": "today"}]}, 400),
        ("PUT", "/statistics", {"itemId": FLAT, "days": [{"date": "2026-01-05", "views": -1}]}, 400),
        ("PUT", "/statistics", {"itemId": FLAT, "days": [{"date": "2026-01-05", "calls": 1}]}, 400),
    ],
)
def test_wrong_orders_are_refused(
    sandbox: Sandbox, method: str, path: str, body: dict[str, object], status: int
) -> None:
    assert sandbox.call(method, f"/_sandbox{path}", json=body).status_code == status


# Limits


def test_list_is_given_so_often_a_minute_to_each_seller(sandbox: Sandbox, anna: Client) -> None:
    answers = [anna.call("GET", ITEMS) for _ in range(27)]
    assert [answer.status_code for answer in answers] == [200] * 25 + [429] * 2
    refused = answers[-1]
    assert refused.json() == {"error": {"code": 429, "message": "Too many requests"}}
    assert (refused.headers["x-ratelimit-limit"], refused.headers["x-ratelimit-remaining"]) == ("25", "0")
    assert "retry-after" not in refused.headers
    assert "x-ratelimit-limit" not in answers[0].headers
    assert [row["status"] for row in sandbox.journal()][-27:] == [200] * 25 + [429] * 2
    assert Client(sandbox).call("GET", ITEMS).status_code == 429, "another token of the same seller"
    assert anna.call("GET", INFO).status_code == 200
    assert Client(sandbox, OLEG).call("GET", ITEMS).status_code == 200


def test_state_of_a_listing_has_a_limit_of_its_own(sandbox: Sandbox, anna: Client) -> None:
    sandbox.control("PATCH", "/settings", itemInfoPerMinute=1, retryAfterSeconds=7)
    assert anna.call("GET", INFO).status_code == 200
    refused = anna.call("GET", INFO)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
    assert anna.call("GET", ITEMS).status_code == 200


def test_all_calls_with_a_token_share_a_limit(sandbox: Sandbox, anna: Client) -> None:
    oleg = Client(sandbox, OLEG)
    sandbox.control("PATCH", "/settings", callsPerMinute=3)
    asked = [anna.call("GET", ITEMS), oleg.call("GET", "/core/v1/accounts/self"), anna.call("GET", "/nowhere")]
    assert [answer.status_code for answer in asked] == [200, 200, 404]
    refused = anna.call("GET", "/core/v1/accounts/self")
    assert (refused.status_code, refused.headers["x-ratelimit-limit"]) == (429, "3")
    assert sandbox.tokens()["access_token"], "a call without a token is none of these"
    assert sandbox.journal()[-2]["status"] == 429


def test_window_slides_and_refused_calls_do_not_count(sandbox: Sandbox, anna: Client) -> None:
    sandbox.control("PATCH", "/settings", callsPerMinute=3, limitWindowSeconds=0.3)
    for _ in range(8):
        wait_for(lambda: anna.call("GET", "/core/v1/accounts/self").status_code == 200)
    rows = [row for row in sandbox.journal() if row["path"].endswith("/self")]
    let_through = [row["at"] for row in rows if row["status"] == 200]
    assert len(let_through) == 8
    assert all(later - earlier > 0.299 for earlier, later in zip(let_through, let_through[3:], strict=False))
    assert len(rows) > 8
    assert len({row["at"] % 0.001 for row in rows}) > 1, "the journal tells microseconds"


def test_limits_may_be_lifted(sandbox: Sandbox, anna: Client) -> None:
    sandbox.control("PATCH", "/settings", itemsPerMinute=0)
    assert {anna.call("GET", ITEMS).status_code for _ in range(30)} == {200}


def test_limits_are_read_from_the_environment() -> None:
    settings = Settings.from_env({"SANDBOX_ITEMS_PER_MINUTE": "3", "SANDBOX_LIMIT_WINDOW_SECONDS": "0.5"})
    assert (settings.items_per_minute, settings.limit_window_seconds, settings.calls_per_minute) == (3, 0.5, 0)


# Pages


def test_index_counts_listings(sandbox: Sandbox) -> None:
    sandbox.control("POST", "/items", sellerId=ANNA, count=1500)
    page = sandbox.call("GET", "/").text
    assert '<b class="count">1506</b>' in page
    assert page.count("Квартира посуточно №") < 20


def test_buyer_is_offered_active_listings_of_every_seller(sandbox: Sandbox) -> None:
    sandbox.control("POST", "/items", sellerId=ANNA, count=1500)
    sandbox.control("PATCH", f"/items/{STUDIO}", status="removed")
    page = sandbox.call("GET", "/buyer", params={"chat_id": "new"}).text
    offered = [f'<option value="{id}">' in page for id in (FLAT, STUDIO, LOFT)]
    assert offered == [True, False, True]
