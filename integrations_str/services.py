"""What a host writes down about a property: the property itself and the rates of its nights."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from django.contrib.auth.models import User
from django.db import transaction

from integrations_str import bookings, calendar, news, queue
from integrations_str.models import Conflict, Integration, Property, Rate
from integrations_str.state import books_of

RATE_FIELDS = ("price", "min_stay", "closed")
YEARS_AHEAD = timedelta(days=2 * 365)
"""How far ahead rates may be written down."""
PRICED = frozenset({"base_price", "min_stay", "timezone"})


class StillConnected(Exception):
    """The property is connected to Avito: disconnect it first, so that somebody decides what becomes of its sales."""


@dataclass(frozen=True, slots=True)
class RateRange:
    """What is said of the nights from `start` to `end`, BOTH INCLUDED. `values`: some of RATE_FIELDS; None clears."""

    start: date
    end: date
    values: dict[str, Any]


def add_property(owner: User, **fields: Any) -> Property:
    return Property.objects.create(owner=owner, **fields)


def change_property(property: Property, **fields: Any) -> Property:
    """Store what has changed; what Avito has to know of goes out with it."""
    changed = {name: value for name, value in fields.items() if getattr(property, name) != value}
    if not changed:
        return property
    with transaction.atomic():
        property = bookings.lock(property.pk)
        for name, value in changed.items():
            setattr(property, name, value)
        property.save(update_fields=[*changed, "updated_at"])
        if PRICED & changed.keys():
            queue.touch(property.pk)
    return property


def delete_property(property: Property) -> None:
    """With everything that is written down about it. Raises StillConnected."""
    with transaction.atomic():
        bookings.lock(property.pk)
        if Integration.objects.connected().filter(property=property).exists():
            raise StillConnected
        for conflict in Conflict.objects.filter(property=property, solved_at=None):
            news.forget_conflict(conflict)
        property.delete()


def set_rates(property: Property, ranges: Sequence[RateRange]) -> None:
    """Write down rates; of ranges that overlap the later one wins, field by field."""
    said: dict[date, dict[str, Any]] = {}
    for one in ranges:
        for day in calendar.span(one.start, one.end + calendar.DAY):
            said.setdefault(day, {}).update(one.values)
    if not said:
        return
    with transaction.atomic():
        bookings.lock(property.pk)
        stored = {row.date: row for row in Rate.objects.filter(property=property, date__in=said)}
        rows, closes = [], False
        for day, values in said.items():
            row = stored.get(day) or Rate(property=property, date=day)
            closes |= bool(values.get("closed")) and not row.closed
            before = [getattr(row, name) for name in RATE_FIELDS]
            for name, value in values.items():
                setattr(row, name, value)
            if before != [getattr(row, name) for name in RATE_FIELDS]:
                rows.append(row)
        empty = [row.date for row in rows if all(getattr(row, name) is None for name in RATE_FIELDS)]
        Rate.objects.filter(property=property, date__in=empty).delete()
        Rate.objects.bulk_create(
            [row for row in map(_anew, rows) if row.date not in set(empty)],
            update_conflicts=True,
            update_fields=RATE_FIELDS,
            unique_fields=["property", "date"],
        )
        if rows:
            queue.touch(property.pk, closes=closes)


def _anew(row: Rate) -> Rate:
    """Without the id, so that all rows go into one statement."""
    row.pk = None
    return row


def rates_of(property: Property, start: date, end: date) -> list[dict[str, Any]]:
    """Every night from `start` to `end`, both included, as the host has it."""
    book = books_of([property], start, end + calendar.DAY)[property.pk]
    return [
        {
            "date": day,
            "price": book.base_price if rate.price is None else rate.price,
            "min_stay": book.min_stay if rate.min_stay is None else rate.min_stay,
            "closed": bool(rate.closed),
            "overridden": rate != calendar.Rate(),
        }
        for day in calendar.span(start, end + calendar.DAY)
        for rate in [book.rates.get(day, calendar.Rate())]
    ]
