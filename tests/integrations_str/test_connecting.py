"""From the choice of an item to the first push, and off again: what may go wrong, and what is asked first."""

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.conf import settings

from avito_accounts.models import Account, Authorization
from integrations_str import health, tasks
from integrations_str.models import Access, Booking, Exchange, Integration, Night, SyncTask
from tests.api.conftest import assert_error
from tests.conftest import Api
from tests.factories import make_account, make_user
from tests.integrations_str.conftest import Home, assert_agrees, each, first_writes, make_home, work
from tests.sandbox.driver import OLEG, RENT_SCOPES, Sandbox
from tests.test_admin import signed_in, text_of


def kinds(home: Home) -> list[str]:
    return [call.kind for call in home.avito.rent_calls(home.item)]


def said(home: Home, **other: Any) -> dict[str, Any]:
    return {"accountId": home.account.pk, "itemId": str(home.item), **other}


def second(home: Home, name: str = "neighbour") -> Home:
    """Another owner who may use the same account."""
    return make_home(home.api.base, home.avito, home.account, make_user(name))


# Connecting


def test_the_item_is_checked_its_bookings_are_stored_and_only_then_something_is_pushed(home: Home) -> None:
    home.avito.book(home.item, home.day(4), home.day(6))
    answer = home.api.post(f"{home.path}/avito/check-item", said(home))
    assert (answer.status_code, answer.json()) == (200, {"available": True})
    assert not Integration.objects.exists()
    shown = home.connect()
    check = "checks" if settings.AVITO_STR_DIALECT == "guide" else "reads"
    assert kinds(home) == [check, "reads"]
    assert Booking.objects.get().check_in == home.day(4)
    assert Night.objects.count() == 2
    assert shown == {
        **shown,
        "propertyId": home.id,
        "accountId": home.account.pk,
        "itemId": str(home.item),
        "markupPercent": 15.0,
        "isActive": True,
        "status": "syncing",
        "lastPushAt": None,
        "lastError": None,
        "pendingDays": 365,
        "holdPending": True,
        "awaitingConsent": False,
    }
    assert shown["lastPullAt"] is not None
    work()
    assert sorted(kinds(home)[2:]) == first_writes()
    assert_agrees(home)
    after = home.connection()
    assert (after["status"], after["pendingDays"]) == ("ok", 0)
    assert after["lastPushAt"] is not None
    assert home.api.get(home.path).json()["avito"] == after
    log = home.api.get(f"{home.path}/avito/log").json()
    assert [row["action"] for row in reversed(log["results"])][:2] == ["connect", "read_bookings"]
    assert set(log["results"][0]) == {"at", "action", "ok", "code", "detail", "attempt", "latencyMs"}


def test_the_accounts_offered_are_those_the_owner_may_use(home: Home) -> None:
    make_account(name="Чужой", avito_user_id=1234567)
    shown = home.api.get(f"{home.path}/avito/accounts").json()
    assert shown == [{"accountId": home.account.pk, "userId": str(home.account.avito_user_id), "name": "Анна"}]


def test_an_account_of_somebody_elses_is_as_unknown_as_one_that_is_not_there(home: Home) -> None:
    foreign = make_account()
    answers = []
    for path in ("avito/check-item", "avito"):
        for number in (foreign.pk, 987654321, 10**25, -1, 0):
            answer = home.api.post(f"{home.path}/{path}", {**said(home), "accountId": number})
            assert_error(answer, 400, "unknown_account" if number in (foreign.pk, 987654321) else None, "accountId")
            answers.append(answer.json()["errors"][0]["detail"])
    assert answers[0] == answers[1]
    assert kinds(home) == []


