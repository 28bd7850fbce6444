"""Web addresses of images: which of them are fetched, and which IP addresses are public."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Literal

AddressPolicy = Literal["none", "public", "any"]
"""Which addresses are fetched: none, those on the public internet, or private ones as well."""
PRIVATE_VARIABLE = "RAVLM_PRIVATE_ADDRESSES"
"""Set to 1, it lets the library and the command line fetch private addresses. A server ignores
it."""
_MAX_NAME = 200
"""Characters of an address in a message."""
_PUBLIC_IPV6 = ipaddress.ip_network("2000::/3")
"""All of IPv6 that is allocated to the public internet (IANA, Global Unicast Address
Assignments)."""
_RESERVED = tuple(
    ipaddress.ip_network(network)
    for network in (
        # IPv4 (IANA, Special-Purpose Address Registry).
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24"),
        *("192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # the host of a virtual machine on Azure
        # IPv6 within 2000::/3: protocol assignments (Teredo), documentation, 6to4, AS112.
        *("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20"),
    )
)
"""Networks that are not reached over the public internet, or that lead to others. The list of
`ipaddress` differs between versions of Python and lacks some of them."""
_USER = re.compile(r"([A-Za-z][\w+.-]*://).*@", re.ASCII | re.DOTALL)
"""The name and password of an address. A password may have "/" and "@", even if it should not."""
_policy: ContextVar[AddressPolicy | None] = ContextVar("address_policy", default=None)


def address_policy() -> AddressPolicy:
    """Return which addresses are fetched here and now: public ones by default."""
    policy = _policy.get()
    if policy is not None:
        return policy
    return "any" if os.environ.get(PRIVATE_VARIABLE, "").strip() == "1" else "public"


@contextmanager
def allow_addresses(policy: AddressPolicy) -> Iterator[None]:
    """Set which addresses are fetched within the block, in threads of `parallel_map` as well.

    >>> with allow_addresses("none"):
    ...     address_policy()
    'none'
    """
    token = _policy.set(policy)
    try:
        yield
    finally:
        _policy.reset(token)


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to the public internet.

    IPv4 addresses written as IPv6 ones do not: they lead around every list.

    >>> is_public("93.184.216.34"), is_public("192.168.0.1"), is_public("::ffff:93.184.216.34")
    (True, False, False)
    """
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    if ip.version == 6 and ip not in _PUBLIC_IPV6:
        return False
    return not any(ip in network for network in _RESERVED if network.version == ip.version)


def show_address(address: str) -> str:
    """Return an address as messages name it: without password and query, which may be secrets.

    >>> show_address("https://name:word@a.example/cat.png?signature=abc")
    '"https://a.example/cat.png"'
    """
    start = address.partition("?")[0].partition("#")[0]
    scheme, separator, location = start.partition("://")
    authority, slash, path = location.partition("/")
    name = f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"
    return f'"{name if len(name) <= _MAX_NAME else name[:_MAX_NAME] + "..."}"'


def hide_password(address: str | os.PathLike[str]) -> str:
    """Return the address of a base or an endpoint without name and password, for messages.

    >>> hide_password("milvus://root:pass/word@host:19530/photos")
    'milvus://host:19530/photos'
    """
    return _USER.sub(r"\1", str(address), count=1)
