"""`dtrain show`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import click
from rich.text import Text

from dtrain.client.client import Client
from dtrain.protocol.messages import Artifact, Event, Explanation, Job
from dtrain.protocol.states import Status

from . import describe, output, tables
from .arguments import JobId, as_json
from .connection import asks_server
from .history import workers

_LABEL = 12
"""Columns."""


@click.command()
@click.argument("job_id", metavar="ID", type=JobId())
@as_json("the job")
@asks_server
def show(client: Client, job_id: int, *, as_json: bool) -> None:
    """Show all about a job: where it is, how it ended, what it left."""
    job = client.jobs.get(job_id)
    if as_json:
        output.print_json(job)
        return
    artifacts = client.jobs.artifacts(job_id) if job.artifacts else []
    earlier = client.jobs.events(job_id) if job.attempt > 1 else []
    waiting = client.jobs.explain(job_id) if job.status is Status.PENDING else None
    terminal = tables.console()
    title = Text(f"Job {job.id}  ", "bold").append(output.clean(job.name))
    terminal.print(title.append(f"  {describe.state(job)}", tables.STYLES[job.status]))
    for name, value in _lines(job, client.page(job.id)):
        if value:
            terminal.print(Text(f"  {name:<{_LABEL}}").append(output.clean(value)))
    if waiting is not None:
        terminal.print(_why(waiting))
    if earlier:
        terminal.print(_attempts(earlier))
    if artifacts:
        terminal.print(_left(artifacts))
    if job.traceback:
        terminal.print(Text("  traceback\n").append(_indented(job.traceback)))


def _lines(job: Job, page: str) -> Iterator[tuple[str, str | None]]:
    spec = job.spec
    yield "page", page
    yield "message", job.message
    yield "ended by", describe.exit_of(job)
    yield "worker", f"{job.worker}, attempt {job.attempt}" if job.attempt else None
    yield "progress", describe.progress(job)
    yield from describe.times(job)
    yield "runs", " ".join([spec.main_entry, *spec.args])
    yield "installs", spec.requirements_file
    yield "needs", describe.wants(spec)
    yield "rules", describe.rules(spec)
    yield "tags", ", ".join(spec.tags)
    yield "environment", ", ".join(spec.env)
    yield "retry of", None if job.retry_of is None else f"job {job.retry_of}"
    yield "cancel", "asked for" if job.cancel_requested and not job.status.final else None
    yield "peak memory", None if job.peak_memory is None else output.size(job.peak_memory)
    packed = f"{describe.count(job.bundle.files, 'file')}, {output.size(job.bundle.size)}"
    yield "bundle", f"{packed}, SHA-256 {job.bundle.sha256}"
    yield "checkpoint", describe.checkpoint(job.checkpoint)
    yield "log", output.size(job.log_bytes) if job.log_bytes else None


def _why(explanation: Explanation) -> Text:
    """Why it waits: the sentence, and what keeps it off each worker."""
    text = Text(f"  {'waits':<{_LABEL}}").append(output.clean(explanation.summary))
    for line in workers(explanation):
        text.append(f"\n  {'':<{_LABEL}}{line}")
    return text


def _attempts(events: Sequence[Event]) -> Text:
    """What became of each attempt, on which worker."""
    lines: dict[int, str] = {}
    for event in events:
        attempt = event.data.get("attempt") or 0
        if event.kind == "claimed":
            lines[attempt] = f"{attempt} on {event.data.get('worker')}, {output.local(event.at)}"
        elif attempt in lines and event.data.get("status") != Status.RUNNING:
            why = event.data.get("message") or event.kind.replace("_", " ")
            lines[attempt] = f"{lines[attempt]}: {why}"
    return Text("  attempts\n").append(_indented("\n".join(lines.values())))


def _left(artifacts: Sequence[Artifact]) -> Text:
    width = max(len(output.size(artifact.size)) for artifact in artifacts)
    text = Text("  artifacts")
    for artifact in artifacts:
        size = f"{output.size(artifact.size):>{width}}"
        text.append(f"\n    {size}  ").append(output.clean(artifact.path))
    return text


def _indented(lines: str) -> str:
    return "\n".join(f"    {line}" for line in output.clean_lines(lines).rstrip().split("\n"))
