"""The bundle as a builder of images gets it: one archive, the same for the same content."""

from __future__ import annotations

import hashlib
import os
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from dtrain.protocol.filenames import DOCKERFILE
from dtrain.protocol.ignore import Patterns

_IGNORE = ".dockerignore"
_MOMENT = 315_619_200
"""When its files were changed last: soon after the first moment that a ZIP can hold."""


class _Hashed:
    """A file that is hashed while it is written."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hash = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.hash.update(data)
        return self._file.write(data)


def pack(work: Path, file: IO[bytes]) -> str:
    """Write the archive of a bundle, without what its `.dockerignore` names; its SHA-256.

    Every file may be written by everybody: a job in a container is not the user that built it.
    """
    hashed = _Hashed(file)
    with tarfile.open(fileobj=hashed, mode="w|") as archive:  # type: ignore[call-overload]
        for path in sorted(_wanted(work)):
            source = work / path
            info = tarfile.TarInfo(path)
            info.mtime = _MOMENT
            if source.is_dir():
                info.type, info.mode = tarfile.DIRTYPE, 0o777
                archive.addfile(info)
                continue
            status = source.stat()
            info.size, info.mode = status.st_size, 0o777 if status.st_mode & 0o100 else 0o666
            with source.open("rb") as content:
                archive.addfile(info, content)
    return hashed.hash.hexdigest()


def _wanted(work: Path) -> Iterator[str]:
    """The paths of what belongs to the archive; a bundle has no links."""
    lines = _lines(work / _IGNORE)
    for folder, folders, files in os.walk(work):
        for name in (*folders, *files):
            path = PurePosixPath(Path(folder, name).relative_to(work).as_posix())
            if str(path) in {DOCKERFILE, _IGNORE} or not _is_ignored(path, lines):
                yield str(path)


def _lines(file: Path) -> list[Patterns]:
    """The patterns, each for itself: unlike git's they all hold from the top of the bundle."""
    if not file.is_file():
        return []
    found = []
    for line in file.read_text(errors="replace").splitlines():
        text = line.strip()
        if text and not text.startswith("#"):
            negated = "!" if text.startswith("!") else ""
            path = text.removeprefix("!").strip().strip("/").removeprefix("./")
            found.append(Patterns([f"{negated}/{path}"]))
    return found


def _is_ignored(path: PurePosixPath, lines: list[Patterns]) -> bool:
    """The last line about a path, or about a folder that it is in, counts."""
    parts = [str(path), *(str(parent) for parent in path.parents if str(parent) != ".")]
    verdict = False
    for line in lines:
        said = [line.verdict(part, folder=True) for part in parts]
        if any(word is not None for word in said):
            verdict = any(said)
    return verdict
