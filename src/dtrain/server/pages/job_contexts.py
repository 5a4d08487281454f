"""What the pages of a job know: one frozen context a page, made of the messages of the API."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from dtrain.protocol.messages import (
    Artifact,
    Explanation,
    Job,
    JobUsage,
    LogLine,
    MetricRecord,
    WorkerFit,
)
from dtrain.protocol.states import Status
from dtrain.server.jobs.attempts import AttemptRecord

from .commands import Commands
from .contexts import SubmitForm, TabState
from .estimate import Pace
from .formats import percent


@dataclass(frozen=True)
class LogTail:
    """The end of a log, and from where its stream goes on."""

    attempt: int
    lines: list[LogLine]
    offset: int
    """The byte behind what is shown."""
    next: int
    """The number that the next line will have."""
    is_open: bool
    """Whether the last line has no end yet."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing stands before the lines."""
        return not self.lines or self.lines[0].number == 0


@dataclass(frozen=True)
class HistoryEntry:
    """One thing that happened to a job."""

    id: int
    at: datetime
    kind: str
    text: str


@dataclass(frozen=True)
class Series:
    """One line in a chart."""

    name: str
    last: float
    """Its latest value that is a number."""


@dataclass(frozen=True)
class JobContext:
    """What of `/jobs/<id>` changes with the job: a fragment of its own."""

    now: datetime
    job: Job
    explanation: Explanation | None
    """Why it waits; None if it does not."""
    charts: list[list[Series]]
    """The series in each chart."""
    records: list[MetricRecord]
    """The latest, newest first."""
    artifacts: list[Artifact]
    history: list[HistoryEntry]
    """The latest, newest first."""
    has_earlier: bool
    """Whether more happened before that."""
    attempts: list[AttemptRecord]
    """The latest first."""
    usage: JobUsage
    """What the latest might use; the page's script reads what it did."""
    pace: Pace | None
    """How fast the job goes while it runs, where its records tell."""

    FITS = 20
    """Workers that an explanation shows."""
    FILES = 12
    """Artifacts that the page shows."""

    @property
    def waited(self) -> timedelta | None:
        """How long it took until a worker had it; None if none has."""
        return self.attempts[-1].began - self.job.created_at if self.attempts else None

    @property
    def fits(self) -> list[WorkerFit]:
        """What keeps the job off each worker, those first that are nearest to taking it."""
        found = self.explanation.workers if self.explanation else []
        return sorted(found, key=_distance)

    @property
    def tab(self) -> TabState:
        """What the browser's tab says: how far the job is while it runs, else its status."""
        job = self.job
        runs = job.status is Status.RUNNING and job.fraction is not None
        word = percent(job.fraction or 0) if runs else job.status.capitalize()
        return TabState(word, job.name)

    @property
    def state(self) -> str:
        """What the page's script compares to know whether this is still current."""
        job = self.job
        parts = (job.status, job.phase, job.attempt, job.artifacts, job.cancel_requested)
        return " ".join("" if part is None else str(part).lower() for part in parts)


def _distance(fit: WorkerFit) -> tuple[bool, bool, bool, int, str]:
    lasting = any(short.lasting for short in fit.shortfalls)
    return fit.declined, lasting, fit.state != "online", len(fit.shortfalls), fit.worker


@dataclass(frozen=True)
class JobPageContext:
    """`/jobs/<id>`."""

    job: JobContext
    log: LogTail | None
    commands: Commands


@dataclass(frozen=True)
class HistoryContext:
    """`/jobs/<id>/history`."""

    now: datetime
    job: Job
    entries: list[HistoryEntry]
    """Newest first."""
    is_latest: bool
    """Whether nothing has happened since."""
    has_earlier: bool


@dataclass(frozen=True)
class CloneContext:
    """`/jobs/<id>/clone`."""

    job: Job
    form: SubmitForm
