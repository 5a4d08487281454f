"""What of a file a page shows: a picture, the first rows of a table, the beginning of a text.

Only text that a template escapes ever comes out of here; a picture is shown by its address alone.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from itertools import islice
from pathlib import PurePosixPath
from typing import Literal

from .formats import visible

BEGINNING = 64 * 1024
"""Bytes that are looked at."""
_ROWS = 50
_COLUMNS = 40
_CELL = 200
_LARGEST_PICTURE = 32 * 1000**2
_LONGEST_JSON = 4 * BEGINNING
_PICTURES = {
    ".png": b"\x89PNG\r\n\x1a\n",
    ".jpg": b"\xff\xd8\xff",
    ".jpeg": b"\xff\xd8\xff",
    ".gif": b"GIF8",
}
"""How the files begin that a browser may draw, by their ending."""
_BROKEN = 0.02
"""The share of characters that could not be read from which on something is no text."""


@dataclass(frozen=True)
class Preview:
    """What is shown of a file."""

    kind: Literal["picture", "table", "text", "none"]
    text: str = ""
    rows: list[list[str]] = field(default_factory=list)
    """The first is the head."""
    is_cut: bool = False
    """Whether the file goes on."""


def is_picture(path: str) -> bool:
    """Whether a file may be a picture that a browser draws, by its name."""
    return PurePosixPath(path.lower()).suffix in _PICTURES


def preview(path: str, beginning: bytes, size: int) -> Preview:
    """What is shown of a file.

    Args:
        path: its name.
        beginning: its first `BEGINNING` bytes, or all there are.
        size: bytes of all of it.
    """
    suffix = PurePosixPath(path.lower()).suffix
    signature = _PICTURES.get(suffix)
    if signature and beginning.startswith(signature):
        return Preview("picture" if size <= _LARGEST_PICTURE else "none")
    text = _text(beginning)
    if text is None or not size:
        return Preview("none")
    is_cut = len(beginning) < size
    if suffix in {".csv", ".tsv"}:
        table = _table(text, suffix, is_cut=is_cut)
        if table is not None:
            return table
    if suffix == ".json" and not is_cut:
        text = _indented(text)
    lines = [visible(line) for line in text.removesuffix("\n").split("\n")]
    return Preview("text", "\n".join(lines), is_cut=is_cut)


def _text(data: bytes) -> str | None:
    """Bytes as text; None where they are something else."""
    if b"\0" in data:
        return None
    text = data.decode("utf-8-sig", errors="replace")
    if text.count("\N{REPLACEMENT CHARACTER}") > max(len(text) * _BROKEN, 3):
        return None
    return text


def _table(text: str, suffix: str, *, is_cut: bool) -> Preview | None:
    """The first rows of a table; None where it is none."""
    if is_cut:
        text = text[: text.rfind("\n") + 1]
    first = text.partition("\n")[0]
    delimiter = "\t" if suffix == ".tsv" else max(",;\t", key=first.count)
    try:
        read = list(islice(csv.reader(text.splitlines(), delimiter=delimiter), _ROWS + 2))
    except csv.Error:
        return None
    rows = [[_cell(value) for value in row[:_COLUMNS]] for row in read if row]
    if not rows or max(map(len, rows)) < 2:
        return None
    width = max(map(len, rows))
    rows = [row + [""] * (width - len(row)) for row in rows]
    is_cut = is_cut or len(rows) > _ROWS + 1 or any(len(row) > _COLUMNS for row in read)
    return Preview("table", rows=rows[: _ROWS + 1], is_cut=is_cut)


def _cell(value: str) -> str:
    value = visible(value)
    return f"{value[:_CELL]} …" if len(value) > _CELL else value


def _indented(text: str) -> str:
    """JSON with one member a line, if it is JSON and does not become endless."""
    try:
        found = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text
    return found if len(found) <= _LONGEST_JSON else text
