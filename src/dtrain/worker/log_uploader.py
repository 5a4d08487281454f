"""Brings the bytes of an attempt's log from its file to the server, by offset."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress

from dtrain.protocol.states import Phase

from .link import LARGEST_APPEND
from .spool import AttemptFolder

NOTE_INTERVAL = 5.0
"""Seconds between two notes of how far the server is."""

Append = Callable[[int, bytes, Phase | None], int]
"""Sends bytes that begin at an offset, and a new phase; returns where the log goes on."""


class LogUploader:
    """The log of one attempt on its way. The file is the buffer: a slow server costs no memory.

    It knows nothing of the server but `append`. If that says that the log goes on elsewhere than
    behind what was sent, it is believed.
    """

    def __init__(self, folder: AttemptFolder, append: Append) -> None:
        self._folder = folder
        self._append = append
        self._file: int | None = None
        self.offset = folder.acknowledged
        """How many bytes the server has, as far as is known."""
        self._noted = (self.offset, time.monotonic())

    def size(self) -> int:
        """Bytes that are in the file now; 0 as long as there is none."""
        descriptor = self._descriptor()
        return 0 if descriptor is None else os.fstat(descriptor).st_size

    def send(self, phase: Phase | None = None) -> bool:
        """Send what there is, one piece at most, and a new phase with it; whether there was any."""
        descriptor = self._descriptor()
        data = b"" if descriptor is None else os.pread(descriptor, LARGEST_APPEND, self.offset)
        if not data:
            return False
        self.offset = self._append(self.offset, data, phase)
        self._note()
        return True

    def rest(self, end: int, most: int) -> bytes:
        """The bytes up to an end that the server does not have; none if there are more than so."""
        descriptor, missing = self._descriptor(), end - self.offset
        if descriptor is None or not 0 < missing <= most:
            return b""
        data = os.pread(descriptor, missing, self.offset)
        return data if len(data) == missing else b""

    def close(self) -> None:
        """Let go of the file."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _descriptor(self) -> int | None:
        """The file, once the shim has made it."""
        if self._file is None:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            try:
                self._file = os.open(self._folder.log, flags)
            except FileNotFoundError:
                return None
        return self._file

    def _note(self) -> None:
        offset, when = self._noted
        now = time.monotonic()
        if self.offset != offset and now >= when + NOTE_INTERVAL:
            with suppress(OSError):  # a hint, which a full disk does not take
                self._folder.save_acknowledged(self.offset)
            self._noted = (self.offset, now)
