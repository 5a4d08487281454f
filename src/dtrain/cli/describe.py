"""What there is to say about a job, in a few words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from dtrain.protocol.messages import CheckpointInfo, Job
from dtrain.protocol.progress import AXES, COUNTERS
from dtrain.protocol.spec import JobSpec
from dtrain.protocol.states import Executor, OnPartition, Phase, Status

from . import output

_ORDINARY = {None, Phase.QUEUED, Phase.EXECUTING}


def state(job: Job) -> str:
    """The status, and what else there is to know where it is not the ordinary."""
    if job.status is Status.FAILED and job.reason is not None:
        return f"{job.status} ({job.reason})"
    return job.status.value if job.phase in _ORDINARY else f"{job.status} ({job.phase})"


def took(job: Job) -> str | None:
    """How long it ran, or has run by now."""
    if job.started_at is None:
        return None
    until = job.finished_at or datetime.now(UTC)
    return output.duration(max(0.0, (until - job.started_at).total_seconds()))


def progress(job: Job) -> str:
    """How much is done and the latest record: `60 %  epoch 3, loss 0.41`."""
    done = "" if job.fraction is None else f"{job.fraction:.0%}"
    return "  ".join(filter(None, (done, values(job.progress or {}))))


def values(record: Mapping[str, Any]) -> str:
    """A PROGRESS record: `epoch 3/10, loss 0.41`."""
    parts = []
    for counter, totals in COUNTERS.items():
        if counter in record:
            of = "".join(f"/{_value(record[total])}" for total in totals if total in record)
            parts.append(f"{counter} {_value(record[counter])}{of}")
    parts += [f"{name} {_value(value)}" for name, value in record.items() if name not in AXES]
    return ", ".join(parts)


def count(number: int, what: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def checkpoint(found: CheckpointInfo | None) -> str | None:
    """What the next attempt would go on from."""
    if found is None:
        return None
    what = f"{count(found.files, 'file')}, {output.size(found.size)}"
    taken = f"{output.local(found.taken_at)} ({output.age(found.taken_at)})"
    return f"{taken} of attempt {found.attempt}, {what}"


def exit_of(job: Job) -> str | None:
    """How the process ended: its exit code, or the signal that ended it."""
    if job.signal is not None:
        return f"signal {job.signal}"
    return None if job.exit_code is None else f"code {job.exit_code}"


def wants(spec: JobSpec) -> str:
    """What is set aside for a job, and where it may run."""
    parts = (
        f"{spec.cpus:g} CPUs" if spec.cpus else "",
        f"{spec.memory_gb:g} GB of memory" if spec.memory_gb else "",
        f"{spec.gpus} GPUs" if spec.gpus else "",
        *(f"label {name}={value}" for name, value in spec.labels.items()),
        f"Python {spec.python}" if spec.python else "",
        f"executor {spec.executor}" if spec.executor is not Executor.AUTO else "",
        f"image {spec.image}" if spec.image else "",
    )
    return ", ".join(filter(None, parts))


def rules(spec: JobSpec) -> str:
    """What else was ordered about how it runs."""
    parts = (
        f"priority {spec.priority}" if spec.priority else "",
        f"at most {output.duration(spec.time_limit)}" if spec.time_limit else "",
        f"{spec.max_retries} retries" if spec.max_retries else "",
        "stops when cut off from the server" if spec.on_partition is OnPartition.STOP else "",
    )
    return ", ".join(filter(None, parts))


def ending(job: Job) -> str:
    """How a job ended, as a sentence without its full stop."""
    words = [f"Job {job.id} {'was cancelled' if job.status is Status.CANCELLED else job.status}"]
    if job.started_at is not None:
        words.append(f"after {took(job)}")
    if job.status is Status.FAILED:
        words.append(f"({job.reason}): {job.message or exit_of(job) or 'no more is known'}")
    return " ".join(words).rstrip(".")


def times(job: Job) -> Iterator[tuple[str, str]]:
    """When it was submitted, begun and ended."""
    by = f" by {job.submitter}" if job.submitter else ""
    yield "submitted", f"{output.local(job.created_at)} ({output.age(job.created_at)}){by}"
    if job.started_at:
        yield "started", output.local(job.started_at)
    if job.finished_at:
        yield "finished", f"{output.local(job.finished_at)}, after {took(job) or 'no time'}"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
