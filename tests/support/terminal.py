"""A program at a terminal: it believes that a person watches, and can be typed at."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
import threading
from collections.abc import Mapping
from pathlib import Path

from .processes import PATIENCE, Running, wait_for

_ESCAPES = re.compile(r"\x1b(\[[0-9;?]*[ -/]*[@-~]|\][^\x07]*\x07|[()][A-Z0-9]|[=>78])")


class InTerminal(Running):
    """A child process on a pseudo-terminal of 40 lines."""

    def __init__(
        self,
        title: str,
        command: list[str],
        folder: Path,
        environment: Mapping[str, str],
        output: Path | None = None,
        *,
        columns: int = 120,
        kind: str = "xterm-256color",
    ) -> None:
        self._keyboard = -1
        self._columns = columns
        super().__init__(title, command, folder, {**environment, "TERM": kind}, output)

    def _spawn(self) -> subprocess.Popen[bytes]:
        self.output.touch()
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, self._columns, 0, 0))
        try:
            process = subprocess.Popen(
                ["setsid", "--ctty", *self.command],
                cwd=self.folder,
                env=self.environment,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
            )
        finally:
            os.close(theirs)
        self._keyboard = ours
        self._recorder = threading.Thread(target=self._record, args=(ours,), daemon=True)
        self._recorder.start()
        return process

    def _record(self, terminal: int) -> None:
        with self.output.open("ab") as output:
            while True:
                try:
                    piece = os.read(terminal, 65536)
                except OSError:  # EIO: nobody has the other end open any more
                    os.close(terminal)
                    return
                output.write(piece)
                output.flush()

    def ended(self) -> int:
        """Wait for its end, and until all that it printed is recorded; the exit status."""
        status = self.process.wait(PATIENCE)
        self._recorder.join(PATIENCE)
        return status

    def screen(self) -> str:
        """All that was shown so far, without colours and cursor movements."""
        return _ESCAPES.sub("", self.text()).replace("\r\n", "\n")

    def wait_for_text(self, text: str, *, patience: float = PATIENCE) -> str:
        """Wait until the text is shown; returns all that was."""
        wait_for(lambda: text in self.screen(), f"{text!r} at the terminal", patience=patience)
        return self.screen()

    def takes_lines(self) -> bool:
        """Whether the terminal is as a shell wants it: it takes lines, and shows what is typed."""
        flags: int = termios.tcgetattr(self._keyboard)[3]
        return bool(flags & termios.ICANON and flags & termios.ECHO)

    def type(self, keys: str) -> None:
        """Press keys; `\\n` is the return key."""
        os.write(self._keyboard, keys.encode())
