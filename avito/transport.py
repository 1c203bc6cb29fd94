"""Requests over the network: deadlines, connections, proxies, and what no answer means.

The only file that knows `requests`. What happened is told by one fact: had the request begun to leave? Until then every
failure is NotConnected (with a proxy: ProxyFailed), from then on it is TimedOut.
"""

import base64
import re
import socket
import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from functools import partial
from http.client import HTTPException, IncompleteRead, RemoteDisconnected
from http.cookiejar import DefaultCookiePolicy
from os import getpid
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import requests
import socks
import urllib3
from requests.adapters import DEFAULT_CA_BUNDLE_PATH, HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from avito import errors
from avito.errors import ProxyReason
from avito.protocol import Request, Response
from avito.types import Proxy

BODY_MAX = 2 * 1024 * 1024
"""Bytes of an answer, decompressed; longer ones are Unreadable."""
CONNECTIONS_MAX = 8
IDLE_SECONDS = 4.0
"""Older idle connections are not used again: a server that closes just now would leave a POST in doubt."""
CHUNK = 64 * 1024

_SOCKS = {"socks4": socks.SOCKS4, "socks5": socks.SOCKS5}
_SOCKS5_MAX = 127
"""Bytes of a login and of a password. The protocol has room for 255, PySocks garbles the longer ones."""
_TIMEOUTS = (TimeoutError, urllib3.exceptions.TimeoutError)
_GARBLED = (
    urllib3.exceptions.DecodeError,
    urllib3.exceptions.InvalidChunkLength,
    urllib3.exceptions.InvalidHeader,
)
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "gzip", "User-Agent": "avito-service"}


