"""The state of a job's checkpoint folder at one moment, while the job goes on writing to it.

A snapshot is a folder of hard links. A job that replaces a file by renaming another one to its name
leaves the snapshot as it was, however long that takes to be sent; a file that is written to in
place shows that by its size or time. So every file of a snapshot is unchanged from the moment at
which all of them were there together.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import os
import signal
import stat
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.worker_messages import CheckpointFileInfo

from .console import plain
from .regular_files import opened, walk
from .removal import remove_tree

STILL = 30.0
"""Seconds for which a file must not have changed that a process has open for writing."""
_PIECE = 1024**2
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Stamp(msgspec.Struct, frozen=True):
    """What a file's content cannot change without."""

    device: int
    inode: int
    size: int
    modified: int
    """Nanoseconds."""
    mode: int


Look = dict[str, Stamp]
"""The files of a folder, by path."""


class Changing(DTrainError):
    """The files are being written to at this moment; they are whole a little later."""

    code = "changing"


class Snapshots:
    """Takes snapshots of one folder, one at a time.

    Args:
        folder: that a job writes to.
        place: where the links go, on the same disk; it is made, and emptied for each snapshot.
        check: called with every piece that is read; may raise, to break off.
    """

    def __init__(self, folder: Path, place: Path, check: Callable[[], None]) -> None:
        self._folder = folder
        self._place = place
        self._check = check
        self._hashes: dict[Stamp, str] = {}
        """Of the files of the latest snapshot, and of those that came to nothing since."""
        self._since: dict[str, tuple[Stamp, float]] = {}
        """Since when each file is as it is, as far as it was looked at."""
        self._places: dict[str, Path] = {}
        self.left_out: list[str] = []
        """What the latest look has passed over, and why."""

    def look(self) -> Look:
        """The files that are there now.

        Raises:
            OSError: the folder is not there, or cannot be read.
        """
        left_out: list[str] = []
        seen = {path: _stamp(status) for path, status in walk(self._folder, left_out)}
        now = time.monotonic()
        before = self._since
        self._since = {
            path: before[path] if path in before and before[path][0] == stamp else (stamp, now)
            for path, stamp in seen.items()
        }
        self.left_out = left_out
        return seen

    def take(self, seen: Look, *, is_over: bool = False) -> list[CheckpointFileInfo]:
        """Link the files that were seen, and describe them by path.

        Args:
            seen: by the latest look.
            is_over: whether nothing writes to the folder any more.

        Raises:
            Changing: they are not as they were seen, or do not stay so.
            OSError: one cannot be read or linked.
        """
        self.clear()
        self._place.mkdir(0o700)
        for path, stamp in seen.items():
            self._link(path, stamp, is_over=is_over)
        if self.look() != seen:
            raise Changing("Its files are replaced all the time.")
        for path, stamp in seen.items():
            self._hashes[stamp] = self._hash(path, stamp)
        self._hashes = {stamp: self._hashes[stamp] for stamp in seen.values()}
        return [
            CheckpointFileInfo(
                path=path,
                size=stamp.size,
                sha256=self._hashes[stamp],
                mode=stat.S_IMODE(stamp.mode) & 0o777,
            )
            for path, stamp in sorted(seen.items())
        ]

    def open(self, path: str) -> Content:
        """The content of a file of the latest snapshot.

        Raises:
            OSError: it cannot be read.
        """
        return Content(self._places[path], self._check)

    def clear(self) -> None:
        """Let go of the latest snapshot.

        Raises:
            OSError: the links cannot be removed.
        """
        self._places = {}
        remove_tree(self._place)

    def _link(self, path: str, stamp: Stamp, *, is_over: bool) -> None:
        place = self._place / str(len(self._places))
        inner, _, name = path.rpartition("/")
        try:
            with opened(self._folder, inner) as parent:
                os.link(name, place, src_dir_fd=parent, follow_symlinks=False)
        except FileNotFoundError as error:
            raise Changing(f"{plain(path)} has just gone.") from error
        self._places[path] = place
        with Content(place, self._check) as file:
            if _stamp(os.fstat(file.fileno())) != stamp:
                raise Changing(f"{plain(path)} has just changed.")
            still = time.monotonic() - self._since[path][1] >= STILL
            if not (is_over or still) and _is_written(file.fileno()):
                raise Changing(f"{plain(path)} is open for writing.")

    def _hash(self, path: str, stamp: Stamp) -> str:
        known = self._hashes.get(stamp)
        if known is not None:
            return known
        digest = hashlib.sha256()
        with self.open(path) as file:
            while piece := file.read(_PIECE):
                digest.update(piece)
            if _stamp(os.fstat(file.fileno())) != stamp:
                raise Changing(f"{plain(path)} was written to while it was read.")
        return digest.hexdigest()


class Content(io.FileIO):
    """A file of a snapshot, as long as it is now; reading it can be broken off.

    Raises:
        OSError: it is no regular file, or cannot be opened.
    """

    def __init__(self, place: Path, check: Callable[[], None]) -> None:
        super().__init__(str(place), "rb", opener=lambda name, _: os.open(name, _OPEN))
        status = os.fstat(self.fileno())
        self._check = check
        self._end = status.st_size
        if not stat.S_ISREG(status.st_mode):
            self.close()
            raise OSError(0, "it is not a regular file")

    def read(self, size: int | None = -1, /) -> bytes:
        """Some of the bytes, unless it is broken off."""
        self._check()
        rest = max(self._end - self.tell(), 0)
        return super().read(rest if size is None or size < 0 else min(size, rest)) or b""


def _stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_mode)


def _is_written(descriptor: int) -> bool:
    """Whether a process has the file open for writing: then the kernel gives no lease for reading.

    Where it gives none for another reason, nothing is known, and the file's stamp must do.
    """
    try:
        # Were it opened for writing just now, we would be told by a signal: one that is ignored.
        fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False
