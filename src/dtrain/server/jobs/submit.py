"""A job is handed in."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
import sqlalchemy as sa

from dtrain.protocol import bundle
from dtrain.protocol.bundlepaths import shown
from dtrain.protocol.errors import Conflict, Invalid
from dtrain.protocol.messages import BundleInfo, Job
from dtrain.protocol.spec import DEFAULT_REQUIREMENTS, JobSpec, parse_spec
from dtrain.server.store import bundles, job_views, jobs

if TYPE_CHECKING:
    from dtrain.server.services import Services


def submit(
    services: Services,
    raw: Mapping[str, object],
    upload: BinaryIO,
    *,
    submitter: str | None,
    idempotency_key: str | None,
) -> tuple[Job, bool]:
    """Check a bundle and its spec, store both, and queue the job.

    Args:
        services: the server's parts.
        raw: the fields of the spec, as they came.
        upload: the ZIP.
        submitter: who hands it in, as far as it is known.
        idempotency_key: chosen by the client; the same key again gives the same job.

    Returns:
        The job, and whether it is new.

    Raises:
        Invalid: a field or the bundle is not acceptable; nothing is stored.
        Conflict: the key has been used for a different job.
        Unavailable: it cannot be stored now.
    """
    spec = parse_spec(raw)
    files = 0

    def check(path: Path) -> None:
        nonlocal spec, files
        listing = bundle.inspect(path, services.settings.bundle_limits)
        spec = _resolved(spec, listing)
        files = len(listing.files)

    limit = services.settings.max_upload_bytes
    blob = services.bundles.receive(upload, limit=limit, check=check)
    info = BundleInfo(sha256=blob.sha256, size=blob.size, files=files)
    key = _key(idempotency_key, submitter)

    def work(connection: sa.Connection) -> tuple[Job, bool]:
        earlier = None if key is None else jobs.find_idempotent(connection, key)
        if earlier is not None:
            job = job_views.get(connection, earlier)
            if (job.spec, job.bundle.sha256) != (spec, info.sha256):
                raise Conflict(
                    "This Idempotency-Key was used for another submission; choose a new one.",
                    code="different",
                )
            return job, False
        now = services.clock.time()
        bundles.put(connection, info, now)
        job_id = jobs.insert(
            connection, spec, info.sha256, now, submitter=submitter, idempotency_key=key
        )
        return job_views.get(connection, job_id), True

    return services.database.write(work)


def _resolved(spec: JobSpec, listing: bundle.BundleListing) -> JobSpec:
    """The spec with what it names found in the bundle."""
    paths = {file.path for file in listing.files}
    if spec.main_entry not in paths:
        raise Invalid(
            f"There is no {shown(spec.main_entry)} in the bundle:"
            f" {bundle.entry_hint(listing, spec.main_entry)}",
            code="entry_missing",
            field="main_entry",
        )
    if spec.requirements_file is None or spec.requirements_file in paths:
        return spec
    if spec.requirements_file == DEFAULT_REQUIREMENTS:
        return msgspec.structs.replace(spec, requirements_file=None)
    raise Invalid(
        f"There is no {shown(spec.requirements_file)} in the bundle:"
        f" {bundle.entry_hint(listing, spec.requirements_file)}",
        code="requirements_missing",
        field="requirements_file",
    )


def _key(idempotency_key: str | None, submitter: str | None) -> str | None:
    """Keys are compared by their hash: any length will do, and users do not meet each other's."""
    if idempotency_key is None:
        return None
    text = f"{submitter or ''}\n{idempotency_key}"
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
