"""The calls that a worker makes to its server; `patience` decides what is tried again.

Every call may raise `Stopped`: the agent ends, and whoever called must, too.
"""

from __future__ import annotations

import hashlib
import logging
import time
import zlib
from collections.abc import Callable, Mapping
from threading import Event
from typing import BinaryIO, TypeVar

import msgspec

from dtrain.client.transport import PIECE, Body, Query, Response, Transport
from dtrain.protocol import routes
from dtrain.protocol.errors import Conflict, DTrainError, Invalid
from dtrain.protocol.messages import BundleContents
from dtrain.protocol.states import Phase
from dtrain.protocol.worker_messages import (
    AnswerOutcome,
    ArtifactInfo,
    Finish,
    FinishAnswer,
    Generation,
    GenerationAnswer,
    KeptGenerations,
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

from .patience import OFFER, POLL, REPORT, RESTORING, Patience, Stopped, persist

T = TypeVar("T")
log = logging.getLogger(__name__)

LARGEST_APPEND = 1024**2
"""Bytes of a log, uncompressed, that go in one request."""
SMALLEST_APPEND = 4 * 1024
"""Bytes; what is refused as too large is sent in smaller pieces, down to this."""
SMALLEST_COMPRESSED = 512
"""Bytes below which compression is not worth its header."""
LEAVE_TIMEOUT = 3.0
FILES_TIMEOUT = 10.0
FETCH_TRIES = 3
"""How often what is fetched may arrive with another hash than its own."""


class AttemptRef(msgspec.Struct, frozen=True):
    """What a report names its attempt by."""

    job_id: int
    attempt: int
    secret: str

    def path(self, template: str, **parts: object) -> str:
        """An address about this attempt."""
        return routes.path(template, job_id=self.job_id, attempt=self.attempt, **parts)


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
        self._most = LARGEST_APPEND
        """Bytes of a log that a server, or a proxy before it, has not refused as too large."""

    def register(self, message: Register, token: str) -> tuple[Registered, bool]:
        """Come to the server, with the shared token or with the worker's own credential.

        Returns:
            What the server says, and whether it may yet come upon an earlier try of the same.
        """
        tries = 0

        def ask() -> Registered:
            nonlocal tries
            tries += 1
            headers = _bearer(token)
            return self._ask("POST", routes.REGISTER, message=message, headers=headers).decode(
                Registered
            )

        return self._persist(POLL, ask), tries > 1

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

    def offer_files(self, job_id: int) -> BundleContents:
        """What is in the bundle of a job that is before the owner. One try: the owner waits."""
        path = routes.path(routes.OFFER_FILES, job_id=job_id)
        return self._ask("GET", path, timeout=FILES_TIMEOUT).decode(BundleContents)

    def settle_answer(self, answer_id: str, outcome: AnswerOutcome) -> None:
        """Say what was made of an answer from the worker's page."""
        path = routes.path(routes.PAGE_ANSWER, answer_id=answer_id)
        self._persist(OFFER, lambda: self._ask("POST", path, message=outcome))

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
        self._fetch(ref, ref.path(routes.ATTEMPT_BUNDLE), sha256, into, check, REPORT)

    def kept_generations(self, ref: AttemptRef, patience: Patience) -> KeptGenerations:
        """What the server has of the job's checkpoint folder; NotFound if it knows of none."""
        path = ref.path(routes.ATTEMPT_CHECKPOINTS)
        return self._report("GET", path, ref, patience=patience).decode(KeptGenerations)

    def keep_generation(
        self, ref: AttemptRef, message: Generation, patience: Patience
    ) -> GenerationAnswer:
        """Have a generation kept; the answer says what has to be sent before."""
        path = ref.path(routes.ATTEMPT_CHECKPOINTS)
        answer = self._report("POST", path, ref, message=message, patience=patience)
        return answer.decode(GenerationAnswer)

    def put_content(
        self, ref: AttemptRef, sha256: str, content: BinaryIO, patience: Patience
    ) -> None:
        """Send what a file of a generation holds."""
        path = ref.path(routes.ATTEMPT_CHECKPOINT_CONTENT, sha256=sha256)
        self._put(ref, path, content, patience=patience)

    def content(
        self, ref: AttemptRef, sha256: str, into: BinaryIO, *, check: Callable[[], None]
    ) -> None:
        """Write what a file of a kept generation holds into an empty file, as `bundle` does."""
        path = ref.path(routes.ATTEMPT_CHECKPOINT_CONTENT, sha256=sha256)
        self._fetch(ref, path, sha256, into, check, RESTORING)

    def phase(self, ref: AttemptRef, phase: Phase) -> None:
        """Say that an attempt has come to a new phase."""
        path = ref.path(routes.ATTEMPT_PHASE)
        message = PhaseReport(phase=phase)
        self._report("POST", path, ref, message=message)

    def append_log(
        self, ref: AttemptRef, offset: int, data: bytes, phase: Phase | None = None
    ) -> int:
        """Append some of the bytes to the log, `LARGEST_APPEND` at most; where the log goes on.

        A new phase of the attempt can be said with them.
        """
        while True:
            most = self._most
            try:
                return self._append_log(ref, offset, data[:most], phase)
            except Invalid as error:
                if error.status != 413 or min(len(data), most) <= SMALLEST_APPEND:
                    raise
                self._most = min(len(data), most) // 2

    def _append_log(self, ref: AttemptRef, offset: int, data: bytes, phase: Phase | None) -> int:
        headers = {"Content-Type": "application/octet-stream"}
        if len(data) > SMALLEST_COMPRESSED:
            data = zlib.compress(data, 1)
            headers["Content-Encoding"] = "deflate"
        path = ref.path(routes.ATTEMPT_LOG)
        query = {"offset": offset, "phase": phase}
        try:
            answer = self._report("POST", path, ref, query=query, body=data, headers=headers)
        except Conflict as error:
            if error.code != "log_gap" or error.offset is None:
                raise
            if phase is not None:  # has not been taken with it
                self.phase(ref, phase)
            return error.offset
        return answer.decode(LogAnswer).offset

    def put_artifact(self, ref: AttemptRef, info: ArtifactInfo, content: BinaryIO) -> None:
        """Send a file that the attempt left behind."""
        path = ref.path(routes.ATTEMPT_ARTIFACT, path=info.path)
        self._put(ref, path, content, query={"sha256": info.sha256})

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
        patience: Patience = REPORT,
    ) -> Response:
        return self._persist(
            patience,
            lambda: self._ask(
                method, path, ref, query=query, message=message, body=body, headers=headers
            ),
        )

    def _put(
        self,
        ref: AttemptRef,
        path: str,
        content: BinaryIO,
        *,
        query: Query | None = None,
        patience: Patience = REPORT,
    ) -> None:
        def put() -> Response:
            content.seek(0)
            return self._ask("PUT", path, ref, query=query, body=content)

        self._persist(patience, put)

    def _fetch(
        self,
        ref: AttemptRef,
        path: str,
        sha256: str,
        into: BinaryIO,
        check: Callable[[], None],
        patience: Patience,
    ) -> None:
        for _ in range(FETCH_TRIES):
            digest = self._persist(patience, lambda: self._download(ref, path, into, check))
            if digest == sha256:
                return
            log.warning("What came from %s has the hash %s.", path, digest)
        raise Invalid(
            f"What was fetched arrived {FETCH_TRIES} times with another content than the server's"
            " record says; check the server's storage and any proxy on the way."
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

    def _download(
        self, ref: AttemptRef, path: str, into: BinaryIO, check: Callable[[], None]
    ) -> str:
        """One try of a download into an emptied file; the SHA-256 of what came."""
        check()
        into.seek(0)
        into.truncate()
        log.debug("GET %s", path)
        headers = self._identity(ref)
        self._transport.download(path, into, headers=headers, progress=lambda *_: check())
        into.seek(0)
        digest = hashlib.sha256()
        while piece := into.read(PIECE):
            digest.update(piece)
        return digest.hexdigest()

    def _persist(self, patience: Patience, ask: Callable[[], T]) -> T:
        return persist(ask, patience, self._stop, self._tell)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
