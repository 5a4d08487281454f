"""Limits and isolation: the same promises at every level that this machine can have."""

from __future__ import annotations

import json
import os
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.attempts import end_attempts, ended, new_attempt, run, step, wait_for_log
from support.isolated import GROW, MEDDLES, MIB, Lab
from support.processes import PATIENCE, wait_for
from support.requirements import require

from dtrain.protocol.states import Cause
from dtrain.worker import cgroups
from dtrain.worker.executors.base import Plan
from dtrain.worker.isolation import Isolation
from dtrain.worker.launcher import kill_rest
from dtrain.worker.probe import needed
from dtrain.worker.processes import descendants, wait_for_end
from dtrain.worker.views import Views

GIB = 1024**3


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A worker with all that root can have."""
    require("root")
    lab = Lab(tmp_path_factory.mktemp("lab"), max_memory_gb=0.4)
    yield lab
    end_attempts(lab.worker)
    for attempt in lab.worker.attempts():
        lab.isolation.release(attempt)
    cgroups.remove(lab.isolation.means.group)


def test_root_has_all_of_it(lab: Lab) -> None:
    protection = lab.isolation.protection
    assert protection.level == "namespace"
    assert (protection.memory, protection.cpu, protection.pids) == ("cgroup", "cgroup", True)
    assert protection.uid


def test_job_that_takes_too_much_memory_is_told_so_and_its_neighbour_lives(lab: Lab) -> None:
    neighbour = lab.start("import time; print('there', flush=True); time.sleep(3600)")
    wait_for_log(neighbour.folder, b"there")
    record, _ = lab.run(f"{GROW}grow(200)", memory_gb=64 / 1024)
    assert record.cause is Cause.OUT_OF_MEMORY
    assert record.memory_limit == 64 * MIB
    assert record.peak_memory is not None
    assert 60 * MIB <= record.peak_memory <= 64 * MIB
    assert neighbour.alive()
    neighbour.stop(Cause.CANCELLED, at_once=True)
    assert ended(neighbour).cause is Cause.CANCELLED


def test_limit_of_the_worker_holds_over_its_jobs_together(lab: Lab) -> None:
    code = f"{GROW}grow(150)\nprint('has it', flush=True)\nimport time; time.sleep(3600)"
    first = lab.start(code)
    wait_for_log(first.folder, b"has it")
    record, _ = lab.run(f"{GROW}grow(300)")
    assert record.cause is Cause.OUT_OF_MEMORY
    assert record.memory_limit == int(0.4 * GIB)
    assert first.alive()
    first.stop(Cause.CANCELLED, at_once=True)
    assert ended(first).cause is Cause.CANCELLED
    assert 150 * MIB < (first.folder.exit.peak_memory or 0) < 200 * MIB  # type: ignore[union-attr]


def test_child_that_is_killed_for_its_memory_is_the_cause(lab: Lab) -> None:
    code = (
        f"import os, sys\n{GROW}"
        "if os.fork() == 0: grow(200)\n"
        "sys.exit(7 if os.wait()[1] == 9 else 0)\n"
    )
    record, _ = lab.run(code, memory_gb=64 / 1024)
    assert record.cause is Cause.OUT_OF_MEMORY


def test_job_that_waits_for_a_child_that_was_killed_does_not_hang(lab: Lab) -> None:
    code = f"import os, time\n{GROW}if os.fork() == 0: grow(200)\ntime.sleep(3600)\n"
    record, _ = lab.run(code, memory_gb=64 / 1024)
    assert record.cause is Cause.OUT_OF_MEMORY


def test_share_of_the_processors_is_set(lab: Lab) -> None:
    running = lab.start("import time; time.sleep(3600)", cpus=0.5)
    group = lab.group(running.folder, "cpu")
    second = group / "cpu.max"
    quota = second if second.exists() else group / "cpu.cfs_quota_us"
    assert quota.read_text().split()[0] == "50000"
    running.stop(Cause.CANCELLED, at_once=True)
    ended(running)


def test_fork_bomb_harms_nobody_and_is_gone_when_it_is_cancelled(tmp_path: Path) -> None:
    require("root")
    lab = Lab(tmp_path / "lab", max_job_processes=100)
    code = (
        "import os, signal\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "while True:\n"
        "    try:\n"
        "        if os.fork() == 0: os.setsid()\n"
        "    except OSError: os.write(1, b'full\\n')\n"
    )
    running = lab.start(code)
    wait_for_log(running.folder, b"full")
    pids = lab.group(running.folder, "pids")
    assert int(pids.joinpath("pids.current").read_text()) <= 100
    running.stop(Cause.CANCELLED, at_once=True)
    assert ended(running).cause is Cause.CANCELLED
    assert cgroups.is_empty(running.folder.group)
    lab.isolation.release(running.folder)
    assert not pids.exists()
    cgroups.remove(lab.isolation.means.group)


SPY = """\
import json, os
def reads(path):
    try: return bool(os.listdir(path) if os.path.isdir(path) else open(path, "rb").read(1))
    except OSError: return False
