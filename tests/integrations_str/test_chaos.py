"""A day on which everything goes wrong at once: in the end both calendars agree and no booking is lost."""

import datetime as dt
import logging
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable

from django.contrib.auth.models import User
from django.db.models.functions import Now

from avito_accounts import limits
from avito_accounts.models import Account
from integrations_str.models import Booking, Conflict, Night, SyncTask
from tests.factories import make_user
from tests.integrations_str.conftest import Home, assert_agrees, make_home, start_worker, work
from tests.sandbox.driver import ANNA, Sandbox

log = logging.getLogger(__name__)
CALLS = int(os.environ.get("STR_CHAOS_CALLS", "40"))
"""How long the day lasts: so many calls to Avito."""
PLENTY = {"x-ratelimit-limit": "1000", "x-ratelimit-remaining": "900"}
SEED = int(os.environ.get("STR_CHAOS_SEED", "1"))
CHAOS = """
import time
from integrations_str import calendar, queue, tasks
calendar.BACKOFF_SECONDS = 0.2  # a day in a minute
queue.QUIET_SECONDS = 0.05
while True:
    tasks.serve()
    time.sleep(0.1)
"""


def disturb(avito: Sandbox, calls: int) -> None:
    """Of so many calls 5 % fail, and 2 % take effect and are not answered."""
    for start in range(0, calls, 100):
        for number in range(5):
            avito.rent_fault("status", status=500 + number % 4, skip=start + 20 * number + 7, times=1)
        for number in range(2):
            avito.rent_fault("reset", apply="before", skip=start + 50 * number + 13, times=1)


def live(home: Home, chance: random.Random) -> None:
    """Something happens: the host edits, or a guest does something at Avito."""
    first = chance.randrange(60)
    last = first + chance.randrange(6)
    guests = [one for one in home.avito.rent_item(home.item)["bookings"] if one["status"] in ("active", "pending")]
    match chance.randrange(10):
        case 0 | 1 | 2:
            home.set_rate(first, last, price=chance.choice([None, *range(1500, 4000, 100)]))
        case 3:
            home.set_rate(first, last, minStay=chance.choice([None, 1, 2, 3]))
        case 4:
            home.set_rate(first, last, closed=chance.choice([None, True, False]))
        case 5:
            home.book(first, last + 1)
        case 6 | 7:
            body = {"itemId": home.item, "checkIn": home.day(first).isoformat()}
            body |= {"checkOut": home.day(last + 1).isoformat(), "status": chance.choice(["active", "pending"])}
            home.avito.call("POST", "/_sandbox/rent/bookings", json=body)  # refused where it is not for sale
        case 8 if guests:
            guest = chance.choice(guests)
            home.avito.call("POST", f"/_sandbox/rent/bookings/{guest['id']}/{chance.choice(['cancel', 'pay'])}")
        case 9 if guests:
            dates = {"checkIn": home.day(first).isoformat(), "checkOut": home.day(last + 1).isoformat()}
            home.avito.call("POST", f"/_sandbox/rent/bookings/{chance.choice(guests)['id']}/move", json=dates)


def replaced(worker: subprocess.Popen[str], avito: Sandbox) -> subprocess.Popen[str]:
    """The worker is killed, and another one comes; the claims of the dead one are over soon."""
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    SyncTask.objects.filter(claimed_until__isnull=False).update(claimed_until=Now())
    return start_worker(avito, CHAOS)


def settle() -> None:
    """Everything that waits is due, until nothing does; the dead workers' leases are over."""
    SyncTask.objects.update(claimed_until=None)
    for _ in range(20):
        SyncTask.objects.update(pull_at=Now())
        SyncTask.objects.filter(push_at__isnull=False).update(push_at=Now())
        work()
        if not SyncTask.objects.filter(push_at__isnull=False).exists():
            return
    raise AssertionError("it does not come to rest")


def test_after_a_day_of_chaos_both_calendars_are_equal_and_no_booking_is_lost(
    product: str, avito_sandbox: Sandbox, anna: Account, host: User
) -> None:
    chance = random.Random(SEED)
    others = make_user("another host")
    homes = [make_home(product, avito_sandbox, anna, owner) for owner in (host, host, host, others, others)]
    for home in homes:
        home.connect_and_push()
    disturb(avito_sandbox, calls=CALLS * 2)
    workers = [start_worker(avito_sandbox, CHAOS) for _ in range(2)]
    disasters: list[tuple[float, Callable[[], object]]] = [
        (0.3, lambda: avito_sandbox.control("POST", "/tokens/expire", sellerId=ANNA)),
        (0.4, lambda: avito_sandbox.rent_fault("429", times=5, seconds=1, headers=PLENTY)),
        (0.5, lambda: workers.append(replaced(workers[0], avito_sandbox))),
        (0.75, lambda: workers.append(replaced(workers[1], avito_sandbox))),
    ]
    edits, ends = 0, time.monotonic() + 60 + CALLS
    try:
        while (calls := avito_sandbox.count_rent_calls()) < CALLS or disasters:
            assert time.monotonic() < ends, f"only {calls} calls"
            live(chance.choice(homes), chance)
            edits += 1
            SyncTask.objects.filter(pull_at__gt=Now() + dt.timedelta(seconds=1)).update(pull_at=Now())
            if disasters and calls > disasters[0][0] * CALLS:
                disasters.pop(0)[1]()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
    met = Counter(f"{call.fault or ''} {call.status or ''}" for call in avito_sandbox.rent_calls())
    log.info("%s edits, seed %s, calls by fault and answer: %s", edits, SEED, dict(met))
    assert met["429 429"] >= 1
    avito_sandbox.control("DELETE", "/faults")
    limits.reset()
    for home in homes:  # whoever has not paid gives up: until then the prices of those nights wait
        for guest in home.avito.rent_item(home.item)["bookings"]:
            if guest["status"] in ("pending", "overbook"):
                home.avito.control("POST", f"/rent/bookings/{guest['id']}/cancel")
    settle()
    for home in homes:
        assert_equal(home)


def assert_equal(home: Home) -> None:
    assert home.connection()["status"] == "ok"
    theirs = {one["id"]: one for one in home.avito.rent_item(home.item)["bookings"]}
    ours = {one.avito_booking_id: one for one in Booking.objects.filter(property=home.id, source="avito")}
    words = {"active": "confirmed", "pending": "pending", "overbook": "pending", "canceled": "cancelled"}
    assert len(ours) == Booking.objects.filter(property=home.id, source="avito").count(), "no booking twice"
    assert {
        number: (words[one["status"]], one["checkIn"], one["checkOut"])
        for number, one in theirs.items()
    } == {
        number: (one.status, one.check_in.isoformat(), one.check_out.isoformat()) for number, one in ours.items()
    }  # fmt: skip
    claimed: Counter[dt.date] = Counter()
    for one in Booking.objects.filter(property=home.id, holds=True):
        claimed.update(one.check_in + dt.timedelta(days=number) for number in range(one.nights))
    assert set(Night.objects.filter(property=home.id).values_list("date", flat=True)) == set(claimed)
    overbooked = {night for night, parties in claimed.items() if parties > 1}
    conflicts = Conflict.objects.filter(property=home.id, solved_at=None)
    shown = {one.start + dt.timedelta(days=number) for one in conflicts for number in range((one.end - one.start).days)}
    assert shown == overbooked, "whoever is in another's bed is shown"
    assert_agrees(home)
