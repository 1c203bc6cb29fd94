"""Figures of an account: all of them, inside Avito's limits, kept day by day and never made worse."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import time_machine
from django.conf import LazySettings
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from avito.types import Balance
from avito_accounts import limits, statistics
from avito_accounts.errors import WrongOwner
from avito_accounts.models import Account, DailyStats, Job
from tests.conftest import Api
from tests.factories import make_account
from tests.sandbox.driver import ANNA, OLEG, Sandbox

ACCOUNTS = "/api/v1/accounts"
SEEDED = 5  # Anna's active listings


def synced(api: Api, account: Account, status: int = 200) -> Any:
    answer = api.post(f"{ACCOUNTS}/{account.pk}/sync-stats")
    assert answer.status_code == status, answer.text
    return answer.json()


def figures(sandbox: Sandbox, days: list[dict[str, Any]], seller: int = ANNA) -> None:
    """The same figures for each listing of the seller."""
    sandbox.control("PUT", "/statistics", sellerId=seller, days=days)


def day(when: date, views: int, contacts: int = 0, favorites: int = 0) -> dict[str, Any]:
    return {"date": when.isoformat(), "views": views, "contacts": contacts, "favorites": favorites}


def window(until: date, views: int = 0, contacts: int = 0) -> list[dict[str, Any]]:
    return [day(until - timedelta(days=number), views, contacts) for number in range(statistics.DAYS)]


def calls(sandbox: Sandbox, ending: str) -> list[dict[str, Any]]:
    return [call for call in sandbox.journal() if call["path"].endswith(ending)]


def test_a_synchronisation_reads_balance_listings_and_statistics(
    owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    now = statistics.today()
    figures(avito_sandbox, [*window(now, views=10, contacts=2), day(now, 7, 1, 3)])
    answer = synced(owner, anna)
    assert set(answer) == {"balance", "itemsStats", "accountInfo", "syncedAt", "warnings"}
    assert answer["itemsStats"] == {
        "adsCount": SEEDED,
        "viewsCount": SEEDED * (29 * 10 + 7) + 1 * 0,
        "contactsCount": SEEDED * (29 * 2 + 1),
        "viewsToday": SEEDED * 7,
        "contactsToday": SEEDED,
    }
    assert answer["warnings"] == []
    assert answer["accountInfo"]["id"] == str(ANNA)
    assert set(answer["balance"]) == {"real", "bonus"}
    shown = owner.get(f"{ACCOUNTS}/{anna.pk}").json()
    assert {name: shown[name] for name in answer["itemsStats"]} == answer["itemsStats"]
    assert (shown["balance"], shown["lastSyncAt"]) == (answer["balance"], answer["syncedAt"])


def test_the_history_has_a_row_a_day_and_todays_balance(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    now = statistics.today()
    figures(avito_sandbox, [*window(now, views=4), day(now, 7, 1, 3)])
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", balanceReal=1234.5, balanceBonus=7)
    synced(owner, anna)
    history = owner.get(f"{ACCOUNTS}/{anna.pk}/stats").json()
    assert [row["date"] for row in history] == [(now - timedelta(days=n)).isoformat() for n in range(29, -1, -1)]
    assert history[-1] == {
        "date": now.isoformat(), "views": 7 * SEEDED, "contacts": SEEDED, "favorites": 3 * SEEDED, "adsCount": SEEDED,
        "balanceReal": 1234.5, "balanceBonus": 7.0,
    }  # fmt: skip
    assert (history[0]["views"], history[0]["adsCount"], history[0]["balanceReal"]) == (4 * SEEDED, None, None)


def test_1500_listings_are_all_counted_within_avitos_limits(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.control("POST", "/items", sellerId=ANNA, count=1500 - SEEDED)
    avito_sandbox.control("POST", "/items", sellerId=ANNA, count=50, status="old")
    now = statistics.today()
    figures(avito_sandbox, window(now, views=1, contacts=1))
    avito_sandbox.control("DELETE", "/journal")
    answer = synced(owner, anna)
    assert answer["warnings"] == []
    assert answer["itemsStats"] == {
        "adsCount": 1500, "viewsCount": 30 * 1500, "contactsCount": 30 * 1500, "viewsToday": 1500,
        "contactsToday": 1500,
    }  # fmt: skip
    assert [len(calls(avito_sandbox, path)) for path in ("/core/v1/items", "/stats/v1/accounts/94235311/items")] == [
        16,  # pages of at most 99, the last one short
        8,  # batches of at most 200
    ]
    assert {call["status"] for call in avito_sandbox.journal()} == {200}


def test_a_page_that_is_exactly_full_is_not_taken_for_the_last(
    owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    avito_sandbox.control("POST", "/items", sellerId=ANNA, count=99 - SEEDED)
    assert synced(owner, anna)["itemsStats"]["adsCount"] == 99
    avito_sandbox.control("POST", "/items", sellerId=ANNA, count=1)
    assert synced(owner, anna)["itemsStats"]["adsCount"] == 100


def test_what_the_limit_holds_up_is_left_to_a_worker(
    owner: Api, anna: Account, avito_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """26 pages are more than a minute allows; a person does not wait for the next one."""
    avito_sandbox.control("POST", "/items", sellerId=ANNA, count=99 * 26)
    monkeypatch.setattr(limits, "PEOPLE_PATIENCE_SECONDS", 0.1)
    answer = synced(owner, anna)
    assert [warning.partition(":")[0] for warning in answer["warnings"]] == ["items", "stats"]
    assert answer["itemsStats"]["adsCount"] is None
    assert list(Job.objects.filter(run=None).values_list("account_id", "kind")) == [(anna.pk, "sync")]
    assert 429 not in {call["status"] for call in avito_sandbox.journal()}


PARTS = {
    "accountInfo": "accounts/self$",
    "balance": "/balance/$",
    "items": "core/v1/items$",
    "stats": "stats/v1/.*",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_part_that_fails_keeps_its_old_values_and_is_named(
    owner: Api, anna: Account, avito_sandbox: Sandbox, part: str
) -> None:
    before = synced(owner, anna)
    kept = list(DailyStats.objects.order_by("date").values("date", "views", "contacts", "favorites"))
    avito_sandbox.control("POST", "/items", sellerId=ANNA, count=3)
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", balanceReal=9.25, balanceBonus=0)
    avito_sandbox.fault("status", PARTS[part], status=500)
    after = synced(owner, anna)
    named = [warning.partition(":")[0] for warning in after["warnings"]]
    assert named == (["items", "stats"] if part == "items" else [part])
    assert all(len(warning) > len(name) + 2 for warning, name in zip(after["warnings"], named, strict=True))
    assert (after["accountInfo"] is None) == (part == "accountInfo")
    assert after["balance"] == (before["balance"] if part == "balance" else {"real": 9.25, "bonus": 0.0})
    assert after["itemsStats"]["adsCount"] == (SEEDED if part == "items" else SEEDED + 3)
    if part in ("items", "stats"):
        assert after["itemsStats"]["viewsCount"] == before["itemsStats"]["viewsCount"]
        assert list(DailyStats.objects.order_by("date").values("date", "views", "contacts", "favorites")) == kept
    shown = Account.objects.get(pk=anna.pk)
    assert shown.sync_failures == dict.fromkeys(named, "avito_unavailable")


def test_one_lost_batch_spoils_no_sum(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.control("POST", "/items", sellerId=ANNA, count=300)
    before = synced(owner, anna)
    avito_sandbox.fault("status", PARTS["stats"], status=503, skip=1)
    after = synced(owner, anna)
    assert [warning.partition(":")[0] for warning in after["warnings"]] == ["stats"]
    assert after["itemsStats"]["viewsCount"] == before["itemsStats"]["viewsCount"]


@pytest.mark.parametrize(
    ("status", "expected", "code"), [(500, 502, "avito_unavailable"), (403, 403, "avito_forbidden")]
)
def test_when_nothing_succeeds_the_error_is_avitos(
    owner: Api, anna: Account, avito_sandbox: Sandbox, status: int, expected: int, code: str
) -> None:
    synced(owner, anna)
    before = Account.objects.values("balance_real", "ads_count", "views_count", "last_sync_at").get(pk=anna.pk)
    avito_sandbox.fault("status", "(self|balance/|items)$", status=status)
    assert synced(owner, anna, expected)["errors"][0]["code"] == code
    assert Account.objects.values("balance_real", "ads_count", "views_count", "last_sync_at").get(pk=anna.pk) == before


def test_an_account_that_never_was_connected_has_no_figures(owner: Api, product: str) -> None:
    account = make_account(avito_user_id=None)
    assert synced(owner, account, 409)["errors"][0]["code"] == "account_not_authorized"
    assert owner.get(f"{ACCOUNTS}/{account.pk}/stats").json() == []


def test_an_account_without_listings_has_zeros(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    for listing in owner.get(f"{ACCOUNTS}/{anna.pk}/items").json()["items"]:
        avito_sandbox.control("PATCH", f"/items/{listing['id']}", status="removed")
    answer = synced(owner, anna)
    assert answer["itemsStats"] == dict.fromkeys(
        ("adsCount", "viewsCount", "contactsCount", "viewsToday", "contactsToday"), 0
    )
    assert answer["warnings"] == []
    assert calls(avito_sandbox, f"/stats/v1/accounts/{ANNA}/items") == []


def test_the_figures_of_a_past_day_do_not_shrink_when_a_listing_ends(
    owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    now = statistics.today()
    figures(avito_sandbox, window(now, views=10))
    synced(owner, anna)
    first = owner.get(f"{ACCOUNTS}/{anna.pk}/items").json()["items"][0]
    avito_sandbox.control("PATCH", f"/items/{first['id']}", status="old")
    answer = synced(owner, anna)
    assert answer["itemsStats"]["viewsCount"] == (SEEDED - 1) * 300
    assert {row["views"] for row in owner.get(f"{ACCOUNTS}/{anna.pk}/stats").json()} == {SEEDED * 10}


def test_days_that_were_missed_are_read_again(anna: Account, avito_sandbox: Sandbox) -> None:
    statistics.sync(anna, with_missed_days=True)
    now = statistics.today()
    assert DailyStats.objects.filter(account=anna).count() == 270
    assert DailyStats.objects.order_by("date")[0].date == now - timedelta(days=269)
    wanted = {row.date: row.views for row in DailyStats.objects.all()}
    avito_sandbox.control("DELETE", "/journal")
    statistics.sync(anna, with_missed_days=True)
    assert len(calls(avito_sandbox, f"/stats/v1/accounts/{ANNA}/items")) == 1  # nothing was missed
    DailyStats.objects.filter(date__in=[now - timedelta(days=200), now - timedelta(days=90)]).delete()
    statistics.sync(anna, with_missed_days=True)
    assert {row.date: row.views for row in DailyStats.objects.all()} == wanted
    statistics.sync(anna)
    assert {row.date: row.views for row in DailyStats.objects.all()} == wanted


def test_a_long_history_of_many_listings_is_asked_in_pieces(anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.control("POST", "/items", sellerId=ANNA, count=450)
    done = statistics.sync(anna, with_missed_days=True)
    assert done.failures == {}
    assert DailyStats.objects.filter(account=anna).count() == 270


@pytest.mark.parametrize(
    ("utc", "moscow"),
    [
        (datetime(2026, 3, 1, 20, 59, tzinfo=UTC), date(2026, 3, 1)),
        (datetime(2026, 3, 1, 21, 0, tzinfo=UTC), date(2026, 3, 2)),
        (datetime(2026, 12, 31, 21, 0, tzinfo=UTC), date(2027, 1, 1)),
    ],
)
def test_today_is_the_day_in_moscow(utc: datetime, moscow: date) -> None:
    with time_machine.travel(utc, tick=False):
        assert statistics.today() == moscow


def test_synchronising_twice_leaves_the_same_rows(owner: Api, anna: Account) -> None:
    synced(owner, anna)
    before = list(DailyStats.objects.order_by("date").values())
    synced(owner, anna)
    assert list(DailyStats.objects.order_by("date").values()) == before


def test_the_number_of_queries_depends_on_nothing(
    anna: Account, avito_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("avito_accounts.models.PROXY_TRUSTED_SECONDS", 3600)

    def queries() -> int:
        with CaptureQueriesContext(connection) as caught:
            statistics.sync(Account.objects.select_related("proxy", "authorization").get(pk=anna.pk))
        return len([row for row in caught if not row["sql"].startswith(("SELECT 1", "SET "))])

    statistics.sync(anna)
    few = queries()
    avito_sandbox.control("POST", "/items", sellerId=ANNA, count=350)
    assert queries() == few


def test_todays_figures_are_those_of_today_or_none(owner: Api, anna: Account) -> None:
    synced(owner, anna)
    Account.objects.update(stats_on=statistics.today() - timedelta(days=1))
    shown = owner.get(f"{ACCOUNTS}/{anna.pk}").json()
    assert (shown["viewsToday"], shown["contactsToday"]) == (None, None)
    assert shown["viewsCount"] is not None


def test_a_reading_that_comes_late_does_not_overwrite_a_later_one(
    owner: Api, anna: Account, avito_sandbox: Sandbox
) -> None:
    stale = statistics.Synced(
        timezone.now(), statistics.today(), balance=Balance(Decimal(1), Decimal(1)), listings=(1,)
    )
    synced(owner, anna)
    before = owner.get(f"{ACCOUNTS}/{anna.pk}").json()
    statistics._keep(Account.objects.get(pk=anna.pk), stale)
    assert owner.get(f"{ACCOUNTS}/{anna.pk}").json() == before
    assert owner.get(f"{ACCOUNTS}/{anna.pk}/stats").json()[-1]["balanceReal"] == before["balance"]["real"]


def test_figures_of_another_profile_are_not_kept(owner: Api, product: str) -> None:
    account = make_account(client_id="anna-client", client_secret="anna-secret", avito_user_id=OLEG)
    owner.post(f"{ACCOUNTS}/{account.pk}/check-connection")
    with pytest.raises(WrongOwner):
        statistics.sync(Account.objects.get(pk=account.pk))
    assert not DailyStats.objects.exists()


def test_figures_beyond_any_account_are_kept_all_the_same(owner: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    figures(avito_sandbox, [day(statistics.today(), 10**9)])
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", balanceReal=9e11, balanceBonus=1e13)
    answer = synced(owner, anna)
    assert answer["itemsStats"]["viewsToday"] == SEEDED * 10**9
    assert [warning.partition(":")[0] for warning in answer["warnings"]] == ["balance"]


# The history through the API


@pytest.mark.parametrize(
    ("query", "attr"),
    [
        ({"from": "2026-13-01"}, "from"),
        ({"to": "tomorrow"}, "to"),
        ({"from": "2026-02-02", "to": "2026-02-01"}, "to"),
        ({"from": "2025-01-01", "to": "2026-02-01"}, "from"),
        ({"from": "10000-01-01"}, "from"),
        ({"to": "0001-01-01"}, "to"),
    ],
)
def test_a_period_that_makes_no_sense_is_refused(owner: Api, anna: Account, query: dict[str, str], attr: str) -> None:
    answer = owner.call("GET", f"{ACCOUNTS}/{anna.pk}/stats", params=query)
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, attr)


def test_270_days_are_shown_and_both_ends_belong_to_them(owner: Api, anna: Account) -> None:
    start = date(2026, 1, 1)
    DailyStats.objects.bulk_create(
        DailyStats(account=anna, date=start + timedelta(days=number), views=number) for number in range(300)
    )
    query = {"from": "2026-01-01", "to": (start + timedelta(days=269)).isoformat()}
    history = owner.call("GET", f"{ACCOUNTS}/{anna.pk}/stats", params=query).json()
    assert (len(history), history[0]["views"], history[-1]["views"]) == (270, 0, 269)


# Live from Avito


def test_info_balance_and_listings_are_live(colleague: Api, anna: Account, avito_sandbox: Sandbox) -> None:
    base = f"{ACCOUNTS}/{anna.pk}"
    assert colleague.get(f"{base}/info").json()["id"] == str(ANNA)
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", balanceReal=0.1, balanceBonus=99)
    assert colleague.get(f"{base}/balance").json() == {"real": 0.1, "bonus": 99.0}
    page = colleague.get(f"{base}/items", page=2, perPage=2).json()
    assert set(page) == {"items", "page", "perPage"}
    assert (len(page["items"]), page["page"], page["perPage"]) == (2, 2, 2)
    assert set(page["items"][0]) == {"id", "title", "price", "status", "url", "address", "category"}
    assert isinstance(page["items"][0]["id"], str)
    old = colleague.get(f"{base}/items", status="old,removed").json()["items"]
    assert {listing["status"] for listing in old} == {"old"}


@pytest.mark.parametrize(
    ("query", "attr"),
    [({"page": 0}, "page"), ({"page": "x"}, "page"), ({"perPage": 100}, "perPage"), ({"status": "new"}, "status")],
)
def test_a_page_of_listings_that_cannot_be_is_refused_here(
    owner: Api, anna: Account, avito_sandbox: Sandbox, query: dict[str, Any], attr: str
) -> None:
    answer = owner.get(f"{ACCOUNTS}/{anna.pk}/items", **query)
    assert (answer.status_code, answer.json()["errors"][0]["attr"]) == (400, attr)
    assert calls(avito_sandbox, "/items") == []


@pytest.mark.parametrize("path", ["info", "balance", "items"])
def test_failures_of_live_calls_are_those_of_avito(
    owner: Api, anna: Account, avito_sandbox: Sandbox, settings: LazySettings, path: str
) -> None:
    avito_sandbox.fault("status", "(self|balance/|items)$", status=404)
    answer = owner.get(f"{ACCOUNTS}/{anna.pk}/{path}")
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (404, "avito_not_found")


def test_another_account_has_its_own_figures(owner: Api, anna: Account) -> None:
    oleg = make_account(client_id="uyut-client", client_secret="uyut-secret", avito_user_id=OLEG)
    synced(owner, anna)
    synced(owner, oleg)
    assert Account.objects.get(pk=oleg.pk).ads_count == 6
    assert Account.objects.get(pk=anna.pk).ads_count == SEEDED
