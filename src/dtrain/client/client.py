"""`Client`: a DTrain server's jobs and workers, from Python."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from dtrain.protocol import routes
from dtrain.protocol.bundle import PackSummary
from dtrain.protocol.errors import DTrainError, Unavailable, Unreachable
from dtrain.protocol.messages import (
    Artifact,
    ArtifactList,
    Event,
    EventList,
    Explanation,
    Job,
    JobPage,
    LogPage,
    MetricPage,
    Worker,
    WorkerList,
)

from . import stream
from .multipart import Multipart
from .submission import bundle_of, form_fields
from .transport import Progress, Transport

DEFAULT_URL = "http://localhost:5000"
SUBMIT_TRIES = 5
LONGEST_WAIT_TO_RETRY = 30.0
"""Seconds that a server's wish to be asked later is respected."""
T = TypeVar("T")


class Client:
    """A server, as a person uses it.

    Args:
        url: where it is; else what DTRAIN_SERVER_URL says, else http://localhost:5000.
        token: the access token, for a server that wants one; else what DTRAIN_TOKEN says.

    Raises:
        Invalid: the address or the token cannot be one.
    """

    def __init__(self, url: str | None = None, token: str | None = None) -> None:
        url = url or os.environ.get("DTRAIN_SERVER_URL") or DEFAULT_URL
        self.transport = Transport(url, token or os.environ.get("DTRAIN_TOKEN") or None)
        self.jobs = Jobs(self.transport)
        self.workers = Workers(self.transport)

    @property
    def url(self) -> str:
        """Where the server is."""
        return self.transport.base_url

    def close(self) -> None:
        """Close the connections that lie idle."""
        self.transport.close()

    def page(self, job_id: int) -> str:
        """The address of a job's page, for a browser."""
        return f"{self.url}/jobs/{job_id}"

    def submit(
        self,
        folder_or_zip: str | os.PathLike[str],
        *,
        name: str | None = None,
        packed: Callable[[PackSummary], None] | None = None,
        progress: Progress | None = None,
        **spec: Any,
    ) -> Job:
        """Hand in a folder, or a ZIP file of one, as a new job.

        Args:
            folder_or_zip: what is to run.
            name: what the job is called; else as the folder or file is.
            packed: called with what of a folder went into the bundle.
            progress: called with the bytes sent and the bytes in all.
            **spec: the other fields of `dtrain.protocol.spec.JobSpec`.

        Raises:
            Invalid: there is no such folder or ZIP, or a field is not acceptable.
            DTrainError: the server refuses it, or cannot be reached.
        """
        path = Path(folder_or_zip)
        title = path.resolve().name.removesuffix(".zip")
        fields = form_fields({"name": name or title, **spec})
        with bundle_of(path, packed) as file:
            form = Multipart(fields, file, file_name=f"{title}.zip", progress=progress)
            headers = {routes.IDEMPOTENCY_HEADER: secrets.token_hex(16)}
            response = _retried(lambda: self.transport.upload(routes.JOBS, form, headers=headers))
        return response.decode(Job)

    def follow(
        self,
        job_id: int,
        *,
        attempt: int | None = None,
        offset: int | None = None,
        on_cut: Callable[[DTrainError], None] | None = None,
    ) -> Iterator[stream.Update]:
        """All that happens to a job, until its end; see `dtrain.client.stream.follow`."""
        return stream.follow(self.transport, job_id, attempt=attempt, offset=offset, on_cut=on_cut)


