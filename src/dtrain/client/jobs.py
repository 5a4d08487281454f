"""`Client.jobs`: the jobs of a server."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar, Unpack

from dtrain.protocol import routes
from dtrain.protocol.errors import DTrainError, JobFailed, Unavailable, Unreachable
from dtrain.protocol.messages import (
    Artifact,
    ArtifactList,
    BundleContents,
    Checkpoint,
    CheckpointList,
    Event,
    EventList,
    Explanation,
    Job,
    JobCounts,
    JobPage,
    LogLine,
    LogPage,
    MetricPage,
    MetricRecord,
)
from dtrain.protocol.spec import JobSpec
from dtrain.protocol.states import Status

from . import downloads, stream
from .columns import Columns, columns_of
from .fields import Fields, Filters
from .once import once
from .transport import Progress, Transport

PAGE = 200
"""Jobs, or lines, that are asked for at once where all are wanted."""
T = TypeVar("T")


class Jobs:
    """The jobs of a server. Every call may raise DTrainError: NotFound if there is no such job."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def get(self, job_id: int) -> Job:
        """A job as it is now."""
        return self._ask("GET", routes.JOB, Job, job_id)

    def list(
        self, *, limit: int = 50, cursor: str | None = None, **filters: Unpack[Filters]
    ) -> JobPage:
        """Jobs, newest first; `cursor` is the `next` of the page before."""
        query = {name: _listed(value) for name, value in filters.items()}
        query |= {"limit": str(limit), "cursor": cursor}
        return self._transport.request("GET", routes.JOBS, query=query).decode(JobPage)

    def counts(self) -> JobCounts:
        """How many jobs there are in each status."""
        return self._transport.request("GET", routes.JOB_COUNTS).decode(JobCounts)

    def iterate(self, *, page: int = PAGE, **filters: Unpack[Filters]) -> Iterator[Job]:
        """All jobs, newest first, asked for a page at a time while they are used up."""
        cursor: str | None = None
        while True:
            found = self.list(limit=page, cursor=cursor, **filters)
            yield from found.jobs
            cursor = found.next
            if cursor is None:
                return

    def cancel(self, job_id: int) -> Job:
        """Have a job stopped; a second time, without grace. One that has ended stays as it is."""
        return self._ask("POST", routes.JOB_CANCEL, Job, job_id)

    def retry(self, job_id: int) -> Job:
        """A new job with the bundle and spec of one that has ended."""
        path = routes.path(routes.JOB_RETRY, job_id=job_id)
        return once(lambda headers: self._transport.request("POST", path, headers=headers)).decode(
            Job
        )

    def clone(
        self,
        job_id: int,
        *,
        spec: JobSpec | None = None,
        name: str | None = None,
        **changes: Unpack[Fields],
    ) -> Job:
        """A new job with the bundle of an earlier one; nothing is uploaded.

        Args:
            job_id: the earlier job.
            spec: what is said about the new one; else what was said about the earlier one.
            name: instead of the name there.
            **changes: instead of the fields there.

        Raises:
            Invalid: a field is not acceptable.
        """
        from .submission import hand_in_again  # noqa: PLC0415  ZIPs and YAML, for few calls

        earlier = self.get(job_id)
        return hand_in_again(
            self._transport, earlier.bundle, spec or earlier.spec, {"name": name, **changes}
        )

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

    def lines(
        self,
        job_id: int,
        *,
        attempt: int | None = None,
        level: str | None = None,
        q: str | None = None,
    ) -> Iterator[LogLine]:
        """All lines that an attempt's log has by now, asked for while they are used up."""
        after = 0
        while True:
            page = self.logs(job_id, attempt=attempt, after=after, level=level, q=q)
            yield from page.lines
            if not page.more:
                return
            attempt, after = page.attempt, page.next

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

    def follow(
        self,
        job_id: int,
        *,
        attempt: int | None = None,
        offset: int | None = None,
        on_cut: Callable[[DTrainError], None] | None = None,
    ) -> Iterator[stream.Update]:
        """All that happens to a job, until its end; see `dtrain.client.stream.follow`."""
        return stream.follow(self._transport, job_id, attempt=attempt, offset=offset, on_cut=on_cut)

    def metrics(
        self, job_id: int, *, attempt: int | None = None, after: int = 0, limit: int = 1000
    ) -> MetricPage:
        """PROGRESS records, from number `after` on."""
        query = {"attempt": attempt, "after": after, "limit": limit}
        return self._ask("GET", routes.JOB_METRICS, MetricPage, job_id, query)

    def records(self, job_id: int, *, attempt: int | None = None) -> Iterator[MetricRecord]:
        """All PROGRESS records of an attempt by now, asked for while they are used up."""
        after = 0
        while True:
            page = self.metrics(job_id, attempt=attempt, after=after)
            yield from page.records
            if not page.more:
                return
            attempt, after = page.attempt, page.next

    def columns(self, job_id: int, *, attempt: int | None = None) -> Columns:
        """All PROGRESS records as columns: `step`, and one for each name, of one length.

        A name that a record lacks has None there.
        """
        return columns_of(self.records(job_id, attempt=attempt))

    def artifacts(self, job_id: int, *, attempt: int | None = None) -> Sequence[Artifact]:
        """The files that an attempt at a job left; the latest that left any."""
        query = {"attempt": attempt}
        return self._ask("GET", routes.JOB_ARTIFACTS, ArtifactList, job_id, query).artifacts

    def download_artifact(
        self,
        job_id: int,
        path: str,
        into: BinaryIO,
        *,
        attempt: int | None = None,
        progress: Progress | None = None,
    ) -> int:
        """Write the bytes of an artifact; how many there were."""
        place = routes.path(routes.JOB_ARTIFACT, job_id=job_id, path=path)
        query = {"attempt": attempt}
        return self._transport.download(place, into, query=query, progress=progress)

    def save_artifacts(
        self,
        job_id: int,
        folder: str | os.PathLike[str],
        patterns: Sequence[str] = (),
        *,
        attempt: int | None = None,
        overwrite: bool = False,
        progress: Callable[[Artifact, int], None] | None = None,
    ) -> Sequence[Path]:
        """Download a job's artifacts into a folder; one that broke off before is gone on with.

        Nothing is downloaded unless all of it can be. Content is checked by its SHA-256.

        Args:
            job_id: which job.
            folder: where the files go; it is made.
            patterns: which artifacts, all if there are none: paths, names or folders, in which
                `*`, `?` and `[…]` are as in a shell, but `*` goes over slashes.
            attempt: whose artifacts; those of the latest that left any, if left out.
            overwrite: whether files that are there are replaced.
            progress: called with an artifact and how many of its bytes are there.

        Returns:
            The files.

        Raises:
            NotFound: a pattern means no artifact.
            Refused: a name leads out of the folder, or a file is there already.
            OSError: the disk is full, or the like.
        """
        into = Path(folder)
        chosen = downloads.chosen(self.artifacts(job_id, attempt=attempt), patterns)
        places = [downloads.place_in(into, artifact.path) for artifact in chosen]
        for place in places:
            downloads.check_free(place, overwrite=overwrite)
        for artifact, place in zip(chosen, places, strict=True):
            downloads.fetch(
                self._transport,
                routes.path(routes.JOB_ARTIFACT, job_id=job_id, path=artifact.path),
                place,
                sha256=artifact.sha256,
                size=artifact.size,
                query={"attempt": artifact.attempt},
                overwrite=overwrite,
                progress=None if progress is None else partial(progress, artifact),
            )
        return places

    def checkpoints(self, job_id: int) -> Sequence[Checkpoint]:
        """What the server has of the job's checkpoint folder, the newest first."""
        return self._ask("GET", routes.JOB_CHECKPOINTS, CheckpointList, job_id).checkpoints

    def save_checkpoint(
        self,
        job_id: int,
        folder: str | os.PathLike[str],
        *,
        generation: int | None = None,
        overwrite: bool = False,
    ) -> Sequence[Path]:
        """Download a checkpoint into a folder, the newest unless a generation is named.

        It is as with `save_artifacts`; NotFound says that there is no such checkpoint.
        """
        into = Path(folder)
        chosen = downloads.generation(self.checkpoints(job_id), generation)
        places = [downloads.place_in(into, file.path) for file in chosen.files]
        for place in places:
            downloads.check_free(place, overwrite=overwrite)
        for file, place in zip(chosen.files, places, strict=True):
            address = routes.path(
                routes.JOB_CHECKPOINT_FILE,
                job_id=job_id,
                generation=chosen.generation,
                path=file.path,
            )
            downloads.fetch(
                self._transport,
                address,
                place,
                sha256=file.sha256,
                size=file.size,
                overwrite=overwrite,
            )
        return places

    def bundle_files(self, job_id: int) -> BundleContents:
        """What the bundle that was handed in holds."""
        return self._ask("GET", routes.JOB_BUNDLE_FILES, BundleContents, job_id)

    def download_bundle(
        self, job_id: int, into: BinaryIO, *, progress: Progress | None = None
    ) -> int:
        """Write the ZIP that was handed in; how many bytes there were."""
        place = routes.path(routes.JOB_BUNDLE, job_id=job_id)
        return self._transport.download(place, into, progress=progress)

    def save_bundle(
        self,
        job_id: int,
        path: str | os.PathLike[str],
        *,
        overwrite: bool = False,
        progress: Progress | None = None,
    ) -> Path:
        """Download the ZIP that was handed in to a file, as `save_artifacts` does."""
        bundle = self.get(job_id).bundle
        downloads.fetch(
            self._transport,
            routes.path(routes.JOB_BUNDLE, job_id=job_id),
            place := Path(path),
            sha256=bundle.sha256,
            size=bundle.size,
            overwrite=overwrite,
            progress=None if progress is None else lambda done: progress(done, bundle.size),
        )
        return place

    def wait(
        self, job_id: int, *, timeout: float | None = None, raise_on_failure: bool = False
    ) -> Job:
        """The job when it has ended; a server that is away for a while is waited for, too.

        Raises:
            TimeoutError: it has not ended within `timeout` seconds.
            JobFailed: it was to complete (`raise_on_failure`), and did not.
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
        if raise_on_failure and job.status is not Status.COMPLETED:
            raise JobFailed(job)
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


def _listed(value: object) -> object:
    """A filter as an address carries it: several texts with commas between them."""
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(map(str, value)) or None
    return value
