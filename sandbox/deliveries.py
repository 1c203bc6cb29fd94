"""Webhooks: each message goes to the addresses its seller subscribed; late, twice or never if a test asks."""

import asyncio
import hashlib
import hmac
import json
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests
from starlette.requests import Request

from sandbox.state import Chat, Message, World

LOG_LENGTH = 20_000
THREADS = 16
SIGNATURE_HEADER = "x-avito-messenger-signature"


@dataclass
class Delivery:
    url: str
    body: bytes
    message_id: str


class Deliveries:
    """Sends from a small pool of threads; everything but the POST itself runs on the event loop."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="sandbox-webhook")
        self._sessions = threading.local()
        self._tasks: set[asyncio.Task[None]] = set()
        self._posts: set[Future[int | str]] = set()
        self._forget()

    async def reset(self) -> None:
        """Forget the log, what is owed and what is held. What has left already has arrived when this returns."""
        self._forget()
        while posts := list(self._posts):
            await asyncio.wait([asyncio.wrap_future(post) for post in posts])
            self._forget()  # also what was owed in the meantime

    def _forget(self) -> None:
        for task in self._tasks:
            task.cancel()
        self.log: deque[dict[str, Any]] = deque(maxlen=LOG_LENGTH)
        self.holding = False
        self.held: list[Delivery] = []
        self.drop_next = 0

    def close(self) -> None:
        self._forget()
        self._pool.shutdown(wait=False, cancel_futures=True)

    @property
    def under_way(self) -> int:
        return len(self._tasks)

    def announce(self, chat: Chat, message: Message, *, copies: int = 1, delay: float = 0, drop: bool = False) -> None:
        """Deliver `message` to every subscribed address `copies` times, `delay` seconds from now, or not at all."""
        for delivery in self._bodies(chat, message):
            for _ in range(copies):
                if drop or self._unlucky():
                    self._note(delivery, 0, "dropped")
                elif self.holding:
                    self.held.append(delivery)
                else:
                    self._start([delivery], delay)

    def release(self, order: str) -> int:
        """Send what was held, one after another: in the `same` order, in `reverse`, or by `shuffle`."""
        held, self.held, self.holding = self.held, [], False
        if order == "reverse":
            held.reverse()
        elif order == "shuffle":
            random.shuffle(held)
        self._start(held, 0)
        return len(held)

    def _unlucky(self) -> bool:
        if self.drop_next > 0:
            self.drop_next -= 1
            return True
        return random.random() < self._world.settings.webhook_drop_probability

    def _bodies(self, chat: Chat, message: Message) -> Iterator[Delivery]:
        for url in self._world.sellers[chat.seller_id].webhooks:
            body = {
                "id": str(uuid.uuid4()),
                "version": "v3.0.0",
                "timestamp": int(time.time()),
                "payload": {"type": "message", "value": webhook_message(chat, message)},
            }
            yield Delivery(url, json.dumps(body, ensure_ascii=False).encode(), message.id)

    def _start(self, batch: list[Delivery], delay: float) -> None:
        task = asyncio.get_running_loop().create_task(self._run(batch, delay))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run(self, batch: list[Delivery], delay: float) -> None:
        await asyncio.sleep(delay)
        for delivery in batch:
            if not await self._attempt(delivery, 1):
                self._later(delivery)

    def _later(self, delivery: Delivery) -> None:
        task = asyncio.get_running_loop().create_task(self._retry(delivery))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _retry(self, delivery: Delivery) -> None:
        for number, seconds in enumerate(list(self._world.settings.webhook_retry_seconds), start=2):
            await asyncio.sleep(seconds)
            if await self._attempt(delivery, number):
                return
        self._note(delivery, 0, "given up")

    async def _attempt(self, delivery: Delivery, number: int) -> bool:
        settings = self._world.settings
        signature = hmac.new(settings.webhook_secret.encode(), delivery.body, hashlib.sha256).hexdigest()
        headers = {"Content-Type": "application/json", SIGNATURE_HEADER: signature}
        post = self._pool.submit(self._post, delivery, headers, settings.webhook_timeout_seconds)
        self._posts.add(post)
        post.add_done_callback(self._posts.discard)
        status = await asyncio.wrap_future(post)
        self._note(delivery, number, status)
        return status == 200

    def _post(self, delivery: Delivery, headers: dict[str, str], seconds: float) -> int | str:
        """The status, or the name of what went wrong. Runs in a thread of the pool."""
        session: requests.Session | None = getattr(self._sessions, "session", None)
        if session is None:
            session = self._sessions.session = requests.Session()
            session.trust_env = False
        try:
            return session.post(
                delivery.url, data=delivery.body, headers=headers, timeout=seconds, allow_redirects=False
            ).status_code
        except requests.RequestException as error:
            return type(error).__name__

    def _note(self, delivery: Delivery, attempt: int, status: int | str) -> None:
        """One line of the log; attempt 0 is the end of a delivery that nobody received."""
        row = {"at": time.time(), "url": delivery.url, "messageId": delivery.message_id}
        self.log.append({**row, "attempt": attempt, "status": status})


def deliveries_of(request: Request) -> Deliveries:
    deliveries = request.app.state.deliveries
    assert isinstance(deliveries, Deliveries)
    return deliveries


def webhook_message(chat: Chat, message: Message) -> dict[str, Any]:
    return {
        "id": message.id,
        "chat_id": chat.id,
        "user_id": chat.seller_id,
        "author_id": message.author_id,
        "created": message.created,
        "published_at": datetime.fromtimestamp(message.created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "type": message.type,
        "chat_type": chat.type,
        "item_id": chat.item_id,
        "read": message.read,
        "content": message.content,
    }
