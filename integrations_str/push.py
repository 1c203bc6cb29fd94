"""Sending what differs. Values are read when they are sent, and only what Avito has accepted counts as there.

Before a call its days are marked as unknown, after it as accepted: whoever dies in between, or gets no answer, leaves
days behind that will be sent again, whatever became of them.
"""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

from django.db import transaction
from django.utils import timezone

import avito
from avito_accounts import limits
from avito_accounts import services as accounts
from avito_accounts.errors import AccountUnusable, code_of, text_of
from integrations_str import calendar, log, queue
from integrations_str.calendar import Changes, Day
from integrations_str.models import ITEM_ERRORS, ChannelDay, Conflict, Exchange, Integration
from integrations_str.queue import Claim
from integrations_str.state import State, state_of
from notifications import events

PATIENCE_SECONDS = 5.0
ACCOUNT_AGAIN_SECONDS = 60
_PRICE_FIELD = re.compile(r"prices\W{0,2}(\d{1,4})\b")
_PRICE = ["price", "min_stay", "refused_price", "refused_min_stay", "refusal"]
_OPEN = ["is_open", "refused_open", "refusal"]


def push(integration: Integration, claim: Claim) -> None:
    """Send what differs now, at most one call of each kind. Raises queue.Lost; all other failures end in the row."""
    state = state_of(integration)
    if waits_for_consent(state):
        queue.push_waits_for_consent(claim)
        _changed(integration, claim)
        return
    sending = _Sending(integration, state, claim)
    try:
        with limits.at_once() if claim.is_closing else limits.background(PATIENCE_SECONDS):
            for send in sending.plan():
                send()
    except (avito.AvitoError, AccountUnusable) as error:
        failed(claim, error)
    else:
        _sent(integration, claim, sending)
    _changed(integration, claim)


def waits_for_consent(state: State) -> bool:
    """Has the owner to agree first? Before the first push: where it would open what was closed, or a conflict is open.

    Reading bookings goes on meanwhile, and whatever the owner changes is looked at anew.
    """
    integration = state.integration
    if integration.consented_at or integration.first_pushed_at:
        return False
    return bool(state.consent_needed_for) or is_in_conflict(integration)


def is_in_conflict(integration: Integration) -> bool:
    return Conflict.objects.filter(property=integration.property_id, solved_at=None).exists()


def _sent(integration: Integration, claim: Claim, sending: "_Sending") -> None:
    now = timezone.now()
    if sending.calls or integration.first_pushed_at is None:
        Integration.objects.filter(pk=integration.pk).update(
            last_push_at=now if sending.calls else integration.last_push_at,
            first_pushed_at=integration.first_pushed_at or (None if sending.refused else now),
        )
    if sending.must_close:
        queue.push_failed(claim, "avito_rejected", sending.refused)
        return
    changes, more = sending.state.changes, sending.leaves_prices
    if sending.refused or changes.left:  # what was not complained of goes out with the next call
        changes = state_of(integration).changes
        more = more or bool(changes.prices or changes.opens)
    if text := sending.refused or _refusal(integration, changes):
        queue.push_refused(claim, "avito_rejected", text, left_days=len(changes.left), more=more)
    else:
        queue.pushed(claim, left_days=len(changes.left), more=more)


def _refusal(integration: Integration, changes: Changes) -> str:
    """Why Avito has rejected nights that wait for their owner still; empty when there are none."""
    days = ChannelDay.objects.filter(integration=integration, date__in=changes.refused).exclude(refusal="")
    return days.values_list("refusal", flat=True).first() or ("—" if changes.refused else "")


def failed(claim: Claim, error: Exception) -> None:
    """A push or a reading has failed: what that means for the row."""
    code, text = code_of(error), text_of(error)[: log.DETAIL_MAX]
    match error:
        case avito.RateLimited():
            queue.put_off(claim, error.retry_after_seconds or 30)
        case avito.Unauthorized() | AccountUnusable():
            queue.account_failed(claim, code, text, again_in=ACCOUNT_AGAIN_SECONDS)
        case _ if code in ITEM_ERRORS:
            queue.item_refused(claim, code, text)
        case _:
            queue.push_failed(claim, code, text)


def _changed(integration: Integration, claim: Claim) -> None:
    events.emit("integration.updated", integration.pk, user=claim.owner_id)


