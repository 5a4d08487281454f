"""Tables and colours in a terminal."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Literal

from rich.console import Console
from rich.table import Table
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


def console() -> Console:
    """Where tables are printed: as wide as the terminal, or as they need it."""
    width = None if sys.stdout.isatty() else _WIDE
    return Console(width=width, highlight=False, markup=False, emoji=False)


def table(*columns: str, flexible: str, right: Sequence[str] = ()) -> Table:
    """A table; where the terminal is narrow, the flexible column is cut off first."""
    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for name in columns:
        justify: Literal["left", "right"] = "right" if name in right else "left"
        made.add_column(name, justify=justify, no_wrap=name != flexible)
    return made


def cell(text: str, style: str = "") -> Text:
    """Text for a table, on one line."""
    return Text(clean(text), style, no_wrap=True, overflow="ellipsis")
