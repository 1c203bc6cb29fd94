"""Proxies that point where no proxy of ours may be: in whatever spelling, nothing is connected."""

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from avito import NotConnected, Proxy, ProxyFailed, Transport
from avito.addresses import is_forbidden_name, is_public
from avito.protocol import Request
from avito.types import ProxyType
from tests.avito.loopback import Server, serving

GET = Request("GET", "/x")
KINDS: list[ProxyType] = ["http", "https", "socks4", "socks5"]
TARGETS = ["http://avito.test", "https://avito.test"]
PUBLIC, PRIVATE = "93.184.216.34", "10.1.2.3"

HERE = [
    "127.0.0.1", "127.1", "127.0.1", "2130706433", "017700000001", "0x7f000001", "0x7F.1", "0x7f.0.0.1", "0177.0.0.1",
    "0177.1", "127.0.0.0x1", "127.000.000.001",
]  # fmt: skip
"""Spellings of 127.0.0.1, where somebody listens."""

ELSEWHERE = [
    "::ffff:127.0.0.1", "::ffff:7f00:1", "0:0:0:0:0:ffff:7f00:0001", "0.0.0.0", "0", "0x0", "00.0",
    "127.0.0.2", "127.255.255.254", "0.1.2.3", "10.0.0.1", "10.255.255.255", "012.1.2.3", "167772161", "100.64.0.1",
    "100.127.255.255", "100.100.100.200", "169.254.169.254", "169.254.170.2", "0xa9fea9fe", "2852039166",
    "0251.0376.0251.0376", "169.254.43518", "168.63.129.16", "172.16.0.1", "172.31.255.255", "192.0.0.1", "192.0.0.8",
    "192.0.0.192", "192.0.2.1", "192.31.196.1", "192.52.193.1", "192.88.99.1", "192.168.0.1", "192.168.257",
    "192.175.48.1", "198.18.0.1", "198.19.255.255", "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.250",
    "240.0.0.1", "255.255.255.255", "4294967295", "::", "::1", "0:0:0:0:0:0:0:1", "::127.0.0.1", "::7f00:1",
    "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "64:ff9b::127.0.0.1", "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "100:0:0:1::1", "2001::1", "2001:0:7f00:1::", "2001:2::1",
    "2001:10::1", "2001:20::1", "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::1", "2620:4f:8000::1", "3ffe::1",
    "3fff::1", "4000::1", "5f00::1", "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80:0:0:0::a9fe:a9fe",
    "febf::1", "fec0::1", "ff02::1", "ff0e::1",
]  # fmt: skip

WIDE = ["１２７.０.０.１", "①②⑦.0.0.1"]
"""127.0.0.1 as well; HTTP's libraries refuse the letters before anything is resolved."""

UNREADABLE = [
    "fe80::1%lo", "::1%1", "[::1]", "[127.0.0.1]", "127.0.0.1.", "127.0.0.1:80", "u@127.0.0.1", "127.0.0.1#",
    "127.0.0.1/", "127。0。0。1", "127.0.0.1\r\nX: y", " 127.0.0.1", "127.0.0.1\x00", "256.0.0.1", "1.2.3.4.5", "",
]  # fmt: skip


def hangs_up(connection: object) -> None:
    """Whoever comes is counted; that is all."""


@pytest.fixture
def listener() -> Iterator[Server]:
    with serving(hangs_up) as server:
        yield server


@pytest.fixture
def _nothing_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers are read as ever; a name is unknown here rather than asked for on the internet."""
    real = socket.getaddrinfo

    def numbers_only(host: str, port: int, *, type: int) -> Any:
        return real(host, port, type=type, flags=socket.AI_NUMERICHOST)

    monkeypatch.setattr(socket, "getaddrinfo", numbers_only)


def reason(kind: ProxyType, host: str, port: int, target: str, allow: Callable[[str], bool] | None) -> str:
    with pytest.raises(ProxyFailed) as caught:
        Transport(target, Proxy(kind, host, port), allow_address=allow).send(GET)
    return caught.value.reason


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.usefixtures("_nothing_leaves")
def test_hostile_proxy_is_never_connected(kind: ProxyType, target: str, listener: Server) -> None:
    reasons = {host: reason(kind, host, listener.port, target, is_public) for host in HERE + ELSEWHERE}
    assert {host for host, said in reasons.items() if said != "forbidden"} == set()
    unreadable = {reason(kind, host, listener.port, target, is_public) for host in WIDE + UNREADABLE}
    assert unreadable <= {"forbidden", "protocol", "unreachable"}
    assert listener.connections == 0


@pytest.mark.parametrize("host", HERE + WIDE)
@pytest.mark.usefixtures("_nothing_leaves")
def test_unchecked_the_same_spellings_do_lead_here(host: str, listener: Server) -> None:
    """Else the test above would prove nothing."""
    assert reason("socks5", host, listener.port, TARGETS[1], None) == "protocol"
    assert listener.connections == 1


class World:
    """The resolver and the network outside: what was asked and who was called. Nobody answers."""

    def __init__(self, answers: Callable[[int], list[str]]) -> None:
        self.answers = answers
        self.asked: list[str] = []
        self.called: Counter[str] = Counter()

    def getaddrinfo(self, host: str, port: int, *, type: int) -> list[Any]:
        self.asked.append(host)
        return [(socket.AF_INET, type, 6, "", (one, port)) for one in self.answers(len(self.asked))]

    def connect(self, sock: socket.socket, address: tuple[str, int]) -> None:
        self.called[address[0]] += 1
        raise ConnectionRefusedError


def world(monkeypatch: pytest.MonkeyPatch, answers: Callable[[int], list[str]]) -> World:
    made = World(answers)
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", lambda sock, address: made.connect(sock, address))
    return made


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
def test_name_that_changes_its_mind_leads_to_no_private_address(
    kind: ProxyType, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The public answer is for the check, the private one for a connection that would look again."""
    outside = world(monkeypatch, lambda time: [PUBLIC if time % 2 else PRIVATE])
    reasons = Counter(reason(kind, "rebinding.test", 3128, target, is_public) for _ in range(1000))
    assert reasons == {"unreachable": 500, "forbidden": 500}
    assert outside.called == {PUBLIC: 500}
    assert outside.asked == ["rebinding.test"] * 1000


