"""The owner's code of this worker: made once, kept in its folder, asked for on its page."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import deque

from dtrain.protocol import consent
from dtrain.protocol.states import Outcome
from dtrain.protocol.worker_messages import PageAnswer

MAX_WRONG = 30
"""Wrong codes that are borne within a minute, whatever the server lets through: against the 2⁴⁰
codes that there are it is nothing, and more than one address may cause there."""
_MINUTE = 60.0


def new_code() -> str:
    """A code that nobody can guess."""
    return "".join(secrets.choice(consent.ALPHABET) for _ in range(consent.CODE_LENGTH))


class OwnerCode:
    """The code, and what was tried. Threads may share it."""

    def __init__(self, code: str) -> None:
        self.code = code
        self._guard = threading.Lock()
        self._worker_id = ""
        self._key: bytes | None = None
        """Made when it is first needed."""
        self._wrong: deque[float] = deque()

    def belong_to(self, worker_id: str) -> None:
        """From now on it is the code of the worker that the server knows by this id."""
        with self._guard:
            self._worker_id, self._key = worker_id, None

    def complaint_of(self, answer: PageAnswer) -> Outcome | None:
        """Why an answer is not taken for the owner's; None if it is."""
        with self._guard:
            now = time.monotonic()
            while self._wrong and self._wrong[0] <= now - _MINUTE:
                self._wrong.popleft()
            if len(self._wrong) >= MAX_WRONG:
                return Outcome.TOO_MANY_TRIES
            if self._key is None:
                self._key = consent.key_of(self.code, self._worker_id)
            if _fits(self._key, answer):
                return None
            self._wrong.append(now)
            return Outcome.WRONG_CODE


def _fits(key: bytes, answer: PageAnswer) -> bool:
    proof = consent.prove(key, answer.id, answer.job_id, accept=answer.accept, reason=answer.reason)
    return hmac.compare_digest(proof.encode(), answer.proof.encode())
