"""What comes before an attempt's launch: its bundle fetched and unpacked, its plan made."""

from __future__ import annotations

import errno
import posixpath
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

from dtrain.protocol.bundle import entry_hint, extract
from dtrain.protocol.errors import Invalid, Refused
from dtrain.protocol.filenames import DOCKERFILE
from dtrain.protocol.states import Cause
from dtrain.protocol.states import Executor as ExecutorName

from .bundles import BundleCache
from .executors.base import Executor, Plan, PrepareFailed
from .spool import AttemptFolder

_FULL = {errno.ENOSPC, errno.EDQUOT}


def make_ready(
    folder: AttemptFolder,
    executor: Executor,
    bundles: BundleCache,
    fetch: Callable[[BinaryIO], None],
    restore: Callable[[], list[str]],
) -> Plan:
    """Make an attempt ready to be launched; from the start, whatever an earlier agent did of it.

    Args:
        folder: of the attempt.
        executor: makes its plan.
        bundles: that the worker has already.
        fetch: writes the bundle into a file.
        restore: fills the checkpoint folder of an attempt that is not the first; what it says goes
            to the job's log.

    Raises:
        PrepareFailed: it cannot be run; the text says why.
    """
    spec = folder.assignment.spec
    if len(folder.gpus) < spec.gpus:
        raise PrepareFailed(Cause.START_FAILED, f"The worker has not {spec.gpus} GPUs free.")
    with _named_causes():
        bundles.fetch(folder.assignment.bundle.sha256, folder.bundle, fetch)
        folder.clear_work()
        listing = extract(folder.bundle, folder.work)
        folder.bundle.unlink()
        entry = posixpath.normpath(spec.main_entry)
        paths = {file.path for file in listing.files}
        has_own_command = executor.name == ExecutorName.DOCKER and DOCKERFILE in paths
        if entry not in paths and not has_own_command:
            raise PrepareFailed(
                Cause.ENTRY_MISSING,
                f"The bundle has no {spec.main_entry}; {entry_hint(listing, spec.main_entry)}.",
            )
        if folder.assignment.attempt > 1:
            folder.begin_log(restore())
        return executor.prepare(folder)


@contextmanager
def _named_causes() -> Iterator[None]:
    """Turn what can go wrong with a bundle or a disk into the cause that the server knows."""
    try:
        yield
    except Invalid as error:
        raise PrepareFailed(Cause.BUNDLE_INVALID, error.detail) from error
    except Refused as error:
        detail = f"What the job needs could not be fetched: {error.detail}"
        raise PrepareFailed(Cause.START_FAILED, detail) from error
    except OSError as error:
        if error.errno not in _FULL:
            detail = f"The job could not be made ready: {error.strerror or error}."
            raise PrepareFailed(Cause.START_FAILED, detail) from error
        raise PrepareFailed(
            Cause.DISK_FULL, "The worker's disk is full; the job could not be unpacked there."
        ) from error
