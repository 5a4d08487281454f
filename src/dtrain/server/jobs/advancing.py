"""What a happening makes of a job is stored: the step that most use cases end with."""

from __future__ import annotations

import sqlalchemy as sa

from dtrain.server.rules.lifecycle import Happening, JobState, advance
from dtrain.server.store import jobs


def advanced(
    connection: sa.Connection, job: JobState, happening: Happening, now: float
) -> JobState:
    """Store what a happening makes of a job; gives it as it is then, unchanged if it makes nothing.

    Raises:
        Conflict: the happening is impossible in the job's present state.
    """
    transition = advance(job, happening, now)
    return job if transition is None else jobs.apply(connection, transition, now)
