"""The shared budget of calls to Avito: whoever calls takes a token first, over all processes and hosts.

A token comes back a minute after the ANSWER. Avito counts a call somewhere between the two, so no minute that it may
look at holds more calls than there are tokens, whatever the latency; a caller that dies gives its token back a minute
after its deadline. The tokens lie in Redis, whose clock is the only one. While it is away each process lives on a
small share of its own.
"""

import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from math import ceil
from typing import Any, TypeVar

import redis
import structlog
from django.conf import settings
from redis.backoff import NoBackoff
from redis.retry import Retry

import avito
from avito import limits as published
from avito.client import Sender
from avito.limits import Allowance
from avito.protocol import Request, Response

log = structlog.get_logger(__name__)
T = TypeVar("T")

PREFIX = "avito:limits:"
PEOPLE_PATIENCE_SECONDS = 5.0
BACKGROUND_PATIENCE_SECONDS = 75.0
REDIS_SECONDS = 1.0
SILENCE_SECONDS = 10.0  # after a failure: a Redis that hangs shall not hold up one caller after the other
FALLBACK_PROCESSES = 8
LEARNT_SECONDS = 86_400
REFUSED_ACCOUNTS = 3  # so many refused with no other answer between them: the whole application is meant

_background: ContextVar[float] = ContextVar("avito_limits_background", default=0.0)
"""How long calls may wait for their tokens as background work; 0: they are people's."""


def background(patience_seconds: float | None = None) -> AbstractContextManager[None]:
    """Calls in here leave a reserve to people, and wait so long for their tokens, by default about a minute."""
    return _working(BACKGROUND_PATIENCE_SECONDS if patience_seconds is None else patience_seconds)


def at_once() -> AbstractContextManager[None]:
    """Calls in here wait no longer than people do, though the work is background work: others wait for it."""
    return _working(0.0)


@contextmanager
def _working(patience_seconds: float) -> Iterator[None]:
    token = _background.set(patience_seconds)
    try:
        yield
    finally:
        _background.reset(token)


@dataclass(frozen=True, slots=True)
class State:
    """The budget of all calls. `is_shared`: False while Redis is away, then it is this process's share."""

    limit: int
    used: int
    paused_until: datetime | None
    is_shared: bool = True


@dataclass(slots=True)
class Call:
    """One call and its tokens. `ended_at`: when its answer came, on this process's clock; before, the latest moment."""

    id: str
    account_id: int
    section: str
    published: int
    is_background: bool
    seconds: float
    ended_at: float = 0.0

    @property
    def budget(self) -> str:
        return f"{self.account_id}:{self.section}"


# Tokens are members of a sorted set: the score says when the answer came, or the latest moment at which it can.
# Times are microseconds. Returns how long to wait at least; 0: all tokens are taken.
TAKE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local member, window, hold = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local app_limit, limit, is_background = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6] == '1'
local app, pace, app_pause, section, section_pause, learnt = unpack(KEYS)
local wait = 0

if redis.call('ZSCORE', app, member) then return 0 end  -- asked again, the answer was lost

local function free_for_us(count)
  return is_background and count - math.floor(count / 5) or count
end

local function paused(key)
  wait = math.max(wait, tonumber(redis.call('GET', key) or '0') - now)
end

local function room(key, count, span)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now - span)
  local over = redis.call('ZCARD', key) - count + 1
  if over > 0 then
    local score = tonumber(redis.call('ZRANGE', key, over - 1, over - 1, 'WITHSCORES')[2])
    wait = math.max(wait, math.min(score, now) + span - now)
  end
end

local function take(key, score, lifetime)
  redis.call('ZADD', key, score, member)
  if redis.call('PTTL', key) < lifetime then redis.call('PEXPIRE', key, lifetime) end
end

local seen = tonumber(redis.call('GET', learnt) or '0')
if seen > 0 and (limit == 0 or seen < limit) then limit = seen end
local tenth = math.floor(window / 10)
paused(app_pause)
paused(section_pause)
room(app, free_for_us(app_limit), window)
if limit > 0 then room(section, free_for_us(limit), window) end
if is_background then room(pace, math.max(1, math.floor(free_for_us(app_limit) / 5)), tenth) end
if wait > 0 then return math.ceil(wait) end

