"""The shim under real processes: what it runs, what it keeps, how it ends things."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.attempts import (
    end_attempts,
    ended,
    new_attempt,
    pids_in,
    run,
    script,
    step,
    wait_for_log,
)
from support.disks import fill
from support.processes import PATIENCE, wait_for

import dtrain
from dtrain.protocol.errors import Conflict, DTrainError
from dtrain.protocol.states import Cause
from dtrain.worker import layout, processes
from dtrain.worker.executors.base import Plan, Step
from dtrain.worker.exit_file import ExitFile
from dtrain.worker.launcher import launch
from dtrain.worker.layout import sync_folder
from dtrain.worker.spool import WorkerFolder
from dtrain.worker.supervision import note_answer

BY_SHELL = "trap : TERM; echo ready; sleep 3600; exit $?"
READY = "import signal, sys, time; print('ready', flush=True);"


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[WorkerFolder]:
    folder = WorkerFolder(tmp_path / "worker")
    yield folder
    end_attempts(folder)


def test_steps_run_one_after_the_other_into_one_log(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    first = step(folder, "environment", "print('first')", failure=Cause.ENVIRONMENT_FAILED)
    second = step(folder, "main", "import sys; print('second'); sys.exit(2)")
    record = run(folder, Plan(steps=[first, second]))
    assert folder.log.read_bytes() == b"first\nsecond\n"
    assert (record.cause, record.exit_code) == (Cause.EXITED, 2)


def test_failing_step_ends_the_attempt_with_its_cause(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    code = "import sys; print('why it fails'); sys.exit(1)"
    first = step(folder, "environment", code, failure=Cause.ENVIRONMENT_FAILED)
    record = run(folder, Plan(steps=[first, step(folder, "main", "print('never')")]))
    assert folder.log.read_bytes() == b"why it fails\n"
    assert (record.cause, record.exit_code) == (Cause.ENVIRONMENT_FAILED, None)
    assert record.traceback == "why it fails"
    assert record.message is None


def test_step_that_takes_too_long_fails(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    code = f"{READY} time.sleep(3600)"
    first = step(folder, "environment", code, failure=Cause.ENVIRONMENT_FAILED, time_limit=0.5)
    record = run(folder, Plan(steps=[first, step(folder, "main", "print('never')")]))
    assert record.cause is Cause.ENVIRONMENT_FAILED
    assert record.message == "The step environment took longer than 0.5 s."
    assert b"never" not in folder.log.read_bytes()


def test_stop_during_preparation_ends_the_attempt(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    code = f"signal = __import__('signal'); {READY} signal.sigwait([signal.SIGTERM])"
    first = step(folder, "environment", code, failure=Cause.ENVIRONMENT_FAILED)
    running = launch(folder, Plan(steps=[first, step(folder, "main", "print('never')")]))
    wait_for_log(folder, b"ready\n")
    assert running.phase == "environment"
    running.stop(Cause.CANCELLED)
    record = ended(running)
    assert (record.cause, record.exit_code, record.signal) == (Cause.CANCELLED, None, None)
    assert folder.log.read_bytes() == b"ready\n"


def test_preparation_that_survives_its_stop_is_not_followed_by_the_job(
    worker: WorkerFolder,
) -> None:
    folder = new_attempt(worker)
    code = f"{READY} signal.signal(15, lambda *_: sys.exit(0)); print('set'); signal.pause()"
    first = step(folder, "environment", code, failure=Cause.ENVIRONMENT_FAILED)
    running = launch(folder, Plan(steps=[first, step(folder, "main", "print('never')")]))
    wait_for_log(folder, b"set\n")
    running.stop(Cause.HANDED_BACK)
    assert ended(running).cause is Cause.HANDED_BACK
    assert b"never" not in folder.log.read_bytes()


def test_wish_from_before_the_launch_is_heeded(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    (folder.path / layout.STOP).write_text(json.dumps({"cause": "cancelled"}))
    record = run(folder, script(folder, "print('never')"))
    assert record.cause is Cause.CANCELLED
    assert folder.log.read_bytes() == b""


def test_sigterm_without_a_wish_hands_back(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    running = launch(folder, script(folder, f"{READY} time.sleep(3600)"))
    wait_for_log(folder, b"ready\n")
    os.kill(running.pid, signal.SIGTERM)
    record = ended(running)
    assert (record.cause, record.signal) == (Cause.HANDED_BACK, signal.SIGTERM)


def test_job_that_ended_before_its_stop_keeps_its_outcome(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    code = f"{READY}\nimport os\nwhile not os.path.exists('go'): time.sleep(0.01)\nsys.exit(7)"
    running = launch(folder, script(folder, code))
    wait_for_log(folder, b"ready\n")
    os.kill(running.pid, signal.SIGSTOP)
    program = folder.step
    assert program is not None
    state = Path(f"/proc/{program.pid}/stat")
    (folder.work / "go").touch()
    wait_for(lambda: ") Z " in state.read_text(), "the job to end by itself")
    running.stop(Cause.CANCELLED)  # wakes the shim
    record = ended(running)
    assert (record.cause, record.exit_code) == (Cause.EXITED, 7)


def test_stop_after_all_is_over_and_removed_does_nothing(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    running = launch(folder, Plan(steps=[step(folder, "main", "print('done')")]))
    assert running.wait(PATIENCE)
    folder.remove()
    running.stop(Cause.HANDED_BACK)
    assert not folder.path.exists()


def test_program_that_cannot_be_run_is_told(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    missing = Step(name="main", argv=["/no/such/python"], env={}, cwd=str(folder.work))
    record = run(folder, Plan(steps=[missing]))
    assert record.cause is Cause.START_FAILED
    assert record.message == "/no/such/python cannot be run: No such file or directory."


def test_arguments_beyond_the_systems_limit_are_told(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    plan = script(folder, "pass")
    main = plan.steps[0]
    long = Step(name="main", argv=[*main.argv, "x" * 200_000], env=main.env, cwd=main.cwd)
    record = run(folder, Plan(steps=[long]))
    assert record.cause is Cause.START_FAILED
    assert "Argument list too long" in str(record.message)


def test_variables_that_are_not_text_reach_the_job(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    code = "import os; os.write(1, os.environb[b'ODD'])"
    main = step(folder, "main", code, env={"ODD": os.fsdecode(b"\xff\xfe"), "PATH": ""})
    run(folder, Plan(steps=[main]))
    assert folder.log.read_bytes() == b"\xff\xfe"


def test_job_starts_with_ordinary_signals_and_without_a_terminal(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    code = (
        "import os; print(open('/proc/self/status').read());"
        "print('session', os.getsid(0) == os.getpid(), sorted(os.listdir('/proc/self/fd')))"
    )
    left_open = os.dup2(1, 100)  # as a shell or `make` may leave descriptors to the agent
    quitting = signal.signal(signal.SIGQUIT, signal.SIG_IGN)  # as with `python agent.py &`
    try:
        run(folder, script(folder, code))
    finally:
        os.close(left_open)
        signal.signal(signal.SIGQUIT, quitting)
    log = folder.log.read_text()
    ignored = int(log.split("SigIgn:\t")[1].split()[0], 16) & (1 << 31) - 1
    # What this Python ignores by itself: SIGPIPE and SIGXFSZ.
    assert ignored == 1 << (signal.SIGPIPE - 1) | 1 << (signal.SIGXFSZ - 1)
    assert int(log.split("SigBlk:\t")[1].split()[0], 16) == 0
    assert "session True ['0', '1', '2', '3']" in log  # 3 reads the folder


def test_log_beyond_its_cap_keeps_beginning_and_end(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    code = "import os, sys\nfor n in range(200_000): os.write(1, b'line %d\\n' % n)\n1 / 0\n"
    record = run(folder, script(folder, code, log_cap=100_000))
    log = folder.log.read_bytes()
    head, end = log.split(b"[DTrain: ")
    count, end = end.split(b" bytes of output are left out here: the log has reached its cap]\n")
    assert head.startswith(b"line 0\nline 1\n")
    assert 100_000 <= len(head) <= 100_001
    assert len(end) == 64 * 1024
    everything = b"".join(b"line %d\n" % n for n in range(200_000))
    assert end.split(b"Traceback")[0] == everything[-len(end.split(b"Traceback")[0]) :]
    traceback = end[end.index(b"Traceback") :]
    assert int(count) == len(everything) + len(traceback) - 100_000 - len(end)
    assert record.exit_code == 1
    assert str(record.traceback).endswith("ZeroDivisionError: division by zero")
    assert record.log_bytes == len(log)


def test_flood_of_output_takes_little_memory(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    code = "import os\nfor _ in range(200): os.write(1, b'x' * 1_000_000)"
    running = launch(folder, script(folder, code))
    peak = 0
    while not running.wait(0.01):
        peak = max(peak, _resident(running.pid))
    assert folder.log.stat().st_size == 200_000_000
    assert 0 < peak < 30_000_000


def _resident(pid: int) -> int:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(status.split("VmRSS:")[1].split()[0]) * 1024 if "VmRSS:" in status else 0


def test_job_goes_on_while_the_disk_of_its_log_is_full(
    small_disk: Path, worker: WorkerFolder
) -> None:
    full = WorkerFolder(small_disk / "worker")
    folder = new_attempt(full)
    filler = full.path / "filler"
    go_on = worker.path / "go on"
    code = (
        "import os, time\n"
        "def write(data):\n"
        "    while data: data = data[os.write(1, data):]\n"
        "write(b'begin\\n')\n"
        f"while not os.path.exists({str(filler)!r}): time.sleep(0.01)\n"
        "for n in range(30_000): write(b'lost %6d\\n' % n)\n"
        f"while not os.path.exists({str(go_on)!r}): time.sleep(0.01)\n"
        "time.sleep(1.2)\n"
        "write(b'end\\n')\n"
    )
    running = launch(folder, script(folder, code))
    wait_for_log(folder, b"begin\n")
    fill(filler)
    wait_for(lambda: running.phase == "main", "the job")
    time.sleep(1)  # a while in which the disk stays full
    assert running.alive()
    filler.unlink()
    go_on.touch()
    record = ended(running)
    assert (record.cause, record.exit_code) == (Cause.EXITED, 0)
    log = folder.log.read_bytes()
    head, rest = log.split(b"[DTrain: ")
    count, end = rest.split(b" bytes of output are left out here: No space left on device]\n")
    assert head.startswith(b"begin\n")
    assert end.endswith(b"lost  29999\nend\n")
    given = 6 + 30_000 * 12 + 4
    assert int(count) + len(head.rstrip(b"\n") + b"\n") + len(end) in {given, given + 1}
    assert record.log_bytes == len(log)


def test_end_is_recorded_on_a_full_disk(small_disk: Path) -> None:
    full = WorkerFolder(small_disk / "worker")
    folder = new_attempt(full)
    code = (
        "import time\n"
        "print('begin')\n"
        "with open('data', 'wb', buffering=0) as file:\n"
        "    while file.write(b'x' * 4096): pass\n"
    )
    record = run(folder, script(folder, code))
    assert (record.cause, record.exit_code) == (Cause.DISK_FULL, 1)
    assert record.message == "The disk of the worker was full."


def test_shim_that_cannot_start_says_why(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    folder.log.mkdir()
    with pytest.raises(DTrainError, match=r"cannot be started: .*Is a directory"):
        launch(folder, script(folder, "print('never')"))
    assert folder.shim is None


def test_attempt_is_never_started_twice(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    plan = script(folder, f"{READY} time.sleep(3600)")
    running = launch(folder, plan)
    with pytest.raises(Conflict, match="was started before"):
        launch(folder, plan)
    running.stop(Cause.CANCELLED, at_once=True)
    before = ended(running)
    with pytest.raises(Conflict, match="was started before"):
        launch(folder, plan)
    assert folder.exit == before
    assert folder.log.read_bytes().count(b"ready\n") <= 1


def test_shim_imports_nothing_that_takes_time() -> None:
    packages = Path(dtrain.__file__).parents[1]
    code = (
        f"import sys; sys.path.append({str(packages)!r}); import dtrain.worker.shim_main;"
        "print(*sys.modules, sep='\\n')"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    slow = {"msgspec", "pathlib", "subprocess", "threading", "typing", "urllib", "logging"}
    assert not slow & set(found)


def test_step_that_makes_an_environment_imports_little() -> None:
    code = "import sys, dtrain.worker.installation; print(*sys.modules, sep='\\n')"
    command = [sys.executable, "-I", "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    slow = {"configparser", "inspect", "logging", "msgspec", "tempfile", "tomllib", "uv"}
    assert not slow & set(found)


def test_nothing_but_the_main_program_keeps_an_attempt_alive(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    code = (
        "import os, signal, time\n"
        "heard, said = os.pipe()\n"
        "if os.fork() == 0:\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "    os.write(1, b'child %d\\n' % os.getpid())\n"
        "    os.write(said, b'x')\n"
        "    time.sleep(3600)\n"
        "os.read(heard, 1)\n"
    )
    record = run(folder, script(folder, code))
    assert record.exit_code == 0
    (child,) = pids_in(folder.log.read_bytes(), "child")
    assert not Path(f"/proc/{child}").exists()


def test_stop_gives_descendants_their_grace_after_the_main_program(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    code = (
        "import os, signal, sys, time\n"
        "def save(*_): time.sleep(0.5); os.write(1, b'saved\\n'); os._exit(0)\n"
        "if os.fork() == 0:\n"
        "    signal.signal(signal.SIGTERM, save)\n"
        "    os.write(1, b'ready\\n')\n"
        "    while True: time.sleep(3600)\n"
        "time.sleep(3600)\n"
    )
    running = launch(folder, script(folder, code))
    wait_for_log(folder, b"ready\n")
    running.stop(Cause.CANCELLED)
    record = ended(running)
    assert (record.cause, record.signal) == (Cause.CANCELLED, signal.SIGTERM)
    assert folder.log.read_bytes() == b"ready\nsaved\n"


@pytest.mark.parametrize("code", [f"{READY} time.sleep(3600)", BY_SHELL])
def test_sigterm_to_all_of_the_machine_hands_back_whoever_hears_it_first(
    worker: WorkerFolder, code: str
) -> None:
    folder = new_attempt(worker)
    main = step(folder, "main", code)
    if code == BY_SHELL:
        main = msgspec.structs.replace(main, argv=["/bin/sh", "-c", code])
    running = launch(folder, Plan(steps=[main]))
    wait_for_log(folder, b"ready\n")
    os.kill(running.pid, signal.SIGSTOP)
    program = folder.step
    assert program is not None
    if code == BY_SHELL:
        # Before it is that program it is a copy of the shell, which heeds the trap.
        wait_for(lambda: "sleep" in names_below(program.pid), "the shell's own program")
    for pid in [*(child.pid for child in processes.descendants(program.pid)), program.pid]:
        os.kill(pid, signal.SIGTERM)
    state = Path(f"/proc/{program.pid}/stat")
    wait_for(lambda: ") Z " in state.read_text(), "the job to end")
    os.kill(running.pid, signal.SIGTERM)
    os.kill(running.pid, signal.SIGCONT)
    assert ended(running).cause is Cause.HANDED_BACK


def names_below(pid: int) -> list[str]:
    """What the programs are called that descend from a process."""
    with contextlib.suppress(OSError):  # one has ended meanwhile
        below = processes.descendants(pid)
        return [Path(f"/proc/{one.pid}/comm").read_text().strip() for one in below]
    return []


def test_sigterm_that_only_the_job_hears_is_its_end(worker: WorkerFolder) -> None:
    folder = new_attempt(worker)
    running = launch(folder, script(folder, f"{READY} time.sleep(3600)"))
    wait_for_log(folder, b"ready\n")
    wait_for(lambda: folder.step, "the step to be told")
    program = folder.step
    assert program is not None
    os.kill(program.pid, signal.SIGTERM)
    record = ended(running)
    assert (record.cause, record.signal) == (Cause.EXITED, signal.SIGTERM)


def test_job_that_must_not_run_unsupervised_ends_though_there_is_no_agent(
    worker: WorkerFolder,
) -> None:
    folder = new_attempt(worker)
    plan = script(folder, f"{READY} time.sleep(3600)", unsupervised=4.0)
    running = launch(folder, plan)
    wait_for_log(folder, b"ready\n")
    answered_until = time.monotonic() + 6
    while time.monotonic() < answered_until:
        note_answer(str(folder.path))
        assert running.alive()
        time.sleep(0.1)
    assert ended(running).cause is Cause.HANDED_BACK


def test_end_that_is_decided_stays_though_its_place_cannot_be_made_durable_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [OSError(errno.ENOSPC, "No space left on device")]

    def sync(path: str) -> None:
        if errors:
            raise errors.pop()
        sync_folder(path)

    monkeypatch.setattr("dtrain.worker.exit_file.sync_folder", sync)
    file = ExitFile(str(tmp_path / "exit.json"))
    file.write(b"the end")
    assert not errors
    assert (tmp_path / "exit.json").read_bytes() == b"the end"


def test_shim_that_fails_while_it_writes_keeps_the_end_that_it_has_decided(
    worker: WorkerFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = new_attempt(worker)
    plan = script(folder, "print('done')")
    monkeypatch.setenv(layout.MARK, "test")
    code = (
        "import sys\n"
        "from dtrain.worker import shim, shim_main\n"
        "errors = [OSError(5, 'Input/output error')]\n"
        "def sync(path):\n"
        "    if errors: raise errors.pop()\n"
        "shim.sync_tree = sync\n"
        "shim_main._say = lambda word: None\n"
        "shim_main.HELD = 0\n"
        "shim_main.main(sys.argv[1])\n"
    )
    (folder.path / layout.PLAN).write_text(json.dumps(msgspec.to_builtins(plan)))
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder.path)], check=False, capture_output=True, text=True
    )
    assert "Input/output error" in done.stderr
    record = folder.exit
    assert record is not None
    assert (record.cause, record.exit_code) == (Cause.EXITED, 0)
