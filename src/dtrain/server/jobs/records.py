"""PROGRESS records are stored: as metrics of their attempt, the latest as its job's progress."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from dtrain.protocol.progress import fraction_of, step_of
from dtrain.server.rules.records import Reading
from dtrain.server.store import jobs, metric_spans, metrics
from dtrain.server.store.attempts import Attempt


def store(
    connection: sa.Connection, attempt: Attempt, reading: Reading, now: float, *, counts: bool
) -> int:
    """Store what a piece of log has brought.

    Args:
        connection: inside a writing transaction.
        attempt: as it was before the records.
        reading: the records.
        now: seconds since the epoch.
        counts: whether the attempt is the one that counts.

    Returns:
        How many records the attempt has now.
    """
    first, records = attempt.metric_records, reading.records
    if not records:
        return first
    stepped = [(step_of(record, first + index), record) for index, record in enumerate(records)]
    metrics.append(connection, attempt.job_id, attempt.number, first, stepped, now)
    metric_spans.append(connection, attempt.job_id, attempt.number, first, stepped, now)
    if counts:
        latest = msgspec.json.encode(records[-1]).decode()
        fraction = fraction_of(records[-1])
        jobs.set_progress(connection, attempt.job_id, attempt.number, latest, fraction)
    return first + len(records)
