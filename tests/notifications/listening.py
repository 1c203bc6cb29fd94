"""A client of the live events: hears a stream in a thread, as long as it lasts."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlencode, urlsplit

from tests.conftest import Api
from tests.sandbox.driver import wait_for

EVENTS = "/api/v1/events"


class Heard(NamedTuple):
    id: int
    type: str
    data: dict[str, Any]

    @property
    def what(self) -> tuple[str, int]:
        return self.type, self.data["id"]


class Ear:
    """Returns once it listens. `after`: the last id heard before, sent as a header, or with `in_query` as a client does
    that cannot send any. Raises AssertionError for a refusal."""

    def __init__(
        self, api: Api, *, after: object = None, in_query: bool = False, ticket: str = "", language: str = ""
    ) -> None:
        query = {"ticket": ticket, "lastEventId": after if in_query else None}
        headers = {name: str(value) for name, value in api.session.headers.items()}
        if language:
            headers["Accept-Language"] = language
        if after is not None and not in_query:
            headers["Last-Event-ID"] = str(after)
        if api.session.cookies:
            headers["Cookie"] = "; ".join(f"{cookie.name}={cookie.value}" for cookie in api.session.cookies)
        address = urlsplit(api.base)
        self._connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=40)
        asked = urlencode({name: value for name, value in query.items() if value not in (None, "")})
        self._connection.request("GET", f"{EVENTS}?{asked}", headers={**headers, "Accept": "text/event-stream"})
        self._socket = self._connection.sock
        self.answer = self._connection.getresponse()
        assert self.answer.status == 200, self.answer.read()
        self.heard: list[Heard] = []
        self.comments = 0
        self._listens, self.ended = threading.Event(), threading.Event()
        threading.Thread(target=self._hear, daemon=True).start()
        assert self._listens.wait(10)

    def __enter__(self) -> "Ear":
        return self

    def __exit__(self, *_error: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self.ended.wait(5)
        self._connection.close()

    @property
    def what(self) -> list[tuple[str, int]]:
        return [one.what for one in self.heard]

    def has_heard(self, count: int) -> bool:
        return len(self.heard) >= count

    def wait(self, type: str, object_id: int, seconds: float = 5) -> Heard:
        """The first of this type about this object."""
        found: Heard = wait_for(
            lambda: next((one for one in self.heard if one.what == (type, object_id)), None), seconds
        )
        return found

    def _hear(self) -> None:
        with suppress(OSError, http.client.HTTPException, ValueError):
            for frame in self._frames():
                fields = dict(line.partition(": ")[::2] for line in frame.split("\n"))
                if "data" in fields:
                    self.heard.append(Heard(int(fields["id"]), fields["event"], json.loads(fields["data"])))
                elif "retry" in fields:
                    self._listens.set()
                else:
                    self.comments += 1
        self.ended.set()

    def _frames(self) -> Iterator[str]:
        rest = b""
        while piece := self.answer.read1(65536):
            *frames, rest = (rest + piece).split(b"\n\n")
            yield from (frame.decode() for frame in frames)
