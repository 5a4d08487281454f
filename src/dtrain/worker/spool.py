"""A worker's folder, `data/<worker name>/`: who the worker is, and its attempts.

    lock                     held by the agent
    identity.json            worker id and credential
    next_secret              the secret of the attempt that the next poll may bring
    environments/            what attempts share (dtrain.worker.environment)
    attempts/<job>-<attempt>/    one attempt each; `layout` names what is in it

All of it survives a power cut: what a method has written or returned is on the disk. One agent
has the folder at a time (`lock`); within it the methods may be called from several threads,
though not for one attempt at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from dtrain.protocol.errors import Conflict
from dtrain.protocol.states import Cause
from dtrain.protocol.worker_messages import Assignment, Finish

from . import layout
from .layout import read_if_there, sync_folder, write_durably
from .removal import remove_tree

_log = logging.getLogger(__name__)
_Record = TypeVar("_Record", bound=msgspec.Struct)

_REMOVED = ".removed-"
_NEW = ".new-"


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who the worker is to its server."""

    worker_id: str
    credential: str


class ShimRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Which process a shim is; no other process, before or after a reboot, fits all three."""

    pid: int
    ticks: int
    """When it started, in the kernel's ticks since the boot."""
    boot_id: str
    mark: str
    """What its processes have in the environment variable `layout.MARK`."""


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The step that a shim has started last."""

    name: str
    pid: int
    """Of its program, which leads a session of this number."""
    ticks: int


class ExitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended, as its shim saw it."""

    cause: Cause
    exit_code: int | None = None
    signal: int | None = None
    message: str | None = None
    """What went wrong, for the causes that need more than their name."""
    peak_memory: int | None = None
    """Bytes; of the largest process."""
    duration: float = 0.0
    """Seconds from the start of the first step to the end of the last."""
    traceback: str | None = None
    """The last lines of the log of an attempt that failed, from its last traceback on."""
    log_bytes: int = 0


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt is, as the agent got it."""

    assignment: Assignment
    secret: str
    gpus: list[str] = []
    """The GPUs set aside for it, as `CUDA_VISIBLE_DEVICES` takes them."""


class AttemptFolder:
    """One attempt on the disk."""

    def __init__(self, path: Path, record: AttemptRecord) -> None:
        self.path = path
        self.assignment = record.assignment
        self.secret = record.secret
        self.gpus = record.gpus
        self.bundle = path / layout.BUNDLE
        """Where the bundle's ZIP goes."""
        self.work = path / layout.WORK
        """Where the bundle is unpacked: the job's working directory."""
        self.venv = path / layout.VENV
        self.output = path / layout.OUTPUT
        """What the job puts here is uploaded at its end."""
        self.checkpoints = path / layout.CHECKPOINTS
        self.home = path / layout.HOME
        self.tmp = path / layout.TEMPORARY
        self.log = path / layout.LOG
        """The raw bytes that the job wrote; grows at its end and is never rewritten."""

    @property
    def shim(self) -> ShimRecord | None:
        """The shim that was started for it, alive or not; None if none ever was."""
        return _load(self.path / layout.SHIM, ShimRecord)

    @property
    def step(self) -> StepRecord | None:
        """The step that runs now, or was the last; None before the first. A hint."""
        return _load(self.path / layout.STEP, StepRecord)

    @property
    def exit(self) -> ExitRecord | None:
        """How it ended; None as long as it runs, and for good if its shim was killed."""
        return _load(self.path / layout.EXIT, ExitRecord)

    @property
    def finish(self) -> Finish | None:
        """The message that reports its end, once one was saved."""
        return _load(self.path / layout.FINISH, Finish)

    def save_finish(self, finish: Finish) -> None:
        """Keep the message that reports the end, so that every repetition is the same."""
        write_durably(str(self.path / layout.FINISH), msgspec.json.encode(finish))

    @property
    def acknowledged(self) -> int:
        """How many bytes of the log the server is known to have; a hint that may lag behind."""
        content = read_if_there(str(self.path / layout.ACKNOWLEDGED))
        return int(content) if content and content.isdigit() else 0

    def save_acknowledged(self, offset: int) -> None:
        """Note how many bytes of the log the server has. Does not wait for the disk."""
        new = self.path / f"{layout.ACKNOWLEDGED}.new"
        new.write_bytes(b"%d" % offset)
        new.replace(self.path / layout.ACKNOWLEDGED)

    def clear_work(self) -> None:
        """Empty the working directory, for a bundle that is unpacked again."""
        remove_tree(self.work)
        self.work.mkdir()

    def remove(self) -> None:
        """Delete all of it, whatever the job left there. Harmless if it is gone already.

        The attempt's processes must have ended. From the first moment on `attempts()` does not
        list it; what an agent killed in the middle leaves behind is swept by the next `lock()`.
        """
        gone = self.path.with_name(f"{_REMOVED}{self.path.name}-{secrets.token_hex(4)}")
        try:
            self.path.rename(gone)
        except FileNotFoundError:
            return
        remove_tree(gone)


