"""The outermost layer: notes every call of the API in the journal, counts them, and lets calls fail as asked.

A fault decides two things apart: what the client sees (`kind`), and whether the call takes effect all the same
(`apply`): `never`, `before` the fault (the client is told nothing of it), or `after` it.
"""

import asyncio
import gzip
import itertools
import json
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from urllib.parse import parse_qs

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sandbox.rent import kind_of
from sandbox.state import World, fingerprint
from sandbox.wire import Refusal, admit

SILENCE_SECONDS_MAX = 120.0
BODY_BYTES_MAX = 32 * 1024 * 1024
HUGE_BYTES = 3 * 1024 * 1024
BOMB_BYTES = 64 * 1024 * 1024
RUBBISH = "<!doctype html><html><body><h1>Доступ ограничен</h1><p>Проверка браузера…</p></body></html>"
# Paths of the sandbox itself, which are never noted and never fail.
OWN = re.compile(r"^/(_sandbox/.*|oauth|buyer(/.*)?|guest(/.*)?|faults(/.*)?|files/.*|favicon\.ico)?$")


@dataclass
class Fault:
    id: int
    kind: str
    path_regex: str
    method: str | None = None
    grant_type: str | None = None
    seller_id: int | None = None
    # Of the calls for short-term rent: the kind, and the listing wherever the call names it.
    rent: str | None = None
    item_id: int | None = None
    # How many calls it takes, None: until cleared. `skip`: calls it lets pass before.
    times: int | None = None
    skip: int = 0
    status: int | None = None
    seconds: float | None = None
    apply: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None

    def takes(self, entry: dict[str, Any]) -> bool:
        """Does it strike this call? Counts down if so."""
        wanted = (
            re.search(self.path_regex, entry["path"])
            and self.method in {None, entry["method"]}
            and self.grant_type in {None, entry["grantType"]}
            and self.seller_id in {None, entry["userId"]}
            and self.rent in {None, entry["rent"]}
            and self.item_id in {None, entry["itemId"]}
            and self.times != 0
        )
        if not wanted:
            return False
        if self.skip > 0:
            self.skip -= 1
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass
class Answer:
    status: int = 500
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytes = b""

    async def take(self, message: Message) -> None:
        """An ASGI `send` that keeps the answer instead of sending it."""
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], list(message.get("headers", []))
        else:
            self.body += message.get("body", b"")