class Transport:
    """Sends requests to one server, directly or through one proxy. Safe for threads.

    `base_url`: scheme, host and perhaps a path in front of all others. `connect_seconds`: name, connection, proxy and
    TLS. `deadline_seconds`: everything from `send` to the last byte. `ca_file`: certificates to trust instead of the
    usual ones. `allow_address`: asked about each address that the proxy's name resolves to; one "no" and nothing is
    connected (a proxy's host is its owner's choice, so it may point into our own network).
    """

    def __init__(
        self,
        base_url: str,
        proxy: Proxy | None = None,
        *,
        connect_seconds: float = 5.0,
        deadline_seconds: float = 15.0,
        ca_file: str | None = None,
        allow_address: Callable[[str], bool] | None = None,
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.proxy = proxy
        self.connect_seconds = connect_seconds
        self.deadline_seconds = deadline_seconds
        self.allow_address = allow_address
        self.ca_file = ca_file
        self._session = _session(proxy)
        self._lock = threading.Lock()
        self._users = 0
        self._is_closed = False

    def __repr__(self) -> str:
        return f"<Transport to {self.base_url}{f' through {self.proxy}' if self.proxy else ''}>"

    @property
    def is_forwarding(self) -> bool:
        """Does the proxy read and pass on the requests themselves? Then its silence cannot be told from Avito's."""
        is_http = self.proxy is not None and self.proxy.type == "http"
        return is_http and urlsplit(self.base_url).scheme == "http"

    def send(self, request: Request, *, deadline_seconds: float | None = None) -> Response:
        """Send once, whatever happens, and return the answer whatever its status.

        Raises NotConnected, ProxyFailed (not done), TimedOut, Unreadable (maybe done).
        """
        proxies = _proxies(self.base_url, self.proxy)
        seconds = self.deadline_seconds if deadline_seconds is None else deadline_seconds
        with self._in_use(), _Exchange(self, seconds) as exchange:
            try:
                response = self._exchange(request, exchange, proxies)
            except (
                requests.RequestException,
                urllib3.exceptions.HTTPError,
                HTTPException,
                OSError,
                ValueError,
            ) as error:
                raise exchange.failure(error) from None
        self._check_proxy_login(response)
        return response

    def _exchange(self, request: Request, exchange: "_Exchange", proxies: dict[str, str]) -> Response:
        prepared = self._session.prepare_request(
            requests.Request(
                request.method, self.base_url + request.target, headers=dict(request.headers), data=request.body
            )
        )
        answer = self._session.send(
            prepared,
            stream=True,
            allow_redirects=False,
            timeout=(exchange.connect_seconds(), exchange.remaining()),
            verify=self.ca_file or True,
            proxies=proxies,
        )
        with answer:
            body = _body(answer)
        exchange.check()
        return Response(answer.status_code, {name.lower(): value for name, value in answer.headers.items()}, body)

    def _check_proxy_login(self, response: Response) -> None:
        """With http:// targets a proxy refuses in Avito's place; tinyproxy with 401, but Avito never asks for Basic."""
        asks_basic = response.status == 401 and response.header("WWW-Authenticate").lower().startswith("basic")
        if self.is_forwarding and (asks_basic or response.status == 407 or response.header("Proxy-Authenticate")):
            raise errors.ProxyFailed("The proxy does not accept the login", reason="auth")

    @contextmanager
    def _in_use(self) -> Iterator[None]:
        with self._lock:
            self._users += 1
        try:
            yield
        finally:
            with self._lock:
                self._users -= 1
                self._close_if_idle()

    def close(self) -> None:
        """Close the connections once no call is in flight. Later calls work, but keep no connection."""
        with self._lock:
            self._is_closed = True
            self._close_if_idle()

    def _close_if_idle(self) -> None:
        if self._is_closed and not self._users:
            self._session.close()


class Until:
    """A sender that is too late after a moment of `time.monotonic`: by then others have given the call up for lost."""

    def __init__(self, sender: Transport, moment: float) -> None:
        self._sender, self._moment = sender, moment
        self.deadline_seconds = sender.deadline_seconds

    def __repr__(self) -> str:
        return repr(self._sender)

    def send(self, request: Request, *, deadline_seconds: float | None = None) -> Response:
        """As `Transport.send`; TooLate, unsent, after the moment."""
        if time.monotonic() >= self._moment:
            raise errors.TooLate("It is too late to send this")
        return self._sender.send(request, deadline_seconds=deadline_seconds)


class Transports:
    """One transport per key (an account), made when first needed; the least recently used beyond `max_size` go.

    `make(base_url, proxy)`: how to make one, such as `functools.partial(Transport, ca_file=...)`.
    A transport let go is only closed for new business (`Transport.close`): calls in flight end in peace. Safe for
    threads; a forked process makes its own.
    """

    def __init__(self, max_size: int = 512, *, make: Callable[[str, Proxy | None], Transport] = Transport) -> None:
        self._max_size = max_size
        self._make = make
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[int, Hashable], tuple[str, Proxy | None, Transport]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, key: Hashable, *, base_url: str, proxy: Proxy | None = None) -> Transport:
        """The transport of `key`, a new one if its address or proxy has changed."""
        place = getpid(), key  # connections must not be shared with a parent process
        leaving = []
        with self._lock:
            kept = self._kept.pop(place, None)
            if kept and kept[:2] != (base_url, proxy):
                leaving.append(kept)
                kept = None
            kept = self._kept[place] = kept or (base_url, proxy, self._make(base_url, proxy))
            while len(self._kept) > self._max_size:
                leaving.append(self._kept.popitem(last=False)[1])
        for _, _, transport in leaving:
            transport.close()
        return kept[2]

    def close(self) -> None:
        """Let all go."""
        with self._lock:
            leaving = list(self._kept.values())
            self._kept.clear()
        for _, _, transport in leaving:
            transport.close()


