"""A newcomer's first five minutes, in a real browser."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chats.models import Message
from tests.conftest import Api
from tests.e2e.conftest import Product
from tests.factories import PASSWORD, make_user
from tests.sandbox.driver import Sandbox, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture
def page(browser: "Browser", running: Product) -> "Iterator[Page]":
    page = browser.new_context(locale="en-GB", viewport={"width": 1300, "height": 900}).new_page()
    page.set_default_timeout(15_000)
    yield page
    if folder := os.environ.get("SCREENSHOTS"):
        page.screenshot(path=str(Path(folder) / "last.png"))


def test_a_newcomer_connects_an_account_sees_a_buyers_message_and_answers_it(
    page: "Page", running: Product, avito_sandbox: Sandbox
) -> None:
    make_user("newcomer", "admin", is_staff=True)
    page.goto(f"{running.base}/admin/")
    page.fill("input[name=username]", "newcomer")
    page.fill("input[name=password]", PASSWORD)
    page.click("button[type=submit]")

    page.goto(f"{running.base}/admin/avito_accounts/account/add/")
    page.fill("input[name=name]", "My flats")
    page.click("button[name=_continue]")
    page.click("text=Connect Avito")

    # Avito's consent page, played by the sandbox.
    seller = page.locator("select[name=user_id] option").first.get_attribute("value") or ""
    page.select_option("select[name=user_id]", seller)
    page.click("#allow")
    page.wait_for_selector("#oauth-result[data-code=success]")

    chat_id = avito_sandbox.control("POST", "/chats", sellerId=int(seller), buyerName="Мария")["chatId"]
    wait_for(lambda: avito_sandbox.control("GET", "/sellers")[0]["webhooks"], 10)
    page.goto(f"{avito_sandbox.base}/buyer?chat_id={chat_id}")
    page.fill("#text", "Is it free on Friday?")
    page.click("#send")

    # The buyer's name is no part of the delivery: the chat is read for it.
    wait_for(lambda: Message.objects.filter(text="Is it free on Friday?", chat__name="Мария").exists(), 10)
    page.goto(f"{running.base}/admin/chats/chat/")
    page.click("text=Мария")
    page.wait_for_selector("article:has-text('Is it free on Friday?')")
    page.fill("#reply-text", "Yes, from noon on")
    page.click("form#reply button[type=submit]")
    wait_for(lambda: Message.objects.filter(text="Yes, from noon on", delivery_status="sent").exists(), 10)

    page.goto(f"{avito_sandbox.base}/buyer?chat_id={chat_id}")
    page.wait_for_selector(".message.seller:has-text('Yes, from noon on')")


def test_the_api_documentation_opens_without_a_word_to_the_outside(page: "Page", running: Product) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{running.base}/api/docs")
    page.get_by_text("/api/v1/avito/chats", exact=True).first.wait_for()
    assert [url for url in asked if not url.startswith((running.base, "data:"))] == []
    assert Api(running.base).get("/api/schema").status_code == 200
