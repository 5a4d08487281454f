"""Folders that attempts share: each built once, used by note, removed when nobody has noted it.

    <root>/<name>/           a folder; it counts only once `.ready` is in it
    <root>/locks/<name>      held while it is built, noted or removed; changed when that was used
    <attempt>/in_use         the folders that an attempt uses, one a line

Whoever is to use a folder notes it under its lock. Whoever removes one looks into all notes under
the same lock: no attempt loses what it uses, even if it only begins to. The lock of a builder that
was killed is free as soon as the programs that it started are gone, too; what it left half built
does not count, and is built again by whoever needs it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dtrain.protocol.errors import DTrainError

from . import layout
from .layout import read_if_there, sync_disk
from .removal import remove_tree

Waiting = Callable[[], None]
"""Called again and again while a lock is another's."""

GONE = ".removed-"
"""How the name of a folder begins that is being removed."""

_READY = ".ready"
_LONGEST_NOTE = 64 * 1024
"""Bytes of what an attempt may note."""
_LOOK = 0.1
"""Seconds between two looks at a lock that is another's."""


class Shared:
    """The shared folders of one worker. Threads and processes may use it at once.

    Args:
        root: where they are.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._locks = root / "locks"

    def have(
        self,
        place: Path,
        attempt: Path | None,
        build: Callable[[int], None],
        waiting: Waiting | None = None,
    ) -> Path:
        """Have a folder ready, and noted as an attempt's.

        Args:
            place: the folder, in `root`.
            attempt: the folder of the attempt; None for what is made ready beforehand.
            build: makes the folder. It gets a descriptor to hand on to the programs that it starts,
                lest the lock be free while one of them still writes.
            waiting: called while another builds it.
        """
        with self.locked(place.name, waiting) as lock:
            if not is_ready(place):
                remove_tree(place)
                try:
                    build(lock)
                except DTrainError:
                    remove_tree(place)
                    raise
                size = _make_read_only(place)
                sync_disk(str(place))  # a marker that outlived this would spoil every later job
                _mark_ready(place, size)
            self.note(place, attempt, lock)
        return place

    def note(self, place: Path, attempt: Path | None, lock: int) -> None:
        """Write down that an attempt uses a folder, whose lock the caller holds."""
        os.utime(lock)
        if attempt is not None:
            with (attempt / layout.IN_USE).open("a") as file:
                file.write(f"{place}\n")

    @contextlib.contextmanager
    def locked(self, name: str, waiting: Waiting | None = None) -> Iterator[int]:
        """Hold the lock of a name; its descriptor."""
        self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        while (lock := self._try(name, fcntl.LOCK_EX)) is None:
            if waiting is not None:
                waiting()
            time.sleep(_LOOK)
        try:
            yield lock
        finally:
            os.close(lock)

    @contextlib.contextmanager
    def joined(self, name: str) -> Iterator[int]:
        """Hold a lock together with others who join; nobody has it alone meanwhile."""
        self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        while (lock := self._try(name, fcntl.LOCK_SH)) is None:
            time.sleep(_LOOK)
        try:
            yield lock
        finally:
            os.close(lock)

    def remove(self, place: Path, attempts: Path, lock_name: str | None = None) -> bool:
        """Remove a folder for good, unless it is being built or used; whether it is gone.

        An agent that is killed in the middle leaves it whole, or under a name that says so.

        Args:
            place: the folder.
            attempts: the folder of all attempts, whose notes count.
            lock_name: of the lock of those who use it, if that is not its own name.
        """
        gone = self.root / f"{GONE}{place.name}-{os.urandom(4).hex()}"
        with self.if_free(lock_name or place.name) as lock:
            if lock is None or str(place) in _noted(attempts):
                return False
            with contextlib.suppress(FileNotFoundError):
                place.rename(gone)
        remove_tree(gone)
        return True

    def used_at(self, place: Path) -> float:
        """When a folder was used last, in seconds of the clock."""
        with contextlib.suppress(FileNotFoundError):
            return (self._locks / place.name).stat().st_mtime
        return place.stat().st_mtime

    def sweep_locks(self, known: set[str]) -> None:
        """Remove the locks of what is not there, and those of nothing in particular."""
        self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in self._locks.iterdir():
            if path.name not in known:
                with self.if_free(path.name) as lock:
                    if lock is not None:
                        path.unlink()

    @contextlib.contextmanager
    def if_free(self, name: str) -> Iterator[int | None]:
        """Hold the lock of a name; None if it is another's."""
        self._locks.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = self._try(name, fcntl.LOCK_EX)
        try:
            yield lock
        finally:
            if lock is not None:
                os.close(lock)

    def _try(self, name: str, how: int) -> int | None:
        """Take a lock if it is free."""
        path = self._locks / name
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, how | fcntl.LOCK_NB)
            if os.fstat(lock).st_ino == path.stat().st_ino:
                return lock
        except (BlockingIOError, FileNotFoundError):
            pass  # another's; or it was removed while it was taken
        os.close(lock)
        return None


def is_ready(place: Path) -> bool:
    """Whether a shared folder is whole."""
    return (place / _READY).exists()


def size_of(place: Path) -> int | None:
    """Bytes of a shared folder, as they were when it was built; None if that is not known."""
    content = read_if_there(str(place / _READY))
    return int(content) if content and content.isdigit() else None


def measured(path: Path) -> int:
    """Bytes on the disk of a folder and all that is in it, looked at one by one."""
    total = 0
    for folder, _, files in os.walk(path):
        for name in ("", *files):
            with contextlib.suppress(FileNotFoundError):
                total += Path(folder, name).lstat().st_blocks * 512
    return total


def _noted(attempts: Path) -> set[str]:
    """The folders that attempts use; a job that spoils its note harms nobody but itself."""
    found: set[str] = set()
    for attempt in attempts.iterdir():
        note = attempt / layout.IN_USE
        with contextlib.suppress(OSError):
            if not attempt.name.startswith(".") and note.lstat().st_size <= _LONGEST_NOTE:
                content = read_if_there(str(note)) or b""
                found.update(content.decode(errors="replace").splitlines())
    return found


def _make_read_only(place: Path) -> int:
    """Take the right to write from all but the folder itself; bytes of it on the disk."""
    total = 0
    for folder, _, files in os.walk(place):
        for name in files:
            path = Path(folder, name)
            status = path.lstat()
            total += status.st_blocks * 512
            if not stat.S_ISLNK(status.st_mode):
                path.chmod(stat.S_IMODE(status.st_mode) & ~0o222)
        if folder != str(place):
            Path(folder).chmod(0o555)
    return total


def _mark_ready(place: Path, size: int) -> None:
    marker = place / f"{_READY}.new"
    marker.write_text(str(size))
    marker.chmod(0o444)
    marker.rename(place / _READY)
    place.chmod(0o555)
