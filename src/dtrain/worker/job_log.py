"""The file that a job's output goes to: every byte as it came, while cap and disk allow it.

Where bytes are left out, a line in the file says how many. The last ones of a gap are kept in
memory and follow that line, so that the end of a log, where a traceback is, is never lost to
the cap. Imported by the shim, hence the standard library's quick part alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time

TAIL = 64 * 1024
"""Bytes that are kept of the end of a gap."""
_RETRY = 1.0
"""Seconds between two tries to write to a full disk."""
_PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Errors that are the disk's, not the job's."""

LAST_LINES = 20
LAST_CHARACTERS = 10_000
_RECORD = "PROGRESS:"
"""As `protocol.progress` has it, whose modules would be in every shim."""
_TRACEBACK = "Traceback (most recent call last)"


class JobLog:
    """A log that is being written, by one process."""

    def __init__(self, path: str, cap: int) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._file = os.open(path, flags, 0o600)
        self.size = os.fstat(self._file).st_size
        """Bytes that are in the file."""
        self._cap = cap
        self._pending = b""
        """The rest of a gap's line and end, to be written before anything else."""
        self._omitted = 0
        self._tail = b""
        """The last of the omitted bytes."""
        self._retry = 0.0
        self._trouble = ""
        """What kept the disk from taking more, in the system's words."""
        self._ends_line = True

    def write(self, data: bytes) -> None:
        """Add what the job wrote. Never fails: what does not fit is left out, and counted."""
        if self.size >= self._cap or not self._close_gap():
            self._omit(data)
            return
        written = self._put(data[: self._cap - self.size])
        if written < len(data):
            self._omit(data[written:])

    def end(self) -> None:
        """Say what was left out since, and make the file durable; `size` is final."""
        self._retry = 0.0
        self._close_gap()
        with contextlib.suppress(OSError):  # what a full disk has not taken by now, it never will
            os.fsync(self._file)

    def last_lines(self) -> str | None:
        """The last lines as text, from the last traceback on if they show one; without records.

        At most `LAST_LINES` lines and `LAST_CHARACTERS` characters; None for a log without text.
        """
        end = os.pread(self._file, TAIL, max(self.size - TAIL, 0))
        text = end.decode(errors="replace").replace("\0", "\ufffd").replace("\r\n", "\n")
        lines = [line.rsplit("\r", 1)[-1] for line in text.split("\n")]
        lines = [line for line in lines if not line.lstrip().startswith(_RECORD)]
        while lines and not lines[-1].strip():
            lines.pop()
        starts = [number for number, line in enumerate(lines) if _TRACEBACK in line]
        if starts:
            lines = lines[starts[-1] :]
        return "\n".join(lines[-LAST_LINES:])[-LAST_CHARACTERS:] or None

    def _omit(self, data: bytes) -> None:
        self._omitted += len(data)
        self._tail = (self._tail + data)[-TAIL:] if len(data) < TAIL else data[-TAIL:]

    def _close_gap(self) -> bool:
        """Write what is owed to a gap; whether nothing is owed any more."""
        if not self._omitted and not self._pending:
            return True
        if time.monotonic() < self._retry:
            return False
        while self._pending or self._omitted:
            if not self._pending:
                self._pending = self._marker() + self._tail
                self._omitted, self._tail = 0, b""
            self._pending = self._pending[self._put(self._pending) :]
            if self._pending:
                return False
        return True

    def _marker(self) -> bytes:
        missing = self._omitted - len(self._tail)
        if not missing:
            return b""
        why = "the log has reached its cap" if self.size >= self._cap else self._trouble
        start = "" if self._ends_line else "\n"
        return f"{start}[DTrain: {missing} bytes of output are left out here: {why}]\n".encode()

    def _put(self, data: bytes) -> int:
        """Write as much as there is room for; how much that was."""
        view = memoryview(data)
        while view:
            try:
                written = os.write(self._file, view)
            except OSError as error:
                if error.errno not in _PASSING:
                    raise
                self._trouble = os.strerror(error.errno)
                self._retry = time.monotonic() + _RETRY
                break
            self.size += written
            self._ends_line = view[written - 1] == 0x0A
            view = view[written:]
        return len(data) - len(view)
