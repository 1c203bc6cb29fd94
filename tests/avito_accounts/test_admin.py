"""Accounts, proxies and bulk operations in the back office: what staff see, what they can do, what is remembered."""

import json
import re
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.conf import LazySettings
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from avito_accounts import jobs, statistics, tasks
from avito_accounts.models import Account, DailyStats, Job, Proxy, Run, moscow_today
from tests.conftest import Api
from tests.factories import authorize, make_account, make_proxy, make_user
from tests.recording_proxy import recording_proxy
from tests.sandbox.driver import ANNA, Sandbox
from tests.test_admin import FORM, signed_in, text_of

ACCOUNTS = "/admin/avito_accounts/account/"
PROXIES = "/admin/avito_accounts/proxy/"
RUNS = "/admin/avito_accounts/run/"
CHANGES = f"{ACCOUNTS}changes/"
PROXY_FORM = {"type": "socks5", "host": "proxy.example.com", "port": "1080", "login": "u", "note": "", "is_kept": "on"}
PASSWORD = "pröxy-pässwörd"
pytestmark = pytest.mark.django_db


@pytest.fixture
def boss() -> Client:
    return signed_in("boss", "admin")


@pytest.fixture
def operator() -> Client:
    return signed_in("clerk", "operator")


def russian(client: Client, path: str) -> str:
    return text_of(client.get(path, headers={"accept-language": "ru"}))


def names_in(page: str, *names: str) -> list[str]:
    return sorted(names, key=page.index)


def run_of(*accounts: Account, **fields: Any) -> Run:
    run = Run.objects.create(**{"kind": "check", **fields})
    Job.objects.bulk_create(Job(kind=run.kind, account=account, run=run) for account in accounts)
    return run


def page_of(row: Account | Proxy | Run) -> str:
    return f"/admin/avito_accounts/{row._meta.model_name}/{row.pk}/change/"


# The list of accounts


def test_the_list_answers_at_a_glance_in_both_languages(boss: Client) -> None:
    account = make_account(
        name="Арбат",
        avito_user_id=94235311,
        proxy=make_proxy(host="proxy.example.com", port=3128, status="working", latency_ms=84),
        connection_status="connected",
        online_method="status",
        last_online_at=timezone.now() - timedelta(minutes=2),
        balance_real=Decimal("12345.50"),
        balance_bonus=Decimal(300),
        ads_count=1041,
        views_today=17,
        contacts_today=5,
        stats_on=moscow_today(),
        last_sync_at=timezone.now() - timedelta(hours=2),
        sync_failures={"stats": "avito_timeout"},
    )
    english, page = text_of(boss.get(ACCOUNTS)), russian(boss, ACCOUNTS)
    for shown in (account.name, "№ 94235311", "proxy.example.com:3128"):
        assert shown in english
        assert shown in page
    for shown in ("connected", "working", "84 ms", "by status", "12,345.50\N{NBSP}₽", "bonus 300.00",
                  "1,041", "views: 17", "contacts: 5", "2\N{NBSP}hours ago", "in part",
                  "Avito did not answer in time."):  # fmt: skip
        assert shown in english, shown
    for shown in ("подключён", "работает", "84 мс", "по статусу", "12\N{NBSP}345,50\N{NBSP}₽", "бонусы 300,00",
                  "просмотры: 17", "контакты: 5", "2\N{NBSP}часа назад", "частично"):  # fmt: skip
        assert shown in page, shown


