"""Metrics: the PROGRESS records of an attempt, in the order in which the job printed them."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from dtrain.protocol.messages import MetricRecord

from .database import moment
from .schema import metric_records


def append(
    connection: sa.Connection,
    job_id: int,
    attempt: int,
    first_seq: int,
    records: list[tuple[float, dict[str, Any]]],
    now: float,
) -> None:
    """Store records, each with its step, numbered from `first_seq`."""
    connection.execute(
        metric_records.insert(),
        [
            {
                "job_id": job_id,
                "attempt": attempt,
                "seq": first_seq + index,
                "step": step,
                "at": now,
                "record": msgspec.json.encode(values).decode(),
            }
            for index, (step, values) in enumerate(records)
        ],
    )


def page(
    connection: sa.Connection, job_id: int, attempt: int, first_seq: int, limit: int
) -> list[MetricRecord]:
    """The records from a number on."""
    rows = connection.execute(
        sa.select(metric_records)
        .where(
            metric_records.c.job_id == job_id,
            metric_records.c.attempt == attempt,
            metric_records.c.seq >= first_seq,
        )
        .order_by(metric_records.c.seq)
        .limit(limit)
    )
    return [
        MetricRecord(
            seq=row.seq,
            step=row.step,
            at=moment(row.at),
            values=msgspec.json.decode(row.record),
        )
        for row in rows
    ]


_LOOKS = 20
"""Records that are looked into for a name that may stand elsewhere in them."""


def latest(connection: sa.Connection, job_id: int, attempt: int, name: str) -> Any | None:
    """The last value of a series, also if later records are without it; None if there is none."""
    key = msgspec.json.encode(name).decode()
    rows = connection.execute(
        sa.select(metric_records.c.record)
        .where(metric_records.c.job_id == job_id, metric_records.c.attempt == attempt)
        .where(metric_records.c.record.contains(f"{key}:", autoescape=True))
        .order_by(metric_records.c.seq.desc())
        .limit(_LOOKS)
    )
    records = (msgspec.json.decode(row.record) for row in rows)
    return next((record[name] for record in records if name in record), None)
