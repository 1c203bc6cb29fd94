"""Bookings and the nights they hold: written down by hand or read from Avito, never two parties in one night.

Whoever changes a booking holds the property's row, so that nights and conflicts are judged one change at a time; the
constraint on nights holds even without that.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import Q
from django.utils import timezone

from integrations_str import news, queue
from integrations_str.calendar import Claim, overlaps
from integrations_str.models import Booking, BookingRevision, Conflict, Integration, Property, QuarantinedBooking
from notifications import events

CONTACTS = ("guest_name", "guest_phone", "guest_email")
UNSEEN_POLLS = 3
"""So many answers without a booking, and its owner is told; an unpaid one has run out by then."""
KEPT_IN_REVISIONS = ("check_in", "check_out", "status", "raw_status", "guests", "total_price")
RECENT = timedelta(days=2)
"""Nights that are over by so much, in any time zone, are history: nobody's claim on them is looked at again."""


class DatesTaken(Exception):
    """Another booking holds one of the nights."""


class NoNights(Exception):
    """The stay would end before it begins: somebody else has changed it meanwhile."""


class NotYours(Exception):
    """A booking of Avito's is changed at Avito: here only notes about the guest may be.

    One that Avito no longer shows, or of an item that was taken off, is its owner's to cancel: nobody else can.
    """


def lock(property_id: int) -> Property:
    """Inside a transaction: hold the property until its end."""
    return Property.objects.select_for_update(no_key=True).get(pk=property_id)


def book(property: Property, **fields: Any) -> Booking:
    """Write down a booking by hand. Raises DatesTaken, also for the second of two at the same moment."""
    with transaction.atomic():
        lock(property.pk)
        booking = Booking(property=property, source=Booking.Source.MANUAL, **fields)
        booking.holds = booking.status != Booking.Status.CANCELLED
        booking.save()
        _hold_or_raise(booking)
        revise(booking, None)
        settle(property, told=[booking.pk], closes=booking.holds)
        events.emit("booking.created", booking.pk, user=property.owner_id)
    return booking


def change(booking: Booking, **fields: Any) -> Booking:
    """Change a booking that was written down by hand; of Avito's, see NotYours.

    Raises DatesTaken, NotYours and NoNights.
    """
    with transaction.atomic():
        property = lock(booking.property_id)
        booking = Booking.objects.select_for_update().get(pk=booking.pk)
        cancels = fields.keys() == {"status"} and may_cancel(booking)
        if not (is_manual(booking) or cancels or fields.keys() <= set(CONTACTS)):
            raise NotYours
        before = facts(booking)
        for name, value in fields.items():
            setattr(booking, name, value)
        if not set(CONTACTS).isdisjoint(fields):
            booking.contacts_erased_at = None  # there is somebody to forget again
        if not booking.check_in < booking.check_out:
            raise NoNights
        if booking.status == Booking.Status.CANCELLED:
            booking.holds = False
        booking.save()
        after = facts(booking)
        is_cancelled = booking.status == Booking.Status.CANCELLED
        if before != after:
            revise(booking, before)
        if any(before[name] != after[name] for name in ("check_in", "check_out", "status")):
            if is_manual(booking):
                _hold_or_raise(booking)
            settle(property, told=[booking.pk], closes=not is_cancelled)
        kind: events.Type = "booking.cancelled" if is_cancelled and before != after else "booking.updated"
        events.emit(kind, booking.pk, user=property.owner_id)
    return booking


def cancel(booking: Booking) -> Booking:
    """The nights are free again. Once cancelled by hand it stays so; raises NotYours."""
    if booking.status == Booking.Status.CANCELLED:
        return booking
    return change(booking, status=Booking.Status.CANCELLED)


def may_cancel(booking: Booking) -> bool:
    """Is it cancelled here: made by hand, or such that no answer of Avito's would ever say that it is?"""
    if is_manual(booking):
        return True
    connected = Integration.objects.connected().filter(property=booking.property_id, item_id=booking.item_id or 0)
    return booking.unseen_polls >= UNSEEN_POLLS or not connected.exists()


def is_manual(booking: Booking) -> bool:
    return booking.source == Booking.Source.MANUAL


def facts(booking: Booking) -> dict[str, Any]:
    """What a revision keeps: everything but the guest."""
    values = {name: getattr(booking, name) for name in KEPT_IN_REVISIONS}
    return {name: value.isoformat() if isinstance(value, date) else value for name, value in values.items()}


def revise(booking: Booking, before: dict[str, Any] | None) -> None:
    BookingRevision.objects.create(booking=booking, before=before, after=facts(booking))


