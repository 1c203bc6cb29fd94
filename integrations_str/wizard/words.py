"""Nights, days and money, as people say them."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from avito.rent import YEAR_DAYS
from integrations_str import calendar
from integrations_str.admin.common import nights, roubles
from integrations_str.models import Property
from integrations_str.state import books_of, first_day

NIGHTS_SHOWN = 14
REASONS = {
    "booking": gettext_lazy("booked"),
    "pending_booking": gettext_lazy("booked, not paid yet"),
    "closed": gettext_lazy("closed by you"),
}


def preview_of(property: Property, markup: Decimal, booked: Iterable[date] = ()) -> dict[str, Any]:
    """What Avito will have: the first, lowest and highest price, how much is open, and the next nights one by one.

    `booked`: nights of bookings that are at Avito and not written down here yet.
    """
    taken, start = set(booked), first_day(property)
    end = start + timedelta(days=YEAR_DAYS)
    days = calendar.wanted_days(books_of([property], start, end)[property.pk], markup, start, end, today=start)
    prices = [day.channel_price for day in days]
    open_nights = sum(day.is_open and day.date not in taken for day in days)
    rows = [
        {
            "date": short_date(day.date),
            "weekday": date_format(day.date, "D"),
            "is_weekend": day.date.weekday() >= 5,
            "price": roubles(day.price),
            "channel_price": roubles(day.channel_price),
            "min_stay": day.min_stay,
            "note": REASONS.get(day.reason or "", "") or (_("booked at Avito") if day.date in taken else ""),
        }
        for day in days[:NIGHTS_SHOWN]
    ]
    return {
        "first": roubles(prices[0]),
        "min": roubles(min(prices)),
        "max": roubles(max(prices)),
        "open": nights(open_nights),
        "closed": nights(len(days) - open_nights),
        "rows": rows,
    }


def shown_spans(spans: Iterable[tuple[date, date]], most: int = 12) -> list[str]:
    """Half-open spans of nights as people say them, from the check-in to the check-out."""
    said = [f"{short_date(start)} – {short_date(end)} ({nights((end - start).days)})" for start, end in spans]
    rest = len(said) - most
    return [*said[:most], _("and %(count)s more") % {"count": rest}] if rest > 0 else said


def short_date(on: date) -> str:
    """14 авг., 1 мая; with the year where it is another one."""
    month = _("Jan. Feb. Mar. Apr. May June July Aug. Sep. Oct. Nov. Dec.").split()[on.month - 1]
    year = f" {on.year}" if on.year != timezone.localdate().year else ""
    return f"{on.day}\N{NBSP}{month}{year}"


def moment(at: datetime | None) -> str:
    if at is None:
        return ""
    local = timezone.localtime(at)
    return _("%(day)s at %(time)s Moscow time") % {"day": short_date(local.date()), "time": f"{local:%H:%M}"}
