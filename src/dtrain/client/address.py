"""Where a server is and how to get there: its address, the token, the proxy, the CAs to trust."""

from __future__ import annotations

import ipaddress
import os
import ssl
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from dtrain.protocol.errors import Invalid

CA_FILE = "DTRAIN_CA_FILE"
_CA_VARIABLES = (CA_FILE, "REQUESTS_CA_BUNDLE", "SSL_CERT_FILE")
_FORM = "http://host:port or https://host"


def checked_address(url: str) -> SplitResult:
    """A server's address in its parts.

    Raises:
        Invalid: it is not the address of an HTTP server.
    """
    url = url.strip()
    shown = repr(url if len(url) <= 100 else f"{url[:100]}…")
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and parts.port != 0 and parts.netloc.isprintable()
    except ValueError:
        raise Invalid(f"The server's address {shown} cannot be read; write {_FORM}.") from None
    if parts.scheme not in {"http", "https"} or not usable or " " in url:
        raise Invalid(f"The server's address {shown} is not of the form {_FORM}; correct it.")
    if parts.username is not None or parts.query or parts.fragment:
        raise Invalid(f"The server's address holds more than an address; write {_FORM}.")
    return parts


def checked_token(token: str) -> str:
    """A token that can stand in a header.

    Raises:
        Invalid: it cannot.
    """
    token = token.strip()
    if not token or not all("!" <= character <= "~" for character in token):
        raise Invalid("The token holds characters that no token has; copy it again, on one line.")
    return token


def proxy_for(parts: SplitResult) -> str | None:
    """The environment's proxy for an address; never one for this machine itself."""
    if is_loopback(parts.hostname or ""):
        return None
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 -- a client of its own

    if proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def origin(url: str) -> str:
    """What tells one server from another: scheme, host and port.

    Raises:
        Invalid: it is not the address of an HTTP server.
    """
    parts = checked_address(url)
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{parts.hostname}:{port}"


def trust(ca_file: str | None = None) -> ssl.SSLContext:
    """The CAs to trust.

    Args:
        ca_file: a file or folder with them, which alone are trusted; else what DTRAIN_CA_FILE,
            REQUESTS_CA_BUNDLE or SSL_CERT_FILE names, else the system's.

    Raises:
        Invalid: the file or folder named cannot be used.
    """
    named = {"ca_file": ca_file} | {name: os.environ.get(name) for name in _CA_VARIABLES}
    name, bundle = next(((name, path) for name, path in named.items() if path), (None, None))
    if bundle is None:
        return ssl.create_default_context()
    try:
        if Path(bundle).is_dir():
            return ssl.create_default_context(capath=bundle)
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if isinstance(error, ssl.SSLError):
            reason = "it holds no certificate in PEM"
        raise Invalid(
            f"{name} names {bundle!r}, which cannot be used ({reason}); correct or unset it."
        ) from error


def is_loopback(host: str) -> bool:
    """Whether a host is this machine, so that nothing on the way can listen."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