class Jobs:
    """The jobs of a server. Every call may raise DTrainError: NotFound if there is no such job."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, job_id: int) -> Job:
        """A job as it is now."""
        return self._ask("GET", routes.JOB, Job, job_id)

    def list(
        self,
        *,
        status: str | None = None,
        tag: str | None = None,
        worker: str | None = None,
        q: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> JobPage:
        """Jobs, newest first; `cursor` is the `next` of the page before."""
        query = {"status": status, "tag": tag, "worker": worker, "q": q}
        query |= {"limit": str(limit), "cursor": cursor}
        return self._transport.request("GET", routes.JOBS, query=query).decode(JobPage)

    def cancel(self, job_id: int) -> Job:
        """Have a job stopped; a second time, without grace. One that has ended stays as it is."""
        return self._ask("POST", routes.JOB_CANCEL, Job, job_id)

    def retry(self, job_id: int) -> Job:
        """A new job with the bundle and spec of one that has ended."""
        return self._ask("POST", routes.JOB_RETRY, Job, job_id)

    def delete(self, job_id: int) -> None:
        """Forget a job and all that it left; one that runs is killed."""
        self._transport.request("DELETE", routes.path(routes.JOB, job_id=job_id))

    def explain(self, job_id: int) -> Explanation:
        """Why a job is where it is."""
        return self._ask("GET", routes.JOB_EXPLAIN, Explanation, job_id)

    def events(self, job_id: int) -> Sequence[Event]:
        """What has happened to a job, oldest first."""
        return self._ask("GET", routes.JOB_EVENTS, EventList, job_id).events

    def logs(
        self,
        job_id: int,
        *,
        attempt: int | None = None,
        after: int = 0,
        limit: int = 1000,
        level: str | None = None,
        q: str | None = None,
        tail: bool = False,
    ) -> LogPage:
        """Lines of a log; from number `after` on, or with `tail` the last ones."""
        query = {"attempt": attempt, "after": after, "limit": limit, "level": level, "q": q}
        query["tail"] = 1 if tail else None
        return self._ask("GET", routes.JOB_LOGS, LogPage, job_id, query)

    def download_log(
        self,
        job_id: int,
        into: BinaryIO,
        *,
        attempt: int | None = None,
        start: int = 0,
        end: int | None = None,
    ) -> int:
        """Write a log's bytes as the job wrote them, or those from `start` up to `end`.

        Returns how many there were.
        """
        headers = {"Accept": "text/plain"}
        if start or end is not None:
            headers["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        path = routes.path(routes.JOB_LOGS, job_id=job_id)
        return self._transport.download(path, into, query={"attempt": attempt}, headers=headers)

    def metrics(
        self, job_id: int, *, attempt: int | None = None, after: int = 0, limit: int = 1000
    ) -> MetricPage:
        """PROGRESS records, from number `after` on."""
        query = {"attempt": attempt, "after": after, "limit": limit}
        return self._ask("GET", routes.JOB_METRICS, MetricPage, job_id, query)

    def artifacts(self, job_id: int) -> Sequence[Artifact]:
        """The files that a job left."""
        return self._ask("GET", routes.JOB_ARTIFACTS, ArtifactList, job_id).artifacts

    def download_artifact(
        self, job_id: int, path: str, into: BinaryIO, *, progress: Progress | None = None
    ) -> int:
        """Write the bytes of an artifact; how many there were."""
        place = routes.path(routes.JOB_ARTIFACT, job_id=job_id, path=path)
        return self._transport.download(place, into, progress=progress)

    def download_bundle(
        self, job_id: int, into: BinaryIO, *, progress: Progress | None = None
    ) -> int:
        """Write the ZIP that was handed in; how many bytes there were."""
        place = routes.path(routes.JOB_BUNDLE, job_id=job_id)
        return self._transport.download(place, into, progress=progress)

    def wait(self, job_id: int, *, timeout: float | None = None) -> Job:
        """The job when it has ended; a server that is away for a while is waited for, too.

        Raises:
            TimeoutError: it has not ended within `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        job = self.get(job_id)
        pause = 0.2
        while not job.status.final:
            if deadline is not None and time.monotonic() + pause > deadline:
                raise TimeoutError(f"Job {job_id} is still {job.status} after {timeout:g} seconds.")
            time.sleep(pause)
            pause = min(pause * 1.5, 5.0)
            try:
                job = self.get(job_id)
            except (Unreachable, Unavailable):
                continue
        return job

    def _ask(
        self,
        method: str,
        template: str,
        kind: type[T],
        job_id: int,
        query: Mapping[str, object] | None = None,
    ) -> T:
        path = routes.path(template, job_id=job_id)
        return self._transport.request(method, path, query=query).decode(kind)


class Workers:
    """The workers of a server. Every call may raise DTrainError."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Sequence[Worker]:
        """All workers that are known."""
        return self._transport.request("GET", routes.WORKERS).decode(WorkerList).workers

    def get(self, worker_id: str) -> Worker:
        """One worker, by its id."""
        return self._ask("GET", routes.WORKER, worker_id)

    def drain(self, worker_id: str) -> Worker:
        """Have a worker take nothing new."""
        return self._ask("POST", routes.WORKER_DRAIN, worker_id)

    def resume(self, worker_id: str) -> Worker:
        """Have a drained worker take jobs again."""
        return self._ask("POST", routes.WORKER_RESUME, worker_id)

    def _ask(self, method: str, template: str, worker_id: str) -> Worker:
        path = routes.path(template, worker_id=worker_id)
        return self._transport.request(method, path).decode(Worker)


def _retried(send: Callable[[], T]) -> T:
    """Send again while no answer comes, or one that asks for patience; a few times."""
    waits = stream.pauses()
    for _ in range(SUBMIT_TRIES - 1):
        try:
            return send()
        except (Unreachable, Unavailable) as error:
            if error.code == "not_dtrain":
                raise
            time.sleep(max(next(waits), min(error.retry_after or 0, LONGEST_WAIT_TO_RETRY)))
    return send()
