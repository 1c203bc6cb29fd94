"""Eternal online in the back office: who is online and how, who is not and why, and who may change that."""

import re
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from avito_accounts.models import Account, Authorization
from messenger import presence
from messenger.models import PresenceAttempt
from tests.conftest import Api
from tests.factories import authorize, make_account, make_proxy, make_user
from tests.sandbox.driver import ANNA, Sandbox
from tests.test_admin import ACCOUNTS, signed_in, text_of

LIST = "/admin/messenger/presence/"
CHANGES = f"{ACCOUNTS}changes/"
ACTIONS = ("enable", "disable", "set-online")
pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> Client:
    return signed_in("boss", "admin")


@pytest.fixture
def operator() -> Client:
    return signed_in("clerk", "operator")


def page_of(account: Account, part: str = "change") -> str:
    return f"{LIST}{account.pk}/{part}/"


def russian(client: Client, path: str) -> str:
    return text_of(client.get(path, headers={"accept-language": "ru"}))


def ago(**time: float) -> datetime:
    return timezone.now() - timedelta(**time)


def online(method: str, **fields: Any) -> Account:
    return make_account(**{
        "eternal_online_enabled": True,
        "online_method": method,
        "last_online_at": ago(seconds=70),
        "online_due_at": timezone.now() + timedelta(seconds=230),
        **fields,
    })  # fmt: skip


def failing(**fields: Any) -> Account:
    return make_account(**{
        "eternal_online_enabled": True,
        "online_failures": 3,
        "online_error_code": "proxy_failed",
        "online_error_detail": "timeout",
        "online_due_at": timezone.now() + timedelta(seconds=20),
        **fields,
    })  # fmt: skip


def left_alone(**fields: Any) -> Account:
    account = failing(online_error_code="reconnect_required", online_failures=1, **fields)
    authorize(account)
    Authorization.objects.filter(account=account).update(dead_reason="invalid_grant")
    return account


def signs(account: Account, *ages: float, method: str = "status", code: str = "") -> None:
    """Signs of life so many minutes ago."""
    PresenceAttempt.objects.bulk_create(
        PresenceAttempt(
            account=account,
            at=ago(minutes=age),
            method="" if code else method,
            code=code,
            latency_ms=None if code else 84,
        )
        for age in ages
    )


def names(client: Client, query: str = "") -> str:
    return "".join(account.name for account in client.get(f"{LIST}?{query}").context["cl"].result_list)


def trail(client: Client) -> list[tuple[str, str]]:
    """Whose eternal online was switched, and by whom, the latest first."""
    changes = client.get(CHANGES).context["changes"]
    return [
        (change.name, change.who)
        for change in changes
        if change.what == "~" and [field.name for field in change.fields] == ["eternal online"]
    ]


# The list


def test_the_list_tells_who_is_online_and_who_is_not_and_why_in_both_languages(boss: Client) -> None:
    online("status", name="Арбат", avito_user_id=94235311)
    online("activity", online_keep_alive_interval=90)
    failing()
    left_alone()
    online("status", name="late", last_online_at=ago(hours=1), online_due_at=ago(minutes=30))
    make_account(name="off", last_online_at=ago(seconds=10), online_method="status")
    english, page = text_of(boss.get(LIST)), russian(boss, LIST)
    for shown in ("Арбат", "№ 94235311", "by status", "by activity", "in 4 min", "90 s", "5 min", "failing",
                  "The account&#x27;s proxy failed: the proxy did not answer in time", "within a minute",
                  "Token expired. Please reconnect.", "left alone", "overdue", "The last sign is too old.",
                  "online by hand", "Avito promises nothing about presence."):  # fmt: skip
        assert shown in english, shown
    for shown in ("по статусу", "по активности", "через 4 мин", "90 с", "5 мин", "не удаётся",
                  "Прокси аккаунта не сработал", "ждёт подключения", "опаздывает",
                  "Авито ничего не обещает"):  # fmt: skip
        assert shown in page, shown


def everybody() -> None:
    online("status", name="S", avito_user_id=777)
    online("activity", name="A")
    failing(name="F")
    left_alone(name="L")
    make_account(name="W", eternal_online_enabled=True, online_due_at=timezone.now())
    make_account(name="O")


