"""What the end of an attempt means: from a worker's cause to a status, a reason and a sentence."""

from __future__ import annotations

import signal

import msgspec

from dtrain.protocol.progress import parse_progress
from dtrain.protocol.states import Cause, Reason, Status
from dtrain.protocol.worker_messages import Finish


class Ending(msgspec.Struct, frozen=True):
    """How a job ends, if this is its end."""

    status: Status
    reason: Reason | None = None
    message: str | None = None
    own_fault: bool = False
    """Whether the job's own code failed, so that `max_retries` applies."""
    may_pass: bool = False
    """Whether the worker could not even start it, so that another try may go well."""


_FAILURES: dict[Cause, tuple[Reason, str]] = {
    Cause.TIME_LIMIT: (Reason.TIME_LIMIT, "The job reached its time limit."),
    Cause.ENVIRONMENT_FAILED: (
        Reason.ENVIRONMENT_FAILED,
        "The requirements could not be installed; the log says which and why.",
    ),
    Cause.IMAGE_FAILED: (
        Reason.IMAGE_FAILED,
        "The container image could not be had; the log says why.",
    ),
    Cause.BUNDLE_INVALID: (Reason.BUNDLE_INVALID, "The bundle could not be unpacked."),
    Cause.ENTRY_MISSING: (Reason.ENTRY_MISSING, "The entry is not in the bundle."),
    Cause.DISK_FULL: (Reason.DISK_FULL, "The worker's disk is full."),
    Cause.START_FAILED: (Reason.START_FAILED, "The worker could not start the job."),
}


BUNDLE_LOST = "The server has lost the job's bundle; look at its storage, and submit the job again."


def ending_of(finish: Finish, memory_limit: int | None, time_limit: float | None) -> Ending:
    """The ending that a finish stands for.

    Args:
        finish: the worker's word.
        memory_limit: of the job, in bytes, if it has one.
        time_limit: of the job, in seconds, if it has one.
    """
    if finish.cause is Cause.EXITED:
        return _exited(finish)
    if finish.cause is Cause.CANCELLED or finish.cause is Cause.HANDED_BACK:
        return Ending(Status.CANCELLED, Reason.USER, "The job was cancelled.")
    if finish.cause is Cause.OUT_OF_MEMORY:
        return Ending(
            Status.FAILED,
            Reason.OUT_OF_MEMORY,
            _memory_message(finish, memory_limit),
            own_fault=True,
        )
    if finish.cause is Cause.SHIM_LOST:
        return Ending(Status.FAILED, Reason.WORKER_LOST, "The job's supervisor was lost.")
    reason, message = _FAILURES[finish.cause]
    if finish.cause is Cause.TIME_LIMIT and time_limit is not None:
        message = f"The job reached its time limit of {time_limit:g} s."
    may_pass = finish.cause is Cause.START_FAILED
    return Ending(Status.FAILED, reason, finish.message or message, may_pass=may_pass)


def _exited(finish: Finish) -> Ending:
    if finish.signal is not None:
        message = f"The job was ended by the signal {_signal_name(finish.signal)}."
        return Ending(Status.FAILED, Reason.SIGNAL, message, own_fault=True)
    if finish.exit_code == 0:
        return Ending(Status.COMPLETED)
    message = f"The job exited with code {finish.exit_code}."
    if said := _last_words(finish.traceback or ""):
        message = f"{message} {said[:500]}"
    return Ending(Status.FAILED, Reason.EXIT_NONZERO, message, own_fault=True)


def _last_words(text: str) -> str:
    """The last line that is no record: those say how far the job was, not why it ended."""
    lines = text.strip().splitlines()
    return next((line for line in reversed(lines) if not parse_progress(line.encode())), "")


def _memory_message(finish: Finish, memory_limit: int | None) -> str:
    parts = ["The job ran out of memory"]
    if finish.peak_memory is not None:
        parts.append(f"at {finish.peak_memory / 1024**3:.2f} GB")
    limit = memory_limit if finish.memory_limit is None else finish.memory_limit
    if limit is not None:
        parts.append(f"with a limit of {limit / 1024**3:.2f} GB")
    return " ".join(parts) + "."


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return str(number)