def writes(path):
    try: os.close(os.open(f"{path}/x", os.O_CREAT | os.O_WRONLY))
    except OSError: return False
    os.unlink(f"{path}/x")
    return True
asked = json.loads(os.environ["ASKED"])
status = open("/proc/self/status").read().splitlines()
print(json.dumps({
    "read": [path for path in asked["read"] if reads(path)],
    "written": [path for path in asked["write"] if writes(path)],
    "uid": os.getuid(), "gid": os.getgid(), "groups": os.getgroups(),
    "pids": [name for name in os.listdir("/proc") if name.isdigit()],
    "status": [line for line in status if line.startswith(("NoNewPrivs", "CapEff"))],
}))
"""
"""Says what it can read and write, and who it is."""


def test_job_sees_and_writes_nothing_but_its_own(lab: Lab, tmp_path: Path) -> None:
    code = "import time; open('mine', 'w').write('x'); print('there', flush=True); time.sleep(3600)"
    other = lab.start(code)
    wait_for_log(other.folder, b"there")
    environments = lab.worker.environments
    (environments / "packages-x").mkdir(exist_ok=True)
    attempt = lab.worker.path / "attempts" / f"{len(lab.worker.attempts()) + 1}-1"
    secret = [attempt / "attempt.json", attempt / "plan.json", other.folder.work, lab.settings]
    secret += [Path(f"/proc/{os.getpid()}/environ"), Path("/proc/1/environ"), tmp_path]
    foreign = [environments, environments / "packages-x", attempt, lab.worker.path]
    foreign += map(Path, ("/etc", "/usr/local/bin", "/var/lib", "/"))
    own = [attempt / "work", attempt / "output", attempt / "tmp"]
    own += map(Path, ("/tmp", "/var/tmp", "/dev/shm"))
    asked = {"read": secret, "write": [*foreign, *own]}
    env = {"ASKED": json.dumps(asked, default=str), "PATH": os.environ["PATH"]}
    _, log = lab.run(SPY, env=env)
    seen = json.loads(log)
    assert seen["read"] == []
    assert seen["written"] == [str(path) for path in own]
    assert seen["uid"] == seen["gid"] != other.folder.tmp.stat().st_uid
    assert 0 not in seen["groups"]
    assert seen["pids"] == ["1", "2"]
    assert seen["status"] == ["CapEff:\t0000000000000000", "NoNewPrivs:\t1"]
    other.stop(Cause.CANCELLED, at_once=True)
    ended(other)


HIDES = """\
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.environ.clear()
        os.execve('/bin/sh', ['sh', '-c', 'trap "" TERM; echo hidden; kill -STOP $$'], {})
    os._exit(0)
time.sleep(3600)
"""


def test_nothing_is_left_of_what_hides(lab: Lab) -> None:
    running = lab.start(HIDES)
    wait_for_log(running.folder, b"hidden")
    assert len(list(descendants(running.pid))) >= 3
    running.stop(Cause.CANCELLED, at_once=True)
    assert ended(running).cause is Cause.CANCELLED
    assert cgroups.is_empty(running.folder.group)


def test_nothing_is_left_when_the_shim_is_killed(lab: Lab) -> None:
    running = lab.start(HIDES)
    wait_for_log(running.folder, b"hidden")
    started = list(descendants(running.pid))
    os.kill(running.pid, signal.SIGKILL)
    assert running.wait(PATIENCE)
    assert all(wait_for_end(process, PATIENCE) for process in started)  # by the kernel alone
    assert kill_rest(running.folder)
    assert cgroups.is_empty(running.folder.group)
    assert running.folder.exit is None


def test_signals_and_exit_codes_are_the_jobs_own(lab: Lab) -> None:
    record, _ = lab.run("import sys; sys.exit(7)")
    assert (record.cause, record.exit_code) == (Cause.EXITED, 7)
    record, _ = lab.run("import os; os.kill(os.getpid(), 11)")
    assert (record.cause, record.signal) == (Cause.EXITED, 11)


def test_job_can_do_nothing_with_its_init(lab: Lab) -> None:
    """It is of the job's own user, and the kernel keeps them apart all the same."""
    record, log = lab.run(MEDDLES)
    assert (record.exit_code, log) == (0, "init lives, and it had done to it []\n")


