"""The regular files below a folder that a job can write to, read as the work of an enemy.

No link is followed, nothing waits on a FIFO or opens a device, and no folder is too large.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from dtrain.protocol.checkpoints import DEEPEST, LONGEST_PATH, is_plain

from .console import plain

MOST_ENTRIES = 100_000
"""Entries of folders that are looked at."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


@contextmanager
def open_regular(folder: Path, path: str) -> Iterator[BinaryIO]:
    """Open a regular file below a folder without following any link on the way.

    Raises:
        OSError: it is not there, or no regular file.
    """
    inner, _, name = path.rpartition("/")
    with opened(folder, inner) as parent:
        descriptor = os.open(name, _FILE, dir_fd=parent)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "it is not a regular file")
        yield file


def walk(folder: Path, left_out: list[str]) -> Iterator[tuple[str, os.stat_result]]:
    """The regular files below a folder, by their paths relative to it.

    Args:
        folder: where to look.
        left_out: gets a text for each entry that is no such file, or cannot be told of.

    Raises:
        OSError: a folder cannot be read.
    """
    seen = 0
    waiting = [""]
    while waiting:
        inner = waiting.pop()
        with opened(folder, inner) as descriptor, os.scandir(descriptor) as entries:
            for entry in itertools.islice(entries, MOST_ENTRIES - seen):
                seen += 1
                path = f"{inner}/{entry.name}" if inner else entry.name
                complaint = _complaint(path, entry)
                if complaint:
                    left_out.append(f"{plain(path[:LONGEST_PATH])}: {complaint}")
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                else:
                    with suppress(FileNotFoundError):  # it has just gone
                        yield path, entry.stat(follow_symlinks=False)
        if seen == MOST_ENTRIES:
            left_out.append(f"what comes after {MOST_ENTRIES:,} names")
            return


@contextmanager
def opened(folder: Path, inner: str) -> Iterator[int]:
    """A folder below another, opened step by step so that no link can be slipped in.

    Raises:
        OSError: it is not there, or no folder.
    """
    here = os.open(folder, _FOLDER)
    try:
        for name in filter(None, inner.split("/")):
            below = os.open(name, _FOLDER, dir_fd=here)
            os.close(here)
            here = below
        yield here
    finally:
        os.close(here)


def _complaint(path: str, entry: os.DirEntry[str]) -> str | None:
    """Why an entry is left out; None if it is not."""
    if not is_plain(entry.name):
        return "its name is not UTF-8, or holds control characters"
    if len(path) > LONGEST_PATH:
        return "its path is too long"
    if entry.is_symlink():
        return "it is a link"
    if entry.is_dir(follow_symlinks=False):
        return "it lies too deep" if path.count("/") >= DEEPEST else None
    return None if entry.is_file(follow_symlinks=False) else "it is not a regular file"
