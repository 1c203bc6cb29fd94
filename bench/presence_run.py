"""The measuring process of `presence`, beside the sandbox. Prints; ends with 1 if a sign was lost or given twice."""

import json
import socket
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from statistics import median
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.db import connection  # noqa: E402
from django.db.models import F  # noqa: E402
from django.utils import timezone  # noqa: E402

import avito  # noqa: E402
from avito_accounts import tokens  # noqa: E402
from avito_accounts.models import Account, Proxy  # noqa: E402
from bench import rule  # noqa: E402
from bench.syncing import Seller, control, in_threads, make_sellers  # noqa: E402
from messenger import presence  # noqa: E402
from messenger.models import PresenceAttempt  # noqa: E402

INTERVALS = (60, 3600)
IN_TIME, PEAK_MAX = 0.99, 3.0
ACCOUNTS_MIN = 1_000
RATIO = 0.8
LATENCY_SECONDS = 0.2
STUCK = 100  # one of so many is behind the dead proxy
SIGN = r"status/online$"
LOOK_SECONDS = settings.DATABASE_SWEEP_RHYTHMS["messenger.tasks.keep_online"]


@contextmanager
def counted() -> Iterator[Counter[str]]:
    """Database queries of this thread."""
    queries = Counter[str]()

    def count(execute: Any, sql: str, *details: Any) -> Any:
        queries["all"] += 1
        return execute(sql, *details)

    with connection.execute_wrapper(count):
        yield queries


# By a simulated clock


def simulate(accounts: int, minutes: int, look_seconds: float) -> bool:
    """Print how well the signs keep to their times; was none lost or doubled?"""
    print(f"{accounts:,} accounts at intervals of {INTERVALS[0]} to {INTERVALS[1]} s, {minutes} simulated minutes,")
    print(f"a look every {look_seconds:g} s; whatever is due then falls into one second")
    Account.objects.bulk_create(
        Account(name=f"simulated {number}", online_keep_alive_interval=interval_of(number, accounts))
        for number in range(accounts)
    )
    began = time.monotonic()
    switched = presence.enable_many(Account.objects.all())
    print(f"  switched on together {switched:>10,}   in {time.monotonic() - began:.1f} s")
    with counted() as queries:
        times, seconds = _signs(60.0 * minutes, look_seconds), time.monotonic() - began
    total = sum(map(len, times.values()))
    good = judge(times, 60.0 * minutes, total)
    print(f"  queries              {100 * queries['all'] / total:>10.1f}   for a hundred signs")
    print(f"  simulated in         {seconds:>10.0f} s\n")
    PresenceAttempt.objects.all().delete()
    Account.objects.all().delete()
    return good


def interval_of(number: int, accounts: int) -> int:
    least, most = INTERVALS
    return least + (most - least) * number // max(1, accounts - 1)


def _signs(until: float, look_seconds: float) -> dict[int, list[float]]:
    """When each account was served, in seconds from now on. Avito accepts all."""
    start, second = timezone.now(), 0.0
    times: defaultdict[int, list[float]] = defaultdict(list)
    while second < until:
        now = start + timedelta(seconds=second)
        while claimed := presence.claim(presence.HANDS, now=now):
            began = time.monotonic()
            presence.record([presence.Attempt(account.pk, began, "status", 1) for account in claimed], now=now)
            for account in claimed:
                times[account.pk].append(second)
        second += look_seconds
    return times


def judge(times: dict[int, list[float]], until: float, total: int, *, but: Collection[int] = ()) -> bool:
    """Print how well the signs keep to the promised times, `but` for some accounts; was none lost or doubled?"""
    on_time = due = lost = doubled = 0
    for account_id, interval in Account.objects.exclude(pk__in=but).values_list("pk", "online_keep_alive_interval"):
        tolerance = 0.05 * interval + 5
        signs = times.get(account_id, [])
        gaps = [after - before for before, after in pairwise(signs)]
        on_time += sum(abs(gap - interval) <= tolerance for gap in gaps) + (bool(signs) and signs[0] <= interval + 5)
        is_waiting = until - signs[-1] > interval + tolerance if signs else until > interval + 5
        due += len(signs) + is_waiting
        lost += (until - signs[-1] if signs else until) > 2 * interval + tolerance
        doubled += sum(gap < interval / 2 for gap in gaps)
    by_second = Counter(int(second) for signs in times.values() for second in signs)
    share, peak = on_time / due, max(by_second.values()) / (total / until)
    print(f"  signs                {total:>10,}   {lost} accounts lost, {doubled} signs doubled")
    print(f"  in their time        {share:>10.2%}   {_told(share >= IN_TIME, f'{IN_TIME:.0%}')}")
    print(f"  peak second          {peak:>9.1f}x   of the mean {total / until:.1f}; {_peak(peak, len(times))}")
    return not (lost or doubled)


def _peak(peak: float, accounts: int) -> str:
    if accounts < ACCOUNTS_MIN:
        return f"no verdict: with fewer than {ACCOUNTS_MIN:,} accounts chance alone makes peaks"
    return _told(peak <= PEAK_MAX, f"at most {PEAK_MAX:.0f}x")


