"""The words for where a job is, and for how it ended."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """Where a job is, as a person asks it."""

    PENDING = "pending"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """Whether a job in this status never changes again."""
        return self in FINAL


FINAL = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})


class Sort(StrEnum):
    """The order of a list of jobs."""

    NEWEST = "newest"
    OLDEST = "oldest"
    PRIORITY = "priority"
    """The highest first, among equals the newest."""
    LONGEST = "longest"
    """The running ones, the longest first."""


class Phase(StrEnum):
    """What is going on inside a status; a job in a final status has none."""

    QUEUED = "queued"
    OFFERED = "offered"
    RETRY_WAIT = "retry_wait"
    PREPARING = "preparing"
    EXECUTING = "executing"
    FINISHING = "finishing"
    CANCELLING = "cancelling"
    UNREACHABLE = "unreachable"


class Reason(StrEnum):
    """Why a job did not complete. Retry rules match on these words: they are never renamed."""

    EXIT_NONZERO = "exit_nonzero"
    SIGNAL = "signal"
    OUT_OF_MEMORY = "out_of_memory"
    TIME_LIMIT = "time_limit"
    ENVIRONMENT_FAILED = "environment_failed"
    IMAGE_FAILED = "image_failed"
    BUNDLE_INVALID = "bundle_invalid"
    ENTRY_MISSING = "entry_missing"
    DISK_FULL = "disk_full"
    START_FAILED = "start_failed"
    WORKER_LOST = "worker_lost"
    POISON = "poison"
    USER = "user"


class Cause(StrEnum):
    """What a worker says ended an attempt; `rules.endings` makes a status and a reason of it."""

    EXITED = "exited"
    OUT_OF_MEMORY = "out_of_memory"
    TIME_LIMIT = "time_limit"
    CANCELLED = "cancelled"
    HANDED_BACK = "handed_back"
    ENVIRONMENT_FAILED = "environment_failed"
    IMAGE_FAILED = "image_failed"
    BUNDLE_INVALID = "bundle_invalid"
    ENTRY_MISSING = "entry_missing"
    DISK_FULL = "disk_full"
    START_FAILED = "start_failed"
    SHIM_LOST = "shim_lost"


class Executor(StrEnum):
    """The ways in which a job can be asked to run."""

    AUTO = "auto"
    VENV = "venv"
    DOCKER = "docker"


class OnPartition(StrEnum):
    """What a job's worker does with it while it cannot reach the server."""

    KEEP = "keep"
    STOP = "stop"


class OnStop(StrEnum):
    """What a worker that is told to stop does with the jobs it runs."""

    DRAIN = "drain"
    HAND_BACK = "hand_back"
    LEAVE = "leave"


class Outcome(StrEnum):
    """What became of an answer that was given on a worker's page."""

    DONE = "done"
    WRONG_CODE = "wrong_code"
    TOO_MANY_TRIES = "too_many_tries"
    REFUSED = "refused"
