"""`/`: all jobs, and the form that hands in another."""

from __future__ import annotations

import secrets
from typing import BinaryIO, cast

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from dtrain.protocol.errors import Invalid
from dtrain.server.auth import services, submitter
from dtrain.server.jobs import bulk, listing, metrics, submit

from . import estimate, forms, sparklines
from .contexts import (
    DashboardContext,
    DeleteContext,
    JobFilter,
    JobListContext,
    Outcomes,
    SubmitForm,
)

blueprint = Blueprint("dashboard", __name__)

_SAMPLES = 32
"""Points of a sparkline at most."""
_SURELY = "delete-surely"
_COMPARE = "compare"


@blueprint.get("/")
def index() -> str:
    """The dashboard."""
    return _page(forms.empty_form())


@blueprint.get("/fragments/jobs")
def fragment() -> str:
    """The list of jobs alone."""
    return render_template("_jobs.html", page=_listed())


@blueprint.get("/jobs")
@blueprint.get("/jobs/actions")
def to_index() -> Response:
    """Where forms are sent to, by whoever opens that address: on to the list."""
    return redirect(url_for(".index"), 303)


@blueprint.post("/jobs")
def hand_in() -> Response:
    """Hand in a job; on to its page, or back to the form with what is wrong."""
    entries = forms.entries_of(request.form)
    upload = request.files.get("file")
    try:
        if upload is None or not upload.filename:
            raise Invalid("Choose the ZIP file that holds the job.", field="file")
        job, _ = submit.submit(
            services(),
            entries,
            cast(BinaryIO, upload.stream),
            submitter=submitter(),
            idempotency_key=None,
            default_name=forms.name_of(upload),
        )
    except Invalid as error:
        form = forms.refused_form(entries, error.detail, error.field)
        return Response(_page(form), 422, mimetype="text/html")
    return _on_to(url_for("job_pages.show", job_id=job.id))


@blueprint.post("/jobs/actions")
def act() -> Response:
    """Do something to the jobs that were chosen; back to the list, with what became of each."""
    asked = request.form.get("action", "")
    job_ids = _chosen()
    once = request.form.get("once", "")[:100] or secrets.token_urlsafe(12)
    if not job_ids:
        return _told(Outcomes(None, [], "Choose the jobs first: tick the boxes before them."))
    if asked == _COMPARE:
        if len(job_ids) < 2:
            return _told(Outcomes(None, [], "Choose two jobs or more to compare them."))
        return _on_to("/compare?jobs=" + ",".join(map(str, job_ids)))
    if asked == bulk.Action.DELETE:
        question = DeleteContext(job_ids, _filter(), once)
        return Response(render_template("delete_jobs.html", page=question), mimetype="text/html")
    try:
        action = bulk.Action.DELETE if asked == _SURELY else bulk.Action(asked)
    except ValueError:
        raise Invalid("There is no such action for jobs.", field="action") from None
    each = bulk.act(services(), action, job_ids, by=submitter(), once=once)
    return _told(Outcomes(action, each))


def _chosen() -> list[int]:
    values = request.form.getlist("job")
    if len(values) > bulk.MAX_JOBS:
        raise Invalid(f"Choose at most {bulk.MAX_JOBS} jobs at once.", field="job")
    known = (value for value in values if value.isascii() and value.isdigit() and len(value) < 19)
    return list(dict.fromkeys(map(int, known)))


def _told(outcomes: Outcomes) -> Response:
    return Response(_page(forms.empty_form(), outcomes), mimetype="text/html")


def _on_to(address: str) -> Response:
    if request.headers.get("HX-Request"):
        return Response(status=204, headers={"HX-Redirect": address})
    return redirect(address, 303)


def _page(form: SubmitForm, outcomes: Outcomes | None = None) -> str:
    address = services().settings.public_url or request.host_url.rstrip("/")
    page = DashboardContext(jobs=_listed(outcomes), form=form, address=address)
    return render_template("dashboard.html", page=page)


def _listed(outcomes: Outcomes | None = None) -> JobListContext:
    chosen, now = _filter(), services().clock.now()
    listed = listing.sorted_page(services(), **vars(chosen))
    records = metrics.samples(services(), listed.jobs, _SAMPLES)
    lines = {job.id: sparklines.sparkline(job, records.get(job.id, [])) for job in listed.jobs}
    ends = {job.id: estimate.end_of(job, records.get(job.id, []), now) for job in listed.jobs}
    return JobListContext(
        now=now,
        listed=listed,
        filter=chosen,
        choices=listing.choices(services()),
        sparklines={number: line for number, line in lines.items() if line},
        ends={number: end for number, end in ends.items() if end},
        outcomes=outcomes,
    )


def _filter() -> JobFilter:
    return JobFilter(**{name: _parameter(name) for name in JobFilter.__dataclass_fields__})


def _parameter(name: str) -> str | None:
    value = request.args.get(name)
    if value and "\0" in value:
        raise Invalid(f"The parameter {name} holds a character that no job has.", field=name)
    return value or None
