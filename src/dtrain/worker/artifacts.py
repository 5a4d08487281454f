"""What a job left in its output folder, read as the work of an enemy.

Only regular files are taken, no link is followed, nothing waits on a FIFO or opens a device, and
no folder is too large. What is left out is said in the worker's log.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import os
import stat
import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from dtrain.protocol.worker_messages import ArtifactInfo

from .console import plain

log = logging.getLogger(__name__)

MOST = 10_000
"""Files that are taken of one attempt."""
MOST_ENTRIES = 100_000
"""Entries of folders that are looked at."""
LONGEST_PATH = 1000
"""Characters."""
DEEPEST = 50
"""Folders inside one another."""
_NAMED = 20
"""Files left out that are named in the log, one by one."""
_PIECE = 1024**2
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def collect(folder: Path) -> list[ArtifactInfo]:
    """The files below a folder with their sizes and hashes, by path; none if it is not there."""
    found: list[ArtifactInfo] = []
    left_out: list[str] = []
    try:
        for path in _walk(folder, left_out):
            if len(found) == MOST:
                left_out.append(f"what comes after {MOST:,} files")
                break
            try:
                with open_artifact(folder, path) as file:
                    found.append(_described(path, file))
            except OSError as error:
                left_out.append(f"{plain(path)}: {error.strerror}")
    except OSError as error:
        left_out.append(f"everything: {error.strerror}")
    for text in left_out[:_NAMED]:
        log.warning("Of the artifacts in %s is left out %s.", folder, text)
    if len(left_out) > _NAMED:
        log.warning("Of those in %s are left out %d more.", folder, len(left_out) - _NAMED)
    return sorted(found, key=lambda artifact: artifact.path)


@contextmanager
def open_artifact(folder: Path, path: str) -> Iterator[BinaryIO]:
    """Open a regular file below a folder without following any link on the way.

    Raises:
        OSError: it is not there, or no regular file.
    """
    inner, _, name = path.rpartition("/")
    with _opened(folder, inner) as parent:
        descriptor = os.open(name, _FILE, dir_fd=parent)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is not a regular file")
        yield file


def _walk(folder: Path, left_out: list[str]) -> Iterator[str]:
    """The paths of what may be a regular file, relative to the folder."""
    seen = 0
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        with _opened(folder, inner) as descriptor, os.scandir(descriptor) as entries:
            room = list(itertools.islice(entries, MOST_ENTRIES - seen))
        seen += len(room)
        for entry in room:
            path = f"{inner}/{entry.name}" if inner else entry.name
            complaint = _complaint(path, entry)
            if complaint:
                left_out.append(f"{plain(path[:LONGEST_PATH])}: {complaint}")
            elif entry.is_dir(follow_symlinks=False):
                waiting.append(path)
            else:
                yield path
        if seen == MOST_ENTRIES:
            left_out.append(f"what comes after {MOST_ENTRIES:,} names")
            return


def _complaint(path: str, entry: os.DirEntry[str]) -> str | None:
    """Why an entry is left out; None if it is not."""
    if any(unicodedata.category(character) in {"Cc", "Cs"} for character in entry.name):
        return "its name is not UTF-8, or holds control characters"
    if len(path) > LONGEST_PATH:
        return "its path is too long"
    if entry.is_symlink():
        return "it is a link"
    if entry.is_dir(follow_symlinks=False):
        return "it lies too deep" if path.count("/") >= DEEPEST else None
    return None if entry.is_file(follow_symlinks=False) else "it is not a regular file"


def _described(path: str, file: BinaryIO) -> ArtifactInfo:
    digest = hashlib.sha256()
    size = 0
    while piece := file.read(_PIECE):
        digest.update(piece)
        size += len(piece)
    return ArtifactInfo(path=path, size=size, sha256=digest.hexdigest())


@contextmanager
def _opened(folder: Path, inner: str) -> Iterator[int]:
    """A folder below another, opened step by step so that no link can be slipped in."""
    here = os.open(folder, _FOLDER)
    try:
        for name in filter(None, inner.split("/")):
            below = os.open(name, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)
