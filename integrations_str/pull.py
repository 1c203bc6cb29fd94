"""Reading bookings: what Avito's answer means for what is written down here.

An answer proves what it holds and nothing by what it lacks. The same answer again writes nothing.
"""

import hashlib
import json
import random
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import structlog
from django.conf import settings
from django.db import transaction
from django.db.models import Count, Max, Min, Q
from django.utils import timezone

import avito
from avito.rent import YEAR_DAYS
from avito_accounts import limits
from avito_accounts import services as accounts
from avito_accounts.errors import AccountUnusable, code_of, text_of
from avito_accounts.fields import look
from chats import phones
from integrations_str import bookings, calendar, log, news, queue
from integrations_str.bookings import UNSEEN_POLLS, Import
from integrations_str.calendar import Traffic
from integrations_str.models import Booking, ChannelDay, Exchange, Integration, QuarantinedBooking
from integrations_str.queue import Claim
from integrations_str.state import books_of, first_day, first_day_to_read
from notifications import events

logger = structlog.get_logger(__name__)

PATIENCE_SECONDS = 5.0
ACCOUNT_AGAIN_SECONDS = 60
STATUSES = {
    "active": Booking.Status.CONFIRMED,
    "pending": Booking.Status.PENDING,
    "canceled": Booking.Status.CANCELLED,
    "cancelled": Booking.Status.CANCELLED,
}
"""Avito's words. Any other one is kept as it is, and holds its nights as an unpaid booking does."""
EXPIRED = "expired"
"""Ours: an unpaid booking that Avito no longer shows."""


def pull(integration: Integration, claim: Claim) -> None:
    """Read the bookings and write down what is new. Raises queue.Lost; all other failures end in the row."""
    entry = log.Entry(integration, Exchange.Action.READ, attempt=claim.pull_failures + 1)
    try:
        claim.renew()
        with limits.background(PATIENCE_SECONDS):
            snapshot, start = read(integration, until=claim.until)
    except avito.RateLimited as error:
        queue.put_off(claim, error.retry_after_seconds or 30)
    except (avito.AvitoError, AccountUnusable) as error:
        _failed(integration, claim, entry, error)
    else:
        with transaction.atomic():
            integration.property = bookings.lock(integration.property_id)  # before the task, as every change does
            task = claim.lock()
            integration.refresh_from_db(fields=["holds_pending"])  # its owner may have changed it meanwhile
            brought = store(integration, snapshot, start)
            had_trouble = bool(task.pull_error_code)
            if brought or had_trouble or integration.last_pull_at is None:
                entry.write(new=brought.new, changed=brought.changed, cancelled=brought.cancelled, bad=brought.bad)
                events.emit("integration.updated", integration.pk, user=claim.owner_id)
            Integration.objects.filter(pk=integration.pk).update(last_pull_at=timezone.now())
            queue.pulled(claim, next_in=next_reading_in(integration, task.edited_at))
            roll(integration)


def read(integration: Integration, *, until: float | None = None) -> tuple[avito.Snapshot, date]:
    """Ask Avito, from the first day on that it takes, over a year and over every stay that is written down."""
    account, property = integration.account, integration.property
    assert account is not None  # noqa: S101  connected, so it has one
    start = first_day_to_read(property)
    stored = Booking.objects.filter(property=property, source=Booking.Source.AVITO).exclude(
        status=Booking.Status.CANCELLED
    )
    last = stored.aggregate(last=Max("check_out"))["last"] or start
    end = max(start + timedelta(days=YEAR_DAYS), last)
    user_id = accounts.user_id(account)
    snapshot = accounts.call(
        account,
        lambda client: client.rent.bookings(user_id, integration.item_id, start=start, end=end),
        until=until,
    )
    return snapshot, start