local lifetime = math.ceil((window + hold) / 1000) + 1000
take(app, now + hold, lifetime)
take(section, now + hold, lifetime)
if is_background then take(pace, now, math.ceil(tenth / 1000) + 1000) end
return 0
"""

# The answer is in: its tokens come back a window from now, and what it said is kept. Returns the pause that is left.
SETTLE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local member, window, ago = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local app_limit, limit, account, is_answered = tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[6], ARGV[7] == '1'
local said, remaining, pause = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[10])
local is_refused, jitter = ARGV[11] == '1', tonumber(ARGV[12])
local first, longest, learnt_ms = tonumber(ARGV[13]), tonumber(ARGV[14]), tonumber(ARGV[15])
local app, app_pause, refused, section, section_pause, learnt, streak = unpack(KEYS)

local function extend(key, lifetime)
  if redis.call('PTTL', key) < lifetime then redis.call('PEXPIRE', key, lifetime) end
end

local ended = now - ago
local lifetime = math.ceil((window + math.max(0, -ago)) / 1000) + 1000
for _, key in ipairs({app, section}) do
  if ended > now - window then
    redis.call('ZADD', key, ended, member)
    extend(key, lifetime)
  end
end

local function pause_until(key, moment)
  if moment > now and moment > tonumber(redis.call('GET', key) or '0') then
    redis.call('SET', key, string.format('%.0f', moment), 'PX', math.ceil((moment - now) / 1000) + 1)
  end
end

local function left(key)
  return math.max(0, tonumber(redis.call('GET', key) or '0') - now)
end

if said > 0 and (limit == 0 or said < limit) then
  said = math.min(said, app_limit)
  local seen = tonumber(redis.call('GET', learnt) or '0')
  if seen == 0 or said <= seen then redis.call('SET', learnt, said, 'PX', learnt_ms) end
end
local seen = tonumber(redis.call('GET', learnt) or '0')
if seen > 0 and (limit == 0 or seen < limit) then limit = seen end

if remaining >= 0 and limit > 0 and not is_refused then  -- a refusal speaks through its pause
  redis.call('ZREMRANGEBYSCORE', section, '-inf', now - window)
  local foreign = limit - redis.call('ZCARD', section) - remaining
  for number = 1, foreign do redis.call('ZADD', section, now, member .. '#' .. number) end
  extend(section, lifetime)
end

if is_refused and pause == 0 and left(section_pause) == 0 then
  local refusals = redis.call('INCR', streak)
  pause = math.floor(math.min(first * 2 ^ math.min(refusals - 1, 20), longest) * jitter)
  redis.call('PEXPIRE', streak, math.ceil((pause + longest + window) / 1000))
end
pause_until(section_pause, now + pause)
if is_refused then
  redis.call('SADD', refused, account)
  redis.call('PEXPIRE', refused, math.ceil(window / 1000))
  if redis.call('SCARD', refused) >= tonumber(ARGV[16]) then
    pause_until(app_pause, now + math.min(left(section_pause), longest))
  end
elseif is_answered then
  redis.call('DEL', refused)
  if left(section_pause) == 0 then redis.call('DEL', streak) end
end
return math.ceil(left(section_pause))
"""


