"""Metrics: the PROGRESS records of an attempt, in the order in which the job printed them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from dtrain.protocol.messages import MetricRecord

from .database import moment
from .schema import attempts, metric_records


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
    return [_record(row) for row in rows]


def samples(
    connection: sa.Connection, latest: Sequence[tuple[int, int]], most: int
) -> dict[int, list[MetricRecord]]:
    """Some records of attempts, by job, oldest first: the first, the last, and evenly between.

    One query, of which each record is found by its key, however many there are.

    Args:
        connection: a reading one.
        latest: jobs, each with the number of an attempt.
        most: records of each at most; two or more.
    """
    first = sa.select(sa.literal_column("0", sa.Integer).label("place")).cte(
        "places", recursive=True
    )
    places = first.union_all(sa.select(first.c.place + 1).where(first.c.place < most - 1))
    total, last = attempts.c.metric_records, most - 1
    # Whole numbers: an integer divided by one.
    even = (places.c.place * (total - 1)).op("/")(sa.literal_column(str(last)))
    query = (
        sa.select(metric_records)
        .select_from(attempts.join(places, places.c.place < total))
        .join(
            metric_records,
            sa.and_(
                metric_records.c.job_id == attempts.c.job_id,
                metric_records.c.attempt == attempts.c.number,
                metric_records.c.seq == sa.case((total <= most, places.c.place), else_=even),
            ),
        )
        .where(sa.tuple_(attempts.c.job_id, attempts.c.number).in_(latest))
        .order_by(metric_records.c.job_id, metric_records.c.seq)
    )
    found: dict[int, list[MetricRecord]] = {}
    for row in connection.execute(query):
        found.setdefault(row.job_id, []).append(_record(row))
    return found


def _record(row: sa.Row[Any]) -> MetricRecord:
    return MetricRecord(
        seq=row.seq, step=row.step, at=moment(row.at), values=msgspec.json.decode(row.record)
    )


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
