"""What lies where in an attempt's folder, and how a file gets there for good.

The shim imports this module at its start, which every job waits for: the standard library's quick
part alone, hence text instead of `pathlib`.
"""
# pathlib would be in every shim.
# ruff: noqa: PTH104, PTH108, PTH120

from __future__ import annotations

import contextlib
import ctypes
import os
import sys

ATTEMPT = "attempt.json"
"""The assignment, the attempt's secret and its GPUs, by the agent."""
BUNDLE = "bundle.zip"
WORK = "work"
"""The unpacked bundle, the job's working directory."""
VENV = "venv"
OUTPUT = "output"
CHECKPOINTS = "checkpoints"
SNAPSHOT = "snapshot"
"""Links to what was in `CHECKPOINTS` at one moment, while that is on its way to the server."""
HOME = "home"
TEMPORARY = "tmp"
IN_USE = "in_use"
"""What it uses of what attempts share, a path a line (`shared`)."""
PLAN = "plan.json"
"""What the shim is to run, by the launcher."""
LOCK = "lock"
"""Held by the shim for as long as it lives, and by the launcher for it before."""
SHIM = "shim.json"
"""Which process the shim is: an attempt that has one was started, and is never started again."""
STEP = "step.json"
"""The step that is being run, by the shim; a hint."""
IMAGE = "image"
"""The image that a step has found or built for the attempt's container, by its number."""
CONTAINER = "container.json"
"""The container that the attempt runs in, if it does."""
BEGUN = "begun"
"""Bytes of the log that are not the container's; there before the container is started."""
CONTAINER_GROUP = "group.json"
"""The control group of the container, by what stands in for it; a hint."""
OUTCOME = "outcome.json"
"""How what a program stands in for has ended, by that program."""
STOP = "stop.json"
"""The wish that the attempt ends, by the agent."""
ANSWERED = "answered"
"""When the server has last answered, for a job that must not run unsupervised (`supervision`)."""
STUCK = "stuck"
"""Which of its processes not even SIGKILL has ended, by the shim; gone when they are."""
LOG = "log"
"""Everything that the job wrote to its standard output and error, byte for byte."""
SHIM_LOG = "shim.log"
"""The shim's own last words, should it fail."""
EXIT = "exit.json"
"""How the attempt ended; the last thing that the shim writes."""
FINISH = "finish.json"
"""The message that reports the end, by the agent, if that is more than what `EXIT` says."""
ACKNOWLEDGED = "acknowledged"
"""How many bytes of the log the server has; a hint."""

OF_THE_JOB = (WORK, VENV, OUTPUT, CHECKPOINTS, HOME, TEMPORARY)
"""The folders that are the job's own."""

MARK = "DTRAIN_PROCESS_MARK"
"""The environment variable by which every process of an attempt is known, whoever started it."""

_PIECE = 64 * 1024
"""Bytes that are read at once."""

_libc = ctypes.CDLL(None, use_errno=True)


def sync_folder(path: str) -> None:
    """Make the names in a folder durable.

    Raises:
        OSError: if the folder cannot be opened or written.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_disk(path: str) -> None:
    """Make everything durable that was written to the disk of a folder; no other is waited for.

    Raises:
        OSError: if the folder cannot be opened, or the disk not be written.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _libc.syncfs(descriptor):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)


def sync_tree(path: str) -> None:
    """Make the regular files below a folder, and their names, durable; what cannot be is left.

    No link is followed, nothing waits on a FIFO, and the folder may be as deep as it likes.
    """
    waiting = [path]
    while waiting:
        folder = waiting.pop()
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    _sync_file(entry.path)
            sync_folder(folder)


def _sync_file(path: str) -> None:
    with contextlib.suppress(OSError):  # not readable, or gone
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def write_durably(path: str, data: bytes) -> None:
    """Give a file new content, as `write_whole` does; it has survived any power cut after that.

    Raises:
        OSError: if the content cannot be written, for want of space for one; the old one stays.
    """
    write_whole(path, data, is_forced=True)
    sync_folder(os.path.dirname(path) or ".")


def write_whole(path: str, data: bytes, *, is_forced: bool = False) -> None:
    """Give a file new content, whole or not at all, readable by its owner alone.

    It may be torn, or the old one, after a power cut: right where what has to do with it is over
    by then. One writer at a time.

    Args:
        path: of the file.
        data: its content.
        is_forced: whether the content is on the disk before it is the file's.

    Raises:
        OSError: if the content cannot be written, for want of space for one; the old one stays.
    """
    new = f"{path}.new"
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(new, flags, 0o600)
    try:
        write_all(descriptor, data)
        if is_forced:
            os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
    finally:
        os.close(descriptor)
    os.rename(new, path)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of the data, in as many pieces as it takes.

    Raises:
        OSError: if the rest cannot be written.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def read_if_there(path: str) -> bytes | None:
    """The content of a file, or None if there is none. No link is followed, no pipe waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        return read_all(descriptor)
    finally:
        os.close(descriptor)


def read_all(descriptor: int) -> bytes:
    """All that is left to be read there.

    A file object takes twice as many system calls, for what is read again and again and is short.
    """
    content = b""
    while piece := os.read(descriptor, _PIECE):
        content += piece
    return content


def free_room(path: str) -> int:
    """Bytes that are free on the disk of a folder; very many if that cannot be told."""
    try:
        disk = os.statvfs(path)
    except OSError:
        return sys.maxsize
    return disk.f_bavail * disk.f_frsize
