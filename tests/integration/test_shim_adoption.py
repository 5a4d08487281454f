"""Shims that outlive their agent, and attempts that outlive their shim."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import msgspec
import pytest
from support.attempts import (
    end_attempts,
    ended,
    is_running,
    new_attempt,
    pids_in,
    script,
    wait_for_log,
)
from support.processes import PATIENCE, wait_for

from dtrain.protocol.errors import Conflict
from dtrain.protocol.states import Cause
from dtrain.worker import layout
from dtrain.worker.launcher import adopt, kill_rest, launch
from dtrain.worker.processes import descendants
from dtrain.worker.spool import AttemptFolder, WorkerFolder

AGENT = """
import sys, time
from pathlib import Path
import msgspec
from dtrain.worker.executors.base import Plan
from dtrain.worker.launcher import launch
from dtrain.worker.spool import WorkerFolder

[folder] = WorkerFolder(Path(sys.argv[1])).attempts()
print(launch(folder, msgspec.json.decode(sys.argv[2], type=Plan)).pid, flush=True)
time.sleep(3600)
"""


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerFolder]:
    folder = WorkerFolder(tmp_path / "worker")
    yield folder
    end_attempts(folder)


def test_job_outlives_its_agent_and_is_found_again(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    go_on = worker.path / "go on"
    code = (
        "import os, sys, time\n"
        "for n in range(2000):\n"
        "    os.write(1, b'line %d\\n' % n)\n"
        "    time.sleep(0.0005)\n"
        f"while not os.path.exists({str(go_on)!r}): time.sleep(0.01)\n"
        "os.write(1, b'end\\n')\n"
        "sys.exit(23)"
    )
    plan = msgspec.json.encode(script(folder, code)).decode()
    command = [sys.executable, "-c", AGENT, str(worker.path), plan]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as agent:
        assert agent.stdout is not None
        pid = int(agent.stdout.readline())
        wait_for_log(folder, b"line 100\n")
        agent.kill()
    running = adopt(folder)
    assert running is not None
    assert running.pid == pid
    wait_for_log(folder, b"line 1999\n")
    assert not running.wait(0)
    go_on.touch()
    record = ended(running)
    assert record.exit_code == 23
    assert folder.log.read_bytes() == b"".join(b"line %d\n" % n for n in range(2000)) + b"end\n"
    assert adopt(folder) is None
    assert folder.exit == record


def test_adopted_attempt_can_be_stopped(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    launch(folder, script(folder, "import time; print('ready'); time.sleep(3600)"))
    wait_for_log(folder, b"ready\n")
    running = adopt(folder)
    assert running is not None
    running.stop(Cause.CANCELLED)
    assert ended(running).cause is Cause.CANCELLED


def test_attempt_that_was_never_started_is_not_adopted(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    assert adopt(folder) is None
    assert kill_rest(folder)


@pytest.mark.parametrize("field", ["ticks", "boot_id"])
def test_another_process_of_the_same_number_is_left_alone(worker: WorkerFolder, field: str) -> None:
    folder = new_attempt(worker)
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as innocent:
        fields = Path(f"/proc/{innocent.pid}/stat").read_text().rsplit(")", 1)[1].split()
        boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        record = {"pid": innocent.pid, "ticks": int(fields[19]), "boot_id": boot_id, "mark": "m"}
        _write(folder, layout.SHIM, record)
        assert adopt(folder) is not None  # it is told by these three alone
        other: object = "another boot" if field == "boot_id" else record["ticks"] + 1  # type: ignore[operator]  # ticks are numbers
        _write(folder, layout.SHIM, {**record, field: other})
        _write(folder, layout.STEP, {"name": "main", "pid": innocent.pid, "ticks": 1})
        assert adopt(folder) is None
        assert kill_rest(folder)
        assert innocent.poll() is None
        innocent.kill()


def _write(folder: AttemptFolder, name: str, content: object) -> None:
    (folder.path / name).write_text(json.dumps(content))


FAMILY = """
import os, sys, time
def say(who): os.write(1, b'%s %d\\n' % (who, os.getpid()))
def bare(): os.execve(sys.executable, [sys.executable, '-c', 'import time; time.sleep(3600)'], {})
if os.fork() == 0:
    say(b'child'); time.sleep(3600)
if os.fork() == 0:
    say(b'child'); bare()              # no mark, but in the session
