"""Calls through proxies of all kinds: they carry, they fail, and nothing ever goes around them."""

import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from avito import AvitoError, Proxy, ProxyFailed, TimedOut, Transport, Unreadable
from avito.protocol import Request, Response
from avito.types import ProxyType
from tests.avito.loopback import HOST, Connection, Server, always, certificate, http, serving
from tests.avito.witnesses import Witness, microsocks, tinyproxy
from tests.recording_proxy import Asked, Mode, RecordingProxy, recording_proxy

GET = Request("GET", "/x")
KINDS: list[ProxyType] = ["http", "https", "socks4", "socks5"]
Tls = tuple[ssl.SSLContext, str]
LOGIN, PASSWORD = "имя;@/%", "пароль:@/%#? +"


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    return certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(params=["http", "https"])
def origin(request: pytest.FixtureRequest, tls: Tls) -> Iterator[Server]:
    with serving(always(http(b'"hello"')), tls[0] if request.param == "https" else None) as server:
        yield server


@pytest.fixture
def resolved(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that this machine was asked for; `proxy.test` is one it knows."""
    asked: list[str] = []
    real = socket.getaddrinfo

    def getaddrinfo(host: str, *args: Any, **options: Any) -> Any:
        asked.append(host)
        return real("127.0.0.1" if host.rstrip(".") == "proxy.test" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return asked


def recording(kind: ProxyType, origin: Server, tls: Tls, **options: Any) -> AbstractContextManager[RecordingProxy]:
    """A proxy that knows where HOST is; `tls` vouches for it as well."""
    return recording_proxy(kind, resolve={HOST: ("127.0.0.1", origin.port)}, tls=tls, **options)


def through(proxy: Proxy, origin: Server, tls: Tls, **options: Any) -> Transport:
    url = origin.url.replace("127.0.0.1", HOST)
    return Transport(url, proxy, **{"ca_file": tls[1], "deadline_seconds": 5, **options})


def failure(proxy: Proxy, origin: Server, tls: Tls, **options: Any) -> ProxyFailed:
    with pytest.raises(ProxyFailed) as caught:
        through(proxy, origin, tls, **options).send(GET)
    assert origin.connections == 0, "the proxy was bypassed"
    assert not caught.value.maybe_done
    assert proxy.password == "" or proxy.password not in str(caught.value)
    return caught.value


def outcome(proxy: Proxy, origin: Server, tls: Tls, **options: Any) -> Response | AvitoError | str:
    """An answer, an error, or the reason of a proxy's failure; by then the origin has heard nothing."""
    try:
        return through(proxy, origin, tls, **options).send(GET)
    except ProxyFailed as error:
        return error.reason
    except AvitoError as error:
        return error
    finally:
        assert origin.connections == 0, "the proxy was bypassed"


def is_forwarding(kind: ProxyType, origin: Server) -> bool:
    return kind == "http" and origin.tls is None


@pytest.mark.parametrize("kind", KINDS)
def test_proxy_carries_and_alone_knows_the_name(kind: ProxyType, origin: Server, tls: Tls, resolved: list[str]) -> None:
    with recording(kind, origin, tls) as proxy:
        carrier = through(Proxy(kind, "127.0.0.1", proxy.port), origin, tls)
        assert [carrier.send(GET).body for _ in range(2)] == [b'"hello"'] * 2
    assert carrier.is_forwarding is is_forwarding(kind, origin)
    assert resolved == ["127.0.0.1"]
    assert (proxy.connections, origin.connections) == (1, 1)
    assert len(origin.requests) == 2
    assert len(proxy.requests) == (2 if carrier.is_forwarding else 1)
    asked = proxy.requests[0]
    method = "" if kind.startswith("socks") else "GET" if carrier.is_forwarding else "CONNECT"
    assert asked == Asked("", "", HOST, origin.port, method, asked.first)
    assert asked.first.startswith(b"\x16\x03" if origin.tls else b"GET /x HTTP/1.1\r\nHost: avito.test:")


@pytest.mark.parametrize("kind", KINDS)
def test_address_is_handed_to_the_proxy_as_it_is(kind: ProxyType, origin: Server, tls: Tls) -> None:
    with recording(kind, origin, tls) as proxy:
        carrier = Transport(origin.url, Proxy(kind, "127.0.0.1", proxy.port), ca_file=tls[1])
        assert carrier.send(GET).body == b'"hello"'
    assert proxy.requests[0].host == "127.0.0.1"


@pytest.mark.parametrize("kind", KINDS)
def test_login_of_any_characters_is_accepted_and_another_refused(kind: ProxyType, origin: Server, tls: Tls) -> None:
    has_password = kind != "socks4"
    with recording(kind, origin, tls, login=LOGIN, password=PASSWORD if has_password else "") as proxy:
        assert failure(Proxy(kind, "127.0.0.1", proxy.port, "wrong", "s3cret"), origin, tls).reason == "auth"
        assert failure(Proxy(kind, "127.0.0.1", proxy.port), origin, tls).reason == "auth"
        if has_password:
            assert failure(Proxy(kind, "127.0.0.1", proxy.port, LOGIN, "s3cret"), origin, tls).reason == "auth"
        right = Proxy(kind, "127.0.0.1", proxy.port, LOGIN, PASSWORD)
        assert through(right, origin, tls).send(GET).body == b'"hello"'
    assert proxy.requests[0].login == "wrong"
    assert proxy.requests[-1].login == LOGIN
    assert proxy.requests[-1].password == (PASSWORD if has_password else "")
    assert b"proxy-authorization" not in origin.requests[0].lower()


def test_login_too_long_for_socks5_is_told_at_once(origin: Server, tls: Tls) -> None:
    longest, too_long = "я" * 63, "я" * 64
    with recording("socks5", origin, tls, login=longest, password=longest) as proxy:
        there = Proxy("socks5", "127.0.0.1", proxy.port, longest, too_long)
        assert failure(there, origin, tls).reason == "protocol"
        assert proxy.connections == 0
        there = Proxy("socks5", "127.0.0.1", proxy.port, longest, longest)
        assert through(there, origin, tls).send(GET).body == b'"hello"'


@pytest.mark.parametrize("kind", KINDS)
def test_dead_proxy_is_unreachable(kind: ProxyType, origin: Server, tls: Tls) -> None:
    with recording(kind, origin, tls) as dead:
        pass
    assert failure(Proxy(kind, "127.0.0.1", dead.port, "u", "s3cret"), origin, tls).reason == "unreachable"


MODES: list[tuple[Mode, str, Callable[[Any], bool]]] = [
    ("refuse login", "auth", lambda result: result == "auth"),
    ("refuse target", "unreachable", lambda result: isinstance(result, Response) and result.status == 502),
    ("swallow", "timeout", lambda result: isinstance(result, TimedOut)),
    ("nonsense", "protocol", lambda result: isinstance(result, Unreadable)),
    ("close", "protocol", lambda result: isinstance(result, TimedOut)),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("mode", "reason", "is_forwarders"), MODES, ids=[mode for mode, *_ in MODES])
def test_proxy_that_misbehaves_is_told_by_its_reason(
    mode: Mode, reason: str, is_forwarders: Callable[[Any], bool], kind: ProxyType, origin: Server, tls: Tls
) -> None:
    """One that forwards has the request in its hands: what it does then may as well be Avito's doing."""
    seconds = 0.7 if mode == "swallow" else 5
    with recording(kind, origin, tls, mode=mode) as proxy:
        there = Proxy(kind, "127.0.0.1", proxy.port, "u", "s3cret")
        result = outcome(there, origin, tls, deadline_seconds=seconds)
    assert proxy.connections == 1
    assert is_forwarders(result) if is_forwarding(kind, origin) else result == reason


@pytest.mark.parametrize("kind", KINDS)
def test_call_through_a_failing_proxy_works_once_it_is_well(kind: ProxyType, origin: Server, tls: Tls) -> None:
    with recording(kind, origin, tls, mode="refuse login") as proxy:
        carrier = through(Proxy(kind, "127.0.0.1", proxy.port), origin, tls)
        with pytest.raises(ProxyFailed):
            carrier.send(GET)
        proxy.mode = "carry"
        assert carrier.send(GET).body == b'"hello"'


@pytest.mark.parametrize("kind", KINDS)
def test_plain_words_where_tls_is_due_break_the_protocol(kind: ProxyType, tls: Tls) -> None:
    with serving(always(http())) as origin, recording("http", origin, tls, mode="nonsense") as proxy:
        assert failure(Proxy("https", "127.0.0.1", proxy.port), origin, tls).reason == "protocol"


def both(*files: str, into: Path) -> str:
    into.write_text("".join(Path(file).read_text() for file in files))
    return str(into)


def test_proxy_under_tls_has_to_prove_its_name(origin: Server, tls: Tls, resolved: list[str], tmp_path: Path) -> None:
    known = {HOST: ("127.0.0.1", origin.port)}
    with recording_proxy("https", resolve=known) as proxy:
        trusted = both(tls[1], proxy.ca_file, into=tmp_path / "trusted.pem")
        for name in ["proxy.test", "proxy.test."]:
            named = through(Proxy("https", name, proxy.port), origin, tls, ca_file=trusted)
            assert named.send(GET).body == b'"hello"'
    assert resolved == ["proxy.test", "proxy.test."]
    origin.connections = 0
    with recording_proxy("https", resolve=known, name="other.test") as proxy:
        trusted = both(tls[1], proxy.ca_file, into=tmp_path / "trusted.pem")
        wrong_name = failure(Proxy("https", "proxy.test", proxy.port), origin, tls, ca_file=trusted)
        nobody_vouches = failure(Proxy("https", "127.0.0.1", proxy.port), origin, tls)
    assert (wrong_name.reason, nobody_vouches.reason) == ("protocol", "protocol")
    assert proxy.requests == []


@pytest.mark.parametrize("is_handshake", [True, False])
def test_proxy_that_drips_under_tls_is_timed_out(is_handshake: bool, tls: Tls) -> None:
    def drip(connection: Connection) -> None:
        connection.sock.recv(65536)
        connection.drip(
            b"\x16\x03\x03\x0f\xff" + b"x" * 999 if is_handshake else b"HTTP/1.1 200 OK\r\nX: " + b"y" * 999
        )

    with serving(always(http())) as origin, serving(drip, None if is_handshake else tls[0]) as dripping:
        slow = Proxy("https", "127.0.0.1", dripping.port)
        assert failure(slow, origin, tls, deadline_seconds=0.7).reason == "timeout"


def test_proxy_that_refuses_with_401_has_refused_the_login(origin: Server, tls: Tls) -> None:
    refusal = http(b"", "401 Unauthorized", WWW_Authenticate='Basic realm="proxy"')
    with serving(always(refusal)) as server:
        assert failure(Proxy("http", "127.0.0.1", server.port), origin, tls).reason == "auth"


@pytest.mark.parametrize("with_login", [False, True])
@pytest.mark.parametrize("start", [microsocks, tinyproxy])
def test_proxies_of_others_carry(
    start: Callable[..., AbstractContextManager[Witness]],
    with_login: bool,
    resolved: list[str],
    tmp_path: Path,
    witnessed: Server,
) -> None:
    with start(tmp_path, *(("u", "s3cret") if with_login else ())) as witness:
        carrier = at_localhost(witnessed, witness.proxy, tmp_path)
        assert [carrier.send(GET).body for _ in range(2)] == [b'"hello"'] * 2
        said = witness.said()
    if witness.proxy.type == "socks5":
        assert f"connected to localhost:{witnessed.port}" in said
    elif witnessed.tls:
        assert f"CONNECT localhost:{witnessed.port}" in said
    else:
        assert f"GET http://localhost:{witnessed.port}/x" in said
        assert b"\r\nVia: " in witnessed.requests[0]
    assert set(resolved) == {"127.0.0.1"}
    assert len(witnessed.requests) == 2
    assert not any(b"proxy-authorization" in sent.lower() for sent in witnessed.requests)


@pytest.mark.parametrize("start", [microsocks, tinyproxy])
def test_proxies_of_others_refuse_another_login(
    start: Callable[..., AbstractContextManager[Witness]], tmp_path: Path, witnessed: Server
) -> None:
    with start(tmp_path, "u", "s3cret") as witness:
        kind, port = witness.proxy.type, witness.proxy.port
        for login in [("u", "wrong"), ("wrong", "s3cret"), ()]:
            carrier = at_localhost(witnessed, Proxy(kind, "127.0.0.1", port, *login), tmp_path)
            with pytest.raises(ProxyFailed) as caught:
                carrier.send(GET)
            assert caught.value.reason == "auth"
        assert witnessed.connections == 0
        assert at_localhost(witnessed, witness.proxy, tmp_path).send(GET).body == b'"hello"'


@pytest.mark.parametrize("start", [microsocks, tinyproxy])
def test_proxies_of_others_say_when_avito_is_away(
    start: Callable[..., AbstractContextManager[Witness]], tmp_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        away = listener.getsockname()[1]
    with start(tmp_path) as witness, pytest.raises(ProxyFailed) as caught:
        Transport(f"https://localhost:{away}", witness.proxy).send(GET)
    assert caught.value.reason == "unreachable"


@pytest.fixture(params=["http", "https"])
def witnessed(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Server]:
    """An origin by the only name that others' proxies know without asking the internet."""
    context, _ = certificate(tmp_path, "localhost")
    with serving(always(http(b'"hello"')), context if request.param == "https" else None) as server:
        yield server


def at_localhost(server: Server, proxy: Proxy, folder: Path) -> Transport:
    return Transport(server.url.replace("127.0.0.1", "localhost"), proxy, ca_file=str(folder / "certificate.pem"))


@pytest.mark.parametrize(
    "answer", [b"\x05\x00" + b"\x05\x00\x00\x03\xff" + b"x" * 255, b"HTTP/1.1 200 OK\r\nX: " + b"y" * 999]
)
def test_dripping_proxy_is_timed_out(answer: bytes, tls: Tls) -> None:
    kind: ProxyType = "socks5" if answer.startswith(b"\x05") else "http"
    with serving(always(http()), tls[0]) as origin, serving(lambda connection: connection.drip(answer)) as dripping:
        slow = Proxy(kind, "127.0.0.1", dripping.port)
        assert failure(slow, origin, tls, deadline_seconds=0.7).reason == "timeout"


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
        connection.wait()

    with serving(silence, tls[0]) as origin, recording("socks5", origin, tls) as proxy, pytest.raises(TimedOut):
        through(Proxy("socks5", "127.0.0.1", proxy.port), origin, tls, deadline_seconds=0.7).send(GET)


def test_word_of_avitos_is_not_taken_for_the_proxys(tls: Tls) -> None:
    odd = http(b"", "407 Odd", Proxy_Authenticate="Basic")
    with serving(always(odd), tls[0]) as origin, recording("http", origin, tls) as proxy:
        assert through(Proxy("http", "127.0.0.1", proxy.port), origin, tls).send(GET).status == 407


@pytest.mark.parametrize("kind", KINDS)
def test_proxy_at_an_address_not_allowed_is_never_connected(kind: ProxyType, origin: Server, tls: Tls) -> None:
    asked: list[str] = []

    def refuse(address: str) -> bool:
        asked.append(address)
        return False

    with recording(kind, origin, tls) as proxy:
        refused = failure(Proxy(kind, "127.0.0.1", proxy.port), origin, tls, allow_address=refuse)
    assert refused.reason == "forbidden"
    assert asked == ["127.0.0.1"]
    assert proxy.connections == 0


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
