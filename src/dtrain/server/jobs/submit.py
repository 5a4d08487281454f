"""A job is handed in."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec
import sqlalchemy as sa

from dtrain.protocol import bundle as zips
from dtrain.protocol.bundlepaths import shown
from dtrain.protocol.errors import Invalid, NotFound
from dtrain.protocol.filenames import (
    DEFAULT_REQUIREMENTS,
    DOCKERFILE,
    JOB_FILE,
    MAX_JOB_FILE,
)
from dtrain.protocol.jobfile import read_job_file
from dtrain.protocol.messages import BundleInfo, Job
from dtrain.protocol.spec import (
    JobSpec,
    check_fields,
    default_executor,
    default_requirements,
    parse_spec,
)
from dtrain.protocol.states import Executor
from dtrain.server.store import bundles, job_views, jobs

from .idempotency import Submission, earlier, stored_key

if TYPE_CHECKING:
    from dtrain.server.services import Services

_MISNAMED = "dtrain.yml"


def submit(
    services: Services,
    raw: Mapping[str, object],
    bundle: BinaryIO | str,
    *,
    submitter: str | None,
    idempotency_key: str | None,
    default_name: str | None = None,
) -> tuple[Job, bool]:
    """Check a bundle and its spec, store both, and queue the job.

    Args:
        services: the server's parts.
        raw: the fields of the spec, as they came; they win over those in the bundle's dtrain.yaml.
        bundle: the ZIP, or the SHA-256 of one that was handed in before.
        submitter: who hands it in, as far as it is known.
        idempotency_key: chosen by the client; the same key again gives the same job.
        default_name: what the job is called if neither says it.

    Returns:
        The job, and whether it is new.

    Raises:
        Invalid: a field or the bundle is not acceptable; nothing is stored.
        Conflict: the key has been used for a different job.
        Unavailable: it cannot be stored now.
    """
    key = stored_key(idempotency_key, submitter)
    given = {name: value for name, value in raw.items() if value != ""}  # a field left out
    check_fields(given)
    if isinstance(bundle, str):
        spec, info = _known(services, given, bundle, default_name)
    else:
        spec, info = _received(services, given, bundle, default_name)

    def work(connection: sa.Connection) -> tuple[Job, bool]:
        job = earlier(connection, key, Submission(spec, info.sha256))
        if job is not None:
            return job, False
        now = services.clock.time()
        if not isinstance(bundle, str):
            bundles.put(connection, info, now)
        elif bundles.known(connection, bundle) is None:
            raise _unknown(bundle)
        job_id = jobs.insert(
            connection, spec, info.sha256, now, submitter=submitter, idempotency_key=key
        )
        return job_views.get(connection, job_id), True

    return services.database.write(work)


def _received(
    services: Services, given: Mapping[str, object], upload: BinaryIO, default_name: str | None
) -> tuple[JobSpec, BundleInfo]:
    """Store a bundle once it has been checked; the job's spec with it."""
    found: list[tuple[JobSpec, int]] = []

    def check(path: Path) -> None:
        found.append(_looked_into(path, given, services.settings.bundle_limits, default_name))

    limit = services.settings.max_upload_bytes
    blob = services.bundles.receive(upload, limit=limit, check=check)
    spec, files = found[0]
    return spec, BundleInfo(sha256=blob.sha256, size=blob.size, files=files)


def _known(
    services: Services, given: Mapping[str, object], sha256: str, default_name: str | None
) -> tuple[JobSpec, BundleInfo]:
    """The spec of a job with a bundle that is here already."""
    try:
        path = services.bundles.renew(sha256)
        size = path.stat().st_size
        # The limits may be others now than those it was let in by.
        spec, files = _looked_into(path, given, zips.UNLIMITED, default_name)
    except (NotFound, FileNotFoundError):
        raise _unknown(sha256) from None
    return spec, BundleInfo(sha256=sha256, size=size, files=files)


def _unknown(sha256: str) -> Invalid:
    return Invalid(
        f"The server has no bundle {shown(sha256)}, or has it no longer; send the ZIP itself, as"
        " the field file of a form.",
        code="bundle_unknown",
        field="bundle",
    )


def _looked_into(
    path: Path, given: Mapping[str, object], limits: zips.BundleLimits, default_name: str | None
) -> tuple[JobSpec, int]:
    """The spec that fields and bundle say together, and how many files the bundle has."""
    listing = zips.inspect(path, limits)
    paths = {file.path for file in listing.files}
    fields: dict[str, object] = {"name": default_name} if default_name else {}
    if JOB_FILE in paths:
        data = zips.read(path, JOB_FILE, MAX_JOB_FILE + 1, limits) or b""
        fields |= {
            name: value
            for name, value in read_job_file(data).items()
            if value != "" and (name, value) != ("name", None)
        }
    elif _MISNAMED in paths:
        raise Invalid(
            f"The bundle holds {_MISNAMED}, which is not read; rename it to {JOB_FILE}.",
            code="job_file",
            field=JOB_FILE,
        )
    return _resolved(parse_spec({**fields, **given}), listing), len(listing.files)


def _resolved(spec: JobSpec, listing: zips.BundleListing) -> JobSpec:
    """The spec with what it names found in the bundle."""
    paths = {file.path for file in listing.files}
    spec = msgspec.structs.replace(spec, executor=default_executor(spec, paths))
    has_own_command = spec.executor is Executor.DOCKER and DOCKERFILE in paths
    if spec.main_entry not in paths and not has_own_command:
        raise Invalid(
            f"There is no {shown(spec.main_entry)} in the bundle:"
            f" {zips.entry_hint(listing, spec.main_entry)}.",
            code="entry_missing",
            field="main_entry",
        )
    if spec.requirements_file is None or spec.requirements_file in paths:
        return spec
    if spec.requirements_file == DEFAULT_REQUIREMENTS:
        return msgspec.structs.replace(spec, requirements_file=default_requirements(paths))
    raise Invalid(
        f"There is no {shown(spec.requirements_file)} in the bundle:"
        f" {zips.entry_hint(listing, spec.requirements_file, 'requirements_file')}.",
        code="requirements_missing",
        field="requirements_file",
    )
