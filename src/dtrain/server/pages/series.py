"""Which series a job's charts show together."""

from __future__ import annotations

import re
from collections.abc import Iterable

from dtrain.protocol.messages import MetricRecord

from . import formats
from .job_contexts import Series

_PART = re.compile(
    r"^(?:train|training|val|valid|validation|test|eval)[_/.-]|[_/.-](?:train|val|test)$"
)
_MOST = 24
_TOGETHER = 6


def charts(records: Iterable[MetricRecord]) -> list[list[Series]]:
    """The series of each chart: `loss` and `val_loss` share one.

    They stand in the order in which they came up; a job with very many gets the first ones.
    """
    groups: dict[str, dict[str, float]] = {}
    for record in records:
        for name, value in formats.metrics(record.values):
            if isinstance(value, str):  # NaN or an infinity: nothing to draw
                continue
            group = groups.setdefault(_PART.sub("", name), {})
            if name in group or len(group) < _TOGETHER:
                group[name] = value
    shown = list(groups.values())[:_MOST]
    return [[Series(name, last) for name, last in group.items()] for group in shown]
