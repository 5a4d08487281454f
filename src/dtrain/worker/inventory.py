"""What this machine has and how busy it is: CPUs, memory, disk and GPUs."""

from __future__ import annotations

import ctypes
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import psutil

from dtrain.protocol.messages import WorkerMetrics
from dtrain.protocol.resources import Capacity, Gpu, Protection
from dtrain.protocol.states import Executor

from .config import Config
from .python_search import PythonSearch

log = logging.getLogger(__name__)

GIB = 1024**3

_PAUSE = 1.0
"""Seconds between two measurements at least, however often the worker polls."""


class Inventory:
    """The machine, as far as one worker may use it.

    Args:
        config: caps what is offered to jobs.
        folder: where the worker keeps its files; the disk it is on is the one that is measured.
        executors: the ways in which jobs can be run here.
        search: finds the interpreters that jobs can ask for.
        protection: how jobs are kept apart.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        executors: list[Executor],
        search: PythonSearch,
        protection: Protection,
    ) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._graphics = Graphics(os.environ)
        self.capacity = Capacity(
            slots=config.max_concurrent_jobs,
            cpus=min(cpus(), config.max_cpus or cpus()),
            memory=int(min(memory(), (config.max_memory_gb or 2**30) * GIB)),
            executors=executors,
            gpus=self._graphics.gpus,
            labels=config.labels,
            pythons=[search.own],
            isolation=protection.level,
            protection=protection,
        )
        """What there is for jobs; `find_pythons` may add to it."""
        self._search = search
        self._measured: WorkerMetrics | None = None
        self._measured_at = 0.0
        psutil.cpu_percent()

    def offer_containers(self, are_there: bool) -> None:
        """Say whether jobs can be run in containers here now."""
        others = [name for name in self.capacity.executors if name is not Executor.DOCKER]
        self._change(executors=[*others, Executor.DOCKER] if are_there else others)

    def _change(self, **fields: object) -> None:
        with self._guard:
            self.capacity = msgspec.structs.replace(self.capacity, **fields)

    def find_pythons(self) -> None:
        """Look which interpreters jobs can have: found here, or to be fetched. Takes seconds."""
        pythons = self._search.installed() or self.capacity.pythons
        self._change(pythons=pythons)
        self._change(fetchable_pythons=self._search.fetchable())

    def close(self) -> None:
        """Break off the search for interpreters, should it last."""
        self._search.close()

    def metrics(self) -> WorkerMetrics:
        """How busy the machine is, as of a second ago at most; for one thread.

        The CPU's share is the one since the measurement before: over less time it says nothing.
        """
        now = time.monotonic()
        if self._measured is None or now - self._measured_at >= _PAUSE:
            with suppress(OSError):  # a disk that is away, say: a curve is not worth a heartbeat
                self._measured = self._measure()
            self._measured_at = now
        return self._measured or WorkerMetrics()

    def _measure(self) -> WorkerMetrics:
        used = psutil.virtual_memory()
        disk = shutil.disk_usage(self._folder)
        return WorkerMetrics(
            cpu_percent=psutil.cpu_percent(),
            memory_used=used.total - used.available,
            memory_total=used.total,
            disk_used=disk.used,
            disk_total=disk.total,
            gpus=self._graphics.metrics(),
        )


class Graphics:
    """The NVIDIA GPUs, as their driver (NVML) tells; none where there is no driver.

    The environment's CUDA_VISIBLE_DEVICES, where it is set, says which of them the worker may use.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.gpus: list[Gpu] = []
        self._handles: list[Any] = []
        try:
            ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return
        import pynvml  # noqa: PLC0415 - only a machine with the driver pays for it

        self._driver = pynvml
        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            self._find(environment.get("CUDA_VISIBLE_DEVICES"))

    def metrics(self) -> list[dict[str, float]]:
        """For each GPU what the driver can tell of its utilisation, memory, temperature, power."""
        return [self._sample(handle) for handle in self._handles]

    def _find(self, visible: str | None) -> None:
        driver = self._driver
        for index in range(driver.nvmlDeviceGetCount()):
            handle = driver.nvmlDeviceGetHandleByIndex(index)
            gpu = Gpu(
                index=index,
                uuid=driver.nvmlDeviceGetUUID(handle),
                name=driver.nvmlDeviceGetName(handle),
                memory=driver.nvmlDeviceGetMemoryInfo(handle).total,
            )
            if visible is None or is_listed(gpu, visible):
                self.gpus.append(gpu)
                self._handles.append(handle)

    def _sample(self, handle: Any) -> dict[str, float]:
        driver = self._driver
        questions: dict[str, Callable[[], float]] = {
            "utilisation": lambda: driver.nvmlDeviceGetUtilizationRates(handle).gpu,
            "memory_used": lambda: driver.nvmlDeviceGetMemoryInfo(handle).used,
            "temperature": lambda: driver.nvmlDeviceGetTemperature(
                handle, driver.NVML_TEMPERATURE_GPU
            ),
            "power": lambda: driver.nvmlDeviceGetPowerUsage(handle) / 1000,
        }
        sample = {}
        for name, ask in questions.items():
            with suppress(driver.NVMLError):
                sample[name] = float(ask())
        return sample


def boot_id() -> str:
    """What tells this start of the machine from all others."""
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return str(int(psutil.boot_time()))


def cpus() -> float:
    """Processor cores that this process may use: its affinity, and the quotas of its cgroups."""
    usable = float(len(os.sched_getaffinity(0)))
    for quota, period in (
        *_in_cgroups("", "cpu.max"),
        *_in_cgroups("cpu", "cpu.cfs_quota_us", "cpu.cfs_period_us"),
    ):
        if quota.isdecimal() and period.isdecimal() and int(period) and int(quota):
            usable = min(usable, int(quota) / int(period))
    return usable


def memory() -> int:
    """Bytes that this process may use: the machine's, and the limits of its cgroups."""
    usable: int = psutil.virtual_memory().total
    for (limit,) in (
        *_in_cgroups("", "memory.max"),
        *_in_cgroups("memory", "memory.limit_in_bytes"),
    ):
        if limit.isdecimal() and int(limit):
            usable = min(usable, int(limit))
    return usable


def _in_cgroups(controller: str, *files: str) -> Iterator[list[str]]:
    """The words of some files, for this process's cgroup and all above it that have them.

    Args:
        controller: of a hierarchy of version 1; empty for the one of version 2.
        files: names inside the folder of a cgroup.
    """
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, own = line.split(":", 2)
            if controller in controllers.split(","):
                for mount in _mounts(controllers):
                    for folder in (Path(own), *Path(own).parents):
                        with suppress(OSError):
                            paths = [mount / str(folder).lstrip("/") / name for name in files]
                            yield [word for path in paths for word in path.read_text().split()]


def _mounts(controllers: str) -> list[Path]:
    """Where the hierarchy of some controllers may be mounted; version 2's has no controllers."""
    root = Path("/sys/fs/cgroup")
    return [root / controllers] if controllers else [root, root / "unified"]


def is_listed(gpu: Gpu, visible: str) -> bool:
    """Whether CUDA_VISIBLE_DEVICES names a GPU, by its index or the start of its UUID."""
    names = [name.strip() for name in visible.split(",")]
    return any(
        name == str(gpu.index) or (name.startswith("GPU-") and gpu.uuid.startswith(name))
        for name in names
    )
