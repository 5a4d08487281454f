"""`/workers`: the machines, how busy they are, and whether they take jobs.

`/workers/<id>` is one of them, and where its owner answers what is offered to it.
"""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, redirect, render_template, request, session, url_for
from werkzeug.wrappers import Response

from dtrain.protocol.errors import DTrainError, Forbidden, Invalid
from dtrain.protocol.messages import LONGEST_REASON, OwnerAnswer
from dtrain.protocol.states import Status
from dtrain.server import consent, workers
from dtrain.server.auth import services
from dtrain.server.jobs import listing

from .contexts import FilesContext, WorkerContext, WorkersContext

blueprint = Blueprint("worker_pages", __name__)

_CODES = "owner_codes"
"""In the session: the codes that were right, by worker."""
_MAX_CODES = 10
"""A cookie holds no more than a few kilobytes."""


@blueprint.get("/workers")
def index() -> str:
    """The page of all workers."""
    return render_template("workers.html", page=_all())


@blueprint.get("/fragments/workers")
def fragment() -> str:
    """The list of workers alone."""
    return render_template("_workers.html", page=_all())


@blueprint.get("/workers/<uuid:worker_id>")
def show(worker_id: UUID) -> str:
    """The page of a worker."""
    return render_template("worker.html", page=_one(str(worker_id)))


@blueprint.get("/fragments/workers/<uuid:worker_id>")
def show_fragment(worker_id: UUID) -> str:
    """What of the page changes with the worker."""
    return render_template("_worker.html", page=_one(str(worker_id)))


@blueprint.get("/workers/<uuid:worker_id>/offers/<number:job_id>/files")
def files(worker_id: UUID, job_id: int) -> str:
    """What is in the bundle of a job that is before the owner."""
    after = request.args.get("after", "0")
    if not (after.isascii() and after.isdigit() and len(after) < 10):
        raise Invalid("The parameter after is a number of files.", field="after")
    contents = consent.files(services(), str(worker_id), job_id)
    worker = workers.get(services(), str(worker_id))
    page = FilesContext(worker=worker, job_id=job_id, contents=contents, first=int(after))
    return render_template("offer_files.html", page=page)


@blueprint.post("/workers/<uuid:worker_id>/offers/<number:job_id>")
def answer(worker_id: UUID, job_id: int) -> Response:
    """The owner's word on an offer; back to the page, with what is wrong if something is."""
    worker = str(worker_id)
    code = request.form.get("code", "").strip() or session.get(_CODES, {}).get(worker, "")
    try:
        message = _answered(request.form.get("answer", ""), code, request.form.get("reason", ""))
        address = request.remote_addr or ""
        consent.answer(services(), worker, job_id, message, address=address)
    except DTrainError as error:
        if isinstance(error, Forbidden):
            _keep_code(worker, None)
        html = render_template("worker.html", page=_one(worker, error.detail))
        return Response(html, error.status, mimetype="text/html")
    _keep_code(worker, code)
    return redirect(url_for(".show", worker_id=worker_id), 303)


@blueprint.post("/workers/<uuid:worker_id>/drain")
def drain(worker_id: UUID) -> Response:
    """Let the worker take nothing new."""
    workers.drain(services(), str(worker_id))
    return _back(worker_id)


@blueprint.post("/workers/<uuid:worker_id>/resume")
def resume(worker_id: UUID) -> Response:
    """Let the worker take jobs again."""
    workers.resume(services(), str(worker_id))
    return _back(worker_id)


def _back(worker_id: UUID) -> Response:
    if request.form.get("stay"):
        return redirect(url_for(".show", worker_id=worker_id), 303)
    return redirect(url_for(".index"), 303)


def _answered(word: str, code: str, reason: str) -> OwnerAnswer:
    if word not in {"accept", "decline"}:
        raise Invalid("The answer is accept or decline.", field="answer")
    if not code or len(code) > 100:
        raise Invalid("Enter the owner’s code, which the worker shows at its start.", field="code")
    if "\0" in reason or len(reason) > LONGEST_REASON:
        raise Invalid(f"A reason has at most {LONGEST_REASON} characters.", field="reason")
    return OwnerAnswer(accept=word == "accept", code=code, reason=reason or None)


def _keep_code(worker_id: str, code: str | None) -> None:
    """Remember in the browser's session a code that was right; by None forget one that was not."""
    kept = {key: value for key, value in session.get(_CODES, {}).items() if key != worker_id}
    if code is not None:
        kept[worker_id] = code
        session.permanent = True
    if kept != session.get(_CODES, {}):
        session[_CODES] = dict(list(kept.items())[-_MAX_CODES:])


def _all() -> WorkersContext:
    return WorkersContext(
        now=services().clock.now(),
        workers=workers.listing(services()).workers,
        names=_names(),
        address=services().settings.public_url or request.host_url.rstrip("/"),
    )


def _one(worker_id: str, complaint: str | None = None) -> WorkerContext:
    return WorkerContext(
        now=services().clock.now(),
        worker=workers.get(services(), worker_id),
        names=_names(),
        offers=consent.offers(services(), worker_id).offers,
        has_code=worker_id in session.get(_CODES, {}),
        complaint=complaint,
    )


def _names() -> dict[int, str]:
    """What the running jobs are called."""
    running = listing.page(services(), status=Status.RUNNING, limit=listing.MAX_PAGE).jobs
    return {job.id: job.name for job in running}
