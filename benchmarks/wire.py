"""A worker that speaks the real protocol and runs nothing: for what hundreds of them cost."""

from __future__ import annotations

import secrets

from dtrain.client.transport import Transport
from dtrain.protocol import routes
from dtrain.protocol.messages import WorkerMetrics
from dtrain.protocol.resources import Capacity
from dtrain.protocol.states import Cause, Executor
from dtrain.protocol.worker_messages import (
    PROTOCOL,
    Assignment,
    Finish,
    Poll,
    PollAnswer,
    Register,
    Registered,
)

CAPACITY = Capacity(
    slots=1, cpus=8.0, memory=32 * 1024**3, executors=[Executor.VENV], pythons=["3.11.7"]
)
_METRICS = WorkerMetrics(cpu_percent=12.0, memory_used=1024**3, memory_total=32 * 1024**3)


def new_secret() -> str:
    """What a worker mints for its next attempt."""
    return secrets.token_urlsafe(32)


def bearer(token: str) -> dict[str, str]:
    """The header by which a worker is known."""
    return {"Authorization": f"Bearer {token}"}


def register(name: str) -> Register:
    """How a worker enrols."""
    return Register(
        protocol=PROTOCOL,
        version="0.1.0",
        name=name,
        hostname="bench.example",
        worker_id=None,
        boot_id="boot",
        capacity=CAPACITY,
        asks=False,
    )


def poll(session: int, number: int, wait: float, secret: str, *, draining: bool = False) -> Poll:
    """A poll of a worker on which nothing runs."""
    return Poll(
        session=session,
        number=number,
        wait=wait,
        capacity=CAPACITY,
        metrics=_METRICS,
        attempts=[],
        next_secret=secret,
        asks=False,
        draining=draining,
    )


def finish(log_bytes: int = 0) -> Finish:
    """How an attempt ends that has done nothing."""
    return Finish(cause=Cause.EXITED, exit_code=0, duration=0.0, log_bytes=log_bytes)


class WireWorker:
    """One worker, one call at a time."""

    def __init__(self, url: str, token: str, name: str) -> None:
        self.transport = Transport(url)
        answer = self.transport.request(
            "POST", routes.REGISTER, message=register(name), headers=bearer(token)
        ).decode(Registered)
        self.id = answer.worker_id
        self._headers = bearer(answer.credential or "")
        self._session = answer.session
        self._number = 0
        self._secret = new_secret()

    def poll(self, *, draining: bool = False) -> Assignment | None:
        """Ask without waiting; what comes is the worker's until it is finished."""
        self._number += 1
        message = poll(self._session, self._number, 0.0, self._secret, draining=draining)
        answer = self.transport.request("POST", routes.POLL, message=message, headers=self._headers)
        return answer.decode(PollAnswer).assignment

    def append(self, assignment: Assignment, offset: int, data: bytes) -> None:
        """Bring log bytes."""
        place = routes.path(
            routes.ATTEMPT_LOG, job_id=assignment.job_id, attempt=assignment.attempt
        )
        self.transport.request(
            "POST", place, query={"offset": offset}, body=data, headers=self._secretly()
        )

    def finish(self, assignment: Assignment, log_bytes: int = 0) -> None:
        """End what was assigned; the next poll comes with another secret."""
        place = routes.path(
            routes.ATTEMPT_FINISH, job_id=assignment.job_id, attempt=assignment.attempt
        )
        self.transport.request("POST", place, message=finish(log_bytes), headers=self._secretly())
        self._secret = new_secret()

    def _secretly(self) -> dict[str, str]:
        return {**self._headers, routes.SECRET_HEADER: self._secret}
