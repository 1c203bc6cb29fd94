"""Avito's webhooks: stored, committed, answered. Nothing is understood here.

Deliveries that arrive together share one multi-row INSERT and one commit; each is answered only after that commit, so
an answer of 200 means that the row is durable. A delivery alone waits for nobody: it is written at once, and those that
come while it is written make up the next batch. Without the database the answer is 503 and the sender repeats.
"""

import asyncio
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, NamedTuple

import psycopg
import structlog
from django.conf import settings
from django.db import connection
from django.utils.crypto import constant_time_compare
from prometheus_client import Counter

from avito import webhooks
from chats import tasks
from doorbell import ring

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = structlog.get_logger(__name__)

ANSWER_SECONDS = 1.5  # Avito waits two
BATCH_MAX = 500
WAITING_BYTES_MAX = 64 * 1024 * 1024
RING_PAUSE_SECONDS = 0.05
OK = b'{"ok": true}'

_USER_ID = re.compile(rb'"user_id"\s*:\s*"?(\d{1,18})\b')

answers = Counter("avito_webhook_answers_total", "Answers to Avito's webhooks", ["status"])

INSERT = """
INSERT INTO chats_webhookevent
    (digest, body, signature, request_id, received_at, note, lane, status, type, chat_avito_id, message_avito_id,
     attempts, deaths, error)
SELECT digest, body, signature, request_id, received_at, note, lane, 'received', '', '', '', 0, 0, ''
FROM unnest(%b::bytea[], %b::bytea[], %b::text[], %b::text[], %b::timestamptz[], %b::text[], %b::bigint[])
    AS delivered (digest, body, signature, request_id, received_at, note, lane)
ORDER BY digest
ON CONFLICT (digest) DO NOTHING
"""


class Delivery(NamedTuple):
    digest: bytes
    body: bytes
    signature: str
    request_id: str
    received_at: datetime
    note: str
    lane: int


class Waiting(NamedTuple):
    delivery: Delivery
    committed: asyncio.Future[None]
    deadline: float  # by the loop's clock


class NotStored(Exception):
    """The delivery is not committed, or nobody can say so in time; its text names the error behind it."""


