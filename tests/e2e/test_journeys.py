"""What goes wrong is found on the first page, and mended from there, in a real browser."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from avito_accounts import jobs
from avito_accounts import tasks as account_tasks
from avito_accounts.models import Account, Job
from chats import tasks as chat_tasks
from chats.models import Chat, WebhookEvent
from config.celery import beat_heart
from tests import pages
from tests.factories import look_after_webhook, make_user
from tests.sandbox.driver import ANNA, Sandbox, wait_for

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


@pytest.fixture
def page(browser: "Browser", product: str) -> "Page":
    for name in ("worker", "beat"):
        beat_heart(name)
    admin = make_user("admin", "admin", is_staff=True)
    context = browser.new_context(locale="ru-RU", viewport={"width": 1300, "height": 900})
    session = pages.visitor(admin).cookies["sessionid"].value
    context.add_cookies([{"name": "sessionid", "value": session, "url": product}])
    page = context.new_page()
    page.set_default_timeout(10_000)
    return page


@pytest.fixture
def work() -> Callable[[], None]:
    """What a worker would do now."""

    def work() -> None:
        account_tasks.work_jobs()
        chat_tasks.process_inbox()
        for chat in Chat.objects.filter(sync_due_at__isnull=False):
            chat_tasks.sync_chat(chat.pk)

    return work


def test_a_delivery_that_was_given_up_is_found_and_its_message_still_arrives(
    page: "Page", product: str, avito_sandbox: Sandbox, anna: Account, work: Callable[[], None]
) -> None:
    look_after_webhook(anna.pk)
    chat = avito_sandbox.control("POST", "/chats", sellerId=ANNA, buyerName="Мария")["chatId"]
    avito_sandbox.control("POST", f"/chats/{chat}/buyer-message", text="Свободно ли в пятницу?")
    wait_for(lambda: WebhookEvent.objects.exists())
    WebhookEvent.objects.update(status=WebhookEvent.Status.DEAD, deaths=3)  # three workers were killed over it
    work()
    assert not Chat.objects.filter(avito_id=chat).exists()

    page.goto(f"{product}/admin/")
    page.locator("[data-problem] a[href*=webhookevent]").click()
    page.locator("#result_list tbody th a, #result_list tbody td a").first.click()
    page.locator("a[href$='/replay/']").first.click()
    page.locator("#content form button[type=submit]").click()
    page.wait_for_url("**/webhookevent/**")
    work()

    page.goto(f"{product}/admin/inbox/")
    page.get_by_text("Мария").first.click()
    page.locator("article, li, p", has_text="Свободно ли в пятницу?").first.wait_for()
    page.goto(f"{product}/admin/")
    assert page.locator("[data-problem]").count() == 0


def test_an_account_that_lost_its_access_is_named_and_gets_it_back(
    page: "Page", product: str, avito_sandbox: Sandbox, anna: Account, work: Callable[[], None]
) -> None:
    avito_sandbox.control("POST", "/tokens/revoke", sellerId=ANNA)
    jobs.queue(Job.Kind.CHECK, Account.objects.all())
    work()

    page.goto(f"{product}/admin/")
    problem = page.locator("[data-problem]", has_text="Анна")
    assert "подключ" in problem.inner_text().lower()
    problem.locator("a[href$='/connect/']").click()

    # On Avito's page, which the sandbox plays.
    page.select_option("select[name=user_id]", str(ANNA))
    page.click("#allow")
    page.locator("#oauth-result[data-code=success] a").click()
    assert page.locator("[data-problem]").count() == 0
    page.goto(f"{product}/admin/")
    assert page.locator("[data-problem]").count() == 0
