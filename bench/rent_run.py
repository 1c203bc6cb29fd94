"""The measuring process of `rent`, beside the sandbox. Prints; ends with 1 for a broken promise."""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from statistics import median
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth.models import User  # noqa: E402
from django.db import connection, transaction  # noqa: E402
from django.db.models import F  # noqa: E402
from django.utils import timezone  # noqa: E402

import avito  # noqa: E402
from avito_accounts import tokens  # noqa: E402
from avito_accounts.models import Account  # noqa: E402
from bench import rent_book, rent_real, rule  # noqa: E402
from bench.presence_run import counted  # noqa: E402
from bench.rent_book import CHANNEL_PRICE, Home, day  # noqa: E402
from bench.syncing import control, in_threads  # noqa: E402
from integrations_str import bookings, connecting, queue, services, serving  # noqa: E402
from integrations_str.models import ChannelDay, Integration, Property, Rate, SyncTask  # noqa: E402

IDLE, LOOKS, BURST = 20, 10, 40
"""Connections, how often they are looked at, and edits of one of them."""
LATENCY_SECONDS = 0.2
CHANGED = 50  # days from today
BOOKED = (0, 5, 50)
CLAIMED, CLAIMS = 16, 30
WRITES = r"/(prices|intervals|base)$"


# Calls a change makes


def calls(count: int = IDLE, looks: int = LOOKS) -> bool:
    """Print the calls of each kind of change; are they the fewest?"""
    homes = rent_book.make(["normal"] * count)
    home, other = homes[0], homes[1]
    mine, others = Property.objects.get(pk=home.property_id), Property.objects.get(pk=other.property_id)
    print(f"Calls at Avito, {count} connections")

    def edit(price: int | None, on: int = CHANGED) -> None:
        services.set_rates(mine, [services.RateRange(day(on), day(on), {"price": price})])

    def burst() -> None:
        for number in range(BURST):
            edit(3000 + number, CHANGED + number % 7)

    def undone() -> None:
        edit(7777, 100)
        edit(None, 100)

    def reprice() -> None:
        connecting.change(Integration.objects.connected().get(property=others), markup_percent=20)

    def look() -> None:
        for _look in range(looks):
            SyncTask.objects.update(pull_at=timezone.now())
            serving.serve()

    def book() -> None:
        bookings.book(mine, check_in=day(10), check_out=day(11))

    good = _calls(f"{looks} looks without a change", look, reads=looks * count)
    good = _calls("one price", lambda: edit(3000), prices=1) and good
    good = _calls(f"{BURST} edits of one calendar", burst, prices=1) and good
    good = _calls("an edit and its undoing", undone) and good
    good = _calls("a booking by hand", book, intervals=1) and good
    good = _calls("another markup", reprice, base=1, prices=1) and good
    return (
        _calls("connecting: the whole year", lambda: _connect_anew(other), reads=1, base=1, prices=1, intervals=1)
        and good
    )


def _calls(title: str, change: Callable[[], object], **expected: int) -> bool:
    control("DELETE", "/rent/calls")
    change()
    serving.serve()
    made = Counter(call["rent"] for call in control("GET", "/rent/calls"))
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(made.items())) or "none"
    print(f"  {title:<29} {told}{'' if made == expected else f'   WRONG: {expected} expected'}")
    return made == expected