def test_accounts_with_problems_stand_first(boss: Client) -> None:
    make_account(name="E connected", connection_status="connected")
    make_account(name="A connected", connection_status="connected")
    make_account(name="D not checked")
    make_account(name="C proxy", connection_status="connected", proxy=make_proxy(status="error"))
    make_account(name="B error", connection_status="error", connection_error_code="avito_timeout")
    make_account(name="F reconnect", connection_status="needs_reconnect", connection_error_code="token_expired")
    page = text_of(boss.get(ACCOUNTS))
    assert page.count("not connected") == 1
    expected = ["F reconnect", "B error", "C proxy", "D not checked", "A connected", "E connected"]
    assert names_in(page, *sorted(expected)) == expected
    assert "Token expired. Please reconnect." in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("connection=problems", "BC"), ("connection=connected", "AC"), ("connection=never", "BCD"),
        ("proxy=fallen", "C"), ("proxy=none", "ABD"), ("proxy=some", "C"), ("eternal_online=yes", "D"),
        ("eternal_online=no", "ABC"), ("q=proxy.example", "C"), ("q=777", "A"), ("connection=x", "ABCD"),
    ],
)  # fmt: skip
def test_filters_are_questions(boss: Client, query: str, found: str) -> None:
    authorize(make_account(name="A", avito_user_id=777))
    make_account(name="B", connection_status="error")
    make_account(name="C", connection_status="connected", proxy=make_proxy(host="proxy.example.com", status="error"))
    make_account(name="D", eternal_online_enabled=True)
    answer = boss.get(f"{ACCOUNTS}?{query}")
    assert "".join(sorted(account.name for account in answer.context["cl"].result_list)) == found


def test_empty_lists_say_what_to_do_first(boss: Client) -> None:
    assert "a name is enough" in text_of(boss.get(ACCOUNTS))
    assert "Add one here" in text_of(boss.get(PROXIES))
    assert "Nothing has been started yet" in text_of(boss.get(RUNS))
    assert "Nobody has changed anything yet" in text_of(boss.get(CHANGES))
    assert "Аккаунтов пока нет" in russian(boss, ACCOUNTS)


@pytest.mark.parametrize("path", [ACCOUNTS, PROXIES, RUNS, CHANGES])
def test_a_list_costs_as_many_queries_for_thirty_rows_as_for_three(boss: Client, path: str) -> None:
    def grow(count: int) -> int:
        for _ in range(count):
            proxy = make_proxy(status="error", error_reason="auth")
            account = make_account(proxy=proxy, sync_failures={"stats": "error"})
            authorize(account)
            account.name += " renamed"
            account.save()
            Run.objects.update(finished_at=timezone.now())
            run_of(account)
        boss.get(path)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert boss.get(path).status_code == 200
        return len(queries)

    assert grow(3) == grow(30)


# Many at once


def test_a_selection_becomes_a_run_of_just_these_accounts(boss: Client) -> None:
    one, two, other = make_account(), make_account(), make_account()
    jobs.queue("check", Account.objects.filter(pk=other.pk))
    answer = boss.post(ACCOUNTS, {"action": "check_selected", "_selected_action": [one.pk, two.pk]})
    run = Run.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, page_of(run))
    assert sorted(run.jobs.values_list("account", flat=True)) == sorted([one.pk, two.pk])
    assert (run.kind, run.started_by and run.started_by.username) == ("check", "boss")
    boss.post(ACCOUNTS, {"action": "check_selected", "_selected_action": [other.pk]})
    assert run.jobs.count() == 3, "what is chosen meanwhile joins the run"
    boss.post(ACCOUNTS, {"action": "sync_selected", "_selected_action": [one.pk]})
    assert list(Run.objects.values_list("kind", flat=True)) == ["sync", "check"]


@pytest.mark.parametrize(
    ("path", "kind"), [("check-all/", "check"), ("sync-all/", "sync"), ("subscribe-all/", "subscribe")]
)
def test_work_on_all_accounts_asks_first_and_is_followed_on_a_page(boss: Client, path: str, kind: str) -> None:
    make_account()
    assert f'action="{ACCOUNTS}"' not in text_of(boss.get(ACCOUNTS))
    assert f"{ACCOUNTS}{path}" in text_of(boss.get(ACCOUNTS))
    assert "A page shows how far they are." in text_of(boss.get(f"{ACCOUNTS}{path}"))
    assert not Run.objects.exists()
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = boss.cookies
    assert strict.post(f"{ACCOUNTS}{path}").status_code == 403
    answer = boss.post(f"{ACCOUNTS}{path}")
    run = Run.objects.get()
    assert (run.kind, answer["Location"]) == (kind, page_of(run))