def test_what_is_no_item_is_refused_by_its_name(home: Home, subtests: pytest.Subtests) -> None:
    bad: list[tuple[str, Any]] = [
        *each("itemId", None, "", "квартира", "0", "-5", "9" * 19, "9" * 40, "1.5", {}, [1]),
        *each("accountId", None, "", "Анна", {}),
        *each("markupPercent", -91, 301, "много", "NaN", "Infinity", 1.234, None),
        *each("consent", "может быть", {}),
    ]
    for name, value in bad:
        with subtests.test(f"{name}={value!r}"):
            assert_error(home.api.post(f"{home.path}/avito", said(home) | {name: value}), 400, attr=name)
    for name in ("itemId", "accountId"):
        body = {key: value for key, value in said(home).items() if key != name}
        assert_error(home.api.post(f"{home.path}/avito", body), 400, "required", name)
    assert not Integration.objects.exists()
    assert kinds(home) == []


@pytest.mark.parametrize("path", ["avito/check-item", "avito"])
def test_an_item_out_of_reach_is_told_apart_and_nothing_is_kept(home: Home, path: str) -> None:
    foreign = home.avito.make_rent_item(OLEG)
    details = set()
    for item, status, code in ((foreign, 403, "avito_forbidden"), (404404, 404, "avito_not_found")):
        error = assert_error(home.api.post(f"{home.path}/{path}", said(home, itemId=str(item))), status, code)
        details.add(error["detail"])
    assert len(details) == 2
    assert not Integration.objects.exists()
    assert home.api.get(home.path).json()["avito"] is None
    assert_error(home.api.get(f"{home.path}/avito"), 404, "not_found")


@pytest.mark.parametrize("path", ["avito/check-item", "avito"])
def test_a_taken_item_is_refused_without_a_word_about_its_owner(home: Home, path: str) -> None:
    home.connect()
    other = second(home)
    answer = other.api.post(f"{other.path}/{path}", said(home))
    error = assert_error(answer, 409, "item_already_connected")
    assert error["detail"] == "ID уже используется."
    assert "host" not in answer.text
    assert "Арбат" not in answer.text
    english = other.api.call(
        "POST", f"{other.path}/{path}", json=said(home), headers={"Accept-Language": "en"}
    ).json()["errors"][0]["detail"]  # fmt: skip
    assert english == "This ID is already in use."
    assert Integration.objects.count() == 1
    # One's own item is available to oneself, and a property has one connection.
    assert home.api.post(f"{home.path}/avito/check-item", said(home)).json() == {"available": True}
    assert_error(home.api.post(f"{home.path}/avito", said(home)), 409, "property_already_connected")


def at_once(*acts: Any) -> list[Any]:
    together = threading.Barrier(len(acts))

    def go(act: Any) -> Any:
        together.wait(20)
        return act()

    with ThreadPoolExecutor(len(acts)) as pool:
        return list(pool.map(go, acts))


def test_of_owners_who_connect_an_item_at_the_same_instant_exactly_one_succeeds(home: Home) -> None:
    homes = [home, *(second(home, f"neighbour {number}") for number in range(3))]
    home.avito.rent_fault("latency", "reads", item=home.item, seconds=0.3)  # so that all have looked before one stores
    answers = at_once(*(lambda one=one: one.api.post(f"{one.path}/avito", said(home)) for one in homes))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]
    assert Integration.objects.count() == SyncTask.objects.count() == 1
    for answer in answers:
        if answer.status_code == 409:
            assert_error(answer, 409, "item_already_connected")


def test_a_property_that_is_connected_twice_at_the_same_instant_has_one_connection(home: Home) -> None:
    items = [home.item, home.avito.make_rent_item()]
    home.avito.rent_fault("latency", "reads", seconds=0.3)
    answers = at_once(
        *(lambda item=item: home.api.post(f"{home.path}/avito", said(home, itemId=str(item))) for item in items)
    )
    assert sorted(answer.status_code for answer in answers) == [201, 409]
    assert Integration.objects.count() == 1