def _connect_anew(home: Home) -> None:
    """A property with seasons, weekends, closed nights and minimum stays, and a listing of which nothing is known."""
    property = Property.objects.get(pk=home.property_id)
    known = Integration.objects.get(pk=home.integration_id)
    connecting.disconnect(known, close_sales=False)
    year = range(365)
    Rate.objects.bulk_create(
        Rate(property=property, date=day(n), price=2500 + 100 * (n // 90), min_stay=1 + n // 120, closed=n % 50 == 0)
        for n in year
        if n % 7 in (4, 5) or n % 50 == 0
    )
    account = known.account
    assert account
    connecting.connect(property, account, item_id=known.item_id, markup_percent=known.markup_percent, consents=True)


# Database queries


def queries(queued: Sequence[int]) -> bool:
    """Print what a reading without news costs; is it the same however many bookings there are?"""
    print("\nDatabase queries of one reading that brings nothing new, by the bookings that Avito shows")
    good, tiers = True, list(rent_book.SHARES)
    for tier in tiers:
        made = {}
        for home, count in zip(rent_book.make([tier] * len(BOOKED)), BOOKED, strict=True):
            for number in range(count):
                stay = {"checkIn": day(30 + 2 * number).isoformat(), "checkOut": day(31 + 2 * number).isoformat()}
                control("POST", "/rent/bookings", itemId=home.item_id, **stay)
            _read(home)
            made[count] = _read(home)
        told = ", ".join(f"{queries} with {count}" for count, queries in made.items())
        print(f"  {tier:<29} {told}")
        good = good and made[BOOKED[1]] == made[BOOKED[2]]
    _claims(queued)
    return good


def _read(home: Home) -> int:
    """Have the bookings read now; how many queries that took, the claim among them."""
    SyncTask.objects.filter(integration=home.integration_id).update(pull_at=timezone.now(), push_at=None)
    with counted() as made:
        (claim,) = queue.claim(1)
        serving.serve_one(claim)
    return made["all"]


def _claims(queued: Sequence[int]) -> None:
    """Print how long it takes to claim rows, beside the plain way: whoever has waited longest, fair to nobody."""
    print(f"\nClaiming {CLAIMED} rows, median of {CLAIMS}, ms; in brackets beside a plain queue's claim")
    account = Account.objects.create(name="claimed", avito_user_id=1, client_id="claimed", client_secret="claimed")
    for count in queued:
        rent_book.forget()
        owners = max(1, count // rent_book.EACH_OWNER)
        users = [User.objects.get_or_create(username=f"host {number}")[0] for number in range(owners)]
        rent_book.connect(rent_book.make_properties(users, count), [account], range(1, count + 1))
        told = []
        for title, share in (("none due", 0.0), ("1 % due", 0.01), ("all due", 1.0)):
            due = SyncTask.objects.order_by("pk").values("pk")[: round(count * share)]
            SyncTask.objects.update(pull_at=timezone.now() + timedelta(days=1))
            SyncTask.objects.filter(pk__in=list(due.values_list("pk", flat=True))).update(pull_at=timezone.now())
            with connection.cursor() as cursor:
                cursor.execute("VACUUM ANALYZE integrations_str_synctask, integrations_str_integration")
                cursor.execute("VACUUM ANALYZE integrations_str_property")
            ours, plain = _milliseconds(lambda: queue.claim(CLAIMED)), _milliseconds(_plain_claim)
            told.append(f"{title} {ours:.1f} ({ours / plain:.1f}x)")
        print(f"  {count:>6,} connections   {'   '.join(told)}", flush=True)


def _plain_claim() -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE integrations_str_synctask SET claim = claim + 1, claimed_until = now() + interval '60 s'"
            " WHERE id IN (SELECT id FROM integrations_str_synctask WHERE pull_at <= now()"
            " AND (claimed_until IS NULL OR claimed_until < now())"
            " ORDER BY pull_at LIMIT %s FOR UPDATE SKIP LOCKED) RETURNING id",
            [CLAIMED],
        )


class _Undo(Exception):
    pass


def _milliseconds(claim: Callable[[], object]) -> float:
    """The median of what it takes; whatever it does is undone."""
    taken = []
    for _number in range(CLAIMS):
        with suppress(_Undo), transaction.atomic():
            began = time.perf_counter()
            claim()
            taken.append(1000 * (time.perf_counter() - began))
            raise _Undo
    return median(taken)


# Draining


def drain(count: int, rounds: int) -> bool:
    """Print connections a second of ours and of the bare loop, in turns; did each one make just one call each time?"""
    homes = rent_book.make(["normal"] * count)
    fault = control("POST", "/faults", kind="latency", pathRegex=WRITES, seconds=LATENCY_SECONDS)
    print(
        f"\n{count} connections, one changed day each; {serving.HANDS} threads each; Avito takes {LATENCY_SECONDS:g} s"
    )
    measured, good = [], True
    for index in range(-1, rounds):
        rates = {}
        for side in rule.order(index):
            rates[side], is_complete = _rate(serving.serve if side == "ours" else lambda: bare_loop(homes), homes)
            good = good and is_complete
        one = rule.Round(rates["baseline"], rates["ours"])
        if index < 0:
            continue  # both are warm now
        measured.append(one)
        print(f"  {index + 1:>3}  bare {one.baseline:>7.1f}/s  ours {one.ours:>7.1f}/s  {one.ratio:.2f}x", flush=True)
    print(f"  {verdict(measured)}")
    control("DELETE", f"/faults/{fault['id']}")
    return good


def _rate(serve: Callable[[], object], homes: Sequence[Home]) -> tuple[float, bool]:
    """Connections a second, and whether each has made one call that changed one day."""
    control("DELETE", "/rent/calls")
    ChannelDay.objects.filter(date=day(CHANGED)).update(price=None)
    SyncTask.objects.update(push_at=timezone.now(), wanted=F("wanted") + 1)
    began = time.monotonic()
    serve()
    seconds = time.monotonic() - began
    made = Counter((call["rent"], call["itemId"], call["status"]) for call in control("GET", "/rent/calls"))
    return len(homes) / seconds, made == Counter(("prices", home.item_id, 200) for home in homes)


def bare_loop(homes: Sequence[Home]) -> None:
    """The same calls by the same client, and nothing else: no rows, no calendar, no budget."""
    accounts = {
        row.pk: row.account
        for row in Integration.objects.select_related("account").filter(pk__in=[one.integration_id for one in homes])
    }
    waiting = []
    for home in homes:
        account = accounts[home.integration_id]
        assert account
        waiting.append((account.avito_user_id or 0, home.item_id, tokens.access_token(account)))
    range_ = avito.PriceRange(day(CHANGED), day(CHANGED), CHANNEL_PRICE, 1)

    def lane() -> int:
        transport = avito.Transport(settings.AVITO_API_BASE_URL)
        while True:
            try:
                user_id, item_id, token = waiting.pop()
            except IndexError:
                transport.close()
                return 0
            avito.Client(token, transport).rent.set_prices(user_id, item_id, [range_])

    in_threads(serving.HANDS, lane)


def verdict(rounds: Sequence[rule.Round]) -> str:
    """One line: what the budget of calls lets through has to be drained as fast as it may."""
    budget = rent_real.CALLS_PER_MINUTE / 60
    slowest = min(one.ours for one in rounds)
    reached = "REACHED" if slowest >= budget else "MISSED"
    told = f"the slowest round is {slowest / budget:.1f}x of what the budget of calls allows"
    return f"{rule.summary(rounds)}\n  {reached}: {told}"


def main(options: dict[str, Any]) -> int:
    parts: dict[str, Callable[[], bool]] = {
        "calls": calls,
        "queries": lambda: queries(options["queued"]),
        "drain": lambda: drain(options["drained"], options["rounds"]),
        "latency": lambda: rent_real.latency(options["connections"], options["changes"]),
        "polling": lambda: rent_real.polling(options["polled"], options["minutes"]),
        "silence": lambda: rent_real.silence(options["connections"], options["silent"]),
    }
    good = True
    for name, part in parts.items():
        if name in options["parts"]:
            good = part() and good
            sys.stdout.flush()
    print("\nAs promised." if good else "\nBROKEN: a call was superfluous, refused or missing, or a booking was lost.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