def _failed(integration: Integration, claim: Claim, entry: log.Entry, error: Exception) -> None:
    code, text = code_of(error), text_of(error)[: log.DETAIL_MAX]
    entry.write(error)
    if isinstance(error, avito.Unauthorized | AccountUnusable):
        queue.account_failed(claim, code, text, again_in=ACCOUNT_AGAIN_SECONDS)
    else:
        queue.pull_failed(claim, code, text)
    events.emit("integration.updated", integration.pk, user=claim.owner_id)


def store(integration: Integration, snapshot: avito.Snapshot, start: date) -> Import:
    """Inside a transaction that holds the property: write down what the answer says, as far as it is new.

    `start`: the first day asked for.
    """
    importing = _Importing(integration, snapshot, start)
    for row in snapshot.bookings:
        importing.take(row)
    importing.notice_missing({row.id for row in snapshot.bookings} | {row.avito_id for row in snapshot.unreadable})
    importing.quarantine(snapshot.unreadable)
    return importing.finish()


class _Importing:
    """One answer on its way into the book."""

    def __init__(self, integration: Integration, snapshot: avito.Snapshot, start: date) -> None:
        self.integration, self.start = integration, start
        self.property = integration.property
        self.is_first = integration.last_pull_at is None
        # Years of old stays are of no use: the answer may name one, or lack one that lies ahead.
        concerned = Q(check_in__gte=start) | Q(avito_booking_id__in=[row.id for row in snapshot.bookings])
        rows = Booking.objects.filter(concerned, property=self.property, source=Booking.Source.AVITO)
        self.known = {row.avito_booking_id or 0: row for row in rows}
        self.new = self.changed = self.cancelled = self.bad = 0
        self.told: list[int] = []
        self.closes = False
        self.moved = False

    def take(self, row: avito.RentBooking) -> None:
        """A row of the answer that can be read."""
        booking = self.known.get(row.id)
        values = _values(row, self.integration)
        if booking is None:
            booking = Booking(
                property=self.property,
                source=Booking.Source.AVITO,
                avito_booking_id=row.id,
                item_id=self.integration.item_id,
                **values,
                **_guest(row),
            )
            booking.save()
            self.new += 1
            self._moved(booking, None)
            self._tell(booking, "booking.created", "" if booking.status == "cancelled" else "booking_new")
            if row.status not in STATUSES:
                self._strange(booking)
            return
        filled = {name: value for name, value in _guest(row).items() if value and not _knows_guest(booking, name)}
        news_of = {name: value for name, value in values.items() if getattr(booking, name) != value} | filled
        if booking.unseen_polls:
            news_of["unseen_polls"] = 0
        if news_of:
            self._change(booking, news_of)

    def _change(self, booking: Booking, values: dict[str, Any]) -> None:
        was, before, had_nights = booking.status, bookings.facts(booking), _nights_of(booking)
        for name, value in values.items():
            setattr(booking, name, value)
        booking.save(update_fields=[*values, "updated_at"])
        if "holds" in values:  # also where nothing else changes: connected anew, unpaid bookings may do otherwise
            self.moved = True
            self.closes |= booking.holds
        if before == bookings.facts(booking):
            if set(values) != {"unseen_polls"}:
                self._tell(booking, "booking.updated", "")
            return
        if booking.status == Booking.Status.CANCELLED:
            self.cancelled += was != Booking.Status.CANCELLED
            self._moved(booking, before, had_nights)
            self._tell(booking, "booking.cancelled", "booking_gone" if was != booking.status else "")
            return
        self.changed += 1
        self._moved(booking, before, had_nights)
        self._tell(booking, "booking.updated", "booking_back" if was == Booking.Status.CANCELLED else "booking_moved")
        if booking.raw_status != before["raw_status"] and booking.raw_status not in STATUSES:
            self._strange(booking)

    def _moved(self, booking: Booking, before: dict[str, Any] | None, had: frozenset[date] = frozenset()) -> None:
        """Its nights may be others by now: what Avito has for them is closed by the booking itself, or not known."""
        bookings.revise(booking, before)
        has, unknown = _nights_of(booking), had - _nights_of(booking)
        if booking.status == Booking.Status.CONFIRMED and settings.AVITO_STR_BOOKINGS_CLOSE_DATES:
            self._days(has, is_open=False)
        elif before is None and booking.status == Booking.Status.CANCELLED:  # it came and went between two readings
            unknown = frozenset(calendar.span(booking.check_in, booking.check_out))
        elif before is not None and before["status"] == Booking.Status.CONFIRMED:  # it closes nothing by itself now
            unknown = had
        self._days(unknown, is_open=None)
        self.moved = True
        self.closes |= bool(has - had or has & unknown)

    def _days(self, days: Iterable[date], *, is_open: bool | None) -> None:
        rows = [ChannelDay(integration=self.integration, date=day, is_open=is_open) for day in sorted(days)]
        if rows:
            ChannelDay.objects.bulk_create(
                rows, update_conflicts=True, update_fields=["is_open"], unique_fields=["integration", "date"]
            )

    def notice_missing(self, seen: Collection[int | None]) -> None:
        """Bookings ahead that the answer lacks. Of a stay under way that means nothing: the filter may omit it."""
        for number, booking in self.known.items():
            if booking.item_id != self.integration.item_id:  # of an item that was connected before
                continue
            is_ahead = booking.check_in >= self.start and booking.status != Booking.Status.CANCELLED
            if number in seen or not is_ahead or booking.unseen_polls >= UNSEEN_POLLS:
                continue
            values: dict[str, Any] = {"unseen_polls": booking.unseen_polls + 1}
            is_unseen = values["unseen_polls"] >= UNSEEN_POLLS
            if booking.status == Booking.Status.CONFIRMED and not booking.unseen_polls:
                self._days(_nights_of(booking), is_open=None)  # should it be gone, it closes nothing there any more
                self.moved = self.closes = True
            if is_unseen and booking.raw_status == "pending":
                values |= {"status": Booking.Status.CANCELLED, "raw_status": EXPIRED, "holds": False}
            self._change(booking, values)
            if is_unseen and booking.status != Booking.Status.CANCELLED:
                news.booking_news("booking_unseen", booking, self.property, level="warning")
                self._tell(booking, "booking.updated", "")

    def quarantine(self, rows: Iterable[avito.UnreadableBooking]) -> None:
        """Rows that nobody can use are kept as long as Avito sends them; their owner hears of each once."""
        bad = {_fingerprint(row.raw): row for row in rows}
        kept = QuarantinedBooking.objects.filter(integration=self.integration)
        known = dict(kept.values_list("fingerprint", "pk"))
        told = set(kept.exclude(avito_booking_id=None).values_list("avito_booking_id", flat=True))
        kept.filter(pk__in=[pk for fingerprint, pk in known.items() if fingerprint not in bad]).delete()
        for fingerprint, row in bad.items():
            if fingerprint not in known:
                QuarantinedBooking.objects.create(
                    integration=self.integration,
                    avito_booking_id=row.avito_id,
                    fingerprint=fingerprint,
                    reason=row.reason,
                    raw=json.dumps(row.raw, ensure_ascii=True, default=str),
                )
                if row.avito_id not in told:  # else it is the same trouble in other words
                    news.booking_unreadable(self.integration)
                self.bad += 1

    def finish(self) -> Import:
        if self.moved:
            bookings.settle(self.property, told=self.told, closes=self.closes, by_person=False)
        return Import(self.new, self.changed, self.cancelled, self.bad)

    def _tell(self, booking: Booking, event: events.Type, kind: str) -> None:
        self.told.append(booking.pk)
        events.emit(event, booking.pk, user=self.property.owner_id)
        if kind and not self.is_first:  # what was there before the property was connected is no news
            news.booking_news(kind, booking, self.property)

    def _strange(self, booking: Booking) -> None:
        logger.error("str_unknown_booking_status", booking_id=booking.pk, status=booking.raw_status)
        news.booking_news("booking_strange", booking, self.property, level="warning")


