"""Connecting a property to Avito in a real browser: the whole way, what goes wrong on it, and a connection's life."""

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.test import Client

from avito_accounts import limits
from avito_accounts.models import Account, Authorization
from integrations_str import queue, tasks
from integrations_str.models import Access, Integration, Property
from integrations_str.wizard import draft
from integrations_str.wizard.typed import item_of
from tests.conftest import Api
from tests.factories import make_account, make_proxy, make_user
from tests.integrations_str.conftest import Home, make_home
from tests.sandbox.driver import ANNA, OLEG, Sandbox

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
BACKEND = "django.contrib.auth.backends.ModelBackend"


class Visitor:
    """The page of one property, as its owner has it open."""

    def __init__(self, browser: "Browser", base: str, user: User, property_id: int, **options: Any) -> None:
        session = Client()
        session.force_login(user, backend=BACKEND)
        usual = {"locale": "ru-RU", "viewport": {"width": 1300, "height": 900}}
        self.context = browser.new_context(**{**usual, **options})
        self.context.add_cookies([{"name": "sessionid", "value": session.cookies["sessionid"].value, "url": base}])
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._said)
        self.path = f"/admin/properties/{property_id}/connect/"
        self.address = base + self.path
        self.visit()

    def _said(self, message: Any) -> None:
        if message.type == "error" and "favicon" not in message.location.get("url", ""):
            self.errors.append(f"{message.text} {message.location}")

    def visit(self, query: str = "") -> None:
        self.page.goto(self.address + query)

    def press(self, name: str) -> None:
        self.page.get_by_role("button", name=name, exact=True).first.click()

    def sees(self, text: str) -> "Locator":
        found = self.page.get_by_text(text).first
        found.wait_for()
        return found

    def agree(self, seller: int = ANNA) -> None:
        """On Avito's page, which the sandbox plays."""
        self.page.select_option("#user_id", str(seller))
        self.page.click("#allow")

    def check(self, typed: str) -> None:
        self.page.fill("#connect-item", typed)
        self.press("Проверить и продолжить")

    def trouble(self) -> str:
        return self.page.locator("#connect-trouble").inner_text()

    def first_price(self, wanted: str) -> None:
        self.page.locator("[data-first]", has_text=wanted).wait_for()

    def status(self, wanted: str) -> "Locator":
        found = self.page.locator(f"#connect-status[data-status={wanted}]")
        found.wait_for()
        return found


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "QUIET_SECONDS", 0.05)


@pytest.fixture
def host(product: str) -> User:
    """Somebody without any role who owns properties, and may sign in to the back office."""
    return make_user("host", is_staff=True)


@pytest.fixture
def home(product: str, avito_sandbox: Sandbox, anna: Account, host: User) -> Home:
    return make_home(product, avito_sandbox, anna, host)


def prices_at_avito(home: Home) -> set[int]:
    return {night.price for night in home.avito.calendar(home.item).values()}


def test_a_host_connects_a_property_and_changes_its_markup(
    browser: "Browser", product: str, avito_sandbox: Sandbox, host: User, anna: Account
) -> None:
    taken = make_home(product, avito_sandbox, anna, make_user("neighbour"))
    taken.connect()
    home = make_home(product, avito_sandbox, anna, host)
    Access.objects.filter(user=host).delete()
    avito_sandbox.book(home.item, home.day(3), home.day(5))
    one = Visitor(browser, product, host, home.id)

    # Step 1: refused at first, then given.
    assert not one.page.get_by_role("button", name="Использовать подключённый аккаунт").is_visible()
    one.press("Перейти на Авито и разрешить")
    one.page.click("#deny")
    assert "Доступ на Авито не был разрешён." in one.trouble()
    one.press("Перейти на Авито и разрешить")
    one.agree()
    one.sees("Чьё это объявление?")

    # Step 2: the account is chosen already. Step 3 is still there for who has left.
    assert one.page.get_by_role("radio", name=re.compile(f"Анна.*{ANNA}")).is_checked()
    one.press("Дальше")
    one.sees("Какое объявление?")
    one.page.goto("about:blank")
    one.visit()
    one.page.get_by_role("img", name=re.compile("ID — последнее число")).wait_for()
    one.check(str(taken.item))
    assert "ID уже используется." in one.trouble()
    assert one.page.input_value("#connect-item") == str(taken.item)
    one.check("999999")
    one.sees("Авито не знает объявления с таким ID.")
    one.check(f"https://www.avito.ru/moskva/kvartiry/studiya_28_m_{home.item}?context=H4sIAAAAA")

    # Step 4: prices follow the markup while it is typed.
    one.first_price("2 300 ₽")
    assert "бронь с Авито" in one.page.locator(".connect-nights tbody tr").nth(3).inner_text()
    one.page.fill("#connect-markup", "400")
    one.sees("меньше либо равно 300")
    one.page.fill("#connect-markup", "12,5")
    one.first_price("2 250 ₽")
    assert not one.page.locator("#connect-markup-wrong").inner_text()
    assert avito_sandbox.count_rent_calls(home.item, "prices") == 0
    one.press("Подключить")

    # What happens now, without a reload.
    assert "1 бронь" in one.status("syncing").inner_text()
    one.page.evaluate("window.isTheSamePage = true")
    tasks.serve()
    assert "Всё готово" in one.status("ok").inner_text()
    assert one.page.evaluate("window.isTheSamePage")
    assert one.page.get_by_role("link", name="В календарь").get_attribute("href") == "/admin/calendar/"
    assert prices_at_avito(home) == {2250}

    one.page.get_by_role("link", name="Редактировать наценку").click()
    one.page.fill("#connect-markup", "-5")
    one.first_price("1 900 ₽")
    assert prices_at_avito(home) == {2250}
    one.press("Сохранить")
    one.sees("Наценка сохранена.")
    tasks.serve()
    one.status("ok")
    assert prices_at_avito(home) == {1900}
    assert one.errors == []