class _Exchange:
    """One request and its answer, watched: at the deadline the connection is cut, wherever it hangs.

    Timeouts of sockets are per read, so a server that drips would hold them off for ever.
    """

    def __init__(self, transport: Transport, seconds: float) -> None:
        self.transport = transport
        self.proxy = transport.proxy
        self._ends_at = time.monotonic() + seconds
        self._watch = threading.Timer(seconds, self._expire)
        self._watch.daemon = True
        self._connection: _Watched | None = None
        self._is_expired = False
        self.is_sent = False

    def __enter__(self) -> Self:
        _local.exchange = self
        self._watch.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch.cancel()
        self._connection = None
        _local.exchange = None

    def remaining(self) -> float:
        return max(0.001, self._ends_at - time.monotonic())

    def connect_seconds(self) -> float:
        return min(self.transport.connect_seconds, self.remaining())

    def watch(self, connection: "_Watched") -> None:
        self._connection = connection
        connection.user = self
        self.check()

    def check(self) -> None:
        if self._is_expired:
            raise self.failure(TimeoutError())

    def begin_sending(self) -> None:
        """The last moment at which nothing is sent. A process that was stopped looks at the clock for itself."""
        if time.monotonic() >= self._ends_at:
            self._is_expired = True
        self.check()
        self.is_sent = True

    def _expire(self) -> None:
        self._is_expired = True
        connection = self._connection
        if connection is None or connection.user is not self:  # nothing to cut yet, or it serves another by now
            return
        sock: object = connection.sock
        sock = getattr(sock, "socket", sock)  # TLS inside TLS wraps the socket in an object of urllib3's
        if isinstance(sock, socket.socket):
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def failure(self, error: BaseException) -> errors.AvitoError:
        """What an exception of any layer below means to the caller."""
        causes = _causes(error)
        if self.is_sent:
            return self._failure_of_answer(causes)
        if self.proxy and not any(isinstance(cause, urllib3.exceptions.EmptyPoolError) for cause in causes):
            return errors.ProxyFailed(f"The proxy failed ({_names(causes)})", reason=self._proxy_reason(causes))
        return errors.NotConnected(f"Could not connect to Avito ({_names(causes)})")

    def _failure_of_answer(self, causes: list[BaseException]) -> errors.AvitoError:
        if self._is_expired or any(isinstance(cause, _TIMEOUTS) for cause in causes):
            return errors.TimedOut()
        for cause in causes:
            is_cut = isinstance(cause, RemoteDisconnected | IncompleteRead)
            if isinstance(cause, _GARBLED) or (isinstance(cause, HTTPException) and not is_cut):
                return errors.Unreadable(f"Not HTTP as it should be ({_names(causes)})")
        return errors.TimedOut(f"The connection broke ({_names(causes)})")

    def _proxy_reason(self, causes: list[BaseException]) -> ProxyReason:
        if self._is_expired:
            return "timeout"
        return next(filter(None, map(_reason, causes)), "unreachable")


class _Local(threading.local):
    exchange: _Exchange | None = None


_local = _Local()


def _current() -> _Exchange:
    if _local.exchange is None:
        raise RuntimeError("a connection outside of Transport.send")
    return _local.exchange


def _reason(cause: BaseException) -> ProxyReason | None:
    """What a single exception tells about a proxy; None if nothing."""
    if isinstance(cause, socks.SOCKS5AuthError):
        return "auth"
    if isinstance(cause, socks.SOCKS4Error):
        return "auth" if "identd" in str(cause) else "unreachable"
    if isinstance(cause, socks.SOCKS5Error):
        return "unreachable"
    if isinstance(cause, _TIMEOUTS):
        return "timeout"
    if isinstance(cause, socks.GeneralProxyError):
        return None if cause.socket_err else "protocol"  # PySocks wraps its own errors in this one
    hung_up = isinstance(cause, ConnectionResetError | BrokenPipeError)
    is_protocol = hung_up or isinstance(cause, urllib3.exceptions.SSLError | HTTPException | ValueError)
    return "protocol" if is_protocol else None


def _causes(error: BaseException) -> list[BaseException]:
    """An exception and all those it wraps in the ways of requests, urllib3 and PySocks."""
    found: list[BaseException] = []
    waiting: list[Any] = [error]
    while waiting:
        one = waiting.pop(0)
        if isinstance(one, BaseException) and one not in found:
            found.append(one)
            wrapped = [getattr(one, name, None) for name in ("reason", "socket_err", "__cause__", "__context__")]
            waiting += [*one.args, *wrapped]
    return found


def _names(causes: list[BaseException]) -> str:
    """The innermost kind of error, for people who look for reasons; never its words, which may hold addresses."""
    return type(causes[-1]).__name__


