"""Properties connected to listings of the sandbox, as they are after months: Avito knows all, nothing waits."""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from avito_accounts.models import Account
from bench.syncing import control, make_sellers
from integrations_str import bookings, calendar, pull
from integrations_str.calendar import Tier
from integrations_str.models import Access, Integration, Property, Rate, SyncTask
from integrations_str.state import states_of

EACH_OWNER = 10
"""Properties of an owner, all of one account."""
PRICE, CHANNEL_PRICE = 2000, 2300
SHARES: dict[Tier, float] = {"hot": 0.05, "normal": 0.45, "cold": 0.5}
LATER = timedelta(days=1)

KNOWN_DAYS = """
INSERT INTO integrations_str_channelday (integration_id, date, price, min_stay, is_open, refusal)
SELECT integration.id, day::date, %(price)s, 1, night.id IS NULL AND NOT coalesce(rate.closed, false), ''
FROM integrations_str_integration integration
CROSS JOIN generate_series(%(today)s::date, %(today)s::date + 364, interval '1 day') day
LEFT JOIN integrations_str_night night ON night.property_id = integration.property_id AND night.date = day::date
LEFT JOIN integrations_str_rate rate ON rate.property_id = integration.property_id AND rate.date = day::date
"""


@dataclass(frozen=True)
class Home:
    """A connected property. `owner_id`: its owner."""

    property_id: int
    integration_id: int
    item_id: int
    owner_id: int
    tier: Tier


def forget() -> None:
    """What an earlier part has made."""
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE integrations_str_property, integrations_str_access CASCADE")
    control("DELETE", "/journal")
    control("DELETE", "/rent/calls")


def tiers_of(count: int) -> list[Tier]:
    """So many tiers in their shares; at least one each."""
    made: list[Tier] = []
    for tier, share in SHARES.items():
        made += [tier] * max(1, round(count * share))
    return made[:count]


def make(tiers: Sequence[Tier], *, is_polled: bool = False) -> list[Home]:
    """As many connected properties, of owners with EACH_OWNER of them. `is_polled`: due as in the midst of polling."""
    forget()
    owners = -(-len(tiers) // EACH_OWNER)
    users = [User.objects.get_or_create(username=f"host {number}")[0] for number in range(owners)]
    sellers = make_sellers(owners, [1], f"rent-{Account.objects.count()}")
    accounts = [seller.account for seller in sellers]
    items = [
        id
        for account in accounts
        for id in control("POST", "/rent/items", sellerId=account.avito_user_id, count=EACH_OWNER)["ids"]
    ]
    properties = make_properties(users, len(tiers))
    _furnish(zip(properties, tiers, strict=True))
    rows = connect(properties, accounts, items)
    Access.objects.bulk_create(Access(account=one, user=user) for one, user in zip(accounts, users, strict=True))
    homes = [
        Home(row.property_id, row.pk, row.item_id, row.property.owner_id, tier)
        for row, tier in zip(rows, tiers, strict=True)
    ]
    with connection.cursor() as cursor:
        cursor.execute(KNOWN_DAYS, {"price": CHANNEL_PRICE, "today": properties[0].today()})
        cursor.execute("ANALYZE")
    _check(rows, tiers)
    if is_polled:
        _stagger(homes)
    return homes


def make_properties(users: Sequence[User], count: int) -> list[Property]:
    return Property.objects.bulk_create(
        Property(owner=users[number // EACH_OWNER % len(users)], name=f"home {number}", base_price=PRICE)
        for number in range(count)
    )


def connect(properties: Sequence[Property], accounts: Sequence[Account], items: Iterable[int]) -> list[Integration]:
    """With a row in the queue each, where nothing is due before tomorrow."""
    now = timezone.now()
    facts: dict[str, Any] = {
        "base_price": CHANNEL_PRICE,
        "base_min_stay": 1,
        "connected_at": now - timedelta(days=200),
        "first_pushed_at": now,
        "last_pull_at": now,
    }
    rows = Integration.objects.bulk_create(
        Integration(
            property=property,
            account=accounts[number // EACH_OWNER % len(accounts)],
            item_id=item,
            horizon_from=property.today(),
            **facts,
        )
        for number, (property, item) in enumerate(zip(properties, items, strict=False))
    )
    SyncTask.objects.bulk_create(SyncTask(integration=row, pull_at=now + LATER) for row in rows)
    return rows


def _furnish(homes: Iterable[tuple[Property, Tier]]) -> None:
    """What makes a property hot (somebody comes in two days), normal (it is for sale), or cold (closed for weeks)."""
    closed: list[Rate] = []
    for property, tier in homes:
        today = property.today()
        if tier == "hot":
            bookings.book(property, check_in=today + timedelta(days=2), check_out=today + timedelta(days=4))
        if tier == "cold":
            end = today + timedelta(days=calendar.COLD_CLOSED_DAYS + 7)
            closed += [Rate(property=property, date=day, closed=True) for day in calendar.span(today, end)]
    Rate.objects.bulk_create(closed)


def _check(rows: Sequence[Integration], tiers: Sequence[Tier]) -> None:
    """They are what they were made to be; else the measurement would be another one."""
    for row, tier in zip(rows, tiers, strict=True):
        assert calendar.tier(pull.traffic_of(row, None)) == tier
    sample = rows[:: max(1, len(rows) // 50)]
    assert not any(state.changes.days or state.base_differs for state in states_of(sample).values())


def _stagger(homes: Iterable[Home]) -> None:
    """Each at some place of its own interval."""
    chance, now = random.Random(1), timezone.now()
    tasks = {task.integration_id: task for task in SyncTask.objects.all()}
    for home in homes:
        seconds = 60 * calendar.TIER_SHARES[home.tier] * chance.random()
        tasks[home.integration_id].pull_at = now + timedelta(seconds=seconds)
    SyncTask.objects.bulk_update(tasks.values(), ["pull_at"], batch_size=1000)


def day(number: int) -> date:
    """So many days from today, where all of them stand."""
    return Property(timezone="Europe/Moscow").today() + timedelta(days=number)
