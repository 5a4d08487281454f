"""`/compare`: several jobs side by side, their curves in the same charts."""

from __future__ import annotations

from flask import Blueprint, make_response, render_template, request
from werkzeug.wrappers import Response

from dtrain.protocol.errors import DTrainError, Invalid
from dtrain.server.auth import services
from dtrain.server.jobs import compare

from .comparison import CompareContext

blueprint = Blueprint("compare_pages", __name__)

_LONGEST = 1000
_DIGITS = 18


@blueprint.get("/compare")
def show() -> Response:
    """The page; without jobs, or with wrong ones, a field to name them in."""
    entered = request.args.get("jobs", "").replace("\0", "").strip()
    problem, status = None, 200
    compared: list[compare.Compared] = []
    ids = _numbers(entered)
    try:
        if entered and ids is None:
            raise Invalid("Name the jobs by their numbers, with commas between them.", field="jobs")
        if ids is not None and len(ids) != 1:
            compared = compare.compare(services(), ids)
    except DTrainError as error:
        problem, status = error.detail, error.status
    page = CompareContext(services().clock.now(), entered[:_LONGEST], compared, problem)
    return make_response(render_template("compare.html", page=page), status)


@blueprint.get("/fragments/compare")
def fragment() -> str:
    """What of the page changes with the jobs."""
    entered = request.args.get("jobs", "")
    compared = compare.compare(services(), _numbers(entered) or [])
    page = CompareContext(services().clock.now(), entered[:_LONGEST], compared)
    return render_template("_compare.html", page=page)


def _numbers(entered: str) -> list[int] | None:
    """The numbers that are entered; None if there is none, or something else."""
    words = entered.replace("#", " ").replace(",", " ").split()
    if not words or not all(word.isascii() and word.isdigit() for word in words):
        return None
    return [int(word) if len(word) <= _DIGITS else 0 for word in words]