def test_a_run_refreshes_itself_while_it_works_and_tells_what_failed(boss: Client) -> None:
    broken, fine = make_account(name="Сломанный"), make_account(name="Целый")
    run = run_of(broken, fine)
    fragment = f"{RUNS}{run.pk}/progress/"
    page = text_of(boss.get(page_of(run)))
    assert f'hx-get="{fragment}"' in page
    assert "0 of 2" in page
    assert "Refresh" in page
    run.jobs.filter(account=broken).update(finished_at=timezone.now(), error_code="avito_timeout")
    grown = text_of(boss.get(fragment))
    assert "<html" not in grown
    assert "hx-get" in grown
    for shown in ("1 of 2", "failed: 1", "Сломанный", "Avito did not answer in time.", page_of(broken)):
        assert shown in grown
    assert "Целый" not in grown
    run.jobs.update(finished_at=timezone.now())
    Run.objects.update(finished_at=timezone.now())
    done = text_of(boss.get(fragment))
    assert "hx-get" not in done
    assert "Finished, with failures" in done
    assert "Завершено с ошибками" in russian(boss, fragment)
    assert boss.get(f"{RUNS}987654/progress/").status_code == 404


def test_a_run_can_only_be_watched(boss: Client) -> None:
    run = run_of(make_account())
    assert boss.get(f"{RUNS}add/").status_code == 403
    assert boss.post(page_of(run), {"kind": "sync"}).status_code == 403
    assert boss.post(f"{RUNS}{run.pk}/delete/", {"post": "yes"}).status_code == 403


def test_tokens_of_a_selection_are_renewed_side_by_side(product: str, anna: Account) -> None:
    boss, other = signed_in("boss", "admin"), make_account(name="Без токенов")
    chosen = {"action": "renew_tokens_of_selected", "_selected_action": [anna.pk, other.pk]}
    page = text_of(boss.post(ACCOUNTS, chosen, follow=True))
    assert "Анна: the tokens were renewed." in page
    assert "Без токенов: the tokens were not renewed. The account is not connected to Avito." in page
    assert "The tokens were renewed by hand." in text_of(boss.get(CHANGES))


def test_webhooks_of_a_selection_are_subscribed_and_failures_have_their_cause(
    boss: Client, anna: Account, avito_sandbox: Sandbox
) -> None:
    other, third = make_account(name="Без токенов"), make_account()
    avito_sandbox.fault("status", "v3/webhook$", status=400, body='{"error": {"code": 400, "message": "Не нравится"}}')
    chosen = {"action": "subscribe_selected", "_selected_action": [anna.pk, other.pk]}
    answer = boss.post(ACCOUNTS, chosen)
    run = Run.objects.get()
    assert answer["Location"] == page_of(run)
    assert not run.jobs.filter(account=third).exists()
    tasks.work_jobs()
    page = text_of(boss.get(page_of(run)))
    for shown in ("2 of 2", "failed: 2", "Не нравится", "Без токенов", "The account is not connected to Avito."):
        assert shown in page
    (problem,) = problems(boss, anna)
    assert "Не нравится" in problem
    assert f"{ACCOUNTS}{anna.pk}/subscribe/" in problem


# The page of an account


def figures(client: Client, path: str) -> list[dict[str, Any]]:
    """What each plot is drawn from."""
    answer = client.get(path)
    return [json.loads(plot.data) for plot in answer.context["overview"].plots]


