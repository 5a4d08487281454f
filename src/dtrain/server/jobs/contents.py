"""What is in a job's bundle, without unpacking it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dtrain.protocol import bundle
from dtrain.protocol.errors import NotFound
from dtrain.protocol.messages import BundleContents, BundleEntry

from . import read

if TYPE_CHECKING:
    from dtrain.server.services import Services


def contents(services: Services, job_id: int) -> BundleContents:
    """The files of a job's bundle.

    Raises:
        NotFound: there is no such job.
    """
    _, path = read.bundle(services, job_id)
    # The limits may be others now than those it was let in by.
    listing = bundle.inspect(path, bundle.UNLIMITED)
    files = [BundleEntry(path=file.path, size=file.size) for file in listing.files]
    return BundleContents(files=files, expanded=listing.expanded)


def file(services: Services, job_id: int, path: str) -> tuple[int, Iterator[bytes]]:
    """The size of one file of a job's bundle, unpacked, and its bytes.

    Raises:
        NotFound: there is no such job, or no such file in its bundle.
        Invalid: the bundle is damaged; of the file's own content that only shows while it is read.
    """
    _, archive = read.bundle(services, job_id)
    found = bundle.stream(archive, path, bundle.UNLIMITED)
    if found is None:
        raise NotFound(
            f"The bundle of job {job_id} holds no such file; `dtrain bundle {job_id} --list` lists"
            " what it holds."
        )
    return found
