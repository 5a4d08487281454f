"""Where a server is and how to get there: its address, the token, the proxy, the CAs to trust."""

from __future__ import annotations

import ipaddress
import os
import ssl
from pathlib import Path
from urllib.parse import SplitResult, urlsplit
from urllib.request import getproxies, proxy_bypass

from dtrain.protocol.errors import Invalid

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
    if _is_loopback(parts.hostname or "") or proxy_bypass(parts.netloc):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    return proxy if not proxy or "://" in proxy else f"http://{proxy}"


def trust() -> ssl.SSLContext:
    """The CAs to trust: those of REQUESTS_CA_BUNDLE, else of SSL_CERT_FILE, else the system's.

    Raises:
        Invalid: the file or folder named cannot be used.
    """
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        bundle = os.environ.get(name)
        if not bundle:
            continue
        try:
            if Path(bundle).is_dir():
                return ssl.create_default_context(capath=bundle)
            return ssl.create_default_context(cafile=bundle)
        except OSError as error:
            raise Invalid(
                f"{name} names {bundle!r}, which cannot be used ({error}); correct or unset it."
            ) from error
    return ssl.create_default_context()


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
