"""A finished log moves out of the database: its chunks, as they are, into one blob."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, BinaryIO

import sqlalchemy as sa

from dtrain.server.store import attempts, logs

if TYPE_CHECKING:
    from dtrain.server.services import Services

_AT_ONCE = 20
"""Logs sealed in one go."""


def seal_some(services: Services) -> None:
    """Seal some of the logs whose attempts have ended, unless the server ends meanwhile."""
    with services.database.read() as connection:
        waiting = attempts.unsealed(connection, _AT_ONCE)
    for job_id, attempt in waiting:
        if services.stop.is_set():
            return
        seal(services, job_id, attempt)


def seal(services: Services, job_id: int, number: int) -> None:
    """Write a log's chunks into a blob, then point the rows there: a reader finds either."""
    with tempfile.TemporaryFile() as gathered:
        places = _gather(services, job_id, number, gathered)
        gathered.seek(0)
        sha256 = services.blobs.receive(gathered, limit=None).sha256 if places else ""

    def work(connection: sa.Connection) -> None:
        attempt = attempts.lock(connection, job_id, number)
        if attempt is None:
            return
        logs.seal(connection, job_id, number, sha256, places)
        # Late bytes may have come meanwhile: they are sealed the next time.
        sealed = not logs.chunks(connection, job_id, number, 0)
        attempts.update(connection, attempt, log_sealed=sealed)

    services.database.write(work)


def _gather(
    services: Services, job_id: int, attempt: int, into: BinaryIO
) -> list[tuple[int, int, int]]:
    places: list[tuple[int, int, int]] = []
    after = 0
    while True:
        with services.database.read() as connection:
            found = logs.chunks(connection, job_id, attempt, after)
        if not found:
            return places
        for chunk in found:
            data = chunk.data or b""
            places.append((chunk.start, into.tell(), len(data)))
            into.write(data)
            after = chunk.start + chunk.length
