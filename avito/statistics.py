"""How people take to the account's listings, from Avito's section "Items"."""

from collections.abc import Callable, Collection
from datetime import date
from typing import Any

from avito import protocol, wire
from avito.types import ItemStatistics

IDS_MAX = 200
"""Listings a call. Source: Items, itemStatsShallow."""
DAYS_MAX = 270
"""How far back statistics reach. Source: Items, itemStatsShallow."""
FIELDS = ("uniqViews", "uniqContacts", "uniqFavorites")
"""The counters asked for; the ones without "uniq" are deprecated. Source: Items, StatisticsFields."""


class StatisticsCalls:
    """`client.statistics`. All calls raise the errors of `avito.errors`; nothing here changes anything."""

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def items(self, user_id: int, item_ids: Collection[int], *, since: date, until: date) -> list[ItemStatistics]:
        """Daily figures of listings, both dates included. Needs the scope stats:read; NotFound for another's user_id.

        `item_ids`: at most IDS_MAX; none asks nothing. `since`: at most DAYS_MAX before `until`, and before today by
        the Moscow calendar. Raises ValueError, unsent, for more. Listings and days without figures may be missing.
        Source: Avito API, Items, itemStatsShallow.
        """
        if len(item_ids) > IDS_MAX:
            raise ValueError(f"{len(item_ids)} listings: at most {IDS_MAX} a call")
        if not 0 <= (until - since).days <= DAYS_MAX:
            raise ValueError(f"{since} to {until}: at most {DAYS_MAX} days")
        if not item_ids:
            return []
        asked = {
            "itemIds": list(item_ids),
            "dateFrom": since.isoformat(),
            "dateTo": until.isoformat(),
            "fields": list(FIELDS),
            "periodGrouping": "day",
        }
        answer = self._call(protocol.post(protocol.path("/stats/v1/accounts/{}/items", user_id), asked))
        result = wire.mapping(wire.mapping(answer, "statistics").get("result"), "result")
        return list(map(ItemStatistics.from_json, wire.children(result, "items")))
