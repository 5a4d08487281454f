"""Attempts as their workers know them, and what is told of them to a server."""

from __future__ import annotations

import hashlib
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from typing import Any, TypeVar

import msgspec

from dtrain.protocol.errors import Conflict
from dtrain.protocol.states import Cause
from dtrain.protocol.worker_messages import ArtifactInfo, Assignment, Claim, Finish
from dtrain.server.jobs import finish, report
from dtrain.server.jobs.fencing import AttemptRef
from dtrain.server.services import Services

from .queue import Hand

T = TypeVar("T")


def outcome(call: Callable[[], T]) -> T | Conflict:
    """What a call gives, or how it is refused."""
    try:
        return call()
    except Conflict as error:
        return error


@dataclass
class Way:
    """The way to a server."""

    server: Services
    told: Counter[str]
    """How often each fault was done."""
    is_known: bool
    """Whether the server still has the job."""


@dataclass
class Run:
    """An attempt, as its worker knows it. What a server says of it is checked."""

    hand: Hand
    ref: AttemptRef
    log: bytes = b""
    """What the job has printed."""
    acknowledged: int = 0
    left: dict[str, bytes] = field(default_factory=dict)
    """The files of its output folder."""
    stored: dict[str, str] = field(default_factory=dict)
    """The hashes of those that the server has acknowledged."""
    end: Finish | None = None
    recorded: bool = False
    """Whether the server has acknowledged the end."""
    next_secret: str = field(default_factory=lambda: secrets.token_urlsafe(32))
    """With which the next job is asked for, as often as the end is told."""

    @property
    def key(self) -> tuple[int, int]:
        """Job and number of the attempt."""
        return self.ref.job_id, self.ref.attempt

    def print(self, text: bytes, step: int) -> None:
        """Print something, and a record whose line is not ended yet."""
        self.log += text + b'\nPROGRESS: {"step": %d}' % step

    def come_to_end(self, how: dict[str, Any]) -> None:
        """The job ends; nothing of it changes after that."""
        if self.end is not None:
            return
        if how["cause"] is Cause.HANDED_BACK:
            self.left = {}
        named = [
            ArtifactInfo(path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest())
            for path, data in self.left.items()
        ]
        self.end = Finish(**how, log_bytes=len(self.log), artifacts=named)

    def send_log(self, way: Way, shift: int, length: int) -> None:
        """Send bytes that begin before (`shift` below 0) or behind the place that is wanted."""
        offset = max(self.acknowledged + shift, 0)
        data = self.log[offset : offset + length]
        answer = outcome(lambda: report.append_log(way.server, self.ref, offset, data))
        if not way.is_known:
            assert isinstance(answer, Conflict)
            assert (answer.code, answer.status) == ("stale", 410)
        elif isinstance(answer, Conflict):
            assert shift > 0
            assert (answer.code, answer.offset) == ("log_gap", self.acknowledged)
            way.told["log bytes out of order"] += 1
        else:
            assert shift <= 0
            way.told["log bytes sent twice"] += offset < self.acknowledged
            self.acknowledged = max(self.acknowledged, offset + len(data))
            assert answer.offset == self.acknowledged

    def send_files(self, way: Way) -> None:
        """Send the files of the output folder."""
        for path, content in self.left.items():
            sha256 = hashlib.sha256(content).hexdigest()
            answer = outcome(
                partial(report.put_artifact, way.server, self.ref, path, sha256, BytesIO(content))
            )
            if answer is None:
                self.stored[path] = sha256
            else:
                assert answer.code == "stale"
                assert not (self.recorded and way.is_known), "a file of a recorded end was refused"

    def tell_end(self, way: Way, claim: Claim | None) -> Assignment | None:
        """Report the end, if there is one, for the first time or once more; what a claim brings."""
        if self.end is None:
            return None
        end = msgspec.structs.replace(self.end, claim=claim)
        answer = outcome(lambda: finish.finish(way.server, self.ref, end))
        if isinstance(answer, Conflict):
            assert answer.code == "stale"
            assert not (self.recorded and way.is_known), "an end was taken and forgotten"
        else:
            way.told["end told twice"] += self.recorded
            self.recorded = True
        if isinstance(answer, Conflict) or answer.applied:
            self.hand.attempts.pop(self.key, None)
        return None if isinstance(answer, Conflict) else answer.assignment

    def tell_another_end(self, way: Way) -> None:
        """Report an end again, but another one."""
        assert self.end is not None
        other = msgspec.structs.replace(self.end, exit_code=77)
        answer = outcome(lambda: finish.finish(way.server, self.ref, other))
        assert isinstance(answer, Conflict), "a second, different end was taken"
        assert answer.code == ("different" if way.is_known else "stale")
        way.told["second, different end"] += 1