def test_problems_stand_first(boss: Client) -> None:
    everybody()
    assert names(boss) == "LFWASO"


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("enabled=yes", "LFWAS"), ("enabled=no", "O"), ("state=failing", "F"), ("state=left-alone", "L"),
        ("state=waiting", "W"), ("online=status", "S"), ("online=activity", "A"), ("q=777", "S"),
        ("online=x", "LFWASO"),
    ],
)  # fmt: skip
def test_filters_are_questions(boss: Client, query: str, found: str) -> None:
    everybody()
    assert names(boss, query) == found


def test_a_summary_counts_accounts_and_the_signs_of_the_last_hour(boss: Client) -> None:
    everybody()
    account = Account.objects.get(name="S")
    signs(account, 1, 2, 58, 61)
    signs(account, 2, method="activity")
    signs(account, 7, 12, code="avito_timeout")
    summary = boss.get(LIST).context["summary"]
    told = {
        name: summary[name] for name in ("total", "enabled", "status", "activity", "waiting", "failing", "left_alone")
    }
    assert told == {"total": "6", "enabled": "5", **dict.fromkeys(list(told)[2:], "1")}
    assert [one["count"] for one in summary["hour"]["counts"]] == ["3", "1", "2"]
    assert text_of(boss.get(LIST)).count('class="chart"') == 1


def test_an_empty_list_says_how_to_begin(boss: Client) -> None:
    assert "There are no accounts yet." in text_of(boss.get(LIST))
    make_account()
    assert "Choose accounts in the list and the action “Switch on”" in text_of(boss.get(LIST))
    assert "Пока ни один аккаунт не поддерживается онлайн." in russian(boss, LIST)
    online("status")
    assert "No account is kept online yet" not in text_of(boss.get(LIST))


def test_the_list_costs_as_many_queries_for_thirty_accounts_as_for_three(boss: Client) -> None:
    def grow(count: int) -> int:
        for _number in range(count):
            signs(left_alone(proxy=make_proxy()), 1, 2, 3)
            signs(online("status"), 5)
            signs(failing(), 5, code="error")
        boss.get(LIST)
        with CaptureQueriesContext(connection) as queries:
            assert boss.get(LIST).status_code == 200
        return len(queries)

    assert grow(1) == grow(9)


# Many at once


def test_those_switched_on_together_give_their_first_signs_apart_and_within_their_intervals(boss: Client) -> None:
    accounts = [make_account(online_keep_alive_interval=(60, 3600)[number % 2]) for number in range(60)]
    already = online("status")
    before = timezone.now()
    chosen = [account.pk for account in (*accounts, already)]
    answer = boss.post(LIST, {"action": "enable_selected", "_selected_action": chosen}, follow=True)
    assert "Switched on: 60." in text_of(answer)
    first = [account.online_due_at for account in Account.objects.filter(pk__in=[one.pk for one in accounts])]
    seconds = [(at - before).total_seconds() for at in first if at]
    limits = [account.online_keep_alive_interval for account in Account.objects.filter(pk__in=chosen[:-1])]
    assert all(0 <= wait <= limit for wait, limit in zip(seconds, limits, strict=True))
    assert len({round(wait) for wait in seconds}) > 20, "not all at once"
    assert Account.objects.get(pk=already.pk).online_due_at == already.online_due_at, "who is on keeps the slot"


def test_many_are_switched_off_and_the_trail_tells_who_did_it(boss: Client) -> None:
    accounts = [online("status", name="Первый"), failing(name="Второй")]
    off = make_account()
    chosen = [account.pk for account in (*accounts, off)]
    answer = boss.post(LIST, {"action": "disable_selected", "_selected_action": chosen}, follow=True)
    assert "Switched off: 2." in text_of(answer)
    for account in Account.objects.filter(pk__in=chosen):
        assert (account.eternal_online_enabled, account.online_due_at, account.online_failures) == (False, None, 0)
    assert not presence.claim(10)
    assert trail(boss) == [("Второй", "boss"), ("Первый", "boss")]


