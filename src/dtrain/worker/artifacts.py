"""What a job left in its output folder. What is left out of it is said in the worker's log."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path
from typing import BinaryIO

from dtrain.protocol.errors import Refused
from dtrain.protocol.worker_messages import ArtifactInfo

from .console import plain
from .link import AttemptRef, Link
from .patience import StaleAttempt, Superseded
from .regular_files import open_regular, walk

log = logging.getLogger(__name__)

MOST = 10_000
"""Files that are taken of one attempt."""
MOST_BYTES = 1_500_000
"""Bytes of all that is said of them when the end is reported, so that a server takes it."""
_NAMED = 20
"""Files left out that are named in the log, one by one."""
_BYTES_BESIDE = 120
"""Bytes that are said of a file beside its path."""
_PIECE = 1024**2


def collect(folder: Path) -> list[ArtifactInfo]:
    """The files below a folder with their sizes and hashes, by path; none if it is not there."""
    found: list[ArtifactInfo] = []
    left_out: list[str] = []
    told = 0
    try:
        for path, _ in walk(folder, left_out):
            told += len(path.encode()) + _BYTES_BESIDE
            if len(found) == MOST or told > MOST_BYTES:
                left_out.append(f"what comes after {len(found):,} files")
                break
            try:
                with open_regular(folder, path) as file:
                    found.append(_described(path, file))
            except OSError as error:
                left_out.append(f"{plain(path)}: {error.strerror}")
    except OSError as error:
        left_out.append(f"everything: {error.strerror}")
    for text in left_out[:_NAMED]:
        log.warning("Of the artifacts in %s is left out %s.", folder, text)
    if len(left_out) > _NAMED:
        log.warning("Of those in %s are left out %d more.", folder, len(left_out) - _NAMED)
    return sorted(found, key=lambda artifact: artifact.path)


def send(link: Link, ref: AttemptRef, folder: Path, artifact: ArtifactInfo) -> bool:
    """Send one of the files; False if it cannot be read any more, or is refused.

    Raises:
        DTrainError: the attempt does not count any more, or the agent stops.
    """
    try:
        with open_regular(folder, artifact.path) as file:
            link.put_artifact(ref, artifact, file)
    except (StaleAttempt, Superseded):
        raise
    except (Refused, OSError) as error:
        log.warning("The artifact %r cannot be sent: %s", artifact.path, error)
        return False
    return True


def _described(path: str, file: BinaryIO) -> ArtifactInfo:
    digest = hashlib.sha256()
    size = 0
    while piece := file.read(_PIECE):
        digest.update(piece)
        size += len(piece)
    return ArtifactInfo(path=path, size=size, sha256=digest.hexdigest())
