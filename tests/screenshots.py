"""The pictures of the READMEs, taken from the running product with `manage.py demo` in it.

    python -m tests.screenshots [FOLDER]

starts the whole service on a folder of its own, fills it, and writes `FOLDER/<language>/<page>.png` (docs/images unless
said). Needs Chromium and Playwright: make install-browser.
"""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chromium import launch
from tests.config.test_run import END_SECONDS, REPO, Service

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

WHO = {"DJANGO_SUPERUSER_USERNAME": "admin", "DJANGO_SUPERUSER_PASSWORD": "only for these pictures"}
DESKTOP: dict[str, Any] = {"viewport": {"width": 1360, "height": 850}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 780}, "is_mobile": True, "has_touch": True}
LANGUAGES = {"ru": "ru-RU", "en": "en-GB"}
ITEM = "1768287512"
"""A listing that every sandbox begins with."""


def home(page: "Page", base: str) -> None:
    page.goto(f"{base}/admin/")


def inbox(page: "Page", base: str) -> None:
    page.goto(f"{base}/admin/inbox/")
    page.get_by_text("Тимур").first.click()
    page.get_by_text("Ключи оставили в ящике.").last.wait_for()


def account(page: "Page", base: str) -> None:
    page.goto(f"{base}/admin/avito_accounts/account/1/change/")


def calendar(page: "Page", base: str) -> None:
    page.goto(f"{base}/admin/calendar/")
    page.locator(".cal-bar").first.wait_for()


def months(page: "Page", base: str) -> None:
    page.goto(f"{base}/admin/calendar/?property=1&view=months")
    page.locator(".cal-bar").first.wait_for()


def connect(page: "Page", base: str) -> None:
    """The last step: prices with the markup."""
    page.goto(f"{base}/admin/properties/4/connect/?step=1")
    page.locator("form:has(input[value=use]) button").click()
    page.get_by_role("radio", name="Анна Смирнова").check()
    page.locator("button.is-main").click()
    page.fill("#connect-item", ITEM)
    page.locator("button.is-main").click()
    page.locator("#connect-now").wait_for()


def system(page: "Page", base: str) -> None:
    page.goto(f"{base}/admin/system/")


PAGES: dict[str, tuple[Callable[["Page", str], None], dict[str, Any]]] = {
    "home": (home, DESKTOP),
    "inbox": (inbox, DESKTOP),
    "account": (account, DESKTOP),
    "calendar": (calendar, DESKTOP),
    "months": (months, DESKTOP),
    "phone": (months, PHONE),
    "connect": (connect, DESKTOP),
    "system": (system, DESKTOP),
}


def take(browser: "Browser", base: str, folder: Path, locale: str) -> None:
    """All pictures in one language."""
    folder.mkdir(parents=True, exist_ok=True)
    signing_in = browser.new_context(locale=locale)
    page = signing_in.new_page()
    page.goto(f"{base}/admin/login/")
    page.fill("input[name=username]", WHO["DJANGO_SUPERUSER_USERNAME"])
    page.fill("input[name=password]", WHO["DJANGO_SUPERUSER_PASSWORD"])
    page.click("button[type=submit]")
    page.wait_for_url(f"{base}/admin/")
    for name, (show, size) in PAGES.items():
        context = browser.new_context(locale=locale, storage_state=signing_in.storage_state(), **size)
        page = context.new_page()
        page.emulate_media(reduced_motion="reduce")
        show(page, base)
        page.wait_for_timeout(700)  # plots draw themselves
        page.screenshot(path=str(folder / f"{name}.png"))
        context.close()


def main(folder: Path) -> None:
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as data:
        service = Service(Path(data), None, **WHO)
        try:
            service.wait_ready()
            base = f"http://127.0.0.1:{service.port}"
            ports = {"PORT": str(service.port), "SANDBOX_PORT": str(service.sandbox_port), "AVITO_DATA_DIR": data}
            subprocess.run([sys.executable, "manage.py", "demo"], cwd=REPO, env={**os.environ, **ports}, check=True)
            with sync_playwright() as play:
                browser = launch(play)
                for language, locale in LANGUAGES.items():
                    take(browser, base, folder / language, locale)
                browser.close()
        finally:
            service.process.terminate()
            service.process.wait(END_SECONDS)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else REPO / "docs/images")
