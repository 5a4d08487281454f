"""What a job was made of and what it leaves: its bundle, its metrics, its artifacts."""

from __future__ import annotations

from typing import Annotated

import msgspec
from flask import Response

from dtrain.protocol import routes
from dtrain.protocol.messages import ArtifactList, MetricPage
from dtrain.server.auth import services
from dtrain.server.jobs import metrics as recorded
from dtrain.server.jobs import read

from .download import download
from .endpoint import Endpoints
from .reading import Number, Query

api = Endpoints("results")
_ZIP = "application/zip"
_BYTES = "application/octet-stream"


class MetricsQuery(Query, frozen=True, kw_only=True):
    """Which records to give."""

    attempt: Number | None = None
    after: Number = 0
    limit: Annotated[int, msgspec.Meta(ge=1, le=10_000)] = 1000


@api(
    "GET", routes.JOB_METRICS, summary="The PROGRESS records", query=MetricsQuery, answer=MetricPage
)
def metrics(job_id: int, query: MetricsQuery) -> MetricPage:
    """Records of one attempt, oldest first."""
    return recorded.page(services(), job_id, **msgspec.structs.asdict(query))


@api("GET", routes.JOB_ARTIFACTS, summary="What the job left", answer=ArtifactList)
def artifacts(job_id: int) -> ArtifactList:
    """The files that a job left behind."""
    return read.artifacts(services(), job_id)


@api("GET", routes.JOB_ARTIFACT, summary="One file that the job left", answer=_BYTES)
def artifact(job_id: int, path: str) -> Response:
    """One file, with ranges."""
    found, file = read.artifact(services(), job_id, path)
    return download(file, found.path, found.sha256)


@api("GET", routes.JOB_BUNDLE, summary="The bundle that was handed in", answer=_ZIP)
def bundle(job_id: int) -> Response:
    """The ZIP, with ranges."""
    found, file = read.bundle(services(), job_id)
    return download(file, f"job-{job_id}.zip", found.sha256, _ZIP)
