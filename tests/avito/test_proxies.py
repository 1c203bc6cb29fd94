"""Calls through proxies of all kinds: they carry, they fail, and nothing ever goes around them."""

import ssl
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from avito import Proxy, ProxyFailed, TimedOut, Transport
from avito.protocol import Request
from avito.types import ProxyType
from tests.avito.loopback import HOST, Connection, ProxyServer, Server, always, certificate, http, serving

GET = Request("GET", "/x")
KINDS: list[ProxyType] = ["http", "socks4", "socks5"]
Tls = tuple[ssl.SSLContext, str]


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["http", "https"])
def origin(request: pytest.FixtureRequest, tls: Tls) -> Iterator[Server]:
    with serving(always(http(b'"hello"')), tls[0] if request.param == "https" else None) as server:
        yield server


def through(proxy: Proxy, origin: Server, tls: Tls, **options: Any) -> Transport:
    url = origin.url.replace("127.0.0.1", HOST)
    return Transport(url, proxy, **{"ca_file": tls[1], "deadline_seconds": 0.7, **options})


def failure(proxy: Proxy, origin: Server, tls: Tls, **options: Any) -> ProxyFailed:
    with pytest.raises(ProxyFailed) as caught:
        through(proxy, origin, tls, **options).send(GET)
    assert origin.connections == 0, "the proxy was bypassed"
    assert not caught.value.maybe_done
    assert proxy.password == "" or proxy.password not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("kind", KINDS)
def test_proxy_carries_and_resolves_the_name(kind: ProxyType, origin: Server, tls: Tls) -> None:
    proxy = ProxyServer()
    carrier = through(Proxy(kind, "127.0.0.1", proxy.port), origin, tls)
    assert [carrier.send(GET).body for _ in range(2)] == [b'"hello"'] * 2
    assert proxy.seen[0][1:] == (HOST, origin.port)
    assert (proxy.server.connections, origin.connections) == (1, 1)
    proxy.close()


def test_proxy_under_tls_carries(tls: Tls) -> None:
    proxy = ProxyServer(tls=tls[0], login=("u", "s3cret"))
    with serving(always(http(b'"hello"')), tls[0]) as origin:
        carrier = through(Proxy("https", "127.0.0.1", proxy.port, "u", "s3cret"), origin, tls, deadline_seconds=5)
        assert carrier.send(GET).body == b'"hello"'
        assert proxy.seen == [("CONNECT", HOST, origin.port)]
        origin.connections = 0
        assert failure(Proxy("https", "127.0.0.1", proxy.port, "u", "no"), origin, tls).reason == "auth"
        assert failure(Proxy("https", "127.0.0.1", proxy.port), origin, (tls[0], "")).reason == "protocol"
    proxy.close()


def test_http_address_through_a_proxy_under_tls_is_tunnelled(tls: Tls) -> None:
    proxy = ProxyServer(tls=tls[0])
    with serving(always(http(b'"hello"'))) as origin:
        there = Proxy("https", "127.0.0.1", proxy.port)
        assert through(there, origin, tls, deadline_seconds=5).send(GET).body == b'"hello"'
        assert proxy.seen == [("CONNECT", HOST, origin.port)]
        origin.connections = 0
        assert failure(there, origin, (tls[0], ""), deadline_seconds=5).reason == "protocol"
    proxy.close()


LOGIN, PASSWORD = "имя:@/%".replace(":", ";"), "пароль:@/%#? +"


@pytest.mark.parametrize("kind", KINDS)
def test_login_of_any_characters_is_accepted_and_another_refused(kind: ProxyType, origin: Server, tls: Tls) -> None:
    proxy = ProxyServer(login=(LOGIN, PASSWORD))
    wrong = Proxy(kind, "127.0.0.1", proxy.port, "wrong", "s3cret")
    assert failure(wrong, origin, tls).reason == "auth"
    if kind != "socks4":  # which lets in without a login, as it has none
        assert failure(Proxy(kind, "127.0.0.1", proxy.port), origin, tls).reason == "auth"
    right = Proxy(kind, "127.0.0.1", proxy.port, LOGIN, PASSWORD)
    assert through(right, origin, tls).send(GET).body == b'"hello"'
    proxy.close()


def test_login_does_not_reach_the_origin(tls: Tls) -> None:
    proxy = ProxyServer(login=("u", "s3cret"))
    with serving(always(http()), tls[0]) as origin:
        through(Proxy("http", "127.0.0.1", proxy.port, "u", "s3cret"), origin, tls).send(GET)
        assert b"Proxy-Authorization" not in origin.requests[0]
    proxy.close()


@pytest.mark.parametrize("kind", [*KINDS, "https"])
def test_dead_proxy_is_unreachable(kind: ProxyType, tls: Tls) -> None:
    with serving(always(http()), tls[0]) as origin:
        dead = ProxyServer()
        dead.close()
        assert failure(Proxy(kind, "127.0.0.1", dead.port, "u", "s3cret"), origin, tls).reason == "unreachable"


