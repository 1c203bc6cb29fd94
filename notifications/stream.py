"""`GET /events`, the part that lasts: thousands of listeners, one look into the database for all of them.

Django lets a listener in, with its sign-in, its errors and its headers, and is done. From then on the listener is a
position in a sequence that all listeners of the process share: the newest events lie in memory, each rendered once for
a language, the older ones in the table. So a slow listener grows nothing, and going from the past to the present is no
seam. An idle listener costs no thread, no connection and no query.
"""

import asyncio
import random
import signal
import threading
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from contextvars import Context
from dataclasses import dataclass, field
from typing import Any, ParamSpec, TypeVar

import redis.asyncio
import structlog
from django.conf import settings
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.db import DatabaseError, InterfaceError, connection
from django.utils import timezone
from prometheus_client import Counter, Gauge

from api.roles import permissions_of
from notifications import events
from notifications.events import Entry
from notifications.tickets import Standing

P = ParamSpec("P")
T = TypeVar("T")
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[MutableMapping[str, Any], Receive, Send], Awaitable[None]]

log = structlog.get_logger(__name__)

PATH = "/api/v1/events"
POLL_SECONDS = 0.5  # without a word from Redis
HEARTBEAT_SECONDS = 15.0
SEND_SECONDS = 30.0  # for somebody who does not read
RIGHTS_SECONDS_IDLE, RIGHTS_SECONDS_BUSY = 30.0, 2.0
READY_SECONDS = 10.0
REDIS_PAUSE_SECONDS = 2.0
IN_MEMORY = 2000
PAGE = 100

listening = Gauge("live_event_listeners", "Open streams of live events")
delivered = Counter("live_events_delivered", "Live events sent to listeners, each counted for each of them")


@dataclass(eq=False, slots=True)
class Listener:
    """One open stream. `after`: the last position it has got; None: whatever comes from now on."""

    user_id: int
    rights: Collection[str]
    language: str
    after: int | None
    standing: Standing
    is_over: bool = False
    wake: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        self.is_over = True
        self.wake.set()

    @property
    def seconds_left(self) -> float:
        return float("inf") if self.standing.until is None else self.standing.until - time.time()