class Intake:
    """ASGI app behind the gate, which has read the body into `scope["body"]`."""

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []
        self._waiting_bytes = 0
        self._writer: asyncio.Task[None] | None = None
        self._ringer: asyncio.Task[None] | None = None
        self._ring_again = False
        self._hanging_up: set[asyncio.Task[None]] = set()
        self._connection: psycopg.AsyncConnection[Any] | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Send) -> None:
        status, body, extra = await self._handle(scope)
        answers.labels(str(status)).inc()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *extra]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def close(self) -> None:
        """Let what is being written be written."""
        for task in (self._writer, self._ringer):
            if task is not None:
                with suppress(TimeoutError, Exception):
                    await asyncio.wait_for(task, 5)
        if self._connection is not None:
            await self._connection.close()

    async def _handle(self, scope: MutableMapping[str, Any]) -> tuple[int, bytes, list[tuple[bytes, bytes]]]:
        if scope["method"] != "POST":
            return 405, _error("method_not_allowed", "Only POST."), [(b"allow", b"POST")]
        if not _key_is_right(scope["path"]):
            return 401, _error("not_authenticated", "The key is missing or wrong."), []
        body: bytes = scope["body"]
        headers = dict(scope["headers"])
        signature = headers.get(b"x-avito-messenger-signature", b"").decode("latin-1")[:200].replace("\0", "")
        note = ""
        if settings.AVITO_WEBHOOK_SIGNATURE != "off" and not webhooks.signature_matches(
            body, signature, settings.AVITO_WEBHOOK_SIGNATURE_SECRET
        ):
            if settings.AVITO_WEBHOOK_SIGNATURE == "enforce":
                return 401, _error("not_authenticated", "The signature is missing or wrong."), []
            note = "signature does not match"
        if _is_probe(body):
            return 200, OK, []
        digest = hashlib.sha256(body).digest()
        delivery = Delivery(digest, body, signature, scope["request_id"], datetime.now(UTC), note, _lane(body))
        if not await self._stored(delivery):
            return 503, _error("database_unavailable", "Not stored. Repeat soon."), [(b"retry-after", b"2")]
        return 200, OK, []

    async def _stored(self, delivery: Delivery) -> bool:
        """Whether the delivery is committed, in time to say so."""
        if self._waiting_bytes + len(delivery.body) > WAITING_BYTES_MAX:
            return False
        loop = asyncio.get_running_loop()
        waiting = Waiting(delivery, loop.create_future(), loop.time() + ANSWER_SECONDS)
        self._waiting.append(waiting)
        self._waiting_bytes += len(delivery.body)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.create_task(self._write())
        try:
            await waiting.committed
        except NotStored as error:
            log.error("webhook_not_stored", error=str(error))
            return False
        return True

    async def _write(self) -> None:
        """Write batch after batch until nobody waits."""
        while self._waiting:
            batch, self._waiting = self._waiting[:BATCH_MAX], self._waiting[BATCH_MAX:]
            self._waiting_bytes -= sum(len(waiting.delivery.body) for waiting in batch)
            insert = asyncio.create_task(self._insert([waiting.delivery for waiting in batch]))
            # The oldest sets the deadline of all: who is told 503 a little early repeats a little earlier.
            patience = batch[0].deadline - asyncio.get_running_loop().time()
            await asyncio.wait({insert}, timeout=max(patience, 0))
            failure = "too late" if not insert.done() else _name_of(insert.exception())
            for waiting in batch:
                if waiting.committed.done():
                    continue
                if failure:
                    waiting.committed.set_exception(NotStored(failure))
                else:
                    waiting.committed.set_result(None)
            if failure:
                self._give_up(insert)
            else:
                self._ring()

    async def _insert(self, deliveries: list[Delivery]) -> None:
        unique = {delivery.digest: delivery for delivery in deliveries}
        columns = [list(column) for column in zip(*unique.values(), strict=True)]
        if self._connection is not None and not self._connection.closed:
            try:
                await self._connection.execute(INSERT, columns)
                return
            except psycopg.OperationalError:  # it was cut while it lay idle; the same rows twice are the same rows
                await self._connection.close()
        self._connection = await psycopg.AsyncConnection.connect(**_connection_parameters(), autocommit=True)
        await self._connection.execute(INSERT, columns)

    def _give_up(self, insert: asyncio.Task[None]) -> None:
        """Leave the connection to end in its own time; the next batch opens another."""
        hung, self._connection = self._connection, None
        insert.cancel()

        async def hang_up() -> None:
            with suppress(asyncio.CancelledError, Exception):
                await insert
            if hung is not None:
                with suppress(Exception):
                    await hung.close()

        task = asyncio.create_task(hang_up())
        self._hanging_up.add(task)
        task.add_done_callback(self._hanging_up.discard)

    def _ring(self) -> None:
        """Wake the workers; many deliveries share one ring, and a broker that is away holds up nobody."""
        self._ring_again = True
        if self._ringer is None or self._ringer.done():
            self._ringer = asyncio.create_task(self._keep_ringing())

    async def _keep_ringing(self) -> None:
        while self._ring_again:
            self._ring_again = False
            await asyncio.to_thread(ring, tasks.process_inbox)
            await asyncio.sleep(RING_PAUSE_SECONDS)


def _key_is_right(path: str) -> bool:
    if not settings.AVITO_WEBHOOK_KEYS:
        return True
    given = path.split("/avito", 1)[1].strip("/")
    return any(constant_time_compare(given, key) for key in settings.AVITO_WEBHOOK_KEYS)


def _lane(body: bytes) -> int:
    """The account's number at a glance, so that accounts can take turns; what is not found waits in one line."""
    found = _USER_ID.search(body)
    return int(found[1]) if found else 0


def _is_probe(body: bytes) -> bool:
    """Avito checks an address by posting an empty object."""
    return len(body) <= 64 and b"".join(body.split()) == b"{}"


def _error(code: str, detail: str) -> bytes:
    kind = "server_error" if code == "database_unavailable" else "client_error"
    return json.dumps({"type": kind, "errors": [{"code": code, "detail": detail, "attr": None}]}).encode()


def _name_of(error: BaseException | None) -> str:
    return type(error).__name__ if error else ""


def _connection_parameters() -> dict[str, Any]:
    """Django's own database, without Django's connection: that one belongs to threads."""
    only_for_django = {"cursor_factory", "context", "prepare_threshold"}
    parameters = connection.get_connection_params()
    wanted = {name: value for name, value in parameters.items() if name not in only_for_django and value is not None}
    return {**wanted, "application_name": "intake"}
