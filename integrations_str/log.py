"""The log of a connection: what was sent to Avito and received, kept as codes and numbers, told in words."""

import time
from datetime import timedelta
from typing import Any

from django.utils import timezone
from django.utils.formats import number_format
from django.utils.translation import gettext_lazy as _

from avito_accounts.errors import code_of, text_of, words
from integrations_str.models import Exchange, Integration
from notifications import kinds

KEPT = timedelta(days=30)
DETAIL_MAX = 500

_WORDS: dict[str, Any] = {
    "read_bookings": _(
        "Bookings were read: %(new)s new, %(changed)s changed, %(cancelled)s cancelled, %(bad)s unreadable."
    ),
    "set_base": _("The base price of %(price)s was sent."),
    "set_prices": _("Prices of %(days)s nights from %(first)s to %(last)s were sent."),
    "set_free": _("Free nights were sent: %(open)s in the year ahead, %(days)s of them or of the closed ones changed."),
    "close_all": _("All nights of the year ahead were closed."),
    "connect": _("The property was connected to item %(item)s."),
    "disconnect": _("The property was disconnected from item %(item)s."),
}
_UNDONE: dict[str, Any] = {
    "read_bookings": _("bookings were not read"),
    "set_base": _("the base price was not sent"),
    "set_prices": _("prices were not sent"),
    "set_free": _("free nights were not sent"),
    "close_all": _("the nights were not closed"),
    "connect": _("the property was not connected"),
    "disconnect": _("the property was not disconnected"),
}


class Entry:
    """A line under way: its latency counts from here on."""

    def __init__(
        self, integration: Integration, action: str, params: dict[str, int | str] | None = None, *, attempt: int = 1
    ) -> None:
        self._began = time.monotonic()
        self._row = Exchange(integration=integration, action=action, params=params or {}, attempt=min(attempt, 30_000))

    def write(self, error: Exception | None = None, **params: int | str) -> None:
        """How it ended."""
        row = self._row
        row.latency_ms = round((time.monotonic() - self._began) * 1000)
        row.params |= params
        if error is not None:
            row.ok, row.code, row.detail = False, code_of(error), text_of(error)[:DETAIL_MAX]
        row.save()


def words_of(exchange: Exchange) -> str:
    """The line in the reader's language."""
    if not exchange.ok:
        return words(exchange.code, exchange.detail)
    params = {"new": 0, "changed": 0, "cancelled": 0, "bad": 0, **exchange.params}
    told = {name: kinds.as_people_write(str(value)) for name, value in params.items()}
    if "price" in told:
        told["price"] = f"{number_format(params['price'], force_grouping=True)}\N{NBSP}₽"
    return str(_WORDS.get(exchange.action, exchange.action)) % told


def undone(exchange: Exchange) -> str:
    """What a line that failed has left undone; part of a sentence."""
    return str(_UNDONE.get(exchange.action, exchange.action))


def forget_old() -> int:
    return Exchange.objects.filter(at__lt=timezone.now() - KEPT).delete()[0]
