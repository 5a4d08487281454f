"""HTTP to a DTrain server: one pool of connections, plain answers, errors as sentences.

The only file that names the HTTP library. Nothing is repeated and no redirect is followed here:
whoever calls knows what may be repeated. Every call raises one of

    Refused, Unavailable    what the server said, from its problem document
    Unreachable             nothing that answers is a DTrain server (code `not_dtrain`), or
                            nothing answers at all (code `unreachable`)
"""

from __future__ import annotations

import io
import os
import ssl
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, TypeVar
from urllib.parse import SplitResult, urlencode

import msgspec
import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import (
    ConnectTimeoutError,
    HTTPError,
    LocationParseError,
    NameResolutionError,
    NewConnectionError,
    ProxyError,
    ProxySchemeUnknown,
    ReadTimeoutError,
    SSLError,
)

from dtrain import __version__
from dtrain.protocol.errors import Invalid, Unreachable
from dtrain.protocol.messages import encode

from . import faults
from .address import checked_address, checked_token, proxy_for, trust
from .multipart import Multipart

Body = bytes | BinaryIO | Iterable[bytes]
Query = Mapping[str, object]
Progress = Callable[[int, int | None], None]
"""Called with the bytes done and the bytes in all, None where that is unknown."""
T = TypeVar("T")

PIECE = 64 * 1024
"""Bytes read or written at once."""
LARGEST_ANSWER = 64 * 1024**2
"""Bytes of an answer that is held in memory."""
LARGEST_PROBLEM = 64 * 1024
SLOWEST_ANSWER = 300.0
"""Seconds within which such an answer must have arrived, once it has begun."""
SEND_TIMEOUT = 30.0
"""Seconds for which a server may leave the bytes of a request unread."""
_CONNECTIONS = 8


class Response(msgspec.Struct, frozen=True):
    """A whole answer, status 2xx."""

    status: int
    headers: Mapping[str, str]
    """Names in any case."""
    body: bytes
    url: str

    def decode(self, kind: type[T]) -> T:
        """The body as a message.

        Raises:
            Unreachable: it is none; this is not a DTrain server, or one of another age.
        """
        try:
            return msgspec.json.decode(self.body, type=kind)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise faults.not_dtrain(self.url, f"an answer that cannot be read ({error})") from error


class Stream:
    """An answer that is read while it arrives."""

    def __init__(
        self, response: urllib3.BaseHTTPResponse, error_of: Callable[[HTTPError], Unreachable]
    ) -> None:
        self.headers: Mapping[str, str] = response.headers
        self._response = response
        self._error_of = error_of

    def __iter__(self) -> Iterator[bytes]:
        """The bytes, in the pieces in which they arrive, until the server ends the answer.

        Raises:
            Unreachable: the answer broke off, or the server fell silent.
        """
        try:
            while piece := self._response.read1(PIECE):
                yield piece
        except HTTPError as error:
            raise self._error_of(error) from error