@pytest.mark.parametrize("kind", KINDS)
def test_proxy_that_does_not_reach_avito_is_unreachable(kind: ProxyType, tls: Tls) -> None:
    proxy = ProxyServer(refuse=True)
    with serving(always(http()), tls[0]) as origin:
        assert failure(Proxy(kind, "127.0.0.1", proxy.port), origin, tls).reason == "unreachable"
    proxy.close()


@pytest.mark.parametrize("kind", [*KINDS, "https"])
def test_silent_proxy_is_timed_out(kind: ProxyType, tls: Tls) -> None:
    with serving(always(http()), tls[0]) as origin, serving(lambda connection: time.sleep(3)) as silent:
        started = time.monotonic()
        assert failure(Proxy(kind, "127.0.0.1", silent.port, "u", "s3cret"), origin, tls).reason == "timeout"
        assert time.monotonic() - started < 1.5


@pytest.mark.parametrize(
    "answer", [b"\x05\x00" + b"\x05\x00\x00\x03\xff" + b"x" * 255, b"HTTP/1.1 200 OK\r\nX: " + b"y" * 999]
)
def test_dripping_proxy_is_timed_out_in_time(answer: bytes, tls: Tls) -> None:
    kind: ProxyType = "socks5" if answer.startswith(b"\x05") else "http"
    with serving(always(http()), tls[0]) as origin, serving(lambda connection: connection.drip(answer)) as dripping:
        started = time.monotonic()
        assert failure(Proxy(kind, "127.0.0.1", dripping.port), origin, tls).reason == "timeout"
        assert time.monotonic() - started < 1.5


@pytest.mark.parametrize("kind", KINDS)
def test_proxy_that_talks_nonsense_breaks_the_protocol(kind: ProxyType, tls: Tls) -> None:
    def nonsense(connection: Connection) -> None:
        connection.sock.recv(1000)
        connection.send(b"SSH-2.0-OpenSSH_9.2p1 and so on\r\n\r\n")

    with serving(always(http()), tls[0]) as origin, serving(nonsense) as server:
        assert failure(Proxy(kind, "127.0.0.1", server.port), origin, tls).reason == "protocol"


def test_proxy_that_reads_along_is_caught(tls: Tls, tmp_path: Path) -> None:
    """A proxy that answers in Avito's place under a certificate of its own."""

    def intercept(connection: Connection) -> None:
        connection.read()
        connection.send(b"HTTP/1.1 200 OK\r\n\r\n")
        with certificate(tmp_path)[0].wrap_socket(connection.sock, server_side=True) as sock:
            sock.recv(1000)

    with serving(always(http()), tls[0]) as origin, serving(intercept) as server:
        assert failure(Proxy("http", "127.0.0.1", server.port), origin, tls).reason == "protocol"


def test_answer_that_does_not_come_through_the_proxy_may_have_been_done(tls: Tls) -> None:
    def silence(connection: Connection) -> None:
        connection.read()
        time.sleep(3)

    proxy = ProxyServer()
    with serving(silence, tls[0]) as origin, pytest.raises(TimedOut):
        through(Proxy("socks5", "127.0.0.1", proxy.port), origin, tls).send(GET)
    proxy.close()


def test_word_of_avitos_is_not_taken_for_the_proxys(tls: Tls) -> None:
    proxy = ProxyServer()
    with serving(always(http(b"", "407 Odd", Proxy_Authenticate="Basic")), tls[0]) as origin:
        assert through(Proxy("http", "127.0.0.1", proxy.port), origin, tls).send(GET).status == 407
    proxy.close()


@pytest.mark.parametrize("kind", [*KINDS, "https"])
def test_proxy_at_an_address_not_allowed_is_never_connected(kind: ProxyType, tls: Tls) -> None:
    asked: list[str] = []

    def refuse(address: str) -> bool:
        asked.append(address)
        return False

    proxy = ProxyServer()
    with serving(always(http()), tls[0]) as origin:
        refused = failure(Proxy(kind, "127.0.0.1", proxy.port), origin, tls, allow_address=refuse)
    assert refused.reason == "forbidden"
    assert asked == ["127.0.0.1"]
    assert proxy.server.connections == 0
    proxy.close()


@pytest.mark.parametrize(
    "proxy",
    [
        Proxy("http", "a b", 80),
        Proxy("http", "a\r\nX: y", 80),
        Proxy("http", "u:p@a", 80),
        Proxy("http", "a/b#", 80),
        Proxy("http", "", 80),
        Proxy("socks5", "..", 80),
        Proxy("http", "..", 80),
        Proxy("socks5", "a", 0),
        Proxy("socks5", "a", 65536),
        Proxy("http", "a", -1),
        Proxy("ftp", "a", 80),  # type: ignore[arg-type]
        Proxy("socks5", "x" * 300, 80),
        Proxy("socks5", "127.0.0.1", 1, "x" * 300, "y" * 300),
    ],
)
def test_proxy_that_makes_no_sense_fails_as_a_proxy(proxy: Proxy, tls: Tls) -> None:
    with serving(always(http()), tls[0]) as origin:
        failure(proxy, origin, tls)