@pytest.mark.parametrize("kind", KINDS)
def test_one_private_address_among_public_ones_spoils_all(kind: ProxyType, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = world(monkeypatch, lambda _: [PUBLIC, "2606:2800:220:1::1", PRIVATE])
    assert reason(kind, "mixed.test", 3128, TARGETS[1], is_public) == "forbidden"
    assert outside.called == {}


@pytest.mark.parametrize("kind", KINDS)
def test_all_public_addresses_are_tried_and_the_name_is_asked_once(
    kind: ProxyType, monkeypatch: pytest.MonkeyPatch
) -> None:
    outside = world(monkeypatch, lambda _: [PUBLIC, "8.8.8.8"])
    assert reason(kind, "two.test", 3128, TARGETS[0], is_public) == "unreachable"
    assert outside.called == {PUBLIC: 1, "8.8.8.8": 1}
    assert outside.asked == ["two.test"]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("kind", KINDS)
def test_proxy_may_be_named_by_an_ipv6_address(kind: ProxyType, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    outside = world(monkeypatch, lambda _: ["2606:4700::1"])
    assert reason(kind, "2606:4700::1", 3128, target, is_public) == "unreachable"
    assert (outside.asked, outside.called) == (["2606:4700::1"], {"2606:4700::1": 1})


def test_avitos_own_address_is_not_asked_about(listener: Server) -> None:
    """It is our setting, not a user's; in development it is loopback."""
    with pytest.raises(NotConnected) as caught:
        Transport(f"https://127.0.0.1:{listener.port}", allow_address=is_public).send(GET)
    assert type(caught.value) is NotConnected
    assert listener.connections == 1


@pytest.mark.parametrize(
    "address",
    [
        "8.8.8.8", "93.184.216.34", "100.63.255.255", "100.128.0.1", "172.15.255.255", "172.32.0.1", "192.0.1.1",
        "198.17.255.255", "198.20.0.1", "223.255.255.255", "2606:4700::1", "2a02:6b8::1", "2001:200::1", "2003::1",
    ],
)  # fmt: skip
def test_public_addresses_stay_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize("text", [*UNREADABLE, *HERE[1:], *WIDE, "localhost", "avito.ru", "8.8.8.8/32", "8.8.8.08"])
def test_what_is_no_plain_address_is_not_public(text: str) -> None:
    assert not is_public(text)


OWN_NAMES = [
    "localhost", "LocalHost", "localhost.", "localhost..", "a.localhost", "localhost.localdomain", "ip6-localhost",
    "ip6-loopback", "printer.local", "PRINTER.LOCAL.", "local", "internal", "db.internal", "host.docker.internal",
    "metadata", "Metadata.", "metadata.google.internal", "metadata.google.internal.", "instance-data", "home.arpa",
    "instance-data.ec2.internal", "nas.home.arpa", "kubernetes.default.svc.cluster.local", "ｌｏｃａｌｈｏｓｔ",
    "local\u00adhost", "a．localhost", "a。localhost", "ⓛocalhost",
]  # fmt: skip


@pytest.mark.parametrize("host", OWN_NAMES)
def test_names_that_mean_ourselves_are_forbidden(host: str) -> None:
    assert is_forbidden_name(host)


@pytest.mark.parametrize(
    "host",
    [
        "proxy.example", "localhost.example", "mylocalhost", "metadata.example", "internal.example", "xlocal", "arpa",
        "прокси.рф", "8.8.8.8", "2606:4700::1", "gate_1.example", "", "x" * 300, "a..b",
    ],
)  # fmt: skip
def test_names_of_others_are_not_forbidden(host: str) -> None:
    assert not is_forbidden_name(host)
