"""What the server prints for those who come to it: its address, how to join and to log in."""

from __future__ import annotations

import shlex
import socket
from dataclasses import dataclass
from pathlib import Path

from dtrain.protocol.errors import Invalid

from . import certificate
from .settings import ACCESS_TOKEN, WORKER_TOKEN, Settings

SOON = 14
"""Days before its end on which a certificate's renewal is asked for."""
_ALL = frozenset({"0.0.0.0", "::"})  # noqa: S104 - looked for, not bound to
_SOMEWHERE = ("192.0.2.1", 9)
"""An address that no machine has; nothing is sent there."""


@dataclass(frozen=True)
class Reach:
    """How others come to a server."""

    address: str
    """Its URL."""
    needs_ca: bool | None
    """Whether they must name the CA of its certificate; None if only they can tell."""
    notes: tuple[str, ...] = ()
    """What is wrong with that, as sentences."""


def reach(settings: Settings) -> Reach:
    """How others come to the server with these settings."""
    pair = _pair(settings)
    if pair is None:
        address = settings.public_url or f"http://{_plain_host(settings)}:{settings.port}"
        return Reach(address, None if address.startswith("https:") else False)
    hosts = _hosts(settings)
    try:
        certificate.check(*pair)
    except Invalid as error:
        address = settings.public_url or f"https://{hosts[0]}:{settings.port}"
        return Reach(address, None, (error.detail,))
    named = [host for host in hosts if certificate.names(*pair, host.strip("[]"))]
    host = (named or hosts)[0]
    address = settings.public_url or f"https://{host}:{settings.port}"
    notes = []
    if not named and settings.public_url is None:
        notes.append(
            f"The certificate does not name {host}; set DTRAIN_PUBLIC_URL to an address that it"
            " names."
        )
    left = certificate.days_left(*pair)
    if left < SOON:
        notes.append(f"The certificate expires in {left:.0f} days; renew it, then start again.")
    return Reach(address, not certificate.is_public(*pair), tuple(notes))


def worker_lines(found: Reach, token: str) -> list[str]:
    """What to do on a machine that is to become a worker."""
    variables = {"DTRAIN_SERVER_URL": found.address, "DTRAIN_WORKER_TOKEN": token}
    lines = ["To add a worker, paste this on its machine, in the project's folder worker:"]
    if found.needs_ca:
        variables["DTRAIN_CA_FILE"] = "ca.pem"
        lines.insert(0, "Workers and clients need the file of the CA that signed the certificate.")
        lines[1] = "To add a worker, copy it to ca.pem in the project's folder worker there; then:"
    words = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    lines.append(f"    {' '.join([*words, 'python agent.py'])}")
    lines.append("Where DTrain is installed as a package, end the line with: dtrain worker")
    if found.needs_ca is None:
        lines.append(
            "If the certificate there is of a CA of your own, add DTRAIN_CA_FILE=ca.pem, with that"
            " CA's file."
        )
    return lines


def login_lines(found: Reach, token: str) -> list[str]:
    """What to do to come in as a person."""
    option = " --ca-file ca.pem" if found.needs_ca else ""
    return [
        f"To come in, log in at {found.address} or with: dtrain login{option} {found.address}",
        f"Access token, for the login page and for clients: {token}",
    ]


def announcement(settings: Settings) -> str:
    """What a server says when it has begun to serve."""
    found = reach(settings)
    tokens = settings.tokens()
    lines = [
        f"DTrain serves at {found.address} (Ctrl-C ends it).",
        *(
            []
            if settings.public_url is None
            else [f"It listens on {_bracketed(settings.host)}:{settings.port}."]
        ),
        f"Data folder: {settings.data}",
        *found.notes,
        *worker_lines(found, tokens.newest(WORKER_TOKEN)),
    ]
    if settings.open:
        lines.append("Only this machine can reach it; DTRAIN_HOST=0.0.0.0 opens it to others.")
    else:
        lines += login_lines(found, tokens.newest(ACCESS_TOKEN))
    return "\n".join(lines) + "\n"


def _pair(settings: Settings) -> tuple[Path, Path] | None:
    if settings.tls_certificate is None or settings.tls_key is None:
        return None
    return settings.tls_certificate, settings.tls_key


def _hosts(settings: Settings) -> list[str]:
    """What the server may be called, those first that are likely to stand in a certificate."""
    if settings.host in _ALL:
        names = [socket.getfqdn(), socket.gethostname(), _own_address()]
        return [name for name in dict.fromkeys(names) if name is not None]
    address = _bracketed(settings.host)
    return ["localhost", address] if settings.on_loopback else [address]


def _plain_host(settings: Settings) -> str:
    """What the server is called where no certificate asks for a name: one that needs no lookup."""
    hosts = _hosts(settings)
    return hosts[0] if settings.host == "127.0.0.1" else hosts[-1]


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _own_address() -> str | None:
    """The address of this machine on the network by which it reaches others."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_SOMEWHERE)
        except OSError:
            return None
        return str(probe.getsockname()[0])
