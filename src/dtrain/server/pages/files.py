"""`/jobs/<id>/artifacts` and `/jobs/<id>/bundle`: what a job left, and what it was made of."""

from __future__ import annotations

from collections.abc import Iterable

from flask import Blueprint, render_template, request

from dtrain.protocol import routes
from dtrain.protocol.errors import Invalid, NotFound
from dtrain.server.auth import services
from dtrain.server.jobs import contents, read

from .browsing import FileEntry, FilesContext, folder
from .previews import BEGINNING, Preview, preview

blueprint = Blueprint("file_pages", __name__)


@blueprint.get("/jobs/<number:job_id>/artifacts")
def artifacts(job_id: int) -> str:
    """The files that an attempt left: a folder of them, or one."""
    job = read.get(services(), job_id)
    path = _path()
    attempt = _number("attempt") if "attempt" in request.args else None
    left = read.artifacts(services(), job_id, attempt=attempt).artifacts
    attempts = tuple(read.attempts_with_artifacts(services(), job_id))
    page = FilesContext(
        job=job,
        title="Artifacts",
        endpoint="file_pages.artifacts",
        path=path,
        total=len(left),
        total_size=sum(one.size for one in left),
        entries=folder([(one.path, one.size) for one in left], path),
        first=_number("after"),
        attempt=left[0].attempt if left else attempt,
        attempts=attempts,
        is_chosen=attempt is not None,
    )
    found = next((one for one in left if one.path == path), None)
    if found is None:
        return _folder(page)
    _, stored = read.artifact(services(), job_id, path, attempt=found.attempt)
    with stored.open("rb") as content:
        shown = preview(path, content.read(BEGINNING), found.size)
    address = routes.path(routes.JOB_ARTIFACT, job_id=job_id, path=path)
    return _file(page, found.size, shown, f"{address}?attempt={found.attempt}")


@blueprint.get("/jobs/<number:job_id>/bundle")
def bundle(job_id: int) -> str:
    """The files of the bundle: a folder of them, or one."""
    job = read.get(services(), job_id)
    path = _path()
    held = contents.contents(services(), job_id)
    page = FilesContext(
        job=job,
        title="Bundle",
        endpoint="file_pages.bundle",
        path=path,
        total=len(held.files),
        total_size=held.expanded,
        entries=folder([(one.path, one.size) for one in held.files], path),
        first=_number("after"),
    )
    if all(one.path != path for one in held.files):
        return _folder(page)
    size, pieces = contents.file(services(), job_id, path)
    beginning = _beginning(pieces)
    address = routes.path(routes.JOB_BUNDLE_FILE, job_id=job_id, path=path)
    shown = preview(path, beginning, size)
    # Of a bundle the API gives bytes to be saved, no pictures.
    return _file(page, size, Preview("none") if shown.kind == "picture" else shown, address)


def _folder(page: FilesContext) -> str:
    if page.path and not page.entries:
        raise NotFound(f"Job {page.job.id} has no such file or folder; look for it from the top.")
    return render_template("files.html", page=page)


def _file(page: FilesContext, size: int, shown: Preview, address: str) -> str:
    values = vars(page) | {
        "file": FileEntry(page.name, page.path, size),
        "preview": shown,
        "address": address,
    }
    return render_template("file.html", page=FilesContext(**values))


def _beginning(pieces: Iterable[bytes]) -> bytes:
    found = b""
    for piece in pieces:
        found += piece
        if len(found) >= BEGINNING:
            break
    return found[:BEGINNING]


def _path() -> str:
    return request.args.get("path", "").strip("/")


def _number(name: str) -> int:
    text = request.args.get(name, "0")
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise Invalid(f"The parameter {name} is a number.", field=name)
    return int(text)
