"""Blobs: files on disk named by the SHA-256 of their content, written once and durable.

    <folder>/tmp/<random>       being received
    <folder>/ab/abcdef…         received, checked and on the disk
    <folder>/lock               locked by who deletes, and by who needs all to stay

A blob that `receive` has returned survives a power cut. Who refers to a blob is not known here.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import itertools
import os
import re
import secrets
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dtrain.protocol.errors import Invalid, NotFound, Unavailable

_PIECE = 1024**2
_COMPARED = 1024**2
"""Bytes of a blob, at most, that is compared with what comes again; a larger one is replaced."""
_BATCH = 500
_FULL = {errno.ENOSPC, errno.EDQUOT}
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored blob."""

    sha256: str
    size: int
    """Bytes."""
    path: Path


class BlobStore:
    """The blobs in one folder. Any number of threads and processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        """Use a folder, which is made if it is not there.

        Raises:
            OSError: it cannot be made.
        """
        self._folder = folder
        self._temporaries = folder / "tmp"
        self._lock = folder / "lock"
        self._temporaries.mkdir(parents=True, exist_ok=True)
        sync(folder)
        sync(folder.parent)

    def receive(
        self,
        stream: BinaryIO,
        *,
        limit: int | None,
        expected_sha256: str | None = None,
        check: Callable[[Path], None] | None = None,
    ) -> Blob:
        """Store what a stream brings; if the content is there already, it is stored once.

        Whatever fails, the reading of the stream included, nothing is left behind.

        Args:
            stream: Read to its end, a piece at a time.
            limit: Bytes that are accepted at most; None for any number.
            expected_sha256: What the content's SHA-256 must be.
            check: Called with the file once it is whole; what it raises has it thrown away.

        Raises:
            Invalid: `too_large` (status 413) or `sha256_mismatch`.
            Unavailable: `disk_full` (status 507).
        """
        with _disk_full_as_unavailable():
            descriptor, name = tempfile.mkstemp(dir=self._temporaries)
            temporary = Path(name)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    sha256, size = _copy(stream, file, limit)
                    if expected_sha256 not in {None, sha256}:
                        raise Invalid(
                            f"The content arrived damaged: its SHA-256 is {sha256} and not"
                            f" {ascii(expected_sha256)[:80]}; send it again.",
                            code="sha256_mismatch",
                        )
                if check is not None:
                    check(temporary)
                return Blob(sha256, size, self._keep(temporary, sha256, size))
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise

    def path(self, sha256: str) -> Path:
        """Where a blob is.

        Raises:
            NotFound: there is no such blob, or what was given is no SHA-256.
        """
        path = self._place(sha256)
        if not path.is_file():
            raise _no_blob(sha256)
        return path

    def renew(self, sha256: str) -> Path:
        """Take a blob for one that was received just now; where it is.

        Raises:
            NotFound: there is no such blob, or what was given is no SHA-256.
        """
        path = self.path(sha256)
        try:
            os.utime(path)
        except FileNotFoundError:  # deleted just now; to touch it would make an empty one
            raise _no_blob(sha256) from None
        return path

    def has(self, sha256: str) -> bool:
        """Whether there is such a blob."""
        return self._place(sha256).is_file()

    def is_whole(self, sha256: str) -> bool:
        """Whether a blob that is there still has the content that its name says."""
        with self._place(sha256).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == sha256

    def delete(self, sha256: str, older_than_seconds: float) -> None:
        """Remove a blob that nobody has sent for so long; one that is not there is no fault.

        One that somebody is sending at this moment stays, or is there again when he has.

        Raises:
            NotFound: what was given is no SHA-256.
        """
        place = self._place(sha256)
        if not _is_older(place, older_than_seconds):
            return
        aside = self._temporaries / f"{sha256}-{secrets.token_hex(4)}"
        try:
            place.rename(aside)
        except FileNotFoundError:
            return
        if not _is_older(aside, older_than_seconds):
            with suppress(FileExistsError):  # it has been sent once more
                os.link(aside, place)
            sync(place.parent)
        aside.unlink()

    def sweep(self, older_than_seconds: float) -> int:
        """Remove what receivers left to which nothing was added for so long; returns how many."""
        removed = 0
        for path in self._temporaries.iterdir():
            if _is_older(path, older_than_seconds):
                path.unlink(missing_ok=True)
                removed += 1
        return removed

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Have no process delete a blob inside the context; waits for one that is at it."""
        with self._lock.open("ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH)
            yield

    @contextmanager
    def clearing(self) -> Iterator[bool]:
        """For who deletes; false inside where somebody needs all blobs to stay for now."""
        with self._lock.open("ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def aged(self, older_than_seconds: float) -> Iterator[str]:
        """The blobs that nobody has sent for so long, by their SHA-256."""
        for path in self._folder.glob("[0-9a-f][0-9a-f]/*"):
            if _SHA256.fullmatch(path.name) and _is_older(path, older_than_seconds):
                yield path.name

    def _place(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise NotFound(f"{ascii(sha256)[:80]} is not a SHA-256.")
        return self._folder / sha256[:2] / sha256

    def _keep(self, temporary: Path, sha256: str, size: int) -> Path:
        place = self._place(sha256)
        if not (size <= _COMPARED and self._was_renewed(place, temporary)):
            sync(temporary)
            place.parent.mkdir(exist_ok=True)
            temporary.replace(place)
        sync(place.parent)
        sync(self._folder)  # always: another receiver may have made the parent just now
        return place

    def _was_renewed(self, place: Path, temporary: Path) -> bool:
        """Take a blob that is there, and whole, for what was received; whether there is one."""
        try:
            if place.read_bytes() != temporary.read_bytes():
                return False
            self.renew(place.name)
        except (FileNotFoundError, NotFound):
            return False
        temporary.unlink()
        return True


def _no_blob(sha256: str) -> NotFound:
    return NotFound(f"There is no stored content with the SHA-256 {sha256}.")


def too_large(limit: int) -> Invalid:
    """The refusal of what has more bytes than the limit."""
    return Invalid(
        f"What was sent is larger than the {limit / 1024**2:,.9g} MB that are accepted;"
        " send less, or raise the limit of the server.",
        code="too_large",
        status=413,
    )


def _copy(stream: BinaryIO, file: BinaryIO, limit: int | None) -> tuple[str, int]:
    digest = hashlib.sha256()
    size = 0
    while piece := stream.read(_PIECE):
        size += len(piece)
        if limit is not None and size > limit:
            raise too_large(limit)
        digest.update(piece)
        file.write(piece)
    return digest.hexdigest(), size


@contextmanager
def _disk_full_as_unavailable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise Unavailable(
            "The server's disk is full, nothing was stored; free some space there, then try again.",
            code="disk_full",
            status=507,
        ) from error


def batches(hashes: Iterable[str]) -> Iterator[set[str]]:
    """Hashes in sets that a query can ask for at once."""
    remaining = iter(hashes)
    while batch := set(itertools.islice(remaining, _BATCH)):
        yield batch


def _is_older(path: Path, seconds: float) -> bool:
    try:
        return time.time() - path.stat().st_mtime > seconds
    except FileNotFoundError:  # renamed or deleted meanwhile
        return False


def sync(path: Path) -> None:
    """Have the names in a folder, or the bytes of a file, reach the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
