"""The course of a job's key metric, drawn small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dtrain.protocol.messages import Job, MetricRecord
from dtrain.protocol.progress import number

from .formats import metrics

WIDTH, HEIGHT = 64, 20
"""Of a sparkline, in pixels."""
_EDGE = 1.5


@dataclass(frozen=True)
class Sparkline:
    """The course of a job's key metric."""

    name: str
    points: str
    """As SVG has it."""


def key_metric(record: Mapping[str, Any] | None) -> str | None:
    """The metric that stands for a job: the first that its records name."""
    return next((name for name, _ in metrics(record)), None)


def sparkline(job: Job, records: Sequence[MetricRecord]) -> Sparkline | None:
    """The course of the key metric; None where there is no line to draw."""
    name = key_metric(job.progress)
    if name is None:
        return None
    values = [(record.seq, number(record.values.get(name))) for record in records]
    known = [(seq, value) for seq, value in values if value is not None and abs(value) < 1e300]
    if len(known) < 2:
        return None
    first, last = known[0][0], known[-1][0]
    low, high = min(value for _, value in known), max(value for _, value in known)
    across, down = (WIDTH - 2 * _EDGE) / (last - first), HEIGHT - 2 * _EDGE

    def place(seq: int, value: float) -> str:
        share = (value - low) / (high - low) if high > low else 0.5
        return f"{_EDGE + (seq - first) * across:.1f},{HEIGHT - _EDGE - share * down:.1f}"

    return Sparkline(name, " ".join(place(seq, value) for seq, value in known))