def test_a_lost_access_is_repaired_and_a_connection_paused_and_ended_on_a_phone(
    browser: "Browser", product: str, home: Home, host: User
) -> None:
    plain = Visitor(browser, product, host, home.id, java_script_enabled=False)
    plain.sees("Использовать подключённый аккаунт")
    home.connect_and_push()
    one = Visitor(browser, product, host, home.id, locale="en-GB", **PHONE)
    one.status("ok")
    home.avito.control("POST", "/tokens/revoke", sellerId=ANNA)
    home.read_now()
    one.visit()
    assert "Token expired. Please reconnect." in one.status("needs_reconnect").inner_text()
    home.set_rate(3, price=2700)
    one.press("Reconnect")
    one.agree(OLEG)
    assert "another profile" in one.trouble()
    assert Integration.objects.get().account == home.account
    one.press("Reconnect")
    one.agree()
    one.sees("Avito has given access again.")
    one.status("syncing")
    tasks.serve()
    one.status("ok")
    assert home.avito.calendar(home.item)[home.day(3)].price == 3105
    assert Account.objects.count() == 1

    one.press("Pause")
    assert "Nothing is sent" in one.status("off").inner_text()
    one.press("Go on")
    one.status("syncing")
    tasks.serve()
    one.status("ok")
    one.press("Synchronise now")
    one.status("syncing")
    tasks.serve()
    assert one.page.evaluate("document.documentElement.scrollWidth") == 390

    # Closing fails: nothing is disconnected. It works: the year is closed, and the way begins anew.
    home.avito.rent_fault("status", "intervals", status=503, times=9)
    one.page.get_by_role("link", name="Disconnect").click()
    one.press("Disconnect")
    assert "Nothing was disconnected" in one.trouble()
    assert home.connection()["isActive"]
    home.avito.control("DELETE", "/faults")
    one.press("Disconnect")
    one.sees("The property is disconnected from Avito.")
    assert not any(night.open for night in home.avito.calendar(home.item).values())
    home.avito.switch(home.item, closedRows=True)
    one.press("Use a connected account")
    one.press("Next")
    one.page.fill("#connect-item", str(home.item))
    one.press("Check and go on")
    one.sees("Closed at Avito now, free in your calendar:")
    assert one.page.evaluate("document.documentElement.scrollWidth") == 390
    sizes = one.page.evaluate(
        "[...document.querySelectorAll('#connect button, #connect input:not([type=checkbox])')]"
        ".filter((one) => one.checkVisibility()).map((one) => one.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 40
    assert one.errors == []


@pytest.fixture
def signed_in(host: User) -> Client:
    client = Client()
    client.force_login(host, backend=BACKEND)
    return client


class Form:
    """The page by plain requests, as a browser without scripts sends them."""

    def __init__(self, client: Client, home: Home) -> None:
        self.client, self.path = client, f"/admin/properties/{home.id}/connect/"

    def see(self, **query: Any) -> str:
        return self.client.get(self.path, query).content.decode()

    def do(self, name: str, **fields: Any) -> str:
        """Press a button; what is shown then."""
        return self.client.post(self.path, {"do": name, **fields}, follow=True).content.decode()

    def reach(self, home: Home) -> str:
        """Up to the last step."""
        self.do("account", account=home.account.pk)
        return self.do("item", item=home.item)


def test_without_scripts_a_property_is_connected_and_its_first_push_waits_for_consent(
    home: Home, signed_in: Client
) -> None:
    home.book(2, 4)
    home.avito.book(home.item, home.day(3), home.day(6))
    form = Form(signed_in, home)
    assert "(1 ночь)" in form.reach(home)
    assert "2\N{NBSP}200\N{NBSP}₽" in form.do("preview", markup="10")
    assert "ждут вашего согласия" not in form.do("connect", markup="10")
    tasks.serve()
    page = form.see()
    assert "Ждёт вашего согласия" in page
    assert "Брони пересекаются:" in page
    assert home.writes() == []
    form.do("agree")
    tasks.serve()
    assert "Всё совпадает с Авито" in form.see()
    assert prices_at_avito(home) == {2200}


def test_with_consent_given_beforehand_nothing_waits(home: Home, signed_in: Client) -> None:
    home.book(2, 4)
    home.avito.book(home.item, home.day(3), home.day(6))
    form = Form(signed_in, home)
    form.reach(home)
    form.do("connect", markup="15", consents="1")
    tasks.serve()
    assert "Всё совпадает с Авито" in form.see()


def test_each_failure_of_the_check_is_said_with_what_to_do(home: Home, signed_in: Client) -> None:
    form = Form(signed_in, home)
    form.do("account", account=home.account.pk)
    others = home.avito.make_rent_item(OLEG)
    for typed, words in (
        ("https://www.cian.ru/rent/123456/", "Это не ссылка на avito.ru."),
        ("https://www.avito.ru/moskva/kvartiry/sdam", "В этой ссылке нет номера."),
    ):
        page = form.do("item", item=typed)
        assert words in page
        assert f'value="{typed}"' in page
    Authorization.objects.update(scopes=["short_term_rent:read", "short_term_rent:write"])
    page = form.do("item", item=others)
    assert "Авито не даёт доступа к этому объявлению." in page
    assert "Перейти к шагу 2" in page
    Authorization.objects.update(scopes=["messenger:read"])
    page = form.do("item", item=others)
    assert "В доступе нет прав на краткосрочную аренду." in page
    assert "Перейти к шагу 1" in page
    home.avito.rent_fault("status", "reads", status=503, times=9)
    assert "Авито недоступен" in form.do("item", item=home.item)
    home.avito.control("DELETE", "/faults")
    home.avito.rent_fault("429", "reads", times=9)
    assert "Авито просит сделать паузу" in form.do("item", item=home.item)
    home.avito.control("DELETE", "/faults")
    limits.reset()
    Account.objects.update(proxy=make_proxy())
    page = form.do("item", item=home.item)
    assert "только через свой прокси" in page
    assert "Обратитесь к администратору" in page
    Account.objects.update(proxy=None)
    home.avito.control("POST", "/tokens/revoke", sellerId=ANNA)
    page = form.do("item", item=home.item)
    assert "Доступ к этому профилю закончился." in page
    assert "Перейти к шагу 1" in page
    assert "нужно один раз" not in form.see(step="1")
    assert not Integration.objects.exists()


def test_anothers_property_is_as_unknown_as_a_missing_one(home: Home, signed_in: Client) -> None:
    assert signed_in.get(f"/admin/properties/{home.id}/connect/").status_code == 200
    anothers = Property.objects.create(owner=make_user("neighbour"), name="Дача", base_price=1000)
    Property.objects.filter(pk=home.id).update(owner=make_user("heir"))
    for number in (anothers.pk, home.id, 123456, 10**30):
        for call in (signed_in.get, signed_in.post):
            assert call(f"/admin/properties/{number}/connect/", {"do": "disconnect"}).status_code == 404
    boss = Client()
    boss.force_login(make_user("boss", is_staff=True, is_superuser=True), backend=BACKEND)
    assert boss.get(f"/admin/properties/{home.id}/connect/").status_code == 404
    assert Client().get(f"/admin/properties/{home.id}/connect/").status_code == 302


def test_each_failure_of_a_consent_is_said_with_the_way_on(home: Home, signed_in: Client) -> None:
    form = Form(signed_in, home)
    for code, words in (
        ("invalid_state", "в этом же браузере"),
        ("access_denied", "Без него нельзя ни читать брони"),
        ("missing_code", "Нажмите кнопку ниже ещё раз"),
        ("exchange_failed", "Код действует один раз"),
        ("account_mismatch", "через который подключён объект"),
        ("user_id_taken", "другой профиль"),
        ("<script>", "в этом же браузере"),
    ):
        page = form.see(oauth="error", code=code)
        said = page.split('id="connect-trouble"')[1].split("</section>")[0]
        assert words in said
        assert "<script>" not in said
        assert "Перейти на Авито и разрешить" in page


def test_without_the_applications_keys_the_page_says_what_the_administrator_has_to_do(
    home: Home, signed_in: Client, settings: LazySettings
) -> None:
    settings.AVITO_OAUTH_CLIENT_ID = ""
    path = f"/admin/properties/{home.id}/connect/"
    for page in (signed_in.get(path), signed_in.post(path, {"do": "authorize"})):
        text = page.content.decode()
        assert "AVITO_OAUTH_CLIENT_ID" in text
        assert str(settings.AVITO_OAUTH_REDIRECT_URI) in text
    assert "Использовать подключённый аккаунт" in text


def consent(api: Api, link: str) -> tuple[str, Callable[[str], str]]:
    """Open a link; gives the state, and what arriving at the callback with a query leads to."""
    to_avito = api.get(link).headers["Location"]
    state = parse_qs(urlsplit(to_avito).query)["state"][0]
    return state, lambda query: str(api.get(f"/api/v1/auth/avito/callback?{query}").headers.get("Location"))


def test_a_consent_ends_where_it_began(
    home: Home, signed_in: Client, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    path = f"/admin/properties/{home.id}/connect/"
    by_page = signed_in.post(path, {"do": "authorize"})["Location"]
    by_api = home.api.post(f"{home.path}/avito/authorize").json()["url"]

    browser = Api(home.api.base)
    code = avito_sandbox.control("POST", "/authorize", sellerId=ANNA)["code"]
    state, arrive = consent(browser, by_api)
    assert arrive(f"state={state}&code={code}") == f"{path}?oauth=success"
    assert arrive(f"state={state}&code={code}") == f"{path}?oauth=error&code=invalid_state"
    assert arrive("state=unknown&code=1") == f"{path}?oauth=error&code=invalid_state"
    again = signed_in.get(path, {"oauth": "error", "code": "invalid_state"}, follow=True).content.decode()
    assert 'data-step="2"' in again  # the same answer a second time: the first one has counted
    assert "connect-trouble" not in again
    elsewhere = Api(home.api.base)
    assert elsewhere.get("/api/v1/auth/avito/callback?state=unknown&code=1").status_code == 400

    settings.FRONTEND_URL = "https://app.example"
    state, arrive = consent(browser, by_page)
    assert arrive(f"state={state}&error=access_denied") == f"{path}?oauth=error&code=access_denied"
    by_api = home.api.post(f"{home.path}/avito/authorize").json()["url"]
    state, arrive = consent(browser, by_api)
    assert arrive(f"state={state}").startswith(f"https://app.example/properties/{home.id}/avito?oauth=error")


def test_what_was_chosen_is_kept_for_an_hour_and_no_account_of_anothers_is_taken(
    home: Home, signed_in: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/admin/properties/{home.id}/connect/"
    foreign = make_account()
    signed_in.post(path, {"do": "use"})
    assert (
        "Выберите один из доступных" in signed_in.post(path, {"do": "account", "account": foreign.pk}).content.decode()
    )
    signed_in.post(path, {"do": "account", "account": home.account.pk})
    signed_in.post(path, {"do": "item", "item": home.item})
    assert 'data-step="4"' in signed_in.get(path).content.decode()
    assert 'data-step="2"' in signed_in.get(path, {"step": "2"}).content.decode()
    Access.objects.all().delete()
    assert signed_in.post(path, {"do": "connect", "markup": "15"})["Location"] == path
    assert 'data-step="1"' in signed_in.get(path).content.decode()
    Access.objects.create(account=home.account, user=Property.objects.get().owner)
    assert 'data-step="4"' in signed_in.get(path).content.decode()
    monkeypatch.setattr(draft, "KEPT_SECONDS", 0)
    assert 'data-step="1"' in signed_in.get(path).content.decode()
    assert not Integration.objects.exists()


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("1234567890", 1234567890),
        (" № 1 234 567 890 ", 1234567890),
        ("ID: 1234567890", 1234567890),
        ("https://www.avito.ru/moskva/kvartiry/1-k._kvartira_40_m_25_et._1234567890", 1234567890),
        ("https://m.avito.ru/1234567890/?utm_source=99", 1234567890),
        ("Смотри: https://www.avito.ru/sochi/doma/dom_1234567890?context=77 хороший", 1234567890),
        ("avito.ru/1234567890#photo2", 1234567890),
        ("https://avito.ru.evil.example/1234567890", None),
        ("https://www.avito.ru/sochi", None),
        ("9" * 25, None),
        ("0", None),
        ("١٢٣", None),
        ("квартира", None),
        ("", None),
    ],
)
def test_the_number_is_taken_out_of_what_was_pasted(typed: str, number: int | None) -> None:
    try:
        found: int | None = item_of(typed)
    except ValidationError:
        found = None
    assert found == number
