"""The network at its worst: each exchange ends in time, in bounded memory, with an error that says what to do."""

import gzip
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import responses

import avito
from avito import AvitoError, Client, NotConnected, TimedOut, Transport, Transports, Unreadable, protocol, transport
from avito.protocol import Request
from tests.avito.loopback import Connection, Server, always, certificate, http, serving

GET = Request("GET", "/x")
POST = protocol.post("/x", {"a": 1})


def failure(server: Server | str, request: Request = GET, **options: Any) -> tuple[Any, float]:
    """The error of one exchange under a deadline of 0.5 seconds, and the seconds it took."""
    url = server if isinstance(server, str) else server.url
    started = time.monotonic()
    with pytest.raises(AvitoError) as caught:
        Transport(url, **{"deadline_seconds": 0.5, **options}).send(request)
    return caught.value, time.monotonic() - started


@pytest.fixture
def served() -> Iterator[Callable[[Callable[[Connection], None]], Server]]:
    with ExitStack() as stack:
        yield lambda handle: stack.enter_context(serving(handle))


Serve = Callable[[Callable[[Connection], None]], Server]


def test_request_and_answer_pass_as_they_are(served: Serve) -> None:
    server = served(always(http(b'{"\xd0\xb4": 1}', "201 Created", X_Some="Header")))
    request = Request("POST", protocol.path("/a/{}/b/", "u2i~_-/?#%2e\n"), (("q", "я&,"),), {"X-A": "b"}, b"body")
    response = Transport(server.url + "/base/").send(request)
    assert (response.status, response.body) == (201, b'{"\xd0\xb4": 1}')
    assert response.headers["x-some"] == "Header"
    [sent] = server.requests
    head, _, body = sent.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /base/a/u2i~_-%2F%3F%23%252e%0A/b/?q=%D1%8F%26%2C HTTP/1.1\r\n")
    assert b"X-A: b" in head
    assert body == b"body"


def test_token_goes_into_the_header_alone(served: Serve) -> None:
    server = served(always(http(b'{"id": 5}')))
    assert Client("t0ken", Transport(server.url)).user.me().id == 5
    [sent] = server.requests
    assert sent.count(b"t0ken") == 1
    assert b"\r\nAuthorization: Bearer t0ken\r\n" in sent


@responses.activate
def test_every_status_is_returned() -> None:
    for status in (200, 201, 400, 401, 404, 429, 500, 503):
        responses.upsert(responses.GET, "https://api.avito.ru/x", body=b"{}", status=status)
        assert Transport("https://api.avito.ru").send(GET).status == status


def test_silence_is_timed_out(served: Serve) -> None:
    def silence(connection: Connection) -> None:
        connection.read()
        connection.wait()

    error, seconds = failure(served(silence))
    assert type(error) is TimedOut
    assert error.maybe_done
    assert 0.4 < seconds < 1.5


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000,
        http(b"1" * 1000),
        b"HTTP/1.1 200 OK\r\n\r\n" + b"1" * 1000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n1\r\n" * 1000,
    ],
)
def test_drip_is_timed_out_in_time(served: Serve, answer: bytes) -> None:
    def drip(connection: Connection) -> None:
        connection.read()
        connection.drip(answer)

    error, seconds = failure(served(drip))
    assert type(error) is TimedOut
    assert seconds < 1.5


def test_deadline_of_a_call_outweighs_the_usual_one(served: Serve) -> None:
    def late(connection: Connection) -> None:
        connection.read()
        time.sleep(0.4)
        connection.send(http())

    assert Transport(served(late).url, deadline_seconds=0.1).send(GET, deadline_seconds=3).status == 200


@pytest.mark.parametrize(
    "end",
    [
        lambda connection: None,
        lambda connection: connection.reset(),
        lambda connection: connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"),
        lambda connection: connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"),
        lambda connection: connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"),
    ],
)
def test_connection_that_breaks_after_the_request_may_have_done_it(
    served: Serve, end: Callable[[Connection], None]
) -> None:
    def break_off(connection: Connection) -> None:
        connection.read()
        end(connection)

    server = served(break_off)
    error, _ = failure(server, POST)
    assert type(error) is TimedOut
    assert error.maybe_done
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"y" * 5_000_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nZZZ\r\n",
        http(b"no gzip", Content_Encoding="gzip"),
        http(b"{}", Content_Length="5, 6"),
    ],
)
def test_answer_that_is_not_http_is_unreadable(served: Serve, answer: bytes) -> None:
    error, seconds = failure(served(always(answer)), deadline_seconds=5)
    assert type(error) is Unreadable
    assert seconds < 2


