"""The inbox in a real browser: two operators at once, what goes wrong, a phone, another language."""

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import LazySettings
from django.contrib.auth.models import User
from django.test import Client

from avito_accounts import webhooks
from avito_accounts.models import Account
from chats import services
from chats.models import CannedReply, Chat, Message
from tests.conftest import Api
from tests.e2e.conftest import Product
from tests.factories import authorize, make_account, make_chat, make_message, make_user
from tests.sandbox.driver import ALL_SCOPES, ANNA, Sandbox, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page, Route

PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "has_touch": True, "is_mobile": True}
NASTY = "<img src=x onerror='window.broken = 1'><b>bold</b>"


class Desk:
    """The inbox as one person has it open."""

    def __init__(self, browser: "Browser", base: str, user: User, *, locale: str = "ru-RU", **options: Any) -> None:
        session = Client()
        session.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
        self.context = browser.new_context(locale=locale, **{"viewport": {"width": 1300, "height": 800}, **options})
        self.context.add_cookies([{"name": "sessionid", "value": session.cookies["sessionid"].value, "url": base}])
        self.page: Page = self.context.new_page()
        self.page.set_default_timeout(10_000)
        self.errors: list[str] = []
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.address = f"{base}/admin/inbox/"

    def visit(self, query: str = "") -> "Desk":
        self.page.goto(self.address + query)
        self.page.locator("#inbox-more").wait_for(state="hidden")
        self.page.evaluate("window.isTheSamePage = true")
        return self

    def row(self, text: str) -> "Locator":
        return self.page.locator(".inbox-row", has_text=text)

    def rows(self) -> list[str]:
        return self.page.locator(".inbox-row-name").all_inner_texts()

    def message(self, text: str, state: str = "") -> "Locator":
        state_shown = self.page.locator(f"[data-state={state}]") if state else None
        return self.page.locator(".inbox-message", has_text=text, has=state_shown)

    def say(self, text: str) -> None:
        self.page.fill("#inbox-text", text)
        self.page.keyboard.press("Enter")

    def shown(self, wanted: Callable[[], bool]) -> None:
        def look() -> bool:
            self.page.wait_for_timeout(20)  # the page lives only while somebody waits for it
            return wanted()

        wait_for(look, 10)

    def trouble(self) -> list[str]:
        """What broke; and what was seen shall have come without a reload."""
        if not self.page.evaluate("window.isTheSamePage && !window.broken"):
            self.errors.append("the page was loaded anew, or has run what a buyer wrote")
        return self.errors


def picture() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")

    head = (8).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(72))) + chunk(b"IEND", b"")


def connected(sandbox: Sandbox) -> Account:
    pair = sandbox.tokens(ANNA, ALL_SCOPES)
    account = make_account(name="Анна", avito_user_id=ANNA)
    authorize(account, access_token=pair["access_token"], refresh_token=pair["refresh_token"])
    return account


