"""`/jobs/<id>/clone`: a job once more, with changes and without another upload."""

from __future__ import annotations

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from dtrain.protocol.errors import Invalid
from dtrain.server.auth import services, submitter
from dtrain.server.jobs import read, submit

from . import forms
from .contexts import CloneContext

blueprint = Blueprint("clone_pages", __name__)


@blueprint.get("/jobs/<number:job_id>/clone")
def show(job_id: int) -> str:
    """The form, with what was said about the job."""
    job = read.get(services(), job_id)
    return render_template("clone.html", page=CloneContext(job, forms.filled_form(job.spec)))


@blueprint.post("/jobs/<number:job_id>/clone")
def hand_in(job_id: int) -> Response:
    """Hand in the new job; on to its page, or back to the form with what is wrong."""
    job = read.get(services(), job_id)
    entries = forms.entries_of(request.form)
    try:
        new, _ = submit.submit(
            services(),
            forms.changed(job.spec, entries),
            job.bundle.sha256,
            submitter=submitter(),
            idempotency_key=None,
        )
    except Invalid as error:
        form = forms.refused_form(entries, error.detail, error.field)
        html = render_template("clone.html", page=CloneContext(job, form))
        return Response(html, 422, mimetype="text/html")
    return redirect(url_for("job_pages.show", job_id=new.id), 303)
