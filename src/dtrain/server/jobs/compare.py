"""Several jobs beside each other, each with what became of its series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from dtrain.protocol.errors import Invalid, NotFound
from dtrain.protocol.messages import Job
from dtrain.protocol.progress import AXES
from dtrain.protocol.progress import number as as_number
from dtrain.server.store import job_views
from dtrain.server.store import metrics as stored

from . import metrics

if TYPE_CHECKING:
    from dtrain.server.services import Services

FEWEST, MOST = 2, 20
"""Jobs that can be compared."""
_POINTS = 200
"""Values of each series that are looked at; the least and the greatest are among them."""


class Summary(msgspec.Struct, frozen=True):
    """What became of a series."""

    last: float | str
    """`NaN` and infinities as text, as is anything that is no number."""
    least: float | None
    greatest: float | None
    """Of the values that are numbers; None if none is."""


class Compared(msgspec.Struct, frozen=True):
    """One of the jobs."""

    job: Job
    metrics: dict[str, Summary]
    """By the name of the series, those of the first record first, as they stand there."""


def compare(services: Services, job_ids: Sequence[int]) -> list[Compared]:
    """The jobs in the order in which they are named.

    Raises:
        Invalid: they are too few or too many.
        NotFound: there are no such jobs.
    """
    wanted = list(dict.fromkeys(job_ids))
    if not FEWEST <= len(wanted) <= MOST:
        raise Invalid(
            f"Name {FEWEST} to {MOST} jobs to compare; these are {len(wanted)}.", field="jobs"
        )
    with services.database.read() as connection:
        found = {job.id: job for job in job_views.of_ids(connection, wanted)}
    missing = [job_id for job_id in wanted if job_id not in found]
    if missing:
        raise NotFound(f"There is no job {_listed(missing)}; compare the others without it.")
    return [Compared(found[job_id], _summaries(services, found[job_id])) for job_id in wanted]


def _summaries(services: Services, job: Job) -> dict[str, Summary]:
    page = metrics.page(services, job.id, attempt=job.attempt, points=_POINTS)
    values: dict[str, list[float | str]] = {}
    for record in page.records:
        for name, value in record.values.items():
            if name not in AXES and _is_number(value):
                values.setdefault(name, []).append(value)
    last = page.records[-1].values if page.records else {}
    found = {}
    for name in metrics.in_order(values, metrics.first(services, job)):
        finite = [value for value in values[name] if not isinstance(value, str)]
        found[name] = Summary(
            last=last[name] if _is_number(last.get(name)) else _latest(services, job, name),
            least=min(finite, default=None),
            greatest=max(finite, default=None),
        )
    return found


def _latest(services: Services, job: Job, name: str) -> float | str:
    with services.database.read() as connection:
        value: Any = stored.latest(connection, job.id, job.attempt, name)
    return value if _is_number(value) else str(value)


def _is_number(value: Any) -> bool:
    return as_number(value) is not None


def _listed(job_ids: list[int]) -> str:
    *most, last = map(str, job_ids)
    return f"{', '.join(most)} or {last}" if most else last