SIGNALS = ("SigBlk", "SigIgn", "SigCgt")


def test_program_begins_with_its_signals_as_usual(lab: Lab) -> None:
    argv = ["cat", "/proc/self/status"]
    _, log = lab.run("", argv=argv)
    masks = [line.split()[1] for line in log.splitlines() if line.startswith(SIGNALS)]
    not_glibcs_own = ~(0b11 << 31)  # which whatever `posix_spawn` starts has as ignored
    assert [int(mask, 16) & not_glibcs_own for mask in masks] == [0, 0, 0]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("true", None),
        ("absent", "absent cannot be run: No such file or directory (/bin/absent)."),
        ("forbidden", "forbidden cannot be run: Permission denied (WORK/forbidden)."),
        ("./forbidden", "./forbidden cannot be run: Permission denied."),
        ("/no/such/one", "/no/such/one cannot be run: No such file or directory."),
    ],
)
def test_program_is_looked_for_where_its_own_variables_say(
    lab: Lab, name: str, message: str | None
) -> None:
    """Whether its init starts it or, without namespaces, the shim turns into it."""
    for is_enclosed in (True, False):
        folder = new_attempt(lab.worker, {"forbidden": ""})
        env = {"PATH": f"/nowhere:{folder.work}:/bin"}
        plan = Plan(steps=[step(folder, "main", "", argv=[name], env=env)])
        record = run(folder, lab.isolation.enclosed(folder, plan) if is_enclosed else plan)
        words = record.message and record.message.replace(str(folder.work), "WORK")
        assert (record.exit_code, words) == (None if message else 0, message)


def test_what_cannot_be_killed_is_told_until_it_ends(lab: Lab) -> None:
    freezer = Path("/sys/fs/cgroup/freezer/dtrain-test")
    if not freezer.parent.is_dir():
        pytest.skip("There is no freezer of version 1 to make a process that cannot be killed.")
    freezer.mkdir(exist_ok=True)
    running = lab.start("import time; print('there', flush=True); time.sleep(3600)", patience=0.2)
    wait_for_log(running.folder, b"there")
    step = running.folder.step
    assert step is not None
    (freezer / "cgroup.procs").write_text(str(step.pid))
    (freezer / "freezer.state").write_text("FROZEN")
    try:
        running.stop(Cause.CANCELLED, at_once=True)
        wait_for(lambda: running.folder.stuck, "the shim to say what is left")
        assert running.folder.exit is None
        assert str(step.pid) in str(running.folder.stuck)
    finally:
        (freezer / "freezer.state").write_text("THAWED")
    assert ended(running).cause is Cause.CANCELLED
    assert running.folder.stuck is None
    freezer.rmdir()


def test_what_jobs_need_is_seen_below_tmp_as_well(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They have a `/tmp` of their own, and clones to try things out often lie in the machine's."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        (Path(name) / "python").write_text("needed")
        (Path(name) / "python").chmod(0o644)
        views = Views(lab.worker, lab.settings, {}, {*needed(lab.host), Path(name, "python")}, [])
        means = lab.isolation.means
        isolation = Isolation(lab.worker, means, views, memory=None, cpus=None, pids=100)
        monkeypatch.setattr(lab, "isolation", isolation)
        (Path(name) / "other").touch()
        record, log = lab.run(
            f"import os; print(os.listdir('{name}'), open('{name}/python').read())"
        )
    assert (record.exit_code, log) == (0, "['python'] needed\n")
    assert list(lab.worker.path.glob("attempts/*/tmp/*/*")) == [], "it is made on no disk"
