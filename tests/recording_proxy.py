"""A proxy of any of the four kinds on loopback that writes down what reaches it, and misbehaves on request.

with recording_proxy("socks5", login="u", password="p", resolve={"avito.test": ("127.0.0.1", port)}) as proxy:
    ...  # proxy.host, proxy.port, proxy.requests, proxy.connections; for "https" also proxy.ca_file
"""

import base64
import select
import socket
import ssl
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from avito.types import ProxyType
from tests.avito.loopback import Connection, Server, certificate, exactly, http, until_zero

Mode = Literal["carry", "refuse login", "refuse target", "swallow", "nonsense", "close"]
Address = tuple[str, int]


@dataclass
class Asked:
    """What one client wanted. `host`: as it was sent, a name or an address; empty if it did not get that far.

    `method`: CONNECT, or that of a forwarded request; empty with SOCKS. `first`: the first bytes passed on.
    """

    login: str = ""
    password: str = ""
    host: str = ""
    port: int = 0
    method: str = ""
    first: bytes = b""


@dataclass
class RecordingProxy:
    """`resolve`: names that only this proxy knows; others are away, addresses are taken as they are."""

    type: ProxyType
    login: str = ""
    password: str = ""
    mode: Mode = "carry"
    resolve: Mapping[str, Address] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    ca_file: str = ""
    requests: list[Asked] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = Server(self._handle, self.tls)
        self.host, self.port = "127.0.0.1", self._server.port

    @property
    def connections(self) -> int:
        return self._server.connections

    def close(self) -> None:
        self._server.close()

    def _handle(self, connection: Connection) -> None:
        if self.mode == "close":
            return
        if self.mode == "swallow":
            while connection.sock.recv(65536):
                pass
        elif self.mode == "nonsense":
            connection.sock.recv(65536)
            connection.send(b"SSH-2.0-OpenSSH_9.2p1 and so on\r\n\r\n")
        else:
            speak = {"socks4": self._socks4, "socks5": self._socks5}.get(self.type, self._http)
            speak(connection.sock)

    def _admits(self, asked: Asked) -> bool:
        known = (asked.login, asked.password) == (self.login, self.password)
        return self.mode != "refuse login" and (known or not (self.login or self.password))

    def _target(self, asked: Asked) -> socket.socket | None:
        if self.mode == "refuse target":
            return None
        address = self.resolve.get(asked.host)
        if address is None and _family(asked.host):
            address = asked.host, asked.port
        return _connect(address) if address else None

    def _socks5(self, sock: socket.socket) -> None:
        self.requests.append(asked := Asked())
        methods = exactly(sock, exactly(sock, 2)[1])
        needed = 2 if self.login or self.mode == "refuse login" else 0
        if needed not in methods:
            return sock.sendall(b"\x05\xff")
        sock.sendall(bytes([5, needed]))
        if needed:
            asked.login = exactly(sock, exactly(sock, 2)[1]).decode()
            asked.password = exactly(sock, exactly(sock, 1)[0]).decode()
            sock.sendall(b"\x01\x00" if self._admits(asked) else b"\x01\x01")
            if not self._admits(asked):
                return None
        asked.host = _socks5_host(sock, exactly(sock, 4)[3])
        asked.port = int.from_bytes(exactly(sock, 2), "big")
        target = self._target(asked)
        sock.sendall(b"\x05" + (b"\x00" if target else b"\x05") + b"\x00\x01" + bytes(6))
        return _tunnel(sock, target, asked) if target else None

    def _socks4(self, sock: socket.socket) -> None:
        head = exactly(sock, 8)
        self.requests.append(asked := Asked(login=until_zero(sock), port=int.from_bytes(head[2:4], "big")))
        asked.host = until_zero(sock) if head[4:7] == bytes(3) else socket.inet_ntoa(head[4:8])
        if self.mode == "refuse login" or (self.login and asked.login != self.login):
            return sock.sendall(b"\x00\x5d" + bytes(6))
        target = self._target(asked)
        sock.sendall((b"\x00\x5a" if target else b"\x00\x5b") + bytes(6))
        return _tunnel(sock, target, asked) if target else None

    def _http(self, sock: socket.socket) -> None:
        received = bytearray()
        while b"\r\n\r\n" not in received:
            received += (chunk := sock.recv(65536))
            if not chunk:
                return None
        self.requests.append(asked := _http_asked(bytes(received)))
        if not self._admits(asked):
            return sock.sendall(
                http(b"", "407 Proxy Authentication Required", Proxy_Authenticate="Basic", Connection="close")
            )
        target = self._target(asked)
        if target is None:
            return sock.sendall(http(b"", "502 Bad Gateway", Connection="close"))
        if asked.method == "CONNECT":
            sock.sendall(b"HTTP/1.1 200 Established\r\n\r\n")
            return _tunnel(sock, target, asked)
        return self._forward(sock, target, asked, received)

    def _forward(self, sock: socket.socket, target: socket.socket, first: Asked, received: bytearray) -> None:
        def passed_on(data: bytes) -> bytes:
            """Whole requests out of what has come so far, as the origin expects them."""
            nonlocal received
            received += data
            ready = b""
            while request := _take_request(received):
                asked = first if not first.first else _http_asked(request)
                if asked is not first:
                    self.requests.append(asked)
                asked.first = _as_origin_reads(request)
                ready += asked.first
            return ready

        _carry(sock, target, passed_on)


