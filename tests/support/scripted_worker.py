"""A worker that does what a test tells it, over the real protocol: no process, no environment."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

from dtrain.client.transport import Transport
from dtrain.protocol import routes
from dtrain.protocol.messages import WorkerMetrics
from dtrain.protocol.resources import Capacity
from dtrain.protocol.states import Cause, Executor, Phase
from dtrain.protocol.worker_messages import (
    PROTOCOL,
    ArtifactInfo,
    Assignment,
    AttemptReport,
    Command,
    Finish,
    PhaseReport,
    Poll,
    PollAnswer,
    Register,
    Registered,
)

from .processes import RunningServer, wait_for


class ScriptedWorker:
    """Enrolled with a server from the start; takes jobs one after the other."""

    def __init__(self, server: RunningServer, name: str = "scripted") -> None:
        self.transport = Transport(server.url)
        self._capacity = Capacity(
            slots=4, cpus=4.0, memory=8 * 1024**3, executors=[Executor.VENV], pythons=["3.11.7"]
        )
        register = Register(
            protocol=PROTOCOL,
            version="0.1.0",
            name=name,
            hostname="host.example",
            worker_id=None,
            boot_id="boot",
            capacity=self._capacity,
            asks=False,
        )
        answer = self.transport.request(
            "POST", routes.REGISTER, message=register, headers=_bearer(server.token)
        ).decode(Registered)
        assert answer.credential is not None
        self.headers = _bearer(answer.credential)
        self._session = answer.session
        self._number = 0
        self._attempts: dict[int, Attempt] = {}

    def take(self) -> Attempt:
        """Wait for the next job."""
        return wait_for(self._ask, "a job to be assigned")

    def commands(self) -> list[Command]:
        """What the server wants done about the attempts."""
        return self._poll(secrets.token_urlsafe(32)).commands

    def forget(self, attempt: Attempt) -> None:
        """Poll without the attempt from now on."""
        del self._attempts[attempt.job_id]

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()

    def _ask(self) -> Attempt | None:
        secret = secrets.token_urlsafe(32)
        assignment = self._poll(secret, wait=1.0).assignment
        if assignment is None:
            return None
        attempt = Attempt(self, assignment, secret)
        self._attempts[attempt.job_id] = attempt
        return attempt

    def _poll(self, secret: str, wait: float = 0.0) -> PollAnswer:
        self._number += 1
        poll = Poll(
            session=self._session,
            number=self._number,
            wait=wait,
            capacity=self._capacity,
            metrics=WorkerMetrics(cpu_percent=12.0, memory_used=1024**3, memory_total=8 * 1024**3),
            attempts=[attempt.report() for attempt in self._attempts.values()],
            next_secret=secret,
            asks=False,
        )
        answer = self.transport.request("POST", routes.POLL, message=poll, headers=self.headers)
        return answer.decode(PollAnswer)


@dataclass
class Attempt:
    """A job that is the worker's, to be played through."""

    worker: ScriptedWorker
    assignment: Assignment
    secret: str
    phase: Phase = Phase.PREPARING
    offset: int = 0
    artifacts: list[ArtifactInfo] = field(default_factory=list)

    @property
    def job_id(self) -> int:
        """Which job."""
        return self.assignment.job_id

    def report(self) -> AttemptReport:
        """How it is told in a poll."""
        return AttemptReport(
            job_id=self.job_id,
            attempt=self.assignment.attempt,
            secret=self.secret,
            phase=self.phase,
        )

    def go_on(self, phase: Phase = Phase.EXECUTING) -> None:
        """Report a phase."""
        self.phase = phase
        self._send("POST", routes.ATTEMPT_PHASE, message=PhaseReport(phase=phase))

    def log(self, data: bytes) -> None:
        """Append to the log."""
        self._send("POST", routes.ATTEMPT_LOG, query={"offset": self.offset}, body=data)
        self.offset += len(data)

    def leave(self, path: str, content: bytes) -> None:
        """Leave an artifact."""
        digest = hashlib.sha256(content).hexdigest()
        query = {"sha256": digest}
        self._send("PUT", routes.ATTEMPT_ARTIFACT, path=path, query=query, body=content)
        self.artifacts.append(ArtifactInfo(path=path, size=len(content), sha256=digest))

    def finish(
        self,
        cause: Cause = Cause.EXITED,
        exit_code: int | None = 0,
        *,
        message: str | None = None,
        traceback: str | None = None,
    ) -> None:
        """End it."""
        self.worker.forget(self)
        finish = Finish(
            cause=cause,
            exit_code=exit_code,
            message=message,
            traceback=traceback,
            peak_memory=123 * 1024**2,
            duration=1.0,
            log_bytes=self.offset,
            artifacts=self.artifacts,
        )
        self._send("POST", routes.ATTEMPT_FINISH, message=finish)

    def _send(self, method: str, template: str, *, path: str = "", **request: object) -> None:
        place = routes.path(
            template, job_id=self.job_id, attempt=self.assignment.attempt, path=path
        )
        headers = {**self.worker.headers, routes.SECRET_HEADER: self.secret}
        self.worker.transport.request(method, place, headers=headers, **request)  # type: ignore[arg-type]  # as named


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}
