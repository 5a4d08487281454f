"""Metrics as people and programs read them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import sqlalchemy as sa

from dtrain.protocol.errors import Invalid
from dtrain.protocol.messages import Job, MetricPage, MetricRecord
from dtrain.server.rules.spans import FACTOR, Span, gathered, width_for
from dtrain.server.store import metric_spans, metrics
from dtrain.server.store.attempts import Attempt
from dtrain.server.store.database import moment

from .logs import attempt_of

if TYPE_CHECKING:
    from dtrain.server.services import Services

MAX_RECORDS = 10_000
"""Records on one page at most, and values of a series that are kept."""


def page(
    services: Services,
    job_id: int,
    *,
    attempt: int | None = None,
    after: int = 0,
    before: int | None = None,
    limit: int = 1000,
    points: int | None = None,
) -> MetricPage:
    """PROGRESS records of an attempt, oldest first.

    Args:
        services: the server's parts.
        job_id: the job's number.
        attempt: the attempt's; the latest if none is given.
        after: the number of the first record wanted.
        before: the number of the first one behind it that is not; None for all that there are.
        limit: records on the page.
        points: instead of a page all records, thinned to about so many values of each series:
            the least and the greatest of those that follow each other. Records hold only the
            values that are kept; the last one is whole.

    Raises:
        NotFound: there is no such job or attempt.
        Invalid: the limit is not acceptable.
    """
    if not 1 <= limit <= MAX_RECORDS:
        raise Invalid(f"The limit is a number from 1 to {MAX_RECORDS}.", field="limit")
    with services.database.read() as connection:
        found = attempt_of(connection, job_id, attempt)
        if found is None:
            return MetricPage(attempt=0, records=[], next=0, more=False)
        end = found.metric_records if before is None else min(before, found.metric_records)
        if points is not None and end - after > points:
            return _thinned(connection, found, after, end, points)
        wanted = max(min(limit if points is None else points, end - after), 0)
        records = metrics.page(connection, job_id, found.number, after, wanted)
    following = records[-1].seq + 1 if records else after
    return MetricPage(
        attempt=found.number,
        records=records,
        next=following,
        more=following < end,
    )


def first(services: Services, job: Job) -> MetricRecord | None:
    """The first record of a job's latest attempt."""
    records = page(services, job.id, attempt=job.attempt, limit=1).records
    return records[0] if records else None


def in_order(names: Iterable[str], first: MetricRecord | None) -> list[str]:
    """Series as the first record has them, then the others by name.

    Thinned records hold only some of their values: where a name comes up in them says nothing.
    """
    places = {name: place for place, name in enumerate(first.values if first else ())}
    return sorted(names, key=lambda name: (places.get(name, len(places)), name))


def samples(services: Services, jobs: Iterable[Job], most: int) -> dict[int, list[MetricRecord]]:
    """Some records of each job's latest attempt, by the job's number: `most` of each at most."""
    latest = [(job.id, job.attempt) for job in jobs if job.progress is not None]
    if not latest:
        return {}
    with services.database.read() as connection:
        return metrics.samples(connection, latest, most)


def _thinned(
    connection: sa.Connection, attempt: Attempt, after: int, end: int, points: int
) -> MetricPage:
    most = max(points // 2, 1)
    spans = _covering(connection, attempt, width_for(end - after, most), after, end - 1)
    records: dict[int, MetricRecord] = {}
    for span in gathered(spans, most):
        for name, kept in span.items():
            for point in kept:
                record = records.get(point.seq)
                if record is None:
                    record = MetricRecord(
                        seq=point.seq, step=point.step, at=moment(point.at), values={}
                    )
                    records[point.seq] = record
                record.values[name] = point.value
    last = metrics.page(connection, attempt.job_id, attempt.number, end - 1, 1)
    thinned = [records[seq] for seq in sorted(records)] + last
    return MetricPage(attempt=attempt.number, records=thinned, next=end, more=False)


def _covering(
    connection: sa.Connection, attempt: Attempt, width: int, start: int, end: int
) -> list[Span]:
    """Spans over some records: of a width where it fits, and narrower ones at both ends.

    Records that were stored without spans are read one by one.
    """
    key = (connection, attempt.job_id, attempt.number)
    if width == 1:
        return metric_spans.read(*key, 1, start, end)
    first, last = -(-start // width) * width, end // width * width
    narrower = width // FACTOR
    spans = metric_spans.read(*key, width, first, last)
    if first >= last or len(spans) != (last - first) // width:
        return _covering(connection, attempt, narrower, start, end)
    before = _covering(connection, attempt, narrower, start, first)
    behind = _covering(connection, attempt, narrower, last, end)
    return before + spans + behind