def test_an_item_that_was_taken_off_is_free_again_and_its_history_stays(home: Home) -> None:
    home.connect_and_push()
    home.avito.book(home.item, home.day(4), home.day(6))
    home.read_now()
    home.api.delete(f"{home.path}/avito")
    other = second(home)
    other.item = home.item
    other.connect()
    work()
    assert_agrees(other)
    assert [row["propertyId"] for row in other.bookings()] == [other.id]
    old, new = Integration.objects.order_by("pk")
    assert (old.property_id, old.item_id, new.property_id) == (home.id, home.item, other.id)
    assert old.disconnected_at is not None
    assert Exchange.objects.filter(integration=old).exists()
    assert len(home.bookings()) == 1


# Consent to the first push


def test_a_first_push_that_would_open_what_is_closed_at_avito_waits_for_consent(home: Home) -> None:
    home.avito.switch(home.item, closedRows=True)
    closed = [{"date_start": home.day(3).isoformat(), "date_end": home.day(6).isoformat(), "type": "manual"}]
    token = home.avito.tokens(scopes=RENT_SCOPES)["access_token"]
    blocked = home.avito.call(
        "POST",
        f"/core/v1/accounts/{home.account.avito_user_id}/items/{home.item}/bookings",
        json={"bookings": closed},
        headers={"Authorization": f"Bearer {token}"},
    )
    assert blocked.status_code == 200
    home.avito.forget_rent_calls()
    home.set_rate(5, closed=True)  # agreed: this one stays closed
    home.connect()
    work()
    shown = home.connection()
    assert (shown["status"], shown["awaitingConsent"], shown["lastError"]["code"]) == ("error", True, "consent_needed")
    assert home.writes() == []
    preview = home.api.get(f"{home.path}/avito/preview").json()
    assert preview["consentNeeded"] is True
    assert preview["opensAtAvito"] == [{"from": home.day(3).isoformat(), "to": home.day(5).isoformat()}]
    assert preview["changedDays"] == 365
    home.set_rate(20, price=900)
    home.read_now()
    assert home.writes() == []
    answer = home.api.patch(f"{home.path}/avito", {"consent": True})
    assert answer.json()["awaitingConsent"] is False
    work()
    assert sorted(home.writes()) == first_writes()
    assert_agrees(home)
    assert home.connection()["status"] == "ok"
    assert home.api.get(f"{home.path}/avito/preview").json()["consentNeeded"] is False


def test_a_host_who_closes_the_nights_needs_no_consent(home: Home) -> None:
    home.avito.switch(home.item, closedRows=True)
    home.avito.raw_row(home.item, {"check_in": home.day(3).isoformat(), "check_out": home.day(5).isoformat()})
    home.connect()
    work()
    assert home.writes() == []
    home.set_rate(3, 4, closed=True)
    work()
    assert sorted(home.writes()) == first_writes()


def test_consent_may_be_given_beforehand(home: Home) -> None:
    home.avito.raw_row(home.item, {"check_in": home.day(3).isoformat(), "check_out": home.day(5).isoformat()})
    home.connect(consent=True)
    work()
    assert sorted(home.writes()) == first_writes()


@pytest.mark.parametrize("how", ["consent", "cancel"])
def test_a_first_push_over_a_conflict_waits(home: Home, how: str) -> None:
    local = home.book(4, 6).json()
    home.avito.book(home.item, home.day(5), home.day(8))
    home.connect()
    assert home.api.get(f"{home.path}/avito/preview").json()["consentNeeded"] is True
    work()
    assert (home.writes(), home.connection()["awaitingConsent"]) == ([], True)
    assert home.api.get("/api/v1/str/conflicts").json()["count"] == 1
    if how == "consent":
        home.api.patch(f"{home.path}/avito", {"consent": True})
    else:
        home.api.post(f"/api/v1/str/bookings/{local['id']}/cancel")
    work()
    assert sorted(home.writes()) == first_writes()
    assert_agrees(home)


# Changing and pausing


