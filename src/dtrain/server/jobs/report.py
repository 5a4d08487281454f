"""What a worker sends about an attempt while it lasts: phase, log, artifacts.

Every call carries the attempt's secret. A repeated call is harmless, and a log is taken at a byte
offset, so that nothing can be lost or doubled on the way.
"""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Self, cast

import sqlalchemy as sa

from dtrain.protocol.errors import Conflict, Invalid, NotFound, Unavailable
from dtrain.protocol.messages import Artifact, BundleInfo
from dtrain.protocol.states import Phase
from dtrain.protocol.worker_messages import LogAnswer, PhaseReport
from dtrain.server.rules.endings import BUNDLE_LOST
from dtrain.server.rules.lifecycle import Moved
from dtrain.server.store import artifacts, attempts, jobs, logs
from dtrain.server.store.attempts import Attempt
from dtrain.server.store.database import notice

from .advancing import advanced
from .appending import append, piece
from .fencing import AttemptRef, current, owned, stale
from .finish import settle_held

if TYPE_CHECKING:
    from dtrain.server.services import Services

_ARRIVAL_NOTE = 30.0
"""Seconds between two notes that a file is still arriving."""


def bundle(services: Services, ref: AttemptRef) -> tuple[BundleInfo, Path]:
    """The bundle of an attempt's job, and where its ZIP is.

    Raises:
        Conflict: the attempt no longer counts.
        Invalid: the ZIP is gone from the server's disk.
    """
    with services.database.read() as connection:
        current(connection, ref, lock=False)
        info = jobs.spec_of(connection, ref.job_id)[1]
    try:
        return info, services.bundles.path(info.sha256)
    except NotFound as error:
        raise Invalid(BUNDLE_LOST, code="bundle_lost") from error


def phase(services: Services, ref: AttemptRef, message: PhaseReport) -> None:
    """The attempt goes on to another phase.

    Raises:
        Conflict: the attempt no longer counts.
        Invalid: it is no phase that a worker reports.
    """
    if message.phase not in {Phase.PREPARING, Phase.EXECUTING, Phase.CANCELLING}:
        raise Invalid(
            "A worker reports the phases preparing, executing and cancelling.", field="phase"
        )

    def work(connection: sa.Connection) -> None:
        job = jobs.lock(connection, ref.job_id)
        current(connection, ref)
        if job is not None:
            advanced(connection, job, Moved(message.phase), services.clock.time())

    services.database.write(work)


def append_log(
    services: Services, ref: AttemptRef, offset: int, data: bytes, phase: Phase | None = None
) -> LogAnswer:
    """Store log bytes and, in the same transaction, the PROGRESS records that they complete.

    Bytes that are there already are passed over. Also the late bytes of an attempt that no longer
    counts are kept, in that attempt's own log.

    Args:
        services: the server's parts.
        ref: the attempt.
        offset: of the first byte, in the attempt's log.
        data: at most `logs.MAX_CHUNK` bytes.
        phase: that the attempt has come to meanwhile, if it has.

    Raises:
        Conflict: bytes before the offset are missing (`log_gap`, with the offset to go on from;
            the phase is not taken either), or the attempt is not the worker's.
    """
    if len(data) > logs.MAX_CHUNK:
        raise Invalid(f"Send at most {logs.MAX_CHUNK} bytes of log at once.", status=413)
    given = piece(offset, data)

    def work(connection: sa.Connection) -> LogAnswer:
        job = jobs.lock(connection, ref.job_id)
        attempt = owned(connection, ref)
        now = services.clock.time()
        if offset > attempt.log_bytes:
            raise Conflict(
                f"The log goes on at byte {attempt.log_bytes}.",
                code="log_gap",
                status=416,
                offset=attempt.log_bytes,
            )
        if phase is not None and job is not None and attempt.state not in {"finishing", "ended"}:
            job = advanced(connection, job, Moved(phase), now)
        counts = job is not None and job.attempt == ref.attempt and not job.status.final
        longer = append(connection, attempt, given, now, counts=counts)
        if job is not None and longer is not attempt:
            settle_held(connection, job, longer, now)
        return LogAnswer(offset=longer.log_bytes)

    return services.database.write(work)


def put_artifact(
    services: Services, ref: AttemptRef, path: str, sha256: str, upload: BinaryIO
) -> None:
    """Store a file that the attempt left behind; one that its end names also after the end.

    Raises:
        Conflict: the attempt no longer counts.
        Invalid: the bytes are not those of the hash, or there are too many.
    """

    def wanted(connection: sa.Connection, *, lock: bool = True) -> Attempt:
        attempt = owned(connection, ref, lock=lock)
        named = attempt.finish.artifacts if attempt.finish else []
        if attempt.state == "ended" and (path, sha256) not in {(a.path, a.sha256) for a in named}:
            raise stale(ref)
        return attempt

    with services.database.read() as connection:
        wanted(connection, lock=False)

    def work(connection: sa.Connection, size: int) -> None:
        job = jobs.lock(connection, ref.job_id)
        attempt = wanted(connection)
        now = services.clock.time()
        attempts.note_arrival(connection, ref.job_id, ref.attempt, now)
        left = Artifact(path=path, size=size, sha256=sha256, attempt=ref.attempt)
        artifacts.put(connection, ref.job_id, left)
        notice(connection, jobs.topic(ref.job_id))
        if job is not None:
            settle_held(connection, job, attempt, now)

    with _Arriving(services, ref, upload) as arriving:
        limit = services.settings.max_artifact_bytes
        stream = cast(BinaryIO, arriving)
        blob = services.blobs.receive(stream, limit=limit, expected_sha256=sha256)
        services.database.write(partial(work, size=blob.size))


class _Arriving:
    """An upload that says now and then that it is still coming: a large one may take hours.

    That keeps a reported end waiting while it lasts. If it fails, nothing of it has come, and the
    end waits no longer than before: else one that fails again and again would be waited for always.
    """

    def __init__(self, services: Services, ref: AttemptRef, upload: BinaryIO) -> None:
        self._services = services
        self._ref = ref
        self._upload = upload
        self._told = services.clock.monotonic()
        self._before: float | None = None
        """When the latest came that the end waits from, without this upload."""
        self._noted: float | None = None
        """The same by this upload's latest note."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _: BaseException | None, __: TracebackType | None
    ) -> None:
        if kind is not None and self._noted is not None:
            with suppress(Unavailable):  # what the upload has failed for is to be told
                self._services.database.write(self._take_back)

    def read(self, size: int = -1) -> bytes:
        piece = self._upload.read(size)
        if self._services.clock.monotonic() - self._told > _ARRIVAL_NOTE:
            self._told = self._services.clock.monotonic()
            with suppress(Unavailable):  # a hint is not worth the upload
                self._before, self._noted = self._services.database.write(self._note)
        return piece

    def _note(self, connection: sa.Connection) -> tuple[float | None, float | None]:
        attempt = attempts.lock(connection, self._ref.job_id, self._ref.attempt)
        if attempt is None or attempt.state != "finishing":
            return None, None
        # Other bytes may have come since the latest note, which count.
        before = self._before if attempt.finish_at == self._noted else attempt.finish_at
        now = self._services.clock.time()
        attempts.update(connection, attempt, finish_at=now)
        return before, now

    def _take_back(self, connection: sa.Connection) -> None:
        attempt = attempts.lock(connection, self._ref.job_id, self._ref.attempt)
        if attempt and (attempt.state, attempt.finish_at) == ("finishing", self._noted):
            attempts.update(connection, attempt, finish_at=self._before)
