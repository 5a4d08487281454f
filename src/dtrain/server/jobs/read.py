"""Jobs as people and programs look at them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dtrain.protocol.errors import Invalid, NotFound
from dtrain.protocol.messages import Artifact, ArtifactList, BundleInfo, EventList, Job, JobPage
from dtrain.protocol.states import Status
from dtrain.server.store import artifacts as stored_artifacts
from dtrain.server.store import events as stored_events
from dtrain.server.store import job_views

if TYPE_CHECKING:
    from dtrain.server.services import Services

MAX_PAGE = 500
"""Jobs on one page at most."""
_MAX_EVENTS = 1000


def get(services: Services, job_id: int) -> Job:
    """One job.

    Raises:
        NotFound: there is no such job.
    """
    with services.database.read() as connection:
        return job_views.get(connection, job_id)


def page(
    services: Services,
    *,
    status: str | None = None,
    tag: str | None = None,
    worker: str | None = None,
    q: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> JobPage:
    """Jobs, newest first, that match every filter given.

    Args:
        services: the server's parts.
        status: one status, or several with commas.
        tag: a tag that the job carries.
        worker: the name or id of the latest attempt's worker.
        q: text in the job's name.
        limit: jobs on the page.
        cursor: the `next` of the page before.

    Raises:
        Invalid: a filter is not acceptable.
    """
    before = _number(cursor)
    if not 1 <= limit <= MAX_PAGE:
        raise Invalid(f"The limit is a number from 1 to {MAX_PAGE}.", field="limit")
    with services.database.read() as connection:
        found = job_views.page(
            connection,
            status=_statuses(status),
            tag=tag or None,
            worker=worker or None,
            text=q or None,
            before=before,
            limit=limit + 1,
        )
        counts = job_views.counts(connection)
    more = len(found) > limit
    found = found[:limit]
    return JobPage(jobs=found, next=str(found[-1].id) if more else None, counts=counts)


def events(services: Services, job_id: int) -> EventList:
    """What has happened to a job, oldest first.

    Raises:
        NotFound: there is no such job.
    """
    with services.database.read() as connection:
        job_views.get(connection, job_id)
        return EventList(events=stored_events.of_job(connection, job_id, _MAX_EVENTS))


def bundle(services: Services, job_id: int) -> tuple[BundleInfo, Path]:
    """A job's bundle and where its ZIP is.

    Raises:
        NotFound: there is no such job.
    """
    info = get(services, job_id).bundle
    return info, services.bundles.path(info.sha256)


def artifacts(services: Services, job_id: int) -> ArtifactList:
    """The files that the latest attempt to leave any has left.

    Raises:
        NotFound: there is no such job.
    """
    with services.database.read() as connection:
        job_views.get(connection, job_id)
        return ArtifactList(artifacts=stored_artifacts.listing(connection, job_id))


def artifact(services: Services, job_id: int, path: str) -> tuple[Artifact, Path]:
    """One artifact and where its bytes are.

    Raises:
        NotFound: there is no such job or artifact.
    """
    for found in artifacts(services, job_id).artifacts:
        if found.path == path:
            return found, services.blobs.path(found.sha256)
    raise NotFound(f"Job {job_id} left no such file; `dtrain show {job_id}` lists what it left.")


def _statuses(text: str | None) -> list[Status]:
    try:
        return [Status(word.strip()) for word in (text or "").split(",") if word.strip()]
    except ValueError:
        known = ", ".join(Status)
        raise Invalid(
            f"There is no such status; the statuses are {known}.", field="status"
        ) from None


def _number(cursor: str | None) -> int | None:
    if not cursor:
        return None
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        raise Invalid("The cursor is the `next` of the page before.", field="cursor")
    return int(cursor)