def test_figures_are_plotted_day_by_day_with_gaps_where_nothing_is_known(boss: Client) -> None:
    account, today = make_account(), statistics.today()
    DailyStats.objects.create(account=account, date=today, views=12, contacts=0, balance_real=Decimal("10.50"))
    DailyStats.objects.create(account=account, date=today - timedelta(days=2), views=7, favorites=1, ads_count=4)
    DailyStats.objects.create(account=account, date=today - timedelta(days=40), views=100)
    page = page_of(account)
    views, contacts, favorites, ads, balance = figures(boss, f"{page}?days=7")
    assert views["datasets"][0]["data"] == [None] * 4 + [7, None, 12]
    assert contacts["datasets"][0]["data"][-1] == 0
    assert favorites["datasets"][0]["data"] == [None] * 4 + [1, None, None]
    assert (ads["datasets"][0]["data"][4], balance["datasets"][0]["data"][-1]) == (4, 10.5)
    assert views["datasets"][0]["pointRadius"][-1] > 0, "a day between gaps is seen although no line leads there"
    assert views["labels"][-1] == f"{today:%d.%m}"
    for query, days in (("", 30), ("?days=90", 90), ("?days=270", 270), ("?days=1000000", 30), ("?days=x", 30)):
        assert len(figures(boss, page + query)[0]["labels"]) == days
    shown = text_of(boss.get(f"{page}?days=90"))
    assert shown.count('class="chart"') == 5
    assert "119 in 90 days" in shown
    assert "за 30 дней" in russian(boss, page)


def test_without_figures_the_page_says_what_to_do(boss: Client) -> None:
    new, connected = make_account(), make_account(connection_status="connected")
    assert "Connect the account to Avito" in text_of(boss.get(page_of(new)))
    assert "Press “Read figures now”" in text_of(boss.get(page_of(connected)))
    assert "chart" not in text_of(boss.get(page_of(new))).split('id="account-overview"')[1].split("</section>")[0]


def problems(client: Client, account: Account) -> list[str]:
    page = text_of(client.get(page_of(account)))
    return re.findall(r"data-problem>\s*(.*?)\s*</p>", page, re.DOTALL)


def test_a_problem_stands_on_top_in_words_with_its_remedy(boss: Client) -> None:
    proxy = make_proxy(status="error", error_reason="auth")
    account = make_account(
        connection_status="error",
        connection_error_code="proxy_failed",
        connection_error_detail="auth",
        proxy=proxy,
        sync_failures={"balance": "avito_timeout"},
    )
    by_proxy, figures_missing = problems(boss, account)
    assert "does not accept the login or the password" in by_proxy
    assert page_of(proxy) in by_proxy
    assert "balance: Avito did not answer in time." in figures_missing
    lost = make_account(connection_status="needs_reconnect", connection_error_code="token_expired")
    (expired,) = problems(boss, lost)
    assert "Token expired" in expired
    assert f"{ACCOUNTS}{lost.pk}/connect/" in expired
    assert problems(boss, make_account()) == []


def test_the_page_says_how_the_webhook_stands_and_subscribes_it(
    boss: Client, anna: Account, avito_sandbox: Sandbox
) -> None:
    def card() -> str:
        page = text_of(boss.get(page_of(anna)))
        return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.split("Webhook</p>")[1].split("</div>")[0]))

    def press(button: str) -> str:
        assert boss.get(f"{ACCOUNTS}{anna.pk}/{button}/").status_code == 200, "asks first"
        return text_of(boss.post(f"{ACCOUNTS}{anna.pk}/{button}/", follow=True))

    assert "not subscribed tried again by itself" in card()
    assert "Анна: Avito delivers messages here." in press("subscribe")
    assert "subscribed subscribed just now · checked just now" in card()
    assert "they come by the catch-up of chats" in text_of(boss.get(f"{ACCOUNTS}{anna.pk}/unsubscribe/"))
    assert "Анна: Avito no longer delivers messages here." in press("unsubscribe")
    assert "taken off subscribe" in card()
    press("subscribe")
    [url] = next(seller for seller in avito_sandbox.control("GET", "/sellers") if seller["id"] == ANNA)["webhooks"]
    headers = {"Authorization": f"Bearer {anna.authorization.access_token}"}
    avito_sandbox.call("POST", "/messenger/v1/webhook/unsubscribe", json={"url": url}, headers=headers)
    avito_sandbox.fault("status", "v3/webhook$", status=500)
    assert "Avito is not available" in press("subscribe")
    assert "lost tried again by itself checked just now" in card()
    (problem,) = problems(boss, anna)
    assert "Avito does not deliver messages here. Avito is not available" in problem
    assert "не доставляет" in russian(boss, page_of(anna))


