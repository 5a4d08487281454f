"""The bundles that a worker has fetched: kept by their content, so that a retry fetches nothing."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from dtrain.protocol.bundle import sha256_of

log = logging.getLogger(__name__)


class BundleCache:
    """A folder of bundles, each named by its SHA-256. Threads may share it.

    A file in it is not trusted: its content is looked at again before it is used. It may be removed
    at any time (`cache`); when it was used last is when it was changed last.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
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
        with contextlib.suppress(FileExistsError):
            os.link(into, cached)
