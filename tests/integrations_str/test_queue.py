"""The queue of connections: who does what, in which order, and what becomes of it when somebody dies."""

import datetime as dt
import os
import signal
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.contrib.auth.models import User
from django.db import IntegrityError, connection, transaction
from django.db.models.functions import Now

from avito_accounts import limits
from avito_accounts.models import Account
from integrations_str import health, queue
from integrations_str.models import ChannelDay, Exchange, Integration, SyncTask
from tests.factories import make_user
from tests.integrations_str.conftest import (
    Home,
    assert_agrees,
    integration_of,
    make_connected,
    make_home,
    start_worker,
    work,
)
from tests.sandbox.driver import Sandbox, wait_for


@pytest.fixture
def others(product: str) -> User:
    return make_user("another host")


def make_due(*homes: Home, seconds_ago: float = 1) -> None:
    """Prices of all of them have waited long enough."""
    due = SyncTask.objects.filter(integration__property__in=[home.id for home in homes])
    due.update(push_at=Now() - dt.timedelta(seconds=seconds_ago), wanted=2)


def test_what_falls_due_while_the_queue_is_looked_at_is_not_left_behind(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "QUIET_SECONDS", 0.012)
    home.connect_and_push()
    for number in range(12):
        home.set_rate(5, price=2500 + number)
        work()
        assert len(home.writes()) == number + 1


def test_one_due_item_is_served_in_the_first_round_whatever_others_have(
    product: str, avito_sandbox: Sandbox, anna: Account, host: User, others: User
) -> None:
    home = make_home(product, avito_sandbox, anna, others)
    home.connect()
    mine, theirs = make_connected(product, avito_sandbox, anna, host, 12), home
    # Five hundred rows without days: they are only taken, not pushed.
    make_due(*mine, seconds_ago=600)
    make_due(theirs)
    taken = queue.claim(2)
    assert {one.integration_id for one in taken} > {integration_of(theirs).pk}
    assert len(taken) == 2


def test_nights_close_before_any_price_of_their_owner_leaves(
    product: str, avito_sandbox: Sandbox, anna: Account, host: User, others: User
) -> None:
    homes = make_connected(product, avito_sandbox, anna, host, 5)
    (stranger,) = make_connected(product, avito_sandbox, anna, others, 1)
    make_due(*homes, stranger, seconds_ago=60)
    assert homes[-1].book(3, 5).status_code == 201
    closing = queue.claim(5, closings_only=True)
    assert [one.integration_id for one in closing] == [integration_of(homes[-1]).pk]
    assert closing[0].is_closing
    assert {one.owner_id for one in queue.claim(5)} == {others.pk}, "it is on its way and not there yet"
    queue.pushed(closing[0])
    closing[0].let_go()
    assert len(queue.claim(5)) == 4