def test_the_button_says_whether_to_connect_or_to_connect_again(boss: Client) -> None:
    account = make_account()
    assert "Connect Avito" in text_of(boss.get(page_of(account)))
    authorize(account)
    page = text_of(boss.get(page_of(account)))
    assert "Connect again" in page
    assert "Connect Avito" not in page


def press(client: Client, account: Account | Proxy, button: str) -> str:
    return text_of(client.post(f"{page_of(account).removesuffix('change/')}{button}/", follow=True))


def test_a_connection_is_checked_now(product: str, anna: Account, avito_sandbox: Sandbox) -> None:
    boss = signed_in("boss", "admin")
    assert re.search(r"Анна is connected; Avito answered in \d+ ms\.", press(boss, anna, "check-now"))
    avito_sandbox.fault("status", "self$", status=500)
    assert "Анна: Avito is not available" in press(boss, anna, "check-now")
    Account.objects.update(proxy=make_proxy())
    shown = press(boss, anna, "check-now")
    assert "the proxy cannot be reached" in shown
    assert Proxy.objects.get().status == "error"
    assert boss.get(f"{ACCOUNTS}{anna.pk}/check-now/").status_code == 200
    assert boss.post(f"{ACCOUNTS}987654/check-now/").status_code == 404
    assert boss.get(f"{ACCOUNTS}not-a-number/check-now/").status_code == 404


def test_figures_are_read_now_and_stand_on_the_page(product: str, anna: Account, avito_sandbox: Sandbox) -> None:
    boss = signed_in("boss", "admin")
    assert "Анна: the figures were read." in press(boss, anna, "sync-now")
    anna.refresh_from_db()
    assert anna.ads_count
    assert figures(boss, page_of(anna))[0]["datasets"][0]["data"][-1] == anna.views_today
    avito_sandbox.fault("status", "balance", status=500)
    shown = press(boss, anna, "sync-now")
    assert "Not read: balance. Avito is not available" in shown
    assert "Not all figures could be read" in shown
    assert "is not connected" in press(boss, make_account(), "sync-now")


# Proxies


def test_a_proxy_is_kept_with_a_password_that_is_never_shown(boss: Client) -> None:
    assert 'name="is_kept"' in text_of(boss.get(f"{PROXIES}add/"))
    assert boss.get(f"{PROXIES}add/").context["adminform"].form.initial["is_kept"]
    answer = boss.post(f"{PROXIES}add/", {**PROXY_FORM, "new_password": f" {PASSWORD}"})
    assert answer.status_code == 302
    proxy = Proxy.objects.get()
    assert (proxy.password, proxy.is_kept) == (f" {PASSWORD}", True)
    Proxy.objects.update(status="working", latency_ms=5)
    page = page_of(proxy)
    assert "Something is stored" in text_of(boss.get(page))
    assert boss.post(page, {**PROXY_FORM, "note": "spare"}).status_code == 302
    proxy = Proxy.objects.get()
    assert (proxy.password, proxy.note, proxy.status) == (f" {PASSWORD}", "spare", "working")
    assert boss.post(page, {**PROXY_FORM, "port": "1081", "forget_password": "on"}).status_code == 302
    proxy = Proxy.objects.get()
    assert (proxy.password, proxy.port, proxy.status, proxy.latency_ms) == ("", 1081, "not_checked", None)
    for path in (PROXIES, page, f"{PROXIES}{proxy.pk}/history/", CHANGES):
        assert PASSWORD not in text_of(boss.get(path))