@pytest.mark.parametrize(
    "answer",
    [
        http(gzip.compress(bytes(200_000_000)), Content_Encoding="gzip"),
        http(gzip.compress(bytes(200_000_000)), "302 Found", Location="/y", Content_Encoding="gzip"),
        http(gzip.compress(bytes(200_000_000)), "500 Oops", Content_Encoding="gzip"),
        http(bytes(3_000_000)),
        http(bytes(3_000_000), Content_Length="999999999999"),
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(3_000_000),
    ],
    ids=["bomb", "redirect", "error", "long", "lie", "endless"],
)
def test_answer_too_long_is_unreadable_in_bounded_memory(served: Serve, answer: bytes) -> None:
    server = served(always(answer))
    tracemalloc.start()
    try:
        error, seconds = failure(server, deadline_seconds=10)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000
    finally:
        tracemalloc.stop()
    assert type(error) is Unreadable
    assert seconds < 5


def test_longest_answer_is_read_whole(served: Serve) -> None:
    body = gzip.compress(bytes(transport.BODY_MAX))
    assert len(Transport(served(always(http(body, Content_Encoding="gzip"))).url).send(GET).body) == transport.BODY_MAX


def test_redirect_is_not_followed(served: Serve) -> None:
    other = served(always(http()))
    server = served(always(http(b"", "307 Temporary Redirect", Location=other.url)))
    with pytest.raises(Unreadable):
        Client("token", Transport(server.url)).user.me()
    assert (len(server.requests), len(other.requests)) == (1, 0)


def test_html_with_200_is_unreadable(served: Serve) -> None:
    server = served(always(http(b"<html></html>", Content_Type="text/html")))
    with pytest.raises(Unreadable):
        Client("token", Transport(server.url)).user.me()