TAKE = """
INSERT INTO integrations_str_night (property_id, date, booking_id)
SELECT property_id, night::date, id
FROM integrations_str_booking, generate_series(check_in, check_out - 1, interval '1 day') AS night
WHERE holds AND check_out > %(since)s AND night >= %(since)s AND {which}
ORDER BY source = 'avito' AND status = 'pending', id, night
"""
FREE = """
DELETE FROM integrations_str_night night USING integrations_str_booking booking
WHERE booking.id = night.booking_id AND night.property_id = %(property)s AND night.date >= %(since)s
  AND (NOT booking.holds OR night.date < booking.check_in OR night.date >= booking.check_out)
"""


def _hold_or_raise(booking: Booking) -> None:
    """Take all nights of a booking by hand, or none."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM integrations_str_night WHERE booking_id = %s", [booking.pk])
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(TAKE.format(which="id = %(booking)s"), {"booking": booking.pk, "since": date.min})
    except IntegrityError:
        raise DatesTaken from None


def settle(property: Property, *, told: Collection[int] = (), closes: bool, by_person: bool = True) -> None:
    """Inside a transaction that holds the property, after any change of its bookings: nights, conflicts, the queue.

    Nights that became free go to whoever claims them, the paid before the unpaid, the earlier before the later.
    `closes`: nights may have to close at Avito. `told`: bookings of which listeners hear anyway.
    """
    since = timezone.now().date() - RECENT
    with connection.cursor() as cursor:
        cursor.execute(FREE, {"property": property.pk, "since": since})
        cursor.execute(
            TAKE.format(which="property_id = %(property)s") + " ON CONFLICT (property_id, date) DO NOTHING",
            {"property": property.pk, "since": since},
        )
    _settle_conflicts(property, since, told)
    queue.touch(property.pk, closes=closes, by_person=by_person)


def _settle_conflicts(property: Property, since: date, told: Collection[int]) -> None:
    claiming = Booking.objects.filter(property=property, holds=True, check_out__gt=since)
    claims = [Claim(*row) for row in claiming.values_list("pk", "check_in", "check_out")]
    found = overlaps(claims)
    open_ones = {
        (one.first_id, one.second_id): one for one in Conflict.objects.filter(property=property, solved_at=None)
    }
    for pair, (start, end) in found.items():
        known = open_ones.get(pair)
        if known is None:
            conflict = Conflict.objects.create(
                property=property, first_id=pair[0], second_id=pair[1], start=start, end=end
            )
            news.in_conflict(conflict, property)
            events.emit("booking.conflict", *pair, user=property.owner_id)
        elif (known.start, known.end) != (start, end):
            Conflict.objects.filter(pk=known.pk).update(start=start, end=end)
    for pair, conflict in open_ones.items():
        if pair not in found and conflict.end > since:
            Conflict.objects.filter(pk=conflict.pk).update(solved_at=timezone.now())
            news.conflict_solved(conflict, property)
            events.emit("booking.updated", *(set(pair) - set(told)), user=property.owner_id)
        elif pair not in found:  # time has passed over it
            Conflict.objects.filter(pk=conflict.pk).update(solved_at=timezone.now())
            news.forget_conflict(conflict)


def forget_past_conflicts() -> None:
    """What time has passed over is no conflict any more, also where nothing changes."""
    past = Conflict.objects.filter(solved_at=None, end__lte=timezone.now().date() - RECENT)
    for conflict in past:
        Conflict.objects.filter(pk=conflict.pk).update(solved_at=timezone.now())
        news.forget_conflict(conflict)


def set_whether_pending_hold(property: Property, *, holds: bool) -> None:
    """Inside a transaction: whether unpaid bookings of Avito's claim their nights from now on."""
    lock(property.pk)
    pending = Q(source=Booking.Source.AVITO, raw_status="pending", status=Booking.Status.PENDING)
    Booking.objects.filter(pending, property=property).update(holds=holds)
    settle(property, closes=holds)


def erase_contacts(*, before: date) -> int:
    """Forget the guests of stays that ended before this day, and rows that nobody could use; how many stays."""
    QuarantinedBooking.objects.filter(seen_at__lt=datetime.combine(before, time.min, UTC)).delete()
    old: Iterable[Booking] = Booking.objects.filter(check_out__lt=before, contacts_erased_at=None)
    count = 0
    for booking in old:
        for name in CONTACTS:
            setattr(booking, name, "")
        booking.contacts_erased_at = timezone.now()
        booking.save(update_fields=[*CONTACTS, "contacts_erased_at"])
        count += 1
    return count


@dataclass(frozen=True, slots=True)
class Import:
    """What a reading has brought."""

    new: int = 0
    changed: int = 0
    cancelled: int = 0
    bad: int = 0

    def __bool__(self) -> bool:
        return bool(self.new or self.changed or self.cancelled or self.bad)
