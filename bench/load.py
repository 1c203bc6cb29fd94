"""The load: `connections` keep-alive connections, each of which posts the next event when the last one is answered.

A process of its own: reads a `Job` as JSON from stdin, writes a `Result` as JSON to stdout.
"""

import asyncio
import gc
import hmac
import json
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

import uvloop

SIGNATURE_SECRET = "made up for the benchmark"
CHATS = 1000
RECONNECT_SECONDS = 0.05
DRAIN_SECONDS = 30.0

TEXT = (
    "Здравствуйте! Квартира свободна на следующие выходные, с пятницы по воскресенье? Нас двое взрослых и ребёнок "
    "пяти лет, приедем на машине, поэтому важно знать, есть ли рядом место для неё и во сколько можно заселиться. "
    "И ещё: нужен ли залог, можно ли с небольшой собакой и есть ли детская кроватка? Заранее спасибо за ответ!"
)
EVENT = {
    "id": "EVENT_ID",
    "version": "v3.0.0",
    "timestamp": 1760000003,
    "payload": {
        "type": "message",
        "value": {
            "id": "MESSAGE_ID",
            "chat_id": "CHAT_ID",
            "user_id": 141906442,
            "author_id": 94235311,
            "created": 1760000002,
            "published_at": "2025-10-09T08:53:22Z",
            "type": "text",
            "chat_type": "u2i",
            "item_id": 4341979279,
            "read": None,
            "content": {"text": TEXT},
        },
    },
}


@dataclass(frozen=True)
class Job:
    """`turn` makes the ids of this job different from those of any other. `acknowledged`: file to list them in."""

    port: int
    path: str
    connections: int
    warmup: float
    seconds: float
    turn: int
    acknowledged: str


@dataclass(frozen=True)
class Result:
    """`rate`: answers of 200 per second, after the warm-up; `acknowledged` counts those of the warm-up too."""

    rate: float
    p50_ms: float
    p99_ms: float
    acknowledged: int
    refused: int


class Events:
    """Requests that differ in their ids alone, signed."""

    def __init__(self, job: Job) -> None:
        template = json.dumps(EVENT, ensure_ascii=False, separators=(",", ":")).encode().replace(b"%", b"%%")
        for name in (b"EVENT_ID", b"MESSAGE_ID", b"CHAT_ID"):
            template = template.replace(name, b"%b")
        self._template = template
        self._prefix = b"%024x" % job.turn
        self._secret = SIGNATURE_SECRET.encode()
        self._number = 0
        self._head = (
            f"POST {job.path} HTTP/1.1\r\nHost: 127.0.0.1:{job.port}\r\nUser-Agent: bench\r\nAccept: */*\r\n"
            "Content-Type: application/json\r\n"
        ).encode()

    def next(self) -> tuple[bytes, bytes]:
        """A message id and the request that brings it."""
        self._number += 1
        message_id = self._prefix + b"%08x" % self._number
        # Neighbours belong to different chats, so that the baseline does not wait for the lock of one.
        chat_id = b"u2i-bench-%04d" % (self._number % CHATS)
        body = self._template % (b"3b2c6f0e-" + message_id, message_id, chat_id)
        signature = hmac.digest(self._secret, body, "sha256").hex().encode()
        head = b"%bX-Avito-Messenger-Signature: %b\r\nContent-Length: %d\r\n\r\n" % (self._head, signature, len(body))
        return message_id, head + body


class Run:
    """What all connections share: the clock and the counts."""

    def __init__(self, job: Job) -> None:
        self.events = Events(job)
        self.begin = time.perf_counter() + job.warmup
        self.end = self.begin + job.seconds
        self.latencies: list[float] = []
        self.acknowledged: list[bytes] = []
        self.refused = 0

    def note(self, message_id: bytes, status: bytes, sent_at: float, now: float) -> None:
        if status != b"200":
            self.refused += 1
            return
        self.acknowledged.append(message_id)
        if self.begin <= now < self.end:
            self.latencies.append(now - sent_at)


class Connection(asyncio.Protocol):
    def __init__(self, run: Run) -> None:
        self._run = run
        self._answer = b""
        self._waiting = False
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, found, body = self._answer.partition(b"\r\n\r\n")
        if not found or not _is_whole(head.lower(), body):
            return
        self._waiting = False
        now = time.perf_counter()
        self._run.note(self._message_id, head[9:12], self._sent_at, now)
        if now < self._run.end:
            self._send()
        else:
            self._transport.close()

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting:
            self._run.refused += 1
        self.over.set_result(None)

    def _send(self) -> None:
        self._answer = b""
        self._waiting = True
        self._message_id, request = self._run.events.next()
        self._sent_at = time.perf_counter()
        self._transport.write(request)


def _is_whole(head: bytes, body: bytes) -> bool:
    length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
    return len(body) >= int(length) if length else body.endswith(b"0\r\n\r\n")  # without a length it is chunked


async def _keep_posting(job: Job, run: Run) -> None:
    """One connection after another; a server that keeps its connections needs one."""
    loop = asyncio.get_running_loop()
    while time.perf_counter() < run.end:
        try:
            _transport, connection = await loop.create_connection(lambda: Connection(run), "127.0.0.1", job.port)
            await connection.over
        except OSError:
            run.refused += 1
            await asyncio.sleep(RECONNECT_SECONDS)


async def _post(job: Job, run: Run) -> None:
    async with asyncio.timeout(job.warmup + job.seconds + DRAIN_SECONDS):
        await asyncio.gather(*[_keep_posting(job, run) for _ in range(job.connections)])


def post(job: Job) -> Result:
    run = Run(job)
    uvloop.run(_post(job, run))
    Path(job.acknowledged).write_bytes(b"\n".join(run.acknowledged))
    latencies = sorted(run.latencies) or [float("nan")]
    return Result(
        rate=len(run.latencies) / job.seconds,
        p50_ms=1000 * latencies[len(latencies) // 2],
        p99_ms=1000 * latencies[len(latencies) * 99 // 100],
        acknowledged=len(run.acknowledged),
        refused=run.refused,
    )


if __name__ == "__main__":
    gc.disable()  # nothing here makes cycles, and a pause would look like the server's
    print(json.dumps(asdict(post(Job(**json.load(sys.stdin))))))
