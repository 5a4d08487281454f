"""How long a job may still take, told from its records; `web/progress.ts` does the same."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from dtrain.protocol.messages import MetricRecord
from dtrain.protocol.progress import fraction_of


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
