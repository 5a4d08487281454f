"""Puts the newest whole generation of a job into the checkpoint folder of its next attempt."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from dtrain.protocol.checkpoints import objection
from dtrain.protocol.errors import Invalid, NotFound
from dtrain.protocol.worker_messages import KeptGeneration

from .console import plain
from .link import AttemptRef, Link
from .patience import RESTORING
from .spool import AttemptFolder

_FULL = {errno.ENOSPC, errno.EDQUOT}


def restore(
    folder: AttemptFolder, link: Link, ref: AttemptRef, check: Callable[[], None]
) -> list[str]:
    """Fill the checkpoint folder, afresh each time; nothing of the attempt may run yet.

    Args:
        folder: of the attempt.
        link: to the server.
        ref: the attempt.
        check: called with every piece that arrives; may raise, to break off.

    Returns:
        What was done, in sentences for the job's log; none for a job without checkpoints.

    Raises:
        OSError: the disk is full.
    """
    folder.clear_checkpoints()
    try:
        generations = link.kept_generations(ref, RESTORING).generations
    except NotFound:  # the server is of an older version, which has none
        return []
    said = []
    for generation in generations:
        name = f"Checkpoint {generation.number} of attempt {generation.attempt}"
        try:
            _fill(folder.checkpoints, generation, link, ref, check)
        except (Invalid, NotFound, OSError) as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise
            said.append(f"{name} cannot be restored: {plain(str(error))}")
            folder.clear_checkpoints()
        else:
            size = sum(file.size for file in generation.files)
            files = "1 file" if len(generation.files) == 1 else f"{len(generation.files):,} files"
            said.append(f"{name} is restored: {files}, {size:,} bytes.")
            return said
    if generations:
        said.append("The job starts anew.")
    return said


def _fill(
    folder: Path,
    generation: KeptGeneration,
    link: Link,
    ref: AttemptRef,
    check: Callable[[], None],
) -> None:
    """Write the files of a generation into an empty folder.

    Raises:
        Invalid: its names lead elsewhere, or a content is not what its hash says.
        NotFound: a content is gone.
        OSError: a file cannot be written.
    """
    wrong = objection(file.path for file in generation.files)
    if wrong:
        raise Invalid(wrong)
    there: dict[str, Path] = {}
    for file in generation.files:
        place = folder / file.path
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with place.open("x+b") as into:
            if file.sha256 in there:
                with there[file.sha256].open("rb") as same:
                    shutil.copyfileobj(same, into)
            else:
                link.content(ref, file.sha256, into, check=check)
            os.fchmod(into.fileno(), file.mode & 0o777)
        there[file.sha256] = place
