"""What is put away or thrown away now and then: finished logs, uploads cut short, unused blobs."""

from __future__ import annotations

import itertools
import time
from functools import partial
from typing import TYPE_CHECKING

from .jobs import sealing
from .store import artifacts, bundles, events

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .services import Services

_SEAL_EVERY = 30.0
_SWEEP_EVERY = 3600.0
_UPLOAD_AGE = 3600.0
"""Seconds after which an upload that never ended is thrown away."""
_BLOB_AGE = 24 * 3600.0
"""Seconds for which a blob that nothing needs is kept: a submission under way may need it."""
_EVENT_AGE = 90 * 24 * 3600.0
"""Seconds for which the record of changes is kept."""
_BATCH = 500


class Housekeeping:
    """The chores, with when each was last done."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._sealed = self._swept = time.monotonic()

    def run_due(self) -> None:
        """Do the chores whose time has come."""
        now = time.monotonic()
        if now - self._sealed >= _SEAL_EVERY:
            self._sealed = now
            sealing.seal_some(self._services)
        if now - self._swept >= _SWEEP_EVERY:
            self._swept = now
            self.sweep()

    def sweep(self) -> None:
        """Throw away what nobody needs: the row first, then the blob."""
        services = self._services
        for store in (services.bundles, services.blobs):
            store.sweep(_UPLOAD_AGE)
        for batch in _batches(services.bundles.aged(_BLOB_AGE)):
            for sha256 in services.database.write(partial(bundles.forget_unneeded, hashes=batch)):
                services.bundles.delete(sha256)
        for batch in _batches(services.blobs.aged(_BLOB_AGE)):
            with services.database.read() as connection:
                needed = artifacts.needed(connection, batch)
            for sha256 in batch - needed:
                services.blobs.delete(sha256)
        before = services.clock.time() - _EVENT_AGE
        services.database.write(lambda connection: events.prune(connection, before, _BATCH))


def _batches(hashes: Iterable[str]) -> Iterator[set[str]]:
    remaining = iter(hashes)
    while batch := set(itertools.islice(remaining, _BATCH)):
        yield batch
