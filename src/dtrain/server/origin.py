"""Where a request comes from and goes to, as its headers tell.

A page of another site can make its visitor's browser send requests here. Its name in the header
Host is refused, even where it now resolves to this machine; so is what it sends to change
something.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from dtrain.protocol.errors import Forbidden, Refused

from .settings import Settings

Header = Callable[[str], str | None]
"""Gives a header of the request by its name."""
_FORWARDING = ("Forwarded", "Via", "X-Forwarded-For", "X-Forwarded-Host", "X-Real-IP")


@dataclass(frozen=True)
class Names:
    """The names by which callers may know the server."""

    names: frozenset[str]
    any_address: bool
    """Whether IP addresses beyond loopback are accepted; no site can make its name one."""

    @classmethod
    def of(cls, settings: Settings) -> Names:
        """The names for a server with these settings."""
        own = {"localhost", *settings.allowed_hosts}
        if not settings.on_loopback:
            hostname = socket.gethostname().lower()
            own |= {hostname, f"{hostname}.local", socket.getfqdn().lower()}
        return cls(frozenset(own), any_address=not settings.on_loopback)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        if name in self.names:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return self.any_address or address.is_loopback


_LOOPBACK = Names(frozenset({"localhost"}), any_address=False)


def check_host(header: Header, names: Names) -> None:
    """Refuse a request that is meant for another server.

    Raises:
        Refused: the header Host is missing or names something else.
    """
    if _host_name(header) not in names:
        raise Refused(
            "This server does not go by the name in the header Host; if it should, add the name"
            " to DTRAIN_ALLOWED_HOSTS.",
            code="wrong_host",
        )


def check_origin(header: Header) -> None:
    """Refuse what another site's page sends; programs send neither header and pass.

    Raises:
        Forbidden: the request comes from a page that is not this server's.
    """
    origin = header("Origin")
    site = header("Sec-Fetch-Site")
    foreign = origin is not None and _netloc(origin) != (header("Host") or "").lower()
    if foreign or site not in {None, "same-origin", "none"}:
        raise Forbidden(
            "A page of another site has sent this request, so nothing was done; use this server's"
            " own pages.",
            code="foreign_origin",
        )


def is_local(header: Header) -> bool:
    """Whether the caller sits on this machine, so far as a request that came by loopback can tell.

    One that a proxy has passed on does not count: its sender may be anywhere.
    """
    forwarded = any(header(name) is not None for name in _FORWARDING)
    return not forwarded and _host_name(header) in _LOOPBACK


def _host_name(header: Header) -> str | None:
    """The header Host without its port, in small letters."""
    try:
        parts = urlsplit(f"//{header('Host') or ''}")
        _ = parts.port  # ValueError if it is none
    except ValueError:
        return None
    if parts.path or parts.query or parts.fragment or "@" in parts.netloc:
        return None
    return parts.hostname


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin).netloc.lower() or None
    except ValueError:
        return None
