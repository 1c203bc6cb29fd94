"""The first page of the back office, as those who open it see it."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from api.roles import HOSTS
from avito_accounts.models import Account, DailyStats, moscow_today
from chats.models import WebhookEvent
from config.celery import beat_heart
from integrations_str import bookings, services
from integrations_str.models import Integration, SyncTask
from tests.conftest import Api
from tests.factories import authorize, make_account, make_chat, make_user

pytestmark = pytest.mark.django_db
QUERIES_MAX = 12
AROUND = 5
"""The session, the person, the groups, the sidebar's badge and the languages: what every page asks."""


def open_home(user: User, language: str = "en") -> str:
    client = Client(headers={"accept-language": language})
    client.force_login(user)
    answer = client.get("/admin/")
    assert answer.status_code == 200
    return answer.content.decode()


def make_host(name: str = "host") -> User:
    host = make_user(name, is_staff=True)
    host.groups.add(*host.groups.model.objects.filter(name=HOSTS))
    return host


def connect(owner: User, account: Account, number: int, **task: Any) -> Integration:
    property = services.add_property(owner, name=f"House {number}", base_price=1000)
    now = timezone.now()
    integration = Integration.objects.create(
        property=property,
        account=account,
        item_id=number,
        horizon_from=property.today(),
        last_pull_at=now,
        first_pushed_at=now,
    )
    SyncTask.objects.create(integration=integration, pull_at=now + timedelta(hours=1), **task)
    return integration


def test_a_new_installation_says_what_to_do_first() -> None:
    page = open_home(make_user("root", is_superuser=True, is_staff=True))
    assert "What to do first" in page
    assert 'href="/admin/avito_accounts/account/add/"' in page
    assert "No worker is alive" in page


def test_who_runs_well_is_told_so() -> None:
    beat_heart("worker")
    beat_heart("beat")
    account = make_account(connection_status="connected", balance_real=Decimal(9000))
    DailyStats.objects.create(account=account, date=moscow_today() - timedelta(days=1), views=1234, contacts=5)
    root = make_user("root", is_superuser=True, is_staff=True)
    page = open_home(root)
    assert "Answer the first message" in page
    assert "Add a property" in page
    Account.objects.update(created_at=timezone.now() - timedelta(days=8))
    page = open_home(root)
    assert "Nothing is wrong." in page
    assert "What to do first" not in page
    assert "1,234" in page or "1\N{NO-BREAK SPACE}234" in page


def test_what_is_wrong_stands_there_with_the_way_to_mend_it() -> None:
    owner = make_user("root", is_superuser=True, is_staff=True)
    account = make_account(connection_status="error", connection_error_code="proxy_failed", balance_real=Decimal(12))
    authorize(account)
    Account.objects.filter(pk=account.pk).update(connection_status="error")
    connect(owner, account, 7, dead_at=timezone.now(), push_error_code="avito_unavailable")
    WebhookEvent.objects.create(status=WebhookEvent.Status.DEAD, body=b"{}", received_at=timezone.now())
    page = open_home(owner)
    assert page.count("data-problem") == 6  # the account, its balance, the calendar, two processes, a delivery
    assert "runs low" in page
    assert "Calendar of House 7" in page


def test_a_host_sees_the_own_house_and_nothing_of_the_company() -> None:
    host, other = make_host(), make_host("other")
    account = make_account(balance_real=Decimal(1))
    authorize(account)
    connect(other, account, 8, dead_at=timezone.now(), push_error_code="avito_unavailable")
    mine = connect(host, account, 7)
    start = moscow_today() + timedelta(days=3)
    bookings.book(mine.property, check_in=start, check_out=start + timedelta(days=2))
    page = open_home(host)
    assert "House 7" in page
    assert "House 8" not in page
    assert "runs low" not in page
    assert "Unread chats" not in page
    assert "Next arrivals" in page


def test_unread_chats_and_the_longest_wait_are_there_for_operators() -> None:
    waiting = timezone.now() - timedelta(hours=5)
    make_chat(make_account(), unread_count=2, last_message_at=waiting)
    make_chat(make_account(), unread_count=0)
    page = open_home(make_user("colleague", "operator", is_staff=True))
    assert "Unread chats" in page
    assert "the longest waits for 5\xa0hours" in page


@pytest.mark.parametrize("is_superuser", [True, False])
def test_it_costs_a_dozen_queries_however_much_there_is(is_superuser: bool) -> None:
    root = make_user("root", "admin", is_superuser=is_superuser, is_staff=True)

    def queries() -> int:
        client = Client()
        client.force_login(root)
        client.get("/admin/")
        with CaptureQueriesContext(
            connection,
        ) as spent:
            client.get("/admin/")
        return len(spent)

    for number in range(1, 3):
        account = make_account(balance_real=Decimal(1))
        authorize(account)
        connect(root, account, number)
    few = queries()
    for number in range(3, 12):
        account = make_account(balance_real=Decimal(1))
        authorize(account)
        connect(root, account, number, dead_at=timezone.now(), push_error_code="avito_unavailable")
        make_chat(account, unread_count=1)
    assert queries() == few
    assert few <= QUERIES_MAX + AROUND


def test_the_icon_is_there_also_for_those_who_ask_without_having_read_the_page(nobody: Api) -> None:
    answer = nobody.get("/favicon.ico")
    icon = nobody.get(answer.headers["Location"])
    assert (icon.status_code, icon.headers["Content-Type"]) == (200, "image/svg+xml")
    assert f'href="{answer.headers["Location"]}"' in nobody.get("/admin/login/").text