def test_two_operators_share_what_buyers_write_what_is_answered_and_what_is_read(
    browser: "Browser", running: Product, avito_sandbox: Sandbox, settings: LazySettings
) -> None:
    settings.AVITO_API_BASE_URL, settings.PUBLIC_URL = avito_sandbox.base, running.base
    webhooks.subscribe(connected(avito_sandbox))
    maria, oleg = (
        Desk(browser, running.base, make_user(name, "operator", is_staff=True)) for name in ("maria", "oleg")
    )
    for one in (maria, oleg):
        one.visit()
    assert maria.page.locator("#inbox-nothing").inner_text().startswith("forum\nЧатов пока нет")

    # A buyer writes: both see it, and that it is unread, until one of them has had it open.
    chat_id = avito_sandbox.control("POST", "/chats", sellerId=ANNA, buyerName="Вера")["chatId"]
    avito_sandbox.control("POST", f"/chats/{chat_id}/buyer-message", text="Можно с собакой?")
    for one in (maria, oleg):
        one.row("Можно с собакой?").locator(".inbox-badge", has_text="1").wait_for()
        one.shown(lambda one=one: one.page.title().startswith("(1)"))  # type: ignore[misc]
    maria.row("Вера").click()
    maria.message("Можно с собакой?").wait_for()
    oleg.row("Вера").locator(".inbox-badge").wait_for(state="hidden")
    oleg.shown(lambda: "(1)" not in oleg.page.title())
    oleg.row("Вера").click()

    # An answer: one row all the time, though the live event overtakes the service's own answer; then it is sent.
    counted: list[int] = []

    def slowly(route: "Route") -> None:
        response = route.fetch()
        oleg.message("Конечно").first.wait_for()
        maria.page.wait_for_timeout(300)
        counted.append(maria.message("Конечно").count())
        route.fulfill(response=response)

    maria.page.route("**/reply*", slowly, times=1)
    avito_sandbox.fault("latency", "/messages$", seconds=1.2, times=1, method="POST")
    maria.say("Конечно, можно")
    oleg.message("Конечно, можно", "queued").wait_for()
    oleg.message("Конечно, можно", "sent").wait_for()
    maria.message("Конечно, можно", "sent").wait_for()
    maria.shown(lambda: counted == [1])
    assert maria.message("Конечно").count() == oleg.message("Конечно").count() == 1
    assert maria.page.input_value("#inbox-text") == ""

    # Avito refuses: both see why, and one has it sent again.
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", messengerPaid=False)
    maria.say("Приезжайте")
    maria.message("подписку", "failed").wait_for()
    avito_sandbox.control("PATCH", f"/sellers/{ANNA}", messengerPaid=True)
    oleg.message("Приезжайте", "failed").get_by_role("button", name="Повторить").click()
    maria.message("Приезжайте", "sent").wait_for()

    # A picture, and somebody takes the chat.
    with oleg.page.expect_file_chooser() as chooser:
        oleg.page.get_by_label("Отправить картинку").click()
    chooser.value.set_files({"name": "a.png", "mimeType": "image/png", "buffer": picture()})
    oleg.page.click(".inbox-send")
    for one in (maria, oleg):
        one.page.locator(".inbox-thumb img").wait_for()
        one.shown(lambda one=one: one.page.locator(".inbox-message").count() == 4)  # type: ignore[misc]
    oleg.page.click("#inbox-take")
    maria.row("Вера").locator(".inbox-chip", has_text="oleg").wait_for()

    at_avito = avito_sandbox.control("GET", f"/chats/{chat_id}/messages")
    assert [row["type"] for row in at_avito] == ["image", "text", "text", "text"]
    assert maria.trouble() + oleg.trouble() == []


@pytest.fixture
def operator(product: str) -> User:
    return make_user("operator", "operator", is_staff=True)


def test_the_list_obeys_filters_search_and_keys_and_takes_no_words_for_markup(
    browser: "Browser", product: str, operator: User
) -> None:
    account = make_account()
    names = ["Вера", "Глеб", "Дина"]
    chats = {name: make_chat(account, name=name, item_title="Студия", unread_count=name == "Глеб") for name in names}
    nasty = make_chat(make_account(), name=NASTY, item_title=NASTY, tags=["<i>tag</i>"], status="closed")
    for chat in (*chats.values(), nasty):
        message = make_message(chat, text=f"{NASTY} от {chat.name}")
        Chat.objects.filter(pk=chat.pk).update(
            last_message=message, last_message_at=message.created_at, activity_at=message.created_at, messages_count=1
        )
    CannedReply.objects.create(title="Приветствие", text="Здравствуйте, {name}!")
    one = Desk(browser, product, operator).visit()
    page = one.page
    assert one.rows() == ["Дина", "Глеб", "Вера"]

    # Filters stand in the address, for links and for the way back.
    page.locator(".inbox-toggle").click()
    one.shown(lambda: one.rows() == ["Глеб"])
    assert page.url.endswith("?unread=true")
    page.go_back()
    one.shown(lambda: len(one.rows()) == 3)
    page.select_option("[name=status]", "closed")
    one.shown(lambda: one.rows() == [NASTY])
    page.keyboard.press("Escape")
    one.row("<b>bold</b>").click()
    one.message("<b>bold</b>").wait_for()
    assert page.locator("#inbox-name").inner_text() == NASTY
    assert page.locator("#inbox img[src=x], #inbox .inbox-body b, #inbox i").count() == 0

    # Two letters are too few; nothing found says how to get back.
    one.visit()
    page.keyboard.press("Slash")
    page.keyboard.type("ди")
    page.locator("#inbox-search-hint").wait_for()
    assert len(one.rows()) == 3
    page.keyboard.type("на")
    one.shown(lambda: one.rows() == ["Дина"])
    page.fill("#inbox-search", "абракадабра")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Сбросить фильтры").click()
    one.shown(lambda: len(one.rows()) == 3)

    # By keys alone: the next unread one, a canned reply by its beginning, back to the list, the third chat.
    page.locator("#inbox-list").focus()
    page.keyboard.press("u")
    one.message("от Глеб").wait_for()
    page.keyboard.press("r")
    page.keyboard.type("/прив")
    page.locator("#inbox-canned [role=option]").wait_for()
    page.keyboard.press("Enter")
    assert page.input_value("#inbox-text") == "Здравствуйте, Глеб!"
    page.keyboard.press("Escape")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    one.message("от Вера").wait_for()
    assert page.input_value("#inbox-text") == ""  # each chat has its own draft
    page.keyboard.press("Escape")
    page.locator("#inbox-choose").wait_for()

    # What no longer fits leaves by itself.
    services.change(chats["Дина"], status="closed")
    one.shown(lambda: one.rows() == ["Глеб", "Вера"])
    assert one.trouble() == []


