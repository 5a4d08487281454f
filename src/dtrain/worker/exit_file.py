"""The file that says how an attempt ended, with its room on the disk set aside at the start.

Imported by the shim, hence the standard library's quick part alone.
"""
# pathlib would be in every shim.
# ruff: noqa: PTH104, PTH120

from __future__ import annotations

import contextlib
import errno
import os
import time

from .layout import sync_folder, write_all

_ROOM = 64 * 1024
"""Bytes set aside: more than the longest record has."""
_RETRY = 1.0
"""Seconds between two tries on a disk that is full after all."""


class ExitFile:
    """A file that is written once, and can be even if the disk is full by then."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._new = f"{path}.new"
        self._is_there = False
        """Whether the file has its content, which is never another from then on."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(self._new, flags, 0o600)
        with contextlib.suppress(OSError):  # not every file system can; then `write` may wait
            os.posix_fallocate(self._file, 0, _ROOM)

    def write(self, content: bytes) -> None:
        """Write the file, whole and durably; waits for as long as the disk is full.

        Raises:
            OSError: if it cannot be written for another reason.
        """
        while True:
            try:
                if not self._is_there:
                    self._put(content)
                    self._is_there = True
                sync_folder(os.path.dirname(self._path))
                return
            except OSError as error:
                if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
                    raise
            time.sleep(_RETRY)

    def _put(self, content: bytes) -> None:
        os.lseek(self._file, 0, os.SEEK_SET)
        write_all(self._file, content)
        os.ftruncate(self._file, len(content))
        os.fsync(self._file)
        os.rename(self._new, self._path)