class Hub:
    """The listeners of this process and the newest events. Lives in one event loop; threads ask the database."""

    def __init__(self) -> None:
        self.is_closing = False
        self._listeners: set[Listener] = set()
        self._recent: list[Entry] = []  # all events behind `_floor`
        self._floor = self._latest = 0
        self._ready, self._news = asyncio.Event(), asyncio.Event()
        self._looks, self._renders = asyncio.Lock(), asyncio.Lock()
        self._rights_at = 0.0
        self._tail: asyncio.Task[None] | None = None
        self._hearing: asyncio.Task[None] | None = None
        # Those who replay the past shall not hold up the present.
        self._present, self._past = ThreadPoolExecutor(1, "events"), ThreadPoolExecutor(2, "events-past")

    async def join(self, listener: Listener) -> None:
        """Count the listener in and find its place. Raises TimeoutError when the database does not answer."""
        self._listeners.add(listener)
        listening.inc()
        if self.is_closing:
            return
        if self._tail is None:
            self._tail = asyncio.create_task(self._keep_looking(), context=Context())  # it is no part of the request
        if not self._ready.is_set():
            self._news.set()
        async with asyncio.timeout(READY_SECONDS):
            await self._ready.wait()
            if listener.after is None:
                listener.after = self._latest
            elif listener.after > self._latest:
                await self._look()  # another process may have shown it more than we have seen
                if listener.after > self._latest:
                    listener.after = 0

    def leave(self, listener: Listener) -> None:
        self._listeners.discard(listener)
        listening.dec()
        if not self._listeners:
            self._news.set()

    def close(self) -> None:
        """End all streams; those who still come are ended at once."""
        self.is_closing = True
        self._news.set()
        self._ready.set()
        for listener in self._listeners:
            listener.end()

    async def next_for(self, listener: Listener) -> bytes:
        """What the listener may hear of the next events, and it has moved on; b"" when there is nothing for it."""
        after = listener.after or 0
        if after >= self._floor:
            begin = bisect_right(self._recent, after, key=lambda entry: entry.position)
            page = self._recent[begin : begin + PAGE]
            mine = [entry for entry in page if entry.is_for(listener.user_id, listener.rights)]
            if any(listener.language not in entry.frames for entry in mine):
                async with self._renders:
                    lacking = [entry for entry in mine if listener.language not in entry.frames]
                    await _in_thread(self._past, events.render, lacking, listener.language)
            listener.after = page[-1].position if page else after
        else:
            floor, rights = self._floor, listener.rights
            mine = await _in_thread(
                self._past, events.kept_for, listener.user_id, rights, after=after, until=floor, limit=PAGE
            )
            await _in_thread(self._past, events.render, mine, listener.language)
            listener.after = mine[-1].position if len(mine) == PAGE else floor
        delivered.inc(len(mine))
        return b"".join(entry.frames[listener.language] for entry in mine)

    def is_up_to_date(self, listener: Listener) -> bool:
        return (listener.after or 0) >= self._latest

    async def _keep_looking(self) -> None:
        """While somebody listens: look when Redis says so, and in any case every half second."""
        self._hearing = asyncio.create_task(self._hear())
        while not self.is_closing:
            self._news.clear()
            if not self._listeners:
                self._ready.clear()
                self._recent = []
                await self._news.wait()
                continue
            try:
                await self._look()
            except Exception as error:  # the database may be away: the streams outlast it
                log.warning("events_not_read", error=repr(error)[:200])
            with suppress(TimeoutError):
                async with asyncio.timeout(POLL_SECONDS):
                    await self._news.wait()
        self._hearing.cancel()

    async def _hear(self) -> None:
        while True:
            try:
                client = redis.asyncio.from_url(settings.REDIS_URL, socket_connect_timeout=2)
                async with client, client.pubsub() as words:
                    await words.subscribe(events.CHANNEL)
                    async for _word in words.listen():
                        self._news.set()
            except (redis.RedisError, OSError) as error:
                log.info("event_wakes_unheard", error=type(error).__name__)
            await asyncio.sleep(REDIS_PAUSE_SECONDS)

    async def _look(self) -> None:
        """Take in what is new, and let the listeners know."""
        async with self._looks:
            if not self._ready.is_set():
                self._recent = await _in_thread(self._present, events.newest, IN_MEMORY)
                self._floor = self._recent[0].position - 1 if len(self._recent) == IN_MEMORY else 0
                self._latest = self._recent[-1].position if self._recent else 0
                self._ready.set()
            while new := await _in_thread(self._present, events.placed_after, self._latest, limit=PAGE):
                for language in {listener.language for listener in self._listeners}:
                    await _in_thread(self._present, events.render, new, language)
                await self._judge(RIGHTS_SECONDS_BUSY)
                self._recent += new
                self._latest = new[-1].position
                if len(self._recent) >= 2 * IN_MEMORY:
                    self._floor = self._recent[-IN_MEMORY - 1].position
                    del self._recent[:-IN_MEMORY]
                for listener in self._listeners:
                    listener.wake.set()
                if len(new) < PAGE:
                    break
            await self._judge(RIGHTS_SECONDS_IDLE)

    async def _judge(self, age: float) -> None:
        """Learn anew what everybody may hear, if that was done longer ago; end the streams of those who left."""
        if time.monotonic() - self._rights_at < age:
            return
        self._rights_at = time.monotonic()
        listeners = list(self._listeners)
        keys = {(listener.user_id, listener.standing.session_key) for listener in listeners}
        rights = await _in_thread(self._present, _rights_of, keys)
        for listener in listeners:
            known = rights.get((listener.user_id, listener.standing.session_key))
            if known is None or listener.seconds_left <= 0:
                listener.end()
            else:
                listener.rights = known


