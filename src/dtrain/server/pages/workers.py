"""`/workers`: the machines, how busy they are, and whether they take jobs."""

from __future__ import annotations

from uuid import UUID

from flask import Blueprint, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from dtrain.protocol.states import Status
from dtrain.server import workers
from dtrain.server.auth import services
from dtrain.server.jobs import read

from .contexts import WorkersContext

blueprint = Blueprint("worker_pages", __name__)


@blueprint.get("/workers")
def index() -> str:
    """The page of all workers."""
    return render_template("workers.html", page=_context())


@blueprint.get("/fragments/workers")
def fragment() -> str:
    """The list of workers alone."""
    return render_template("_workers.html", page=_context())


@blueprint.post("/workers/<uuid:worker_id>/drain")
def drain(worker_id: UUID) -> Response:
    """Let the worker take nothing new."""
    workers.drain(services(), str(worker_id))
    return redirect(url_for(".index"), 303)


@blueprint.post("/workers/<uuid:worker_id>/resume")
def resume(worker_id: UUID) -> Response:
    """Let the worker take jobs again."""
    workers.resume(services(), str(worker_id))
    return redirect(url_for(".index"), 303)


def _context() -> WorkersContext:
    running = read.page(services(), status=Status.RUNNING, limit=read.MAX_PAGE).jobs
    return WorkersContext(
        now=services().clock.now(),
        workers=workers.listing(services()).workers,
        names={job.id: job.name for job in running},
        address=request.host_url.rstrip("/"),
    )
