"""What the agent says to whoever watches it: one calm line at a time, also beside a prompt."""

from __future__ import annotations

import io
import logging
import os
import threading
import time
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
        if isinstance(out, io.TextIOWrapper):
            out.reconfigure(errors="backslashreplace")
        self._out = out
        self._is_terminal = out.isatty()
        self.is_dumb = os.environ.get("TERM", "dumb") in {"dumb", "unknown", ""}
        """Whether the terminal can do nothing but write below what it has written."""
        self.is_plain = self.is_dumb or "utf" not in (out.encoding or "").lower()
        """Whether it can show no frames."""
        self._guard = threading.Lock()
        self._prompt = ""

    def say(self, text: str) -> None:
        """Write a line with the time; a prompt that is on the screen moves below it."""
        form = "%H:%M:%S" if self._is_terminal else "%Y-%m-%d %H:%M:%S"
        self.write(f"{time.strftime(form)}  {plain(text)}\n")

    def write(self, text: str) -> bool:
        """Write text as it is, above the prompt if there is one; False if it cannot be shown."""
        with self._guard:
            return self._put(f"{self._clear()}{text}{self._prompt}")

    def prompt(self, text: str) -> None:
        """Put a prompt on the screen; it stays the last line until another one, or none, is set.

        Must be shorter than the terminal is wide.
        """
        with self._guard:
            if text == self._prompt:
                return
            self._put(f"{self._clear()}{text}")
            self._prompt = text

    def answered(self) -> None:
        """The prompt was answered: its line stays as it is, and what comes is written below."""
        with self._guard:
            if self._prompt and not self.is_dumb:  # there the owner has ended the line himself
                self._put("\n")
            self._prompt = ""

    def _clear(self) -> str:
        """What makes room for something else where the prompt stands."""
        if not self._prompt:
            return ""
        return "\n" if self.is_dumb else _CLEAR_LINE

    def _put(self, text: str) -> bool:
        try:
            self._out.write(text)
            self._out.flush()
        except (OSError, ValueError):
            return False
        return True


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
