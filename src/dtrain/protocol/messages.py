"""The messages of the public API. Times are RFC 3339 UTC, durations are seconds.

Answers may gain fields: a reader ignores the ones it does not know. Requests may not: a server
refuses an unknown field, so that a misspelt one is noticed.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

from .resources import Capacity, Shortfall
from .spec import JSON_FIELDS, JobSpec
from .states import Phase, Reason, Status

Sha256 = Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]
LONGEST_REASON = 500
DeclineReason = Annotated[str, msgspec.Meta(max_length=LONGEST_REASON)]
"""Why an owner does not want a job."""


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


Submission = msgspec.defstruct(
    "Submission",
    [("bundle", Sha256), *JSON_FIELDS],
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
)
"""A job as it is handed in as JSON: the spec, and `bundle`, a ZIP that the server has already."""


class BundleEntry(Answer, frozen=True, kw_only=True):
    """A file in a bundle."""

    path: str
    size: int
    """Bytes, unpacked."""


class BundleContents(Answer, frozen=True, kw_only=True):
    """What a bundle holds, by path."""

    files: list[BundleEntry]
    expanded: int
    """Bytes of all files, unpacked."""


class CheckpointInfo(Answer, frozen=True, kw_only=True):
    """The newest checkpoint that the server has of a job."""

    generation: int
    """Counted from 1 within the job."""
    attempt: int
    """The attempt that left it."""
    files: int
    size: int
    """Bytes of all files."""
    taken_at: Moment


class Job(Answer, frozen=True, kw_only=True):
    """A job as the API shows it."""

    id: int
    """Its number, for life."""
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
    """Its id."""
    progress: dict[str, Any] | None
    """The latest PROGRESS record; NaN and infinities as text."""
    fraction: float | None
    """How much is done, from 0 to 1, where the records tell."""
    exit_code: int | None
    """Of its script; None if it has not exited by itself."""
    signal: int | None
    """The number of the signal that ended it."""
    peak_memory: int | None
    """The most that it used, in bytes."""
    traceback: str | None
    """The last lines of the traceback."""
    log_bytes: int
    """How long the log of the latest attempt is."""
    artifacts: int
    """How many files the latest attempt has left."""
    cancel_requested: bool
    """Whether a user has asked for its end."""
    retry_of: int | None
    """The job that this one repeats."""
    submitter: str | None
    """Who handed it in, by their own word."""
    spec: JobSpec
    """What was said about it, with the defaults filled in."""
    bundle: BundleInfo
    created_at: Moment
    started_at: Moment | None
    """When the latest attempt was claimed."""
    finished_at: Moment | None
    """When it ended for good."""
    checkpoint: CheckpointInfo | None = None
    """What its next attempt would go on from."""


class JobPage(Answer, frozen=True, kw_only=True):
    """Jobs, newest first."""

    jobs: list[Job]
    next: str | None
    """The `cursor` of the following page."""


class JobCounts(Answer, frozen=True, kw_only=True):
    """How many jobs there are in each status."""

    pending: int
    running: int
    completed: int
    failed: int
    cancelled: int


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


class CheckpointFile(Answer, frozen=True, kw_only=True):
    """A file of a checkpoint."""

    path: str
    size: int
    """Bytes."""
    sha256: Sha256
    mode: int
    """Its permission bits."""


class Checkpoint(Answer, frozen=True, kw_only=True):
    """What a job had in its checkpoint folder at one moment."""

    generation: int
    """Counted from 1 within the job; the newest has the highest."""
    attempt: int
    """The attempt that left it."""
    size: int
    """Bytes of all files."""
    taken_at: Moment
    files: list[CheckpointFile]
    """By path."""


class CheckpointList(Answer, frozen=True, kw_only=True):
    """The checkpoints of a job that are kept, the newest first."""

    checkpoints: list[Checkpoint]


class Event(Answer, frozen=True, kw_only=True):
    """One change of a job or a worker."""

    id: int
    """Rises with each change; of all jobs and workers."""
    kind: str
    """What happened, as a word."""
    job_id: int | None
    worker_id: str | None
    at: Moment
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


class LogMatches(Answer, frozen=True, kw_only=True):
    """Which lines of one attempt's log match, without the lines."""

    attempt: int
    ranges: list[Annotated[list[int], msgspec.Meta(min_length=2, max_length=2)]]
    """The first and the last number of lines that follow each other, rising."""
    next: int
    """The `after` of the following answer."""
    more: bool
    """Whether lines that are there already were not looked at."""
    total_lines: int


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
    at: Moment
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
    last_seen: Moment
    answer_on_page: bool = False
    """Whether its owner may answer offers on its page."""
    offers: list[int] = []
    """The jobs that are before its owner."""
    takes_nothing: str | None = None
    """Why it takes no new job now, as a sentence; None if it takes one."""


class WorkerList(Answer, frozen=True, kw_only=True):
    """All workers that were ever enrolled and not forgotten."""

    workers: list[Worker]


class WorkerSample(Answer, frozen=True, kw_only=True):
    """How busy a worker's machine was in one minute, or on average in some that follow it."""

    at: Moment
    metrics: WorkerMetrics


class WorkerSamples(Answer, frozen=True, kw_only=True):
    """How busy a worker's machine was in the last 24 hours, oldest first."""

    samples: list[WorkerSample]


class UsageSample(Answer, frozen=True, kw_only=True):
    """What an attempt used of its worker, between the sample before, or its beginning, and this."""

    at: Moment
    cpus: float
    """Processors that it kept busy, on average."""
    memory: int
    """Bytes, without those of files that were read: the most that was seen."""
    gpus: list[dict[str, float]]
    """For each of its GPUs on average what `WorkerMetrics.gpus` says of one."""


class JobUsage(Answer, frozen=True, kw_only=True):
    """What an attempt of a job has used of its worker, and what it might have."""

    attempt: int
    """0 if there was none yet."""
    began: Moment | None
    cpus: float | None
    """Processors that it may keep busy: the job's limit, else all that its worker has for jobs."""
    memory: int | None
    """Bytes, likewise."""
    samples: list[UsageSample]
    """Oldest first."""


class WorkerFit(Answer, frozen=True, kw_only=True):
    """What keeps a job off one worker."""

    worker_id: str
    worker: str
    state: str
    declined: bool
    reason: str | None = None
    """Why its owner declined, where the owner said so."""
    shortfalls: list[Shortfall]


class Explanation(Answer, frozen=True, kw_only=True):
    """Why a job is where it is."""

    summary: str
    """One sentence."""
    position: int | None
    """How many waiting jobs go before it; None if it does not wait."""
    workers: list[WorkerFit]
    retry_in: float | None = None
    """Seconds until the next attempt may start, while the job waits for that."""


class OwnerAnswer(Ask, frozen=True, kw_only=True):
    """What an owner says to an offer from elsewhere than the worker's terminal."""

    accept: bool
    code: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    """The owner's code, which the worker shows at its start."""
    reason: DeclineReason | None = None
    """Why not."""


class OfferSettled(Answer, frozen=True, kw_only=True):
    """The worker has acted on its owner's answer."""

    job_id: int
    accepted: bool


_encoder = msgspec.json.Encoder()


def encode(message: object) -> bytes:
    """A message as JSON."""
    return _encoder.encode(message)
