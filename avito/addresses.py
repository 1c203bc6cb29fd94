"""Which hosts lie out on the internet: pure, nothing is resolved here.

A proxy's host is written by its owner, so it may point into our own network. `ipaddress.is_global` is no help: it calls
64:ff9b::7f00:1 and 2002:7f00:1::, two ways to write 127.0.0.1, global.
Source: IANA, Special-Purpose Address Registries for IPv4 and IPv6 (RFC 6890 and later).
"""

import ipaddress
import unicodedata

_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")
"""All that is given out. Outside lie ::, ::1, v4-mapped, NAT64, discard, SRv6, private, link-local and multicast."""

_SPECIAL = tuple(
    ipaddress.ip_network(network)
    for network in (
        "0.0.0.0/8",  # this network
        "10.0.0.0/8",  # private
        "100.64.0.0/10",  # shared by the customers of a provider; also metadata of Alibaba
        "127.0.0.0/8",  # loopback
        "168.63.129.16/32",  # public by its number, but inside Azure the host of the machine
        "169.254.0.0/16",  # link-local; metadata of most clouds
        "172.16.0.0/12",  # private
        "192.0.0.0/24",  # IETF protocols; also metadata of Oracle
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",  # AS112
        "192.52.193.0/24",  # multicast tunnels
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",  # private
        "192.175.48.0/24",  # AS112
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
        "2001::/23",  # IETF protocols: Teredo, benchmarks, ORCHID and others
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",  # AS112
        "3ffe::/16",  # 6bone, given back
        "3fff::/20",  # documentation
    )
)
_OWN_NAMES = frozenset({"localhost", "ip6-localhost", "ip6-loopback", "metadata", "instance-data"})
_OWN_ENDINGS = (".localhost", ".localdomain", ".local", ".internal", ".home.arpa")


def is_public(address: str) -> bool:
    """Is this IP address, as a resolver writes it, one of the public internet's? Anything unreadable is not."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    if isinstance(parsed, ipaddress.IPv6Address) and (parsed.scope_id is not None or parsed not in _GLOBAL_V6):
        return False
    return not any(parsed in network for network in _SPECIAL)


def is_forbidden_name(host: str) -> bool:
    """Does this name mean this machine, its network or a cloud's metadata, whatever it resolves to?"""
    name = _as_resolved(host).rstrip(".")
    return name in _OWN_NAMES or f".{name}".endswith(_OWN_ENDINGS)


def _as_resolved(host: str) -> str:
    """The ASCII that a resolver is asked for: full-width letters and soft hyphens are no disguise."""
    try:
        return host.encode("idna").decode().lower()
    except UnicodeError:  # no name that can be asked for, such as one with two dots at its end
        return unicodedata.normalize("NFKC", host).lower()