def _values(row: avito.RentBooking, integration: Integration) -> dict[str, Any]:
    status = STATUSES.get(row.status, Booking.Status.PENDING)
    is_unpaid = row.status == "pending"
    return {
        "check_in": row.check_in,
        "check_out": row.check_out,
        "status": status,
        "raw_status": row.status[:50],
        "holds": status != Booking.Status.CANCELLED and (integration.holds_pending or not is_unpaid),
        "guests": row.guests,
        "total_price": row.base_price,
        "owner_amount": row.payout,
        "commission": row.commission,
        "deposit": row.prepayment,
    }


def _guest(row: avito.RentBooking) -> dict[str, str]:
    return {
        "guest_name": row.guest_name,
        "guest_phone": phones.e164(row.guest_phone) or row.guest_phone,
        "guest_email": row.guest_email,
    }


def _knows_guest(booking: Booking, name: str) -> bool:
    return booking.contacts_erased_at is not None or look(booking, name) != ""


def _nights_of(booking: Booking) -> frozenset[date]:
    return frozenset(calendar.span(booking.check_in, booking.check_out) if booking.holds else ())


def _fingerprint(raw: object) -> str:
    return hashlib.sha256(json.dumps(raw, sort_keys=True, default=str).encode()).hexdigest()


def next_reading_in(integration: Integration, edited_at: datetime | None) -> float:
    """Seconds until the bookings are read again: by how much goes on, a little early rather than late."""
    tier = calendar.tier(traffic_of(integration, edited_at))
    return settings.AVITO_STR_POLL_SECONDS * calendar.TIER_SHARES[tier] * (1 - 0.1 * random.random())  # noqa: S311


