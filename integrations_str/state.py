"""What is written down and what Avito has, read together: the input of every push, preview and calendar."""

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from django.conf import settings
from django.utils import timezone

from avito.rent import YEAR_DAYS
from avito_accounts.models import MOSCOW
from integrations_str import calendar
from integrations_str.calendar import Acked, Book, Changes, Day, Rate
from integrations_str.models import Booking, ChannelDay, Integration, Night, Property
from integrations_str.models import Rate as RateRow

ACKED = ("price", "min_stay", "is_open", "refused_price", "refused_min_stay", "refused_open")


def first_day(property: Property, now: datetime | None = None) -> date:
    """The first night that may be sent: today, where the property stands.

    By default not before Moscow's today either: west of it Avito may refuse what is past there, and with it a whole
    call. AVITO_STR_DAY=property trusts that Avito goes by the property's own day.
    """
    now = now or timezone.now()
    today = property.today(now)
    return max(today, now.astimezone(MOSCOW).date()) if settings.AVITO_STR_DAY == "latest" else today


def first_day_to_read(property: Property, now: datetime | None = None) -> date:
    """The first day to ask bookings for: past neither at the property nor in Moscow, for Avito takes no past day."""
    now = now or timezone.now()
    return max(property.today(now), now.astimezone(MOSCOW).date())


def books_of(properties: Collection[Property], start: date, end: date) -> dict[int, Book]:
    """The book of each property for the nights from `start` on, before `end`; three queries for all of them."""
    ids = [property.pk for property in properties]
    rates: defaultdict[int, dict[date, Rate]] = defaultdict(dict)
    held: defaultdict[int, dict[date, Any]] = defaultdict(dict)
    unpaid: defaultdict[int, set[date]] = defaultdict(set)
    in_span = {"property__in": ids, "date__gte": start, "date__lt": end}
    for row in RateRow.objects.filter(**in_span).values_list("property", "date", "price", "min_stay", "closed"):
        rates[row[0]][row[1]] = Rate(*row[2:])
    for property_id, day, status in Night.objects.filter(**in_span).values_list("property", "date", "booking__status"):
        held[property_id][day] = "pending_booking" if status == Booking.Status.PENDING else "booking"
    pending = Booking.objects.filter(
        property__in=ids, status=Booking.Status.PENDING, check_in__lt=end, check_out__gt=start
    )
    for property_id, check_in, check_out in pending.values_list("property", "check_in", "check_out"):
        unpaid[property_id].update(calendar.span(max(check_in, start), min(check_out, end)))
    return {
        one.pk: Book(one.base_price, one.min_stay, rates[one.pk], held[one.pk], frozenset(unpaid[one.pk]))
        for one in properties
    }


def acked_by(integrations: Iterable[Integration], start: date, end: date) -> dict[int, dict[date, Acked]]:
    """What Avito has accepted for each connection's nights; one query."""
    days: defaultdict[int, dict[date, Acked]] = defaultdict(dict)
    rows = ChannelDay.objects.filter(integration__in=list(integrations), date__gte=start, date__lt=end)
    for integration_id, day, *fields in rows.values_list("integration", "date", *ACKED):
        days[integration_id][day] = Acked(*fields)
    return days


@dataclass(frozen=True, slots=True)
class State:
    """A connection at one moment. `days`: every night that Avito shall know of, from the first that may be sent on."""

    integration: Integration
    days: list[Day]
    acked: Mapping[date, Acked]
    changes: Changes

    @property
    def base(self) -> tuple[int, int | None]:
        """Price and minimum stay for all days without their own; a minimum that Avito has no base for is not sent."""
        property = self.integration.property
        price = calendar.channel_price(property.base_price, self.integration.markup_percent)
        return price, None if property.is_min_stay_above_base else property.min_stay

    @property
    def base_differs(self) -> bool:
        price, min_stay = self.base
        has_price, has_min_stay = self.integration.base_price, self.integration.base_min_stay
        return price != has_price or (min_stay is not None and min_stay != has_min_stay)

    @property
    def consent_needed_for(self) -> list[date]:
        """Nights that were closed at Avito when the property was connected, and that the first push would open."""
        integration = self.integration
        if integration.consented_at or integration.first_pushed_at:
            return []
        closed = [tuple(map(date.fromisoformat, span)) for span in integration.closed_at_avito]
        return [day.date for day in self.days if day.is_open and any(start <= day.date < end for start, end in closed)]


def states_of(integrations: Collection[Integration], *, now: datetime | None = None) -> dict[int, State]:
    """The state of each connection, by id; four queries for all of them. Their properties are loaded with them."""
    if not integrations:
        return {}
    firsts = {one.pk: first_day(one.property, now) for one in integrations}
    start, end = min(firsts.values()), max(firsts.values()) + timedelta(days=YEAR_DAYS)
    books = books_of([one.property for one in integrations], start, end)
    acked = acked_by(integrations, start, end)
    found = {}
    for one in integrations:
        first = firsts[one.pk]
        until = min(one.horizon_from, first) + timedelta(days=YEAR_DAYS)
        days = calendar.wanted_days(books[one.property_id], one.markup_percent, first, until, today=first)
        found[one.pk] = State(one, days, acked[one.pk], calendar.changes(days, acked[one.pk]))
    return found


def state_of(integration: Integration, *, now: datetime | None = None) -> State:
    return states_of([integration], now=now)[integration.pk]


def unsettled_states(integrations: Iterable[Integration]) -> dict[int, State]:
    """The states of those connections of which it is not known already that Avito has everything."""
    return states_of(
        [one for one in integrations if one.task.push_at or one.task.waits_for_consent or one.task.dead_at]
    )
