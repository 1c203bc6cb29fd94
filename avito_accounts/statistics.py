"""Figures of an account: what it has, what its listings do, day by day. Days are Moscow's, as Avito's own are."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, TypeVar

import structlog
from django.db import connection, transaction
from django.db.models import Q
from django.utils import timezone

import avito
from avito.items import PAGES_MAX
from avito.statistics import DAYS_MAX, IDS_MAX
from avito.types import Balance, DayStatistics, Owner
from avito_accounts import services
from avito_accounts.errors import AccountUnusable, WrongOwner, code_of, text_of, words
from avito_accounts.models import Account, DailyStats, moscow_today
from notifications import events

log = structlog.get_logger(__name__)
T = TypeVar("T")

DAYS = 30
"""Days that `views_count` and `contacts_count` cover, with today."""
ROWS_PER_CALL = IDS_MAX * 60
"""Listings times days of one call: Avito's answer stays well below what the client takes."""

COUNTERS = ("views", "contacts", "favorites")


today = moscow_today


@dataclass
class Synced:
    """What one synchronisation has read. Parts that failed are None, and `failures` says why."""

    at: datetime
    today: date
    owner: Owner | None = None
    balance: Balance | None = None
    listings: tuple[int, ...] | None = None
    days: list[DayStatistics] | None = None
    failures: dict[str, Exception] = field(default_factory=dict)

    def warnings(self) -> list[str]:
        """The parts that failed, each with the reason in the reader's language."""
        return [f"{part}: {words(code_of(error), text_of(error))}" for part, error in self.failures.items()]


def sync(account: Account, *, with_owner: bool = False, with_missed_days: bool = False) -> Synced:
    """Read balance, listings and statistics, and keep them. A part that fails keeps its old values.

    `with_owner`: ask for the profile as well, one call more. `with_missed_days`: read back to the first day without
    figures, too. Raises what the first part raised if none succeeded: AvitoError, AccountUnusable.
    """
    synced = Synced(timezone.now(), today())
    since = first_missed_day(account, synced.today) if with_missed_days else _window_start(synced.today)
    Account.objects.filter(pk=account.pk).update(sync_tried_at=synced.at)
    if account.connection_error_code in services.WRONG_OWNER:  # the figures would be another profile's
        raise WrongOwner(account.connection_error_code)
    user_id = services.user_id(account)
    read = _Reader(synced)
    if with_owner:
        synced.owner = read("accountInfo", lambda: services.identify(account))
    synced.balance = read("balance", lambda: services.call(account, lambda client: client.user.balance(user_id)))
    synced.listings = read("items", lambda: active_listings(account))
    if synced.listings is not None:
        ids = synced.listings
        synced.days = read("stats", lambda: daily_sums(account, user_id, ids, since, synced.today))
    else:
        synced.failures["stats"] = synced.failures["items"]
    if (synced.owner, synced.balance, synced.listings) == (None, None, None):
        raise next(iter(synced.failures.values()))
    _keep(account, synced)
    return synced


class _Reader:
    """Reads one part after the other. After a failure that is not the part's own, the others are not tried."""

    def __init__(self, synced: Synced) -> None:
        self._failures = synced.failures

    def __call__(self, part: str, read: Callable[[], T]) -> T | None:
        for error in self._failures.values():
            if isinstance(error, AccountUnusable | avito.NoAnswer | avito.Unauthorized):
                self._failures[part] = error
                return None
        try:
            return read()
        except (AccountUnusable, avito.AvitoError) as error:
            self._failures[part] = error
            return None


def active_listings(account: Account) -> tuple[int, ...]:
    """The ids of all active listings, over all pages. Each page is a call of its own: reading them may take minutes.

    One that moves between pages meanwhile may be missed; the next synchronisation finds it.
    """
    found: dict[int, None] = {}
    for number in range(1, PAGES_MAX + 1):
        page = services.call(account, lambda client, number=number: client.items.page(page=number))  # type: ignore[misc]
        new = {listing.id: None for listing in page.listings if listing.id not in found}
        found |= new
        if page.is_last or not new:
            break
    return tuple(found)


