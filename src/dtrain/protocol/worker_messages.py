"""The messages between a worker and its server, both ways. Durations are seconds."""

from __future__ import annotations

from typing import Annotated

import msgspec

from .checkpoints import LONGEST_PATH, MOST_FILES
from .messages import (
    Answer,
    Ask,
    BundleInfo,
    CheckpointFile,
    Count,
    DeclineReason,
    Sha256,
    WorkerMetrics,
)
from .resources import Capacity
from .spec import JobSpec
from .states import Cause, OnStop, Outcome, Phase

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
    credential: Secret | None = None
    """At enrolment: the token that the worker has made for itself. Repeated with the same one, an
    enrolment is answered alike. None lets the server make it."""


class Registered(Answer, frozen=True, kw_only=True):
    """The worker is known from now on."""

    worker_id: str
    credential: str | None
    """The worker's own token, at enrolment only."""
    session: Number
    lease: float
    """Seconds for which an attempt is the worker's after each poll."""


class AttemptUsage(Ask, frozen=True, kw_only=True):
    """What all processes of an attempt use of their worker together."""

    cpu_time: Annotated[float, msgspec.Meta(ge=0)]
    """Seconds of processors since the attempt began."""
    memory: Count
    """Bytes, without those of files that were read."""
    gpus: Annotated[list[dict[str, float]], msgspec.Meta(max_length=64)] = msgspec.field(
        default_factory=list
    )
    """For each of its GPUs what `WorkerMetrics.gpus` says of one."""


class AttemptReport(Ask, frozen=True, kw_only=True):
    """An attempt that is alive on the worker."""

    job_id: int
    attempt: Number
    secret: Secret
    phase: Phase
    """`cancelling` once the worker acts on a cancel."""
    usage: AttemptUsage | None = None
    """None if nothing of it runs, or nothing is known."""


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
    max_offers: Annotated[int, msgspec.Meta(ge=1, le=200)] = 20
    """How many offers the worker wants open at a time."""
    answer_on_page: bool = False
    """Whether the owner may answer offers on the worker's page."""
    answers: list[str] = msgspec.field(default_factory=list)
    """The answers from the page that the worker is at."""


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
    retry_of: int | None = None
    """The job that it repeats."""


class OfferList(Answer, frozen=True, kw_only=True):
    """The jobs that are before a worker's owner."""

    offers: list[Offer]


class PageAnswer(Answer, frozen=True, kw_only=True):
    """An answer that somebody gave on the worker's page; the worker finds out whether its owner."""

    id: str
    job_id: int
    accept: bool
    reason: str | None
    proof: str
    """Of `consent.prove`."""


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
    secret_spent: bool = False
    """The attempt with the next secret is over, whether or not the worker had it: mint another."""
    answers: list[PageAnswer] = msgspec.field(default_factory=list)
    """All that were given on the worker's page and that it has not settled."""


class OfferReply(Ask, frozen=True, kw_only=True):
    """The owner's word on an offer."""

    session: Number
    accept: bool
    secret: Secret
    """The attempt's, if this is a yes."""
    reason: DeclineReason | None = None


class OfferAnswer(Answer, frozen=True, kw_only=True):
    """The claim that an accepted offer is; None after a decline."""

    assignment: Assignment | None


class AnswerOutcome(Ask, frozen=True, kw_only=True):
    """What the worker made of an answer from its page."""

    outcome: Outcome
    detail: Annotated[str, msgspec.Meta(max_length=2000)] | None = None
    """Why not, as a sentence, where it was refused."""


class PhaseReport(Ask, frozen=True, kw_only=True):
    """An attempt goes on to `preparing`, `executing` or `cancelling`."""

    phase: Annotated[
        Phase,
        msgspec.Meta(
            extra_json_schema={"enum": [Phase.PREPARING, Phase.EXECUTING, Phase.CANCELLING]}
        ),
    ]


