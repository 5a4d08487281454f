"""What is put away or thrown away now and then: finished logs, old checkpoints, unused blobs.

A thread of its own in each server process: whatever a chore takes, or meets on a full disk, nothing
else waits for it, not even the next chore. Several processes may do the same at once.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from dtrain.protocol.errors import DTrainError

from .blobs import BlobStore, batches
from .jobs import sealing
from .store import artifacts, bundles, checkpoints, events, page_answers, worker_samples

if TYPE_CHECKING:
    from .services import Services

_LOOK_EVERY = 1.0
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

_log = logging.getLogger(__name__)


class Housekeeping:
    """The thread, and when the chores were last done."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._thread = threading.Thread(target=self._run, name="housekeeping", daemon=True)
        self._sealed = self._swept = time.monotonic()

    def start(self) -> None:
        """Do the chores from now on, each when its time has come."""
        self._thread.start()

    def stop(self) -> None:
        """Wait for what is under way, which ends at its next step; `services.stop` has been set."""
        self._thread.join(timeout=10)

    def _run(self) -> None:
        while not self._services.stop.wait(_LOOK_EVERY):
            self.run_due()

    def run_due(self) -> None:
        """Do the chores whose time has come."""
        now = time.monotonic()
        if now - self._sealed >= _SEAL_EVERY:
            self._sealed = now
            # First what frees the space that the other may lack.
            self._apart("Old checkpoints are not thrown away", self.drop_checkpoints)
            self._apart(
                "Finished logs are not put away", partial(sealing.seal_some, self._services)
            )
        if now - self._swept >= _SWEEP_EVERY:
            self._swept = now
            self.sweep()

    def _apart(self, undone: str, chore: Callable[[], None]) -> None:
        """Do one chore, unless the server ends; say what is left undone if it fails."""
        if self._services.stop.is_set():
            return
        try:
            chore()
        except (DTrainError, OSError) as error:
            _log.warning("%s, for now: %s", undone, error)
        except Exception:  # whatever is wrong with one chore must not keep the others from it
            _log.exception("%s, for now.", undone)

    def drop_checkpoints(self) -> None:
        """Throw away old checkpoints and, at once, what only they needed: a job leaves many."""
        services = self._services
        now = services.clock.time()
        ended_before = now - services.settings.keep_checkpoints_days * _DAY
        drop = partial(checkpoints.drop_outdated, now=now, ended_before=ended_before)
        forget = partial(checkpoints.forget_dropped, before=now - _DROPPED_AGE, limit=_GENERATIONS)
        services.database.write(drop)
        with services.blobs.clearing() as may_delete:
            while may_delete and not services.stop.is_set():
                forgotten = services.database.write(forget)
                if not forgotten:
                    return
                for batch in batches(forgotten):
                    for sha256 in self._blobs(batch):
                        services.blobs.delete(sha256, _DROPPED_AGE)

    def sweep(self) -> None:
        """Throw away what nobody needs, and records that are old."""
        services = self._services
        bundles_away = partial(self._sweep_store, services.bundles, self._bundles)
        self._apart("Unused bundles are not thrown away", bundles_away)
        blobs_away = partial(self._sweep_store, services.blobs, self._blobs)
        self._apart("Unused artifacts and logs are not thrown away", blobs_away)
        self._apart("Old records are not thrown away", self._prune)

    def _sweep_store(self, store: BlobStore, forget: Callable[[set[str]], set[str]]) -> None:
        """Throw away what nobody needs: the row first, then the blob. A backup puts blobs off."""
        store.sweep(_UPLOAD_AGE)
        with store.clearing() as may_delete:
            for batch in batches(store.aged(_BLOB_AGE)) if may_delete else ():
                if self._services.stop.is_set():
                    return
                for sha256 in forget(batch):
                    store.delete(sha256, _BLOB_AGE)

    def _prune(self) -> None:
        database, now = self._services.database, self._services.clock.time()
        prune = partial(events.prune, before=now - _EVENT_AGE, limit=_BATCH)
        while database.write(prune) == _BATCH and not self._services.stop.is_set():
            pass
        database.write(partial(page_answers.prune, before=now - _ANSWER_AGE))
        database.write(partial(worker_samples.prune, now=now))

    def _bundles(self, hashes: set[str]) -> set[str]:
        """Forget those of the bundles that nobody needs; which."""
        return self._services.database.write(partial(bundles.forget_unneeded, hashes=hashes))

    def _blobs(self, hashes: set[str]) -> set[str]:
        """Those of the other blobs that nobody needs."""
        with self._services.database.read() as connection:
            return hashes - artifacts.needed(connection, hashes)
