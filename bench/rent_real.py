"""The real processes of `rent`: the web and one worker in real time, with the budget of calls as shipped."""

import os
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import redis
import requests
from django.conf import settings
from django.contrib.auth.models import User
from rest_framework_simplejwt.tokens import AccessToken

from bench import rent_book
from bench.rent_book import Home, day
from bench.servers import ROOT, Web
from bench.syncing import control
from config.models import Process
from config.supervisor import Child, stop_together
from integrations_str.calendar import Tier
from integrations_str.models import Booking

CALLS_PER_MINUTE = 1000
AS_SHIPPED = {"AVITO_RATE_LIMIT_PER_MINUTE": str(CALLS_PER_MINUTE)}
A_SECOND = 2.0
"""Bookings, and as many edits; of them each connection in use has one about every fifteen seconds."""
IN_USE = 30
SILENT_EVERY_SECONDS = 3.0
SETTLE_SECONDS = 12.0
PATIENCE_SECONDS = 60.0
CLOSING_GOALS, EDIT_GOALS = {95: 3.0, 99: 10.0}, {95: 12.0, 99: 30.0}
IMPORT_GOALS: dict[Tier, float] = {"hot": 20, "normal": 75, "cold": 360}
GUESTS: dict[Tier, int] = {"hot": 45, "normal": 60, "cold": 60}


class Worker(Child):
    """As `make run` starts it. It has heard the doorbell and looked at the database once it has a heartbeat."""

    def __init__(self, env: dict[str, str]) -> None:
        command = [sys.executable, "-u", "-m", "celery", "--app", "config", "--quiet", "worker", "--pool", "threads"]
        command += ["--concurrency", "16", "--without-gossip", "--without-mingle"]
        super().__init__("worker", command, env=env, cwd=ROOT)

    def is_ready(self) -> bool:
        return Process.objects.filter(kind="worker").exists()

    def cpu_seconds(self) -> float:
        """Of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def running() -> Iterator[tuple[Web, Worker]]:
    """The web and a worker; no beat, whose tasks are not about rent."""
    Process.objects.all().delete()
    env = {**os.environ, **AS_SHIPPED}
    web, worker = Web("web", "config.asgi:application", "asgi3", env, processes=1), Worker(env)
    try:
        for child in (web, worker):
            child.start()
        for child in (web, worker):
            child.wait_ready()
        yield web, worker
    finally:
        stop_together([worker, web])


# From here to Avito


@dataclass(frozen=True)
class Change:
    """Somebody's change of one night, sent at the unix time `at`. `price`: at Avito; None: the night is to close."""

    home: Home
    night: date
    price: int | None
    at: float

    def is_told_by(self, call: dict[str, Any]) -> bool:
        """Does Avito learn of it by this call?"""
        night, body = self.night.isoformat(), call["body"]
        if call["itemId"] != self.home.item_id or call["status"] != 200 or call["at"] < self.at:
            return False
        if self.price is None:
            return call["rent"] == "intervals" and not any(
                one["date_start"] <= night < one["date_end"] for one in body["intervals"]
            )
        return call["rent"] == "prices" and any(
            one["date_from"] <= night <= one["date_to"] and one["night_price"] == self.price for one in body["prices"]
        )


class People:
    """Owners who book and edit over the API, each connection's nights one after the other."""

    def __init__(self, web: Web, homes: Sequence[Home]) -> None:
        self._base = f"http://127.0.0.1:{web.port}/api/v1/str"
        self._homes = homes
        owners = User.objects.in_bulk({home.owner_id for home in homes})
        self._headers = {pk: {"Authorization": f"Bearer {AccessToken.for_user(user)}"} for pk, user in owners.items()}
        self._booked = self._edited = 0

    def book(self) -> Change:
        round_, place = divmod(self._booked, len(self._homes))
        self._booked += 1
        home, night = self._homes[place], day(10 + 2 * round_)
        body = {
            "propertyId": home.property_id,
            "checkIn": night.isoformat(),
            "checkOut": day(11 + 2 * round_).isoformat(),
        }
        return Change(home, night, None, self._send(home, "POST", "/bookings", body))

    def edit(self) -> Change:
        round_, place = divmod(self._edited, len(self._homes))
        self._edited += 1
        home, night = self._homes[-1 - place], day(200 + round_)
        body = {"ranges": [{"from": night.isoformat(), "to": night.isoformat(), "price": 3000}]}
        return Change(home, night, 3450, self._send(home, "PUT", f"/properties/{home.property_id}/rates", body))

    def _send(self, home: Home, method: str, path: str, body: object) -> float:
        at = time.time()
        answer = requests.request(
            method, self._base + path, json=body, headers=self._headers[home.owner_id], timeout=PATIENCE_SECONDS
        )
        answer.raise_for_status()
        return at