@pytest.mark.parametrize(
    ("field", "value"),
    [("host", "10.0.0.8"), ("host", "localhost"), ("host", "a b"), ("port", "0"), ("port", "65536"), ("login", "a\nb"),
     ("type", "ftp"), ("new_password", "a\r\nb"), ("login", "x" * 128), ("login", "a#b")],
)  # fmt: skip
def test_a_proxy_that_may_not_be_is_refused_in_words(
    boss: Client, settings: LazySettings, field: str, value: str
) -> None:
    settings.PROXY_ALLOW_PRIVATE = False
    answer = boss.post(f"{PROXIES}add/", {**PROXY_FORM, "host": "8.8.8.8", field: value})
    assert list(answer.context["adminform"].form.errors) == [field]
    assert not Proxy.objects.exists()
    assert boss.post(f"{PROXIES}add/", {**PROXY_FORM, "host": "8.8.8.8"}).status_code == 302


def test_the_list_of_proxies_tells_who_uses_which_and_how_it_fares(boss: Client) -> None:
    proxy = make_proxy(
        host="proxy.example.com",
        port=3128,
        login="cap",
        note="Moscow",
        status="error",
        error_reason="timeout",
        failures=5,
        retry_at=timezone.now() + timedelta(minutes=1),
    )
    account = make_account(name="Арбат", proxy=proxy)
    idle = make_proxy(host="idle.example.com", status="working", latency_ms=1234, checked_at=timezone.now())
    page = text_of(boss.get(PROXIES))
    for shown in ("proxy.example.com:3128", "cap", "Moscow", "did not answer in time", "nothing is sent until",
                  "idle.example.com", "1,234 ms", "just now"):  # fmt: skip
        assert shown in page, shown
    assert f'href="{page_of(account)}"' in text_of(boss.get(page_of(proxy)))
    assert "No account uses this proxy." in text_of(boss.get(page_of(idle)))
    for query, found in {
        "q=арбат": [proxy], "q=cap": [proxy], "q=moscow": [proxy], "q=idle": [idle], "use=used": [proxy],
        "use=unused": [idle], "state=fallen": [proxy], "state=working": [idle], "state=resting": [proxy],
    }.items():  # fmt: skip
        assert list(boss.get(f"{PROXIES}?{query}").context["cl"].result_list) == found, query


def test_a_proxy_in_use_cannot_be_deleted_alone_or_among_others(boss: Client) -> None:
    used, idle = make_proxy(), make_proxy(host="idle.example.com")
    make_account(name="Арбат", proxy=used)
    bulk = {"action": "delete_selected", "_selected_action": [used.pk, idle.pk], "post": "yes"}
    for answer in (boss.get(f"{PROXIES}{used.pk}/delete/"), boss.post(f"{PROXIES}{used.pk}/delete/", {"post": "yes"}),
                   boss.post(PROXIES, bulk)):  # fmt: skip
        assert "Choose another proxy for these accounts first" in text_of(answer)
        assert "Арбат" in text_of(answer)
    assert Proxy.objects.count() == 2
    boss.post(PROXIES, {**bulk, "_selected_action": [idle.pk]})
    assert Proxy.objects.get() == used


def test_an_account_chooses_among_the_proxies(boss: Client, operator: Client) -> None:
    kept, passing = make_proxy(host="kept.example.com", is_kept=True), make_proxy(host="passing.example.com")
    account = make_account(name="Счёт", avito_user_id=None, proxy=passing)
    find = "/admin/autocomplete/?app_label=avito_accounts&model_name=account&field_name=proxy&term="
    assert [row["id"] for row in boss.get(f"{find}kept").json()["results"]] == [str(kept.pk)]
    assert operator.get(f"{find}kept").status_code == 403
    form = {**FORM, "new_client_id": "", "new_client_secret": ""}
    assert boss.post(page_of(account), {**form, "proxy": str(kept.pk)}).status_code == 302
    assert Account.objects.get().proxy == kept
    assert Proxy.objects.get() == kept, "one that came with an account goes with the last one"
    assert boss.post(page_of(account), {**form, "proxy": ""}).status_code == 302
    assert Account.objects.get().proxy is None
    assert Proxy.objects.get() == kept


