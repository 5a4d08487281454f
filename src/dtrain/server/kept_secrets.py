"""The secrets that nobody set: made once, kept in a file that only its owner can read.

A secret can be replaced while the server runs, which notices that the file is another. The one
before it holds for a while beside it, so that those who use it have time to change.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from dtrain.protocol.errors import DTrainError, Invalid

FILE = "secrets.json"
OVERLAP = 24 * 3600.0
"""Seconds for which a secret that was replaced still holds."""
_LOCK = "secrets.lock"
_OLD = "old"
_UNUSED = "unused"

log = logging.getLogger(__name__)


class Old(msgspec.Struct, frozen=True):
    """A secret that was replaced."""

    secret: str
    until: float
    """When it ceases to hold, in seconds since the epoch."""


class Kept(msgspec.Struct, frozen=True):
    """What the file holds."""

    secrets: dict[str, str] = {}
    """The newest, by the names of the settings that they stand for."""
    old: dict[str, list[Old]] = {}
    """Those before them, newest first."""
    unused: list[str] = []
    """Names for which the server, when it last started, was given another secret."""

    def holding(self, name: str, now: float) -> list[str]:
        """The secrets of the name that hold at a time, the newest first."""
        before = [old.secret for old in self.old.get(name, []) if now < old.until]
        return [self.secrets[name], *before] if name in self.secrets else []


def kept_secrets(folder: Path, wanted: Sequence[str], given: Iterable[str] = ()) -> dict[str, str]:
    """The secrets of those names; what the file lacks is made and added to it.

    Args:
        folder: the server's data folder.
        wanted: the names.
        given: names that were set otherwise; the file says which of its secrets are unused for it.

    Raises:
        Invalid: the file is there but holds something else.
        DTrainError: the folder cannot be written to.
    """
    try:
        kept = _read(folder / FILE)
        unused = sorted(set(given) & set(kept.secrets))
        if any(name not in kept.secrets for name in wanted) or unused != kept.unused:
            kept = _complete(folder, wanted, unused)
    except OSError as error:
        raise _unusable(folder, error) from error
    return {name: kept.secrets[name] for name in wanted}


def known_secrets(
    folder: Path, wanted: Sequence[str], _given: Iterable[str] = ()
) -> dict[str, str]:
    """As `kept_secrets`, for others than the server: nothing is made, what is unknown is empty."""
    kept = read_kept(folder)
    return {name: "" if name in kept.unused else kept.secrets.get(name, "") for name in wanted}


def read_kept(folder: Path) -> Kept:
    """What a data folder keeps; nothing is made.

    Raises:
        Invalid: the file holds something else.
        DTrainError: it cannot be read.
    """
    try:
        return _read(folder / FILE)
    except OSError as error:
        raise _unusable(folder, error) from error


def replace(folder: Path, names: Iterable[str], *, overlap: float = OVERLAP) -> Kept:
    """Make new secrets, which a running server takes over; what the file holds then.

    Args:
        folder: the server's data folder.
        names: which; the file holds them.
        overlap: seconds for which those before still hold; with 0 none of them does any longer.

    Raises:
        Invalid: the file holds something else.
        DTrainError: the folder cannot be written to.
    """
    now = time.time()
    try:
        with _locked(folder):
            kept = _read(folder / FILE)
            newest, old = dict(kept.secrets), dict(kept.old)
            for name in names:
                before = [entry for entry in old.get(name, []) if now < entry.until]
                old[name] = [Old(newest[name], now + overlap), *before] if overlap else []
                newest[name] = secrets.token_urlsafe(32)
            return _write(folder, msgspec.structs.replace(kept, secrets=newest, old=old))
    except OSError as error:
        raise _unusable(folder, error) from error


class Tokens:
    """The secrets that hold at present; one that was set holds as long as the server runs.

    Threads may share it.

    Args:
        folder: the server's data folder.
        at_start: the secrets with which the server has started, by name.
        kept: which of them are kept in the folder, and followed.
    """

    def __init__(self, folder: Path, at_start: Mapping[str, str], kept: Iterable[str]) -> None:
        self._path = folder / FILE
        self._at_start = dict(at_start)
        self._followed = frozenset(kept)
        self._guard = threading.Lock()
        self._seen = self._look()
        self._kept = Kept(secrets=self._at_start)
        if self._followed and self._seen is not None:
            self._take_over()

    def newest(self, name: str) -> str:
        """The one to hand out."""
        return self.holding(name)[0]

    def holding(self, name: str) -> list[str]:
        """All that hold, the newest first."""
        if name not in self._followed:
            return [self._at_start[name]]
        seen = self._look()
        if seen != self._seen:
            with self._guard:
                if seen != self._seen:
                    self._seen = seen
                    self._take_over()
        return self._kept.holding(name, time.time())

    def _look(self) -> tuple[int, int, int] | None:
        """What tells one state of the file from another; None where it cannot be seen."""
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_mtime_ns, status.st_size

    def _take_over(self) -> None:
        """Read the file; where that cannot be done, what held before goes on."""
        try:
            kept = _read(self._path)
        except (OSError, DTrainError) as error:
            log.warning("%s cannot be read (%s); the secrets stay as they were.", self._path, error)
            return
        missing = [name for name in self._followed if name not in kept.secrets]
        if missing:
            log.warning("%s lacks %s; the secrets stay as they were.", self._path, missing[0])
            return
        for name in sorted(self._followed):
            if kept.secrets[name] != self._kept.secrets[name]:
                log.info("%s is a new one now.", name)
        self._kept = kept


def _unusable(folder: Path, error: OSError) -> DTrainError:
    return DTrainError(
        f"The data folder {folder} cannot be used ({(error.strerror or str(error)).lower()});"
        " make it writable for the user who runs the server."
    )


def _read(path: Path) -> Kept:
    """What the file holds: secrets by their names, and beside them what is known about them."""
    try:
        content = msgspec.json.decode(path.read_bytes(), type=dict[str, msgspec.Raw])
        old = msgspec.json.decode(content.pop(_OLD, b"{}"), type=dict[str, list[Old]])
        unused = msgspec.json.decode(content.pop(_UNUSED, b"[]"), type=list[str])
        newest = {name: msgspec.json.decode(raw, type=str) for name, raw in content.items()}
    except FileNotFoundError:
        return Kept()
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise Invalid(
            f"{path} is damaged; put back a copy, or delete it to have new secrets made."
        ) from None
    return Kept(newest, old, unused)


def _complete(folder: Path, wanted: Sequence[str], unused: list[str]) -> Kept:
    """Have the file hold all that is wanted; of several who do so at once, one makes it."""
    with _locked(folder):
        kept = _read(folder / FILE)
        made = {name: secrets.token_urlsafe(32) for name in wanted if name not in kept.secrets}
        return _write(folder, Kept(kept.secrets | made, kept.old, unused))


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Keep other writers of the file away."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with open(folder / _LOCK, "ab", opener=_private) as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _private(path: str, flags: int) -> int:
    handle = os.open(path, flags, 0o600)
    _give_to_owner(handle, Path(path).parent)
    return handle


def _give_to_owner(handle: int, folder: Path) -> None:
    """What root writes into the server's folder is for the server's user to read."""
    if os.geteuid() == 0:
        owner = folder.stat()
        os.fchown(handle, owner.st_uid, owner.st_gid)


def _write(folder: Path, kept: Kept) -> Kept:
    content: dict[str, object] = dict(kept.secrets)
    if any(kept.old.values()):
        content[_OLD] = {name: old for name, old in kept.old.items() if old}
    if kept.unused:
        content[_UNUSED] = kept.unused
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=FILE)  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            _give_to_owner(handle, folder)
            file.write(msgspec.json.format(msgspec.json.encode(content), indent=4) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(folder / FILE)
    finally:
        Path(temporary).unlink(missing_ok=True)
    return kept
