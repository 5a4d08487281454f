"""How long a job may still take, told from its records; `web/progress.ts` does the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from dtrain.protocol.messages import Job, MetricRecord
from dtrain.protocol.progress import fraction_of
from dtrain.protocol.states import Status


@dataclass(frozen=True)
class Pace:
    """How an attempt began, and when it may be over."""

    began: datetime
    """When its first record came."""
    share: float
    """How much was done then, such as by an earlier attempt."""
    ends: datetime | None
    """When it is over if it goes on as it went; None where nothing tells yet."""


def pace(first: MetricRecord, latest: MetricRecord) -> Pace | None:
    """The pace of an attempt by two of its records; None if they do not say how much is done."""
    before, share = fraction_of(first.values), fraction_of(latest.values)
    if before is None or share is None:
        return None
    took = (latest.at - first.at).total_seconds()
    ends = None
    if before < share < 1 and took > 0:
        left = (1 - share) * took / (share - before)
        ends = latest.at + timedelta(seconds=min(left, 10**9))
    return Pace(first.at, before, ends)


def end_of(job: Job, records: Sequence[MetricRecord], now: datetime) -> datetime | None:
    """When a running job will be done if it goes on as its records show; None if they do not."""
    known = [record for record in records if fraction_of(record.values) is not None]
    if job.status is not Status.RUNNING or len(known) < 2:
        return None
    found = pace(known[0], known[-1])
    return max(found.ends, now) if found is not None and found.ends is not None else None
