"""Where a request comes from."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from aiohttp import web

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
SITE = 64
"""Bits of an IPv6 address that its owner can't choose."""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Read addresses and networks as the settings name them."""
    return tuple(ip_network(text, strict=False) for text in texts)


def of(request: web.Request, proxies: Iterable[Network]) -> str:
    """Find the address of a client, past the proxies of this instance.

    What ``X-Forwarded-For`` says is believed as far as ``proxies`` have said it; anybody can write the rest.
    """
    proxies = tuple(proxies)
    hops = [hop for header in request.headers.getall("X-Forwarded-For", []) for hop in header.split(",")]
    found = request.remote or ""
    while hops and is_among(found, proxies):
        nearer = _parse(hops.pop())
        if nearer is None:
            break
        found = str(nearer)
    return found


def is_among(address: str, networks: Iterable[Network]) -> bool:
    """Tell whether an address belongs to one of several networks."""
    parsed = _parse(address)
    return parsed is not None and any(parsed in network for network in networks)


def site(address: str) -> str:
    """Name the place that an address belongs to, of which there may be very many in IPv6."""
    parsed = _parse(address)
    return str(IPv6Network((parsed, SITE), strict=False)) if isinstance(parsed, IPv6Address) else address


def _parse(text: str) -> Address | None:
    try:
        address = ip_address(text.strip().strip("[]"))
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
