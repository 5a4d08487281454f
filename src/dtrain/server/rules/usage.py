"""What an attempt used of its worker: how often a sample of it is kept, and many as few."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from dtrain.protocol.messages import UsageSample
from dtrain.protocol.worker_messages import AttemptUsage

from .samples import mean_of

_SHORTEST = 5.0
"""Seconds between two samples."""
_PART = 400
"""Samples lie at least this part of the attempt's age apart: of a month it has some 3,000."""

Taken = tuple[float, AttemptUsage]
"""A sample, after when it was taken."""


def is_due(began: float, sampled_at: float | None, now: float) -> bool:
    """Whether another sample of an attempt is to be kept; also after the clock was set back."""
    return sampled_at is None or abs(now - sampled_at) >= max(_SHORTEST, (now - began) / _PART)


def thinned(samples: Sequence[Taken], began: float, most: int) -> Iterator[UsageSample]:
    """At most so many samples, each for as many that follow each other, at the last one's time.

    Args:
        samples: of an attempt, oldest first.
        began: when it did.
        most: at least 1.
    """
    size = max(math.ceil(len(samples) / most), 1)
    before, used = began, 0.0
    for start in range(0, len(samples), size):
        part = [usage for _, usage in samples[start : start + size]]
        at = samples[min(start + size, len(samples)) - 1][0]
        busy = max(part[-1].cpu_time - used, 0.0)  # less where it was counted anew
        yield UsageSample(
            at=datetime.fromtimestamp(at, UTC),
            cpus=busy / (at - before) if at > before else 0.0,
            memory=max(usage.memory for usage in part),
            gpus=mean_of([usage.gpus for usage in part]),
        )
        before, used = at, part[-1].cpu_time
