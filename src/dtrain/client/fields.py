"""What calls take by name: the fields of a job, and the filters of a list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypedDict


class Fields(TypedDict, total=False):
    """What can be said about a job beside its name: `dtrain.protocol.spec.JobSpec`."""

    main_entry: str | None
    args: Sequence[str] | None
    requirements_file: str | None
    python: str | None
    env: Mapping[str, str] | Sequence[str] | None
    tags: Sequence[str] | None
    priority: int | str | None
    cpus: float | str | None
    memory_gb: float | str | None
    gpus: int | str | None
    labels: Mapping[str, str] | Sequence[str] | None
    time_limit: float | str | None
    max_retries: int | str | None
    on_partition: str | None
    image: str | None
    executor: str | None


class Filters(TypedDict, total=False):
    """Which jobs are meant: those to which all of it applies."""

    status: str | Sequence[str] | None
    """A status, or several of which a job has one."""
    tag: str | Sequence[str] | None
    """A tag, or several that a job must all have."""
    worker: str | None
    """The name or the id of the worker of the latest attempt."""
    submitter: str | None
    q: str | None
    """A text in the name."""
