"""Files from a server: whole or not at all, taken up where they broke off, where they belong."""

from __future__ import annotations

import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO

from dtrain.protocol.bundlepaths import shown
from dtrain.protocol.errors import (
    Conflict,
    DTrainError,
    NotFound,
    Refused,
    Unavailable,
    Unreachable,
)
from dtrain.protocol.messages import Artifact, Checkpoint

from .stream import LONGEST_PAUSE, pauses
from .transport import Query, Stream, Transport

TRIES = 5
"""How often a server is asked at most that sends nothing more."""
_PIECE = 1024**2


def place_in(folder: Path, name: str) -> Path:
    """Where the file of a name that comes from elsewhere belongs in a folder; never outside it.

    Raises:
        Refused: the name, or a link in the folder, leads out of it.
    """
    parts = name.split("/")
    if "\0" in name or any(part in {"", ".", ".."} for part in parts):
        raise Refused(
            f"The name {shown(name)} leads out of the folder; nothing was downloaded. Choose the"
            " other files by a pattern.",
            code="unsafe_name",
        )
    place = folder.joinpath(*parts)
    if not place.parent.resolve().is_relative_to(folder.resolve()):
        raise Refused(
            f"A link in {shown(str(folder))} leads {shown(name)} out of it; nothing was downloaded."
            " Remove the link, or choose another folder.",
            code="unsafe_name",
        )
    return place


def check_free(place: Path, *, overwrite: bool) -> None:
    """Refuse to write where something is already.

    Raises:
        Conflict: a file is there and is not to be overwritten, or a folder is.
    """
    if place.is_dir() and not place.is_symlink():
        raise Conflict(f"{shown(str(place))} is a folder; choose another place.", code="exists")
    if not overwrite and os.path.lexists(place):
        raise Conflict(
            f"{shown(str(place))} is there already; remove it, or have it overwritten.",
            code="exists",
        )


def chosen(artifacts: Sequence[Artifact], patterns: Sequence[str]) -> Sequence[Artifact]:
    """The artifacts that one of the patterns means; all where there is no pattern.

    Raises:
        NotFound: a pattern means none.
    """
    for pattern in patterns:
        if not any(_matches(artifact.path, pattern) for artifact in artifacts):
            raise NotFound(f"No artifact fits {shown(pattern)}; list them with --list.")
    return [
        artifact
        for artifact in artifacts
        if not patterns or any(_matches(artifact.path, pattern) for pattern in patterns)
    ]


def generation(checkpoints: Sequence[Checkpoint], number: int | None) -> Checkpoint:
    """The checkpoint of a number, or the newest.

    Raises:
        NotFound: there is no such checkpoint.
    """
    for checkpoint in checkpoints:
        if number in {None, checkpoint.generation}:
            return checkpoint
    raise NotFound("The server keeps no such checkpoint of the job.")


def fetch(
    transport: Transport,
    address: str,
    place: Path,
    *,
    sha256: str,
    size: int,
    query: Query | None = None,
    overwrite: bool = False,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Download a file whose content is known by its hash.

    What arrives is kept beside the place in a hidden file, which a later call goes on with; the
    place itself only ever holds the whole and right content.

    Args:
        transport: to the server.
        address: the path on it.
        place: where the file goes; the folders above it are made.
        sha256: of the content.
        size: its bytes.
        query: what else the server is told.
        overwrite: whether a file that is there is replaced.
        progress: called with the bytes that are there.

    Raises:
        Conflict: something is at the place, or another program downloads the same.
        DTrainError: the server refuses, stays away, or sends something else (code `damaged`).
        OSError: the disk is full, or the like.
    """
    check_free(place, overwrite=overwrite)
    place.parent.mkdir(parents=True, exist_ok=True)
    kept = place.with_name(f".{sha256[:32]}.dtrain-part")
    with _opened(kept) as file:
        part = _Part(file, size)
        _complete(
            part,
            lambda start: transport.stream(
                address, query=query, headers=_from(start, f'"{sha256}"')
            ),
            progress or (lambda _: None),
        )
        if part.sha256 != sha256:
            kept.unlink()
            raise DTrainError(
                f"What came for {shown(place.name)} is not what was stored (its SHA-256 differs);"
                " download it again.",
                code="damaged",
            )
        check_free(place, overwrite=overwrite)
        kept.replace(place)


class _Part:
    """What has arrived of a file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.size = size
        """Bytes of the whole."""
        self.done = 0
        self._file = file
        self._digest = hashlib.sha256()
        while piece := file.read(_PIECE):
            self._digest.update(piece)
            self.done += len(piece)
        if self.done > size:
            self.restart()

    @property
    def sha256(self) -> str:
        """Of what is there, which is in the file then."""
        self._file.flush()
        return self._digest.hexdigest()

    def restart(self) -> None:
        """Forget what has arrived."""
        self._file.seek(0)
        self._file.truncate()
        self._digest = hashlib.sha256()
        self.done = 0

    def add(self, piece: bytes) -> None:
        """Append what has arrived next."""
        self._file.write(piece)
        self._digest.update(piece)
        self.done += len(piece)


@contextmanager
def _opened(kept: Path) -> Iterator[BinaryIO]:
    """The file of what has arrived, which no other program writes."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(kept, flags, 0o666), "r+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            is_ours = os.path.samestat(os.fstat(file.fileno()), kept.lstat())
        except (BlockingIOError, FileNotFoundError):
            is_ours = False
        if not is_ours:
            raise Conflict(
                f"Another program downloads into {shown(str(kept.parent))}; wait for it.",
                code="exists",
            )
        yield file


def _complete(
    part: _Part,
    ask: Callable[[int], AbstractContextManager[Stream]],
    progress: Callable[[int], None],
) -> None:
    """Receive what is missing, over as many connections as that takes.

    Args:
        part: what is there.
        ask: gives the answer that begins at a byte.
        progress: called with the bytes that are there.
    """
    waits, tries = pauses(), 0
    while part.done < part.size:
        before = part.done
        try:
            _receive(part, ask, progress)
        except (Unreachable, Unavailable) as error:
            if part.done > before:
                waits, tries = pauses(), 0
            tries += 1
            if tries == TRIES or error.code == "not_dtrain":
                raise
            time.sleep(max(next(waits), min(error.retry_after or 0, LONGEST_PAUSE)))


def _receive(
    part: _Part,
    ask: Callable[[int], AbstractContextManager[Stream]],
    progress: Callable[[int], None],
) -> None:
    """Receive from where the part ends, until the answer does."""
    with ask(part.done) as answer:
        if "Content-Range" not in answer.headers:
            part.restart()
        for piece in answer:
            part.add(piece)
            progress(part.done)
            if part.done > part.size:
                return
    if part.done < part.size:
        raise Unreachable("The answer ended before the file did; try again.")


def _from(start: int, etag: str) -> dict[str, str]:
    """The headers that ask for the bytes from one on, of that very content."""
    return {"Range": f"bytes={start}-", "If-Range": etag} if start else {}


def _matches(path: str, pattern: str) -> bool:
    """Whether a pattern means a file: by its path, by its name, or by a folder above it."""
    return (
        fnmatchcase(path, pattern)
        or fnmatchcase(path.rpartition("/")[2], pattern)
        or path.startswith(f"{pattern.rstrip('/')}/")
    )