def test_proxies_are_checked_now_one_by_one_and_many_at_once(product: str) -> None:
    boss, dead = signed_in("boss", "admin"), make_proxy()
    with recording_proxy("socks5") as proxy:
        alive = make_proxy(type="socks5", port=proxy.port)
        assert re.search(r"works; Avito answered in \d+ ms\.", press(boss, alive, "check-now"))
        assert "The proxy 127.0.0.1:9 does not work: the proxy cannot be reached" in press(boss, dead, "check-now")
        Proxy.objects.update(status="not_checked", checked_at=None)
        chosen = {"action": "check_selected", "_selected_action": [dead.pk, alive.pk]}
        page = text_of(boss.post(PROXIES, chosen, follow=True))
    assert "works; Avito answered" in page
    assert "does not work" in page
    assert set(Proxy.objects.values_list("status", flat=True)) == {"working", "error"}


# The audit trail


def test_the_history_says_who_changed_what_and_keeps_no_secret(boss: Client) -> None:
    proxy = make_proxy(host="proxy.example.com", port=3128, login="cap-login", password=PASSWORD, is_kept=True)
    form = {**FORM, "name": "Было"}
    assert boss.post(f"{ACCOUNTS}add/", form).status_code == 302
    account = Account.objects.get()
    changed = {
        **FORM,
        "name": "Стало",
        "proxy": str(proxy.pk),
        "eternal_online_enabled": "on",
        "new_client_secret": "2",
    }
    assert boss.post(page_of(account), changed).status_code == 302
    page = re.sub(r"<[^>]+>|\s+", " ", text_of(boss.get(f"{ACCOUNTS}{account.pk}/history/")))
    page = re.sub(r"\s+", " ", page)
    for shown in ("boss", "Name: Было → Стало", "Proxy: — → http://proxy.example.com:3128", "Eternal online: no → yes",
                  "The client secret has changed; it is secret.", "Added"):  # fmt: skip
        assert shown in page, shown
    assert "Изменён client secret; значение секретно." in russian(boss, f"{ACCOUNTS}{account.pk}/history/")
    boss.post(page_of(proxy), {**PROXY_FORM, "new_password": f"{PASSWORD}2"})
    everything = text_of(boss.get(CHANGES))
    assert "The password has changed; it is secret." in everything
    assert "Стало" in everything
    with connection.cursor() as cursor:
        for table in ("historicalaccount", "historicalproxy"):
            cursor.execute(f"SELECT t::text FROM avito_accounts_{table} t")
            everything += str(cursor.fetchall())
    assert not [secret for secret in (PASSWORD, "id-of-anna", "s3cret-of-anna", "g1:") if secret in everything]


def test_what_is_gone_keeps_its_history(boss: Client) -> None:
    account = make_account(name="Прежний", proxy=make_proxy(host="gone.example.com"))
    boss.post(f"{ACCOUNTS}{account.pk}/delete/", {"post": "yes"})
    assert not Proxy.objects.exists()
    page = text_of(boss.get(f"{ACCOUNTS}{account.pk}/history/"))
    assert "Deleted" in page
    assert "gone.example.com" in page
    assert "Прежний" in text_of(boss.get(CHANGES))
    assert boss.get(f"{ACCOUNTS}987654/history/").status_code == 404
    assert boss.get(f"{ACCOUNTS}x/history/").status_code == 404


def test_the_trail_has_pages_and_cannot_be_written(boss: Client) -> None:
    for number in range(60):
        make_account(name=f"Number {number:02}")
    first, second = text_of(boss.get(CHANGES)), text_of(boss.get(f"{CHANGES}?p=2"))
    assert "Number 59" in first
    assert "Number 09" not in first
    assert "Number 09" in second
    history = Account.history.count()
    account = Account.objects.get(name="Number 00")
    for path in (CHANGES, f"{ACCOUNTS}{account.pk}/history/", f"{ACCOUNTS}{account.pk}/history/1/"):
        boss.post(path, {**FORM, "name": "Forged", "post": "yes"})
    assert Account.history.count() == history
    assert not Account.objects.filter(name="Forged").exists()