def latency(connections: int, changes: int) -> bool:
    """Print how soon Avito learns of bookings and edits while all connections are polled; did it learn of all?"""
    homes = rent_book.make(rent_book.tiers_of(connections), is_polled=True)
    in_use = _in_use(homes)
    print(
        f"\n{connections} connections polled by tiers, {A_SECOND:g} bookings and {A_SECOND:g} edits a second through"
        f" the API at {len(in_use)} of them;\nseconds from the request until Avito has the call"
    )
    with running() as (web, worker):
        people = People(web, in_use)
        time.sleep(SETTLE_SECONDS)
        control("DELETE", "/rent/calls")
        used, began = worker.cpu_seconds(), time.monotonic()
        made = _at_a_rate([people.book, people.edit] * changes, 2 * A_SECOND)
        seconds = _until_told(made)
        used, spent = worker.cpu_seconds() - used, time.monotonic() - began
        good = _tell("bookings", [s for one, s in seconds if one.price is None], CLOSING_GOALS)
        good = _tell("edits", [s for one, s in seconds if one.price is not None], EDIT_GOALS) and good
        _tell_calls(spent)
        print(f"  CPU of the worker     {used / spent:>8.2f}   cores; load of the machine {os.getloadavg()[0]:.1f}")
    return good


def silence(connections: int, count: int) -> bool:
    """Print how soon Avito learns of bookings while Redis is away; did it learn of all? Redis does not come back."""
    homes = rent_book.make(rent_book.tiers_of(connections), is_polled=True)
    print(f"\n{connections} connections polled by tiers without Redis, a booking every {SILENT_EVERY_SECONDS:g} s")
    with running() as (web, _worker):
        people = People(web, _in_use(homes))
        with suppress(redis.ConnectionError):
            redis.Redis.from_url(settings.REDIS_URL).shutdown(nosave=True)
        made = _at_a_rate([people.book] * count, 1 / SILENT_EVERY_SECONDS)
        return _tell("bookings", [seconds for _one, seconds in _until_told(made)], {})


def _in_use(homes: Sequence[Home]) -> list[Home]:
    return [home for home in homes if home.tier != "cold"][:IN_USE]


def _at_a_rate(actions: Sequence[Callable[[], Change]], a_second: float) -> list[Change]:
    """Each at its time, whether the ones before are answered or not."""
    began = time.monotonic()
    with ThreadPoolExecutor(16) as pool:
        made = []
        for number, action in enumerate(actions):
            time.sleep(max(0.0, began + number / a_second - time.monotonic()))
            made.append(pool.submit(action))
        return [one.result() for one in made]