if os.fork() == 0:
    os.setsid()
    if os.fork(): os._exit(0)
    say(b'child'); time.sleep(3600)      # a session of its own, but the mark
if os.fork() == 0:
    os.setsid(); say(b'child')
    if os.fork() == 0: say(b'child'); bare()     # neither, but its parent
    time.sleep(3600)
say(b'main')
time.sleep(3600)
"""


def test_nothing_is_left_of_an_attempt_whose_shim_was_killed(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    neighbour = new_attempt(worker)
    other = launch(neighbour, script(neighbour, "import time; print('ready'); time.sleep(3600)"))
    running = launch(folder, script(folder, FAMILY))
    log = wait_for(lambda: (log := folder.log.read_bytes()).count(b"\n") == 6 and log, "the family")
    (main,) = pids_in(log, "main")
    children = pids_in(log, "child")
    assert len(children) == 5
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait(PATIENCE)
    assert adopt(folder) is None
    assert folder.exit is None
    wait_for(lambda: not is_running(main), "the kernel to kill the main program")
    assert all(is_running(pid) for pid in children)
    assert kill_rest(folder)
    assert not any(is_running(pid) for pid in children)
    assert other.alive()
    other.stop(Cause.CANCELLED, at_once=True)
    ended(other)


def test_killing_the_rest_takes_a_live_shim_along(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    running = launch(folder, script(folder, "import time; print('ready'); time.sleep(3600)"))
    wait_for_log(folder, b"ready\n")
    assert kill_rest(folder)
    assert running.wait(0)
    assert folder.exit is None


def test_agent_killed_while_it_launches_starts_the_job_once(worker: WorkerFolder) -> None:
    """Once the shim is a process, the job is its own, whether or not it has said so yet."""
    folder = new_attempt(worker)
    code = (
        "import os, time\n"
        "print('started', flush=True)\n"
        "while not os.path.exists('go'): time.sleep(0.01)\n"
    )
    plan = script(folder, code)
    command = [sys.executable, "-c", AGENT, str(worker.path), msgspec.json.encode(plan).decode()]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as agent:
        # The first one is what shims are forked from.
        wait_for(lambda: len(list(descendants(agent.pid))) > 1, "the shim to be a process")
        agent.kill()
    running = adopt(folder)
    assert running is not None
    with pytest.raises(Conflict):
        launch(folder, plan)
    (folder.work / "go").touch()
    record = ended(running)
    assert (record.cause, record.exit_code) == (Cause.EXITED, 0)
    assert folder.log.read_bytes() == b"started\n"


def test_shim_is_told_from_others_by_its_mark_and_its_folder(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    running = launch(folder, script(folder, "import time; time.sleep(3600)"))
    record = folder.shim
    assert record is not None
    mark = f"{layout.MARK}={record.mark}".encode()
    assert mark in Path(f"/proc/{running.pid}/environ").read_bytes().split(b"\0")
    assert os.fsencode(folder.path) in Path(f"/proc/{running.pid}/cmdline").read_bytes()


def test_shims_outlive_what_they_were_forked_from_and_others_follow(worker: WorkerFolder) -> None:
    first, second = new_attempt(worker), new_attempt(worker)
    code = "import os, time\nwhile not os.path.exists('go'): time.sleep(0.01)\n"
    running = launch(first, script(first, code))
    os.kill(parent(running.pid), signal.SIGKILL)
    assert ended(launch(second, script(second, "print('begun')"))).exit_code == 0
    assert second.log.read_bytes() == b"begun\n"
    assert not running.wait(0)
    (first.work / "go").touch()
    assert ended(running).exit_code == 0


def test_attempt_starts_once_where_what_shims_are_forked_from_is_killed_before_it_forks(
    worker: WorkerFolder,
) -> None:
    first, second = new_attempt(worker), new_attempt(worker)
    running = launch(first, script(first, "import time; time.sleep(3600)"))
    source = parent(running.pid)
    os.kill(source, signal.SIGSTOP)
    with ThreadPoolExecutor(1) as aside:
        launched = aside.submit(launch, second, script(second, "print('begun')"))
        wait_for((second.path / layout.PLAN).exists, "the shim to be asked for")
        assert not wait([launched], timeout=0.3).done
        os.kill(source, signal.SIGKILL)
        assert ended(launched.result()).exit_code == 0
    assert second.log.read_bytes() == b"begun\n"


def parent(pid: int) -> int:
    """The parent of a process."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
