"""The account's listings, from Avito's section "Items"."""

from collections.abc import Callable, Collection, Iterator
from typing import Any

from avito import protocol
from avito.protocol import demand
from avito.types import Listing, ListingPage

PER_PAGE_MAX = 99
"""Listings a page. Source: Items, parameter per_page."""
CALLS_PER_MINUTE = 25
"""Pages an account may ask for. Source: Items, getItemsInfo."""
STATUSES = ("active", "removed", "old", "blocked", "rejected")
"""Source: Items, parameter status."""
PAGES_MAX = 1000
"""Where `iter_all` gives up, ours: 99,000 listings, and 40 minutes at Avito's pace."""


class ItemCalls:
    """`client.items`. All calls raise the errors of `avito.errors`; nothing here changes anything.

    Only the owner's token sees listings: with an employee's the list is empty.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def page(
        self, *, page: int = 1, per_page: int = PER_PAGE_MAX, statuses: Collection[str] = ("active",)
    ) -> ListingPage:
        """A page of the listings of whose token this is. Needs the scope items:info.

        `page`: from 1. `per_page`: 1 to PER_PAGE_MAX. `statuses`: some of STATUSES; what breaks this is refused here,
        as Invalid, unsent. RateLimited beyond CALLS_PER_MINUTE.
        Source: Avito API, Items, getItemsInfo.
        """
        demand(page >= 1, "page", "from 1")
        demand(1 <= per_page <= PER_PAGE_MAX, "per_page", f"1 to {PER_PAGE_MAX}")
        demand(bool(statuses) and set(statuses) <= set(STATUSES), "status", f"some of {', '.join(STATUSES)}")
        query = [("page", str(page)), ("per_page", str(per_page)), ("status", ",".join(statuses))]
        answer = self._call(protocol.get("/core/v1/items", query))
        return ListingPage.from_json(answer, page=page, per_page=per_page)

    def iter_all(self, statuses: Collection[str] = ("active",)) -> Iterator[Listing]:
        """All listings, each id once, page after page as they are taken.

        Ends with a page that is not full or brings nothing new, and after PAGES_MAX. A listing that moves between
        pages meanwhile may be missed: read again to be sure.
        """
        seen: set[int] = set()
        for number in range(1, PAGES_MAX + 1):
            page = self.page(page=number, statuses=statuses)
            known = len(seen)
            for listing in page.listings:
                if listing.id not in seen:
                    seen.add(listing.id)
                    yield listing
            if page.is_last or len(seen) == known:
                return
