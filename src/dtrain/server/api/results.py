"""What a job was made of and what it leaves: its bundle, its metrics, its artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Annotated

import msgspec
from flask import Response

from dtrain.protocol import routes
from dtrain.protocol.messages import (
    ArtifactList,
    BundleContents,
    CheckpointList,
    JobUsage,
    MetricPage,
)
from dtrain.server.auth import services
from dtrain.server.jobs import checkpoints as kept_checkpoints
from dtrain.server.jobs import contents, read
from dtrain.server.jobs import metrics as recorded
from dtrain.server.jobs import usage as used

from .download import IMAGES, disposition, download, ranged
from .endpoint import BYTES, ZIP, Endpoints
from .headers import DOWNLOAD_ASKS, DOWNLOAD_GIVES
from .reading import Number, Query

api = Endpoints("results", "Results", "What a job was made of, and what it prints and leaves.")


class MetricsQuery(Query, frozen=True, kw_only=True):
    """Which records to give."""

    attempt: Number | None = None
    """The latest, unless it is said."""
    after: Number = 0
    """The `next` of the page before."""
    before: Number | None = None
    """Only records whose number is lower; all that there are, unless it is said."""
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000
    """Records on the page at most."""
    points: Annotated[int, msgspec.Meta(ge=1, le=recorded.MAX_RECORDS)] | None = None
    """Instead of pages all records from `after` on, thinned to about so many values of each series.

    The least and the greatest of values that follow each other are kept.
    """


class UsageQuery(Query, frozen=True, kw_only=True):
    """Which samples to give."""

    attempt: Number | None = None
    """The latest, unless it is said."""
    points: Annotated[int, msgspec.Meta(ge=1, le=used.MAX_SAMPLES)] = used.MAX_SAMPLES
    """At most so many; each stands for some that follow each other."""


class AttemptQuery(Query, frozen=True, kw_only=True):
    """Whose files are meant."""

    attempt: Number | None = None
    """The latest that left any, unless it is said."""


@api(
    "GET",
    routes.JOB_METRICS,
    summary="List PROGRESS records",
    query=MetricsQuery,
    answer=MetricPage,
)
def metrics(job_id: int, query: MetricsQuery) -> MetricPage:
    """The records of one attempt, oldest first: in pages, or thinned for a chart."""
    return recorded.page(services(), job_id, **msgspec.structs.asdict(query))


@api(
    "GET",
    routes.JOB_USAGE,
    summary="Show what a job used of its worker",
    query=UsageQuery,
    answer=JobUsage,
)
def usage(job_id: int, query: UsageQuery) -> JobUsage:
    """Processors, memory and GPUs that one attempt used while it ran, and its limits."""
    return used.usage(services(), job_id, attempt=query.attempt, points=query.points)


@api(
    "GET",
    routes.JOB_ARTIFACTS,
    summary="List artifacts",
    query=AttemptQuery,
    answer=ArtifactList,
)
def artifacts(job_id: int, query: AttemptQuery) -> ArtifactList:
    """The files that an attempt left behind."""
    return read.artifacts(services(), job_id, attempt=query.attempt)


@api(
    "GET",
    routes.JOB_ARTIFACT,
    summary="Download an artifact",
    query=AttemptQuery,
    content=(BYTES, *sorted(set(IMAGES.values()))),
    also=(206, 304),
    errors=(416,),
    asks=DOWNLOAD_ASKS,
    gives=DOWNLOAD_GIVES,
)
def artifact(job_id: int, path: str, query: AttemptQuery) -> Response:
    """One file, whole or a range of it. The path may hold slashes."""
    found, file = read.artifact(services(), job_id, path, attempt=query.attempt)
    return download(file, found.path, found.sha256)


@api(
    "GET",
    routes.JOB_CHECKPOINTS,
    summary="List checkpoints",
    answer=CheckpointList,
)
def checkpoints(job_id: int) -> CheckpointList:
    """The generations that are kept, the newest first: from it the next attempt would go on."""
    return kept_checkpoints.listing(services(), job_id)


@api(
    "GET",
    routes.JOB_CHECKPOINT_FILE,
    summary="Download a file of a checkpoint",
    content=(BYTES, *sorted(set(IMAGES.values()))),
    also=(206, 304),
    errors=(416,),
    asks=DOWNLOAD_ASKS,
    gives=DOWNLOAD_GIVES,
)
def checkpoint_file(job_id: int, generation: int, path: str) -> Response:
    """One file, whole or a range of it. The path may hold slashes."""
    found, file = kept_checkpoints.file(services(), job_id, generation, path)
    return download(file, found.path, found.sha256)


@api(
    "GET",
    routes.JOB_BUNDLE,
    summary="Download the bundle",
    answer=ZIP,
    also=(206, 304),
    errors=(416,),
    asks=DOWNLOAD_ASKS,
    gives=DOWNLOAD_GIVES,
)
def bundle(job_id: int) -> Response:
    """The ZIP that was handed in, whole or a range of it."""
    found, file = read.bundle(services(), job_id)
    return download(file, f"job-{job_id}.zip", found.sha256, ZIP)


@api("GET", routes.JOB_BUNDLE_FILES, summary="List the bundle's files", answer=BundleContents)
def bundle_files(job_id: int) -> BundleContents:
    """What the bundle holds, with the sizes unpacked."""
    return contents.contents(services(), job_id)


@api(
    "GET",
    routes.JOB_BUNDLE_FILE,
    summary="Download a file of the bundle",
    content=(BYTES,),
    also=(206,),
    errors=(416,),
    asks=("Range",),
    gives=("Accept-Ranges", "Content-Disposition"),
)
def bundle_file(job_id: int, path: str) -> Response:
    """One file, unpacked, whole or a range of it. The path may hold slashes."""
    size, content = contents.file(services(), job_id, path)
    response = ranged(lambda start, end: _part(content, start, end), size, BYTES)
    response.headers["Content-Disposition"] = disposition(PurePosixPath(path).name)
    return response


def _part(content: Iterator[bytes], start: int, end: int) -> Iterator[bytes]:
    """The bytes from a first one up to, not including, a last one."""
    at = 0
    for piece in content:
        if at < end and at + len(piece) > start:
            yield piece[max(start - at, 0) : end - at]
        at += len(piece)
        if at >= end:
            return
