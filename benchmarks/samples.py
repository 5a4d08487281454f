"""The statistics of a handful of measured values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """What a table shows of some samples, in their unit."""

    count: int
    median: float
    low: float
    """The 5th percentile; the least where there are fewer than 20 samples."""
    high: float
    """The 95th percentile; the greatest where there are fewer than 20 samples."""
    p99: float
    """The greatest where there are fewer than 100 samples."""


def summary(samples: Sequence[float]) -> Summary:
    """Median and spread.

    Raises:
        ValueError: there are no samples.
    """
    if not samples:
        raise ValueError("There are no samples.")
    few = len(samples) < 20
    return Summary(
        count=len(samples),
        median=percentile(samples, 50),
        low=min(samples) if few else percentile(samples, 5),
        high=max(samples) if few else percentile(samples, 95),
        p99=max(samples) if len(samples) < 100 else percentile(samples, 99),
    )


def percentile(samples: Sequence[float], percent: float) -> float:
    """The value below which so many percent lie, between two neighbours in proportion."""
    ordered = sorted(samples)
    place = (len(ordered) - 1) * percent / 100
    below, above = ordered[math.floor(place)], ordered[math.ceil(place)]
    return below + (above - below) * (place - math.floor(place))