def test_a_consent_is_in_the_trail(product: str, avito_sandbox: Sandbox) -> None:
    account = make_account(name="Анна", avito_user_id=None)
    browser, boss = Api(product), signed_in("boss", "admin")
    browser.session.cookies.set("sessionid", boss.cookies["sessionid"].value)
    to_avito = browser.get(f"/api/v1/auth/avito/authorize/{account.pk}").headers["Location"]
    query = to_avito.partition("?")[2]
    asked = dict(pair.split("=", 1) for pair in query.split("&"))
    code = avito_sandbox.control("POST", "/authorize", sellerId=ANNA, scopes=["user:read"])["code"]
    assert browser.get("/api/v1/auth/avito/callback", state=asked["state"], code=code).status_code == 200
    page = text_of(boss.get(f"{ACCOUNTS}{account.pk}/history/"))
    assert "Consent was given at Avito." in page
    assert "boss" in page
    assert str(ANNA) in page


# Roles


@pytest.mark.parametrize("role", ["director", "operator"])
def test_who_may_only_look_sees_accounts_and_runs_but_no_buttons_logins_or_secrets(role: Any) -> None:
    reader = signed_in("reader", role)
    proxy = make_proxy(host="proxy.example.com", login="secret-login", password=PASSWORD)
    account = make_account(name="Арбат", proxy=proxy, client_id="id-of-anna", client_secret="s3cret-of-anna")
    authorize(account)
    run = run_of(account)
    pages = (ACCOUNTS, page_of(account), f"{ACCOUNTS}{account.pk}/history/", RUNS, page_of(run))
    for path in pages:
        answer = reader.get(path)
        assert answer.status_code == 200, path
        page = text_of(answer)
        assert not [
            x for x in ("secret-login", PASSWORD, "id-of-anna", "s3cret-of-anna", 'type="password"') if x in page
        ]
        assert not re.search(
            r"/(connect|check-now|sync-now|renew-tokens|(un)?subscribe|check-all|sync-all|subscribe-all)/", page
        )
    assert "proxy.example.com:9" in text_of(reader.get(page_of(account)))
    assert "/admin/avito_accounts/proxy/" not in text_of(reader.get(ACCOUNTS))
    refused = [
        *(reader.get(path) for path in (PROXIES, page_of(proxy), CHANGES, f"{PROXIES}{proxy.pk}/history/")),
        *(reader.post(f"{ACCOUNTS}{path}/") for path in ("check-all", "sync-all", "subscribe-all")),
        *(
            reader.post(f"{ACCOUNTS}{account.pk}/{path}/")
            for path in ("check-now", "sync-now", "renew-tokens", "subscribe", "unsubscribe")
        ),
        reader.post(f"{PROXIES}{proxy.pk}/check-now/"),
        reader.get(f"{ACCOUNTS}{account.pk}/connect/"),
    ]
    assert {answer.status_code for answer in refused} == {403}
    reader.post(ACCOUNTS, {"action": "check_selected", "_selected_action": [account.pk]})
    assert Run.objects.count() == 1


def test_the_sidebar_leads_admins_everywhere_and_others_where_they_may_go(boss: Client, operator: Client) -> None:
    everywhere, some = text_of(boss.get(ACCOUNTS)), text_of(operator.get(ACCOUNTS))
    for path in (ACCOUNTS, PROXIES, RUNS, CHANGES):
        assert f'href="{path}"' in everywhere
    assert f'href="{RUNS}"' in some
    assert f'href="{PROXIES}"' not in some
    assert f'href="{CHANGES}"' not in some
    stranger = signed_in("stranger")
    assert {stranger.get(path).status_code for path in (ACCOUNTS, PROXIES, RUNS, CHANGES)} == {403}


def test_who_signs_in_at_the_door_comes_to_the_start(client: Client) -> None:
    make_user("boss", "admin", is_staff=True)
    answer = client.post("/admin/login/", {"username": "boss", "password": "correct horse battery staple"})
    assert (answer.status_code, answer["Location"]) == (302, "/admin/")
