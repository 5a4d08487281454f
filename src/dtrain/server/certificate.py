"""The server's own certificate: whether it can be served, whom it names, and who trusts it.

All of it is found out by handshakes in memory, as a client would, before anyone connects.
"""

from __future__ import annotations

import ssl
import stat
import time
from collections.abc import Callable
from pathlib import Path

from dtrain.protocol.errors import Invalid

_EXPIRED = 10
_NOT_YET = 9
_WRONG_NAMES = frozenset({62, 64})
_DAY = 86400.0


def check(certificate: Path, key: Path) -> None:
    """See that TLS can be served with a certificate and its key.

    Raises:
        Invalid: one cannot be read, others can read the key, they do not belong together, or the
            certificate holds at another time than now.
    """
    for name, path in (("DTRAIN_TLS_CERTIFICATE", certificate), ("DTRAIN_TLS_KEY", key)):
        try:
            path.read_bytes()
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise Invalid(
                f"{name} names {path}, which cannot be read ({reason}); correct it.", field=name
            ) from None
    if stat.S_IMODE(key.stat().st_mode) & stat.S_IROTH:
        raise Invalid(
            f"Everybody on this machine can read the key {key}; make it private with:"
            f" chmod o= {key}",
            field="DTRAIN_TLS_KEY",
        )
    problem = _problem(certificate, key, _trusting(certificate), None)
    if problem is None:
        return
    if problem.verify_code in {_EXPIRED, _NOT_YET}:
        when = "has expired" if problem.verify_code == _EXPIRED else "is not valid yet"
        advice = "renew it" if problem.verify_code == _EXPIRED else "check this machine's clock"
        raise Invalid(
            f"The certificate {certificate} {when}; {advice}, then start the server again.",
            field="DTRAIN_TLS_CERTIFICATE",
        )
    raise Invalid(
        f"The certificate {certificate} cannot be used ({problem.verify_message}); have another one"
        " made for this server.",
        field="DTRAIN_TLS_CERTIFICATE",
    )


def days_left(certificate: Path, key: Path) -> float:
    """For how long the certificate, which `check` has passed, still holds, in days."""
    found: list[float] = []

    def read(client: ssl.SSLObject) -> None:
        shown = client.getpeercert() or {}
        found.append(ssl.cert_time_to_seconds(str(shown["notAfter"])))

    _problem(certificate, key, _trusting(certificate), None, read)
    return (found[0] - time.time()) / _DAY


def names(certificate: Path, key: Path, host: str) -> bool:
    """Whether the certificate, which `check` has passed, is for a host's name or IP address."""
    return _problem(certificate, key, _trusting(certificate), host) is None


def is_public(certificate: Path, key: Path) -> bool:
    """Whether this machine's own list of CAs is enough to trust the certificate."""
    context = ssl.create_default_context()
    context.check_hostname = False
    return _problem(certificate, key, context, None) is None


def _trusting(certificate: Path) -> ssl.SSLContext:
    """A client that trusts the certificate itself, whoever has signed it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(certificate)
    except ssl.SSLError:
        raise _no_pair(certificate, None) from None
    return context


def _problem(
    certificate: Path,
    key: Path,
    context: ssl.SSLContext,
    host: str | None,
    read: Callable[[ssl.SSLObject], None] = lambda _: None,
) -> ssl.SSLCertVerificationError | None:
    """What a client has against the certificate; `read` is called with one that has nothing."""
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        serving.load_cert_chain(certificate, key, password=_ask_nobody)
    except (ssl.SSLError, ValueError):
        raise _no_pair(certificate, key) from None
    context.check_hostname = host is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=host)
    server = serving.wrap_bio(to_server, to_client, server_side=True)
    for side in (client, server, client):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return error
    read(client)
    return None


def _ask_nobody() -> str:
    """Without this, OpenSSL asks for the password of an encrypted key on the terminal."""
    raise ValueError


def _no_pair(certificate: Path, key: Path | None) -> Invalid:
    if key is None:
        return Invalid(
            f"{certificate} holds no certificate in PEM; name the file that begins with"
            " -----BEGIN CERTIFICATE-----.",
            field="DTRAIN_TLS_CERTIFICATE",
        )
    return Invalid(
        f"The key {key} is not that of the certificate {certificate}, or needs a password; name the"
        " key in PEM, without a password, with which the certificate was made.",
        field="DTRAIN_TLS_KEY",
    )
