"""Handing a job in: what is said about it, its bundle, and sending both until an answer comes."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from dtrain.protocol import routes
from dtrain.protocol.bundle import UNLIMITED, PackSummary, pack, read
from dtrain.protocol.errors import Invalid
from dtrain.protocol.filenames import JOB_FILE, MAX_JOB_FILE
from dtrain.protocol.messages import BundleInfo, Job, encode
from dtrain.protocol.spec import JobSpec, parse_spec

from .multipart import Multipart
from .once import once
from .transport import Progress, Transport

Packed = Callable[[PackSummary], None]


def hand_in(
    transport: Transport,
    path: Path,
    given: Mapping[str, object],
    *,
    packed: Packed | None,
    progress: Progress | None,
) -> Job:
    """Send a folder or a ZIP file as a new job; one job, however often it has to be sent.

    Raises:
        Invalid: there is no such folder or ZIP, or a field is not acceptable, here or in the
            bundle's `dtrain.yaml`; nothing was sent.
        DTrainError: the server refuses it, or cannot be reached.
    """
    title = path.resolve().name.removesuffix(".zip")
    fields_to_send(given, {}, title)
    with _bundle_of(path, packed) as file:
        fields = fields_to_send(given, _job_file_in(file), title)
        form = Multipart(
            [("spec", encode(fields).decode())], file, file_name=f"{title}.zip", progress=progress
        )
        response = once(lambda headers: transport.upload(routes.JOBS, form, headers=headers))
    return response.decode(Job)


def hand_in_again(
    transport: Transport, bundle: BundleInfo, spec: JobSpec, changes: Mapping[str, object]
) -> Job:
    """Make a new job of a bundle that the server has, and of a spec with changes.

    Raises:
        Invalid: a changed field is not acceptable; nothing was sent.
        DTrainError: the server refuses it, or cannot be reached.
    """
    spec = parse_spec({**msgspec.to_builtins(spec), **_said(changes)})
    body = encode({**msgspec.to_builtins(spec), "bundle": bundle.sha256})
    kind = {"Content-Type": "application/json"}
    response = once(
        lambda headers: transport.request("POST", routes.JOBS, body=body, headers=headers | kind)
    )
    return response.decode(Job)


def fields_to_send(
    given: Mapping[str, object], job_file: Mapping[str, object], title: str
) -> dict[str, Any]:
    """The fields that were given, and a name where there is none, as JSON carries them.

    Args:
        given: what was said; it wins.
        job_file: what the bundle says about itself, which the server reads there.
        title: what the job is called where neither says it.

    Raises:
        Invalid: a field is not acceptable.
    """
    said = _said(given)
    if not said.get("name") and not job_file.get("name"):
        said["name"] = title
    spec = parse_spec({**job_file, **said})
    fields: dict[str, Any] = msgspec.to_builtins(spec)
    return {name: fields[name] for name in said}


def _said(given: Mapping[str, object]) -> dict[str, object]:
    """The fields of which something was said; None says something of one field alone."""
    return {
        name: value
        for name, value in given.items()
        if value != "" and (value is not None or name == "requirements_file")
    }


@contextmanager
def _bundle_of(path: Path, packed: Packed | None) -> Iterator[BinaryIO]:
    """The ZIP to hand in: the file itself, or a folder packed into a temporary one."""
    if path.is_dir():
        with tempfile.TemporaryFile() as file:
            summary = pack(path, file)
            if packed:
                packed(summary)
            file.seek(0)
            yield file
        return
    if not path.exists():
        raise Invalid(
            f"There is no folder or ZIP file {str(path)!r}; check the path.", field="file"
        )
    if not zipfile.is_zipfile(path):
        raise Invalid(
            f"{str(path)!r} is neither a folder nor a ZIP file; hand in the folder that it is in.",
            field="file",
        )
    with path.open("rb") as file:
        yield file


def _job_file_in(bundle: BinaryIO) -> dict[str, object]:
    """What a bundle says about itself."""
    path = Path(f"/dev/fd/{bundle.fileno()}")  # a temporary one has no name
    content = read(path, JOB_FILE, MAX_JOB_FILE + 1, UNLIMITED)
    if content is None:
        return {}
    from dtrain.protocol.jobfile import read_job_file  # noqa: PLC0415  YAML, for few bundles

    return read_job_file(content)
