"""What a checkpoint can hold: the bounds that workers and servers both keep it to."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from .bundlepaths import shown

MOST_FILES = 10_000
"""Files of one checkpoint."""
LONGEST_PATH = 1000
"""Characters."""
DEEPEST = 50
"""Folders inside one another."""
_LONGEST_NAME = 255
"""Bytes of one part of a path; what file systems take."""


def objection(paths: Iterable[str]) -> str | None:
    """Why files cannot have these paths in one folder, as a sentence; None if they can."""
    files: set[str] = set()
    folders: set[str] = set()
    for path in paths:
        wrong = _wrong(path)
        if wrong:
            return f"The path {shown(path)} is not acceptable: {wrong}."
        if path in files:
            return f"The path {shown(path)} is there twice."
        files.add(path)
        folder = path.rpartition("/")[0]
        while folder and folder not in folders:
            folders.add(folder)
            folder = folder.rpartition("/")[0]
    both = files & folders
    return f"The path {shown(min(both))} is a file and a folder." if both else None


def is_plain(name: str) -> bool:
    """Whether a name is UTF-8 without control characters."""
    return not any(unicodedata.category(character) in {"Cc", "Cs"} for character in name)


def _wrong(path: str) -> str | None:
    parts = path.split("/")
    if not is_plain(path):
        return "it is not UTF-8, or holds control characters"
    if len(path) > LONGEST_PATH or any(len(part.encode()) > _LONGEST_NAME for part in parts):
        return "it is too long"
    if len(parts) > DEEPEST + 1:
        return "it lies too deep"
    if any(part in {"", ".", ".."} for part in parts):
        return "it leads elsewhere"
    return None
