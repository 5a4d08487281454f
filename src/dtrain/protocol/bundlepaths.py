"""Names inside a bundle: which are acceptable, which collide, and how a hostile one is shown."""

from __future__ import annotations

import re
import unicodedata

from .errors import Invalid

MAX_PATH = 1000
"""Bytes of a path in UTF-8."""
MAX_COMPONENT = 255
"""Bytes of one part of a path; what file systems take."""
MAX_DEPTH = 64
"""Parts of a path."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_SURROGATE = re.compile(r"[\ud800-\udfff]")
_DRIVE = re.compile(r"[A-Za-z]:")


def fault(detail: str, code: str = "bundle_invalid") -> Invalid:
    """The error for a bundle that is not acceptable; `detail` is its sentence.

    Codes: `bundle_not_zip`, `bundle_empty`, `bundle_invalid` (damaged, or of an unsupported kind),
    `bundle_unsafe` (made to deceive or to escape), `bundle_too_large` (beyond a limit; status 413).
    """
    status = 413 if code == "bundle_too_large" else None
    return Invalid(detail, code=code, status=status, field="file")


def shown(name: str | bytes, most: int = 80) -> str:
    """A name in quotes, safe to show: odd characters escaped, the middle cut out of a long one."""
    text = repr(name)
    if isinstance(name, bytes):
        text = text[1:]
    half = most // 2
    return text if len(text) <= most else f"{text[:half]}…{text[-half + 1 :]}"


def check_path(path: str) -> None:
    """Refuse a path that could leave the bundle's folder or that no file system would take.

    Raises:
        Invalid: code `bundle_unsafe`.
    """
    objection = _objection(path)
    if objection:
        raise fault(
            f"The bundle cannot hold {shown(path)}: {objection}; rename it.",
            "bundle_unsafe",
        )


def _objection(path: str) -> str | None:
    for pattern, objection in (
        (_SURROGATE, "the name is not UTF-8"),
        (_CONTROL, "the name holds a control character"),
    ):
        if pattern.search(path):
            return objection
    if path.startswith("/"):
        return "the path is absolute"
    if "\\" in path:
        return "the name holds a backslash"
    if _DRIVE.match(path):
        return "the path names a drive"
    return _length_objection(path, path.split("/"))


def _length_objection(path: str, parts: list[str]) -> str | None:
    if len(path.encode()) > MAX_PATH:
        return f"the path is longer than {MAX_PATH} bytes"
    if len(parts) > MAX_DEPTH:
        return f"it lies deeper than {MAX_DEPTH} folders"
    if ".." in parts:
        return "the path leads out of the folder"
    if "" in parts or "." in parts:
        return "the path has an empty part"
    if any(len(part.encode()) > MAX_COMPONENT for part in parts):
        return f"the name is longer than {MAX_COMPONENT} bytes"
    return None


class Tree:
    """The files and folders of a bundle so far; refuses whatever would collide on some system."""

    def __init__(self, most: int | None = None) -> None:
        """Make an empty tree that takes `most` files and folders, parents included."""
        self.folders: set[str] = set()
        """Every folder, parents of files and folders included."""
        self._most = most
        self._names: dict[str, tuple[str, str]] = {}

    def add_file(self, path: str) -> None:
        """Take in a file and the folders above it.

        Raises:
            Invalid: if the path is there already, in whatever case, or if there are too many.
        """
        self._take(path, "file")
        self.add_folder(path.rpartition("/")[0])

    def add_folder(self, path: str) -> None:
        """Take in a folder and those above it; one that is there already is no fault.

        Raises:
            Invalid: as `add_file`.
        """
        while path and path not in self.folders:
            self._take(path, "folder")
            self.folders.add(path)
            path = path.rpartition("/")[0]

    def _take(self, path: str, kind: str) -> None:
        there = self._names.setdefault(_key(path), taken := (path, kind))
        if there is not taken:
            raise fault(_collision(there, taken), "bundle_unsafe")
        if self._most is not None and len(self._names) > self._most:
            raise fault(
                f"The bundle holds more than {self._most:,} files and folders;"
                " leave some out, or put them into one archive that the job unpacks.",
                "bundle_too_large",
            )


def _key(path: str) -> str:
    """What two paths share that some file system takes for the same."""
    if path.isascii():
        return path.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def _collision(one: tuple[str, str], other: tuple[str, str]) -> str:
    if one == other:
        return f"The bundle holds {shown(one[0])} twice; make it again with one of them only."
    return (
        f"The bundle holds the {one[1]} {shown(one[0])} and the {other[1]} {shown(other[0])}, which"
        " many systems take for the same name; rename one of them."
    )