def test_nothing_of_the_environment_is_used(served: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login u password p\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    server = served(always(http(Set_Cookie="a=b; Path=/")))
    carrier = Transport(server.url)
    assert [carrier.send(GET).status, carrier.send(GET).status] == [200, 200]
    assert all(b"Authorization" not in sent and b"Cookie" not in sent for sent in server.requests)


def test_connection_is_kept_and_used_again(served: Serve) -> None:
    server = served(always(http()))
    carrier = Transport(server.url)
    for _ in range(3):
        carrier.send(POST)
    assert (server.connections, len(server.requests)) == (1, 3)


def test_old_idle_connection_is_not_used_again(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transport, "IDLE_SECONDS", 0.05)
    server = served(always(http()))
    carrier = Transport(server.url)
    carrier.send(POST)
    time.sleep(0.1)
    carrier.send(POST)
    assert (server.connections, len(server.requests)) == (2, 2)


def test_connection_that_the_server_closed_is_not_used_again(served: Serve) -> None:
    def answer_once(connection: Connection) -> None:
        connection.read()
        connection.send(http())

    server = served(answer_once)
    carrier = Transport(server.url)
    for _ in range(3):
        carrier.send(POST)
        time.sleep(0.05)
    assert len(server.requests) == 3


def test_request_on_a_kept_connection_that_breaks_is_not_repeated(served: Serve) -> None:
    def answer_once(connection: Connection) -> None:
        connection.read()
        connection.send(http())
        connection.read()

    server = served(answer_once)
    carrier = Transport(server.url)
    carrier.send(POST)
    with pytest.raises(TimedOut):
        carrier.send(POST)
    assert (server.connections, len(server.requests)) == (1, 2)


def test_nobody_listening_is_not_connected() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error, _ = failure(f"http://127.0.0.1:{port}")
    assert type(error) is NotConnected
    assert not error.maybe_done


def test_unknown_name_is_not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*args: object, **options: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert type(failure("https://no.such.example")[0]) is NotConnected


def test_name_that_takes_too_long_is_not_connected(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: released.wait(5) and [])
    error, seconds = failure("https://slow.example", connect_seconds=0.2)
    released.set()
    assert type(error) is NotConnected
    assert seconds < 1


def test_connection_that_takes_too_long_is_not_connected() -> None:
    with socket.socket() as full, ExitStack() as stack:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        error, seconds = failure(f"http://127.0.0.1:{full.getsockname()[1]}", connect_seconds=0.3, deadline_seconds=5)
    assert type(error) is NotConnected
    assert seconds < 1.5


def test_second_address_of_a_name_is_tried(served: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    server = served(always(http()))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        closed = listener.getsockname()
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in (closed, ("127.0.0.1", server.port))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **options: found)
    assert Transport("http://two.example").send(GET).status == 200


def test_no_more_connections_than_allowed_and_the_rest_is_not_done(served: Serve) -> None:
    def slow(connection: Connection) -> None:
        while connection.read():
            time.sleep(0.5)
            connection.send(http())

    server = served(slow)
    carrier = Transport(server.url, deadline_seconds=5)
    with ThreadPoolExecutor(transport.CONNECTIONS_MAX) as pool:
        running = [pool.submit(carrier.send, GET) for _ in range(transport.CONNECTIONS_MAX)]
        time.sleep(0.2)
        with pytest.raises(NotConnected):
            carrier.send(GET, deadline_seconds=0.1)
        assert {future.result().status for future in running} == {200}
    assert server.connections == transport.CONNECTIONS_MAX


def test_request_that_no_header_can_hold_is_not_done(served: Serve) -> None:
    server = served(always(http()))
    error, _ = failure(server, GET.with_token("a\r\nX: y"))
    assert type(error) is NotConnected
    assert server.requests == []


def test_close_lets_calls_in_flight_end(served: Serve) -> None:
    def slow(connection: Connection) -> None:
        while connection.read():
            time.sleep(0.2)
            connection.send(http())

    server = served(slow)
    carrier = Transport(server.url)
    with ThreadPoolExecutor() as pool:
        running = [pool.submit(carrier.send, GET) for _ in range(3)]
        time.sleep(0.1)
        carrier.close()
        assert [future.result().status for future in running] == [200] * 3
    assert carrier.send(GET).status == 200
    assert carrier.send(GET).status == 200
    assert server.connections == 5


def test_tls_is_checked(tmp_path: Path) -> None:
    context, ca_file = certificate(tmp_path)
    with serving(always(http()), context) as server:
        assert Transport(server.url, ca_file=ca_file).send(GET).status == 200
        error, _ = failure(server)
        assert type(error) is NotConnected
        error, _ = failure(server.url.replace("127.0.0.1", "localhost"), ca_file=ca_file)
        assert type(error) is NotConnected
        assert len(server.requests) == 1


def test_tls_that_is_never_agreed_is_not_connected(served: Serve) -> None:
    error, seconds = failure(served(lambda connection: connection.wait()).url.replace("http", "https"))
    assert type(error) is NotConnected
    assert seconds < 1.5


def test_drip_under_tls_is_timed_out_in_time(tmp_path: Path) -> None:
    def drip(connection: Connection) -> None:
        connection.read()
        connection.drip(b"HTTP/1.1 200 OK\r\nX-Long: " + b"x" * 1000)

    context, ca_file = certificate(tmp_path)
    with serving(drip, context) as server:
        error, seconds = failure(server, ca_file=ca_file)
    assert type(error) is TimedOut
    assert seconds < 1.5


def test_registry_keeps_one_transport_per_key() -> None:
    registry = Transports()
    proxy = avito.Proxy("http", "proxy.example", 3128, "u", "p")
    first = registry.get(1, base_url="https://a.example", proxy=proxy)
    assert (
        registry.get(1, base_url="https://a.example", proxy=avito.Proxy("http", "proxy.example", 3128, "u", "p"))
        is first
    )
    assert registry.get(2, base_url="https://a.example", proxy=proxy) is not first
    changed = registry.get(1, base_url="https://a.example", proxy=avito.Proxy("http", "proxy.example", 3128, "u", "q"))
    assert changed is not first
    assert registry.get(1, base_url="https://b.example", proxy=None) is not changed
    assert len(registry) == 2


def test_registry_lets_the_least_recently_used_go(served: Serve) -> None:
    server = served(always(http()))
    registry = Transports(max_size=2)
    kept = {key: registry.get(key, base_url=server.url) for key in "ab"}
    assert registry.get("a", base_url=server.url) is kept["a"]
    registry.get("c", base_url=server.url)
    assert registry.get("a", base_url=server.url) is kept["a"]
    assert registry.get("b", base_url=server.url) is not kept["b"]
    assert kept["b"].send(GET).status == 200
    assert len(registry) == 2


def test_registry_gives_many_threads_the_same_transport() -> None:
    registry = Transports()
    with ThreadPoolExecutor(16) as pool:
        found = set(pool.map(lambda _: id(registry.get(1, base_url="https://a.example")), range(500)))
    assert len(found) == 1
    registry.close()
    assert len(registry) == 0
