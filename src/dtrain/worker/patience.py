"""What a worker asks again, and for how long: the one place that decides it.

    outcome                         register, poll, offer    reports about an attempt
    no answer, 5xx, 429, 408        again                    again, for 7 days
    401                             Unauthorized             again: the agent enrols anew meanwhile
    409 `stale`, 410, 404           the error itself         StaleAttempt
    409 `superseded`                Superseded               Superseded
    416 `log_gap`                   -                        no error: the log goes on elsewhere
    any other refusal               the error itself         the error itself

Between two tries lies a random time below a bound that doubles from 0.2 s up to 10 s for polls
and 60 s for reports (full jitter), or what the server asked for in Retry-After if that is longer.
Reports of checkpoints are given up sooner, since a newer one is worth more than this one, but for
the last, which waits for a server that is away as long as the end does; with them 404 is the error
itself, since an older server knows nothing of them.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from threading import Event
from typing import TypeVar

import msgspec

from dtrain.protocol.errors import (
    DTrainError,
    NotFound,
    Unauthorized,
    Unavailable,
    Unreachable,
)

T = TypeVar("T")

FIRST_PAUSE = 0.2
"""Seconds: the bound of the first pause."""
LONGEST_REQUESTED_PAUSE = 600.0
"""Seconds that a server's Retry-After is believed."""


class Stopped(Exception):
    """The agent ends; nothing is known about what was asked."""


class Fault(DTrainError):
    """The worker itself has failed; another agent may fare better."""

    code = "fault"


class Superseded(DTrainError):
    """A newer session of this worker has taken over; this agent must stop, its jobs go on."""

    status = 409
    code = "superseded"


class StaleAttempt(DTrainError):
    """The attempt no longer counts: kill it and forget it."""

    status = 409
    code = "stale"


class Patience(msgspec.Struct, frozen=True):
    """How long a kind of call is tried again."""

    longest_pause: float
    """Seconds."""
    total: float = math.inf
    """Seconds after which the last error is raised."""
    silent: float | None = None
    """Seconds instead, as long as there is no answer at all; then `total` counts from the first."""
    report: bool = False
    """Whether the call is about an attempt."""
    known: bool = True
    """Whether every server knows such a call, so that 404 says something of the attempt."""


POLL = Patience(longest_pause=10.0)
OFFER = Patience(longest_pause=10.0, total=60.0)
REPORT = Patience(longest_pause=60.0, total=7 * 86400.0, report=True)
CHECKPOINT = Patience(longest_pause=5.0, total=10.0, report=True, known=False)
LAST_CHECKPOINT = Patience(
    longest_pause=10.0, total=300.0, silent=REPORT.total, report=True, known=False
)
RESTORING = Patience(longest_pause=60.0, total=7 * 86400.0, report=True, known=False)


def persist(
    ask: Callable[[], T],
    patience: Patience,
    stop: Event,
    tell: Callable[[DTrainError | None], None],
) -> T:
    """Ask until there is an answer, a refusal that stands, or an end to patience.

    Args:
        ask: asks once.
        patience: how long it is tried.
        stop: set when the agent ends.
        tell: called with every error that is borne, and with None after the answer.

    Raises:
        Stopped: the agent ends.
        DTrainError: the refusal, or the last error.
    """
    began = time.monotonic()
    deadline = began + patience.total
    bound = FIRST_PAUSE
    while not stop.is_set():
        try:
            answer = ask()
        except DTrainError as error:
            now = time.monotonic()
            if isinstance(error, Unreachable) and patience.silent is not None:
                deadline = min(now, began + patience.silent) + patience.total
            if not _is_borne(error, patience) or now > deadline:
                meaning = _meaning(error, patience)
                if meaning is error:
                    raise
                raise meaning from error
            tell(error)
            asked_for = min(error.retry_after or 0.0, LONGEST_REQUESTED_PAUSE)
            stop.wait(max(random.uniform(0, bound), asked_for))  # noqa: S311 - jitter
            bound = min(bound * 2, patience.longest_pause)
        else:
            tell(None)
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
    missing = isinstance(error, NotFound) and patience.known
    gone = error.code == "stale" or error.status == 410 or missing
    return StaleAttempt(error.detail) if gone and patience.report else error
