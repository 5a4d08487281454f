"""Jobs as people and programs look at them."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import TYPE_CHECKING

from dtrain.protocol.errors import Invalid, NotFound
from dtrain.protocol.messages import (
    Artifact,
    ArtifactList,
    BundleInfo,
    Event,
    EventList,
    Job,
    JobPage,
)
from dtrain.protocol.states import Status
from dtrain.server.store import artifacts as stored_artifacts
from dtrain.server.store import events as stored_events
from dtrain.server.store import job_views

if TYPE_CHECKING:
    from dtrain.server.services import Services

MAX_PAGE = 500
"""Jobs on one page at most."""
CURSOR = "^([A-Za-f][A-Za-z0-9_-]{9}[AEIMQUYcgkosw048])?$"
"""What a cursor looks like: a number of 63 bits in base64; nothing is the first page."""
_MAX_EVENTS = 1000
_MAX_TAGS = 50


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
    submitter: str | None = None,
    q: str | None = None,
    limit: int = 50,
    cursor: str | None = None,
) -> JobPage:
    """Jobs, newest first, that match every filter given.

    Args:
        services: the server's parts.
        status: one status, or several with commas: any of these.
        tag: a tag that the job carries, or several with commas: all of these.
        worker: the name or id of the latest attempt's worker.
        submitter: who handed the job in.
        q: text in the job's name, whatever its case.
        limit: jobs on the page.
        cursor: the `next` of the page before.

    Raises:
        Invalid: a filter is not acceptable.
    """
    before = _place(cursor) if cursor else None
    if not 1 <= limit <= MAX_PAGE:
        raise Invalid(f"The limit is a number from 1 to {MAX_PAGE}.", field="limit")
    statuses, tags = _statuses(status), list(dict.fromkeys(_words(tag)))
    if len(tags) > _MAX_TAGS:
        raise Invalid(f"Name at most {_MAX_TAGS} tags.", field="tag")
    with services.database.read() as connection:
        found = job_views.page(
            connection,
            status=statuses,
            tags=tags,
            worker=worker or None,
            submitter=submitter or None,
            text=q or None,
            before=before,
            limit=limit + 1,
        )
        counts = job_views.counts(connection)
    more = len(found) > limit
    found = found[:limit]
    return JobPage(jobs=found, next=_cursor(found[-1].id) if more else None, counts=counts)


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


def _statuses(text: str | None) -> list[Status]:
    try:
        return list(dict.fromkeys(map(Status, _words(text))))
    except ValueError:
        known = ", ".join(Status)
        raise Invalid(
            f"There is no such status; the statuses are {known}.", field="status"
        ) from None


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in (text or "").split(",") if word.strip()]


def _cursor(job_id: int) -> str:
    """A place between two jobs: it stays where it is while jobs come and go."""
    return base64.urlsafe_b64encode(job_id.to_bytes(8)).decode().rstrip("=")


def _place(cursor: str) -> int:
    if not re.fullmatch(CURSOR, cursor):
        raise Invalid("The cursor is the `next` of the page before.", field="cursor")
    return int.from_bytes(base64.urlsafe_b64decode(f"{cursor}="))
