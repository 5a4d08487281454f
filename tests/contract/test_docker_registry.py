"""Images of a registry that wants to know who asks, on a real engine."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.attempts import ended, wait_for_log
from support.contained import Bench
from support.containers import TestEngine
from support.processes import PATIENCE
from support.registry import Registry, forget, log_in, log_in_by_helper, running_registry
from support.relay import Fault, relay

from dtrain.protocol.states import Cause
from dtrain.worker.spool import WorkerFolder

JOB = {"main.sh": "echo runs"}


@pytest.fixture
def bench(tmp_path: Path, container_engine: TestEngine) -> Iterator[Bench]:
    bench = Bench(WorkerFolder(tmp_path / "worker"), container_engine.engine, tmp_path.name)
    yield bench
    bench.close()


@pytest.fixture
def registry(tmp_path: Path, container_engine: TestEngine) -> Iterator[Registry]:
    with running_registry(tmp_path / "registry", container_engine.engine) as registry:
        yield registry


@pytest.mark.parametrize("way", ["login", "helper"])
def test_image_is_fetched_with_the_credentials_of_the_workers_user(
    bench: Bench, registry: Registry, tmp_path: Path, way: str
) -> None:
    if way == "login":
        log_in(tmp_path, registry.host)
    else:
        log_in_by_helper(tmp_path, registry.host, tmp_path / "bin")
        bench.executor = bench.make(f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    _, record, log = bench.run(JOB, image=registry.image, main_entry="main.sh")
    assert record.exit_code == 0, log
    assert f"The image {registry.image} is not here; it is fetched." in log
    assert "Pulling from lab/shell" in log
    assert "Pull complete" in log
    assert log.endswith("\nruns\n")
    _, record, log = bench.run(JOB, image=registry.image, main_entry="main.sh")
    assert log == "runs\n"


@pytest.mark.parametrize(
    ("password", "words"),
    [(None, "wants a name and a password"), ("wrong", "does not accept what")],
    ids=["none", "wrong"],
)
def test_image_that_needs_credentials_says_so(
    bench: Bench, registry: Registry, tmp_path: Path, password: str | None, words: str
) -> None:
    if password is not None:
        log_in(tmp_path, registry.host, password)
    _, record, log = bench.run(JOB, image=registry.image, main_entry="main.sh")
    assert record.cause is Cause.IMAGE_FAILED
    said = log.splitlines()[-1]
    assert said.startswith(f"The image {registry.image} cannot be fetched: the registry")
    assert words in said
    assert f"run docker login {registry.host}" in said


def test_image_that_the_registry_has_not_says_so(
    bench: Bench, registry: Registry, tmp_path: Path
) -> None:
    log_in(tmp_path, registry.host)
    _, record, log = bench.run(JOB, image=f"{registry.host}/lab/shell:2", main_entry="main.sh")
    assert record.cause is Cause.IMAGE_FAILED
    assert "lab/shell:2 cannot be fetched: " in log.splitlines()[-1]
    assert "not found" in log.splitlines()[-1] or "unknown" in log.splitlines()[-1]


def test_fetch_is_seen_as_it_goes(bench: Bench, registry: Registry, tmp_path: Path) -> None:
    """The line falls silent in the middle of the image; what is here is told meanwhile."""
    with relay(registry.port) as line:
        host = line.url.removeprefix("http://")
        log_in(tmp_path, host)
        image = registry.image.replace(registry.host, host)
        line.faults += [Fault(after=2**20, upward=False, holds=True)] * 20
        running = bench.start(JOB, image=image, main_entry="main.sh")
        assert line.held.wait(PATIENCE)
        wait_for_log(running.folder, b"Pulling from lab/shell")
        assert b"Pull complete" not in running.folder.log.read_bytes()
        line.faults.clear()
        line.over.set()  # cut: the engine asks for the rest
        assert ended(running).exit_code == 0, running.folder.log.read_text()
        forget(bench.engine, image)