def test_a_selection_is_set_online_side_by_side(product: str, anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.control("PATCH", "/settings", statusOnlineKnown=True)
    boss, other = signed_in("boss", "admin"), make_account(name="Без токенов")
    chosen = {"action": "set_online_selected", "_selected_action": [anna.pk, other.pk]}
    page = text_of(boss.post(LIST, chosen, follow=True))
    assert "Avito has accepted a sign of life: Анна." in page
    assert "Без токенов: The account is not connected to Avito." in page
    assert [(one.account, one.ok) for one in PresenceAttempt.objects.order_by("code")] == [(anna, True), (other, False)]


def test_not_more_than_fifty_are_set_online_by_one_action(product: str) -> None:
    boss = signed_in("boss", "admin")
    accounts = [make_account() for _number in range(51)]
    chosen = {"action": "set_online_selected", "_selected_action": [account.pk for account in accounts]}
    assert "Only the first 50 were taken." in text_of(boss.post(LIST, chosen, follow=True))
    assert PresenceAttempt.objects.count() == 50


# The page of an account


def test_a_day_of_signs_is_drawn_and_the_latest_are_told_in_words(boss: Client) -> None:
    account = online("status")
    signs(account, 10, 20, 500)
    signs(account, 30, method="activity")
    signs(account, 40, 1000, code="avito_timeout")
    signs(account, 25 * 60)
    page = text_of(boss.get(page_of(account)))
    section = page.split('id="signs"')[1]
    assert re.findall('data-sign="([^"]*)"', section) == ["ok"] * 3 + ["avito_timeout", "ok", "avito_timeout"]
    assert section.count("<title>") == 2
    assert section.count("Avito did not answer in time.") == 4
    assert "84 ms" in section
    assert len(re.findall(r"M[\d.]+ 8V32", section)) == 3
    assert len(re.findall(r"M[\d.]+ 18V32", section)) == 1
    failed = text_of(boss.get(f"{page_of(account)}?only=failed")).split('id="signs"')[1]
    assert re.findall('data-sign="([^"]*)"', failed) == ["avito_timeout"] * 2
    assert "Авито не ответил вовремя." in russian(boss, page_of(account))


def test_the_page_refreshes_itself(boss: Client) -> None:
    account = online("status")
    fragment = page_of(account, "signs")
    assert f'hx-get="{fragment}" hx-trigger="every 10s"' in text_of(boss.get(page_of(account)))
    assert "No sign of life in the last 24 hours." in text_of(boss.get(fragment))
    signs(account, 1)
    grown = text_of(boss.get(fragment))
    assert "<html" not in grown
    assert 'data-sign="ok"' in grown
    assert f'hx-get="{fragment}?only=failed"' in text_of(boss.get(f"{fragment}?only=failed"))
    assert boss.get(f"{LIST}987654/signs/").status_code == 404


def test_a_page_costs_the_same_for_a_day_of_signs_as_for_one(boss: Client) -> None:
    def queries(*ages: float) -> int:
        account = online("status")
        signs(account, *ages)
        boss.get(page_of(account))
        with CaptureQueriesContext(connection) as found:
            assert boss.get(page_of(account)).status_code == 200
        return len(found)

    assert queries(1) == queries(*range(1, 1440))


def test_the_page_shows_nothing_of_what_is_stored_otherwise(boss: Client) -> None:
    account = online("status", client_id="id-of-anna", client_secret="s3cret-of-anna", balance_real=4711)
    page = text_of(boss.get(page_of(account)))
    for hidden in ("id-of-anna", "s3cret-of-anna", "4711", 'name="name"'):
        assert hidden not in page


def test_buttons_switch_one_account_and_set_it_online(product: str, anna: Account, avito_sandbox: Sandbox) -> None:
    avito_sandbox.control("PATCH", "/settings", statusOnlineKnown=True)
    boss = signed_in("boss", "admin")
    page = text_of(boss.get(page_of(anna)))
    assert [part for part in ACTIONS if f'href="{page_of(anna, part)}"' in page] == ["enable", "set-online"]
    assert "is kept online from now on" in text_of(boss.post(page_of(anna, "enable"), follow=True))
    assert Account.objects.get(pk=anna.pk).online_due_at is not None
    page = text_of(boss.get(page_of(anna)))
    assert [part for part in ACTIONS if f'href="{page_of(anna, part)}"' in page] == ["disable", "set-online"]
    assert "Avito has accepted a sign of life: Анна." in text_of(boss.post(page_of(anna, "set-online"), follow=True))
    assert avito_sandbox.journal()[-1]["path"] == f"/messenger/v2/accounts/{ANNA}/status/online"
    avito_sandbox.fault("status", "status/online$", status=500)
    assert "Avito is not available" in text_of(boss.post(page_of(anna, "set-online"), follow=True))
    assert "Анна is left alone from now on." in text_of(boss.post(page_of(anna, "disable"), follow=True))
    assert trail(boss) == [("Анна", "boss"), ("Анна", "boss")]


def test_the_page_of_an_account_leads_to_its_signs(boss: Client) -> None:
    account, never = failing(), make_account()
    assert f'href="{page_of(account)}"' in text_of(boss.get(f"{ACCOUNTS}{account.pk}/change/"))
    assert f'href="{page_of(account)}"' in text_of(boss.get(ACCOUNTS))
    assert f'href="{page_of(never)}"' not in text_of(boss.get(f"{ACCOUNTS}{never.pk}/change/"))
    assert f"{ACCOUNTS}{account.pk}/change/" in text_of(boss.get(page_of(account)))


# Who may


def test_whoever_may_read_accounts_looks_and_changes_nothing(operator: Client) -> None:
    account = failing()
    signs(account, 1, code="avito_timeout")
    page = text_of(operator.get(page_of(account)))
    assert "Avito did not answer in time." in page
    assert not [part for part in ACTIONS if page_of(account, part) in page]
    assert "enable_selected" not in text_of(operator.get(LIST))
    for part in ACTIONS:
        assert operator.post(page_of(account, part)).status_code == 403
    for action in ("enable_selected", "disable_selected", "set_online_selected"):
        operator.post(LIST, {"action": action, "_selected_action": [account.pk]})
    assert Account.objects.get(pk=account.pk).eternal_online_enabled
    assert PresenceAttempt.objects.count() == 1


def test_nobody_adds_changes_or_deletes_an_account_here(boss: Client) -> None:
    account = failing()
    assert boss.get(f"{LIST}add/").status_code == 403
    assert boss.post(page_of(account), {"name": "x"}).status_code == 403
    assert boss.post(page_of(account, "delete"), {"post": "yes"}).status_code == 403
    boss.post(LIST, {"action": "delete_selected", "_selected_action": [account.pk], "post": "yes"})
    assert Account.objects.filter(pk=account.pk, name=account.name).exists()


def test_people_without_a_role_see_nothing() -> None:
    account, stranger = failing(), signed_in("stranger")
    for path in (LIST, page_of(account), page_of(account, "signs")):
        assert stranger.get(path).status_code == 403
    assert LIST not in text_of(stranger.get("/admin/"))


@pytest.mark.parametrize("part", ACTIONS)
def test_a_look_at_the_address_of_a_button_asks_first(boss: Client, part: str) -> None:
    account = make_account(eternal_online_enabled=part == "disable")
    assert 'method="post"' in text_of(boss.get(page_of(account, part)))
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = boss.cookies
    assert strict.post(page_of(account, part)).status_code == 403
    assert Account.objects.get(pk=account.pk).eternal_online_enabled == account.eternal_online_enabled
    assert boss.post(f"{LIST}987654/{part}/").status_code == 404
    assert boss.post(f"{LIST}x/{part}/").status_code == 404


@pytest.fixture
def browser(product: str) -> Api:
    make_user("chief", "admin", is_staff=True)
    api = Api(product)
    api.get("/admin/login/")
    form = {"username": "chief", "password": "correct horse battery staple"}
    form["csrfmiddlewaretoken"] = api.session.cookies["csrftoken"]
    assert api.call("POST", "/admin/login/", data=form).status_code == 302
    return api


def test_people_sign_in_and_find_it_in_the_sidebar(browser: Api) -> None:
    account = failing()
    assert f'href="{LIST}"' in browser.get("/admin/").text
    assert browser.get(LIST).status_code == browser.get(page_of(account)).status_code == 200
    token = browser.session.cookies["csrftoken"]
    assert browser.call("POST", page_of(account, "disable")).status_code == 403
    done = browser.call("POST", page_of(account, "disable"), data={"csrfmiddlewaretoken": token})
    assert (done.status_code, done.headers["Location"]) == (302, page_of(account))
    assert not Account.objects.get(pk=account.pk).eternal_online_enabled