def traffic_of(integration: Integration, edited_at: datetime | None, *, now: datetime | None = None) -> Traffic:
    """What goes on with a connection."""
    now = now or timezone.now()
    property = integration.property
    today = property.today(now)
    living = Q(status__in=(Booking.Status.PENDING, Booking.Status.CONFIRMED))
    facts = Booking.objects.filter(property=property).aggregate(
        pending=Count("pk", filter=Q(status=Booking.Status.PENDING, check_out__gt=today)),
        next=Min("check_in", filter=living & Q(check_in__gte=today)),
        last=Max("created_at", filter=living),
    )
    traffic = Traffic(
        since_connected=now - integration.connected_at,
        since_edit=now - edited_at if edited_at else None,
        has_pending=bool(facts["pending"]),
        to_check_in=facts["next"] - today if facts["next"] else None,
        since_booking=now - facts["last"] if facts["last"] else None,
        open_soon=False,
    )
    if calendar.tier(traffic) != "cold":
        return traffic
    end = today + timedelta(days=calendar.COLD_CLOSED_DAYS)
    book = books_of([property], today, end)[property.pk]
    days = calendar.wanted_days(book, integration.markup_percent, today, end, today=today)
    return replace(traffic, open_soon=any(day.is_open for day in days))


NIGHT_SECONDS = 5 * 3600


def roll(integration: Integration, *, now: datetime | None = None) -> None:
    """Inside a transaction: a new day has come, so the year that Avito knows of moves on; spread over the night."""
    now = now or timezone.now()
    today = first_day(integration.property, now)
    local = now.astimezone(integration.property.zone)
    place = timedelta(seconds=integration.pk * 2654435761 % NIGHT_SECONDS)
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    is_over_due = today - integration.horizon_from > timedelta(days=1)
    if integration.horizon_from >= today or (local - midnight < place and not is_over_due):
        return
    Integration.objects.filter(pk=integration.pk).update(horizon_from=today)
    ChannelDay.objects.filter(integration=integration, date__lt=today - timedelta(days=7)).delete()
    queue.touch(integration.property_id, by_person=False)