class WorkerFolder:
    """All that a worker keeps between two starts of its agent."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.environments = self.path / "environments"
        self._attempts = self.path / "attempts"
        self._secret_file = str(self.path / "next_secret")
        self._secret_guard = threading.Lock()
        self._lock: int | None = None
        for folder in (self.path, self.environments, self._attempts):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def lock(self) -> None:
        """Take the folder for this process, until `unlock` or its end; sweep what is half done.

        Raises:
            Conflict: if another agent has it.
        """
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise Conflict(
                f"Another agent works in {self.path}; stop it, or give this one another"
                " worker_name (DTRAIN_WORKER_NAME).",
                code="locked",
            ) from None
        self._lock = descriptor
        for path in self._attempts.iterdir():
            if path.name.startswith((_REMOVED, _NEW)):
                remove_tree(path)
        self._forget_secret({attempt.secret for attempt in self.attempts()})

    def unlock(self) -> None:
        """Give the folder back."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def load_identity(self) -> Identity | None:
        """Who the worker is; None before its enrolment."""
        return _load(self.path / "identity.json", Identity)

    def save_identity(self, identity: Identity) -> None:
        """Keep who the worker is, in a file that only its owner can read."""
        write_durably(str(self.path / "identity.json"), msgspec.json.encode(identity))

    def forget_identity(self) -> None:
        """Be nobody again, so that the next start enrols anew."""
        (self.path / "identity.json").unlink(missing_ok=True)
        sync_folder(str(self.path))

    def next_secret(self) -> str:
        """The secret of the attempt that may come next: the same one until an attempt takes it.

        It is on the disk before it is returned, hence before it can be sent.
        """
        with self._secret_guard:
            kept = read_if_there(self._secret_file)
            if kept:
                return kept.decode("ascii", "replace")
            secret = secrets.token_urlsafe(32)
            write_durably(self._secret_file, secret.encode())
            return secret

    def _forget_secret(self, taken: set[str]) -> None:
        """Have another next secret, if the present one is an attempt's."""
        with self._secret_guard:
            kept = read_if_there(self._secret_file)
            if kept is not None and kept.decode("ascii", "replace") in taken:
                Path(self._secret_file).unlink()
                sync_folder(str(self.path))

    def attempts(self) -> list[AttemptFolder]:
        """The attempts on the disk, in the order of job and attempt."""
        found = []
        for path in self._attempts.iterdir():
            if path.name.startswith("."):
                continue
            record = _load(path / layout.ATTEMPT, AttemptRecord)
            if record is None:
                _log.warning("%s is not an attempt's folder; it is left as it is", path)
            else:
                found.append(AttemptFolder(path, record))
        return sorted(found, key=lambda one: (one.assignment.job_id, one.assignment.attempt))

    def create_attempt(
        self, assignment: Assignment, secret: str, gpus: Sequence[str] = ()
    ) -> AttemptFolder:
        """Give an attempt its folder; from then on its secret is not the next one any more.

        Repeating the call gives the same folder.

        Raises:
            Conflict: if the folder belongs to an attempt with another secret; remove that first.
        """
        record = AttemptRecord(assignment=assignment, secret=secret, gpus=list(gpus))
        path = self._attempts / f"{assignment.job_id}-{assignment.attempt}"
        there = _load(path / layout.ATTEMPT, AttemptRecord)
        if there is not None and not secrets.compare_digest(there.secret, secret):
            raise Conflict(
                f"{path} belongs to an earlier attempt of the same number; remove that first.",
                code="different",
            )
        if there is None:
            self._make(path, record)
        self._forget_secret({secret})
        return AttemptFolder(path, there or record)

    def _make(self, path: Path, record: AttemptRecord) -> None:
        new = path.with_name(f"{_NEW}{path.name}-{secrets.token_hex(4)}")
        new.mkdir(mode=0o700)
        attempt = AttemptFolder(new, record)
        folders = (attempt.work, attempt.output, attempt.checkpoints, attempt.home, attempt.tmp)
        for folder in folders:
            folder.mkdir(mode=0o700)
        write_durably(str(new / layout.ATTEMPT), msgspec.json.encode(record))
        new.rename(path)
        sync_folder(str(self._attempts))


def _load(path: Path, kind: type[_Record]) -> _Record | None:
    """A record of the folder; None if there is none, or none that can be read."""
    content = read_if_there(str(path))
    if content is None:
        return None
    with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError):
        return msgspec.json.decode(content, type=kind)
    _log.warning("%s cannot be read; it is taken as missing", path)
    return None
