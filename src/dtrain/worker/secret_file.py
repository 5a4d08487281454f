"""The secrets of attempts to come: a file with a line for each; those taken are struck out.

A secret is on the disk before it is given, hence before it can be sent: should the answer be lost,
it is asked with again, also by the next agent.
"""

from __future__ import annotations

import logging
import os
import secrets
import threading

from .layout import read_if_there, write_durably

_log = logging.getLogger(__name__)

_STRUCK = "#"
"""In a line that does not hold any more; no secret has it."""
_AT_ONCE = 16
"""Secrets that are made ready at once: each time the disk is waited for twice."""


class SecretFile:
    """Says with which secret a job is asked for. Threads may share it.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._guard = threading.Lock()
        self._next: str | None = None
        """What `next` has said last."""
        self._lent: set[str] = set()

    def next(self) -> str:
        """The secret of the attempt that may come next: the same one until an attempt takes it.

        Raises:
            OSError: there is none left, and no more can be written.
        """
        with self._guard:
            free = self._free(1)
            if self._next not in free:
                self._next = free[0]
            return self._next

    def lend(self) -> str:
        """Another secret than the next, for what else may bring an attempt until `take_back`.

        Unless an attempt takes it, it is one of those to come.

        Raises:
            OSError: there is none left, and no more can be written.
        """
        with self._guard:
            lent = [secret for secret in self._free(2) if secret != self._next][-1]
            self._lent.add(lent)
            return lent

    def take_back(self, lent: str) -> None:
        """Nothing is asked with a secret any more that was lent."""
        with self._guard:
            self._lent.discard(lent)

    def expects(self, secret: str) -> bool:
        """Whether no attempt has taken a secret yet, nor has it been forgotten."""
        with self._guard:
            return secret in self._unspent()

    def forget(self, spent: str) -> None:
        """Ask with a secret no more: it can bring nothing. It is no trouble if that fails."""
        try:
            self.strike_out({spent})
        except OSError as error:
            _log.warning("%s cannot be written (%s).", self._path, error)

    def strike_out(self, taken: set[str]) -> None:
        """Have no secret to come that is an attempt's.

        In place, and the disk is not waited for: a secret that a power cut brings back is an
        attempt's that the worker's folder has, or one that the server knows to be spent.

        Raises:
            OSError: the file cannot be written.
        """
        with self._guard:
            at = 0
            for secret in self._lines():
                if secret in taken:
                    self._write_over(at, len(secret))
                at += len(secret) + 1

    def _free(self, least: int) -> list[str]:
        """So many secrets at least with which nothing else is asked now."""
        left = self._unspent()
        if len(left) - len(self._lent) < least:
            left += [secrets.token_urlsafe(32) for _ in range(_AT_ONCE)]
            write_durably(self._path, "".join(f"{one}\n" for one in left).encode())
        return [secret for secret in left if secret not in self._lent]

    def _unspent(self) -> list[str]:
        return [secret for secret in self._lines() if _STRUCK not in secret]

    def _lines(self) -> list[str]:
        return (read_if_there(self._path) or b"").decode("ascii", "replace").split("\n")[:-1]

    def _write_over(self, at: int, length: int) -> None:
        descriptor = os.open(self._path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            os.pwrite(descriptor, _STRUCK.encode() * length, at)
        finally:
            os.close(descriptor)
