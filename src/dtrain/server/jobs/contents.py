"""What is in a job's bundle, without unpacking it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dtrain.protocol import bundle
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