class _Sending:
    """One push: its calls in their order, and what Avito has said to them."""

    def __init__(self, integration: Integration, state: State, claim: Claim) -> None:
        self.integration, self.state, self.claim = integration, state, claim
        self.calls = 0
        self.refused = ""
        self.leaves_prices = False
        self.must_close = False

    def plan(self) -> list[Callable[[], None]]:
        """Where nights have to close, that goes out alone: prices wait until all closings of all others are out.

        Else nights open last, so that none is on sale for a moment at the price of yesterday.
        """
        changes = self.state.changes
        prices: list[Callable[[], None]] = [self.base] if self.state.base_differs else []
        prices += [self.prices] if changes.prices else []
        opens = [self.opens] if changes.opens else []
        is_first_try = not self.claim.push_failures  # a closing that fails for ever holds up prices no longer
        if self.claim.is_closing and opens and self.integration.first_pushed_at and is_first_try:
            self.leaves_prices = bool(prices)
            return opens
        return [*opens, *prices] if changes.closes and self.integration.first_pushed_at else [*prices, *opens]

    def base(self) -> None:
        price, min_stay = self.state.base
        rows = Integration.objects.filter(pk=self.integration.pk)
        self._mark(lambda: rows.update(base_price=None, base_min_stay=None))

        def use(client: avito.Client) -> bool:
            if client.rent.has_base:
                client.rent.set_base(self.integration.item_id, night_price=price, min_stay=min_stay)
            return client.rent.has_base

        self._call(
            Exchange.Action.BASE,
            use,
            params={"price": price, "min_stay": min_stay or 0},
            accepted=lambda: rows.update(base_price=price, base_min_stay=min_stay),
            refused=lambda _error: None,  # it goes out again with the next change
        )

    def prices(self) -> None:
        days = self.state.changes.prices
        ranges = calendar.price_ranges(days)
        self._mark(lambda: self._write(days, _PRICE[:2]))
        user_id = accounts.user_id(self._account)
        self._call(
            Exchange.Action.PRICES,
            lambda client: client.rent.set_prices(user_id, self.integration.item_id, ranges),
            params=_extent(days, ranges),
            accepted=lambda: self._write(
                days, _PRICE, lambda day: {"price": day.channel_price, "min_stay": day.min_stay}
            ),
            refused=lambda error: self._write(
                _named(days, ranges, error),
                _PRICE,
                lambda day: {
                    "refused_price": day.channel_price,
                    "refused_min_stay": day.min_stay,
                    "refusal": text_of(error)[: log.DETAIL_MAX],
                },
            ),
        )

    def opens(self) -> None:
        # All that differ, since the call says them all: it may also settle what Avito has refused before.
        acked = self.state.acked
        days = [day for day in self.state.days if acked.get(day.date, calendar.UNKNOWN).is_open is not day.is_open]
        # Every day stands here with the reason that closes it, so a year without a free night is one that is meant.
        closes_all = not any(day.is_open for day in self.state.days)
        intervals = calendar.free_intervals(self.state.days, closes_all=closes_all)
        self._mark(lambda: self._write(days, _OPEN[:1]))
        user_id = accounts.user_id(self._account)
        self._call(
            Exchange.Action.CLOSE_ALL if closes_all else Exchange.Action.FREE,
            lambda client: client.rent.set_free(user_id, self.integration.item_id, intervals),
            params={**_extent(days, intervals), "open": sum(day.is_open for day in self.state.days)},
            accepted=lambda: self._write(days, _OPEN, lambda day: {"is_open": day.is_open}),
            refused=lambda error: self._not_taken(days, error),
        )

    def _not_taken(self, days: Sequence[Day], error: avito.Invalid) -> None:
        """What was to open waits for its owner; what is to close is tried until it does, for it is taken."""
        self.must_close = any(not day.is_open for day in days)
        self._write(days, _OPEN, lambda day: {"refused_open": day.is_open, "refusal": text_of(error)[: log.DETAIL_MAX]})

    @property
    def _account(self) -> Any:
        return self.integration.account

    def _mark(self, unknown: Callable[[], object]) -> None:
        with transaction.atomic():
            self.claim.lock()
            unknown()

    def _call(
        self,
        action: Exchange.Action,
        use: Callable[[avito.Client], object],
        *,
        params: dict[str, int | str],
        accepted: Callable[[], object],
        refused: Callable[[avito.Invalid], object],
    ) -> None:
        """Ask Avito, and keep what it said. Raises what `failed` takes, and Lost."""
        self.claim.renew()
        entry = log.Entry(self.integration, action, params, attempt=self.claim.push_failures + 1)
        try:
            was_asked = accounts.call(self._account, use, until=self.claim.until) is not False
        except avito.Invalid as error:
            with transaction.atomic():
                self.claim.lock()
                refused(error)
                entry.write(error)
            self.refused = text_of(error)[: log.DETAIL_MAX] or "—"
            return
        except (avito.AvitoError, AccountUnusable) as error:
            entry.write(error)
            raise
        with transaction.atomic():
            self.claim.lock()
            accepted()
            if was_asked:
                entry.write()
        self.calls += was_asked

    def _write(
        self,
        days: Collection[Day],
        fields: Sequence[str],
        values: Callable[[Day], dict[str, Any]] = lambda day: {},
    ) -> None:
        """These fields of the days as given, and empty where nothing is."""
        rows = [ChannelDay(integration=self.integration, date=day.date, **values(day)) for day in days]
        ChannelDay.objects.bulk_create(
            rows, update_conflicts=True, update_fields=fields, unique_fields=["integration", "date"]
        )


def _named(days: Sequence[Day], ranges: Sequence[avito.PriceRange], error: avito.Invalid) -> Sequence[Day]:
    """The days of the ranges that Avito complains of; all where it does not say which."""
    numbers = {int(found[1]) for name in error.fields if (found := _PRICE_FIELD.search(str(name)))}
    blamed = [ranges[number] for number in numbers if number < len(ranges)]
    named = [day for day in days if any(one.first <= day.date <= one.last for one in blamed)]
    return named or days


def _extent(days: Sequence[Day], ranges: Sequence[object]) -> dict[str, int | str]:
    return {
        "days": len(days),
        "ranges": len(ranges),
        "first": days[0].date.isoformat(),
        "last": days[-1].date.isoformat(),
    }
