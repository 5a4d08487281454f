"""The calls that a worker makes to its server; the one place that decides what is tried again.

    outcome                         register, poll, offer    reports about an attempt
    no answer, 5xx, 429, 408        again                    again, for 7 days
    401                             Unauthorized             again: the agent enrols anew meanwhile
    409 `stale`, 410, 404           the error itself         StaleAttempt
    409 `superseded`                Superseded               Superseded
    416 `log_gap`                   -                        no error: the log goes on elsewhere
    any other refusal               the error itself         the error itself

Between two tries lies a random time below a bound that doubles from 0.2 s up to 10 s for polls
and 60 s for reports (full jitter), or what the server asked for in Retry-After if that is longer.
Every call may raise `Stopped`: the agent ends, and whoever called must, too.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
import time
import zlib
from collections.abc import Callable, Mapping
from threading import Event
from typing import BinaryIO, TypeVar

import msgspec

from dtrain.client.transport import PIECE, Body, Query, Response, Transport
from dtrain.protocol import routes
from dtrain.protocol.errors import (
    Conflict,
    DTrainError,
    Invalid,
    NotFound,
    Unauthorized,
    Unavailable,
    Unreachable,
)
from dtrain.protocol.states import Phase
from dtrain.protocol.worker_messages import (
    ArtifactInfo,
    Finish,
    FinishAnswer,
    Leave,
    LogAnswer,
    OfferAnswer,
    OfferReply,
    PhaseReport,
    Poll,
    PollAnswer,
    Register,
    Registered,
)

T = TypeVar("T")
log = logging.getLogger(__name__)

FIRST_PAUSE = 0.2
"""Seconds: the bound of the first pause."""
LONGEST_REQUESTED_PAUSE = 600.0
"""Seconds that a server's Retry-After is believed."""
LARGEST_APPEND = 1024**2
"""Bytes of a log, uncompressed, that go in one request."""
SMALLEST_COMPRESSED = 512
"""Bytes below which compression is not worth its header."""
LEAVE_TIMEOUT = 3.0
BUNDLE_TRIES = 3
"""How often a bundle may arrive with the wrong content."""


class Stopped(Exception):
    """The agent ends; nothing is known about what was asked."""


class Superseded(DTrainError):
    """A newer session of this worker has taken over; this agent must stop, its jobs go on."""

    status = 409
    code = "superseded"


class StaleAttempt(DTrainError):
    """The attempt no longer counts: kill it and forget it."""

    status = 409
    code = "stale"


class AttemptRef(msgspec.Struct, frozen=True):
    """What a report names its attempt by."""

    job_id: int
    attempt: int
    secret: str

    def path(self, template: str, **parts: object) -> str:
        """An address about this attempt."""
        return routes.path(template, job_id=self.job_id, attempt=self.attempt, **parts)


class Patience(msgspec.Struct, frozen=True):
    """How long a kind of call is tried again."""

    longest_pause: float
    """Seconds."""
    total: float = math.inf
    """Seconds after which the last error is raised."""
    report: bool = False
    """Whether the call is about an attempt."""


POLL = Patience(longest_pause=10.0)
OFFER = Patience(longest_pause=10.0, total=60.0)
REPORT = Patience(longest_pause=60.0, total=7 * 86400.0, report=True)