def daily_sums(account: Account, user_id: int, ids: Sequence[int], since: date, until: date) -> list[DayStatistics]:
    """What all listings together brought on each day, both ends included; a day of which nothing is said is zero."""
    if not ids:
        return [DayStatistics(until, 0, 0, 0)]
    sums: defaultdict[date, list[int]] = defaultdict(lambda: [0, 0, 0])
    for some in (ids[start : start + IDS_MAX] for start in range(0, len(ids), IDS_MAX)):
        for start, end in _spans(since, until, ROWS_PER_CALL // len(some)):
            answer = services.call(
                account,
                lambda client, some=some, start=start, end=end: client.statistics.items(  # type: ignore[misc]
                    user_id, some, since=start, until=end
                ),
            )
            for day in (day for item in answer for day in item.days):
                total = sums[day.date]
                for index, counter in enumerate(COUNTERS):
                    total[index] += getattr(day, counter)
    return [DayStatistics(day, *sums[day]) for day in _days(since, until)]


def _spans(since: date, until: date, length: int) -> Iterable[tuple[date, date]]:
    """The days from `since` to `until`, both included, in pieces of at most `length` days."""
    while since <= until:
        end = min(until, since + timedelta(days=length - 1))
        yield since, end
        since = end + timedelta(days=1)


def _days(since: date, until: date) -> Iterable[date]:
    return (since + timedelta(days=number) for number in range((until - since).days + 1))


def _window_start(until: date) -> date:
    return until - timedelta(days=DAYS - 1)


def first_missed_day(account: Account, until: date) -> date:
    """The earliest day that Avito still knows and we do not; at the latest the first of the usual window."""
    earliest, latest = until - timedelta(days=DAYS_MAX - 1), _window_start(until)
    known = set(
        DailyStats.objects.filter(account=account, date__gte=earliest, views__isnull=False).values_list(
            "date", flat=True
        )
    )
    return next((day for day in _days(earliest, latest) if day not in known), latest)


def _keep(account: Account, synced: Synced) -> None:
    """Write what was read, in two statements whatever the number of days; what was not read stays."""
    changes: dict[str, Any] = {
        "last_sync_at": synced.at,
        "sync_failures": {part: code_of(error) for part, error in synced.failures.items()},
    }
    if synced.balance is not None:
        changes |= {"balance_real": synced.balance.real, "balance_bonus": synced.balance.bonus}
    if synced.listings is not None:
        changes["ads_count"] = len(synced.listings)
    if synced.days is not None:
        changes |= _totals(synced.days, synced.today)
    for name, value in changes.items():
        setattr(account, name, value)
    # A reading that began before the last one that was kept comes too late; an account may be gone, too.
    older = Q(last_sync_at=None) | Q(last_sync_at__lte=synced.at)
    with transaction.atomic():
        if Account.objects.filter(older, pk=account.pk).update(**changes):
            _keep_days(account, synced)
            events.emit("account.updated", account.pk)


def _totals(days: Sequence[DayStatistics], now: date) -> dict[str, Any]:
    window = [day for day in days if day.date >= _window_start(now)]
    return {
        "stats_on": now,
        "views_count": sum(day.views for day in window),
        "contacts_count": sum(day.contacts for day in window),
        "views_today": sum(day.views for day in window if day.date == now),
        "contacts_today": sum(day.contacts for day in window if day.date == now),
    }


def _keep_days(account: Account, synced: Synced) -> None:
    rows: dict[date, list[Any]] = {day.date: [day.views, day.contacts, day.favorites] for day in synced.days or ()}
    today_row = rows.setdefault(synced.today, [None, None, None])
    today_row += [
        None if synced.listings is None else len(synced.listings),
        None if synced.balance is None else synced.balance.real,
        None if synced.balance is None else synced.balance.bonus,
    ]
    columns = zip(*([day, *(values + [None] * 6)[:6]] for day, values in rows.items()), strict=True)
    with connection.cursor() as cursor:
        cursor.execute(KEEP_DAYS, [account.pk, *map(list, columns)])


# GREATEST passes over nulls. Of a balance and a count the last one read is the day's, not the greatest.
KEEP_DAYS = """
INSERT INTO avito_accounts_dailystats AS kept
    (account_id, date, views, contacts, favorites, ads_count, balance_real, balance_bonus)
SELECT %s, * FROM unnest(
    %s::date[], %s::bigint[], %s::bigint[], %s::bigint[], %s::int[], %s::numeric[], %s::numeric[])
ON CONFLICT (account_id, date) DO UPDATE SET
    views = GREATEST(kept.views, excluded.views),
    contacts = GREATEST(kept.contacts, excluded.contacts),
    favorites = GREATEST(kept.favorites, excluded.favorites),
    ads_count = COALESCE(excluded.ads_count, kept.ads_count),
    balance_real = COALESCE(excluded.balance_real, kept.balance_real),
    balance_bonus = COALESCE(excluded.balance_bonus, kept.balance_bonus)
"""
