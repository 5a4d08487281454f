"""A terminal that shows a job's log and, beside it, what there is to say about the job.

The log goes to stdout, byte for byte. Everything else goes to stderr: notices, and a progress bar
that is taken away while log bytes are written and never drawn into an unfinished line.
"""

from __future__ import annotations

import shutil
import sys

from . import output

_BAR = 24
"""Columns."""
_ERASE = "\r\x1b[K"


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
            width = shutil.get_terminal_size().columns - 1
            self._err.write(output.clean(self._bar)[:width])
            self._is_drawn = True
        self._err.flush()

    def _erase(self) -> None:
        if self._is_drawn:
            self._err.write(_ERASE)
            self._err.flush()
            self._is_drawn = False


def _bar(fraction: float) -> str:
    done = round(fraction * _BAR)
    return f"[{'#' * done}{'-' * (_BAR - done)}]"
