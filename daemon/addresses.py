"""Which addresses the daemon may ask on its own: those an operator named, spelt in the one plain way.

A spelling that libraries read differently (a number for an IP address, a name before an @) is refused, and so is where
clouds hand out credentials.
"""

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import urlsplit

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
URL_CHARS = 2_048
_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9]([A-Za-z0-9_-]{0,62}))*\Z")
_NUMBER = re.compile(r"(0[xX][0-9a-fA-F]*|[0-9]+)\Z")


def flaw(url: str, *, secret: bool) -> str | None:
    """What keeps `url` from being asked, as "must be ..." goes on; None if nothing does.

    With `secret` it must be https, but for this very machine: what comes back decides who is trusted.
    """
    if len(url) > URL_CHARS or not url.isascii() or not url.isprintable() or "\\" in url or " " in url:
        return "a URL of printable ASCII"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return "a URL with a host, and a port from 1 to 65535"
    if parts.scheme not in {"http", "https"} or not host or port == 0:
        return "an http or https URL with a host"
    if "@" in parts.netloc or parts.fragment or "#" in url:
        return "a URL without a user, a password or a fragment"
    if ".." in parts.path.split("/") or "%" in parts.netloc:
        return "a URL without .. and without escapes in its host"
    return _flaw_of_host(host, plain=parts.scheme == "http" and secret)


def named(host: str) -> Address | None:
    """The IP address that `host` spells; None for a name."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def forbidden(address: Address, *, local: bool) -> bool:
    """Whether nothing is asked there; `local` says whether the host named this very machine."""
    inner = getattr(address, "ipv4_mapped", None) or getattr(address, "sixtofour", None) or address
    if inner.is_loopback:
        return not local
    return inner.is_link_local or inner.is_multicast or inner.is_unspecified or inner.is_reserved


def is_local(host: str) -> bool:
    """Whether `host` names this very machine."""
    address = named(host)
    return host.lower() == "localhost" if address is None else address.is_loopback


def choose(found: Iterable[str], *, local: bool) -> str | None:
    """The first of these addresses; None when there is none, or when any of them is forbidden."""
    addresses = [named(each.partition("%")[0]) for each in found]
    if not addresses or any(each is None or forbidden(each, local=local) for each in addresses):
        return None
    return str(addresses[0])


def _flaw_of_host(host: str, *, plain: bool) -> str | None:
    address, local = named(host), is_local(host)
    if address is None and (_NAME.match(host) is None or _NUMBER.match(host.rpartition(".")[2])):
        return "a URL with the name of a host or a plain IP address"
    if address is not None and (forbidden(address, local=local) or getattr(address, "ipv4_mapped", None)):
        return "a URL of a host that others may reach"
    if plain and not local:
        return "an https URL"
    return None
