"""Small servers on loopback that answer as badly as they are told to; and a proxy of all four kinds."""

import base64
import datetime
import ipaddress
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

HOST = "avito.test"
"""Known to the proxy alone, which takes it for loopback."""


@dataclass
class Server:
    """A listener; each connection is handed to `handle` in a thread of its own."""

    handle: Callable[["Connection"], None]
    tls: ssl.SSLContext | None = None
    requests: list[bytes] = field(default_factory=list)
    connections: int = 0

    def __post_init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.connections += 1
                self._open.append(sock)
                threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock: socket.socket) -> None:
        with suppress(OSError, ssl.SSLError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self.tls:
                sock = self.tls.wrap_socket(sock, server_side=True)
                self._open.append(sock)
            self.handle(Connection(self, sock))
        with suppress(OSError):
            sock.close()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for sock in self._open:
            with suppress(OSError):
                # Each thread closes its own: a number closed under a waiting thread may be another's connection next.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)


class Connection:
    def __init__(self, server: Server, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock

    def read(self) -> bytes:
        """One request, kept in `server.requests`; b"" when the other side has closed."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += (chunk := self.sock.recv(65536))
            if not chunk:
                return b""
        head, _, body = received.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0)
        while len(body) < length:
            body += self.sock.recv(65536)
        self.server.requests.append(head + b"\r\n\r\n" + body)
        return self.server.requests[-1]

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def drip(self, data: bytes, seconds: float = 0.05) -> None:
        for byte in data:
            self.send(bytes([byte]))
            time.sleep(seconds)

    def wait(self) -> None:
        """Until the other side goes."""
        with suppress(OSError):
            self.sock.recv(1)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


def http(body: bytes = b"{}", status: str = "200 OK", **headers: str) -> bytes:
    lines = {"Content-Type": "application/json", "Content-Length": str(len(body))}
    lines |= {name.replace("_", "-"): value for name, value in headers.items()}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


@contextmanager
def serving(handle: Callable[[Connection], None], tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    server = Server(handle, tls)
    try:
        yield server
    finally:
        server.close()


def always(answer: bytes) -> Callable[[Connection], None]:
    """Answer every request of a connection alike."""

    def handle(connection: Connection) -> None:
        while connection.read():
            connection.send(answer)

    return handle


def certificate(folder: Path, host: str = HOST) -> tuple[ssl.SSLContext, str]:
    """A server's TLS for `host` and loopback, and the file of the authority to trust."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.datetime.now(datetime.UTC)
    names = x509.SubjectAlternativeName([x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    public, private = folder / "certificate.pem", folder / "key.pem"
    public.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(public, private)
    return context, str(public)


class ProxyServer:
    """HTTP (forwarding and CONNECT), SOCKS4a and SOCKS5 on one port; HTTPS too when given `tls`.

    `seen`: kind, host and port asked for. With a login, others are refused. `refuse`: say that the target is away.
    """

    def __init__(self, login: tuple[str, str] | None = None, refuse: bool = False, tls: ssl.SSLContext | None = None):
        self.seen: list[tuple[str, str, int]] = []
        self._login = login
        self._refuse = refuse
        self.server = Server(self._handle, tls)
        self.port = self.server.port

    def _handle(self, connection: Connection) -> None:
        first = connection.sock.recv(1) if self.server.tls else connection.sock.recv(1, socket.MSG_PEEK)
        if first == b"\x05":
            self._socks5(connection.sock)
        elif first == b"\x04":
            self._socks4(connection.sock)
        else:
            self._http(connection.sock, first if self.server.tls else b"")

    def _socks5(self, sock: socket.socket) -> None:
        methods = exactly(sock, exactly(sock, 2)[1])
        if self._login:
            if 2 not in methods:
                return sock.sendall(b"\x05\xff")
            sock.sendall(b"\x05\x02")
            login = exactly(sock, exactly(sock, 2)[1]).decode()
            password = exactly(sock, exactly(sock, 1)[0]).decode()
            sock.sendall(b"\x01\x00" if (login, password) == self._login else b"\x01\x01")
            if (login, password) != self._login:
                return None
        else:
            sock.sendall(b"\x05\x00")
        _, _, _, kind = exactly(sock, 4)
        host = exactly(sock, exactly(sock, 1)[0]).decode() if kind == 3 else socket.inet_ntoa(exactly(sock, 4))
        port = int.from_bytes(exactly(sock, 2), "big")
        self.seen.append(("socks5", host, port))
        sock.sendall(b"\x05" + (b"\x05" if self._refuse else b"\x00") + b"\x00\x01" + bytes(6))
        return None if self._refuse else _relay(sock, port)

    def _socks4(self, sock: socket.socket) -> None:
        head = exactly(sock, 8)
        login, port = until_zero(sock), int.from_bytes(head[2:4], "big")
        host = until_zero(sock) if head[4:7] == bytes(3) else socket.inet_ntoa(head[4:8])
        self.seen.append(("socks4", host, port))
        if self._login and login != self._login[0]:
            return sock.sendall(b"\x00\x5d" + bytes(6))
        sock.sendall((b"\x00\x5b" if self._refuse else b"\x00\x5a") + bytes(6))
        return None if self._refuse else _relay(sock, port)

    def _http(self, sock: socket.socket, received: bytes) -> None:
        while b"\r\n\r\n" not in received:
            received += (chunk := sock.recv(65536))
            if not chunk:
                return None
        method, target, _ = received.split(b"\r\n")[0].decode().split(" ")
        if self._login and b"proxy-authorization: basic " + self._basic() not in received.replace(b"B", b"b").lower():
            return sock.sendall(http(b"", "407 Proxy Authentication Required", Proxy_Authenticate="Basic"))
        host, _, port = target.removeprefix("http://").partition("/")[0].rpartition(":")
        self.seen.append((method, host, int(port)))
        if self._refuse:
            return sock.sendall(http(b"", "502 Bad Gateway"))
        if method == "CONNECT":
            sock.sendall(b"HTTP/1.1 200 Established\r\n\r\n")
            return _relay(sock, int(port))
        return _relay(sock, int(port), received)

    def _basic(self) -> bytes:
        return base64.b64encode(":".join(self._login or ()).encode()).lower()

    def close(self) -> None:
        self.server.close()


def exactly(sock: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count:
        received += (chunk := sock.recv(count - len(received)))
        if not chunk:
            raise OSError("closed")
    return received


def until_zero(sock: socket.socket) -> str:
    received = b""
    while not received.endswith(b"\0"):
        received += exactly(sock, 1)
    return received[:-1].decode()


def _relay(sock: socket.socket, port: int, first: bytes = b"") -> None:
    """Carry bytes to and from loopback, whatever host was asked for."""
    with socket.create_connection(("127.0.0.1", port)) as target:
        target.sendall(first)
        while True:
            pending = isinstance(sock, ssl.SSLSocket) and sock.pending()
            ready = [sock] if pending else select.select([sock, target], [], [])[0]
            for one in ready:
                data = one.recv(65536)
                if not data:
                    return
                (target if one is sock else sock).sendall(data)
