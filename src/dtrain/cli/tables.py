"""Tables and colours in a terminal."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Literal

from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from dtrain.protocol.states import Status

from .output import clean

STYLES = {
    Status.PENDING: "yellow",
    Status.RUNNING: "cyan",
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.CANCELLED: "dim",
}
"""The colours of the statuses."""
_WIDE = 10_000
"""Columns: where the output is no terminal, nothing is cut off."""
_GAP = 2
_NARROWEST = 12
"""Columns that a flexible column keeps while others can be left out."""


def console() -> Console:
    """Where tables are printed: as wide as the terminal, or as they need it."""
    width = None if sys.stdout.isatty() else _WIDE
    return Console(width=width, highlight=False, markup=False, emoji=False)


def cell(text: str, style: str = "") -> Text:
    """Text for a table, on one line."""
    return Text(clean(text), style, no_wrap=True, overflow="ellipsis")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table."""

    title: str
    right: bool = False
    flexible: bool = False
    """Whether it is cut off where the terminal is narrow."""
    spare: int = 0
    """Left out where the terminal is narrower still, the highest first; 0 for never."""


class Table:
    """Rows under titles, which fit the terminal."""

    def __init__(self, *columns: Column) -> None:
        self._columns = columns
        self._rows: list[list[Text]] = []

    def add(self, *cells: str | Text) -> None:
        """Add a row."""
        self._rows.append([each if isinstance(each, Text) else cell(each) for each in cells])

    def show(self) -> None:
        """Print the table, if it has any row."""
        if not self._rows:
            return
        terminal = console()
        places = self._kept(terminal.width)
        made = RichTable(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold")
        for place in places:
            column = self._columns[place]
            justify: Literal["left", "right"] = "right" if column.right else "left"
            made.add_column(column.title, justify=justify, no_wrap=not column.flexible)
        for row in self._rows:
            made.add_row(*(row[place] for place in places))
        terminal.print(made)

    def _kept(self, width: int) -> list[int]:
        """The places of the columns for which there is room."""
        needed = [self._needs(place) for place in range(len(self._columns))]
        kept = [place for place, need in enumerate(needed) if need is not None]
        needs = {place: needed[place] or 0 for place in kept}
        while sum(needs[place] + _GAP for place in kept) - _GAP > width:
            spare = max(kept, key=lambda place: self._columns[place].spare)
            if self._columns[spare].spare == 0:
                break
            kept.remove(spare)
        return kept

    def _needs(self, place: int) -> int | None:
        """The width that a column needs at least; None where it is empty and can be spared."""
        column = self._columns[place]
        widest = max(row[place].cell_len for row in self._rows)
        if widest == 0 and column.spare:
            return None
        needs = max(widest, len(column.title))
        return min(needs, _NARROWEST) if column.flexible else needs
