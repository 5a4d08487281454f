"""Jobs: handed in, looked at, cancelled, tried again, forgotten."""

from __future__ import annotations

from typing import Annotated, BinaryIO, cast

import msgspec
from flask import Response, request

from dtrain.protocol import routes
from dtrain.protocol.errors import Invalid
from dtrain.protocol.messages import EventList, Explanation, Job, JobPage
from dtrain.server.auth import services
from dtrain.server.jobs import cancel as cancelling
from dtrain.server.jobs import delete as deletion
from dtrain.server.jobs import explain as explanation
from dtrain.server.jobs import read
from dtrain.server.jobs import retry as retrial
from dtrain.server.jobs import submit as submission

from .endpoint import Endpoints, reply
from .reading import Query

api = Endpoints("jobs")

_FILE = "file"
_REPEATED = frozenset({"args", "tags", "env", "labels"})
"""The fields that a form may bring more than once."""
_NOT_SPEC = frozenset({"csrf_token"})


class JobsQuery(Query, frozen=True, kw_only=True):
    """Which jobs to list."""

    status: str | None = None
    tag: str | None = None
    worker: str | None = None
    q: str | None = None
    limit: Annotated[int, msgspec.Meta(ge=1, le=read.MAX_PAGE)] = 50
    cursor: str | None = None


@api("POST", routes.JOBS, summary="Submit a job", answer=Job, status=201)
def submit() -> Response:
    """A form with the fields of the job spec and the bundle as `file`."""
    fields, upload = _form()
    job, is_new = submission.submit(
        services(),
        fields,
        upload,
        submitter=None,
        idempotency_key=request.headers.get(routes.IDEMPOTENCY_HEADER),
    )
    return _made(job, is_new=is_new)


@api("GET", routes.JOBS, summary="List jobs, newest first", query=JobsQuery, answer=JobPage)
def listing(query: JobsQuery) -> JobPage:
    """The jobs that match every filter."""
    return read.page(services(), **msgspec.structs.asdict(query))


@api("GET", routes.JOB, summary="Show a job", answer=Job)
def show(job_id: int) -> Job:
    """One job."""
    return read.get(services(), job_id)


@api("DELETE", routes.JOB, summary="Delete a job and all that belongs to it", status=204)
def delete(job_id: int) -> None:
    """Forget a job."""
    deletion.delete(services(), job_id)


@api("POST", routes.JOB_CANCEL, summary="Cancel a job; a second time, at once", answer=Job)
def cancel(job_id: int) -> Job:
    """Cancel a job."""
    return cancelling.cancel(services(), job_id, by=None)


@api("POST", routes.JOB_RETRY, summary="Submit an ended job anew", answer=Job, status=201)
def retry(job_id: int) -> Response:
    """A new job like one that has ended."""
    return _made(retrial.retry(services(), job_id, by=None), is_new=True)


@api("GET", routes.JOB_EXPLAIN, summary="Why a job is where it is", answer=Explanation)
def explain(job_id: int) -> Explanation:
    """Why a job waits, or ended as it did."""
    return explanation.explain(services(), job_id)


@api("GET", routes.JOB_EVENTS, summary="The changes of a job", answer=EventList)
def events(job_id: int) -> EventList:
    """What happened to a job, oldest first."""
    return read.events(services(), job_id)


def _made(job: Job, *, is_new: bool) -> Response:
    location = routes.path(routes.JOB, job_id=job.id)
    return reply(job, 201 if is_new else 200, [("Location", location)])


def _form() -> tuple[dict[str, object], BinaryIO]:
    """The fields of the spec, and the uploaded file.

    Raises:
        Invalid: it is no form, or one field or the file is not as it should be.
    """
    if request.mimetype != "multipart/form-data":
        raise Invalid(
            "A job is handed in as a form with a file: -F name=… -F file=@bundle.zip with curl.",
            code="not_a_form",
            status=415,
        )
    fields: dict[str, object] = {}
    for name, values in request.form.lists():
        if name == _FILE:
            raise Invalid(
                "The field file must be a file, not a text: -F file=@bundle.zip with curl.",
                field=_FILE,
            )
        if len(values) > 1 and name not in _REPEATED:
            raise Invalid(f"The field {name[:100]!r} is given twice.", field=name[:100])
        if name not in _NOT_SPEC:
            fields[name] = values if len(values) > 1 else values[0]
    return fields, _upload()


def _upload() -> BinaryIO:
    for name in request.files:
        if name != _FILE:
            raise Invalid(
                f"There is no file {name[:100]!r} in a job; the bundle is {_FILE}.",
                field=name[:100],
            )
    files = request.files.getlist(_FILE)
    if len(files) > 1:
        raise Invalid("The field file is given twice; a job has one bundle.", field=_FILE)
    if not files or not files[0].filename:
        raise Invalid("The bundle is missing: give a ZIP file in the field file.", field=_FILE)
    return cast(BinaryIO, files[0].stream)
