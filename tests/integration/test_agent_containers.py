"""An agent whose jobs run in containers, on a real engine that comes and goes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from support.agents import COUNTS_UNTIL_LET_GO, RunningAgent, attempt_folders, start_agent
from support.containers import TestEngine, left_containers
from support.fake_server import FakeServer, fake_server
from support.processes import wait_for

from dtrain.protocol.states import Cause, Executor
from dtrain.worker.isolation import key_of
from dtrain.worker.launcher import adopt
from dtrain.worker.spool import WorkerFolder

COUNTS = f"import os, sys, time\n{COUNTS_UNTIL_LET_GO}"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture
def home(tmp_path: Path, container_engine: TestEngine) -> Iterator[Path]:
    """A worker's folder; no container of the worker's is left in the end."""
    yield tmp_path / "worker"
    key = tmp_path / "worker/data/worker-1/container_key"
    if key.exists():
        assert left_containers(container_engine.engine, key.read_text()) == []


def start(home: Path, server: FakeServer, socket: str, **settings: object) -> RunningAgent:
    return start_agent(
        home,
        server,
        env={"DOCKER_HOST": f"unix://{socket}"},
        **{
            "docker_enabled": True,
            "docker_image_tag": "python:3.9-slim",
            "executor": "venv",
            **settings,
        },
    )


def containers(home: Path, engine: TestEngine) -> list[dict[str, Any]]:
    key = (home / "data/worker-1/container_key").read_text()
    return engine.engine.containers({"dtrain.worker": key})


def left_groups(home: Path) -> list[Path]:
    """What is left of the control groups of the worker; other agents may run beside it."""
    key = key_of(WorkerFolder(home / "data/worker-1"))
    return list(Path("/sys/fs/cgroup").glob(f"**/dtrain-{key}"))


def let_go(home: Path) -> None:
    (folder,) = attempt_folders(home)
    (folder / "work" / "go").touch()


def assert_nothing_lost(server: FakeServer) -> None:
    attempt = server.wait_until_ended(1)
    *lines, last = bytes(attempt.log).decode().splitlines()
    assert lines == [f"line {number}" for number in range(len(lines))]
    assert last == f"bye {len(lines)}"
    assert attempt.finishes[0].exit_code == 3
    assert attempt.artifacts == {"left": b"x"}
    assert list(server.attempts) == [(1, 1)]


def test_container_outlives_the_agent_and_its_shim(
    home: Path, server: FakeServer, container_engine: TestEngine
) -> None:
    agent = start(home, server, container_engine.socket)
    attempt = server.wait_until_claimed(server.submit({"main.py": COUNTS}))
    server.wait(lambda: b"line 20\n" in attempt.log, "the log to grow")
    (container,) = containers(home, container_engine)

    agent.kill()
    size = len(attempt.log)
    agent.restart()
    server.wait(lambda: len(attempt.log) > size + 100, "the log to grow")

    agent.kill()
    _kill_shim(home)
    agent.restart()
    size = len(attempt.log)
    server.wait(lambda: len(attempt.log) > size + 100, "the log to grow")

    _kill_shim(home)
    size = len(attempt.log)
    server.wait(lambda: len(attempt.log) > size + 100, "the log to grow")
    assert [one["Id"] for one in containers(home, container_engine)] == [container["Id"]]
    let_go(home)
    assert_nothing_lost(server)
    wait_for(lambda: attempt_folders(home) == [], "the folder to go")


def _kill_shim(home: Path) -> None:
    (attempt,) = WorkerFolder(home / "data/worker-1").attempts()
    running = adopt(attempt)
    assert running is not None
    os.kill(running.pid, signal.SIGKILL)


def test_cancelled_job_leaves_no_container(
    home: Path, server: FakeServer, container_engine: TestEngine
) -> None:
    start(home, server, container_engine.socket)
    code = (
        "import signal, time\n"
        "signal.signal(15, signal.SIG_IGN)\n"
        "print('ready', flush=True)\n"
        "time.sleep(3600)\n"
    )
    attempt = server.wait_until_claimed(server.submit({"main.py": code}))
    server.wait(lambda: b"ready\n" in attempt.log, "the job to run")
    server.command(1, "cancel", at_once=True)
    attempt = server.wait_until_ended(1)
    assert attempt.finishes[0].cause is Cause.CANCELLED
    wait_for(lambda: containers(home, container_engine) == [], "the container to go")


def test_containers_share_the_memory_of_the_worker(
    home: Path, server: FakeServer, container_engine: TestEngine
) -> None:
    """Each alone would fit; together they do not."""
    agent = start(home, server, container_engine.socket, max_memory_gb=0.125, max_concurrent_jobs=2)
    code = (
        "import os, time\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
        "x = b'x' * (90 * 2**20)\n"
        "print('has it', flush=True)\n"
        "while not os.path.exists('end'): time.sleep(0.01)\n"
    )
    first, second = (server.submit({"main.py": code}) for _ in range(2))
    for job in (first, second):
        server.wait_until_claimed(job)
    wait_for(lambda: len(containers(home, container_engine)) == 2, "two containers")
    folders = sorted(attempt_folders(home))
    (folders[0] / "work" / "go").touch()
    server.wait(lambda: b"has it" in server.attempt(first).log, "the first to have its memory")
    (folders[1] / "work" / "go").touch()
    server.wait(lambda: any(server.attempt(job).finishes for job in (first, second)), "an end")
    for folder in folders:
        with suppress(FileNotFoundError):  # that of the one that has ended goes
            (folder / "work" / "end").touch()
    causes = [server.wait_until_ended(job).finishes[0].cause for job in (first, second)]
    assert sorted(causes) == [Cause.EXITED, Cause.OUT_OF_MEMORY]
    agent.stop()
    assert left_groups(home) == []


def test_containers_share_the_processors_of_the_worker(
    home: Path, server: FakeServer, container_engine: TestEngine
) -> None:
    """Each of them is in a group that may use no more than all of them together."""
    agent = start(home, server, container_engine.socket, max_memory_gb=1, max_cpu_percent=50)
    job = server.submit({"main.py": COUNTS})
    server.wait_until_claimed(job)
    server.wait(lambda: server.attempt(job).log, "the job to run")
    (container,) = containers(home, container_engine)
    state = container_engine.engine.state(container["Id"])
    assert state is not None
    limits = [*_cpu_limits(state["Pid"])]
    cpus = (os.cpu_count() or 1) / 2
    assert len(limits) >= 2, "its own and that of all"
    assert set(limits) == {cpus}
    let_go(home)
    server.wait_until_ended(job)
    agent.stop()
    assert left_groups(home) == []


def _cpu_limits(pid: int) -> Iterator[float]:
    """The processors that the groups of a process may use, from its own upwards."""
    groups = [line.split(":", 2) for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines()]
    first = {name: path for _, names, path in groups for name in names.split(",")}
    top = Path("/sys/fs/cgroup/cpu" if "cpu" in first else "/sys/fs/cgroup")
    place = top / first.get("cpu", first.get("", "")).lstrip("/")
    for folder in (place, *place.parents):
        for name in ("cpu.max", "cpu.cfs_quota_us"):
            if (folder / name).exists():
                word = (folder / name).read_text().split()[0]
                if word not in {"max", "-1"}:
                    yield int(word) / 100_000


def test_engine_that_is_missing_is_told_and_noticed_when_it_comes(
    home: Path, server: FakeServer, container_engine: TestEngine, tmp_path: Path
) -> None:
    socket = tmp_path / "engine.sock"
    agent = start(home, server, str(socket), poll_interval=0.5)
    agent.wait_for_text(f"docker_enabled is true, but: There is no container engine at {socket}")
    server.wait(lambda: server.polls, "a poll")
    assert server.polls[-1].capacity.executors == [Executor.VENV]

    socket.symlink_to(container_engine.socket)
    agent.wait_for_text("The container engine is there")
    server.wait(lambda: Executor.DOCKER in server.polls[-1].capacity.executors, "the offer")
    job = server.submit(
        {"main.py": "print(open('/etc/debian_version').read())"}, image="python:3.9-slim"
    )
    assert server.wait_until_ended(job).finishes[0].exit_code == 0
    wait_for(lambda: containers(home, container_engine) == [], "the container to go")

    socket.unlink()
    server.wait(lambda: Executor.DOCKER not in server.polls[-1].capacity.executors, "the end of it")


def test_containers_of_ended_attempts_are_removed_at_the_start(
    home: Path, server: FakeServer, container_engine: TestEngine
) -> None:
    folder = WorkerFolder(home / "data" / "worker-1")
    (folder.path / "container_key").write_text("left-over")
    labels = {"dtrain.worker": "left-over", "dtrain.attempt": "7-1"}
    body = {"Image": "python:3.9-slim", "Cmd": ["sleep", "60"], "Labels": labels}
    name = {"name": "dtrain-left-over-7-1"}
    made = container_engine.engine.call("POST", "/containers/create", body, query=name)
    container_engine.engine.call("POST", f"/containers/{made['Id']}/start")
    start(home, server, container_engine.socket)
    wait_for(lambda: containers(home, container_engine) == [], "the container to go")


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        ("/no/such/folder:/data", "/no/such/folder): there is no such path on this machine"),
        ("/tmp:/data", "engine's socket"),
    ],
)
def test_volume_that_cannot_be_had_is_refused(
    home: Path, server: FakeServer, container_engine: TestEngine, volume: str, words: str
) -> None:
    agent = start(home, server, container_engine.socket, docker_volumes=[volume])
    assert agent.wait_for_end() == 2
    assert words in agent.text()
