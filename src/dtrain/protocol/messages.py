"""The messages of the public API. Times are RFC 3339 UTC, durations are seconds.

Answers may gain fields: a reader ignores the ones it does not know. Requests may not: a server
refuses an unknown field, so that a misspelt one is noticed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from .resources import Capacity, Shortfall
from .spec import JobSpec
from .states import Phase, Reason, Status

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says."""


class Ask(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client or a worker says."""


class BundleInfo(Answer, frozen=True, kw_only=True):
    """A bundle, by its content."""

    sha256: Sha256
    size: int
    """Bytes of the ZIP."""
    files: int


class Job(Answer, frozen=True, kw_only=True):
    """A job as the API shows it."""

    id: int
    name: str
    status: Status
    phase: Phase | None
    """What is going on inside the status; None at the end."""
    reason: Reason | None
    """Why it did not complete; set with `failed` and `cancelled`."""
    message: str | None
    """The reason as a sentence."""
    attempt: int
    """The number of the latest attempt; 0 before the first."""
    worker: str | None
    """The name of the latest attempt's worker."""
    worker_id: str | None
    progress: dict[str, Any] | None
    """The latest PROGRESS record; NaN and infinities as text."""
    fraction: float | None
    """How much is done, from 0 to 1, where the records tell."""
    exit_code: int | None
    signal: int | None
    peak_memory: int | None
    """Bytes."""
    traceback: str | None
    """The last lines of the traceback."""
    log_bytes: int
    artifacts: int
    """How many there are."""
    cancel_requested: bool
    retry_of: int | None
    submitter: str | None
    spec: JobSpec
    bundle: BundleInfo
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class JobPage(Answer, frozen=True, kw_only=True):
    """Jobs, newest first."""

    jobs: list[Job]
    next: str | None
    """The `cursor` of the following page."""
    counts: dict[str, int]
    """How many jobs there are in each status."""


class Artifact(Answer, frozen=True, kw_only=True):
    """A file that a job left behind."""

    path: str
    size: int
    """Bytes."""
    sha256: Sha256
    attempt: int


class ArtifactList(Answer, frozen=True, kw_only=True):
    """All artifacts of a job's latest attempt that left any."""

    artifacts: list[Artifact]


class Event(Answer, frozen=True, kw_only=True):
    """One change of a job or a worker."""

    id: int
    kind: str
    job_id: int | None
    worker_id: str | None
    at: datetime
    data: dict[str, Any]


class EventList(Answer, frozen=True, kw_only=True):
    """The changes of one job, oldest first."""

    events: list[Event]


class LogLine(Answer, frozen=True, kw_only=True):
    """One line of a log, as text."""

    number: int
    """Counted from 0 within the attempt."""
    level: str
    """`INFO`, `WARNING`, `ERROR` or `PROGRESS`."""
    text: str


class LogPage(Answer, frozen=True, kw_only=True):
    """Lines of one attempt's log."""

    attempt: int
    lines: list[LogLine]
    next: int
    """The `after` of the following page."""
    more: bool
    """Whether lines that are there already follow."""
    total_lines: int
    total_bytes: int


class LogPiece(Answer, frozen=True, kw_only=True):
    """Log bytes as a stream brings them; exactly one of `text` and `base64` is set."""

    attempt: int
    offset: int
    """Of the first byte, within the attempt's log."""
    end: int
    text: str | None = None
    base64: str | None = None
    """Set where the bytes are not UTF-8."""


class MetricRecord(Answer, frozen=True, kw_only=True):
    """One PROGRESS record."""

    seq: int
    """Counted from 0 within the attempt."""
    step: float
    at: datetime
    """When the server stored it."""
    values: dict[str, Any]


class MetricPage(Answer, frozen=True, kw_only=True):
    """PROGRESS records of one attempt, oldest first."""

    attempt: int
    records: list[MetricRecord]
    next: int
    """The `after` of the following page."""
    more: bool


class WorkerMetrics(msgspec.Struct, frozen=True, kw_only=True):
    """How busy a worker's machine is."""

    cpu_percent: float = 0.0
    """Of the whole machine."""
    memory_used: int = 0
    memory_total: int = 0
    """Bytes."""
    disk_used: int = 0
    disk_total: int = 0
    """Bytes, of the disk that the work folder is on."""
    gpus: list[dict[str, float]] = []
    """For each GPU `utilisation` (%), `memory_used` (bytes), `temperature` (°C), `power` (W)."""


class Worker(Answer, frozen=True, kw_only=True):
    """A worker as the API shows it."""

    id: str
    name: str
    state: str
    """`online`, `draining` or `offline`."""
    hostname: str
    version: str
    capacity: Capacity
    metrics: WorkerMetrics
    jobs: list[int]
    """The jobs that run on it."""
    asks: bool
    """Whether its owner is asked before a job starts."""
    last_seen: datetime


class WorkerList(Answer, frozen=True, kw_only=True):
    """All workers that were ever enrolled and not forgotten."""

    workers: list[Worker]


class WorkerFit(Answer, frozen=True, kw_only=True):
    """What keeps a job off one worker."""

    worker_id: str
    worker: str
    state: str
    declined: bool
    shortfalls: list[Shortfall]


class Explanation(Answer, frozen=True, kw_only=True):
    """Why a job is where it is."""

    summary: str
    """One sentence."""
    position: int | None
    """How many waiting jobs go before it; None if it does not wait."""
    workers: list[WorkerFit]


_encoder = msgspec.json.Encoder()


def encode(message: object) -> bytes:
    """A message as JSON."""
    return _encoder.encode(message)
