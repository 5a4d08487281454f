"""Which series a job's charts show together."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dtrain.protocol.messages import MetricRecord
from dtrain.server.jobs import metrics

from . import formats
from .job_contexts import Series

_PART = re.compile(
    r"^(?:train|training|val|valid|validation|test|eval)[_/.-]|[_/.-](?:train|val|test)$"
)
_MOST = 24
_TOGETHER = 6


def charts(records: Iterable[MetricRecord], first: MetricRecord | None) -> list[list[Series]]:
    """The series of each chart: `loss` and `val_loss` share one.

    They stand as in the first record; a job with very many gets the first ones.
    """
    last = {
        name: value
        for record in records
        for name, value in formats.metrics(record.values)
        if not isinstance(value, str)  # NaN or an infinity: nothing to draw
    }
    groups: dict[str, list[Series]] = {}
    for name in metrics.in_order(last, first):
        group = groups.setdefault(_PART.sub("", name), [])
        if len(group) < _TOGETHER:
            group.append(Series(name, last[name]))
    return list(groups.values())[:_MOST]
