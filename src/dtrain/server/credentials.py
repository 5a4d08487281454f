"""Whose credential it is that comes with every request of a worker."""

from __future__ import annotations

import threading
import time

from .mailboxes import Mailboxes
from .store import workers as stored
from .store.database import Database

_REMEMBERED = 30.0
"""Seconds for which an answer of the database holds, unless the worker is forgotten meanwhile: on
PostgreSQL that notice can be missed while the connection is made anew."""
_MOST = 10_000


class Credentials:
    """Workers by what they show. Threads may share it.

    What a worker may do about an attempt, a session or an offer is looked up in the transaction
    that does it; this only tells who it is.
    """

    def __init__(self, database: Database, mailboxes: Mailboxes) -> None:
        self._database = database
        self._guard = threading.Lock()
        self._forgotten = 0
        """How many workers were forgotten here."""
        self._known: dict[str, tuple[str, float]] = {}
        """Worker and end of its validity, by the credential's hash."""
        mailboxes.subscribe(stored.FORGOTTEN, self._forget)

    def worker_of(self, credential: str, *, is_asked: bool = False) -> str | None:
        """The worker whose own credential this is.

        Args:
            credential: as it was shown.
            is_asked: whether the database is asked in any case.
        """
        shown, now = stored.hash_credential(credential), time.monotonic()
        worker_id, until = self._known.get(shown, (None, 0.0))
        if now < until and not is_asked:
            return worker_id
        forgotten = self._forgotten
        with self._database.read() as connection:
            worker_id = stored.by_hash(connection, shown)
        with self._guard:
            if worker_id is None:
                self._known.pop(shown, None)
            elif forgotten == self._forgotten:
                if len(self._known) >= _MOST:
                    self._known.clear()
                self._known[shown] = (worker_id, now + _REMEMBERED)
        return worker_id

    def _forget(self, worker_id: str) -> None:
        with self._guard:
            self._forgotten += 1
            self._known = {key: one for key, one in self._known.items() if one[0] != worker_id}
