"""The city of a chat: the first part of its listing's address, which only the account's list of listings tells."""

from datetime import timedelta

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from avito.items import STATUSES
from avito_accounts import limits
from avito_accounts import services as accounts
from avito_accounts.models import Account
from chats.models import CatchUp, Chat
from notifications import events

PAUSE = timedelta(minutes=1)
"""Between two looks at an account's listings: chats that begin together are served together."""
PAGES_MAX = 10
"""Pages that one look reads of the active listings, and as many of all others."""
PATIENCE_SECONDS = 5
CITY_LENGTH_MAX = 100


def known(item_id: int) -> str:
    """The city that another chat about this listing has from Avito; "" without one."""
    told = Chat.objects.filter(item_id=item_id).exclude(city="").exclude(entered__contains=["city"])
    return told.values_list("city", flat=True).first() or ""


def find(account: Account) -> None:
    """Look up the cities of this account's chats that lack one. A listing that is not found is not looked for again.

    Raises AvitoError, AccountUnusable.
    """
    now = timezone.now()
    chats = Chat.objects.filter(account=account, city="", item_id__isnull=False, city_asked_at=None)
    wanted = set(chats.exclude(entered__contains=["city"]).values_list("item_id", flat=True)[:1000])
    turn = CatchUp.objects.filter(Q(cities_at=None) | Q(cities_at__lt=now - PAUSE), account=account)
    if not wanted or turn.update(cities_at=now) != 1:
        return
    for statuses in (STATUSES[:1], STATUSES[1:]):
        for number in range(1, PAGES_MAX + 1):
            if not wanted:
                return
            with limits.background(PATIENCE_SECONDS):
                page = accounts.call(account, lambda client: client.items.page(page=number, statuses=statuses))  # noqa: B023
            for listing in page.listings:
                city = listing.address.partition(",")[0].strip()[:CITY_LENGTH_MAX]
                if listing.id in wanted and city:
                    wanted.remove(listing.id)
                    _tell(chats.filter(item_id=listing.id).exclude(entered__contains=["city"]), city)
            if page.is_last:
                break
    chats.filter(item_id__in=wanted).update(city_asked_at=now)


def _tell(chats: QuerySet[Chat], city: str) -> None:
    with transaction.atomic():
        ids = list(chats.select_for_update().order_by("id").values_list("pk", flat=True))
        Chat.objects.filter(pk__in=ids).update(city=city, updated_at=timezone.now())
        events.emit("chat.updated", *ids)