def _rights_of(keys: Collection[tuple[int, str]]) -> dict[tuple[int, str], frozenset[str]]:
    """What each (user, session) may hear; those whose user or session is gone are missing."""
    wanted = {user_id for user_id, _key in keys}
    users = {user.pk: user for user in User.objects.filter(pk__in=wanted, is_active=True).prefetch_related("groups")}
    session_keys = [key for _user_id, key in keys if key]
    living = (
        Session.objects.filter(session_key__in=session_keys, expire_date__gt=timezone.now()) if session_keys else []
    )
    hashes = {session.session_key: session.get_decoded().get(HASH_SESSION_KEY) for session in living}
    return {
        (user_id, key): frozenset(permissions_of(users[user_id]))
        for user_id, key in keys
        if user_id in users and (not key or hashes.get(key) == users[user_id].get_session_auth_hash())
    }


async def _in_thread(pool: Executor, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Ask the database in a thread, which keeps no connection."""

    def asked() -> T:
        try:
            return call(*args, **kwargs)
        finally:
            connection.close()

    return await asyncio.get_running_loop().run_in_executor(pool, asked)


class Stream:
    """ASGI app in front of Django: whom Django has let in as a listener hears events, all else is Django's."""

    def __init__(self, app: App, hub: Hub) -> None:
        self.app, self.hub = app, hub

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["path"] != PATH or scope["method"] != "GET":
            await self.app(scope, receive, send)
            return
        answer: list[Message] = []

        async def hold(message: Message) -> None:
            answer.append(message)

        await self.app(scope, receive, hold)
        listener = scope.get("listener")
        if listener is None or not answer or answer[0]["status"] != 200:
            for message in answer:
                await send(message)
            return
        headers = [pair for pair in answer[0]["headers"] if pair[0].lower() != b"content-length"]
        await send({**answer[0], "headers": headers})
        watch = asyncio.create_task(_notice_the_end(listener, receive))
        try:
            with suppress(TimeoutError, DatabaseError, InterfaceError):
                await self.hub.join(listener)
                await self._deliver(listener, send)
            with suppress(TimeoutError):
                await _write(send, b"", more=False)
        finally:
            watch.cancel()
            self.hub.leave(listener)

    async def _deliver(self, listener: Listener, send: Send) -> None:
        """Until the client, the identity or the service ends. Raises TimeoutError when the client does not read."""
        # After a restart the listeners come back one by one.
        await _write(send, b"retry: %d\n\n" % random.randint(1000, 3000))  # noqa: S311  spreads load, hides nothing
        written_at = time.monotonic()
        while not (listener.is_over or self.hub.is_closing or listener.seconds_left <= 0):
            listener.wake.clear()
            chunk = await self.hub.next_for(listener)
            if not chunk:
                if not self.hub.is_up_to_date(listener):
                    continue
                patience = min(written_at + HEARTBEAT_SECONDS - time.monotonic(), listener.seconds_left)
                if patience > 0:
                    with suppress(TimeoutError):
                        async with asyncio.timeout(patience):
                            await listener.wake.wait()
                    continue
                chunk = b":\n\n"
            await _write(send, chunk)
            written_at = time.monotonic()


async def _write(send: Send, body: bytes, *, more: bool = True) -> None:
    async with asyncio.timeout(SEND_SECONDS):
        await send({"type": "http.response.body", "body": body, "more_body": more})


async def _notice_the_end(listener: Listener, receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    listener.end()


def end_with_the_server(hub: Hub) -> None:
    """Have the streams end as soon as the server is asked to, as it waits for them. Call it once the server runs."""
    if threading.current_thread() is not threading.main_thread():
        return
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        servers_own = signal.getsignal(signum)
        if callable(servers_own):

            def handle(number: int, frame: Any, then: Callable[..., Any] = servers_own) -> None:
                loop.call_soon_threadsafe(hub.close)
                then(number, frame)

            signal.signal(signum, handle)