def _told(is_reached: bool, goal: str) -> str:
    return f"{'REACHED' if is_reached else 'MISSED'}: the goal is {goal}"


# In real time


def compare(count: int, rounds: int) -> bool:
    """Signs a second of ours and of the bare loop, in turns; did each account give just one sign each time?"""
    sellers = make_sellers(count, [1], "present")
    control("POST", "/faults", kind="latency", pathRegex=SIGN, seconds=LATENCY_SECONDS)
    with _dead_proxy() as proxy:
        stuck = sellers[::STUCK]
        Account.objects.filter(pk__in=[seller.account.pk for seller in stuck]).update(proxy=proxy)
        for seller in stuck:
            seller.account.proxy = proxy
        print(
            f"{count} accounts due at once, {len(stuck)} of them behind a proxy that swallows everything; Avito takes"
        )
        print(
            f"{LATENCY_SECONDS * 1000:.0f} ms; {presence.HANDS} threads each. Measured until the last sign has arrived"
        )
        sides: dict[str, Callable[[], None]] = {"ours": presence.keep_online, "baseline": lambda: bare_loop(sellers)}
        good, measured = True, []
        presence.LATE_SECONDS = 3600  # they are due at once on purpose
        for index in range(-1, rounds):
            rates = {}
            for side in rule.order(index):
                rates[side], is_complete = _rate(sides[side], sellers, is_ours=side == "ours")
                good = good and is_complete
            one = rule.Round(rates["baseline"], rates["ours"])
            if index < 0:
                continue  # both are warm now
            measured.append(one)
            print(
                f"  {index + 1:>3}  bare {one.baseline:>7.1f}/s  ours {one.ours:>7.1f}/s  {one.ratio:.2f}x", flush=True
            )
    print(f"  {verdict(measured)}\n")
    return good


@contextmanager
def _dead_proxy() -> Iterator[Proxy]:
    """One that takes connections and bytes and says nothing."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1024)
        host, port = listener.getsockname()
        yield Proxy.objects.create(type="http", host=host, port=port, is_kept=True)


def _rate(serve: Callable[[], None], sellers: Sequence[Seller], *, is_ours: bool) -> tuple[float, bool]:
    """Good signs a second until the last of them, and whether each one was given once, and recorded."""
    control("DELETE", "/journal")
    PresenceAttempt.objects.all().delete()
    Proxy.objects.update(status="not_checked", failures=0, retry_at=None, error_reason="")
    Account.objects.update(online_failures=0, eternal_online_enabled=True, online_due_at=timezone.now())
    began = time.time()
    serve()
    signs = [call for call in control("GET", f"/journal?pathRegex={SIGN}") if call["status"] == 200]
    expected = {seller.account.avito_user_id for seller in sellers if seller.account.proxy is None}
    is_complete = Counter(call["userId"] for call in signs) == Counter(expected)
    if is_ours:
        recorded = Counter(PresenceAttempt.objects.values_list(F("code"), flat=True))
        is_complete = is_complete and recorded[""] == len(expected) and recorded.total() == len(sellers)
    return len(signs) / (max(call["at"] for call in signs) - began), is_complete


def bare_loop(sellers: Sequence[Seller]) -> None:
    """The same calls by the same client, and nothing else: no rows, no budget, no breaker."""
    waiting = [(seller.account, tokens.access_token(seller.account)) for seller in reversed(sellers)]

    def lane() -> int:
        direct = avito.Transport(settings.AVITO_API_BASE_URL, deadline_seconds=settings.AVITO_TIMEOUT_SECONDS)
        while True:
            try:
                account, token = waiting.pop()
            except IndexError:
                direct.close()
                return 0
            transport = tokens.transport_of_proxy(account.proxy) if account.proxy else direct
            try:
                avito.Client(token, transport).presence.report_online(account.avito_user_id or 0)
            except avito.AvitoError:
                continue

    in_threads(presence.HANDS, lane)


def verdict(rounds: Sequence[rule.Round]) -> str:
    """One line: judged, or why not."""
    ratios = [one.ratio for one in rounds]
    spread = rule.spread([one.baseline for one in rounds])
    told = (
        f"median {median(ratios):.2f}x, {min(ratios):.2f}x to {max(ratios):.2f}x; the baseline varied by {spread:.0%}."
    )
    if len(rounds) < rule.ROUNDS_MIN:
        return f"No verdict: it takes {rule.ROUNDS_MIN} rounds. {told}"
    if spread > rule.BASELINE_SPREAD_MAX:
        return f"No verdict: run it again on a quieter machine. {told}"
    if min(ratios) < RATIO <= max(ratios):
        return f"UNCERTAIN: single rounds lie on both sides of the goal of {RATIO}x. {told}"
    return f"{_told(median(ratios) >= RATIO, f'{RATIO}x')}. {told}"


def main(options: dict[str, Any]) -> int:
    look = LOOK_SECONDS if options["look"] is None else options["look"]
    good = simulate(options["simulated"], options["minutes"], look)
    good = compare(options["accounts"], options["rounds"]) and good
    print("As promised." if good else "BROKEN: a sign was lost, given twice or not recorded.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
