"""Files as folders: what stands in one of them, of a flat list of paths."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dtrain.protocol.messages import Job

from .previews import Preview, is_picture


@dataclass(frozen=True)
class FileEntry:
    """A file, or a folder, in a folder."""

    name: str
    path: str
    size: int
    """Bytes; of a folder, of all that is in it."""
    files: int | None = None
    """How many files are in it; None of a file."""

    @property
    def is_picture(self) -> bool:
        """Whether a browser may draw it."""
        return self.files is None and is_picture(self.path)


@dataclass(frozen=True)
class Crumb:
    """A folder above what is shown."""

    name: str
    path: str


@dataclass(frozen=True)
class FilesContext:
    """`/jobs/<id>/artifacts` and `/jobs/<id>/bundle`: a folder, or one file of it."""

    job: Job
    title: str
    endpoint: str
    path: str
    """From the top, without a slash at the end; empty for the top."""
    total: int
    """How many files there are in all."""
    total_size: int
    """Bytes of all of them."""
    entries: list[FileEntry]
    """What stands in the folder."""
    first: int
    """How many of them stand before those that are shown."""
    file: FileEntry | None = None
    preview: Preview | None = None
    address: str = ""
    """Where to download the file."""
    attempt: int | None = None
    attempts: tuple[int, ...] = ()
    """Those that left something, where it is of attempts."""

    is_chosen: bool = False
    """Whether the attempt is one that was asked for, rather than the latest."""

    PAGE = 500

    def query(self, path: str = "", after: int | None = None) -> dict[str, str | int]:
        """The address's parameters for another file or folder."""
        found: dict[str, str | int | None] = {
            "path": path or None,
            "attempt": self.attempt if self.is_chosen else None,
            "after": after,
        }
        return {name: value for name, value in found.items() if value is not None}

    @property
    def shown(self) -> list[FileEntry]:
        """What of the folder is on this page."""
        return self.entries[self.first : self.first + self.PAGE]

    @property
    def next(self) -> int | None:
        """The `first` of the following page."""
        end = self.first + self.PAGE
        return end if end < len(self.entries) else None

    @property
    def crumbs(self) -> list[Crumb]:
        """The folders above."""
        parts = self.path.split("/") if self.path else []
        return [
            Crumb(part, "/".join(parts[: number + 1])) for number, part in enumerate(parts[:-1])
        ]

    @property
    def name(self) -> str:
        """Of what is shown, without its folders."""
        return self.path.rpartition("/")[2]


def folder(files: Iterable[tuple[str, int]], path: str) -> list[FileEntry]:
    """What stands in a folder, folders first; empty if there is no such folder.

    Args:
        files: path and size of each file.
        path: the folder, without a slash at the end; empty for the top.
    """
    above = f"{path}/" if path else ""
    folders: dict[str, tuple[int, int]] = {}
    found: list[FileEntry] = []
    for name, size in files:
        if not name.startswith(above):
            continue
        first, slash, _ = name[len(above) :].partition("/")
        if slash:
            count, total = folders.get(first, (0, 0))
            folders[first] = (count + 1, total + size)
        else:
            found.append(FileEntry(first, name, size))
    inside = [
        FileEntry(name, f"{above}{name}", size, count) for name, (count, size) in folders.items()
    ]
    return sorted(inside, key=_by_name) + sorted(found, key=_by_name)


def _by_name(entry: FileEntry) -> tuple[str, str]:
    return entry.name.lower(), entry.name