class _Watched(HTTPConnection):
    """A connection that is made, used and cut as the exchange of its thread says."""

    user: _Exchange | None = None
    _used_at = 0.0

    @property
    def is_connected(self) -> bool:
        """May the pool hand it out again?"""
        return super().is_connected and time.monotonic() - self._used_at < IDLE_SECONDS

    def _new_conn(self) -> socket.socket:
        exchange = _current()
        exchange.watch(self)
        until = time.monotonic() + exchange.connect_seconds()
        proxy = exchange.proxy
        if proxy is None:
            sock = _dial(self._dns_host.strip("[]"), self.port, None, until, self._plain)
        else:
            sock = self._to_proxy(proxy, exchange.transport, until)
        sock.settimeout(exchange.connect_seconds())
        return sock

    def _to_proxy(self, proxy: Proxy, transport: Transport, until: float) -> socket.socket:
        is_tunnel = _needs_tunnel(proxy, transport.base_url)
        if is_tunnel:
            self.set_tunnel(self._dns_host, self.port, _login_header(proxy))  # which `connect` asks for
        connect = partial(self._through_socks, proxy) if proxy.type in _SOCKS else self._plain
        sock = _dial(proxy.host, proxy.port, transport.allow_address, until, connect)
        return self._under_tls(sock, proxy, transport, until) if is_tunnel else sock

    def _plain(self, family: int, address: tuple[str, int], seconds: float) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        return self._connected(sock, address, seconds)

    def _through_socks(self, proxy: Proxy, family: int, address: tuple[str, int], seconds: float) -> socket.socket:
        sock = socks.socksocket(family, socket.SOCK_STREAM)
        kind = _SOCKS[proxy.type]
        sock.set_proxy(kind, *address, rdns=True, username=proxy.login or None, password=proxy.password or None)
        return self._connected(sock, (self._dns_host.strip("[]"), self.port), seconds)

    def _under_tls(self, sock: socket.socket, proxy: Proxy, transport: Transport, until: float) -> socket.socket:
        trusted = ssl.create_default_context(cafile=transport.ca_file or DEFAULT_CA_BUNDLE_PATH)
        sock.settimeout(max(0.001, until - time.monotonic()))  # of the whole handshake
        self.sock = trusted.wrap_socket(sock, server_hostname=proxy.host.rstrip("."))
        return self.sock

    def _connected(self, sock: socket.socket, address: tuple[str, int], seconds: float) -> socket.socket:
        self.sock = sock  # within reach of the watch while a SOCKS proxy is asked
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(seconds)
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _tunnel(self) -> None:
        try:
            super()._tunnel()
            self.sock.settimeout(_current().connect_seconds())
        except OSError as error:
            refusal = re.search(r"Tunnel connection failed: (\d+)", str(error))
            if refusal is None:
                raise
            reason: ProxyReason = "auth" if refusal[1] in ("401", "407") else "unreachable"
            raise errors.ProxyFailed(f"The proxy answered {refusal[1]}", reason=reason) from None

    def request(self, *args: Any, **kwargs: Any) -> None:
        exchange = _current()
        exchange.watch(self)
        self.sock.settimeout(exchange.remaining())
        exchange.begin_sending()
        super().request(*args, **kwargs)

    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]
        response = super().getresponse()
        self._used_at = time.monotonic()
        return response


class _WatchedTLS(_Watched, HTTPSConnection):
    pass


class _Pool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Watched

    def _validate_conn(self, conn: Any) -> None:
        """Connect now, as under TLS: from here on urllib3 forgives a reset, the answer might have come before it."""
        if conn.is_closed:
            conn.connect()

    def _get_conn(self, timeout: float | None = None) -> Any:
        return super()._get_conn(timeout=_current().remaining())


class _PoolTLS(urllib3.HTTPSConnectionPool):
    ConnectionCls = _WatchedTLS

    def _get_conn(self, timeout: float | None = None) -> Any:
        return super()._get_conn(timeout=_current().remaining())


_POOLS = {"http": _Pool, "https": _PoolTLS}


