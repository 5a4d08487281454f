"""`/jobs/<id>`: one job, live, and what can be done about it."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from dtrain.protocol.errors import Invalid
from dtrain.protocol.messages import Job, MetricRecord
from dtrain.protocol.states import Status
from dtrain.server.auth import services, submitter
from dtrain.server.jobs import attempts, cancel, explain, logs, metrics, read, retry, usage

from . import commands, estimate, history, series
from .job_contexts import HistoryContext, JobContext, JobPageContext, LogTail

blueprint = Blueprint("job_pages", __name__)

_LOG_LINES = 200
_TABLE_RECORDS = 20
_HISTORY = 20
_CHART_POINTS = 200
"""Values of each series that tell which series there are."""


@blueprint.get("/jobs/<number:job_id>")
def show(job_id: int) -> str:
    """The page of a job."""
    context = _context(job_id)
    page = JobPageContext(context, _log_tail(context.job), commands.commands(context.job))
    return render_template("job.html", page=page)


@blueprint.get("/fragments/jobs/<number:job_id>")
def fragment(job_id: int) -> str:
    """The parts of the page that change with the job."""
    return render_template("_job.html", page=_context(job_id))


@blueprint.get("/jobs/<number:job_id>/history")
def show_history(job_id: int) -> str:
    """All that has happened to a job, a page at a time."""
    job = read.get(services(), job_id)
    text = request.args.get("before", "")
    if text and not (text.isascii() and text.isdigit() and len(text) < 19):
        raise Invalid("The parameter before is the number of an event.", field="before")
    before = int(text) if text else None
    events, more = read.history(services(), job_id, before=before)
    page = HistoryContext(
        now=services().clock.now(),
        job=job,
        entries=history.entries(events, job.submitter),
        is_latest=before is None,
        has_earlier=more,
    )
    return render_template("history.html", page=page)


@blueprint.get("/jobs/<number:job_id>/log")
def raw_log(job_id: int) -> Response:
    """The whole log of the latest attempt, or of the one that is named, as the job wrote it."""
    number = request.args.get("attempt", "")
    named = int(number) if number.isascii() and number.isdigit() and len(number) < 10 else None
    attempt, end = logs.size(services(), job_id, attempt=named)
    pieces = logs.raw(services(), job_id, attempt=attempt, start=0, end=end)
    response = Response(pieces, mimetype="text/plain")
    response.headers["Cache-Control"] = "no-store"
    return response


@blueprint.post("/jobs/<number:job_id>/cancel")
def cancel_job(job_id: int) -> Response:
    """Ask for the job's end."""
    cancel.cancel(services(), job_id, by=submitter())
    return redirect(url_for(".show", job_id=job_id), 303)


@blueprint.post("/jobs/<number:job_id>/retry")
def retry_job(job_id: int) -> Response:
    """Hand in the same job again; on to the new one's page."""
    job, _ = retry.retry(services(), job_id, by=submitter())
    return redirect(url_for(".show", job_id=job.id), 303)


def _context(job_id: int) -> JobContext:
    job = read.get(services(), job_id)
    drawn = metrics.page(services(), job_id, attempt=job.attempt, points=_CHART_POINTS)
    first = metrics.first(services(), job)
    after = max(drawn.next - _TABLE_RECORDS, 0)
    latest = metrics.page(services(), job_id, attempt=job.attempt, after=after).records
    waits = job.status is Status.PENDING
    happened, more = read.history(services(), job_id, limit=_HISTORY)
    return JobContext(
        now=services().clock.now(),
        job=job,
        explanation=explain.explain(services(), job_id) if waits else None,
        charts=series.charts(drawn.records, first),
        records=latest[: -_TABLE_RECORDS - 1 : -1],
        artifacts=read.artifacts(services(), job_id).artifacts,
        history=history.entries(happened, job.submitter),
        has_earlier=more,
        attempts=attempts.attempts(services(), job_id),
        usage=usage.usage(services(), job_id, points=0),
        pace=_pace(job, first, latest),
    )


def _pace(
    job: Job, first: MetricRecord | None, latest: Sequence[MetricRecord]
) -> estimate.Pace | None:
    if job.status is not Status.RUNNING or not first or not latest:
        return None
    return estimate.pace(first, latest[-1])


def _log_tail(job: Job) -> LogTail | None:
    if not job.attempt:
        return None
    page = logs.page(services(), job.id, attempt=job.attempt, limit=_LOG_LINES, tail=True)
    last = logs.raw(
        services(),
        job.id,
        attempt=page.attempt,
        start=max(page.total_bytes - 1, 0),
        end=page.total_bytes,
    )
    is_open = b"".join(last) not in {b"", b"\n"}
    return LogTail(
        attempt=page.attempt,
        lines=page.lines,
        offset=page.total_bytes,
        next=page.total_lines - is_open,
        is_open=is_open,
    )
