"""A terminal that shows a job's log and, beside it, what there is to say about the job.

The log goes to stdout, byte for byte. Everything else goes to stderr: notices, and a progress bar
that is taken away while log bytes are written and never drawn into an unfinished line.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from . import output

_BAR = 24
"""Columns."""
_ERASE = "\r\x1b[K"
_FROM = 4 * 1024**2
"""Bytes from which on a bar is shown while they are on their way."""
_EVERY = 0.1
"""Seconds between two pictures of such a bar."""


class Screen:
    """stdout and stderr, kept from spoiling one another."""

    def __init__(self) -> None:
        self._out = sys.stdout.buffer
        self._err = sys.stderr
        self._shares_terminal = sys.stdout.isatty()
        self._shows_bar = sys.stderr.isatty()
        self._bar = ""
        self._is_drawn = False
        self._line_is_open = False

    def log(self, data: bytes) -> None:
        """Write bytes of the log."""
        self._erase()
        self._out.write(data)
        self._out.flush()
        if data and self._shares_terminal:
            self._line_is_open = not data.endswith(b"\n")
        self._draw()

    def notice(self, text: str) -> None:
        """Say something about the job, on a line of its own."""
        self._erase()
        end = "\n" if self._line_is_open else ""
        self._line_is_open = False
        self._err.write(f"{end}{output.clean(text)}\n")
        self._draw()

    def progress(self, fraction: float | None, text: str = "") -> None:
        """Show how much is done, on a terminal; None takes the bar away."""
        self._erase()
        self._bar = "" if fraction is None else f"{_bar(fraction)} {fraction:4.0%}  {text}"
        self._draw()

    def _draw(self) -> None:
        if self._bar and self._shows_bar and not self._line_is_open:
            self._err.write(_fitting(output.clean(self._bar)))
            self._is_drawn = True
        self._err.flush()

    def _erase(self) -> None:
        if self._is_drawn:
            self._err.write(_ERASE)
            self._err.flush()
            self._is_drawn = False


class Transfer:
    """A bar for bytes on their way, where there are many of them and somebody watches."""

    def __init__(self, screen: Screen, what: str) -> None:
        self._screen = screen
        self._what = what
        self._begun = time.monotonic()
        self._first: int | None = None
        self._drawn = float("-inf")

    def show(self, done: int, total: int | None) -> None:
        """Say how many bytes there are of how many."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._begun = done, now
        if not total or total < _FROM or now < self._drawn + _EVERY:
            return
        self._drawn = now
        rate = (done - self._first) / max(now - self._begun, _EVERY)
        text = f"{self._what}{output.size(done)} of {output.size(total)}  {output.size(rate)}/s"
        self._screen.progress(done / total, text)


@contextmanager
def transfer(what: str = "") -> Iterator[Transfer]:
    """A bar that is gone when the block ends; `what` stands before the bytes."""
    screen = Screen()
    try:
        yield Transfer(screen, what)
    finally:
        screen.progress(None)


def _fitting(line: str) -> str:
    """As much of a line as the terminal is wide."""
    width = shutil.get_terminal_size().columns - 1
    if len(line) * 2 <= width:
        return line
    from rich.cells import cell_len, set_cell_size  # noqa: PLC0415  for long lines alone

    return line if cell_len(line) <= width else set_cell_size(line, width)


def _bar(fraction: float) -> str:
    done = round(fraction * _BAR)
    return f"[{'#' * done}{'-' * (_BAR - done)}]"