class Link:
    """The way to the server. Threads may share it.

    Args:
        transport: to the server, without a token.
        stop: set when the agent ends; every call then raises `Stopped`.
        tell: called with every error that is borne, and with None after every success.
    """

    def __init__(
        self, transport: Transport, stop: Event, tell: Callable[[DTrainError | None], None]
    ) -> None:
        self._transport = transport
        self._stop = stop
        self._tell = tell
        self.credential = ""
        """The worker's own token; set once it is known."""

    def register(self, message: Register, token: str) -> Registered:
        """Come to the server, with the shared token or with the worker's own credential."""
        return self._persist(
            POLL,
            lambda: self._ask(
                "POST", routes.REGISTER, message=message, headers=_bearer(token)
            ).decode(Registered),
        )

    def poll(self, compose: Callable[[], Poll]) -> PollAnswer:
        """Say how things are and hear what to do; every try says how they are by then."""

        def ask() -> PollAnswer:
            message = compose()
            silence = message.wait + self._transport.read_timeout
            return self._ask("POST", routes.POLL, message=message, timeout=silence).decode(
                PollAnswer
            )

        return self._persist(POLL, ask)

    def answer_offer(self, job_id: int, reply: OfferReply) -> OfferAnswer:
        """Give the owner's word; Conflict says that the offer is gone."""
        path = routes.path(routes.OFFER, job_id=job_id)
        return self._persist(
            OFFER, lambda: self._ask("POST", path, message=reply).decode(OfferAnswer)
        )

    def leave(self, message: Leave) -> None:
        """Say that the agent ends. One try, also when the agent has been stopped."""
        self._ask("POST", routes.LEAVE, message=message, timeout=LEAVE_TIMEOUT)

    def bundle(
        self, ref: AttemptRef, sha256: str, into: BinaryIO, *, check: Callable[[], None]
    ) -> None:
        """Write the attempt's bundle into an empty file.

        Args:
            ref: the attempt.
            sha256: what the content's hash must be.
            into: the file, open for reading and writing.
            check: called with every piece that arrives; may raise, to break off.

        Raises:
            Invalid: what comes has another hash, every time.
            OSError: of the file.
        """
        for _ in range(BUNDLE_TRIES):
            digest = self._persist(REPORT, lambda: self._download(ref, into, check))
            if digest == sha256:
                return
            log.warning("The bundle of job %d arrived with the hash %s.", ref.job_id, digest)
        raise Invalid(
            f"The bundle arrived {BUNDLE_TRIES} times with another content than the server's"
            " record says; check the server's storage and any proxy on the way.",
            code="bundle_invalid",
        )

    def phase(self, ref: AttemptRef, phase: Phase) -> None:
        """Say that an attempt has come to a new phase."""
        path = ref.path(routes.ATTEMPT_PHASE)
        message = PhaseReport(phase=phase)
        self._report("POST", path, ref, message=message)

    def append_log(self, ref: AttemptRef, offset: int, data: bytes) -> int:
        """Append at most `LARGEST_APPEND` bytes to the log; where the log goes on."""
        headers = {"Content-Type": "application/octet-stream"}
        if len(data) > SMALLEST_COMPRESSED:
            data = zlib.compress(data, 1)
            headers["Content-Encoding"] = "deflate"
        path = ref.path(routes.ATTEMPT_LOG)
        try:
            answer = self._report(
                "POST", path, ref, query={"offset": offset}, body=data, headers=headers
            )
        except Conflict as error:
            if error.code != "log_gap" or error.offset is None:
                raise
            return error.offset
        return answer.decode(LogAnswer).offset

    def put_artifact(self, ref: AttemptRef, info: ArtifactInfo, content: BinaryIO) -> None:
        """Send a file that the attempt left behind."""
        path = ref.path(routes.ATTEMPT_ARTIFACT, path=info.path)
        query = {"sha256": info.sha256}

        def put() -> Response:
            content.seek(0)
            return self._ask("PUT", path, ref, query=query, body=content)

        self._persist(REPORT, put)

    def finish(self, ref: AttemptRef, message: Finish) -> FinishAnswer:
        """Say how the attempt ended; the answer says what is still missing."""
        path = ref.path(routes.ATTEMPT_FINISH)
        return self._report("POST", path, ref, message=message).decode(FinishAnswer)

    def _report(
        self,
        method: str,
        path: str,
        ref: AttemptRef,
        *,
        query: Query | None = None,
        message: msgspec.Struct | None = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        return self._persist(
            REPORT,
            lambda: self._ask(
                method, path, ref, query=query, message=message, body=body, headers=headers
            ),
        )

    def _ask(
        self,
        method: str,
        path: str,
        ref: AttemptRef | None = None,
        *,
        query: Query | None = None,
        message: msgspec.Struct | None = None,
        body: Body | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Response:
        """One try of one request, written to the log of debugging."""
        started = time.monotonic()
        outcome: object = "nothing"
        try:
            response = self._transport.request(
                method,
                path,
                query=query,
                message=message,
                body=body,
                headers={**self._identity(ref), **(headers or {})},
                timeout=timeout,
            )
            outcome = response.status
        except DTrainError as error:
            outcome = f"{error.status} {error.code}"
            raise
        else:
            return response
        finally:
            duration = (time.monotonic() - started) * 1000
            log.debug("%s %s -> %s in %.0f ms", method, path, outcome, duration)

    def _identity(self, ref: AttemptRef | None) -> dict[str, str]:
        """The headers that say who asks, and about which attempt."""
        headers = _bearer(self.credential)
        if ref is not None:
            headers[routes.SECRET_HEADER] = ref.secret
        return headers

    def pause(self, seconds: float) -> None:
        """Wait, unless the agent ends."""
        if self._stop.wait(seconds):
            raise Stopped

    def _download(self, ref: AttemptRef, into: BinaryIO, check: Callable[[], None]) -> str:
        """One try of a bundle's download; the SHA-256 of what came."""
        check()
        into.seek(0)
        into.truncate()
        path = ref.path(routes.ATTEMPT_BUNDLE)
        log.debug("GET %s", path)
        headers = self._identity(ref)
        self._transport.download(path, into, headers=headers, progress=lambda *_: check())
        into.seek(0)
        digest = hashlib.sha256()
        while piece := into.read(PIECE):
            digest.update(piece)
        return digest.hexdigest()

    def _persist(self, patience: Patience, ask: Callable[[], T]) -> T:
        """Ask until there is an answer, a refusal that stands, or an end to patience."""
        deadline = time.monotonic() + patience.total
        bound = FIRST_PAUSE
        while not self._stop.is_set():
            try:
                answer = ask()
            except DTrainError as error:
                if not _is_borne(error, patience) or time.monotonic() > deadline:
                    meaning = _meaning(error, patience)
                    if meaning is error:
                        raise
                    raise meaning from error
                self._tell(error)
                asked_for = min(error.retry_after or 0.0, LONGEST_REQUESTED_PAUSE)
                self._stop.wait(max(random.uniform(0, bound), asked_for))  # noqa: S311 - jitter
                bound = min(bound * 2, patience.longest_pause)
            else:
                self._tell(None)
                return answer
        raise Stopped


def _is_borne(error: DTrainError, patience: Patience) -> bool:
    """Whether a call that met the error is tried again."""
    if isinstance(error, (Unavailable, Unreachable)):
        return True
    return patience.report and isinstance(error, Unauthorized)


def _meaning(error: DTrainError, patience: Patience) -> DTrainError:
    """The error as the worker's own, where it has one for it."""
    if error.code == "superseded":
        return Superseded(error.detail)
    gone = error.code == "stale" or error.status == 410 or isinstance(error, NotFound)
    return StaleAttempt(error.detail) if gone and patience.report else error


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