def test_another_markup_prices_every_night_anew_with_one_call(home: Home) -> None:
    home.set_rate(3, price=1990)
    home.connect_and_push()
    preview = home.api.get(f"{home.path}/avito/preview", markupPercent=20).json()
    assert (preview["changedDays"], preview["base"]) == (365, {"price": 2400, "minStay": 1})
    assert preview["channelPrices"] == {"first": 2400, "min": 2388, "max": 2400}
    assert preview["intervals"] == []
    assert [one["price"] for one in preview["prices"]] == [2400, 2388, 2400]
    assert home.api.get(f"{home.path}/avito/preview").json()["changedDays"] == 0
    assert home.writes() == []
    answer = home.api.patch(f"{home.path}/avito", {"markupPercent": 20})
    assert (answer.json()["markupPercent"], answer.json()["pendingDays"]) == (20.0, 365)
    work()
    assert sorted(home.writes()) == [kind for kind in first_writes() if kind != "intervals"]
    assert_agrees(home)
    sent = home.avito.rent_calls(home.item, "prices")[0].body["prices"]
    as_shown = [
        {
            "date_from": one["from"],
            "date_to": one["to"],
            "night_price": one["price"],
            "minimal_duration": one["minStay"],
        }
        for one in preview["prices"]
    ]
    assert sent == as_shown


def test_a_bad_change_of_a_connection_is_refused_by_its_name(home: Home) -> None:
    home.connect_and_push()
    for name, value in (("markupPercent", 301), ("markupPercent", -90.01), ("markupPercent", "x"),
                        ("isActive", "да?"), ("holdPending", 5), ("consent", {})):  # fmt: skip
        assert_error(home.api.patch(f"{home.path}/avito", {name: value}), 400, attr=name)
    assert_error(home.api.get(f"{home.path}/avito/preview", markupPercent=301), 400, attr="markupPercent")
    assert home.connection()["markupPercent"] == 15.0
    assert home.writes() == []


def test_a_paused_connection_calls_nobody_and_keeps_the_edits(home: Home) -> None:
    home.connect_and_push()
    paused = home.api.patch(f"{home.path}/avito", {"isActive": False}).json()
    assert (paused["status"], paused["nextSyncAt"]) == ("off", None)
    home.set_rate(3, price=900)
    home.book(5, 7)
    home.read_now()
    assert kinds(home) == []
    home.api.patch(f"{home.path}/avito", {"isActive": True})
    work()
    assert sorted(kinds(home)) == ["intervals", "prices", "reads"]
    assert_agrees(home)


def test_somebody_who_asks_is_served_at_once(home: Home) -> None:
    home.connect_and_push()
    answer = home.api.post(f"{home.path}/avito/sync")
    assert answer.status_code == 202
    assert answer.json()["status"] == "syncing"
    work()
    assert kinds(home) == ["reads"]
    assert home.connection()["status"] == "ok"


# Taking it off


@pytest.mark.parametrize("query", ["", "?closeSales=false"])
def test_taken_off_nothing_is_sent_any_more(home: Home, query: str) -> None:
    home.connect_and_push()
    assert home.api.delete(f"{home.path}/avito{query}").status_code == 204
    home.set_rate(3, price=900)
    work()
    tasks.tick()
    assert kinds(home) == []
    assert all(night.open for night in home.avito.calendar(home.item).values())
    assert home.api.get(home.path).json()["avito"] is None
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("GET", "/log"), ("GET", "/preview"),
                         ("POST", "/sync"), ("POST", "/reconnect")):  # fmt: skip
        assert_error(home.api.call(method, f"{home.path}/avito{path}", json={}), 404, "not_found")


def test_sales_are_closed_first_if_that_is_wanted(home: Home) -> None:
    home.connect_and_push()
    assert home.api.delete(f"{home.path}/avito?closeSales=true").status_code == 204
    (call,) = home.avito.rent_calls(home.item)
    assert (call.kind, call.body["intervals"]) == ("intervals", [])
    assert not any(night.open for night in home.avito.calendar(home.item).values())
    assert not SyncTask.objects.exists()


