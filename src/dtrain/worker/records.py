"""What the files in a worker's folder say (`spool`)."""

from __future__ import annotations

import msgspec

from dtrain.protocol.states import Cause
from dtrain.protocol.states import Executor as ExecutorName
from dtrain.protocol.worker_messages import Assignment


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who the worker is to its server."""

    worker_id: str
    credential: str


class ShimRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Which process a shim is; no other process, before or after a reboot, fits all three."""

    pid: int
    ticks: int
    """When it started, in the kernel's ticks since the boot."""
    boot_id: str
    mark: str
    """What its processes have in the environment variable `layout.MARK`."""


class StepRecord(msgspec.Struct, frozen=True, kw_only=True):
    """The step that a shim has started last."""

    name: str
    pid: int
    """Of its program, which leads a session of this number."""
    ticks: int


class PlannedLimits(msgspec.Struct, frozen=True):
    """Of a plan's limits what `PlannedGroup` reads."""

    group: dict[str, str] = {}


class PlannedGroup(msgspec.Struct, frozen=True):
    """What a plan says of limits that outlive the shim; the rest is the shim's alone."""

    limits: PlannedLimits = PlannedLimits()
    contained: bool = False


class ExitRecord(msgspec.Struct, frozen=True, kw_only=True):
    """How an attempt ended, as its shim saw it."""

    cause: Cause
    exit_code: int | None = None
    signal: int | None = None
    message: str | None = None
    """What went wrong, for the causes that need more than their name."""
    peak_memory: int | None = None
    """Bytes."""
    memory_limit: int | None = None
    """Bytes that it might use; None if all that there were."""
    duration: float = 0.0
    """Seconds from the start of the first step to the end of the last."""
    traceback: str | None = None
    """The last lines of the log of an attempt that failed, from its last traceback on."""
    log_bytes: int = 0


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """What an attempt is, as the agent got it."""

    assignment: Assignment
    secret: str
    gpus: list[str] = []
    """The GPUs set aside for it, as `CUDA_VISIBLE_DEVICES` takes them."""
    executor: str = ExecutorName.VENV
    """The name of the executor that runs it."""