class Transport:
    """The way to one server. Threads may share it.

    Args:
        base_url: where the server is, such as `http://localhost:5000`; a path in front is kept.
        token: the bearer token, where the server wants one.
        ca_file: the CAs to trust; see `address.trust`.
        headers: sent with every request.
        connect_timeout: seconds for a connection to come about.
        read_timeout: seconds for which the server may be silent.

    Raises:
        Invalid: the address, the token or a setting of the proxy or of the CA cannot be used.
    """

    def __init__(
        self,
        base_url: str,
        token: str | None = None,
        *,
        ca_file: str | None = None,
        headers: Mapping[str, str] | None = None,
        connect_timeout: float = 5.0,
        read_timeout: float = 30.0,
    ) -> None:
        parts = checked_address(base_url)
        self.base_url = parts.geturl().rstrip("/")
        self.connect_timeout = connect_timeout
        self.read_timeout = read_timeout
        self._headers = {"User-Agent": f"dtrain/{__version__}", **(headers or {})}
        if token:
            self._headers["Authorization"] = f"Bearer {checked_token(token)}"
        self._pool = _pool(parts, ca_file)

    def request(
        self,
        method: str,
        path: str,
        *,
        query: Query | None = None,
        message: msgspec.Struct | None = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """Ask, and wait for the whole answer.

        Args:
            method: GET, POST, …
            path: from `dtrain.protocol.routes`, its parts quoted.
            query: names and values; a value of None is left out, a sequence is repeated.
            message: sent as JSON.
            body: sent as it is, instead of a message; a file from where it stands to its end.
            headers: more headers.
            timeout: seconds of silence to bear, instead of `read_timeout`.
        """
        sent = dict(headers or {})
        if message is not None:
            body = encode(message)
            sent.setdefault("Content-Type", "application/json")
        with self._answer(
            method, path, query=query, headers=sent, timeout=timeout, body=body
        ) as response:
            content = self._whole(response, LARGEST_ANSWER)
            return Response(response.status, response.headers, content, self.base_url)

    def upload(
        self,
        path: str,
        form: Multipart,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """POST a form with a file in it, of any size, in little memory."""
        sent = {
            **(headers or {}),
            "Content-Type": form.content_type,
            "Content-Length": str(form.length),
        }
        return self.request("POST", path, body=form, headers=sent, timeout=timeout)

    def download(
        self,
        path: str,
        into: BinaryIO,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Write the bytes at a path into a file; how many there were.

        Raises:
            Unreachable: also when the answer broke off; the bytes that came are in the file.
        """
        done = 0
        with self.stream(path, query=query, headers=headers) as stream:
            length = stream.headers.get("Content-Length", "")
            total = int(length) if length.isascii() and length.isdigit() else None
            for piece in stream:
                into.write(piece)
                done += len(piece)
                if progress:
                    progress(done, total)
        return done

    @contextmanager
    def stream(
        self,
        path: str,
        *,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Iterator[Stream]:
        """Read an answer while it arrives, as `with transport.stream(path) as pieces:`.

        A silence of `timeout` seconds (else `read_timeout`) ends it with Unreachable.
        """
        sent = headers or {}
        with self._answer("GET", path, query=query, headers=sent, timeout=timeout) as response:
            yield Stream(response, lambda error: self._no_answer(error, timeout))

    def close(self) -> None:
        """Close the connections that lie idle."""
        self._pool.clear()

    @contextmanager
    def _answer(
        self,
        method: str,
        path: str,
        *,
        query: Query | None,
        headers: Mapping[str, str],
        timeout: float | None,
        body: Body | None = None,
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """The answer, status 2xx; the library's errors come out as ours, also those of reading."""
        silence = self.read_timeout if timeout is None else timeout
        sent = {**self._headers, **headers}
        length = _length(body)
        if length is not None:
            sent.setdefault("Content-Length", str(length))
        try:
            response = self._pool.urlopen(
                method,
                self.base_url + path + _query_text(query),
                body=body,
                headers=sent,
                timeout=urllib3.Timeout(connect=self.connect_timeout, read=silence),
                retries=False,
                redirect=False,
                preload_content=False,
                decode_content=False,
            )
            try:
                if not 200 <= response.status < 300:
                    headers = response.headers
                    told = faults.is_problem(headers)
                    said = self._whole(response, LARGEST_PROBLEM) if told else b""
                    raise faults.refusal(self.base_url, response.status, headers, said)
                yield response
            finally:
                response.close()
        except HTTPError as error:
            raise self._no_answer(error, timeout) from error

    def _whole(self, response: urllib3.BaseHTTPResponse, limit: int) -> bytes:
        deadline = time.monotonic() + SLOWEST_ANSWER
        pieces = []
        size = 0
        while piece := response.read1(PIECE):
            pieces.append(piece)
            size += len(piece)
            if size > limit:
                raise faults.not_dtrain(self.base_url, f"more than {limit:,} bytes")
            if time.monotonic() > deadline:
                raise Unreachable(f"{self.base_url} answers too slowly; try again later.")
        return b"".join(pieces)

    def _no_answer(self, error: HTTPError, timeout: float | None) -> Unreachable:
        """The library's error as a sentence that says what to check."""
        url = self.base_url
        silence = self.read_timeout if timeout is None else timeout
        if isinstance(error, ProxyError):
            return Unreachable(
                f"The proxy on the way to {url} cannot be used ({faults.cause(error)}); correct the"
                " proxy settings of the environment, or list the server in NO_PROXY."
            )
        if isinstance(error, SSLError):
            return faults.no_trust(url, error)
        if isinstance(error, NameResolutionError):
            text = f"The host name in {url} is not known; check its spelling and the network."
        elif isinstance(error, NewConnectionError):
            text = (
                f"No server answers at {url} ({faults.cause(error)}); check that it is running and"
                " that the address is right."
            )
        elif isinstance(error, ConnectTimeoutError):
            text = (
                f"{url} did not answer within {self.connect_timeout:g} seconds; check the address,"
                " the network and any firewall between."
            )
        elif isinstance(error, ReadTimeoutError):
            text = (
                f"{url} took the connection but said nothing for {silence:g} seconds; it may be"
                " overloaded: try again later."
            )
        else:
            return faults.broken(url, error)
        return Unreachable(text)


class _Connection(HTTPConnection):
    """Gives sending a time limit of its own; the library would apply the one of connecting."""

    def connect(self) -> None:
        super().connect()
        self.sock.settimeout(SEND_TIMEOUT)

    def request(self, *args: object, **options: object) -> None:
        if self.sock is not None:
            self.timeout = SEND_TIMEOUT
        super().request(*args, **options)  # type: ignore[arg-type]  # handed on as they came


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


def _pool(parts: SplitResult, ca_file: str | None) -> urllib3.PoolManager:
    proxy = proxy_for(parts)
    secure = parts.scheme == "https" or (proxy or "").startswith("https:")
    context = trust(ca_file) if secure else None
    if proxy is None:
        pool = urllib3.PoolManager(1, maxsize=_CONNECTIONS, ssl_context=context)
    else:
        pool = _proxied(proxy, parts.hostname or "", context)
    pool.pool_classes_by_scheme = {"http": _Pool, "https": _SecurePool}
    return pool


def _proxied(proxy: str, host: str, context: ssl.SSLContext | None) -> urllib3.ProxyManager:
    try:
        credentials = urllib3.util.parse_url(proxy).auth
        headers = urllib3.make_headers(proxy_basic_auth=credentials) if credentials else None
        return urllib3.ProxyManager(
            proxy, 1, proxy_headers=headers, maxsize=_CONNECTIONS, ssl_context=context
        )
    except (ProxySchemeUnknown, LocationParseError):
        raise Invalid(
            f"The proxy that the environment names for {host} is none that can be used; name an"
            " http proxy, or list the host in NO_PROXY."
        ) from None


def _query_text(query: Query | None) -> str:
    given = {name: value for name, value in (query or {}).items() if value is not None}
    return f"?{urlencode(given, doseq=True)}" if given else ""


def _length(body: Body | None) -> int | None:
    """The bytes from where a file stands to its end, where that can be known."""
    if not isinstance(body, (io.IOBase, SpooledTemporaryFile)) or not body.seekable():
        return None
    here = body.tell()
    length = body.seek(0, os.SEEK_END) - here
    body.seek(here)
    return length
