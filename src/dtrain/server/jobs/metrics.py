"""Metrics as people and programs read them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtrain.protocol.errors import Invalid
from dtrain.protocol.messages import MetricPage
from dtrain.server.store import metrics

from .logs import attempt_of

if TYPE_CHECKING:
    from dtrain.server.services import Services

MAX_RECORDS = 10_000
"""Records on one page at most."""


def page(
    services: Services,
    job_id: int,
    *,
    attempt: int | None = None,
    after: int = 0,
    limit: int = 1000,
) -> MetricPage:
    """PROGRESS records of an attempt, oldest first.

    Args:
        services: the server's parts.
        job_id: the job's number.
        attempt: the attempt's; the latest if none is given.
        after: the number of the first record wanted.
        limit: records on the page.

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
        records = metrics.page(connection, job_id, found.number, after, limit)
    following = records[-1].seq + 1 if records else after
    return MetricPage(
        attempt=found.number,
        records=records,
        next=following,
        more=following < found.metric_records,
    )
