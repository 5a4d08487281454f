"""PROGRESS records as columns, as tables and plots want them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from dtrain.protocol.messages import MetricRecord
from dtrain.protocol.progress import number

Columns = dict[str, list[Any]]
STEP = "step"
"""The column that the others are drawn against; in every table."""


def columns_of(records: Iterable[MetricRecord]) -> Columns:
    """A list for `step`, then one for each name in order of appearance, all of the same length.

    A name that a record lacks has None there. NaN and infinities are floats again.
    """
    columns: Columns = {STEP: []}
    for row, record in enumerate(records):
        columns[STEP].append(record.step)
        for name, value in record.values.items():
            if name == STEP:
                continue
            column = columns.setdefault(name, [])
            column.extend([None] * (row - len(column)))
            column.append(_plain(value))
    rows = len(columns[STEP])
    for column in columns.values():
        column.extend([None] * (rows - len(column)))
    return columns


def _plain(value: Any) -> Any:
    found = number(value) if isinstance(value, str) else None
    return value if found is None else found
