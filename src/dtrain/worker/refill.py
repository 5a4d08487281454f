"""Asking for the next job with the end of one, which spares the worker a poll between them."""

from __future__ import annotations

import logging
from collections.abc import Callable

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.worker_messages import Assignment, Claim, FinishAnswer

from .console import Console
from .spool import WorkerFolder
from .supervision import since_boot

log = logging.getLogger(__name__)


class Refill:
    """Fills the place of an attempt that has ended. Threads may share it.

    Args:
        folder: of the worker.
        session: in which further jobs are taken without a question; None while none are.
        begin: starts an attempt: assignment, secret, and when the server was asked for it, in
            seconds since the machine's start.
        console: for what cannot be taken.
    """

    def __init__(
        self,
        folder: WorkerFolder,
        session: Callable[[], int | None],
        begin: Callable[[Assignment, str, float], None],
        console: Console,
    ) -> None:
        self._folder = folder
        self._session = session
        self._begin = begin
        self._console = console

    def told(self, tell: Callable[[Claim | None], FinishAnswer]) -> FinishAnswer:
        """Have an end told, with a claim if another job is wanted, and begin what that brings."""
        session = self._session()
        secret = None if session is None else self._lent()
        if session is None or secret is None:
            return tell(None)
        asked = since_boot()
        try:
            answer = tell(Claim(session=session, secret=secret))
            if answer.assignment is not None:
                self._take(answer.assignment, secret, asked)
            elif answer.secret_spent:
                self._folder.secrets.forget(secret)
        finally:
            self._folder.secrets.take_back(secret)
        return answer

    def _lent(self) -> str | None:
        """A secret to ask with; None if the disk does not let us have one."""
        try:
            return self._folder.secrets.lend()
        except OSError as error:
            log.warning("No job can be taken: %s cannot be written (%s).", self._folder.path, error)
            return None

    def _take(self, assignment: Assignment, secret: str, asked: float) -> None:
        if self._session() is None:
            log.info("Job %d came too late: none is taken any more.", assignment.job_id)
            return
        try:
            self._begin(assignment, secret, asked)
        except (DTrainError, OSError) as error:
            self._console.say(f"Job {assignment.job_id} cannot be taken: {error}")
            self._folder.secrets.forget(secret)
