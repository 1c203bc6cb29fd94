"""The measuring process of `bench.events`: both servers, their listeners, and whoever makes the events."""

import asyncio
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import django

django.setup()

from asgiref.sync import sync_to_async  # noqa: E402  all below needs Django to be set up
from django.contrib.auth.models import Group, User  # noqa: E402
from django.db import transaction  # noqa: E402
from rest_framework_simplejwt.tokens import AccessToken  # noqa: E402

from api.roles import set_role  # noqa: E402
from bench import rule  # noqa: E402
from bench.servers import Web  # noqa: E402
from chats.models import Chat  # noqa: E402
from config.supervisor import stop_together  # noqa: E402
from notifications import events  # noqa: E402
from notifications.models import Event  # noqa: E402

OPENING_AT_ONCE = 50
PATIENCE_SECONDS = 30.0
WITHIN_SECONDS = 1.0


@dataclass
class Crowd:
    """The listeners of one side. `heard`: frames since the last change, the latest at `last_at`."""

    web: Web
    path: str
    heard: int = 0
    last_at: float = 0.0
    all_heard: asyncio.Event = field(default_factory=asyncio.Event)
    streams: list[asyncio.StreamWriter] = field(default_factory=list)
    readers: list[asyncio.Task[None]] = field(default_factory=list)

    async def gather(self, count: int, header: str) -> None:
        slots = asyncio.Semaphore(OPENING_AT_ONCE)

        async def come() -> None:
            async with slots:
                reader, writer = await asyncio.open_connection("127.0.0.1", self.web.port)
                writer.write(f"GET {self.path} HTTP/1.1\r\nHost: x\r\n{header}\r\n\r\n".encode())
                await reader.readuntil(b"retry: ")
            self.streams.append(writer)
            self.readers.append(asyncio.create_task(self._listen(reader)))

        await asyncio.gather(*(come() for _number in range(count)))

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            if line.startswith(b"data: "):
                self.heard += 1
                self.last_at = time.monotonic()
                if self.heard == len(self.readers):
                    self.all_heard.set()

    async def seconds_until_all_hear(self, chat: Chat) -> float:
        """From the commit of a change until the last listener has it. Raises TimeoutError for one that never does."""
        self.heard = 0
        self.all_heard.clear()
        await sync_to_async(_change)(chat)
        committed_at = time.monotonic()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.all_heard.wait()
        await asyncio.sleep(0.1)
        if self.heard != len(self.readers):
            raise AssertionError(f"{self.heard} frames for {len(self.readers)} listeners")
        return self.last_at - committed_at

    def kilobytes(self) -> int:
        status = Path(f"/proc/{self.web.pid}/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.web.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _change(chat: Chat) -> None:
    with transaction.atomic():
        events.emit("chat.updated", chat.pk)


async def compare(sides: dict[str, Crowd], *, listeners: int, rounds: int, count: int, settle: float) -> None:
    chat = await Chat.objects.acreate(avito_id="u2i-bench", name="Пётр")
    user = await sync_to_async(_somebody)()
    header = f"Authorization: Bearer {AccessToken.for_user(user)}"
    print(f"{listeners} listeners on one process of each side; one side sleeps while the other is measured.")
    for name, crowd in sides.items():
        await crowd.gather(1, header)  # what the first one costs is not the listeners'
        before, began = crowd.kilobytes(), time.monotonic()
        await crowd.gather(listeners - 1, header)
        opened = time.monotonic() - began
        await asyncio.sleep(settle)
        idle = crowd.cpu_seconds()
        await asyncio.sleep(settle)
        idle = (crowd.cpu_seconds() - idle) / settle
        each = (crowd.kilobytes() - before) / (listeners - 1)
        print(f"  {name:<8}  {each:.1f} KB each, {idle:.0%} of a core while nothing happens, opened in {opened:.0f} s")
        _signal(crowd, signal.SIGSTOP)
    measured: list[rule.Round] = []
    slowest: list[float] = []
    for index in range(rounds):
        seconds: dict[str, list[float]] = {}
        for side in rule.order(index):
            _signal(sides[side], signal.SIGCONT)
            await asyncio.sleep(settle)
            seconds[side] = [await sides[side].seconds_until_all_hear(chat) for _event in range(count)]
            _signal(sides[side], signal.SIGSTOP)
            # The side that slept meanwhile shall not wake to what was meant for the other.
            await Event.objects.all().adelete()
        one = rule.Round(1 / median(seconds["baseline"]), 1 / median(seconds["ours"]))
        measured.append(one)
        slowest.append(max(seconds["ours"]))
        print(
            f"  {index + 1:>3}  polling {1 / one.baseline:.3f} s  ours {1 / one.ours:.3f} s"
            f" (slowest {max(seconds['ours']):.3f} s)  {one.ratio:.1f}x as soon",
            flush=True,
        )
    print(f"  {rule.summary(measured)}")
    print(f"  {verdict(measured, max(slowest))}")


def verdict(rounds: Sequence[rule.Round], slowest: float) -> str:
    """One line: judged, or why not."""
    told = f"the slowest of ours took {slowest:.3f} s."
    if len(rounds) < rule.ROUNDS_MIN:
        return f"No verdict: it takes {rule.ROUNDS_MIN} rounds; {told}"
    if rule.spread([one.baseline for one in rounds]) > rule.BASELINE_SPREAD_MAX:
        return f"No verdict: run it again on a quieter machine; {told}"
    reached = "REACHED" if slowest <= WITHIN_SECONDS else "MISSED"
    return f"{reached}: everybody hears within {WITHIN_SECONDS:.0f} s; {told}"


def _signal(crowd: Crowd, signum: signal.Signals) -> None:
    assert crowd.web.pid
    os.kill(crowd.web.pid, signum)


def _somebody() -> User:
    Group.objects.get_or_create(name="operator")
    user = User.objects.create_user("bench")
    set_role(user, "operator")
    return user


def main(options: dict[str, Any]) -> int:
    _soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    webs = {
        "baseline": Web("baseline", "bench.baseline.polling:application", "asgi3", dict(os.environ), processes=1),
        "ours": Web("ours", "config.asgi:application", "asgi3", dict(os.environ), processes=1),
    }
    try:
        for web in webs.values():
            web.start()
        for web in webs.values():
            web.wait_ready()
        sides = {name: Crowd(web, "/api/v1/events") for name, web in webs.items()}
        asyncio.run(
            compare(
                sides,
                listeners=options["listeners"],
                rounds=options["rounds"],
                count=options["events"],
                settle=options["settle"],
            )
        )
    finally:
        for web in webs.values():
            if web.pid and web.status() is None:
                os.kill(web.pid, signal.SIGCONT)
        stop_together(list(webs.values()))
    return 0


if __name__ == "__main__":
    sys.exit(main(json.loads(sys.argv[1])))
