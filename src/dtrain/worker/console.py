"""What the agent says to whoever watches it: one calm line at a time, also beside a prompt."""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from typing import TextIO

from dtrain.protocol.errors import DTrainError

TROUBLE_INTERVAL = 60.0
"""Seconds between two lines about the same lasting trouble."""
_CLEAR_LINE = "\r\x1b[K"


class Console:
    """The lines of the agent, on a terminal or in a log. Threads may share it.

    Nothing here ever fails: a terminal that has gone must not end a job.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._is_terminal = out.isatty()
        self._guard = threading.Lock()
        self._prompt = ""

    def say(self, text: str) -> None:
        """Write a line with the time; a prompt that is on the screen moves below it."""
        form = "%H:%M:%S" if self._is_terminal else "%Y-%m-%d %H:%M:%S"
        self.write(f"{time.strftime(form)}  {plain(text)}\n")

    def write(self, text: str) -> None:
        """Write text as it is, above the prompt if there is one."""
        with self._guard:
            self._put(f"{_CLEAR_LINE if self._prompt else ''}{text}{self._prompt}")

    def prompt(self, text: str) -> None:
        """Put a prompt on the screen; it stays the last line until another one, or none, is set."""
        with self._guard:
            self._put(f"{_CLEAR_LINE if self._prompt else ''}{text}")
            self._prompt = text

    def answered(self) -> None:
        """The owner ended the prompt's line by typing; it is not to be written again."""
        with self._guard:
            self._prompt = ""

    def _put(self, text: str) -> None:
        with suppress(OSError, ValueError):
            self._out.write(text)
            self._out.flush()


class _Handler(logging.Handler):
    """Brings records of the log to a console."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).splitlines():
            self._console.say(line)


def log_to(console: Console, *, debug: bool) -> None:
    """Bring the package's log to a console: its warnings, or all of it."""
    handler = _Handler(console)
    handler.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
    logger = logging.getLogger("dtrain")
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG if debug else logging.WARNING)
    logger.propagate = False


class Trouble:
    """Says once a minute at most that the server cannot be reached, and when it can be again."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._guard = threading.Lock()
        self._next_at = 0.0
        self._is_known = False
        """Whether the last word was of trouble."""

    def __call__(self, error: DTrainError | None) -> None:
        """Take note of a failed call, or by None of one that was answered."""
        now = time.monotonic()
        with self._guard:
            if error is None:
                if not self._is_known:
                    return
                text = "The server answers again."
            else:
                if now < self._next_at:
                    return
                self._next_at = now + TROUBLE_INTERVAL
                text = f"{error.detail} The worker keeps trying; what runs keeps running."
            self._is_known = error is not None
        self._console.say(text)


def plain(text: str) -> str:
    """Text with everything escaped that could move a terminal's cursor or hide what is there."""
    return "".join(
        character
        if character.isprintable()
        else character.encode("unicode_escape", "surrogatepass").decode("ascii")
        for character in text
    )
