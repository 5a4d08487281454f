"""A worker's folder, `data/<worker name>/`: who the worker is, and its attempts.

    lock                     held by the agent
    identity.json            worker id and credential
    next_credential          that of an enrolment under way
    next_secrets             secrets of attempts to come (dtrain.worker.secret_file)
    owner_code               what the owner shows on the worker's page
    environments/            what attempts share (dtrain.worker.environment)
    bundles/                 ZIPs of jobs (dtrain.worker.bundles)
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
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from dtrain.protocol.errors import Conflict
from dtrain.protocol.states import Executor as ExecutorName
from dtrain.protocol.worker_messages import Assignment, Finish

from . import layout
from .layout import read_if_there, sync_folder, write_durably
from .processes import boot_id
from .records import (
    AttemptRecord,
    ExitRecord,
    Identity,
    PlannedGroup,
    ShimRecord,
    StepRecord,
)
from .removal import remove_tree
from .secret_file import SecretFile

_log = logging.getLogger(__name__)
_Record = TypeVar("_Record")

_GET_FLAGS, _SET_FLAGS = 0x80086601, 0x40086602
"""`FS_IOC_GETFLAGS` and `FS_IOC_SETFLAGS`: `ioctl_iflags(2)`."""
_TOP_OF_TREES = 0x00020000
"""`FS_TOPDIR_FL`, as by `chattr +T`."""

_REMOVED = ".removed-"
_NEW = ".new-"


class AttemptFolder:
    """One attempt on the disk."""

    def __init__(self, path: Path, record: AttemptRecord) -> None:
        self.path = path
        self.assignment = record.assignment
        self.secret = record.secret
        self.gpus = record.gpus
        self.executor = record.executor
        self.bundle = path / layout.BUNDLE
        """Where the bundle's ZIP goes."""
        self.work = path / layout.WORK
        """Where the bundle is unpacked: the job's working directory."""
        self.venv = path / layout.VENV
        self.output = path / layout.OUTPUT
        """What the job puts here is uploaded at its end."""
        self.checkpoints = path / layout.CHECKPOINTS
        """What the job puts here is there again for its next attempt."""
        self.home = path / layout.HOME
        self.tmp = path / layout.TEMPORARY
        self.log = path / layout.LOG
        """The raw bytes that the job wrote; grows at its end and is never rewritten."""

    def make(self, record: AttemptRecord) -> None:
        """Make the folder, with what an attempt needs at its start."""
        self.path.mkdir(mode=0o700)
        for folder in (self.work, self.output, self.checkpoints, self.home, self.tmp):
            folder.mkdir(mode=0o700)
        write_durably(str(self.path / layout.ATTEMPT), msgspec.json.encode(record))

    @property
    def owned(self) -> list[Path]:
        """What belongs to the job of the folder; the environment may be made later."""
        return [self.work, self.venv, self.output, self.checkpoints, self.home, self.tmp]

    @property
    def group(self) -> dict[str, str]:
        """The control group that its plan names; empty if it has none, or no plan yet."""
        plan = _load(self.path / layout.PLAN, PlannedGroup)
        return {} if plan is None else plan.limits.group

    @property
    def used_group(self) -> dict[str, str] | None:
        """The control group that all it runs is in; empty if it has none, None if none is known.

        That of a container is not the worker's to change.
        """
        plan = _load(self.path / layout.PLAN, PlannedGroup)
        if plan is None or not plan.contained:
            return None if plan is None else plan.limits.group
        group = _load(self.path / layout.CONTAINER_GROUP, dict[str, str])
        return group if group and all(map(os.path.isdir, group.values())) else None

    @property
    def shim(self) -> ShimRecord | None:
        """The shim that was started for it, alive or not; None if none ever was."""
        return _load(self.path / layout.SHIM, ShimRecord)

    @property
    def shim_of_this_boot(self) -> ShimRecord | None:
        """That shim, if the machine has not been started anew since; alive or not."""
        record = self.shim
        return record if record is not None and record.boot_id == boot_id() else None

    @property
    def step(self) -> StepRecord | None:
        """The step that runs now, or was the last; None before the first. A hint."""
        return _load(self.path / layout.STEP, StepRecord)

    @property
    def stuck(self) -> str | None:
        """What of it cannot be killed, as a sentence; None if nothing is known of such."""
        content = read_if_there(str(self.path / layout.STUCK))
        return content.decode(errors="replace") if content else None

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

    def begin_log(self, said: Sequence[str]) -> None:
        """Have the log begin with what the worker says; nothing may write to it yet."""
        self.log.unlink(missing_ok=True)
        self._log(said)

    def end_log(self, said: str) -> None:
        """Have the log end with what the worker says; nothing may write to it any more."""
        self._log([said])

    def clear_work(self) -> None:
        """Empty the working directory, for a bundle that is unpacked again."""
        if any(self.work.iterdir()):
            remove_tree(self.work)
            self.work.mkdir()

    def _log(self, said: Sequence[str]) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with open(os.open(self.log, flags, 0o600), "a+b") as log:  # noqa: PTH123 - a descriptor
            end = log.seek(0, os.SEEK_END)
            is_open = end > 0 and os.pread(log.fileno(), 1, end - 1) != b"\n"
            lines = "".join(f"[DTrain: {text}]\n" for text in said)
            log.write(("\n" * is_open + lines).encode())

    def clear_checkpoints(self) -> None:
        """Empty the checkpoint folder, for what is restored again."""
        remove_tree(self.checkpoints)
        self.checkpoints.mkdir(0o700)

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
        self.secrets = SecretFile(str(self.path / "next_secrets"))
        self._lock: int | None = None
        for folder in (self.path, self.environments, self._attempts):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        spread_apart(self._attempts)

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
                try:
                    remove_tree(path)
                except OSError as error:  # no reason to leave jobs that run without an agent
                    _log.warning("%s cannot be removed: %s", path, error)
        self.secrets.strike_out({attempt.secret for attempt in self.attempts()})

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
        (self.path / "next_credential").unlink(missing_ok=True)

    def next_credential(self) -> str:
        """The credential for an enrolment: the same one until an identity is saved.

        It is on the disk before it is returned, hence before it can be sent: should the answer be
        lost, this agent or the next one repeats the enrolment.
        """
        path = str(self.path / "next_credential")
        kept = (read_if_there(path) or b"").decode("ascii", "replace")
        if kept:
            return kept
        credential = secrets.token_urlsafe(32)
        write_durably(path, credential.encode())
        return credential

    def owner_code(self, make: Callable[[], str]) -> str:
        """The owner's code, in a file that only the owner can read; made if there is none."""
        path = str(self.path / "owner_code")
        kept = (read_if_there(path) or b"").decode("ascii", "replace").strip()
        if kept:
            return kept
        code = make()
        write_durably(path, f"{code}\n".encode())
        return code

    def uids(self) -> set[int]:
        """The numbers of the users that its attempts run as, or would."""
        found = set()
        for name in os.listdir(self._attempts):  # noqa: PTH208 -- every job waits for this
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                found.add(os.stat(f"{self._attempts}/{name}/{layout.TEMPORARY}").st_uid)  # noqa: PTH116
        return found

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
        self,
        assignment: Assignment,
        secret: str,
        gpus: Sequence[str] = (),
        executor: str = ExecutorName.VENV,
    ) -> AttemptFolder:
        """Give an attempt its folder; from then on its secret is not the next one any more.

        Repeating the call gives the same folder.

        Raises:
            Conflict: if the folder belongs to an attempt with another secret; remove that first.
        """
        record = AttemptRecord(
            assignment=assignment, secret=secret, gpus=list(gpus), executor=executor
        )
        path = self._attempts / f"{assignment.job_id}-{assignment.attempt}"
        there = _load(path / layout.ATTEMPT, AttemptRecord)
        if there is not None and not secrets.compare_digest(there.secret, secret):
            raise Conflict(
                f"{path} belongs to an earlier attempt of the same number; remove that first.",
                code="different",
            )
        if there is None:
            self._make(path, record)
        self.secrets.strike_out({secret})
        return AttemptFolder(path, there or record)

    def _make(self, path: Path, record: AttemptRecord) -> None:
        new = path.with_name(f"{_NEW}{path.name}-{secrets.token_hex(4)}")
        AttemptFolder(new, record).make(record)
        new.rename(path)
        sync_folder(str(self._attempts))


def spread_apart(folder: Path) -> None:
    """Have each folder in this one lie somewhere else on the disk, where ext4 is asked for that.

    Else it puts all in one place; and without a journal it gives out no inode that was freed in the
    last minutes, but looks at each of those on its way to another: with many short jobs most of
    the time that making their folders takes.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            flags = struct.unpack("l", fcntl.ioctl(descriptor, _GET_FLAGS, struct.pack("l", 0)))[0]
            fcntl.ioctl(descriptor, _SET_FLAGS, struct.pack("l", flags | _TOP_OF_TREES))
        finally:
            os.close(descriptor)


def _load(path: Path, kind: type[_Record]) -> _Record | None:
    """A record of the folder; None if there is none, or none that can be read."""
    content = read_if_there(str(path))
    if content is None:
        return None
    with contextlib.suppress(msgspec.DecodeError, msgspec.ValidationError):
        return msgspec.json.decode(content, type=kind)
    _log.warning("%s cannot be read; it is taken as missing", path)
    return None
