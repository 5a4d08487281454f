"""What happens to jobs without anybody asking: leases run out, delays end, offers are taken back.

One thread in each server process, which does nothing else: a tick that is late or fails means that
workers could not be heard, and only then. Everything it does is compare-and-set on what it has
read, so that several processes may do it at once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from dtrain.protocol.errors import Conflict, DTrainError, Unavailable

from .jobs import claim, finish, presence
from .jobs.advancing import advanced
from .rules.leases import GIVE_UP, LEASE, PATIENCE
from .rules.lifecycle import OutOfReach, RetryDue, is_due
from .store import attempts, jobs
from .store.due import due

if TYPE_CHECKING:
    from .services import Services

_TICK = 1.0
_LATE = 15.0
"""Seconds by which a tick is late once the server itself must have been away."""
_JUMP = 5.0
"""Seconds by which the clock may drift from the monotonic one between two ticks."""
_LIMIT = 200
"""Rows dealt with at one tick, so that a tick stays short."""

_log = logging.getLogger(__name__)


class Background:
    """The thread, with what it remembers between ticks."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._thread = threading.Thread(target=self._run, name="background", daemon=True)
        self._clock = services.clock.time()
        self._monotonic = services.clock.monotonic()
        self._failed = False
        """Whether the database took nothing at the last tick, and so no poll either."""

    def start(self) -> None:
        """Extend every lease, since no worker was heard while the server was away; then tick."""
        self._extend("The server has started")
        self._thread.start()

    def stop(self) -> None:
        """Wait for the tick under way; `services.stop` has been set."""
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._services.stop.wait(_TICK):
            self.tick()

    def tick(self) -> None:
        """Do what is due now."""
        try:
            self._services.clock.look()
            self._notice_absence()
            self._failed = False
            self._do_what_is_due()
        except DTrainError as error:
            self._failed = True
            _log.warning("The background work waits: %s", error)
        except Exception:  # the thread must outlive whatever one tick meets
            _log.exception("A tick of the background work failed.")

    def _do_what_is_due(self) -> None:
        services = self._services
        now = services.clock.time()
        with services.database.read() as connection:
            found = due(connection, now, _LIMIT)
        for job_id, number in found.lost:
            self._apart(_give_up, job_id, number, now)
        for job_id, number in found.silent:
            self._apart(_out_of_reach, job_id, number, now)
        for job_id, number in found.overdue:
            self._apart(_settle_anyway, job_id, number, now)
        for job_id in found.retries:
            self._apart(_retry_due, job_id, now)
        for worker_id in found.unseen:
            self._apart(_withdraw, worker_id, now)

    def _apart(self, work: Callable[..., None], *arguments: object) -> None:
        """Do one thing in a transaction of its own; another process may have done it already.

        Raises:
            Unavailable: the database takes nothing now.
        """
        try:
            self._services.database.write(lambda connection: work(connection, *arguments))
        except Conflict:
            _log.debug("Another process was faster.", exc_info=True)
        except Unavailable:
            raise
        except Exception:  # whatever is wrong with one thing must not keep others from being done
            _log.exception("%s%s failed.", work.__name__, arguments)

    def _notice_absence(self) -> None:
        """Extend leases instead of reaping after a time in which no worker could be heard."""
        clock, monotonic = self._services.clock.time(), self._services.clock.monotonic()
        passed, passed_by_clock = monotonic - self._monotonic, clock - self._clock
        self._clock, self._monotonic = clock, monotonic
        if passed > _TICK + _LATE:
            self._extend(f"The server was paused for {passed:.0f} s")
        elif self._failed:
            self._extend("The database could not be written")
        elif abs(passed_by_clock - passed) > _JUMP:
            self._extend(f"The clock jumped by {passed_by_clock - passed:.0f} s")

    def _extend(self, why: str) -> None:
        now = self._services.clock.time()
        extended = self._services.database.write(lambda c: attempts.extend_leases(c, now))
        if extended:
            _log.info("%s: %d leases extended.", why, extended)


def _out_of_reach(connection: sa.Connection, job_id: int, number: int, now: float) -> None:
    job = jobs.lock(connection, job_id)
    attempt = attempts.lock(connection, job_id, number)
    if job is None or attempt is None or job.attempt != number:
        return
    if attempt.state not in attempts.HOLDING or attempt.lease_until >= now:
        return
    advanced(connection, job, OutOfReach(), now)


def _give_up(connection: sa.Connection, job_id: int, number: int, now: float) -> None:
    """The lease is long over. The attempt stays open: its worker may come back with it."""
    job = jobs.lock(connection, job_id)
    attempt = attempts.lock(connection, job_id, number)
    if job is None or attempt is None or attempt.state not in attempts.HOLDING:
        return
    if attempt.lease_until >= now - GIVE_UP + LEASE:
        return
    presence.give_up(connection, attempt, now, may_return=True)


def _settle_anyway(connection: sa.Connection, job_id: int, number: int, now: float) -> None:
    jobs.lock(connection, job_id)
    attempt = attempts.lock(connection, job_id, number)
    if attempt is None or attempt.finish_at is None or attempt.finish_at >= now - PATIENCE:
        return
    finish.settle(connection, job_id, number, now, give_up=True)


def _withdraw(connection: sa.Connection, worker_id: str, now: float) -> None:
    claim.withdraw(connection, now, worker_id=worker_id)


def _retry_due(connection: sa.Connection, job_id: int, now: float) -> None:
    job = jobs.lock(connection, job_id)
    if job is None or not is_due(job.not_before, now):
        return
    advanced(connection, job, RetryDue(), now)