@pytest.mark.parametrize("apply", ["after", "before"])
def test_sales_that_cannot_be_closed_keep_the_property_connected(home: Home, apply: str) -> None:
    home.connect_and_push()
    more: dict[str, Any] = {"apply": apply} if apply == "before" else {}
    home.avito.rent_fault("status", "intervals", status=503, times=1, **more)
    assert_error(home.api.delete(f"{home.path}/avito?closeSales=true"), 502, "avito_unavailable")
    assert home.connection()["isActive"] is True
    work()  # whatever Avito has made of the call: it gets the calendar again
    assert_agrees(home)
    assert_error(home.api.delete(f"{home.path}/avito?closeSales=perhaps"), 400, attr="closeSales")
    assert home.connection()["status"] == "ok"


# An authorisation that has died


def test_a_dead_authorisation_pauses_the_queue_and_a_new_one_goes_on_without_repeating(home: Home) -> None:
    home.connect_and_push()
    home.avito.control("POST", "/tokens/revoke", sellerId=home.account.avito_user_id)
    home.set_rate(3, price=900)
    work()
    shown = home.connection()
    assert (shown["status"], shown["lastError"]["code"]) == ("needs_reconnect", "token_expired")
    assert shown["lastError"]["detail"] == "Срок действия доступа истёк. Подключите заново."
    home.avito.forget_rent_calls()
    home.set_rate(4, price=901)
    for _time in range(3):
        home.read_now()
    assert kinds(home) == []
    assert SyncTask.objects.get().push_failures == 0
    health.watch()
    health.watch()
    news = [row["kind"] for row in home.api.get("/api/v1/notifications").json()["results"]]
    assert news.count("connection_fell") == 1
    browser = Api(home.api.base)
    link = home.api.post(f"{home.path}/avito/reconnect").json()["url"]
    consent(browser, link, home.avito, int(home.account.avito_user_id or 0))
    work()
    assert home.writes() == ["prices"]
    sent = home.avito.rent_calls(home.item, "prices")[0].body["prices"]
    assert [one["night_price"] for one in sent] == [1035, 1036]
    assert home.connection()["status"] == "ok"
    assert_agrees(home)
    health.watch()
    news = [row["kind"] for row in home.api.get("/api/v1/notifications").json()["results"]]
    assert news.count("connection_well") == 1


def consent(browser: Api, link: str, avito: Sandbox, seller_id: int) -> Any:
    """A browser walks from our link over Avito's page back to us; the last answer."""
    from urllib.parse import parse_qsl, urlsplit

    opened = browser.get(link)
    assert opened.status_code == 302, opened.text
    asked = dict(parse_qsl(urlsplit(opened.headers["Location"]).query))
    allowed = browser.call("POST", f"{avito.base}/oauth", data={**asked, "decision": "allow", "user_id": seller_id})
    return browser.get(allowed.headers["Location"])


# The account


def test_an_account_that_a_connected_property_uses_cannot_be_deleted(home: Home, owner: Api) -> None:
    home.connect_and_push()
    path = f"/api/v1/accounts/{home.account.pk}"
    assert_error(owner.delete(path), 409, "account_in_use")
    assert Authorization.objects.filter(account=home.account).exists()
    assert home.api.delete(f"{home.path}/avito").status_code == 204
    assert owner.delete(path).status_code == 204
    assert not Account.objects.exists()
    assert not Access.objects.exists()
    assert Integration.objects.get().account_id is None


def test_nor_in_the_back_office_alone_or_among_others(home: Home) -> None:
    home.connect()
    idle, boss = make_account(), signed_in("boss", "admin")
    page = f"/admin/avito_accounts/account/{home.account.pk}/delete/"
    bulk = {"action": "delete_selected", "_selected_action": [home.account.pk, idle.pk], "post": "yes"}
    for answer in (boss.get(page), boss.post(page, {"post": "yes"}), boss.post("/admin/avito_accounts/account/", bulk)):
        assert answer.status_code == 200
        assert "Cannot delete" in text_of(answer)
        assert "Квартира на Арбате" in text_of(answer)
    assert Account.objects.count() == 2
    home.api.delete(f"{home.path}/avito")
    assert boss.post(page, {"post": "yes"}).status_code == 302
    assert list(Account.objects.all()) == [idle]