class LogAnswer(Answer, frozen=True, kw_only=True):
    """How far the log is stored, durably."""

    offset: int


class ArtifactInfo(Ask, frozen=True, kw_only=True):
    """A file that a job left behind, as its worker found it."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]
    size: Count
    sha256: Sha256


class CheckpointFileInfo(Ask, frozen=True, kw_only=True):
    """A file in a job's checkpoint folder, as its worker found it."""

    path: Annotated[str, msgspec.Meta(min_length=1, max_length=LONGEST_PATH)]
    size: Count
    sha256: Sha256
    mode: Annotated[int, msgspec.Meta(ge=0, le=0o777)]
    """Its permission bits."""


class Generation(Ask, frozen=True, kw_only=True):
    """All that was in a job's checkpoint folder at one moment, to be kept as a whole."""

    number: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)]
    """One more than that of the newest that the server has."""
    files: Annotated[list[CheckpointFileInfo], msgspec.Meta(min_length=1, max_length=MOST_FILES)]
    """By path."""


class GenerationAnswer(Answer, frozen=True, kw_only=True):
    """Whether a generation is kept; if nothing is missing and it is not, its number was wrong."""

    kept: bool
    """It is what the next attempt goes on from; also where the newest one held the same already."""
    newest: int
    """The number of the newest that is kept; 0 if there is none."""
    missing: list[Sha256]
    """The contents that have to be sent before."""


class KeptGeneration(Answer, frozen=True, kw_only=True):
    """A generation that the server has."""

    number: int
    attempt: Number
    """The attempt that left it."""
    files: list[CheckpointFile]


class KeptGenerations(Answer, frozen=True, kw_only=True):
    """What a job's attempt can go on from."""

    generations: list[KeptGeneration]
    """The newest first."""
    limit: int
    """Bytes that a generation may have."""


class Claim(Ask, frozen=True, kw_only=True):
    """A worker wants another job in the place of the one that has ended there."""

    session: Number
    secret: Secret
    """Of the attempt that this may bring, as `next_secret` of a poll; of no poll the same."""


LONGEST_TAIL = 1 << 16
"""Bytes of a log at most that come with the end."""


class Finish(Ask, frozen=True, kw_only=True, omit_defaults=True):
    """How an attempt ended. Repeating it is harmless; a different one is refused."""

    cause: Cause
    exit_code: Number | None = None
    signal: Number | None = None
    message: Annotated[str, msgspec.Meta(max_length=2000)] | None = None
    """What went wrong, as a sentence; for the causes that need more than their name."""
    peak_memory: Count | None = None
    """Bytes."""
    memory_limit: Count | None = None
    """Bytes that it might use on this worker; None if all that there were."""
    duration: Annotated[float, msgspec.Meta(ge=0)] | None = None
    """Seconds in which user code ran."""
    traceback: Annotated[str, msgspec.Meta(max_length=10_000)] | None = None
    log_bytes: Count = 0
    log_tail: Annotated[bytes, msgspec.Meta(max_length=LONGEST_TAIL)] = b""
    """The last of these bytes, as many as come with this; in repetitions there may be others."""
    artifacts: list[ArtifactInfo] = msgspec.field(default_factory=list)
    claim: Claim | None = None
    """Asks for the next job; in repetitions it may be another. None leaves that to the polls."""


class FinishAnswer(Answer, frozen=True, kw_only=True):
    """Whether the end is applied (200), or waits for bytes (202); bytes may be missed in both."""

    applied: bool
    missing_log_from: int | None = None
    """The offset from which log bytes are missing."""
    missing_artifacts: list[str] = msgspec.field(default_factory=list)
    assignment: Assignment | None = None
    """What a claim brings, once the end is applied."""
    secret_spent: bool = False
    """The attempt with the claim's secret is over, as in the answer to a poll."""


class Leave(Ask, frozen=True, kw_only=True):
    """The agent ends; what becomes of its jobs is said."""

    session: Number
    on_stop: OnStop
