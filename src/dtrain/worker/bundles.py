"""The bundles that a worker has fetched: kept by their content, so that a retry fetches nothing."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from dtrain.protocol.bundle import sha256_of

log = logging.getLogger(__name__)

LIMIT = 2 * 1024**3
"""Bytes of all bundles that are kept."""


class BundleCache:
    """A folder of bundles, each named by its SHA-256. Threads may share it.

    A file in it is not trusted: its content is looked at again before it is used.
    """

    def __init__(self, folder: Path, limit: int = LIMIT) -> None:
        self._folder = folder
        self._limit = limit
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def fetch(self, sha256: str, into: Path, download: Callable[[BinaryIO], None]) -> None:
        """Put a bundle into a file, by `download` if it is not there yet.

        Raises:
            OSError: the disk is full, or the like; and whatever `download` raises.
        """
        into.unlink(missing_ok=True)
        cached = self._folder / sha256
        try:
            os.link(cached, into)
        except FileNotFoundError:
            pass
        else:
            if sha256_of(into) == sha256:
                os.utime(cached)
                return
            log.warning("The kept bundle %s is damaged and is fetched again.", cached)
            cached.unlink(missing_ok=True)
            into.unlink()
        with into.open("x+b") as file:
            download(file)
        self._keep(into, cached)

    def _keep(self, fetched: Path, cached: Path) -> None:
        """Keep a bundle for later; an older one goes where they would be too many together."""
        if fetched.stat().st_size > self._limit:
            return
        try:
            os.link(fetched, cached)
        except FileExistsError:
            return
        kept = sorted(
            ((path.stat(), path) for path in self._folder.iterdir()),
            key=lambda entry: entry[0].st_mtime_ns,
        )
        excess = sum(status.st_size for status, _ in kept) - self._limit
        for status, path in kept:
            if excess <= 0:
                break
            path.unlink(missing_ok=True)
            excess -= status.st_size
