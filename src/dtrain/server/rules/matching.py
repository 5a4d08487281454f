"""Which lines of a piece of a log are looked for, quick enough for all of a long one."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from dtrain.protocol.progress import level_of

LEVELS = ("INFO", "WARNING", "ERROR", "PROGRESS")
_HEAD = 800
"""Bytes of a line in which its level is told."""
_MANY = 200
_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
_SIGNS = {
    "PROGRESS": (b"PROGRESS:",),
    "WARNING": (b"WARN", b"Warning: "),
    "ERROR": (
        b"ERROR",
        b"CRITICAL",
        b"FATAL",
        b"Traceback (",
        b"Error",
        b"Exception",
        b"Interrupt",
        b"Exit",
    ),
}
"""Each line of a level holds one of these, colours apart."""


class Filter(msgspec.Struct, frozen=True):
    """What is looked for; both must hold."""

    levels: frozenset[str] = frozenset()
    """The line's level is one of these; any, if there is none."""
    text: str = ""
    """The line holds this, whatever its case."""

    def __bool__(self) -> bool:
        """Whether it leaves out any line."""
        return bool(self.levels or self.text)

    def matching(self, data: bytes) -> list[int]:
        """The indices of the lines that are looked for, rising; the last line has no newline."""
        plain = _COLOUR.sub(b"", data) if b"\x1b" in data else data
        if self.text:
            found: Sequence[int] = _holding(plain, self.text.casefold())
        else:
            found = range(data.count(b"\n") + 1)
        if not self.levels or not found:
            return list(found)
        apart = self.levels if "INFO" not in self.levels else frozenset(LEVELS) - self.levels
        candidates = _signed(plain, apart).intersection(found)
        lines = data.split(b"\n") if candidates else []
        told = {index for index in candidates if level(lines[index]) in apart}
        return sorted(told) if apart is self.levels else [i for i in found if i not in told]


def level(line: bytes) -> str:
    """The level of a line."""
    return level_of(line[:_HEAD].decode(errors="replace"))


def _holding(data: bytes, text: str) -> list[int]:
    """The lines that hold a text, which is folded already."""
    if not text.isascii():
        folded = data.decode(errors="replace").casefold()
        return [index for index, line in enumerate(folded.split("\n")) if text in line]
    return _lines_with(data.lower(), text.encode())


def _signed(data: bytes, levels: frozenset[str]) -> set[int]:
    """The lines that may have one of these levels, INFO not being one of them."""
    found: set[int] = set()
    for one in levels:
        for sign in _SIGNS[one]:
            found.update(_lines_with(data, sign))
    return found


def _lines_with(data: bytes, part: bytes) -> list[int]:
    """The lines that hold a part: from one find to the next, unless there are too many."""
    found: list[int] = []
    index = counted = 0
    place = data.find(part)
    while place >= 0:
        if len(found) > _MANY:
            return [index for index, line in enumerate(data.split(b"\n")) if part in line]
        index += data.count(b"\n", counted, place)
        found.append(index)
        counted = data.find(b"\n", place)
        if counted < 0:
            break
        place = data.find(part, counted)
    return found
