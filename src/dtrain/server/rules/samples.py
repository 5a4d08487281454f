"""Many samples of a machine as few."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from dtrain.protocol.messages import WorkerMetrics, WorkerSample


def thinned(samples: Sequence[WorkerSample], most: int) -> list[WorkerSample]:
    """At most so many: each is the mean of as many that follow each other, at the first's time."""
    size = max(math.ceil(len(samples) / most), 1)
    return [_mean(samples[start : start + size]) for start in range(0, len(samples), size)]


def _mean(samples: Sequence[WorkerSample]) -> WorkerSample:
    if len(samples) == 1:
        return samples[0]
    found = [sample.metrics for sample in samples]
    gpus = min(len(one.gpus) for one in found)
    return WorkerSample(
        at=samples[0].at,
        metrics=WorkerMetrics(
            cpu_percent=fmean(one.cpu_percent for one in found),
            memory_used=round(fmean(one.memory_used for one in found)),
            memory_total=found[-1].memory_total,
            disk_used=round(fmean(one.disk_used for one in found)),
            disk_total=found[-1].disk_total,
            gpus=[_mean_of([one.gpus[index] for one in found]) for index in range(gpus)],
        ),
    )


def _mean_of(values: Sequence[dict[str, float]]) -> dict[str, float]:
    names = dict.fromkeys(name for one in values for name in one)
    return {name: fmean(one[name] for one in values if name in one) for name in names}
