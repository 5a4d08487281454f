"""`/`: all jobs, and the form that hands in another."""

from __future__ import annotations

from typing import BinaryIO, cast

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from dtrain.protocol.errors import Invalid
from dtrain.server.auth import services, submitter
from dtrain.server.jobs import read, submit

from . import forms
from .contexts import DashboardContext, JobFilter, JobListContext, SubmitForm

blueprint = Blueprint("dashboard", __name__)


@blueprint.get("/")
def index() -> str:
    """The dashboard."""
    return _page(forms.empty_form())


@blueprint.get("/fragments/jobs")
def fragment() -> str:
    """The list of jobs alone."""
    return render_template("_jobs.html", page=_listed())


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
    address = url_for("job_pages.show", job_id=job.id)
    if request.headers.get("HX-Request"):
        return Response(status=204, headers={"HX-Redirect": address})
    return redirect(address, 303)


def _page(form: SubmitForm) -> str:
    address = services().settings.public_url or request.host_url.rstrip("/")
    page = DashboardContext(jobs=_listed(), form=form, address=address)
    return render_template("dashboard.html", page=page)


def _listed() -> JobListContext:
    chosen = JobFilter(**{name: _parameter(name) for name in JobFilter.__dataclass_fields__})
    listed = read.page(
        services(),
        status=chosen.status,
        tag=chosen.tag,
        worker=chosen.worker,
        q=chosen.q,
        cursor=chosen.cursor,
    )
    return JobListContext(now=services().clock.now(), listed=listed, filter=chosen)


def _parameter(name: str) -> str | None:
    value = request.args.get(name)
    if value and "\0" in value:
        raise Invalid(f"The parameter {name} holds a character that no job has.", field=name)
    return value or None
