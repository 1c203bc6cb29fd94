"""A host's calendar in a real browser: prices by mouse and by keys, guests who book, what is wrong, a phone."""

import datetime as dt
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from api.roles import HOSTS
from avito_accounts.models import Account
from integrations_str import queue, services
from tests.factories import make_user
from tests.integrations_str.conftest import Home, make_home, work
from tests.sandbox.driver import Sandbox, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Locator, Page

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
NASTY = "<img src=x onerror='window.broken = 1'>"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Changes wait for more changes, but not for long."""
    monkeypatch.setattr(queue, "QUIET_SECONDS", 0.05)


@pytest.fixture
def host(product: str) -> User:
    user = make_user("host", is_staff=True)
    user.groups.add(Group.objects.get_or_create(name=HOSTS)[0])
    return user


@pytest.fixture
def home(product: str, avito_sandbox: Sandbox, anna: Account, host: User) -> Home:
    return make_home(product, avito_sandbox, anna, host)


class Calendar:
    """The page as one person has it open."""

    def __init__(self, browser: "Browser", base: str, user: User, *, locale: str = "ru-RU", **options: Any) -> None:
        session = Client()
        session.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        self.context = browser.new_context(locale=locale, **{"viewport": {"width": 1400, "height": 850}, **options})
        self.context.add_cookies([{"name": "sessionid", "value": session.cookies["sessionid"].value, "url": base}])
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("console", self._heard)
        self.address = f"{base}/admin/calendar/"

    def _heard(self, message: "ConsoleMessage") -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:  # a refusal is no error of ours
            self.errors.append(message.text)

    def visit(self, query: str = "") -> "Calendar":
        with self.page.expect_response("**/api/v1/events*"):  # what happens from now on is heard
            self.page.goto(self.address + query)
        self.page.locator("#cal-loading").wait_for(state="hidden")
        self.page.evaluate("window.isTheSamePage = true")
        return self

    def cell(self, home: Home, number: int, **state: str) -> "Locator":
        wanted = "".join(f"[data-{name}={value}]" for name, value in state.items())
        return self.page.locator(f".cal-day[data-property='{home.id}'][data-date='{home.day(number)}']{wanted}")

    def bar(self, text: str) -> "Locator":
        return self.page.locator(".cal-bar", has_text=text)

    def middle(self, cell: "Locator") -> tuple[float, float]:
        box = cell.bounding_box()
        assert box
        return box["x"] + box["width"] / 2, box["y"] + 12

    def drag(self, home: Home, first: int, last: int) -> None:
        (x, y), end = self.middle(self.cell(home, first)), self.middle(self.cell(home, last))
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move((x + end[0]) / 2, (y + end[1]) / 2)
        self.page.mouse.move(*end)
        self.page.mouse.up()

    def save(self) -> None:
        with self.page.expect_response("**/rates"):  # the words of an earlier time may still stand there
            self.page.locator("#cal-rates button", has_text="Сохранить").click()
        self.page.locator("#cal-said", has_text="Сохранено").wait_for()

    def shown(self, wanted: Callable[[], bool]) -> None:
        def look() -> bool:
            self.page.wait_for_timeout(20)  # the page lives only while somebody waits for it
            return wanted()

        wait_for(look, 10)

    def trouble(self) -> list[str]:
        """What broke; and what was seen shall have come without a reload."""
        if not self.page.evaluate("window.isTheSamePage && !window.broken"):
            self.errors.append("the page was loaded anew, or has run what a guest wrote")
        return self.errors


def test_prices_change_by_mouse_and_by_keys_and_reach_avito(
    browser: "Browser", product: str, home: Home, host: User
) -> None:
    home.connect_and_push()
    home.set_rate(12, price=9000)
    one = Calendar(browser, product, host).visit()
    page = one.page
    one.cell(home, 2, sync="synced").wait_for()

    # By mouse, backwards too: three nights, their price at Avito is told beforehand, and what Avito has afterwards.
    one.drag(home, 4, 2)
    assert page.locator("#cal-pane-title").inner_text().endswith("3 ночи")
    page.fill("[name=price]", "3100")
    assert "3 565 ₽" in page.locator("#cal-price-hint").inner_text().replace("\xa0", " ")
    page.fill("[name=minStay]", "2")
    one.save()
    one.cell(home, 3, sync="pending").wait_for()
    work()
    one.cell(home, 3, sync="synced").wait_for()
    theirs = home.avito.calendar(home.item)
    assert [theirs[home.day(day)].price for day in (1, 2, 4, 5)] == [2300, 3565, 3565, 2300]
    assert theirs[home.day(3)].minimal_duration == 2
    assert one.cell(home, 3).inner_text().replace("\xa0", " ").split("\n") == ["3 100 ₽", "3 565 ₽", "мин. 2"]

    # By keys: two nights more, closed; then back to the usual price. What is wrong is said at its field.
    page.keyboard.press("Escape")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    page.keyboard.press("Enter")
    page.keyboard.type("-5")
    page.keyboard.press("Enter")
    page.locator("#cal-rates .cal-error", has_text="Цена").wait_for()
    assert page.locator("[name=price]").get_attribute("aria-invalid") == "true"
    page.fill("[name=price]", "")
    page.get_by_role("radio", name="Закрыть").check()
    one.save()
    one.cell(home, 4, reason="closed").wait_for()
    page.locator("#cal-summary", has_text="Вы закрыли её вручную").wait_for()
    one.cell(home, 12).click(position={"x": 9, "y": 9})
    page.get_by_text("вернуть обычное: 2").check()
    one.save()
    work()
    one.cell(home, 4, sync="synced").wait_for()
    theirs = home.avito.calendar(home.item)
    assert [theirs[home.day(day)].open for day in (3, 4, 5, 6)] == [1, 0, 0, 1]
    assert theirs[home.day(12)].price == 2300
    assert one.trouble() == []


def test_guests_appear_by_themselves_and_two_in_one_bed_are_told_in_red(
    browser: "Browser", product: str, home: Home, host: User
) -> None:
    home.connect_and_push()
    home.set_rate(9, closed=True)
    one = Calendar(browser, product, host).visit()
    page = one.page
    one.cell(home, 9, reason="closed").wait_for()

    # A booking by hand: who is there already is named, and what was typed stays.
    one.drag(home, 1, 2)
    page.get_by_role("button", name="Новая бронь").click()
    page.get_by_label("Гость", exact=True).fill(NASTY)
    assert page.get_by_label("Стоимость, ₽").get_attribute("placeholder") == "4000"
    page.get_by_role("button", name="Забронировать").click()
    one.bar(NASTY).wait_for()
    assert home.bookings()[0]["checkOut"] == home.day(3).isoformat()
    one.drag(home, 2, 4)
    page.get_by_role("button", name="Новая бронь").click()
    page.get_by_label("Гость", exact=True).fill("Олег")
    page.get_by_role("button", name="Забронировать").click()
    page.locator("#cal-new .cal-error", has_text=NASTY).wait_for()
    assert page.get_by_label("Гость", exact=True).input_value() == "Олег"
    page.keyboard.press("Escape")  # back to the days
    assert page.get_by_label("Гость", exact=True).input_value() == "Олег"
    page.keyboard.press("Escape")
    page.locator("#cal-pane").wait_for(state="hidden")

    # Guests book at Avito: bars without a reload, an unpaid one hatched, one over ours in red and in words.
    work()
    home.avito.book(home.item, home.day(5), home.day(8), name="Вера", paid=False)
    home.avito.book(home.item, home.day(2), home.day(4), name="Иван", force=True)
    home.read_now()
    unpaid = one.bar("Авито · Вера")
    unpaid.wait_for()
    assert unpaid.get_attribute("data-status") == "pending"
    (left, _y), bar = one.middle(one.cell(home, 5)), unpaid.bounding_box()
    assert bar
    assert abs(bar["x"] - left) < 3  # from the middle of the day of arrival
    page.locator(".cal-bar.is-clash", has_text="Иван").wait_for()
    page.locator(f".cal-day.is-clash[data-date='{home.day(2)}']").wait_for()
    page.locator(".cal-warning", has_text="Две брони").click()
    page.locator("#cal-summary .cal-note.is-bad", has_text="Отмените или перенесите").wait_for()

    # Why is it closed? And the booking itself, from there; cancelled, the conflict is over.
    one.cell(home, 5).click(position={"x": 9, "y": 9})
    page.locator("#cal-summary", has_text="ещё не оплатил").get_by_text("Авито · Вера").click()
    page.locator("#cal-booking-avito").wait_for()
    with one.context.expect_page() as opened:
        page.locator("#cal-booking-link").click(modifiers=["Control"])
    opened.value.wait_for_load_state()
    assert "Вера" in opened.value.content()
    one.bar(NASTY).click()
    page.get_by_role("button", name="Отменить бронь").click()
    page.get_by_role("button", name="Да").click()
    one.bar(NASTY).wait_for(state="detached")
    page.locator(".cal-warning").wait_for(state="detached")
    one.shown(lambda: page.locator(".cal-bar.is-clash").count() == 0)

    # Paused: its days say so; the pause is asked for first.
    page.get_by_role("button", name="Поставить на паузу").click()
    page.get_by_role("button", name="Да").click()
    one.cell(home, 9, sync="off").wait_for()
    page.locator(".cal-status", has_text="на паузе").wait_for()
    assert not home.connection()["isActive"]
    assert one.trouble() == []


def test_on_a_phone_in_english_and_only_what_is_ones_own(
    browser: "Browser", product: str, home: Home, host: User, avito_sandbox: Sandbox, anna: Account
) -> None:
    make_home(product, avito_sandbox, anna, make_user("neighbour"), name="Somebody else's")
    one = Calendar(browser, product, host, locale="en-GB", **PHONE).visit()
    page = one.page
    assert page.locator(".cal-title").all_inner_texts() == ["Квартира на Арбате"]
    assert page.locator(".cal-connect").get_attribute("href") == f"/admin/properties/{home.id}/connect/"
    one.cell(home, 1).tap(position={"x": 9, "y": 9})
    page.locator("#cal-summary", has_text="free").wait_for()
    page.get_by_label("Last night").fill(home.day(4).isoformat())
    page.get_by_role("heading", name="4 nights").wait_for()
    page.get_by_label("Price of a night, ₽").fill("2500")
    page.get_by_role("button", name="Save").tap()
    one.shown(lambda: "2,500" in one.cell(home, 4).inner_text())
    small = page.evaluate(
        """[...document.querySelectorAll("#cal .cal-button, #cal .cal-icon, #cal input[type=number], #cal select")]
        .filter((one) => one.checkVisibility() && one.offsetHeight < 40).map((one) => one.outerHTML)"""
    )
    assert small == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_role("button", name="Close", exact=True).tap()

    # A year on by the month's name; there is no end of it at the end of what was loaded.
    page.get_by_label("Month", exact=True).select_option(index=20)
    far = page.get_by_label("Month", exact=True).input_value()
    page.locator(f".cal-day[data-date='{far}'][data-reason]").wait_for()
    assert one.trouble() == []


def days_to(home: Home, weekday: int) -> int:
    """How many days it is, at least two, to the next Monday (0), Tuesday, ..., Sunday (6)."""
    return (weekday - home.day(2).weekday()) % 7 + 2


def test_by_months_days_change_by_mouse_over_the_weeks_end_and_by_keys(
    browser: "Browser", product: str, home: Home, host: User
) -> None:
    home.connect_and_push()
    one = Calendar(browser, product, host, viewport={"width": 1400, "height": 1150}).visit("?view=months")
    page = one.page
    one.cell(home, 2, sync="synced").wait_for()

    # By mouse, from a Saturday to the Tuesday after: what lies between is what lies between in time.
    saturday = days_to(home, 5)
    one.drag(home, saturday, saturday + 3)
    assert page.locator("#cal-pane-title").inner_text().endswith("4 ночи")
    page.fill("[name=price]", "4000")
    one.save()
    one.cell(home, saturday + 3, sync="pending").wait_for()
    work()
    one.cell(home, saturday + 3, sync="synced").wait_for()
    theirs = home.avito.calendar(home.item)
    assert [theirs[home.day(saturday + step)].price for step in (-1, 0, 1, 2, 3, 4)] == [2300, *[4600] * 4, 2300]
    assert one.cell(home, saturday).inner_text().replace("\xa0", " ").split("\n")[1:] == [
        "4 000 ₽",
        "4 600 ₽",
        "мин. 1",
    ]
    said = one.cell(home, saturday).get_attribute("aria-label") or ""
    assert said.startswith("Суббота, ")
    assert said.endswith(" Авито знает.")

    # By keys, into a month that was not loaded too; Shift chooses, and the pane has what is chosen.
    def reached(*keys: str) -> str:
        for key in keys:
            page.keyboard.press(key)
        return str(page.evaluate("document.activeElement.dataset.date"))

    tuesday = home.day(saturday + 3)
    assert reached("Escape") == tuesday.isoformat()
    assert reached("ArrowDown", "ArrowLeft") == (tuesday + dt.timedelta(days=6)).isoformat()
    assert reached("End") == (tuesday + dt.timedelta(days=12)).isoformat()
    assert reached("Home") == (tuesday + dt.timedelta(days=6)).isoformat()
    away = reached(*["PageUp"] * 4)
    assert away < home.day(-80).isoformat()
    page.locator(f".cal-day[data-date='{away}'][data-reason=past]").wait_for()
    page.get_by_role("button", name="Сегодня").click()
    one.cell(home, 1).click(position={"x": 9, "y": 9})
    reached("Escape", "Shift+ArrowDown", "Enter")
    assert page.locator("#cal-pane-title").inner_text().endswith("8 ночей")
    assert page.locator(".cal-day[aria-selected=true]").count() == 8

    # The same days in the other view; the address remembers which.
    page.get_by_role("radio", name="Строкой").check()
    assert page.locator(".cal-lane .cal-day[aria-selected=true]").count() == 8
    assert page.url.endswith("?view=timeline")
    assert one.trouble() == []


def test_by_months_a_stay_goes_on_in_the_next_week_and_a_finger_chooses_days(
    browser: "Browser", product: str, home: Home, host: User
) -> None:
    home.connect_and_push()
    friday = days_to(home, 4)
    home.set_rate(friday + 7, closed=True)
    one = Calendar(browser, product, host, **PHONE).visit(f"?property={home.id}&view=months")
    page = one.page
    one.cell(home, friday + 7, reason="closed").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("document.getElementById('cal-scroll').scrollWidth") <= 390

    # A guest books from Friday to Wednesday: the bar is there by itself, over two weeks, round at its real ends alone.
    home.avito.book(home.item, home.day(friday), home.day(friday + 5), name="Вера")
    home.read_now()
    bars = one.bar("Вера")
    bars.nth(1).wait_for()
    ends = [{"is-begun", "is-unended"} & set((part.get_attribute("class") or "").split()) for part in bars.all()]
    assert (ends[0], ends[-1]) == ({"is-unended"}, {"is-begun"})
    assert all(len(part) == 2 for part in ends[1:-1])  # a month that ends between
    (left, _y), bar = one.middle(one.cell(home, friday)), bars.first.bounding_box()
    assert bar
    assert abs(bar["x"] - left) < 3
    home.avito.book(home.item, home.day(friday + 1), home.day(friday + 3), name="Иван", force=True)
    home.read_now()
    page.locator(".cal-bar.is-clash", has_text="Иван").first.wait_for()
    one.cell(home, friday + 1).and_(page.locator(".is-clash")).wait_for()

    # A finger that has rested on a day chooses, and the pane comes from below; one that moves at once scrolls.
    start = one.cell(home, friday)
    start.scroll_into_view_if_needed()
    (x, y), end = one.middle(start), one.middle(one.cell(home, friday + 4))
    touch = one.context.new_cdp_session(page)
    touch.send("Input.dispatchTouchEvent", {"type": "touchStart", "touchPoints": [{"x": x, "y": y}]})
    page.locator(".cal-day[aria-selected=true]").wait_for()
    touch.send("Input.dispatchTouchEvent", {"type": "touchMove", "touchPoints": [{"x": end[0], "y": end[1]}]})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    page.get_by_role("heading", name="5 ночей").wait_for()
    page.locator("#cal-summary .cal-note.is-bad", has_text="Две брони").wait_for()
    pane = page.locator("#cal-pane").bounding_box()
    assert pane
    assert (pane["x"], pane["width"], pane["y"] + pane["height"]) == (0, 390, 780)
    assert one.trouble() == []


def test_whoever_has_properties_finds_the_calendar_in_the_sidebar(product: str, home: Home, host: User) -> None:
    client, backend = Client(), "django.contrib.auth.backends.ModelBackend"
    assert client.get("/admin/calendar/").status_code == 302
    clerk = make_user("clerk", "operator", is_staff=True)
    services.add_property(clerk, name="Дача", base_price=900)
    stranger = make_user("stranger", is_staff=True)
    for user, is_found, has_links in ((host, True, True), (clerk, True, False), (stranger, False, False)):
        client.force_login(user, backend=backend)
        page = client.get("/admin/calendar/").content
        assert (b'href="/admin/calendar/"' in client.get("/admin/").content) is is_found
        assert (b" data-links " in page) is has_links

    # Properties lead to their months, for whom that page has something to show.
    months = f"/admin/calendar/?property={home.id}&amp;view=months".encode()
    for user, count in ((host, 1), (make_user("chief", is_superuser=True, is_staff=True), 0)):
        client.force_login(user, backend=backend)
        for path in ("", f"{home.id}/change/"):
            assert client.get(f"/admin/integrations_str/property/{path}").content.count(months) == count
