"""Jobs: handed in, looked at, cancelled, tried again, forgotten."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

import msgspec
from flask import Response, request

from dtrain.protocol import routes
from dtrain.protocol.messages import EventList, Explanation, Job, JobCounts, JobPage
from dtrain.protocol.states import Status
from dtrain.server.auth import services, submitter
from dtrain.server.jobs import cancel as cancelling
from dtrain.server.jobs import delete as deletion
from dtrain.server.jobs import explain as explanation
from dtrain.server.jobs import listing as lists
from dtrain.server.jobs import read
from dtrain.server.jobs import retry as retrial
from dtrain.server.jobs import submit as submission

from .endpoint import FORM, Endpoints, reply
from .reading import Query, Text
from .submission import idempotency_key, read_submission

api = Endpoints("jobs", "Jobs", "What is handed in, waits, runs and has run.")

_WHO = routes.SUBMITTER_HEADER
_ONCE = routes.IDEMPOTENCY_HEADER


def _several(item: dict[str, object]) -> dict[str, object]:
    """The schema of a parameter that holds several, with commas between them."""
    return {"type": "array", "items": item}


class JobsQuery(Query, frozen=True, kw_only=True):
    """Which jobs to list."""

    status: (
        Annotated[
            Text,
            msgspec.Meta(extra_json_schema=_several({"enum": [*Status]})),
        ]
        | None
    ) = None
    """Only jobs in one of these statuses."""
    tag: (
        Annotated[
            Text,
            msgspec.Meta(
                extra_json_schema=_several({"type": "string", "pattern": "^[^,\\u0000]+$"})
            ),
        ]
        | None
    ) = None
    """Only jobs that carry all of these tags."""
    worker: Text | None = None
    """Only jobs whose latest attempt is on the worker of this name or id."""
    submitter: Text | None = None
    """Only jobs that were handed in by this very name."""
    q: Text | None = None
    """Only jobs with this text in their names, whatever its case; a number finds that job too."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=lists.MAX_PAGE)] = 50
    """Jobs on the page at most."""
    cursor: Annotated[str, msgspec.Meta(pattern=lists.CURSOR)] | None = None
    """The `next` of the page before. It stays good while jobs come and go."""


@api(
    "POST",
    routes.JOBS,
    summary="Submit a job",
    body=FORM,
    answer=Job,
    status=201,
    also=(200,),
    errors=(409, 507),
    asks=(_ONCE, _WHO),
    gives=("Location",),
)
def submit() -> Response:
    """Hand in a ZIP with the fields of the job spec, or name a bundle that the server has.

    The ZIP comes in a form. JSON names, by its SHA-256 as `bundle`, one that was handed in before.

    The fields have the same names everywhere. In the form they are text: an empty one is a field
    left out, and `args`, `tags`, `env` and `labels` may come several times, once for each item. The
    field `spec` may hold a JSON object of fields instead. A `dtrain.yaml` at the top of the bundle
    may say any of them as well; what is said here wins. `name` must come from one of the two.

    A submission that is repeated with its Idempotency-Key is answered with 200 and the first one's
    job.
    """
    fields, bundle = read_submission()
    job, is_new = submission.submit(
        services(), fields, bundle, submitter=submitter(), idempotency_key=idempotency_key()
    )
    return _made(job, is_new=is_new)


@api(
    "GET",
    routes.JOBS,
    summary="List jobs",
    query=JobsQuery,
    answer=JobPage,
    gives=("Link",),
)
def listing(query: JobsQuery) -> Response:
    """The jobs that match every filter, newest first, in pages."""
    page = lists.page(services(), **msgspec.structs.asdict(query))
    links = []
    if page.next is not None:
        following = urlencode({**request.args.to_dict(), "cursor": page.next})
        links.append(("Link", f'<{routes.JOBS}?{following}>; rel="next"'))
    return reply(page, headers=links)


@api("GET", routes.JOB_COUNTS, summary="Count jobs", answer=JobCounts)
def counts() -> JobCounts:
    """How many jobs there are in each status. What it takes grows with the number of jobs."""
    return lists.counts(services())


@api("GET", routes.JOB, summary="Show a job", answer=Job)
def show(job_id: int) -> Job:
    """One job as it is now."""
    return read.get(services(), job_id)


@api("DELETE", routes.JOB, summary="Delete a job", status=204, errors=(507,))
def delete(job_id: int) -> None:
    """Forget a job, with its log, metrics and artifacts. One that runs is killed."""
    deletion.delete(services(), job_id)


@api(
    "POST",
    routes.JOB_CANCEL,
    summary="Cancel a job",
    answer=Job,
    errors=(507,),
    asks=(_WHO,),
)
def cancel(job_id: int) -> Job:
    """End a job: SIGTERM, and SIGKILL after 30 seconds; a second call kills at once.

    The answer comes before the end does. A job that has ended is left as it is.
    """
    return cancelling.cancel(services(), job_id, by=submitter())


@api(
    "POST",
    routes.JOB_RETRY,
    summary="Submit a job anew",
    answer=Job,
    status=201,
    also=(200,),
    errors=(409, 507),
    asks=(_ONCE, _WHO),
    gives=("Location",),
)
def retry(job_id: int) -> Response:
    """A new job with the bundle and the spec of this one."""
    job, is_new = retrial.retry(
        services(), job_id, by=submitter(), idempotency_key=idempotency_key()
    )
    return _made(job, is_new=is_new)


@api("GET", routes.JOB_EXPLAIN, summary="Explain where a job is", answer=Explanation)
def explain(job_id: int) -> Explanation:
    """Why a job waits, and what each worker lacks for it; else what it does, or how it ended."""
    return explanation.explain(services(), job_id)


@api("GET", routes.JOB_EVENTS, summary="List the changes of a job", answer=EventList)
def events(job_id: int) -> EventList:
    """What happened to a job, oldest first."""
    return read.events(services(), job_id)


def _made(job: Job, *, is_new: bool) -> Response:
    location = routes.path(routes.JOB, job_id=job.id)
    return reply(job, 201 if is_new else 200, [("Location", location)])
