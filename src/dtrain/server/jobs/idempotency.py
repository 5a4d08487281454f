"""A submission that is repeated because its answer was lost, told by the key that it carries."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dtrain.protocol.errors import Conflict, Invalid
from dtrain.protocol.routes import IDEMPOTENCY_HEADER
from dtrain.server.store import job_views, jobs

if TYPE_CHECKING:
    import sqlalchemy as sa

    from dtrain.protocol.messages import Job
    from dtrain.protocol.spec import JobSpec

LONGEST_KEY = 255
KEY = rf"^[!-~]([ -~]{{0,{LONGEST_KEY - 2}}}[!-~])?$"
"""What a key looks like: ASCII that can be printed, without blanks at its ends."""


@dataclass(frozen=True)
class Submission:
    """What makes two submissions the same."""

    spec: JobSpec
    bundle_sha256: str
    retry_of: int | None = None


def stored_key(key: str | None, submitter: str | None) -> str | None:
    """A client's key as it is stored: hashed, and one submitter's apart from another's.

    Raises:
        Invalid: it is no key.
    """
    if key is None:
        return None
    if not re.fullmatch(KEY, key):
        raise Invalid(
            f"The header {IDEMPOTENCY_HEADER} is not acceptable: it holds 1 to {LONGEST_KEY}"
            " characters of ASCII, such as a UUID.",
            field=IDEMPOTENCY_HEADER,
        )
    return hashlib.sha256(f"{submitter or ''}\n{key}".encode()).hexdigest()


def earlier(connection: sa.Connection, key: str | None, submission: Submission) -> Job | None:
    """The job that was made of the same submission with the same key.

    Raises:
        Conflict: the key has been used for another submission.
    """
    found = None if key is None else jobs.find_idempotent(connection, key)
    if found is None:
        return None
    job = job_views.get(connection, found)
    if Submission(job.spec, job.bundle.sha256, job.retry_of) != submission:
        raise Conflict(
            f"This {IDEMPOTENCY_HEADER} was used for another submission; choose a new one.",
            code="different",
            field=IDEMPOTENCY_HEADER,
        )
    return job
