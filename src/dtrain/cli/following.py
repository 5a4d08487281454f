"""Following a job in a terminal until it has ended."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from dtrain.client.client import Client
from dtrain.client.stream import Metric, content
from dtrain.protocol.errors import DTrainError
from dtrain.protocol.messages import Job, LogPiece
from dtrain.protocol.progress import fraction_of
from dtrain.protocol.states import Phase, Status

from . import describe
from .main import FAILED
from .screen import Screen


def follow(
    client: Client, job_id: int, *, attempt: int | None = None, offset: int | None = None
) -> Job:
    """Write a job's log to stdout while it comes, and to stderr how it fares, until it has ended.

    Returns the job as it is then.

    Raises:
        KeyboardInterrupt: after saying that the job goes on, and how to stop it.
        DTrainError: the server refuses, or cannot be reached.
    """
    screen = Screen()
    follower = _Follower(client, job_id, screen)
    try:
        for update in client.jobs.follow(
            job_id, attempt=attempt, offset=offset, on_cut=follower.cut
        ):
            follower.take(update)
    except KeyboardInterrupt:
        screen.progress(None)
        screen.notice(
            f"Job {job_id} goes on. Follow it again: dtrain logs -f {job_id}"
            f"   Stop it: dtrain cancel {job_id}"
        )
        raise
    finally:
        screen.progress(None)
    job = client.jobs.get(job_id)
    screen.notice(f"{describe.ending(job)}.")
    if job.artifacts:
        left = describe.count(job.artifacts, "artifact")
        screen.notice(f"It left {left}; download with: dtrain artifacts {job_id}")
    return job


class _Follower:
    """Puts each update on the screen."""

    def __init__(self, client: Client, job_id: int, screen: Screen) -> None:
        self._client = client
        self._job_id = job_id
        self._screen = screen
        self._said = ""
        self._is_cut = False

    def take(self, update: Job | LogPiece | Metric) -> None:
        self._is_cut = False
        if isinstance(update, LogPiece):
            self._screen.log(content(update))
        elif isinstance(update, Metric):
            values = update.values
            self._screen.progress(fraction_of(values), describe.values(values))
        elif not update.status.final:
            self._say(self._news(update))

    def cut(self, error: DTrainError) -> None:
        if not self._is_cut:
            self._is_cut = True
            self._screen.notice(
                f"{error.detail.rstrip('.')}. Trying again; the job is not affected."
            )

    def _say(self, text: str) -> None:
        if text != self._said:
            self._said = text
            self._screen.notice(text)

    def _news(self, job: Job) -> str:
        """Where the job is, as a sentence."""
        at = f"attempt {job.attempt} on {job.worker}"
        if job.status is Status.PENDING:
            return f"Job {job.id} waits. {self._why()}"
        if job.phase is Phase.UNREACHABLE:
            return f"{job.worker} is not heard of; attempt {job.attempt} may go on there."
        return f"Job {job.id}: {job.phase} ({at})."

    def _why(self) -> str:
        with suppress(DTrainError):
            return self._client.jobs.explain(self._job_id).summary
        return ""


def exit_status(jobs: Iterable[Job]) -> int:
    """The exit status that tells whether all of the jobs have completed."""
    return 0 if all(job.status is Status.COMPLETED for job in jobs) else FAILED
