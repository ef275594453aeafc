"""Where a webhook may call: the URL taken apart once, its name looked up once, every address judged.

What is checked is what is connected to: nothing here or later reads the URL or asks the name server again, so neither
another parser's opinion nor a name that changes its address between the check and the connection (DNS rebinding) helps.
"""

from __future__ import annotations

import ipaddress
import queue
import re
import socket
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import httpx2

Address = IPv4Address | IPv6Address
Lookup = Callable[[str, int], Sequence[str]]  # a name and a port to the addresses that the name server gives

LONGEST_URL = 2048
LOOKUP_S = 5.0

# IANA's special-purpose registries, and what else must never be called from inside: an address in one of these is not
# public, whatever the standard library's version of the registry says.
_SPECIAL_V4 = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # a cloud's own services, on a public address
    )
)
_GLOBAL_V6 = ipaddress.IPv6Network("2000::/3")  # all that is given out for the public internet
_SPECIAL_V6 = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        *("2001::/23", "2001:db8::/32", "2620:4f:8000::/48", "3fff::/20"),
        "2002::/16",  # 6to4: an IPv4 address of any kind inside
    )
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")  # an IPv4 address in its last 32 bits; no other prefix is known here


class Refused(ValueError):
    """An address that may not be called; the message says why, without what a name server inside has said."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A URL taken apart. `host` is in ASCII, `target` is path and query as they are sent."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        return name if self.port == _port_of(self.scheme) else f"{name}:{self.port}"


def _port_of(scheme: str) -> int:
    return 443 if scheme == "https" else 80


def parse(url: str, *, allow_private: bool = False) -> Endpoint:
    """Take a URL apart. Raises Refused; `allow_private` admits http and the addresses of this network.

    A host that is an address is judged here; a name is judged when it is looked up.
    """
    if len(url) > LONGEST_URL or re.search(r"[\s\x00-\x20\x7f-\x9f\\#]", url):
        raise Refused(f"Expected a URL of at most {LONGEST_URL} characters without spaces, backslashes or a fragment.")
    try:
        parts = httpx2.URL(url)
        host = parts.raw_host.decode("ascii").lower()
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise Refused("Expected a URL like https://example.org/hook: this one cannot be read.") from error
    if parts.scheme != "https" and not (allow_private and parts.scheme == "http"):
        raise Refused(f"Expected a URL that begins with https://; got {parts.scheme[:20] or 'none'}.")
    if parts.userinfo or re.match(r"[^/]*//[^/?]*@", url):
        raise Refused("Expected no name or password in the URL: the signature tells the receiver who calls.")
    port = parts.port if parts.port is not None else _port_of(parts.scheme)
    if port not in (_port_of(parts.scheme), *range(1024, 65536)):
        raise Refused(f"Expected port {_port_of(parts.scheme)}, or one from 1024 to 65535; got {port}.")
    endpoint = Endpoint(parts.scheme, _host(host), port, parts.raw_path.decode("ascii"))
    address = _address(endpoint.host)
    if address is not None:
        _judge([address], allow_private)
    return endpoint


def _host(host: str) -> str:
    """The host, where it is an address in its usual spelling or a name."""
    if _address(host) is not None and "%" not in host:  # fe80::1%eth0 names an interface of this machine
        return host
    labels = host.removesuffix(".").split(".")
    if not all(re.fullmatch(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?", label) for label in labels) or len(host) > 253:
        raise Refused("Expected a host name, or an address in its usual spelling.")
    # 2130706433, 0x7f.1, 0177.0.0.1: what is no address to one reader is one to the next.
    if re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1]):
        raise Refused("Expected a host name, or an address as four decimal numbers without leading zeros.")
    return host


def _address(host: str) -> Address | None:
    with suppress(ValueError):
        return ipaddress.ip_address(host)
    return None


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, and to nothing nearer."""
    if isinstance(address, IPv4Address):
        return address.is_global and not any(address in network for network in _SPECIAL_V4)
    if address in _NAT64:
        return is_public(IPv4Address(int(address) & 0xFFFF_FFFF))
    # Outside of 2000::/3 are loopback, link-local, unique local, multicast, ::a.b.c.d and ::ffff:a.b.c.d.
    return address in _GLOBAL_V6 and address.is_global and not any(address in network for network in _SPECIAL_V6)


def _judge(addresses: Sequence[Address], allow_private: bool) -> None:
    """Raises Refused if one of them may not be called: a name with a public and a private address is a trap."""
    for address in addresses:
        if address.is_multicast or address.is_unspecified or not (allow_private or is_public(address)):
            raise Refused(
                "The host is not on the public internet. Webhooks to this machine or its network must be allowed by "
                "whoever runs this server: PIXMILL_ALLOW_PRIVATE_WEBHOOKS=true."
            )


def look_up(host: str, port: int) -> Sequence[str]:
    """The addresses of a name by the system's resolver. Raises OSError."""
    found: list[Any] = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


def resolve(
    endpoint: Endpoint, *, allow_private: bool = False, lookup: Lookup = look_up, timeout_s: float = LOOKUP_S
) -> list[str]:
    """The addresses to connect to, all of them judged. Raises Refused; OSError where the name is not found in time."""
    literal = _address(endpoint.host)
    texts = [endpoint.host] if literal is not None else _in_time(lookup, endpoint, timeout_s)
    addresses = [ipaddress.ip_address(text) for text in dict.fromkeys(texts)]
    if not addresses:
        raise OSError("the name has no address")
    _judge(addresses, allow_private)
    return [str(address) for address in addresses]


def _in_time(lookup: Lookup, endpoint: Endpoint, timeout_s: float) -> Sequence[str]:
    """Look a name up; a resolver cannot be interrupted, so one that is slow is left behind in its own thread."""
    answer: queue.SimpleQueue[Sequence[str] | OSError] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answer.put(lookup(endpoint.host, endpoint.port))
        except OSError as error:
            answer.put(error)
        except UnicodeError as error:  # getaddrinfo's way of saying that a name is too long
            answer.put(OSError(str(error)))

    threading.Thread(target=ask, name="webhook-lookup", daemon=True).start()
    try:
        found = answer.get(timeout=timeout_s)
    except queue.Empty:
        raise OSError(f"the name server did not answer within {timeout_s:.0f} s") from None
    if isinstance(found, OSError):
        raise found
    return found
