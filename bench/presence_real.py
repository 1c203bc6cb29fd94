"""The measuring process of `presence --real`: workers, real time, and what the sandbox's journal tells afterwards."""

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.utils import timezone  # noqa: E402

import avito  # noqa: E402
import doorbell  # noqa: E402
from avito import auth  # noqa: E402
from avito_accounts.models import Account, Authorization, Proxy  # noqa: E402
from bench.presence_run import LATENCY_SECONDS, LOOK_SECONDS, SIGN, interval_of, judge  # noqa: E402
from bench.servers import ROOT  # noqa: E402
from bench.syncing import control, in_threads  # noqa: E402
from messenger import presence, tasks  # noqa: E402
from messenger.models import PresenceAttempt  # noqa: E402

AS_SHIPPED = {"AVITO_RATE_LIMIT_PER_MINUTE": "", "AVITO_TIMEOUT_SECONDS": ""}
FOUND_BY = 8


def sweep() -> None:
    """What a worker does for eternal online, and nothing else, until it is told to end."""
    signal.signal(signal.SIGTERM, lambda *_details: doorbell.stopping.set())
    while not doorbell.stopping.wait(LOOK_SECONDS):
        tasks.keep_online()


def measure(options: dict[str, Any]) -> bool:
    count, seconds = options["kept"], 60.0 * options["minutes"]
    began = time.monotonic()
    make_accounts(count)
    with swallowing() as (proxy_port, connections):
        dead = list(Account.objects.order_by("pk")[:: max(1, round(100 / options["dead"]))]) if options["dead"] else []
        for account in dead:
            account.proxy = Proxy.objects.create(
                type="socks5", host="127.0.0.1", port=proxy_port, login=str(account.pk), is_kept=True
            )
        Account.objects.bulk_update(dead, ["proxy"])
        control("POST", "/faults", kind="latency", pathRegex=SIGN, seconds=LATENCY_SECONDS)
        control("DELETE", "/journal")
        print(
            f"{count:,} accounts in real time for {options['minutes']} minutes, made in {_since(began)} s; Avito takes"
        )
        print(f"{LATENCY_SECONDS * 1000:.0f} ms; {len(dead)} of them each behind a dead proxy of its own")
        command = [sys.executable, "-m", "bench.presence_real", json.dumps({"sweep": True})]
        env = {**os.environ, **AS_SHIPPED}
        workers = [subprocess.Popen(command, env=env, cwd=ROOT) for _number in range(options["workers"])]
        try:
            time.sleep(5)  # they are up by then
            used, start = sum(map(_cpu_seconds, workers)), time.time()
            presence.enable_many(Account.objects.all())
            _watch(start + seconds)
            used = sum(map(_cpu_seconds, workers)) - used
        finally:
            for worker in workers:
                worker.terminate()
            for worker in workers:
                worker.wait(60)
    good = _told(start, seconds, {account.pk for account in dead})
    each = len(connections) / max(1, len(dead))
    print(f"  CPU of the sweep     {used / seconds:>10.2f}   cores, {len(workers)} workers together")
    print(f"  dead proxies         {len(connections):>10,}   connections, {each:.1f} to each of them")
    print(f"  load of the machine  {os.getloadavg()[1]:>10.1f}   over the last five minutes, {os.cpu_count()} cores\n")
    return good


def make_accounts(count: int) -> None:
    """Accounts with tokens at hand, each of another seller, at intervals from the shortest to the longest."""
    numbers, rows, tokens = itertools.count(), [], []

    def lane() -> int:
        with closing(avito.Transport(settings.AVITO_API_BASE_URL)) as transport:
            while (number := next(numbers)) < count:
                keys = {"client_id": f"kept-{number}", "client_secret": f"secret-{number}"}
                seller = control(
                    "POST",
                    "/sellers",
                    name=f"kept {number}",
                    clientId=keys["client_id"],
                    clientSecret=keys["client_secret"],
                )
                tokens.append((seller["id"], auth.client_credentials(transport, **keys)))
                rows.append(
                    Account(
                        name=f"kept {number}",
                        avito_user_id=seller["id"],
                        online_keep_alive_interval=interval_of(number, count),
                        **keys,
                    )
                )
        return 0

    in_threads(FOUND_BY, lane)
    owners = {account.avito_user_id: account for account in Account.objects.bulk_create(rows)}
    day = timezone.now() + timedelta(days=1)
    Authorization.objects.bulk_create(
        Authorization(
            account=owners[user_id],
            kind=Authorization.Kind.CLIENT_CREDENTIALS,
            access_token=token.access_token,
            expires_at=day,
            refresh_at=day,
            renewed_at=timezone.now(),
        )
        for user_id, token in tokens
    )


@contextmanager
def swallowing() -> Iterator[tuple[int, list[socket.socket]]]:
    """A proxy that takes connections and says nothing: its port, and what it has taken."""
    taken: list[socket.socket] = []

    def take() -> None:
        while True:
            try:
                taken.append(listener.accept()[0])
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        threading.Thread(target=take, daemon=True).start()
        yield listener.getsockname()[1], taken
    for connection in taken:
        connection.close()


def _watch(until: float) -> None:
    while (left := until - time.time()) > 0:
        time.sleep(min(60, left))
        signs = PresenceAttempt.objects.filter(code="").count()
        print(f"    {max(0, until - time.time()):>5.0f} s to go, {signs:,} signs accepted", flush=True)


def _told(start: float, seconds: float, dead: set[int]) -> bool:
    """Hold the journal against the schedule."""
    owners = dict(Account.objects.exclude(pk__in=dead).values_list("avito_user_id", "pk"))
    times: defaultdict[int, list[float]] = defaultdict(list)
    for call in control("GET", f"/journal?pathRegex={SIGN}"):
        if call["status"] == 200 and call["at"] < start + seconds:
            times[owners[call["userId"]]].append(call["at"] - start)
    good = judge(times, seconds, sum(map(len, times.values())), but=dead)
    attempts = list(PresenceAttempt.objects.exclude(account_id__in=dead).values_list("at", "code"))
    begun = Counter(int(at.timestamp()) for at, _code in attempts)
    causes = Counter(code for _at, code in attempts if code)
    print(f"  peak second, as sent {max(begun.values()) / (len(attempts) / seconds):>9.1f}x   by our own records")
    print(f"  signs that failed    {causes.total():>10,}   of accounts without a dead proxy {dict(causes) or ''}")
    return good


def _cpu_seconds(process: subprocess.Popen[bytes]) -> float:
    """Of a process and its threads so far."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _since(moment: float) -> str:
    return f"{time.monotonic() - moment:.0f}"


def main(options: dict[str, Any]) -> int:
    if options.get("sweep"):
        sweep()
        return 0
    good = measure(options)
    print("As promised." if good else "BROKEN: a sign was lost or given twice.")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
