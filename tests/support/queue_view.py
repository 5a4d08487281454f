"""All that a server has stored of jobs, at one moment, and the laws that it must keep."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import msgspec
import sqlalchemy as sa

from dtrain.protocol.states import Status
from dtrain.server.jobs import logs
from dtrain.server.services import Services
from dtrain.server.store import schema
from dtrain.server.store.attempts import HOLDING, OPEN

_ASIDE = {"declined", "cancel_asked", "deleted"}
"""Events of a job that are no step of its life."""
_FROZEN = ("status", "reason", "message", "attempt", "exit_code", "signal", "finished_at")
"""What never changes after a job's end."""


class StoredAttempt(msgspec.Struct, frozen=True):
    """An attempt's row."""

    state: str
    worker_id: str
    log_bytes: int
    metric_records: int
    told_log_bytes: int | None
    """How long its log is by its reported end."""
    exit_code: int | None
    """By its reported end."""

    @property
    def holds(self) -> bool:
        """Whether it takes up a slot."""
        return self.state in HOLDING


@dataclass
class View:
    """What is stored. Without arguments: nothing."""

    services: Services | None = None
    jobs: dict[int, Any] = field(default_factory=dict)
    attempts: dict[tuple[int, int], StoredAttempt] = field(default_factory=dict)
    events: list[Any] = field(default_factory=list)
    records: dict[tuple[int, int], list[int]] = field(default_factory=dict)
    artifacts: dict[tuple[int, int], dict[str, str]] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[object, ...]:
        """What a call that changes nothing leaves as it is."""
        return self.jobs, self.attempts, self.events

    def held(self, worker_id: str) -> int:
        """How many slots of a worker are taken."""
        return sum(one.holds and one.worker_id == worker_id for one in self.attempts.values())

    def check_after(self, before: View, job_ids: list[int]) -> None:
        """Check every law that needs no worker's word, against an earlier view as well."""
        assert sorted(self.jobs) == sorted(job_ids)
        known = [event.id for event in before.events]
        assert [event.id for event in self.events[: len(known)]] == known, "an id came too late"
        for job_id, job in self.jobs.items():
            self._check_steps(job)
            self._check_attempts(job)
            was = before.jobs.get(job_id)
            if was is None:
                continue
            assert job.attempt >= was.attempt
            if Status(was.status).final:
                for name in _FROZEN:
                    assert getattr(job, name) == getattr(was, name), f"an end changed its {name}"

    def _check_steps(self, job: Any) -> None:
        """Each change of a job is one event, and its end is the last of them."""
        steps = [e for e in self.events if e.job_id == job.id and e.kind not in _ASIDE]
        assert len(steps) == job.version + 1
        told = [msgspec.json.decode(event.data) for event in steps]
        last = told[-1]
        assert (last["status"], last["phase"], last["reason"], last["attempt"]) == (
            job.status,
            job.phase,
            job.reason,
            job.attempt,
        )
        assert not any(Status(step["status"]).final for step in told[:-1])
        claims = [step["attempt"] for event, step in zip(steps, told, strict=True)
                  if event.kind == "claimed"]  # fmt: skip
        assert claims == list(range(1, job.attempt + 1)), "a number rose without a claim"

    def _check_attempts(self, job: Any) -> None:
        """At most one attempt counts, and it is the latest."""
        numbers = sorted(number for job_id, number in self.attempts if job_id == job.id)
        assert numbers == list(range(1, job.attempt + 1))
        is_open = {n: self.attempts[job.id, n].state for n in numbers
                   if self.attempts[job.id, n].state in OPEN}  # fmt: skip
        assert set(is_open) <= {job.attempt}, "an attempt that was replaced is open"
        if job.status == Status.RUNNING:
            assert is_open.get(job.attempt) in {"assigned", "live", "finishing"}
        else:
            assert set(is_open.values()) <= {"lost"}
        if job.status == Status.COMPLETED:
            assert self.attempts[job.id, job.attempt].exit_code == job.exit_code == 0

    def check_kept(self, job_id: int, number: int, log: bytes, artifacts: dict[str, str]) -> None:
        """Compare what is stored of an attempt with what was acknowledged to its worker."""
        assert self.services is not None
        key = job_id, number
        attempt = self.attempts[key]
        assert attempt.log_bytes == len(log)
        stored = logs.raw(self.services, job_id, attempt=number, start=0, end=len(log) + 99)
        assert b"".join(stored) == log, "the log is not what was acknowledged"
        whole = attempt.told_log_bytes == len(log) and attempt.state == "ended"
        seen = log if whole else log[: log.rfind(b"\n") + 1]
        steps = [int(step) for step in re.findall(rb'^PROGRESS: {"step": (\d+)}$', seen, re.M)]
        assert self.records.get(key, []) == steps, "metric points are lost or doubled"
        assert attempt.metric_records == len(steps)
        assert self.artifacts.get(key, {}) == artifacts


def look(services: Services) -> View:
    """What is stored now."""
    with services.database.read() as connection:

        def rows(table: sa.Table, *order: sa.Column[Any]) -> list[Any]:
            return list(connection.execute(sa.select(table).order_by(*order)))

        view = View(services)
        view.jobs = {row.id: row for row in rows(schema.jobs, schema.jobs.c.id)}
        view.events = rows(schema.events, schema.events.c.id)
        for row in rows(schema.attempts, schema.attempts.c.job_id, schema.attempts.c.number):
            finish = msgspec.json.decode(row.finish) if row.finish else {}
            view.attempts[row.job_id, row.number] = StoredAttempt(
                row.state,
                row.worker_id,
                row.log_bytes,
                row.metric_records,
                finish.get("log_bytes", 0) if row.finish else None,
                finish.get("exit_code"),
            )
        records: dict[tuple[int, int], list[int]] = defaultdict(list)
        artifacts: dict[tuple[int, int], dict[str, str]] = defaultdict(dict)
        for row in rows(schema.metric_records, schema.metric_records.c.seq):
            records[row.job_id, row.attempt].append(msgspec.json.decode(row.record)["step"])
        for row in rows(schema.artifacts, schema.artifacts.c.path):
            artifacts[row.job_id, row.attempt][row.path] = row.sha256
        view.records, view.artifacts = dict(records), dict(artifacts)
    return view


def empty(services: Services) -> None:
    """Forget everything that is stored; numbers that were given are not given again."""

    def work(connection: sa.Connection) -> None:
        for table in reversed(schema.metadata.sorted_tables):
            connection.execute(table.delete())

    services.database.write(work)
