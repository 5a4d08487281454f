"""What a refusal, a foreign answer or a broken connection means: errors, each a sentence."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http.client import BadStatusLine, LineTooLong, RemoteDisconnected, UnknownProtocol, responses
from urllib.parse import urljoin, urlsplit

import msgspec

from dtrain.protocol.errors import DTrainError, Invalid, Unavailable, Unreachable
from dtrain.protocol.problem import Problem, from_problem

_TRY_AGAIN = frozenset({408, 425, 429})
_TOO_LARGE = frozenset({413, 414, 431})
# What OpenSSL calls the reasons for which it refuses a certificate (X509_V_ERR_…).
_NOT_YET = 9
_EXPIRED = 10
_UNKNOWN_CA = frozenset({18, 19, 20, 21})
_WRONG_NAME = frozenset({62, 64})


def is_problem(headers: Mapping[str, str]) -> bool:
    """Whether an answer is a problem document."""
    return headers.get("Content-Type", "").startswith("application/problem+json")


def refusal(url: str, status: int, headers: Mapping[str, str], body: bytes) -> DTrainError:
    """The error that an answer with another status than 2xx stands for."""
    retry_after = _retry_after(headers.get("Retry-After"))
    if is_problem(headers):
        try:
            problem = msgspec.json.decode(body, type=Problem)
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
        else:
            return from_problem(msgspec.structs.replace(problem, status=status), retry_after)
    return _foreign(url, status, headers.get("Location"), retry_after)


def not_dtrain(url: str, said: str) -> Unreachable:
    """The error for an answer that no DTrain server of this age gives."""
    return Unreachable(
        f"{url} answered with {said}, not as a DTrain server does; check the address, and that"
        " server and client are of the same version.",
        code="not_dtrain",
    )


def broken(url: str, error: BaseException) -> Unreachable:
    """The error for a connection that ended before the answer did, or brought no HTTP."""
    root = _root(error)
    garbage = isinstance(root, (BadStatusLine, LineTooLong, UnknownProtocol))
    if garbage and not isinstance(root, RemoteDisconnected):
        if url.startswith("http:"):
            return not_dtrain(url, "bytes that are not HTTP, perhaps those of HTTPS")
        return not_dtrain(url, "bytes that are not HTTP")
    return Unreachable(f"The connection to {url} broke off ({cause(error)}); try again.")


def no_trust(url: str, error: BaseException) -> Unreachable:
    """The error for a TLS connection that did not come about."""
    root = _root(error)
    if isinstance(root, ssl.SSLCertVerificationError):
        return _untrusted(url, root)
    return Unreachable(
        f"{url} does not speak TLS as expected ({cause(error)}); check the port, and whether the"
        " address begins with http:// instead."
    )


def _untrusted(url: str, error: ssl.SSLCertVerificationError) -> Unreachable:
    """The error for a certificate that was refused."""
    host = urlsplit(url).hostname
    sentences = {
        _EXPIRED: f"The certificate of {url} has expired; have it renewed there, or correct this"
        " machine's clock.",
        _NOT_YET: f"The certificate of {url} is not valid yet; correct this machine's clock, or the"
        " certificate.",
        **dict.fromkeys(
            _WRONG_NAME,
            f"The certificate at {url} is not for {host}; use an address that it names, or have"
            f" {host} added to it.",
        ),
        **dict.fromkeys(
            _UNKNOWN_CA,
            f"The certificate of {url} is signed by a CA that this machine does not know; if it is"
            " your own, name its file in DTRAIN_CA_FILE (ca_file in a worker's config.json).",
        ),
    }
    known = sentences.get(error.verify_code)
    return Unreachable(
        known
        or f"The certificate of {url} is not trusted ({error.verify_message}); have it"
        " corrected there.",
        code="untrusted",
    )


def cause(error: BaseException) -> str:
    """The innermost reason of an error, in a few words."""
    root = _root(error)
    if isinstance(root, ssl.SSLError):
        return (root.reason or "TLS error").replace("_", " ").lower()
    if isinstance(root, OSError) and root.strerror:
        return root.strerror.lower()
    return str(root) or "closed by the other side"


def _foreign(url: str, status: int, location: str | None, retry_after: float | None) -> DTrainError:
    """The error for an answer that is none of a DTrain server, a proxy's perhaps.

    Only a DTrain server can say that a job or an attempt is gone, so a foreign 404, 409 or 410
    counts as no answer at all.
    """
    said = f"{status} {responses.get(status, '')}".strip()
    if 300 <= status < 400 and location:
        target = urljoin(url, location)[:200]
        return Unreachable(
            f"{url} sends to another address, {target}; use the server's own.", code="not_dtrain"
        )
    if status in _TOO_LARGE:
        return Invalid(
            f"Something before the server at {url} refused the request as too large ({said});"
            " raise the limit of the proxy there.",
            status=status,
        )
    if status in _TRY_AGAIN or status >= 500:
        return Unavailable(
            f"{url} answered {said} and did not say why; try again later, or look at the server's"
            " log and at any proxy before it.",
            status=status,
            retry_after=retry_after,
        )
    return not_dtrain(url, said)


def _retry_after(text: str | None) -> float | None:
    """Seconds, from either form of the header Retry-After."""
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=UTC)
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def _root(error: BaseException) -> BaseException:
    """The innermost of errors that were wrapped in one another, as argument or as cause."""
    inner = error.args[-1] if error.args else None
    if not isinstance(inner, BaseException):
        inner = error.__cause__
    return error if inner is None or inner is error else _root(inner)
