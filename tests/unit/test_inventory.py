from __future__ import annotations

import errno
import os
import platform
import re
import shutil
import sys
from pathlib import Path

import psutil
import pytest

from dtrain.protocol.errors import Invalid
from dtrain.protocol.resources import Gpu, Protection
from dtrain.protocol.states import Executor
from dtrain.worker.config import Config
from dtrain.worker.interpreter import version
from dtrain.worker.inventory import (
    GIB,
    Graphics,
    Inventory,
    boot_id,
    cpus,
    is_listed,
    memory,
)
from dtrain.worker.python_search import PythonSearch
from dtrain.worker.pythons import Pythons
from dtrain.worker.shared import Shared


def inventory(folder: Path, **settings: float) -> Inventory:
    config = Config(labels={"room": "a"}, **settings)
    pythons = Pythons(Shared(folder), Path(sys.executable), os.environ, may_fetch=False)
    search = PythonSearch(pythons, os.environ)
    protection = Protection(
        memory="cgroup", cpu="cgroup", pids=True, uid=True, pid_namespace=True, filesystem=True
    )
    return Inventory(config, folder, [Executor.VENV], search, protection)


def test_capacity_is_what_the_machine_has(tmp_path: Path) -> None:
    capacity = inventory(tmp_path, max_concurrent_jobs=3).capacity
    assert capacity.slots == 3
    assert 0 < capacity.cpus <= (os.cpu_count() or 1)
    assert 0 < capacity.memory <= psutil.virtual_memory().total
    assert capacity.labels == {"room": "a"}
    assert capacity.executors == [Executor.VENV]


def test_capacity_is_capped_by_the_owner(tmp_path: Path) -> None:
    capacity = inventory(tmp_path, max_memory_gb=0.5, max_cpu_percent=25).capacity
    assert capacity.memory == GIB // 2
    assert capacity.cpus == pytest.approx(min(cpus(), (os.cpu_count() or 1) / 4))


def test_own_python_comes_before_those_that_are_found(tmp_path: Path) -> None:
    machine = inventory(tmp_path)
    own = platform.python_version()
    assert machine.capacity.pythons == [own]
    machine.find_pythons()
    assert machine.capacity.pythons[0] == own
    assert len(set(machine.capacity.pythons)) == len(machine.capacity.pythons)
    assert machine.capacity.fetchable_pythons == []


def test_interpreter_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="/bin/false does not run as Python"):
        version(Path("/bin/false"))


def test_affinity_counts() -> None:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        assert cpus() <= 1
    finally:
        os.sched_setaffinity(0, before)


def test_metrics_are_of_this_machine_and_this_disk(tmp_path: Path) -> None:
    metrics = inventory(tmp_path).metrics()
    assert 0 <= metrics.cpu_percent <= 100
    assert 0 < metrics.memory_used < metrics.memory_total == psutil.virtual_memory().total
    assert metrics.disk_total == shutil.disk_usage(tmp_path).total
    assert 0 < metrics.disk_used <= metrics.disk_total


def test_disk_that_is_away_keeps_no_worker_from_saying_how_busy_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(path: Path) -> None:
        raise OSError(errno.ESTALE, f"Stale file handle: {path}")

    monkeypatch.setattr("shutil.disk_usage", usage)
    assert inventory(tmp_path).metrics() is not None


def test_boot_id_stays_the_same() -> None:
    assert re.fullmatch(r"[0-9a-f-]{36}|[0-9]+", boot_id())
    assert boot_id() == boot_id()


def test_memory_is_at_most_that_of_the_machine() -> None:
    assert 0 < memory() <= psutil.virtual_memory().total


def test_gpus_are_told_alike_by_inventory_and_metrics() -> None:
    graphics = Graphics({})
    samples = graphics.metrics()
    assert len(samples) == len(graphics.gpus)
    for gpu, sample in zip(graphics.gpus, samples, strict=True):
        assert gpu.uuid.startswith("GPU-")
        assert 0 < sample["memory_used"] <= gpu.memory
        assert 0 <= sample["utilisation"] <= 100


def test_no_gpu_is_offered_where_none_is_visible() -> None:
    assert Graphics({"CUDA_VISIBLE_DEVICES": ""}).gpus == []


@pytest.mark.parametrize(
    ("visible", "expected"),
    [("1", True), ("0, 1", True), ("GPU-ab", True), ("0", False), ("", False), ("-1", False)],
)
def test_visible_devices_are_named_by_index_or_uuid(visible: str, expected: bool) -> None:
    gpu = Gpu(index=1, uuid="GPU-abcd", name="x", memory=1)
    assert is_listed(gpu, visible) is expected
