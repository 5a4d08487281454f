"""The messages between a worker and its server, both ways. Durations are seconds."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .messages import Answer, Ask, BundleInfo, Count, Sha256, WorkerMetrics
from .resources import Capacity
from .spec import JobSpec
from .states import Cause, OnStop, Phase

PROTOCOL = 1
"""Raised when an older worker could no longer work with the server."""

Number = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
"""What the narrower columns of every database can hold."""
Secret = Annotated[str, msgspec.Meta(min_length=32, max_length=128, pattern="^[A-Za-z0-9_-]+$")]


class Register(Ask, frozen=True, kw_only=True):
    """A worker comes. The bearer token is the shared one, or the worker's own credential."""

    protocol: Number
    version: str
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
    hostname: Annotated[str, msgspec.Meta(max_length=255)]
    worker_id: str | None
    """None until the server has given one."""
    boot_id: str
    capacity: Capacity
    asks: bool


class Registered(Answer, frozen=True, kw_only=True):
    """The worker is known from now on."""

    worker_id: str
    credential: str | None
    """The worker's own token, at enrolment only."""
    session: Number
    lease: float
    """Seconds for which an attempt is the worker's after each poll."""


class AttemptReport(Ask, frozen=True, kw_only=True):
    """An attempt that is alive on the worker."""

    job_id: int
    attempt: Number
    secret: Secret
    phase: Phase
    """`cancelling` once the worker acts on a cancel."""


class Poll(Ask, frozen=True, kw_only=True):
    """Heartbeat, report and question in one; held by the server until it has an answer."""

    session: Number
    number: Count
    """Rises with each poll of a session."""
    wait: Annotated[float, msgspec.Meta(ge=0, le=60)]
    """Seconds for which the answer may be held."""
    capacity: Capacity
    metrics: WorkerMetrics
    attempts: list[AttemptReport]
    next_secret: Secret
    """The secret of the attempt that this poll may bring: repeated, the poll is answered alike."""
    asks: bool
    """True: jobs come as offers. False: they come as assignments."""
    offers: list[int] = msgspec.field(default_factory=list)
    """The jobs whose offers are before the owner."""
    draining: bool = False
    """The worker takes nothing new."""


class Assignment(Answer, frozen=True, kw_only=True):
    """A job that is the worker's to run, as the attempt with the secret it sent."""

    job_id: int
    attempt: Number
    spec: JobSpec
    bundle: BundleInfo
    submitter: str | None


class Offer(Answer, frozen=True, kw_only=True):
    """A job shown to a worker's owner."""

    job_id: int
    spec: JobSpec
    bundle: BundleInfo
    submitter: str | None
    age: float
    """Seconds since it was submitted."""


class Command(Answer, frozen=True, kw_only=True):
    """What the worker must do about an attempt."""

    job_id: int
    attempt: Number
    action: str
    """`cancel`: stop it with grace, then finish it. `stale`: kill it and forget it."""
    at_once: bool = False
    """With `cancel`: without grace."""


class PollAnswer(Answer, frozen=True, kw_only=True):
    """What a poll brings; all of it empty when the wait ran out."""

    assignment: Assignment | None = None
    offers: list[Offer] = msgspec.field(default_factory=list)
    """All that are open now; one that was before the owner and is not here is withdrawn."""
    commands: list[Command] = msgspec.field(default_factory=list)
    drain: bool = False
    """The server's wish that the worker takes nothing new."""


class OfferReply(Ask, frozen=True, kw_only=True):
    """The owner's word on an offer."""

    session: Number
    accept: bool
    secret: Secret
    """The attempt's, if this is a yes."""
    reason: Annotated[str, msgspec.Meta(max_length=500)] | None = None


class OfferAnswer(Answer, frozen=True, kw_only=True):
    """The claim that an accepted offer is; None after a decline."""

    assignment: Assignment | None


class PhaseReport(Ask, frozen=True, kw_only=True):
    """An attempt goes on to `preparing`, `executing` or `cancelling`."""

    phase: Phase


class LogAnswer(Answer, frozen=True, kw_only=True):
    """How far the log is stored, durably."""

    offset: int


class ArtifactInfo(Ask, frozen=True, kw_only=True):
    """A file that a job left behind, as its worker found it."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    size: Count
    sha256: Sha256


class Finish(Ask, frozen=True, kw_only=True):
    """How an attempt ended. Repeating it is harmless; a different one is refused."""

    cause: Cause
    exit_code: Number | None = None
    signal: Number | None = None
    message: Annotated[str, msgspec.Meta(max_length=2000)] | None = None
    """What went wrong, as a sentence; for the causes that need more than their name."""
    peak_memory: Count | None = None
    """Bytes."""
    duration: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Seconds in which user code ran."""
    traceback: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None
    log_bytes: Count = 0
    artifacts: list[ArtifactInfo] = msgspec.field(default_factory=list)


class FinishAnswer(Answer, frozen=True, kw_only=True):
    """Whether the end is applied (200), or waits for bytes (202)."""

    applied: bool
    missing_log_from: int | None = None
    """The offset from which log bytes are missing."""
    missing_artifacts: list[str] = msgspec.field(default_factory=list)


class Leave(Ask, frozen=True, kw_only=True):
    """The agent ends; what becomes of its jobs is said."""

    session: Number
    on_stop: OnStop
