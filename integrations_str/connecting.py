"""Connecting a property to an item at Avito, and taking it off again."""

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

from django.conf import settings
from django.contrib.auth.models import User
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.utils import timezone

import avito
from api.roles import permissions_of
from avito.rent import YEAR_DAYS
from avito_accounts import oauth
from avito_accounts import services as accounts
from avito_accounts.models import Account, AuthorizationRequest
from integrations_str import bookings, calendar, log, news, pull, queue
from integrations_str.models import Access, Booking, ChannelDay, Exchange, Integration, Property, SyncTask
from integrations_str.queue import Claim
from integrations_str.state import books_of
from notifications import events

PURPOSE = "property"
PURPOSE_WIZARD = "property-wizard"
"""As PURPOSE, but begun on our own page, where it ends as well."""
HOLD_WAIT_SECONDS = 20.0


class ItemTaken(Exception):
    """The item is connected to another property, perhaps of another owner."""


class PropertyConnected(Exception):
    """The property is connected already."""


class Busy(Exception):
    """A worker is at this connection right now, and does not come to an end."""


def usable_accounts(user: User) -> QuerySet[Account]:
    """The accounts that this person may connect items of: by a consent of theirs, or because they manage all."""
    known = Account.objects.exclude(avito_user_id=None).order_by("name")
    if "accounts.manage" in permissions_of(user):
        return known
    return known.filter(pk__in=Access.objects.filter(user=user).values("account"))


def check_item(property: Property, account: Account, item_id: int) -> None:
    """Can the property be connected to this item? Raises ItemTaken, Forbidden, NotFound and the like."""
    if Integration.objects.connected().filter(item_id=item_id).exclude(property=property).exists():
        raise ItemTaken
    user_id = accounts.user_id(account)
    accounts.call(account, lambda client: client.rent.check_item(user_id, item_id))


def connect(
    property: Property, account: Account, *, item_id: int, markup_percent: Decimal, consents: bool = False
) -> Integration:
    """Connect the property: what is booked at Avito is read and stored, and only then the first push is queued.

    `consents`: the owner agrees beforehand that nights are opened which are closed at Avito now. Raises ItemTaken, also
    for the second of two at the same moment, PropertyConnected, AvitoError and AccountUnusable; then nothing is stored.
    """
    if Integration.objects.connected().filter(property=property).exists():
        raise PropertyConnected
    if Integration.objects.connected().filter(item_id=item_id).exists():
        raise ItemTaken
    integration = Integration(
        property=property,
        account=account,
        item_id=item_id,
        markup_percent=markup_percent,
        consented_at=timezone.now() if consents else None,
    )
    snapshot, start = pull.read(integration)
    try:
        with transaction.atomic():
            integration.property = bookings.lock(property.pk)
            integration.horizon_from = integration.property.today()
            integration.closed_at_avito = _closed_at_avito(integration, snapshot)
            integration.save()
            Access.objects.get_or_create(account=account, user=property.owner)
            soon = timezone.now() + timedelta(seconds=settings.AVITO_STR_POLL_SECONDS * calendar.TIER_SHARES["hot"])
            SyncTask.objects.create(integration=integration, pull_at=soon)
            log.Entry(integration, Exchange.Action.CONNECT, {"item": str(item_id)}).write()
            entry = log.Entry(integration, Exchange.Action.READ)
            brought = pull.store(integration, snapshot, start)
            entry.write(new=brought.new, changed=brought.changed, cancelled=brought.cancelled, bad=brought.bad)
            integration.last_pull_at = timezone.now()
            integration.save(update_fields=["last_pull_at"])
            queue.push_now(integration)
            events.emit("integration.updated", integration.pk, user=property.owner_id)
    except IntegrityError as error:
        raise (PropertyConnected if "one_connection_per_property" in str(error) else ItemTaken) from None
    except Property.DoesNotExist:
        raise PropertyConnected from None
    return integration


@dataclass(frozen=True, slots=True)
class Outlook:
    """What connecting would find and do; spans of nights are half-open.

    `booked`: nights that Avito's bookings hold; `opens`: nights closed at Avito that the first push would open, and
    `overlaps`: nights that two bookings claim; for both it waits for the owner's consent.
    """

    bookings: int
    unreadable: int
    booked: list[tuple[date, date]]
    opens: list[tuple[date, date]]
    overlaps: list[tuple[date, date]]


def look_ahead(property: Property, account: Account, item_id: int) -> Outlook:
    """Read what is booked, and store nothing. Raises AvitoError, AccountUnusable."""
    integration = Integration(property=property, account=account, item_id=item_id)
    snapshot, _start = pull.read(integration)
    today = property.today()
    integration.horizon_from = today
    stays = [row for row in snapshot.bookings if pull.STATUSES.get(row.status) != Booking.Status.CANCELLED]
    claims = [calendar.Claim(-number, row.check_in, row.check_out) for number, row in enumerate(stays, start=1)]
    known = Booking.objects.filter(property=property, holds=True, check_out__gt=today)
    known = known.exclude(source=Booking.Source.AVITO, avito_booking_id__in=[row.id for row in snapshot.bookings])
    claims += [calendar.Claim(*row) for row in known.values_list("pk", "check_in", "check_out")]
    twice = {day for both in calendar.overlaps(claims).values() for day in calendar.span(*both)}
    booked = {day for row in stays for day in calendar.span(row.check_in, row.check_out) if day >= today}
    closed = {day for both in _closed_at_avito(integration, snapshot) for day in _days_of(both)}
    end = today + timedelta(days=YEAR_DAYS)
    nights = calendar.wanted_days(books_of([property], today, end)[property.pk], Decimal(0), today, end, today=today)
    free = {night.date for night in nights if night.is_open} - booked
    return Outlook(
        bookings=len(stays),
        unreadable=len(snapshot.unreadable),
        booked=calendar.date_ranges(booked),
        opens=calendar.date_ranges(free & closed),
        overlaps=calendar.date_ranges(day for day in twice if day >= today),
    )


