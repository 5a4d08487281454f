"""What a worker keeps for later jobs, and its limit: what was used least recently goes first.

    environments/packages-*    packages that are installed
    environments/containers-*  likewise, for jobs in containers
    environments/pythons/*     interpreters that were fetched
    environments/cache         uv's own; it goes as a whole, first if it has more than its share
    bundles/*                  the ZIPs of jobs

Nothing goes that an attempt uses or has begun to (`shared`). What an agent or a build that was
killed left half done goes in any case, and so do locks of what is not there.

`python -m dtrain.worker.cache FOLDER LIMIT` looks through it once, in a process of its own, so that
jobs and the agent do not wait for the disk.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from .environment import CACHE, CONTAINED
from .pythons import FETCHING
from .pythons import FOLDER as PYTHONS
from .removal import remove_tree
from .shared import GONE, Shared, is_ready, measured, size_of

log = logging.getLogger(__name__)

_LOCK = "sweep"
_SHARE = 0.5
"""What uv's own cache may have of the limit before it goes first."""
_NICE = 10


class _Kept(msgspec.Struct, frozen=True):
    """Something that is kept."""

    used_at: float
    size: int
    path: Path


class Sweep:
    """One look through what a worker keeps.

    Args:
        worker: the worker's folder.
        limit: bytes that may be kept; None for any number.
    """

    def __init__(self, worker: Path, limit: float | None) -> None:
        self._attempts = worker / "attempts"
        self._bundles = worker / "bundles"
        self._root = worker / "environments"
        self._shared = Shared(self._root)
        self._limit = limit

    def run(self) -> None:
        """Remove what is half done, and what is too much; nothing if another look is under way."""
        with self._shared.if_free(_LOCK) as lock:
            if lock is not None:
                self._sweep()
                if self._limit is not None:
                    self._cut(self._limit)
                there = [*self._root.iterdir(), *self._pythons()]
                self._shared.sweep_locks({_LOCK, *(path.name for path in there)})

    def _cut(self, limit: float) -> None:
        """Remove what was used least recently until the rest is within the limit."""
        cache = self._root / CACHE
        of_uv = measured(cache)
        kept = sorted(self._kept(), key=lambda one: one.used_at)
        total = of_uv + sum(one.size for one in kept) + sum(map(_size, self._bases()))
        if total > limit and of_uv > limit * _SHARE and self._remove(cache):
            total, of_uv = total - of_uv, 0
        for one in kept:
            if total > limit and self._remove(one.path):
                total -= one.size
        if total > limit and of_uv:
            self._remove(cache)

    def _sweep(self) -> None:
        """Remove what was left half done, and what nothing can use any more."""
        for path in self._root.glob(f"{GONE}*"):
            remove_tree(path)
        for path in (*self._root.glob("packages-*"), *self._bases()):
            if path.is_dir() and not (is_ready(path) and (path / "bin/python").exists()):
                self._remove(path)
        for path in self._root.glob(f"{CONTAINED}*"):
            if not is_ready(path):
                self._remove(path)
        self._shared.remove(self._root / PYTHONS / ".temp", self._attempts, FETCHING)

    def _bases(self) -> Iterator[Path]:
        return self._root.glob("base-*")

    def _pythons(self) -> Iterator[Path]:
        found = (self._root / PYTHONS).glob("[!.]*")
        return (path for path in found if not path.is_symlink() and path.is_dir())

    def _kept(self) -> Iterator[_Kept]:
        """What may go. What is gone meanwhile does not count."""
        shared = (*self._root.glob("packages-*"), *self._root.glob(f"{CONTAINED}*"))
        for place in (*shared, *self._pythons()):
            yield _Kept(self._shared.used_at(place), _size(place), place)
        for bundle in self._bundles.glob("*"):
            status = bundle.stat()
            yield _Kept(status.st_mtime, status.st_size, bundle)

    def _remove(self, path: Path) -> bool:
        if path.parent == self._bundles:
            path.unlink(missing_ok=True)  # an attempt that uses it has a link of its own
            return True
        gone = self._shared.remove(path, self._attempts)
        if gone and path.parent.name == PYTHONS:
            for link in path.parent.iterdir():
                if link.is_symlink() and not link.exists():
                    link.unlink()
        return gone


def _size(place: Path) -> int:
    size = size_of(place)
    return measured(place) if size is None else size


class CacheKeeper:
    """Has the cache looked through, in another process.

    Args:
        worker: the worker's folder.
        limit: bytes that may be kept; None for any number.
    """

    def __init__(self, worker: Path, limit: float | None) -> None:
        self._command = [sys.executable, "-I", "-m", "dtrain.worker.cache", str(worker)]
        self._command.append("" if limit is None else str(limit))
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def look(self) -> None:
        """Have it looked through once; returns when that is done."""
        self._process = process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        if self._is_closed:
            process.kill()
        _, said = process.communicate()
        if process.returncode and not self._is_closed:
            log.warning("The cache cannot be looked through: %s", said.decode(errors="replace"))

    def close(self) -> None:
        """Break off a look, should one last; the next agent's goes on."""
        self._is_closed = True
        if self._process is not None:
            self._process.kill()


def main(arguments: list[str]) -> int:
    """Look through a worker's cache once; the exit status."""
    os.nice(_NICE)
    folder, limit = arguments
    Sweep(Path(folder), float(limit) if limit else None).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
