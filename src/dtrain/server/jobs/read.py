"""Jobs as people and programs look at them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dtrain.protocol.errors import NotFound
from dtrain.protocol.messages import Artifact, ArtifactList, BundleInfo, Event, EventList, Job
from dtrain.server.store import artifacts as stored_artifacts
from dtrain.server.store import events as stored_events
from dtrain.server.store import job_views

if TYPE_CHECKING:
    from dtrain.server.services import Services

_MAX_EVENTS = 1000


def get(services: Services, job_id: int) -> Job:
    """One job.

    Raises:
        NotFound: there is no such job.
    """
    with services.database.read() as connection:
        return job_views.get(connection, job_id)


def events(services: Services, job_id: int) -> EventList:
    """What has happened to a job, oldest first.

    Raises:
        NotFound: there is no such job.
    """
    with services.database.read() as connection:
        job_views.get(connection, job_id)
        return EventList(events=stored_events.of_job(connection, job_id, _MAX_EVENTS))


def history(
    services: Services, job_id: int, *, before: int | None = None, limit: int = 100
) -> tuple[list[Event], bool]:
    """What has happened to a job, newest first, and whether more came before.

    Args:
        services: the server's parts.
        job_id: the job's number.
        before: the id of an event; what came before it. None begins with the latest.
        limit: events at most.

    Raises:
        NotFound: there is no such job.
    """
    with services.database.read() as connection:
        job_views.get(connection, job_id)
        found = stored_events.before(connection, job_id, before, limit + 1)
    return found[:limit], len(found) > limit


def bundle(services: Services, job_id: int) -> tuple[BundleInfo, Path]:
    """A job's bundle and where its ZIP is.

    Raises:
        NotFound: there is no such job.
    """
    info = get(services, job_id).bundle
    return info, services.bundles.path(info.sha256)


def artifacts(services: Services, job_id: int, *, attempt: int | None = None) -> ArtifactList:
    """The files that an attempt has left; without its number, the latest that left any.

    Raises:
        NotFound: there is no such job or attempt.
    """
    with services.database.read() as connection:
        job = job_views.get(connection, job_id)
        if attempt is not None and not 1 <= attempt <= job.attempt:
            raise NotFound(f"Job {job_id} has no attempt {attempt}.", field="attempt")
        return ArtifactList(artifacts=stored_artifacts.listing(connection, job_id, attempt))


def attempts_with_artifacts(services: Services, job_id: int) -> list[int]:
    """The numbers of a job's attempts that left something, rising."""
    with services.database.read() as connection:
        return stored_artifacts.attempts_with_any(connection, job_id)


def artifact(
    services: Services, job_id: int, path: str, *, attempt: int | None = None
) -> tuple[Artifact, Path]:
    """One artifact and where its bytes are.

    Raises:
        NotFound: there is no such job, attempt or artifact.
    """
    for found in artifacts(services, job_id, attempt=attempt).artifacts:
        if found.path == path:
            return found, services.blobs.path(found.sha256)
    raise NotFound(f"Job {job_id} left no such file; `dtrain show {job_id}` lists what it left.")