@dataclass
class Call:
    """One call on its way; `handle` lets it take effect."""

    receive: Receive
    send: Send
    handle: Callable[[Send], Awaitable[None]]
    fault: Fault
    entry: dict[str, Any]

    async def result(self) -> Answer:
        answer = Answer()
        await self.handle(answer.take)
        return answer

    async def reply(self, status: int, body: bytes, headers: dict[str, str], *, length: int | None = None) -> None:
        shown = {"content-type": "application/json", **headers}
        shown["content-length"] = str(len(body) if length is None else length)
        await self.start(status, [(k.encode(), v.encode()) for k, v in shown.items()])
        await self.send({"type": "http.response.body", "body": body})

    async def start(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self.entry["status"] = status
        await self.send({"type": "http.response.start", "status": status, "headers": headers})

    def body_or(self, default: str) -> bytes:
        return (default if self.fault.body is None else self.fault.body).encode()

    def transport(self) -> asyncio.Transport:
        """uvicorn's connection: its `send` is a method of the request's cycle."""
        transport: asyncio.Transport = getattr(self.send, "__self__").transport  # noqa: B009
        return transport


# What the client sees


async def _status(call: Call) -> None:
    status = call.fault.status or 500
    await asyncio.sleep(call.fault.seconds or 0)
    body = call.body_or(json.dumps({"error": {"code": status, "message": "Sandbox fault"}}))
    await call.reply(status, body, call.fault.headers)


async def _rate_limited(call: Call) -> None:
    headers = {"x-ratelimit-limit": "60", "x-ratelimit-remaining": "0", "retry-after": f"{call.fault.seconds or 1:g}"}
    body = call.body_or(json.dumps({"error": {"code": 429, "message": "Too many requests"}}))
    await call.reply(429, body, {**headers, **call.fault.headers})


async def _silence(call: Call) -> None:
    """Say nothing until the client leaves or the time is over; then end the connection."""
    seconds = min(SILENCE_SECONDS_MAX, call.fault.seconds or SILENCE_SECONDS_MAX)
    try:
        async with asyncio.timeout(seconds):
            while (await call.receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        call.transport().abort()


async def _reset(call: Call) -> None:
    """End the connection by RST: a socket that lingers for zero seconds does so on close."""
    await asyncio.sleep(call.fault.seconds or 0)
    transport = call.transport()
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _rubbish(call: Call) -> None:
    headers = {"content-type": "text/html; charset=utf-8", **call.fault.headers}
    await call.reply(call.fault.status or 200, call.body_or(RUBBISH), headers)


async def _truncated(call: Call) -> None:
    """The first half of a JSON text, with a Content-Length that agrees."""
    body = call.body_or('{"messages": [{"id": "1", "text": "обрыв"}]}')
    await call.reply(call.fault.status or 200, body[: len(body) // 2], call.fault.headers)


async def _cut(call: Call) -> None:
    """Promise the whole body, send half of it, end the connection."""
    body = call.body_or('{"messages": [{"id": "1", "text": "обрыв"}]}')
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await call.start(call.fault.status or 200, headers)
    await call.send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
    await asyncio.sleep(0.05)
    call.transport().abort()


async def _redirect(call: Call) -> None:
    await call.reply(call.fault.status or 302, b"", {"location": "http://127.0.0.1:9/", **call.fault.headers})


async def _huge(call: Call) -> None:
    body = b'{"messages": "' + b"x" * HUGE_BYTES + b'"}'
    await call.reply(call.fault.status or 200, body, call.fault.headers)


async def _gzip_bomb(call: Call) -> None:
    body = await asyncio.to_thread(_bomb)
    await call.reply(call.fault.status or 200, body, {"content-encoding": "gzip", **call.fault.headers})


@lru_cache(1)
def _bomb() -> bytes:
    return gzip.compress(b'{"messages": "' + b" " * BOMB_BYTES + b'"}', 9)


ANSWERS: dict[str, Callable[[Call], Awaitable[None]]] = {
    "status": _status,
    "429": _rate_limited,
    "silence": _silence,
    "reset": _reset,
    "rubbish": _rubbish,
    "truncated": _truncated,
    "cut": _cut,
    "redirect": _redirect,
    "huge": _huge,
    "gzip_bomb": _gzip_bomb,
}


# Those that show the true answer, only slower: they always take effect


async def _latency(call: Call) -> None:
    seconds = call.fault.seconds or 1
    if call.fault.apply == "before":
        answer = await call.result()
        await asyncio.sleep(seconds)
        await call.start(answer.status, answer.headers)
        await call.send({"type": "http.response.body", "body": answer.body})
    else:
        await asyncio.sleep(seconds)
        await call.handle(_noting(call.entry, call.send))


async def _drip(call: Call) -> None:
    """The true answer in single bytes, over `seconds` in all (10)."""
    answer = await call.result()
    await call.start(answer.status, answer.headers)
    for byte in answer.body:
        await call.send({"type": "http.response.body", "body": bytes([byte]), "more_body": True})
        await asyncio.sleep((call.fault.seconds or 10) / len(answer.body))
    await call.send({"type": "http.response.body"})


SLOW = {"latency": _latency, "drip": _drip}
KINDS = (*ANSWERS, *SLOW)


class Faults:
    """The faults that are set, oldest first; the first that fits a call strikes it."""

    def __init__(self) -> None:
        self.active: list[Fault] = []
        self._ids = itertools.count(1)

    def add(self, kind: str, path_regex: str, **details: Any) -> Fault:
        """Raises ValueError for what makes no sense."""
        if kind not in KINDS:
            raise ValueError(f"unknown kind {kind}; known: {', '.join(KINDS)}")
        if details.get("apply") not in {None, "before", "after"} | ({"never"} if kind in ANSWERS else set()):
            raise ValueError("apply: before, after or never; a slow answer always takes effect")
        try:
            re.compile(path_regex)
        except re.error as error:
            raise ValueError(f"pathRegex: {error}") from None
        fault = Fault(next(self._ids), kind, path_regex, **details)
        self.active.append(fault)
        return fault

    def remove(self, id: int | None = None) -> int:
        before = len(self.active)
        self.active = [fault for fault in self.active if id is not None and fault.id != id]
        return before - len(self.active)

    def striking(self, entry: dict[str, Any]) -> Fault | None:
        return next((fault for fault in self.active if fault.takes(entry)), None)


class Front:
    """The ASGI layer around the application; uvicorn's own `receive` and `send` arrive here."""

    def __init__(self, app: ASGIApp, world: World, faults: Faults) -> None:
        self.app, self.world, self.faults = app, world, faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or OWN.match(scope["path"]):
            await self.app(scope, receive, send)
            return
        body = await _whole_body(receive)
        entry = self._entry(scope, body)
        self.world.journal.append(entry)
        if entry["rent"]:
            self.world.rent_calls.append((entry, body))

        async def handle(to: Send) -> None:
            await self.app(scope, _replay(body, receive), to)

        try:
            if _has_bearer(scope):
                admit(self.world, "calls_per_minute", None, entry["at"])
        except Refusal as refusal:
            await refusal.response()(scope, receive, _noting(entry, send))
            return
        fault = self.faults.striking(entry)
        if fault is None:
            await handle(_noting(entry, send, self._limit_headers(scope)))
            return
        entry["fault"] = fault.kind
        await _strike(Call(receive, send, handle, fault, entry))

    def _limit_headers(self, scope: Scope) -> list[tuple[bytes, bytes]]:
        """Where `calls_per_minute` stands, if Avito is to tell."""
        settings = self.world.settings
        if not (settings.rate_limit_headers and settings.calls_per_minute and _has_bearer(scope)):
            return []
        left = self.world.windows.left(("calls_per_minute", None), settings.calls_per_minute)
        told = {"x-ratelimit-limit": settings.calls_per_minute, "x-ratelimit-remaining": left}
        return [(name.encode(), str(number).encode()) for name, number in told.items()]

    def _entry(self, scope: Scope, body: bytes) -> dict[str, Any]:
        headers = dict(scope["headers"])
        token = headers.get(b"authorization", b"").decode("latin-1").partition(" ")[2]
        form = {}
        if scope["path"] == "/token":
            form = {name: values[0] for name, values in parse_qs(body.decode("utf-8", "replace")).items()}
            token = form.get("refresh_token") or form.get("code") or ""
        rent, item_id = kind_of(scope["method"], scope["path"], body)
        holder = self.world.grants.get(token) or self.world.applications.get(form.get("client_id", ""))
        return {
            "at": time.time(),
            "method": scope["method"],
            "path": scope["path"],
            "query": scope["query_string"].decode("latin-1"),
            "status": None,
            "userId": holder.seller_id if holder else None,
            "grantType": form.get("grant_type"),
            "rent": rent,
            "itemId": item_id,
            "fault": None,
            "token": fingerprint(token) if token else None,
        }


def _has_bearer(scope: Scope) -> bool:
    return any(name == b"authorization" and value[:7].lower() == b"bearer " for name, value in scope["headers"])


async def _strike(call: Call) -> None:
    fault = call.fault
    if fault.kind in SLOW:
        await SLOW[fault.kind](call)
        return
    if fault.apply == "before":
        await call.result()
    await ANSWERS[fault.kind](call)
    if fault.apply == "after":
        await call.result()


def _noting(entry: dict[str, Any], send: Send, headers: Iterable[tuple[bytes, bytes]] = ()) -> Send:
    """An ASGI `send` that notes the status and adds `headers`."""

    async def noted(message: Message) -> None:
        if message["type"] == "http.response.start":
            entry["status"] = message["status"]
            message["headers"] = [*message.get("headers", []), *headers]
        await send(message)

    return noted


async def _whole_body(receive: Receive) -> bytes:
    body = b""
    while len(body) <= BODY_BYTES_MAX:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return body


def _replay(body: bytes, receive: Receive) -> Receive:
    """The body again, and after it whatever comes."""
    parts = [body]

    async def replayed() -> Message:
        if parts:
            return {"type": "http.request", "body": parts.pop(), "more_body": False}
        return await receive()

    return replayed
