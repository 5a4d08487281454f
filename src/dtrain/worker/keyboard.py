"""The terminal's keyboard: single keys while a question is open, lines at all other times.

The terminal is given back as it was found: after each question, when the agent is stopped by job
control, and at its end. It is only touched while the agent is in its foreground; from the
background that would stop the agent.
"""

from __future__ import annotations

import codecs
import os
import re
import signal
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

ESCAPE = "\x1b"
PASTED = "\x00"
"""Comes before text that was pasted, in one piece with it."""
_PASTE_ON, _PASTE_OFF = b"\x1b[?2004h", b"\x1b[?2004l"
_PASTE_BEGINS, _PASTE_ENDS = "\x1b[200~", "\x1b[201~"
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|O[ -~]|[^\[O\x1b])")
"""What keys without a sign of their own send, and Alt with another key."""
_UNFINISHED = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|O)?$")


class Closed(Exception):
    """Nobody can type at the terminal any more."""


class Keyboard:
    """The keyboard of a terminal. One thread reads it; `release` may be called from any.

    Args:
        descriptor: of the terminal.
        by_line: leave the terminal as it is, for one that can show nothing but whole lines.
    """

    def __init__(self, descriptor: int, *, by_line: bool = False) -> None:
        self.descriptor = descriptor
        self.by_line = by_line
        self._guard = threading.RLock()  # a signal may come while its holder has it
        self._found: list[Any] | None = None
        """The terminal's settings as they were found; None while it is not held."""
        self._closed = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""
        """The beginning of a sequence, or of a paste."""

    def hold(self) -> None:
        """Have every key as it is pressed; what was typed before is thrown away."""
        with self._guard:
            if self._closed or not self.in_foreground():
                return
            self._rest = ""
            self._decoder.reset()
            with suppress(termios.error, OSError), _in_peace():
                if self.by_line:
                    termios.tcflush(self.descriptor, termios.TCIFLUSH)
                    return
                found = termios.tcgetattr(self.descriptor)
                wanted: list[Any] = [*found[:6], list(found[6])]
                wanted[3] &= ~(termios.ICANON | termios.ECHO)
                wanted[6][termios.VMIN], wanted[6][termios.VTIME] = 1, 0
                termios.tcsetattr(self.descriptor, termios.TCSANOW, wanted)
                termios.tcflush(self.descriptor, termios.TCIFLUSH)
                self._found = self._found or found
                os.write(self.descriptor, _PASTE_ON)

    @property
    def is_held(self) -> bool:
        """Whether keys come as they are pressed, or as the terminal can give them."""
        return self.by_line or self._found is not None

    def release(self, *, for_good: bool = False) -> None:
        """Give the terminal back as it was. Harmless if it is not held."""
        with self._guard:
            self._closed = self._closed or for_good
            found, self._found = self._found, None
            if found is None or not self.in_foreground():
                return
            with suppress(termios.error, OSError), _in_peace():
                os.write(self.descriptor, _PASTE_OFF)
                termios.tcsetattr(self.descriptor, termios.TCSANOW, found)

    @contextmanager
    def released(self) -> Iterator[None]:
        """Give the terminal back, and do not hold it for as long as the block lasts."""
        with self._guard:
            self.release()
            yield

    def in_foreground(self) -> bool:
        """Whether using the terminal would not stop the agent, as in a shell's background."""
        try:
            return os.tcgetpgrp(self.descriptor) == os.getpgrp()
        except OSError:
            return True

    def read(self) -> list[str]:
        """The keys that were pressed, each a character; pasted text is one, behind `PASTED`.

        Raises:
            Closed: nobody can type any more.
        """
        try:
            data = os.read(self.descriptor, 4096)
        except OSError:
            data = b""
        if not data:
            raise Closed
        keys, self._rest = _keys(self._rest + self._decoder.decode(data))
        return keys

    def lone_escape(self) -> bool:
        """Whether the escape key was pressed and nothing came after it: what waits is that key."""
        is_lone = self._rest == ESCAPE
        if is_lone:
            self._rest = ""
        return is_lone

    @property
    def is_unsure(self) -> bool:
        """Whether a sequence has begun, which may be but the escape key."""
        return self._rest == ESCAPE


def _keys(text: str) -> tuple[list[str], str]:
    """The keys in what a terminal sent, and the beginning of one that is not whole yet."""
    keys: list[str] = []
    while text:
        if text.startswith(_PASTE_BEGINS):
            pasted, end, rest = text[len(_PASTE_BEGINS) :].partition(_PASTE_ENDS)
            if not end and len(text) < 65536:
                return keys, text
            keys.append(PASTED + pasted)
            text = rest
        elif _UNFINISHED.fullmatch(text):
            return keys, text
        elif sequence := _SEQUENCE.match(text):
            text = text[sequence.end() :]
        elif text[0] == ESCAPE:  # twice
            text = text[1:]
            keys.append(ESCAPE)
        else:
            keys.append(text[0])
            text = text[1:]
    return keys, ""


@contextmanager
def _in_peace() -> Iterator[None]:
    """Keep the terminal from stopping the agent, should it go to the background just now."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
