"""Where a request comes from and goes to, as its headers tell.

A page of another site can make its visitor's browser send requests here. Its name in the header
Host is refused, even where it now resolves to this machine; so is what it sends to change
something. What a proxy tells of its caller is believed of trusted proxies alone.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from dtrain.protocol.errors import Forbidden, Refused

from .setting import Network, host_of
from .settings import Settings

Header = Callable[[str], str | None]
"""Gives a header of the request by its name."""
_FORWARDING = (
    "Forwarded",
    "Via",
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Proto",
    "X-Real-IP",
)


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
        if settings.public_url is not None:
            own.add(host_of(settings.public_url))
        if not settings.on_loopback:
            hostname = socket.gethostname().lower()
            own |= {hostname, f"{hostname}.local", socket.getfqdn().lower()}
        return cls(frozenset(own), any_address=not settings.on_loopback)

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, str):
            return False
        if name in self.names:
            return True
        return _is_address(name) and (self.any_address or ipaddress.ip_address(name).is_loopback)


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


def check_origin(header: Header, public_url: str | None) -> None:
    """Refuse what another site's page sends; programs send neither header and pass.

    Args:
        header: of the request.
        public_url: the origin of the server's pages, beside the one that the header Host names.

    Raises:
        Forbidden: the request comes from a page that is not this server's.
    """
    origin = header("Origin")
    site = header("Sec-Fetch-Site")
    own = origin in {None, public_url} or _netloc(origin or "") == (header("Host") or "").lower()
    if not own or site not in {None, "same-origin", "none"}:
        raise Forbidden(
            "A page of another site has sent this request, so nothing was done; use this server's"
            " own pages.",
            code="foreign_origin",
        )


def is_local(header: Header, protocol: str | None) -> bool:
    """Whether the caller sits on this machine, so far as a request that came by loopback can tell.

    One that a proxy has passed on does not count: its sender may be anywhere. A proxy that says
    nothing of itself may still be told by its HTTP/1.0, which no browser and no client speaks.
    """
    forwarded = any(header(name) is not None for name in _FORWARDING) or protocol != "HTTP/1.1"
    return not forwarded and _host_name(header) in _LOOPBACK


def before_proxies(environ: Mapping[str, Any], trusted: Sequence[Network]) -> dict[str, str]:
    """What trusted proxies say of a request as it came to them, to go over its WSGI environment.

    That is the address of the caller before them, the scheme and the host. Nothing where the
    request comes from elsewhere.
    """
    if not _is_in(environ.get("REMOTE_ADDR", ""), trusted):
        return {}
    found = {}
    for address in reversed(_listed(environ, "HTTP_X_FORWARDED_FOR")):
        if not _is_address(address):
            break
        found["REMOTE_ADDR"] = address
        if not _is_in(address, trusted):
            break
    scheme = _listed(environ, "HTTP_X_FORWARDED_PROTO")[-1:]
    if scheme in (["http"], ["https"]):
        found["wsgi.url_scheme"] = scheme[0]
    host = _listed(environ, "HTTP_X_FORWARDED_HOST")[-1:]
    if host:
        found["HTTP_HOST"] = host[0]
    return found


def _listed(environ: Mapping[str, Any], name: str) -> list[str]:
    """The values of a header to which each proxy may add one of its own."""
    return [part.strip() for part in environ.get(name, "").split(",") if part.strip()]


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_in(text: str, networks: Sequence[Network]) -> bool:
    if not _is_address(text):
        return False
    address = ipaddress.ip_address(text)
    if address.version == 6:  # of a socket for both, one of the older kind looks like this
        address = address.ipv4_mapped or address
    return any(address in network for network in networks)


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