def test_nothing_is_lost_while_the_connection_is_away(
    browser: "Browser", product: str, operator: User, avito_sandbox: Sandbox
) -> None:
    chat_id = avito_sandbox.control("POST", "/chats", sellerId=ANNA)["chatId"]
    chat = make_chat(connected(avito_sandbox), avito_id=chat_id, name="Вера")
    for number in range(130):
        make_message(chat, text=f"Письмо {number}.")
    one = Desk(browser, product, operator).visit(f"?chat={chat_id}")
    one.message("Письмо 129.").wait_for()
    one.page.evaluate("document.getElementById('inbox-pane').scrollTop = 0")
    one.message("Письмо 79.").wait_for()
    one.shown(lambda: one.page.locator(".inbox-message").count() == 100)
    assert one.page.evaluate("document.getElementById('inbox-pane').scrollTop") > 500  # the place was kept

    one.context.set_offline(offline=True)
    one.page.locator("#inbox-offline", has_text="Нет связи").wait_for()
    one.say("Ещё свободно")
    one.page.locator("#inbox-error", has_text="Текст сохранён").wait_for()
    assert one.page.input_value("#inbox-text") == "Ещё свободно"
    assert one.message("Ещё свободно").count() == 0
    Api(product, operator).post(f"/api/v1/avito/chats/{chat_id}/reply", {"text": "Ответ коллеги"})
    one.context.set_offline(offline=False)
    one.message("Ответ коллеги", "queued").wait_for()
    one.page.locator("#inbox-offline").wait_for(state="hidden")
    one.page.click(".inbox-send")
    one.message("Ещё свободно", "queued").wait_for()
    assert Message.objects.filter(text="Ещё свободно").count() == 1
    assert one.page.locator("#inbox-error").is_hidden()
    assert one.trouble() == []


def test_on_a_phone_there_is_one_pane_at_a_time_and_in_english(
    browser: "Browser", product: str, operator: User
) -> None:
    chat = make_chat(make_account(), name="Vera", phone="+79161234567", city="Suzdal", tags=["a long tag"] * 3)
    make_message(chat, text="W" * 300)
    one = Desk(browser, product, operator, locale="en-GB", **PHONE).visit()
    page = one.page
    assert page.get_by_label("Whose chats").is_visible()
    one.row("Vera").tap()
    one.message("WWW").wait_for()
    assert not page.locator(".inbox-left").is_visible()
    page.get_by_label("Assignee, status and tags").tap()
    page.get_by_role("button", name="Close the chat").wait_for()
    sizes = page.evaluate(
        """[...document.querySelectorAll("#inbox button, #inbox a, #inbox select, #inbox textarea")]
        .filter((one) => one.checkVisibility() && !one.closest(".inbox-below > a"))
        .map((one) => [one.outerHTML.slice(0, 80), one.getBoundingClientRect().height])"""
    )
    assert [one for one in sizes if one[1] < 40 and "inbox-item" not in one[0]] == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    page.get_by_label("Back to the chats").tap()
    one.row("Vera").wait_for()
    assert page.locator(".inbox-right").is_hidden()
    assert one.trouble() == []


def test_the_inbox_is_for_those_who_may_use_chats(product: str, operator: User) -> None:
    client = Client()
    assert client.get("/admin/inbox/").status_code == 302
    backend = "django.contrib.auth.backends.ModelBackend"
    client.force_login(make_user("stranger", is_staff=True), backend=backend)
    assert client.get("/admin/inbox/").status_code == 403
    client.force_login(operator, backend=backend)
    assert b'href="/admin/inbox/"' in client.get("/admin/").content
    assert client.get("/admin/inbox/").status_code == 200
