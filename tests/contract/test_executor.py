"""What every executor has to do, with real processes: one suite for all of them."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.attempts import (
    GRACE,
    end_attempts,
    ended,
    is_running,
    new_attempt,
    wait_for_log,
)
from support.containers import left_containers
from support.processes import wait_for

from dtrain.protocol.states import Cause
from dtrain.worker.docker_settings import DockerSettings
from dtrain.worker.executors import EXECUTORS, make_executor
from dtrain.worker.executors.base import Executor, Host, PrepareFailed
from dtrain.worker.executors.docker import DockerExecutor
from dtrain.worker.launcher import Running, launch
from dtrain.worker.records import ExitRecord
from dtrain.worker.spool import AttemptFolder, WorkerFolder

SECRET = "the agent's own secret"


@pytest.fixture
def host(environments: Path) -> Host:
    variables = {**os.environ, "DTRAIN_WORKER_TOKEN": SECRET, "AWS_SECRET_ACCESS_KEY": SECRET}
    return Host(
        worker_name="worker-1",
        environments=environments,
        variables=variables,
        python=Path(sys.executable),
    )


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerFolder]:
    folder = WorkerFolder(tmp_path / "worker")
    yield folder
    end_attempts(folder)


class Bench:
    """Runs scripts as jobs by one executor."""

    def __init__(self, executor: Executor, worker: WorkerFolder) -> None:
        self.executor = executor
        self._worker = worker

    def seen(self, folder: Path) -> str:
        """The path by which a job knows a folder of its attempt."""
        if self.executor.name != "docker":
            return str(folder)
        return "/tmp" if folder.name == "tmp" else f"/dtrain/{folder.name}"

    def variables(self, folder: AttemptFolder) -> dict[str, str]:
        """The variables that a job would get."""
        main = self.executor.prepare(folder).steps[-1]
        if self.executor.name != "docker":
            return main.env
        order = json.loads((folder.path / "container.json").read_bytes())
        return dict(pair.split("=", 1) for pair in order["body"]["Env"])

    def start(self, code: str, *, grace: float = GRACE, **spec: object) -> Running:
        folder = new_attempt(self._worker, {"main.py": code}, **spec)
        plan = msgspec.structs.replace(self.executor.prepare(folder), grace=grace)
        return launch(folder, plan)

    def run(self, code: str, **spec: object) -> tuple[AttemptFolder, ExitRecord]:
        running = self.start(code, **spec)
        return running.folder, ended(running)


@pytest.fixture(params=[*sorted(EXECUTORS), "docker"])
def bench(
    request: pytest.FixtureRequest, host: Host, worker: WorkerFolder, tmp_path: Path
) -> Iterator[Bench]:
    if request.param != "docker":
        executor = make_executor(request.param, host)
        executor.start()
        yield Bench(executor, worker)
        return
    engine = request.getfixturevalue("container_engine").engine
    settings = DockerSettings(image="python:3.9-slim", processes=1000, user=1000)
    contained = DockerExecutor(host, settings, worker.path, worker.path.parent.name, engine)
    contained.start()
    yield Bench(contained, worker)
    for folder in worker.attempts():
        contained.clean(folder)
    assert left_containers(engine, worker.path.parent.name) == []


def test_job_that_returns_is_completed_with_its_log(bench: Bench) -> None:
    folder, record = bench.run("print('hello')")
    assert (record.cause, record.exit_code, record.signal) == (Cause.EXITED, 0, None)
    assert folder.log.read_bytes() == b"hello\n"
    assert record.log_bytes == 6
    assert record.traceback is None
    assert record.peak_memory is not None
    assert 2**20 < record.peak_memory < 2**30
    assert 0 < record.duration < 300


def test_exit_code_is_recorded(bench: Bench) -> None:
    _, record = bench.run("import sys; sys.exit(37)")
    assert (record.cause, record.exit_code, record.signal) == (Cause.EXITED, 37, None)


def test_exception_leaves_its_traceback(bench: Bench) -> None:
    _, record = bench.run("print('line before')\n1 / 0")
    assert record.exit_code == 1
    assert record.traceback is not None
    assert record.traceback.startswith("Traceback (most recent call last)")
    assert record.traceback.endswith("ZeroDivisionError: division by zero")


def test_signal_is_recorded(bench: Bench) -> None:
    _, record = bench.run("import os; os.kill(os.getpid(), 11)")
    assert (record.cause, record.exit_code, record.signal) == (Cause.EXITED, None, 11)


def test_log_keeps_every_byte_of_both_streams_in_order(bench: Bench) -> None:
    content = b"\0\xff\xfe\x80 \xe2\x82 split \x1b[31m\r\n\r" + bytes(range(256))
    code = (
        "import os\n"
        f"for stream, data in ((1, {content!r}), (2, b'error'), (1, b'x' * 1_000_000)):\n"
        "    while data: data = data[os.write(stream, data):]\n"
    )
    folder, record = bench.run(code)
    assert folder.log.read_bytes() == content + b"error" + b"x" * 1_000_000
    assert record.log_bytes == len(content) + 5 + 1_000_000


def test_job_finds_its_bundle_arguments_and_variables(bench: Bench) -> None:
    code = (
        "import json, os, sys\n"
        "print(json.dumps([os.getcwd(), sys.argv, dict(os.environ), sys.stdin.read()]))"
    )
    folder, _ = bench.run(code, args=["--epochs", "3", "a b"], env={"LR": "0.1", "EMPTY": ""})
    cwd, argv, env, stdin = json.loads(folder.log.read_bytes())
    assert cwd == bench.seen(folder.work)
    assert argv == ["main.py", "--epochs", "3", "a b"]
    assert stdin == ""
    expected = {
        "LR": "0.1",
        "EMPTY": "",
        "PYTHONUNBUFFERED": "1",
        "HOME": bench.seen(folder.home),
        "TMPDIR": bench.seen(folder.tmp),
        "DTRAIN_JOB_ID": "1",
        "DTRAIN_ATTEMPT": "1",
        "DTRAIN_WORKER_NAME": "worker-1",
        "DTRAIN_OUTPUT_DIR": bench.seen(folder.output),
        "DTRAIN_CHECKPOINT_DIR": bench.seen(folder.checkpoints),
    }
    assert expected.items() <= env.items()
    assert env["USER"]
    assert SECRET not in str(env)


def test_job_sees_the_gpus_set_aside_for_it(bench: Bench, worker: WorkerFolder, host: Host) -> None:
    plain = new_attempt(worker, {"main.py": ""}, env={"CUDA_VISIBLE_DEVICES": "0"})
    folder = worker.create_attempt(
        plain.assignment.__class__(
            job_id=9,
            attempt=1,
            spec=plain.assignment.spec,
            bundle=plain.assignment.bundle,
            submitter=None,
        ),
        worker.secrets.next(),
        ["GPU-1", "GPU-2"],
    )
    (folder.work / "main.py").write_text("")
    assert bench.variables(folder)["CUDA_VISIBLE_DEVICES"] == "GPU-1,GPU-2"
    assert bench.variables(plain)["CUDA_VISIBLE_DEVICES"] == "0"


def test_stop_lets_the_job_end_in_its_own_way(bench: Bench) -> None:
    running = bench.start(
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saving'), sys.exit(3)))\n"
        "print('ready')\n"
        "time.sleep(3600)"
    )
    wait_for_log(running.folder, b"ready\n")
    assert running.phase == "main"
    running.stop(Cause.CANCELLED)
    record = ended(running)
    assert (record.cause, record.exit_code, record.signal) == (Cause.CANCELLED, 3, None)
    assert running.folder.log.read_bytes() == b"ready\nsaving\n"


STUBBORN = (
    "import signal, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: print('no'))\n"
    "print('ready')\n"
    "while True: time.sleep(3600)"
)


def test_job_that_ignores_sigterm_is_killed_after_its_grace(bench: Bench) -> None:
    running = bench.start(STUBBORN, grace=5)
    wait_for_log(running.folder, b"ready\n")
    begin = time.monotonic()
    running.stop(Cause.HANDED_BACK)
    record = ended(running)
    assert time.monotonic() - begin >= 5
    assert (record.cause, record.signal) == (Cause.HANDED_BACK, signal.SIGKILL)
    assert running.folder.log.read_bytes() == b"ready\nno\n"


def test_second_stop_at_once_ends_the_grace(bench: Bench) -> None:
    running = bench.start(STUBBORN)
    wait_for_log(running.folder, b"ready\n")
    running.stop(Cause.HANDED_BACK)
    wait_for_log(running.folder, b"no\n")
    running.stop(Cause.CANCELLED, at_once=True)
    record = ended(running)
    assert (record.cause, record.signal) == (Cause.HANDED_BACK, signal.SIGKILL)


def test_stopped_process_is_woken_to_end(bench: Bench) -> None:
    running = bench.start(
        "import os, signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saving'), sys.exit(0)))\n"
        "print('ready', flush=True)\n"
        "os.kill(os.getpid(), signal.SIGSTOP)\n"
        "signal.pause()"
    )
    wait_for_log(running.folder, b"ready\n")
    running.stop(Cause.CANCELLED)
    record = ended(running)
    assert (record.cause, record.exit_code) == (Cause.CANCELLED, 0)
    assert running.folder.log.read_bytes() == b"ready\nsaving\n"


DAEMON = (
    "import os, sys, time\n"
    "def daemon(**keep):\n"
    "    if os.fork(): return os.wait()\n"
    "    os.setsid()\n"
    "    if os.fork(): os._exit(0)\n"
    "    print('daemon', file=open('daemons', 'a'))\n"
    "    if not keep: os.closerange(0, 3)\n"
    "    os.execve(sys.executable, [sys.executable, '-c', 'import time; time.sleep(3600)'], {})\n"
)


def test_daemons_are_gone_after_the_job_has_ended(bench: Bench) -> None:
    code = (
        "daemon()\ndaemon(pipe=True)\n"
        "while True:\n"
        "    if open('daemons').read().count('daemon') == 2: break\n"
        "    time.sleep(0.01)"
    )
    folder, record = bench.run(DAEMON + code)
    assert (record.cause, record.exit_code) == (Cause.EXITED, 0)
    assert _working_in(folder.work) == []


def test_daemons_are_gone_after_a_stop(bench: Bench) -> None:
    running = bench.start(DAEMON + "daemon()\ndaemon(pipe=True)\ntime.sleep(3600)")
    work = running.folder.work
    wait_for(lambda: len(_working_in(work)) > 2, "the job and two daemons")
    running.stop(Cause.CANCELLED)
    assert ended(running).cause is Cause.CANCELLED
    assert _working_in(work) == []


def test_processes_that_keep_replacing_themselves_are_gone(bench: Bench) -> None:
    # Four lines of descent, each in one process at a time that lives for some milliseconds.
    folder, record = bench.run(
        "import os, time\n"
        "os.fork(); os.fork()\n"
        "for _ in range(5000):\n"
        "    if os.fork(): os._exit(0)\n"
        "    time.sleep(0.004)\n"
    )
    assert record.exit_code == 0
    assert _working_in(folder.work) == []


def test_crowd_of_processes_is_gone_after_a_stop(bench: Bench) -> None:
    running = bench.start(
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "generation = 0\n"
        "while generation < 4 and 0 in (os.fork(), os.fork(), os.fork()):\n"
        "    generation += 1\n"
        "os.write(1, b'there %d\\n' % os.getpid())\n"
        "signal.pause()\n"
    )
    wait_for(lambda: running.folder.log.read_bytes().count(b"there") > 100, "100 processes")
    running.stop(Cause.CANCELLED, at_once=True)
    assert ended(running).cause is Cause.CANCELLED
    assert _working_in(running.folder.work) == []


def _working_in(folder: Path) -> list[int]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if is_running(pid) and _is_in(pid, folder)]


def _is_in(pid: int, folder: Path) -> bool:
    """Whether a process works in a folder, by whatever path it knows it."""
    try:
        return Path(f"/proc/{pid}/cwd").samefile(folder)
    except OSError:
        return False


def test_time_limit_ends_the_job(bench: Bench) -> None:
    running = bench.start("print('ready')\nimport time; time.sleep(3600)", time_limit=1.0)
    record = ended(running)
    assert (record.cause, record.signal) == (Cause.TIME_LIMIT, signal.SIGTERM)
    assert 1.0 <= record.duration < 300


def test_prepare_can_be_repeated(bench: Bench, worker: WorkerFolder) -> None:
    folder = new_attempt(worker, {"main.py": "print('hello')"})
    first = bench.executor.prepare(folder)
    assert bench.executor.prepare(folder) == first
    record = ended(launch(folder, first))
    assert record.exit_code == 0
    bench.executor.clean(folder)
    bench.executor.clean(folder)


def test_unknown_executor_is_refused_by_name(host: Host) -> None:
    with pytest.raises(Exception, match="no executor 'podman'; use venv or fake"):
        make_executor("podman", host)


def test_fake_fails_on_demand(host: Host, worker: WorkerFolder) -> None:
    executor = make_executor("fake", host)
    refused = new_attempt(worker, env={"FAKE_PREPARE": "image_failed"})
    with pytest.raises(PrepareFailed) as caught:
        executor.prepare(refused)
    assert caught.value.cause is Cause.IMAGE_FAILED

    bench = Bench(executor, worker)
    folder, record = bench.run("", env={"FAKE_ENVIRONMENT": "5"})
    assert (record.cause, record.exit_code) == (Cause.ENVIRONMENT_FAILED, None)
    assert record.traceback == "preparing"

    folder, record = bench.run("", env={"FAKE_LINES": "2", "FAKE_EXIT": "4"})
    assert record.exit_code == 4
    assert folder.log.read_text().splitlines() == [
        "line 0",
        'PROGRESS: {"step": 1, "steps": 2, "loss": 1.0}',
        "line 1",
        'PROGRESS: {"step": 2, "steps": 2, "loss": 0.5}',
    ]

    folder, record = bench.run("", env={"FAKE_SIGNAL": "9"})
    assert record.signal == 9
