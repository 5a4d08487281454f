"""One setting: its name, what it is when nobody set it, and what it may be."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dtrain.protocol.errors import Invalid

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_FLAGS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("0", "false", "no", "off"), False),
}


@dataclass(frozen=True)
class Kind:
    """What a setting may be."""

    words: str
    """Completes the sentence "it may be …"."""
    convert: Callable[[object], Any]
    """The value of what was set, which the environment always gives as text; ValueError if bad."""


@dataclass(frozen=True)
class Setting:
    """One setting."""

    name: str
    """In `config.py` and in the environment."""
    default: Any
    """None where there is none, or where a secret is made instead."""
    kind: Kind

    @property
    def attribute(self) -> str:
        """Its name in `Settings`."""
        return self.name.removeprefix("DTRAIN_").lower()

    def read(self, value: object, where: str) -> Any:
        """The value of what was set somewhere.

        Raises:
            Invalid: it is not what the setting may be.
        """
        try:
            return self.kind.convert(value)
        except ValueError:
            pass
        raise Invalid(
            f"{self.name} in {where} is not acceptable: it may be {self.kind.words}.",
            field=self.name,
        )


def text(words: str) -> Kind:
    """Any printable text."""

    def convert(value: object) -> str:
        if not isinstance(value, str) or not value.isprintable() or len(value) > 2000:
            raise ValueError
        return value

    return Kind(words, convert)


def word(least: int) -> Kind:
    """A text that can stand in a header of HTTP, at least so many characters long."""

    def convert(value: object) -> str:
        if not isinstance(value, str) or not value.isascii() or not value.isprintable():
            raise ValueError
        if " " in value or not least <= len(value) <= 1000:
            raise ValueError
        return value

    length = f" of at least {least} characters" if least > 1 else ""
    return Kind(f"a text{length} in ASCII without spaces", convert)


def number(least: int, most: int) -> Kind:
    """A whole number."""

    def convert(value: object) -> int:
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise ValueError
        return value

    return Kind(f"a whole number from {least} to {most}", convert)


def _to_path(value: object) -> Path:
    if not isinstance(value, (str, Path)) or not str(value).isprintable():
        raise ValueError
    return Path(value).expanduser()


def _to_names(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        raise ValueError
    found = tuple(part.strip().lower() for part in parts if part.strip())
    if any(not name.isascii() or set(name) - _IN_HOST - set("[]") for name in found):
        raise ValueError
    return found


def _to_address(value: object) -> str:
    """The address of a server in its shortest form, without the port that goes without saying."""
    if not isinstance(value, str) or not value.isascii() or not value.isprintable():
        raise ValueError
    parts = urlsplit(value.strip())
    usual = {"http": 80, "https": 443}
    if parts.scheme not in usual or not parts.hostname or set(parts.hostname) - _IN_HOST:
        raise ValueError
    if parts.username is not None or parts.path not in {"", "/"} or parts.query or parts.fragment:
        raise ValueError
    port = "" if parts.port in {None, usual[parts.scheme]} else f":{parts.port}"
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}{port}"


def _to_networks(value: object) -> tuple[Network, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, (list, tuple)) or not all(isinstance(part, str) for part in parts):
        raise ValueError
    return tuple(ipaddress.ip_network(part.strip()) for part in parts if part.strip())


def host_of(address: str) -> str:
    """The name or IP address in a server's address."""
    return urlsplit(address).hostname or ""


def is_loopback(host: str) -> bool:
    """Whether a name or IP address stands for this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def _to_flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in _FLAGS:
        return _FLAGS[value.lower()]
    raise ValueError


_IN_HOST = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-._:")
folder = Kind("the path of a folder", _to_path)
file = Kind("the path of a file", _to_path)
address = Kind("an address such as https://dtrain.example, without a path", _to_address)
networks = Kind(
    "addresses or networks such as 10.0.0.0/24, as a list or separated by commas", _to_networks
)
names = Kind("host names, as a list or separated by commas", _to_names)
flag = Kind("true or false", _to_flag)
