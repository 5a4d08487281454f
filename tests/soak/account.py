"""What a soak has done, and what was lost by it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from support.api import FINAL
from support.witness import (
    differing_bytes,
    differing_records,
    log_of_attempt,
    records_in,
    records_of_attempt,
)

from .jobs import Handed
from .workplace import Workplace, attempt_folders


@dataclass
class Account:
    """The account of a soak; every loss must be zero."""

    jobs: int
    faults: Counter[str]
    ends: Counter[str] = field(default_factory=Counter)
    losses: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    bytes: int = 0
    records: int = 0
    left: list[str] = field(default_factory=list)
    """Processes that outlived the programs."""
    groups_left: list[str] = field(default_factory=list)
    """Control groups of jobs that are still there."""

    @property
    def is_clean(self) -> bool:
        """Whether nothing was lost."""
        return not (self.left or self.groups_left or any(self.losses.values()))

    def lose(self, what: str, number: int, note: str) -> None:
        """Count a loss, and remember where."""
        self.losses[what] += number
        if number:
            self.notes.append(f"{note}: {what} {number}")

    def table(self) -> str:
        """All of it, for people."""
        rows: list[tuple[str, object]] = [("jobs", self.jobs)]
        rows += [(f"  {end}", number) for end, number in sorted(self.ends.items())]
        rows += [("log bytes compared", self.bytes), ("metric points compared", self.records)]
        rows += [("faults", sum(self.faults.values()))]
        rows += [(f"  {what}", number) for what, number in self.faults.most_common()]
        rows += list(self.losses.items())
        rows += [("processes left", len(self.left)), ("cgroups left", len(self.groups_left))]
        lines = [f"{what:<46}{number:>12}" for what, number in rows]
        return "\n".join([*self.notes, *self.left, *self.groups_left, "", *lines])


def judge(place: Workplace, handed: list[Handed], faults: Counter[str]) -> Account:
    """Compare what the jobs have written down with what the server has."""
    account = Account(len(handed), faults)
    for what in (
        "log bytes lost or doubled",
        "metric points lost or doubled",
        "jobs with two final states",
        "jobs without an end",
        "jobs with another end than their own",
        "attempts too many",
        "attempts left on a worker",
        "artifacts missing",
    ):
        account.losses[what] = 0
    for one in handed:
        _judge_job(place, one, account)
    for worker in place.workers:
        kept = attempt_folders(worker)
        account.lose("attempts left on a worker", len(kept), f"{worker.title}: {kept}")
    return account


def _judge_job(place: Workplace, one: Handed, account: Account) -> None:
    job = place.job(one.job_id)
    note = f"job {one.job_id} ({job['status']}, {job['reason']}, {job['message']})"
    account.ends[job["status"]] += 1
    events = place.servers[0].json(f"/api/jobs/{one.job_id}/events")["events"]
    final = [event["kind"] for event in events if event["kind"] in FINAL]
    account.lose("jobs without an end", int(not final), note)
    account.lose("jobs with two final states", int(len(final) > 1), f"{note} {final}")
    account.lose("jobs with another end than their own", int(not _as_meant(one, job)), note)
    if not one.cancelled:
        account.lose("attempts too many", max(job["attempt"] - one.attempts, 0), note)
        account.lose("attempts too many", max(len(one.witness.starts()) - one.attempts, 0), note)
        account.lose("artifacts missing", int(job["artifacts"] != 1), note)
    for attempt in range(1, job["attempt"] + 1):
        _judge_attempt(place, one, job, attempt, account, note)


def _as_meant(one: Handed, job: dict[str, Any]) -> bool:
    if one.cancelled and job["status"] == "cancelled":
        return True
    meant = "failed" if one.exit_code else "completed"
    return (job["status"], job["exit_code"]) == (meant, one.exit_code)


def _judge_attempt(
    place: Workplace, one: Handed, job: dict[str, Any], attempt: int, account: Account, note: str
) -> None:
    """An attempt that ended by itself is compared whole; one that was killed as far as it came."""
    printed = one.witness.printed(attempt)
    stored = log_of_attempt(place.url, one.job_id, attempt)
    records = records_of_attempt(place.url, one.job_id, attempt)
    if job["status"] == "cancelled" and attempt == job["attempt"]:
        printed = printed[: len(stored)]
    account.bytes += len(printed)
    account.records += len(records)
    note = f"{note} attempt {attempt}"
    account.lose("log bytes lost or doubled", differing_bytes(printed, stored), note)
    lost = differing_records(records_in(printed), records)
    account.lose("metric points lost or doubled", lost, note)
