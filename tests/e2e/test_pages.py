"""Every page in a browser: for keys and screen readers, light and dark, on a phone, and without a word to others."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth.models import User

from tests import pages
from tests.factories import make_user
from tests.pages import Page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage

DESK, PHONE = {"width": 1300, "height": 900}, {"width": 390, "height": 780}
IN_DARK_TOO = ("own", "shell", "list")
LIKE_EACH_OTHER = ("history", "delete", "ask", "add")
"""Kinds whose pages come from one template each: a few stand for all."""
CHECK = """async ([besides, rules]) => {
    const quick = {resultTypes: ["violations"], preload: false, selectors: false};  // sheets and paths are not needed
    const found = await axe.run({exclude: besides}, {...quick, ...rules});
    return found.violations.map((one) => [one.id, one.nodes.slice(0, 3).map((node) => node.html.slice(0, 200))]);
}"""
IN_DARK = {"runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}}


BYTES_MAX = {"html": 90_000, "js": 520_000, "css": 400_000, "woff2": 800_000, "svg": 10_000, "api": 50_000}
"""Of all that a page of ours needs at a first visit, by kind, uncompressed. Scripts, sheets and fonts are
almost all Unfold's; they travel as a quarter of that, and once."""
WEIGH = """() => [performance.getEntriesByType("navigation")[0], ...performance.getEntriesByType("resource")]
    .map((one) => [new URL(one.name).pathname, one.decodedBodySize])"""


class Looker:
    """A browser that opens one page after the other and writes down what is wrong with it."""

    def __init__(self, browser: "Browser", base: str, user: User) -> None:
        axe = pytest.importorskip("axe_playwright_python.base", reason="axe is not installed: make install-browser")
        self.axe: str = axe.AXE_SCRIPT
        self.base, self.name = base, ""
        self.found: list[str] = []
        self.besides: list[str] = []
        self.apps_in_dark: set[str] = set()
        session = pages.visitor(user).cookies["sessionid"].value
        self.cookie: Any = {"name": "sessionid", "value": session, "url": base}
        self.context = browser.new_context(locale="ru-RU")
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self._asked(request.url))
        self.page.on("pageerror", lambda error: self._wrong(str(error)))
        self.page.on("console", self._heard)

    def look_at(self, page: Page) -> None:
        self.name = page.name
        if page.is_for_anybody:
            self.context.clear_cookies()
        else:
            self.context.add_cookies([self.cookie])
        self.page.set_viewport_size(DESK)  # type: ignore[arg-type]
        answer = self.page.goto(self.base + page.path)
        if not answer or answer.status != page.status:
            self._wrong(f"answered {answer and answer.status}")
        if page.name.startswith(("chats_inbox", "str_calendar")):  # filled by scripts
            self.page.wait_for_load_state("networkidle")
        if page.kind == "own":  # lists and forms bring Django's own scripts along
            self._weigh()
        self.page.evaluate(self.axe)
        self._check({})
        self._has_no_sideways_scroll(DESK)
        self.page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        self._has_no_sideways_scroll(PHONE)
        if page.kind in IN_DARK_TOO or self._is_first_form(page):
            self.page.evaluate("document.documentElement.classList.add('dark')")
            self._check(IN_DARK, "in dark, ")
        self.besides = ["#nav-sidebar"]  # once seen is enough

    def _is_first_form(self, page: Page) -> bool:
        """Forms of one app are dark with the same colours."""
        app = page.name.partition(":")[2].partition("_")[0]
        if page.kind != "change" or app in self.apps_in_dark:
            return False
        self.apps_in_dark.add(app)
        return True

    def _check(self, rules: dict[str, Any], how: str = "") -> None:
        for rule, places in self.page.evaluate(CHECK, [self.besides, rules]):
            self._wrong(f"{how}{rule}: {places}")

    def _weigh(self) -> None:
        sizes: dict[str, int] = {}
        for path, size in self.page.evaluate(WEIGH):
            kind = "api" if path.startswith("/api/") else path.rpartition(".")[2] if "." in path else "html"
            sizes[kind] = sizes.get(kind, 0) + size
        for kind, size in sizes.items():
            if size > BYTES_MAX[kind]:
                self._wrong(f"{size} bytes of {kind}")

    def _has_no_sideways_scroll(self, size: dict[str, int]) -> None:
        """Plots take a moment to follow."""
        fits = "(width) => document.documentElement.scrollWidth <= width"
        for _moment in range(20):
            if self.page.evaluate(fits, size["width"]):
                return
            self.page.wait_for_timeout(50)
        width = self.page.evaluate("document.documentElement.scrollWidth")
        self._wrong(f"{width} px wide on a screen of {size['width']}")

    def _asked(self, url: str) -> None:
        if not url.startswith((self.base, "data:", "blob:")):
            self._wrong(f"asked {url}")

    def _heard(self, message: "ConsoleMessage") -> None:
        if message.type == "error" and "Failed to load resource" not in message.text:
            self._wrong(message.text)

    def _wrong(self, what: str) -> None:
        self.found.append(f"{self.name}: {what}")


@pytest.fixture
def root(demo: Callable[[], object]) -> User:
    root = make_user("root", is_superuser=True, is_staff=True)
    demo()
    pages.fill_up()
    return root


def _few_of_a_kind(every: list[Page]) -> Iterator[Page]:
    seen: dict[str, int] = {}
    for page in every:
        seen[page.kind] = seen.get(page.kind, 0) + 1
        if page.kind not in LIKE_EACH_OTHER or seen[page.kind] <= 2:
            yield page


def test_every_page_is_open_to_everybody(browser: "Browser", product: str, root: User) -> None:
    """One test for all pages, since an installation takes long to fill."""
    looker = Looker(browser, product, root)
    for page in _few_of_a_kind(pages.every_page(root)):
        looker.look_at(page)
    assert looker.found == []


def test_what_unfold_made_for_the_mouse_works_by_keys(browser: "Browser", product: str) -> None:
    root = make_user("root", is_superuser=True, is_staff=True)
    looker = Looker(browser, product, root)
    page = looker.page
    looker.context.add_cookies([looker.cookie])
    page.set_viewport_size(DESK)  # type: ignore[arg-type]
    page.goto(f"{product}/admin/")

    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.hash") == "#content"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert page.evaluate("document.getElementById('content').contains(document.activeElement)")

    menu = page.locator("#nav-sidebar [role=button]", has_text="root")
    assert menu.get_attribute("aria-expanded") == "false"
    menu.focus()
    page.keyboard.press("Enter")
    page.locator("#nav-sidebar [role=button][aria-expanded=true]", has_text="root").wait_for()
    page.get_by_role("button", name="Выйти").wait_for()
    side = page.get_by_role("button", name="Показать или скрыть меню").first
    side.focus()
    page.keyboard.press("Space")
    page.locator("#nav-sidebar").wait_for(state="hidden")
    assert looker.found == []