def _days_of(written: list[str]) -> Iterator[date]:
    return calendar.span(*map(date.fromisoformat, written))


def _closed_at_avito(integration: Integration, snapshot: avito.Snapshot) -> list[list[str]]:
    """What is known to be closed in Avito's calendar though no booking lies there.

    Avito shows closed nights only now and then; an earlier connection of the item, of the same owner, knows more.
    """
    days = {day for block in snapshot.blocks for day in calendar.span(block.start, block.end)}
    earlier = (
        Integration.objects.owned_by(integration.property.owner)
        .filter(item_id=integration.item_id, disconnected_at__isnull=False)
        .exclude(property=integration.property)
        .order_by("-disconnected_at")
        .first()
    )
    if earlier is not None:
        closed = ChannelDay.objects.filter(integration=earlier, is_open=False, date__gte=integration.horizon_from)
        days |= set(closed.values_list("date", flat=True))
    return _written(calendar.date_ranges(days))


def _written(ranges: Iterable[tuple[date, date]]) -> list[list[str]]:
    return [[start.isoformat(), end.isoformat()] for start, end in ranges]


def change(integration: Integration, **fields: Any) -> Integration:
    """Change the markup, pause or go on, say what unpaid bookings do, consent to the first push (`consents=True`)."""
    if fields.pop("consents", False) and not integration.consented_at:
        fields["consented_at"] = timezone.now()
    changed = {name: value for name, value in fields.items() if getattr(integration, name) != value}
    if not changed:
        return integration
    with transaction.atomic():
        bookings.lock(integration.property_id)
        if changed.get("is_active"):
            queue.due_now(integration)
        else:
            queue.touch(integration.property_id)
        for name, value in changed.items():
            setattr(integration, name, value)
        Integration.objects.filter(pk=integration.pk).update(**changed)
        if "holds_pending" in changed:
            bookings.set_whether_pending_hold(integration.property, holds=integration.holds_pending)
        events.emit("integration.updated", integration.pk, user=integration.property.owner_id)
    return integration


def disconnect(integration: Integration, *, close_sales: bool) -> None:
    """Take the property off. `close_sales`: close the whole year at Avito first; if that fails it stays connected.

    Raises AvitoError and AccountUnusable then, Busy when a worker does not let go, Integration.DoesNotExist when
    somebody else has taken it off meanwhile.
    """
    claim = _hold(integration)
    try:
        if close_sales:
            _close_all(integration, claim)
        with transaction.atomic():
            claim.lock()
            item_id = integration.item_id
            log.Entry(integration, Exchange.Action.DISCONNECT, {"item": str(item_id)}).write()
            Integration.objects.filter(pk=integration.pk).update(
                disconnected_at=timezone.now(), account=None, is_active=False
            )
            SyncTask.objects.filter(integration=integration).delete()
            news.forget_connection(integration)
            events.emit("integration.updated", integration.pk, user=integration.property.owner_id)
    except queue.Lost:
        raise Busy from None
    finally:
        claim.let_go()


def _hold(integration: Integration) -> Claim:
    """Take the row from the queue, so that no push comes after what we are about to do."""
    until = time.monotonic() + HOLD_WAIT_SECONDS
    while (claim := queue.hold(integration.pk)) is None:
        if time.monotonic() > until:
            raise Busy
        if not Integration.objects.connected().filter(pk=integration.pk).exists():
            raise Integration.DoesNotExist
        time.sleep(0.1)
    return claim


def _close_all(integration: Integration, claim: Claim) -> None:
    account = cast(Account, integration.account)
    user_id = accounts.user_id(account)
    entry = log.Entry(integration, Exchange.Action.CLOSE_ALL)
    # Whatever becomes of the call, and of us: should the property stay connected, every night is sent again.
    with transaction.atomic():
        queue.touch(integration.property_id)
        ChannelDay.objects.filter(integration=integration).update(is_open=None)
    try:
        accounts.call(account, lambda client: client.rent.set_free(user_id, integration.item_id, []), until=claim.until)
    except Exception as error:
        entry.write(error)
        raise
    entry.write()


def authorize_link(property: Property, user: User, *, account: Account | None = None, purpose: str = PURPOSE) -> str:
    """A link of ours that opens Avito's consent page once. `account`: whose consent it has to be, to reconnect it."""
    return oauth.link(purpose, property.pk, user=user, account=account)


def consented_account(property: Property, user: User, *, since: datetime) -> Account | None:
    """The account that this person has given consent with for the property, if that was after `since`."""
    consent = oauth.last_consent((PURPOSE, PURPOSE_WIZARD), property.pk, user=user)
    return consent.account if consent and consent.finished_at and consent.finished_at >= since else None


def _may(request: AuthorizationRequest) -> bool:
    mine = Property.objects.owned_by(request.user).filter(pk=request.subject_id or 0)
    return request.user.is_active and mine.exists()


def _authorized(request: AuthorizationRequest, account: Account) -> None:
    """The owner has given consent: they may use the account, and its connections go on."""
    Access.objects.get_or_create(account=account, user=request.user)
    for integration in Integration.objects.connected().filter(account=account):
        queue.due_now(integration)


oauth.register(
    oauth.Purpose(PURPOSE, may=_may, authorized=_authorized, page="str_connect", path_setting="AVITO_STR_RETURN_PATH")
)
oauth.register(oauth.Purpose(PURPOSE_WIZARD, may=_may, authorized=_authorized, page="str_connect"))