class _Process:
    """What one process knows by itself: its connections, its own calls of the last window, the pauses it was given."""

    def __init__(self, url: str, window_seconds: float) -> None:
        self.pid = os.getpid()
        self.url = url
        self.window_seconds = window_seconds
        self.redis: redis.Redis = redis.Redis.from_url(
            url,
            socket_timeout=REDIS_SECONDS,
            socket_connect_timeout=REDIS_SECONDS,
            # Once and at once: a connection that was cut while it was idle is no outage. Taking twice is taking once.
            retry=Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        )
        self.scripts = {script: self.redis.register_script(script) for script in (TAKE, SETTLE)}
        self.is_away = False
        self.silent_until = 0.0
        self._lock = threading.Lock()
        self._calls: dict[str, Call] = {}
        self._paused_until: dict[str, float] = {}

    def add(self, call: Call) -> None:
        with self._lock:
            self._remember(call)

    def pause(self, budget: str, seconds: float) -> None:
        with self._lock:
            now = time.monotonic()
            self._paused_until = {name: until for name, until in self._paused_until.items() if until > now}
            self._paused_until[budget] = now + seconds

    def take(self, call: Call, app_limit: int) -> float:
        """How long to wait at least for a token of this process's share; 0: it is taken."""
        with self._lock:
            now = time.monotonic()
            calls = self._counted(now)
            waits = [self._paused_until.get(call.budget, 0.0) - now, self._room(calls, app_limit, call, now)]
            if call.published:
                same = [other for other in calls if other.budget == call.budget]
                waits.append(self._room(same, call.published, call, now))
            if max(waits) > 0:
                return max(waits)
            self._remember(call)
            return 0.0

    def calls(self) -> list[Call]:
        """Those of the last window."""
        with self._lock:
            return self._counted(time.monotonic())

    def _remember(self, call: Call) -> None:
        now = time.monotonic()
        call.ended_at = now + call.seconds
        while self._calls and next(iter(self._calls.values())).ended_at + self.window_seconds <= now:
            del self._calls[next(iter(self._calls))]
        self._calls[call.id] = call

    def _counted(self, now: float) -> list[Call]:
        return [call for call in self._calls.values() if call.ended_at + self.window_seconds > now]

    def _room(self, calls: Iterable[Call], limit: int, call: Call, now: float) -> float:
        share = share_of(limit)
        ends = sorted(other.ended_at for other in calls)
        over = len(ends) - (share - share // 5 if call.is_background else share) + 1
        return min(ends[over - 1], now) + self.window_seconds - now if over > 0 else 0.0


def share_of(limit: int) -> int:
    """What one process may use while it cannot ask the others."""
    return max(1, limit // FALLBACK_PROCESSES)


class Limits:
    """The budgets, all in one Redis: one of all calls, and one of each account's calls of a section.

    The numbers are Avito's minute and our own manners; tests choose shorter ones.
    """

    def __init__(
        self,
        *,
        window_seconds: float = 60.0,
        first_pause_seconds: float = 2.0,
        longest_pause_seconds: float = 60.0,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self.window_seconds = window_seconds
        self.first_pause_seconds = first_pause_seconds
        self.longest_pause_seconds = longest_pause_seconds
        self.silence_seconds = silence_seconds
        self._process: _Process | None = None

    def take(self, call: Call) -> float:
        """Take a token of every budget of the call, or of none: then the seconds to wait at least, else 0."""
        here = self._here()
        wait = self._ask(here, partial(self._take_from_redis, here, call))
        if wait is None:
            return here.take(call, settings.AVITO_RATE_LIMIT_PER_MINUTE)
        if not wait:
            here.add(call)
        return wait

    def settle(self, call: Call, allowance: Allowance | None) -> float:
        """The answer is in, or None when none came: the seconds for which nobody may make such a call."""
        here = self._here()
        call.ended_at = time.monotonic()
        pause = self._ask(here, partial(self._tell_redis, here, call, allowance))
        if pause is None:
            pause = self._pause_alone(allowance)
        if pause:
            here.pause(call.budget, pause)
        return pause

    def state(self) -> State:
        """How the budget of all calls stands."""
        here = self._here()
        limit = settings.AVITO_RATE_LIMIT_PER_MINUTE
        state = self._ask(here, partial(self._read_state, here, limit))
        return state or State(share_of(limit), len(here.calls()), None, is_shared=False)

    def reset(self) -> None:
        """Forget everything, in Redis too."""
        here = self._here()
        keys = list(here.redis.scan_iter(f"{PREFIX}*", count=1000))
        if keys:
            here.redis.delete(*keys)
        self._process = None

    def _here(self) -> _Process:
        """This process's own knowledge; a forked one begins anew."""
        here = self._process
        if here is None or here.pid != os.getpid() or here.url != settings.REDIS_URL:
            here = self._process = _Process(settings.REDIS_URL, self.window_seconds)
        return here

    def _ask(self, here: _Process, action: Callable[[], T]) -> T | None:
        """Do something with Redis; None while it is away."""
        if time.monotonic() < here.silent_until:
            return None
        try:
            if here.is_away:
                self._tell_all(here)
            result = action()
        except (redis.RedisError, OSError) as error:
            here.silent_until = time.monotonic() + self.silence_seconds
            if not here.is_away:
                here.is_away = True
                log.warning("avito_limits_without_redis", error=type(error).__name__)
            return None
        if here.is_away:
            here.is_away = False
            log.info("avito_limits_with_redis_again")
        return result

    def _take_from_redis(self, here: _Process, call: Call) -> float:
        keys = ["app", "app:pace", "app:pause", call.budget, f"{call.budget}:pause", f"{call.budget}:limit"]
        limits = settings.AVITO_RATE_LIMIT_PER_MINUTE, call.published
        times = _microseconds(self.window_seconds), _microseconds(call.seconds)
        return self._run(here, TAKE, keys, [call.id, *times, *limits, int(call.is_background)])

    def _tell_redis(self, here: _Process, call: Call, allowance: Allowance | None) -> float:
        said = allowance or Allowance()
        section = call.budget
        keys = ["app", "app:pause", "app:refused", section, f"{section}:pause", f"{section}:limit", f"{section}:streak"]
        return self._run(
            here,
            SETTLE,
            keys,
            [
                *(call.id, _microseconds(self.window_seconds), _microseconds(time.monotonic() - call.ended_at)),
                *(settings.AVITO_RATE_LIMIT_PER_MINUTE, call.published, call.account_id, int(allowance is not None)),
                *(said.limit or 0, -1 if said.remaining is None else said.remaining),
                *(_microseconds(said.retry_after_seconds or 0), int(said.is_refused), random.uniform(1, 1.25)),  # noqa: S311
                *(_microseconds(self.first_pause_seconds), _microseconds(self.longest_pause_seconds)),
                *(LEARNT_SECONDS * 1000, REFUSED_ACCOUNTS),
            ],
        )

    def _tell_all(self, here: _Process) -> None:
        """After an outage: what this process did meanwhile, and before, as Redis may have forgotten it."""
        for call in here.calls():
            self._tell_redis(here, call, None)

    def _run(self, here: _Process, script: str, keys: list[str], arguments: list[Any]) -> float:
        microseconds: Any = here.scripts[script](keys=[PREFIX + key for key in keys], args=arguments)
        return int(microseconds) / 1_000_000

    def _pause_alone(self, allowance: Allowance | None) -> float:
        if allowance is None:
            return 0.0
        return allowance.retry_after_seconds or (self.first_pause_seconds if allowance.is_refused else 0.0)

    def _read_state(self, here: _Process, limit: int) -> State:
        client: Any = here.redis
        seconds, microseconds = client.time()
        now = seconds * 1_000_000 + microseconds
        used = client.zcount(f"{PREFIX}app", f"({now - _microseconds(self.window_seconds)}", "+inf")
        until = int(client.get(f"{PREFIX}app:pause") or 0)
        return State(limit, used, datetime.fromtimestamp(until / 1_000_000, UTC) if until > now else None)


def _microseconds(seconds: float) -> int:
    return round(seconds * 1_000_000)


shared = Limits()


def state() -> State:
    """How the budget of all calls stands, for those who look after the service."""
    return shared.state()


def reset() -> None:
    """Forget what was used, learnt and paused. For tests: Avito forgets nothing."""
    shared.reset()


class Metered:
    """A sender that keeps to the budgets: give it to `avito.Client` in the transport's place.

    People wait a little for a token, background work a minute; then avito.RateLimited is raised and Avito not asked.
    `before_waiting` is called once a call, before its first wait: the place to give a database connection back.
    """

    def __init__(
        self,
        sender: Sender,
        account_id: int,
        *,
        before_waiting: Callable[[], object] | None = None,
        limits: Limits = shared,
    ) -> None:
        self._sender = sender
        self._account_id = account_id
        self._before_waiting = before_waiting
        self._limits = limits

    def __repr__(self) -> str:
        return f"<Metered {self._sender!r}>"

    def send(self, request: Request, *, deadline_seconds: float | None = None) -> Response:
        """Send when it is allowed; in the background again after a 429, which has done nothing."""
        is_background = _background.get() > 0
        patience = _Patience(_background.get() or PEOPLE_PATIENCE_SECONDS, self._before_waiting)
        while True:
            call = self._call(request, deadline_seconds, is_background)
            while wait := self._limits.take(call):
                patience.wait(wait)
            response = self._send(call, request, deadline_seconds)
            if response.status != 429 or not is_background:
                return response

    def _call(self, request: Request, deadline_seconds: float | None, is_background: bool) -> Call:
        if deadline_seconds is None:
            deadline_seconds = getattr(self._sender, "deadline_seconds", settings.AVITO_TIMEOUT_SECONDS)
        return Call(
            id=uuid.uuid4().hex,
            account_id=self._account_id,
            section=published.section_of(request),
            published=published.published(request) or 0,
            is_background=is_background,
            seconds=deadline_seconds,
        )

    def _send(self, call: Call, request: Request, deadline_seconds: float | None) -> Response:
        allowance, pause = None, 0.0
        try:
            response = self._sender.send(request, deadline_seconds=deadline_seconds)
            allowance = Allowance.from_response(response)
        finally:
            pause = self._limits.settle(call, allowance)
        if allowance.is_refused and allowance.retry_after_seconds is None:
            return _with_retry_after(response, pause)
        return response


def _with_retry_after(response: Response, seconds: float) -> Response:
    """Avito did not say how long to wait: our own pause."""
    headers = {name: value for name, value in response.headers.items() if name.lower() != "retry-after"}
    return replace(response, headers={**headers, "retry-after": str(ceil(seconds))})


class _Patience:
    """How long one call may still wait."""

    def __init__(self, seconds: float, before: Callable[[], object] | None) -> None:
        self._until = time.monotonic() + seconds
        self._before = before

    def wait(self, seconds: float) -> None:
        """Wait so long and a little longer, that not all come at once. Raises avito.RateLimited if it is too long."""
        left = self._until - time.monotonic()
        if seconds > left:
            raise avito.RateLimited(
                "The calls to Avito that are allowed for now are used up", retry_after_seconds=ceil(seconds)
            )
        if self._before is not None:
            self._before()
            self._before = None
        jitter = random.uniform(0.005, 0.05 + min(1.0, seconds / 10))  # noqa: S311
        time.sleep(min(left, seconds + jitter))