class _Adapter(HTTPAdapter):
    """Connections of our kind."""

    def __init__(self, proxy: Proxy | None) -> None:
        self._proxy = proxy
        super().__init__(pool_connections=1, pool_maxsize=CONNECTIONS_MAX, pool_block=True, max_retries=0)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager

    def proxy_headers(self, proxy: str) -> dict[str, str]:
        return _login_header(self._proxy)


class _Session(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> None:
        """None is followed, so none is looked at: requests would read the redirect's body without a limit."""


def _session(proxy: Proxy | None) -> _Session:
    session = _Session()
    session.trust_env = False
    session.headers.clear()
    session.headers.update(_HEADERS)
    session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
    adapter = _Adapter(proxy)
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return session


def _proxies(base_url: str, proxy: Proxy | None) -> dict[str, str]:
    """The proxy in the words of requests; none where our connections speak to it themselves."""
    if proxy is None:
        return {}
    _check(proxy)
    if proxy.type in _SOCKS or _needs_tunnel(proxy, base_url):
        return {}
    host = f"[{proxy.host}]" if ":" in proxy.host else proxy.host
    return {urlsplit(base_url).scheme: f"{proxy.type}://{host}:{proxy.port}"}


def _needs_tunnel(proxy: Proxy, base_url: str) -> bool:
    """urllib3 would have an https:// proxy forward to an http:// address, its certificate unchecked."""
    return proxy.type == "https" and urlsplit(base_url).scheme == "http"


def _login_header(proxy: Proxy | None) -> dict[str, str]:
    """UTF-8, and never a part of an address."""
    if proxy is None or not (proxy.login or proxy.password):
        return {}
    login = base64.b64encode(f"{proxy.login}:{proxy.password}".encode()).decode()
    return {"Proxy-Authorization": f"Basic {login}"}


def _check(proxy: Proxy) -> None:
    is_known = proxy.type in ("http", "https", *_SOCKS)
    if not is_known or not re.fullmatch(r"[\w.:-]+", proxy.host) or not 0 < proxy.port < 65536:
        raise errors.ProxyFailed("The proxy's address makes no sense", reason="protocol")
    if proxy.type == "socks5" and max(len(proxy.login.encode()), len(proxy.password.encode())) > _SOCKS5_MAX:
        raise errors.ProxyFailed("The login is too long for SOCKS5", reason="protocol")


def _dial(
    host: str,
    port: int,
    allow_address: Callable[[str], bool] | None,
    until: float,
    connect: Callable[[int, tuple[str, int], float], socket.socket],
) -> socket.socket:
    """Connect to the first address of `host` that answers, each getting its share of the time left."""
    found = resolve(host, port, until - time.monotonic())
    if allow_address and not all(allow_address(address) for _, (address, _) in found):
        raise errors.ProxyFailed("The proxy's address is not allowed", reason="forbidden")
    last: OSError = OSError("no address")
    for left, (family, address) in zip(range(len(found), 0, -1), found, strict=True):
        try:
            return connect(family, address, max(0.001, (until - time.monotonic()) / left))
        except socks.ProxyConnectionError as error:
            last = error.socket_err or error
        except socks.ProxyError:
            raise  # reached, and it said no: another address of the same proxy would say the same
        except OSError as error:
            last = error
    raise last


def resolve(host: str, port: int, seconds: float) -> list[tuple[int, tuple[str, int]]]:
    """Family and (address, port) of all addresses of a name. The system's resolver knows no deadline, this one does.

    Raises OSError, when the time is over TimeoutError.
    """
    answer: Future[list[Any]] = Future()

    def ask() -> None:
        try:
            answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except (OSError, UnicodeError) as error:
            answer.set_exception(OSError(str(error)))

    threading.Thread(target=ask, daemon=True).start()
    return [(family, address[:2]) for family, _, _, _, address in answer.result(max(0.001, seconds))]


def _body(answer: requests.Response) -> bytes:
    """The body, decompressed as it comes, never more than BODY_MAX of it."""
    body = bytearray()
    for chunk in answer.raw.stream(CHUNK, decode_content=True):
        body += chunk
        if len(body) > BODY_MAX:
            answer.raw.close()
            raise errors.Unreadable(f"The answer is longer than {BODY_MAX} bytes")
    return bytes(body)
