"""The use cases on a database, without HTTP, and a worker that calls them by hand."""

from __future__ import annotations

import secrets
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from dtrain.protocol.messages import Job, WorkerMetrics
from dtrain.protocol.resources import Capacity
from dtrain.protocol.states import Cause, Executor, Phase
from dtrain.protocol.worker_messages import (
    PROTOCOL,
    Assignment,
    AttemptReport,
    Claim,
    Finish,
    FinishAnswer,
    Poll,
    PollAnswer,
    Register,
)
from dtrain.server import sessions
from dtrain.server.app import compose
from dtrain.server.background import Background
from dtrain.server.jobs import finish as finishing
from dtrain.server.jobs import report, submit
from dtrain.server.jobs.fencing import AttemptRef
from dtrain.server.services import Clock, Services
from dtrain.server.settings import load


class TestClock(Clock):
    """The time of day, which a test can move."""

    __test__ = False

    def __init__(self) -> None:
        self.passed = 0.0
        """Seconds that passed for the test alone."""
        self.set_ahead = 0.0
        """Seconds by which somebody has set the time of day."""
        self._stands_at: float | None = None
        self._stood = 0.0

    def time(self) -> float:
        """Seconds since the epoch, as the test wants them."""
        return super().time() - super().monotonic() + self.monotonic() + self.set_ahead

    def monotonic(self) -> float:
        """Seconds that have passed, as the test wants them."""
        real = super().monotonic() if self._stands_at is None else self._stands_at
        return real - self._stood + self.passed

    @contextmanager
    def standing(self) -> Iterator[None]:
        """Let time pass for the test alone meanwhile, however slow the machine is."""
        self._stands_at = began = super().monotonic()
        try:
            yield
        finally:
            self._stood += super().monotonic() - began
            self._stands_at = None


@contextmanager
def open_services(home: Path, database_url: str) -> Iterator[Services]:
    """The parts of a server on a database."""
    made = compose(load(home, {"DATABASE_URL": database_url}))
    object.__setattr__(made, "clock", TestClock())
    made.events.start()
    try:
        yield made
    finally:
        made.stop.set()
        made.mailboxes.wake_all()
        made.events.stop()
        made.database.close()


def advance_clock(services: Services, seconds: float) -> None:
    """Let time pass for the server, at once: it takes it for a pause of its own."""
    assert isinstance(services.clock, TestClock)
    services.clock.passed += seconds


def set_clock(services: Services, seconds: float) -> None:
    """Set the server's time of day, by so many seconds."""
    assert isinstance(services.clock, TestClock)
    services.clock.set_ahead += seconds


def let_pass(background: Background, services: Services, seconds: float) -> None:
    """Let time pass for the server while its background work goes on."""
    assert isinstance(services.clock, TestClock)
    with services.clock.standing():
        while seconds > 0:
            advance_clock(services, min(seconds, 10))
            background.tick()
            seconds -= 10


def submitted(services: Services, name: str = "a job", **spec: Any) -> Job:
    """A new job whose bundle holds `main.py`."""
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("main.py", "print('hello')\n")
    packed.seek(0)
    raw = {"name": name, **spec}
    return submit.submit(services, raw, packed, submitter=None, idempotency_key=None)[0]


class Hand:
    """A worker played by hand: what it has, it lists in every poll."""

    def __init__(
        self,
        services: Services,
        name: str = "worker",
        *,
        slots: int = 1,
        asks: bool = False,
        labels: dict[str, str] | None = None,
    ) -> None:
        self.services = services
        self.asks = asks
        self.capacity = Capacity(
            slots=slots, cpus=4, memory=8 << 30, executors=[Executor.VENV], labels=labels or {}
        )
        self.attempts: dict[tuple[int, int], AttemptReport] = {}
        self.secret = secrets.token_urlsafe(32)
        self.number = 0
        self.name = name
        registered = self._register(None)
        self.id, self.session = registered.worker_id, registered.session

    def register_again(self) -> None:
        """Begin a new session, as an agent that has started again."""
        self.session = self._register(self.id).session
        self.number = 0

    def poll(self, wait: float = 0, offers: list[int] | None = None, **changes: Any) -> PollAnswer:
        """Poll; an assignment is on the list from then on."""
        self.number += 1
        message = {
            "session": self.session,
            "number": self.number,
            "wait": wait,
            "capacity": self.capacity,
            "metrics": WorkerMetrics(),
            "attempts": list(self.attempts.values()),
            "next_secret": self.secret,
            "asks": self.asks,
            "offers": offers or [],
        }
        answer = sessions.poll(self.services, self.id, Poll(**(message | changes)))
        if answer.assignment is not None:
            self.take(answer.assignment)
        return answer

    def take(self, assignment: Assignment, secret: str | None = None) -> None:
        """Put an assignment on the list; it came by the secret of a claim, or by the next one."""
        key = (assignment.job_id, assignment.attempt)
        self.attempts[key] = AttemptReport(
            job_id=key[0], attempt=key[1], secret=secret or self.secret, phase=Phase.EXECUTING
        )
        if secret is None:
            self.secret = secrets.token_urlsafe(32)

    def claim(self) -> Claim:
        """What asks for the next job with the end of one."""
        return Claim(session=self.session, secret=secrets.token_urlsafe(32))

    def run_next(self) -> AttemptRef:
        """Poll, expecting a job."""
        assignment = self.poll().assignment
        assert assignment is not None
        self.poll()
        return self.ref(assignment.job_id, assignment.attempt)

    def ref(self, job_id: int, attempt: int = 1) -> AttemptRef:
        """How the worker speaks of one of its attempts."""
        return AttemptRef(self.id, job_id, attempt, self.attempts[job_id, attempt].secret)

    def log(self, ref: AttemptRef, offset: int, data: bytes) -> int:
        """Send log bytes."""
        return report.append_log(self.services, ref, offset, data).offset

    def finish(self, ref: AttemptRef, cause: Cause = Cause.EXITED, **rest: Any) -> FinishAnswer:
        """Report the end of an attempt; with exit code 0 unless something else is said."""
        if cause is Cause.EXITED and not rest.get("signal"):
            rest.setdefault("exit_code", 0)
        message = Finish(cause=cause, **rest)
        answer = finishing.finish(self.services, ref, message)
        if answer.applied:
            self.attempts.pop((ref.job_id, ref.attempt), None)
        if answer.assignment is not None and message.claim is not None:
            self.take(answer.assignment, message.claim.secret)
        return answer

    def registration(self, **changes: Any) -> Register:
        """What the worker says when it comes."""
        return Register(
            protocol=PROTOCOL,
            version="0",
            name=self.name,
            hostname="host",
            worker_id=None,
            boot_id="boot",
            capacity=self.capacity,
            asks=self.asks,
            **changes,
        )

    def _register(self, known: str | None) -> Any:
        return sessions.register(self.services, self.registration(), credential_of=known)