@contextmanager
def recording_proxy(
    type: ProxyType,
    *,
    login: str = "",
    password: str = "",
    mode: Mode = "carry",
    resolve: Mapping[str, Address] | None = None,
    name: str = "proxy.test",
    tls: tuple[ssl.SSLContext, str] | None = None,
) -> Iterator[RecordingProxy]:
    """With "https", `name`: whom its certificate is for, besides 127.0.0.1; `tls`: another, and who vouches for it."""
    with tempfile.TemporaryDirectory() as folder:
        context, ca_file = (tls or certificate(Path(folder), name)) if type == "https" else (None, "")
        proxy = RecordingProxy(type, login, password, mode, resolve or {}, context, ca_file)
        try:
            yield proxy
        finally:
            proxy.close()


def _family(host: str) -> int:
    """AF_INET or AF_INET6 for an address, 0 for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        with suppress(OSError):
            socket.inet_pton(family, host)
            return family
    return 0


def _connect(address: Address) -> socket.socket | None:
    """Without the resolver of this machine: tests count what it is asked."""
    target = socket.socket(_family(address[0]))
    try:
        target.connect(address)
        target.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError:
        target.close()
        return None
    return target


def _socks5_host(sock: socket.socket, kind: int) -> str:
    if kind == 3:
        return exactly(sock, exactly(sock, 1)[0]).decode()
    family, length = (socket.AF_INET6, 16) if kind == 4 else (socket.AF_INET, 4)
    return socket.inet_ntop(family, exactly(sock, length))


def _http_asked(request: bytes) -> Asked:
    first, *lines = request.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    login, _, password = _basic(headers.get("proxy-authorization", "")).partition(":")
    there = urlsplit(target if "://" in target else f"//{target}")
    return Asked(login, password, there.hostname or "", there.port or 80, method)


def _basic(header: str) -> str:
    return base64.b64decode(header.removeprefix("Basic ")).decode()


def _take_request(received: bytearray) -> bytes:
    """The first whole request of `received`, taken out of it."""
    head, end, body = bytes(received).partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
    if not end or len(body) < length:
        return b""
    del received[: len(head) + 4 + length]
    return head + end + body[:length]


def _as_origin_reads(request: bytes) -> bytes:
    head, end, body = request.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"proxy-")]
    method, target, version = lines[0].split(b" ")
    lines[0] = b" ".join([method, b"/" + target.removeprefix(b"http://").partition(b"/")[2], version])
    return b"\r\n".join(lines) + end + body


def _tunnel(sock: socket.socket, target: socket.socket, asked: Asked) -> None:
    def passed_on(data: bytes) -> bytes:
        asked.first = asked.first or data
        return data

    _carry(sock, target, passed_on)


def _carry(sock: socket.socket, target: socket.socket, passed_on: Callable[[bytes], bytes]) -> None:
    """Bytes to and from the target, until one side goes."""
    with target:
        target.sendall(passed_on(b""))
        while True:
            pending = isinstance(sock, ssl.SSLSocket) and sock.pending()
            ready = [sock] if pending else select.select([sock, target], [], [])[0]
            for one in ready:
                data = one.recv(65536)
                if not data:
                    return
                if one is sock:
                    target.sendall(passed_on(data))
                else:
                    sock.sendall(data)
