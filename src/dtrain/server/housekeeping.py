"""What is put away or thrown away now and then: finished logs, old checkpoints, unused blobs."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from .blobs import batches
from .jobs import sealing
from .store import artifacts, bundles, checkpoints, events, page_answers, worker_samples

if TYPE_CHECKING:
    from .services import Services

_SEAL_EVERY = 30.0
_SWEEP_EVERY = 3600.0
_UPLOAD_AGE = 3600.0
"""Seconds after which an upload that never ended is thrown away."""
_BLOB_AGE = 24 * 3600.0
"""Seconds for which a blob that nothing needs is kept: a submission under way may need it."""
_EVENT_AGE = 90 * 24 * 3600.0
"""Seconds for which the record of changes is kept."""
_ANSWER_AGE = 3600.0
"""Seconds for which an answer from a page is kept that a server was killed over."""
_DROPPED_AGE = 120.0
"""Seconds for which a checkpoint is still there that nothing needs any more, and at least as long
for each content of it since it was last sent or asked for: it may be part of a newer one."""
_DAY = 24 * 3600.0
_BATCH = 500
_GENERATIONS = 20
"""Generations, of 10,000 files each at most, that are forgotten in one transaction."""


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
            self.drop_checkpoints()
        if now - self._swept >= _SWEEP_EVERY:
            self._swept = now
            self.sweep()

    def drop_checkpoints(self) -> None:
        """Throw away old checkpoints and, at once, what only they needed: a job leaves many."""
        services = self._services
        now = services.clock.time()
        ended_before = now - services.settings.keep_checkpoints_days * _DAY
        drop = partial(checkpoints.drop_outdated, now=now, ended_before=ended_before)
        forget = partial(checkpoints.forget_dropped, before=now - _DROPPED_AGE, limit=_GENERATIONS)
        services.database.write(drop)
        with services.blobs.clearing() as may_delete:
            while may_delete and (hashes := services.database.write(forget)):
                for batch in batches(hashes):
                    for sha256 in self._blobs(batch):
                        services.blobs.delete(sha256, _DROPPED_AGE)

    def sweep(self) -> None:
        """Throw away what nobody needs: the row first, then the blob. A backup puts blobs off."""
        services = self._services
        for store, forget in ((services.bundles, self._bundles), (services.blobs, self._blobs)):
            store.sweep(_UPLOAD_AGE)
            with store.clearing() as may_delete:
                if not may_delete:
                    continue
                for batch in batches(store.aged(_BLOB_AGE)):
                    for sha256 in forget(batch):
                        store.delete(sha256, _BLOB_AGE)
        now = services.clock.time()
        prune = partial(events.prune, before=now - _EVENT_AGE, limit=_BATCH)
        while services.database.write(prune) == _BATCH:
            pass
        services.database.write(partial(page_answers.prune, before=now - _ANSWER_AGE))
        services.database.write(partial(worker_samples.prune, now=now))

    def _bundles(self, hashes: set[str]) -> set[str]:
        """Forget those of the bundles that nobody needs; which."""
        return self._services.database.write(partial(bundles.forget_unneeded, hashes=hashes))

    def _blobs(self, hashes: set[str]) -> set[str]:
        """Those of the other blobs that nobody needs."""
        with self._services.database.read() as connection:
            return hashes - artifacts.needed(connection, hashes)
