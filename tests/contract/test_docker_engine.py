"""Jobs whose container engine is restarted."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.attempts import ended, wait_for_log
from support.contained import COUNTS, Bench
from support.containers import TestEngine, private_engine
from support.processes import PATIENCE
from support.registry import forget, log_in, running_registry
from support.relay import Fault, relay

from dtrain.protocol.states import Cause
from dtrain.worker.launcher import resume
from dtrain.worker.spool import WorkerFolder


@pytest.fixture(scope="module")
def engine_to_kill(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestEngine]:
    with private_engine(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


@pytest.fixture
def doomed(tmp_path: Path, engine_to_kill: TestEngine) -> Iterator[Bench]:
    """A bench whose engine may be killed."""
    bench = Bench(WorkerFolder(tmp_path / "worker"), engine_to_kill.engine, tmp_path.name)
    yield bench
    bench.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_engine_that_keeps_containers_may_be_restarted(
    doomed: Bench, engine_to_kill: TestEngine, number: signal.Signals
) -> None:
    engine_to_kill.end()
    engine_to_kill.start("--live-restore")
    running = doomed.start(COUNTS % 200 + "raise SystemExit(7)")
    wait_for_log(running.folder, b"line 20\n")
    engine_to_kill.end(number)
    engine_to_kill.start("--live-restore")
    record = ended(running)
    log = running.folder.log.read_text()
    lines = [line for line in log.splitlines() if line.startswith("line ")]
    assert lines == [f"line {n}" for n in range(200)]
    assert (record.cause, record.exit_code) == (Cause.EXITED, 7)


def test_what_is_said_beside_a_container_begins_a_line(
    doomed: Bench, engine_to_kill: TestEngine
) -> None:
    engine_to_kill.end()
    engine_to_kill.start("--live-restore")
    running = doomed.start("import time; print('50 %', end='', flush=True); time.sleep(4); print()")
    wait_for_log(running.folder, b"50 %")
    engine_to_kill.end()
    wait_for_log(running.folder, b"The job waits for it.\n")
    engine_to_kill.start("--live-restore")
    assert ended(running).exit_code == 0
    first, second = running.folder.log.read_text().splitlines()[:2]
    assert (first, second[:8]) == ("50 %", "There is")


def test_shim_may_be_killed_while_the_engine_is_away(
    doomed: Bench, engine_to_kill: TestEngine
) -> None:
    engine_to_kill.end()
    engine_to_kill.start("--live-restore")
    running = doomed.start(COUNTS % 400)
    wait_for_log(running.folder, b"line 20\n")
    engine_to_kill.end()
    wait_for_log(running.folder, b"The job waits for it.\n")
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait(PATIENCE)
    again = resume(running.folder, doomed.executor)
    assert again is not None
    engine_to_kill.start("--live-restore")
    assert ended(again).exit_code == 0
    log = running.folder.log.read_text()
    lines = [line for line in log.splitlines() if line.startswith("line ")]
    assert lines == [f"line {n}" for n in range(400)]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL], ids=["stopped", "killed"])
def test_engine_that_takes_containers_along_costs_no_job_its_outcome(
    doomed: Bench, engine_to_kill: TestEngine, number: signal.Signals
) -> None:
    """The job is lost through no fault of its own, so it is given to a worker again."""
    engine_to_kill.end()
    engine_to_kill.start()
    running = doomed.start(COUNTS % 2000)
    wait_for_log(running.folder, b"line 20\n")
    engine_to_kill.end(number)
    engine_to_kill.start()
    record = ended(running)
    assert record.cause is Cause.SHIM_LOST
    assert "has ended the container" in str(record.message)


@pytest.mark.parametrize(
    ("path", "number"),
    [("/usr/sbin:/sbin", signal.SIGKILL), ("/usr/bin:/bin", signal.SIGTERM)],
    ids=["classic-killed", "buildkit-stopped"],
)
def test_engine_may_be_restarted_in_the_middle_of_a_build(
    doomed: Bench, engine_to_kill: TestEngine, path: str, number: signal.Signals
) -> None:
    doomed.executor = doomed.make(path)
    files = {
        "Dockerfile": "FROM python:3.9-slim\nRUN echo at work; sleep 10; echo built >/built\n",
        "main.py": "print(open('/built').read(), end='')",
        "another.txt": secrets.token_hex(),
    }
    running = doomed.start(files)
    wait_for_log(running.folder, b"at work\n")
    engine_to_kill.end(number)
    engine_to_kill.start()
    record = ended(running)
    assert record.exit_code == 0, running.folder.log.read_text()
    assert running.folder.log.read_text().endswith("built\n")


def test_engine_may_be_restarted_in_the_middle_of_a_fetch(
    doomed: Bench, engine_to_kill: TestEngine, tmp_path: Path
) -> None:
    with (
        running_registry(tmp_path / "registry", engine_to_kill.engine) as registry,
        relay(registry.port) as line,
    ):
        host = line.url.removeprefix("http://")
        log_in(tmp_path, host)
        image = registry.image.replace(registry.host, host)
        line.faults += [Fault(after=2**20, upward=False, holds=True)] * 20
        running = doomed.start({"main.sh": "echo runs"}, image=image, main_entry="main.sh")
        assert line.held.wait(PATIENCE)
        engine_to_kill.end(signal.SIGKILL)
        line.faults.clear()
        line.over.set()
        engine_to_kill.start()
        record = ended(running)
        log = running.folder.log.read_text()
        assert record.exit_code == 0, log
        assert log.endswith("\nruns\n")
        assert log.count("it is fetched") == 2
        forget(engine_to_kill.engine, image)