def _until_told(changes: Sequence[Change]) -> list[tuple[Change, float | None]]:
    """How long each took to reach Avito, None for never; waits for the last of them."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        calls = defaultdict(list)
        for call in control("GET", "/rent/calls"):
            if call["rent"] != "reads":
                calls[call["itemId"]].append(call)
        told = [(one, _first(one, calls[one.home.item_id])) for one in changes]
        if all(seconds is not None for _one, seconds in told) or time.monotonic() > deadline:
            return told
        time.sleep(1)


def _first(change: Change, calls: Sequence[dict[str, Any]]) -> float | None:
    return next((call["at"] - change.at for call in calls if change.is_told_by(call)), None)


# From Avito to here


def polling(connections: int, minutes: float) -> bool:
    """Print how soon bookings at Avito are here, and what the polling costs; was none lost and no call refused?"""
    tiers = rent_book.tiers_of(connections)
    homes = rent_book.make(tiers, is_polled=True)
    control("PATCH", "/settings", callsPerMinute=CALLS_PER_MINUTE)
    shares = ", ".join(f"{count} {tier}" for tier, count in Counter(tiers).items())
    print(
        f"\n{connections} connections ({shares}) for {minutes:g} minutes; Avito takes {CALLS_PER_MINUTE} calls a minute"
    )
    with running() as (_web, worker):
        time.sleep(SETTLE_SECONDS)
        control("DELETE", "/rent/calls")
        used, began = worker.cpu_seconds(), time.monotonic()
        booked = _guests(homes, 60 * minutes)
        time.sleep(max(0.0, began + 60 * minutes - time.monotonic()))
        used, spent = worker.cpu_seconds() - used, time.monotonic() - began
        refused = _tell_calls(spent)
        print(f"  CPU of the worker     {used / spent:>8.2f}   cores; load of the machine {os.getloadavg()[0]:.1f}")
        delays = _delays(booked)
    control("PATCH", "/settings", callsPerMinute=0)
    good = not refused
    for tier, goal in IMPORT_GOALS.items():
        seconds = [delays.get(number) for number, (_at, home) in booked.items() if home.tier == tier]
        good = _tell(f"import, {tier}", seconds, {100: goal}) and good
    return good


def _guests(homes: Sequence[Home], seconds: float) -> dict[int, tuple[float, Home]]:
    """Bookings at Avito, by their number: when, and of what. The cold come first, being waited for longest."""
    chance = random.Random(2)
    plan = []
    for tier, most in GUESTS.items():
        of_tier = [home for home in homes if home.tier == tier]
        span = seconds * {"hot": 0.9, "normal": 0.7, "cold": 0.1}[tier]
        plan += [(chance.uniform(0, span), home) for home in chance.sample(of_tier, min(most, len(of_tier)))]
    booked, began = {}, time.monotonic()
    for moment, home in sorted(plan, key=lambda one: one[0]):
        time.sleep(max(0.0, began + moment - time.monotonic()))
        at = time.time()
        stay = {"checkIn": day(100).isoformat(), "checkOut": day(102).isoformat()}
        booked[control("POST", "/rent/bookings", itemId=home.item_id, **stay)["id"]] = at, home
    return booked


def _delays(booked: dict[int, tuple[float, Home]]) -> dict[int, float]:
    """Seconds until each booking stood in our database; waits for the last one as long as the coldest may take."""
    latest = min(at for at, _home in booked.values()) + IMPORT_GOALS["cold"] + PATIENCE_SECONDS
    rows = Booking.objects.filter(source=Booking.Source.AVITO, avito_booking_id__in=list(booked))
    while rows.count() < len(booked) and time.time() < latest:
        time.sleep(1)
    stored = rows.values_list("avito_booking_id", "created_at")
    return {number: at.timestamp() - booked[number][0] for number, at in stored if number}


# Telling


def _tell(title: str, seconds: Sequence[float | None], goals: dict[int, float]) -> bool:
    """Print the percentiles, p100 being the slowest, and whether they are what they should be; is none missing?"""
    known = sorted(one for one in seconds if one is not None)
    missing = len(seconds) - len(known)
    shown = {name: _percentile(known, name) for name in (50, 95, 99, 100)} if known else {}
    told = "  ".join(f"p{name} {value:>6.2f}" for name, value in shown.items())
    verdicts = [
        f"{'REACHED' if shown.get(name, float('inf')) <= goal else 'MISSED'}: p{name} <= {goal:g} s"
        for name, goal in goals.items()
    ]
    print(f"  {title:<21} {told}   of {len(seconds)}{f', {missing} NEVER' if missing else ''}   {'; '.join(verdicts)}")
    return not missing


def _percentile(ordered: Sequence[float], percent: int) -> float:
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _tell_calls(seconds: float) -> int:
    """Print what Avito has seen; how many calls it refused."""
    calls: list[dict[str, Any]] = control("GET", "/rent/calls")
    by_second = Counter(int(call["at"]) for call in calls)
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in Counter(call["rent"] for call in calls).most_common())
    mean, refused = len(calls) / seconds, len([call for call in calls if call["status"] == 429])
    times, most, first = sorted(call["at"] for call in calls), 0, 0
    for number, at in enumerate(times):
        while times[first] <= at - 60:
            first += 1
        most = max(most, number - first + 1)
    print(f"  calls                 {len(calls):>8,}   {kinds}; {refused} refused with 429")
    print(f"  a minute              {60 * mean:>8.0f}   the fullest {most}, of {CALLS_PER_MINUTE} that Avito takes")
    print(f"  peak second           {max(by_second.values()) / mean:>7.1f}x   of the mean {mean:.1f}")
    return refused
