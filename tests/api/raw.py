"""HTTP by hand: what no well-behaved client would send."""

import socket
import time
from collections.abc import Iterable
from contextlib import suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes
    closed: bool


def head(product: str, method: str, path: str, *lines: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"Host: {urlsplit(product).netloc}", *lines, "", ""]).encode()


def chunks(size: int, count: int) -> Iterable[bytes]:
    """The frames of a chunked body."""
    for _number in range(count):
        yield f"{size:x}\r\n".encode() + b"x" * size + b"\r\n"
    yield b"0\r\n\r\n"


def exchange(product: str, *parts: bytes, pause: float = 0, seconds: float = 5) -> Answer:
    """Send the parts, then listen until the server hangs up or is silent for `seconds`."""
    address = urlsplit(product)
    with socket.create_connection((address.hostname or "", address.port or 0), timeout=seconds) as connection:
        received = b""
        for part in parts:
            try:
                connection.sendall(part)
            except OSError:
                break
            if pause:
                time.sleep(pause)
        closed = False
        try:
            while piece := connection.recv(65536):
                received += piece
            closed = True
        except ConnectionError:
            closed = True
        except TimeoutError:
            pass
        return _read(received, closed=closed)


def _read(received: bytes, *, closed: bool) -> Answer:
    top, _blank, body = received.partition(b"\r\n\r\n")
    status_line, *lines = top.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)}
    status = 0
    with suppress(IndexError, ValueError):
        status = int(status_line.split()[1])
    return Answer(status, headers, body, closed)


class CountingReceive:
    """Counts the bytes of bodies that the server hands to the application; put around the gate by a test."""

    def __init__(self) -> None:
        self.bytes = 0

    def around(self, call: Any) -> Any:
        async def counted(gate: Any, scope: Any, receive: Any, send: Any) -> None:
            async def counting() -> Any:
                message = await receive()
                self.bytes += len(message.get("body", b""))
                return message

            await call(gate, scope, counting, send)

        return counted
