"""Brings an attempt's log, and at last how it ended, to the server, until it has all of it."""

from __future__ import annotations

import logging
import time
from functools import partial

import msgspec

from dtrain.protocol.errors import DTrainError, Invalid, Refused
from dtrain.protocol.states import Phase
from dtrain.protocol.worker_messages import (
    LONGEST_TAIL,
    ArtifactInfo,
    Claim,
    Finish,
    FinishAnswer,
)

from . import artifacts
from .link import AttemptRef, Link
from .log_uploader import LogUploader
from .patience import StaleAttempt, Superseded
from .refill import Refill
from .spool import AttemptFolder

log = logging.getLogger(__name__)

REPEAT_PAUSE = 5.0
"""Seconds between two finishes while what is missing cannot be sent."""
REFUSED_PAUSE = 10.0
"""Seconds until something is sent again that the server, or a proxy before it, has refused."""


class Delivery:
    """What the server is told of one attempt. Everything is in its folder first.

    Args:
        folder: of the attempt.
        link: to the server.
        ref: names the attempt to it.
        refill: asks for the next job with the end.
    """

    def __init__(self, folder: AttemptFolder, link: Link, ref: AttemptRef, refill: Refill) -> None:
        self._folder = folder
        self._link = link
        self._ref = ref
        self._refill = refill
        self._log = LogUploader(folder, partial(link.append_log, ref))
        self._log_pauses_until = 0.0
        self._sends_tail = True
        """Whether the last of the log goes with the end."""
        self.untold: Phase | None = None
        """A phase that the server has not heard of; it goes with the log, unless that is silent."""
        self.finish: Finish | None = folder.finish
        """How the attempt ended, once it has."""
        self.reported = False
        """Whether the server has all of it."""

    def say(self, phase: Phase) -> None:
        """Report a phase. That the server will not hear of it is no reason to end a job."""
        try:
            self._link.phase(self._ref, phase)
        except (StaleAttempt, Superseded):
            raise
        except DTrainError as error:
            log.warning("The phase of job %d is not taken: %s", self._ref.job_id, error.detail)

    def say_untold(self) -> None:
        """Report the phase that the server has not heard of, if there is one."""
        if self.untold is not None:
            self.say(self.untold)
            self.untold = None

    def follow_log(self) -> bool:
        """Send some of a log that grows, unless it was refused just now; whether there was any."""
        return time.monotonic() >= self._log_pauses_until and self._send_log()

    def is_nearly_sent(self) -> bool:
        """Whether so little of the log is left that it can go with the end."""
        return self._log.size() - self._log.offset <= LONGEST_TAIL

    def log_size(self) -> int:
        """Bytes of the log on this machine."""
        return self._log.size()

    def close(self) -> None:
        """Let go of the log."""
        self._log.close()

    def keep(self, finish: Finish, *, is_recorded: bool = False) -> None:
        """Write down how the attempt ended; from here on nothing is decided any more.

        Args:
            finish: how it ended.
            is_recorded: whether just this follows from what its shim has written down already.
        """
        self.finish = finish
        if is_recorded:
            return
        try:
            self._folder.save_finish(finish)
        except OSError as error:
            log.warning("How %s ended cannot be written down (%s).", self._folder.path, error)

    def deliver(self) -> None:
        """Report the end until the server has all that belongs to it, or wants no more of it.

        Raises:
            StaleAttempt: the attempt no longer counts.
            Superseded: another agent reports for this worker.
        """
        while self.finish is not None and not self.reported:
            end = self._with_tail(self.finish)
            try:
                answer = self._refill.told(partial(self._tell, end))
            except Superseded:
                raise
            except StaleAttempt:
                if end.log_tail:  # which is kept all the same
                    self._send_log()
                raise
            except Refused as error:
                if end.log_tail:
                    self._sends_tail = False
                    self._send_log()
                    continue
                if error.code == "different":
                    log.error("Job %d has ended otherwise: %s", self._ref.job_id, error.detail)
                    return
                self._bear(error, self.finish)
                continue
            # What was missing when the server lost its patience is sent all the same.
            sent = self._send_missing(answer, self.finish.artifacts)
            self.reported = answer.applied and not sent
            if not (answer.applied or sent):
                self._link.pause(REPEAT_PAUSE)

    def _tell(self, end: Finish, claim: Claim | None) -> FinishAnswer:
        return self._link.finish(self._ref, msgspec.structs.replace(end, claim=claim))

    def _with_tail(self, finish: Finish) -> Finish:
        """An end with what is left of the log, if that is little."""
        if not self._sends_tail:
            return finish
        tail = self._log.rest(finish.log_bytes, LONGEST_TAIL)
        return msgspec.structs.replace(finish, log_tail=tail)

    def _bear(self, error: Refused, finish: Finish) -> None:
        """Make the best of a refused end: the outcome must not be lost with the files."""
        log.error("The server refuses the end of job %d: %s", self._ref.job_id, error.detail)
        if isinstance(error, Invalid) and finish.artifacts:
            self.keep(msgspec.structs.replace(finish, artifacts=[]))
        else:
            self._link.pause(REFUSED_PAUSE)

    def _send_missing(self, answer: FinishAnswer, kept: list[ArtifactInfo]) -> bool:
        """Send what the server misses; whether anything could be sent."""
        sent = False
        if answer.missing_log_from is not None:
            self._log.offset = answer.missing_log_from
            while self._send_log():
                sent = True
        missing = set(answer.missing_artifacts)
        for artifact in kept:
            if artifact.path in missing:
                output = self._folder.output
                sent = artifacts.send(self._link, self._ref, output, artifact) or sent
        return sent

    def _send_log(self) -> bool:
        """Send some of the log; whether that went well and there may be more."""
        try:
            was_sent = self._log.send(self.untold)
        except (StaleAttempt, Superseded):
            raise
        except DTrainError as error:
            log.warning("The log of job %d is not taken: %s", self._ref.job_id, error.detail)
            self._log_pauses_until = time.monotonic() + REFUSED_PAUSE
            return False
        if was_sent:
            self.untold = None
        return was_sent
