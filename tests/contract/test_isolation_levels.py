"""The lower levels: what holds where a machine does not allow all of it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.attempts import end_attempts
from support.checks import ROOT
from support.isolated import GROW, MEDDLES, MIB, Lab
from support.processes import PATIENCE, wait_for
from support.requirements import require

from dtrain.protocol.resources import Protection
from dtrain.protocol.states import Cause
from dtrain.worker import cgroups, hierarchies
from dtrain.worker.isolation import Isolation, Means

NOBODY = 65534


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    lab = Lab(tmp_path / "lab", isolation="off")
    yield lab
    end_attempts(lab.worker)
    for attempt in lab.worker.attempts():
        lab.isolation.release(attempt)
    cgroups.remove(lab.isolation.means.group)


def without_groups(lab: Lab, memory: int | None = None) -> None:
    """Have a worker go on without control groups."""
    cgroups.remove(lab.isolation.means.group)
    lab.isolation = Isolation(
        lab.worker, Means(), lab.isolation.views, memory=memory, cpus=1.0, pids=100
    )


def test_memory_is_held_by_looking_where_there_are_no_groups(lab: Lab) -> None:
    without_groups(lab)
    code = f"import os, time\n{GROW}if os.fork() == 0: grow(150)\ntime.sleep(3600)\n"
    record, _ = lab.run(code, memory_gb=100 / 1024)
    assert record.cause is Cause.OUT_OF_MEMORY
    assert record.memory_limit == 100 * MIB
    assert (record.peak_memory or 0) > 100 * MIB


def test_what_forked_processes_share_counts_once(lab: Lab) -> None:
    without_groups(lab)
    code = f"import os, time\n{GROW}grow(60)\nfor _ in range(3):\n    if os.fork() == 0: break\n"
    record, _ = lab.run(f"{code}time.sleep(0.5)", memory_gb=150 / 1024)
    assert (record.cause, record.exit_code) == (Cause.EXITED, 0)


def test_jobs_keep_to_some_processors_where_there_are_no_groups(lab: Lab) -> None:
    without_groups(lab)
    _, log = lab.run("import os; print(len(os.sched_getaffinity(0)))")
    assert log == "1\n"


def test_off_gives_the_rights_of_the_worker_and_keeps_the_limits(lab: Lab) -> None:
    protection = lab.isolation.protection
    assert protection.level == "process"
    _, log = lab.run("print(open('/proc/self/status').read())")
    assert "NoNewPrivs:\t0" in log
    if protection.memory == "cgroup":
        record, _ = lab.run(f"{GROW}grow(200)", memory_gb=64 / 1024)
        assert record.cause is Cause.OUT_OF_MEMORY


def test_groups_of_gone_attempts_are_removed_with_what_runs_there(lab: Lab) -> None:
    group = lab.isolation.means.group
    if not group:
        pytest.skip("There are no control groups here.")
    left = cgroups.inside(group, "9-1")
    cgroups.make(left)
    with subprocess.Popen(["sleep", "60"]) as process:
        for folder in left.values():
            Path(folder, "cgroup.procs").write_text(str(process.pid))
        lab.isolation.sweep()
        assert process.wait(PATIENCE) == -9
    assert not any(Path(folder).exists() for folder in left.values())


NESTED = """\
import json, os, sys
sys.path[:0] = json.loads(os.environ["PLACES"])
from pathlib import Path
from support.isolated import GROW, Lab
import msgspec
lab = Lab(Path("lab"), max_memory_gb=0.1, max_job_processes=50, job_folders=[os.environ["FOLDER"]])
code = os.environ["CODE"].replace("FOLDER", repr(os.environ["FOLDER"]))
record, log = lab.run(code)
print(json.dumps([msgspec.to_builtins(lab.isolation.protection), log]))
"""
"""Runs a job as a worker that is not root would."""
LOOKS = """\
import os
print(os.getuid(), os.getpid())
for place in (".", "/tmp", FOLDER, "/dev/shm", os.path.expanduser("~")):
    try: open(place + "/new", "w").close()
    except OSError: pass
    else: print("wrote", place)
print(os.path.exists("../attempt.json"))
"""


BOMB = """\
import os, time
children = 0
try:
    while children < 1000:
        if os.fork() == 0: time.sleep(3600)
        children += 1
except BlockingIOError: pass
print(children)
"""


def nested(tmp_path: Path, code: str) -> tuple[Protection, list[str]]:
    """What a worker that is not root has for its jobs, and the lines that a job of it prints."""
    seen = tmp_path / "seen"
    seen.mkdir()
    seen.chmod(0o777)
    places = [str(Path(__file__).parents[1]), *filter(None, sys.path)]
    outside = Lab(tmp_path / "outside", job_folders=[str(seen), str(ROOT)])
    cgroups.remove(outside.isolation.means.group)
    outside.isolation.means = msgspec.structs.replace(outside.isolation.means, group={})
    env = {"PLACES": msgspec.json.encode(places).decode(), "CODE": code, "FOLDER": str(seen)}
    env |= {"PATH": os.environ["PATH"], "HOME": str(seen)}
    record, log = outside.run(NESTED, env=env)
    assert record.exit_code == 0, log
    said, seen_by_job = msgspec.json.decode(log.splitlines()[-1])
    return msgspec.convert(said, Protection), seen_by_job.splitlines()


def test_worker_that_is_not_root_has_namespaces_and_looks_at_memory(tmp_path: Path) -> None:
    require("root")
    protection, lines = nested(tmp_path, LOOKS)
    assert not protection.uid
    assert protection.memory == "supervised"
    assert lines[0].split()[0] != "0"
    if protection.level == "namespace":
        assert lines[0].split()[1] == "2"
        wrote = f"wrote {tmp_path / 'seen'}"
        assert lines[1:] == ["wrote .", "wrote /tmp", wrote, "wrote /dev/shm", "False"]


def test_worker_that_is_not_root_bounds_the_processes_of_a_job(tmp_path: Path) -> None:
    """By the job's user in its own namespace: what others of that user run does not count."""
    require("root")
    protection, lines = nested(tmp_path, BOMB)
    if protection.level == "namespace":
        assert protection.pids
        assert int(lines[-1]) == 49  # and the one that starts them


def test_worker_that_is_not_root_keeps_a_job_from_its_init(tmp_path: Path) -> None:
    require("root")
    protection, lines = nested(tmp_path, MEDDLES)
    if protection.level == "namespace":
        least = ["fd", "oom_score_adj", "comm", "coredump_filter", "limits"]
        assert lines == [f"init lives, and it had done to it {least}"]  # of any of its user


@pytest.mark.parametrize("namespaces", [True, False])
def test_nothing_of_root_is_left_to_a_job_of_another_user(*, namespaces: bool) -> None:
    require("root")
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)  # pytest's own are closed to other users
        lab = Lab(Path(name, "lab"))
        lab.isolation.means = msgspec.structs.replace(lab.isolation.means, namespaces=namespaces)
        record, log = lab.run("", argv=["cat", "/proc/self/status"])
        assert record.exit_code == 0, record
        cgroups.remove(lab.isolation.means.group)
    fields = dict(line.split(":\t", 1) for line in log.splitlines())
    (user,) = {*fields["Uid"].split(), *fields["Gid"].split()}
    assert user != "0"
    assert [fields[f"Cap{which}"] for which in ("Inh", "Prm", "Eff", "Amb")] == ["0" * 16] * 4


def test_ambient_capabilities_of_the_agent_are_not_left_to_a_job() -> None:
    """As a unit of systemd may give them."""
    require("root")
    code = """\
import os
from dtrain.worker.spawn import spawn
shows = ["sed", "-n", "s/^Cap\\\\(Prm\\\\|Eff\\\\|Amb\\\\):.//p", "/proc/self/status"]
os.spawnvp(os.P_WAIT, shows[0], shows)
program = spawn(shows, dict(os.environ), "/", (1, 1), None, {"uid": 54321, "groups": []})
os.waitpid(program.pid, 0)
"""
    given = ["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]
    argv = ["setpriv", *given, sys.executable, "-c", code]
    said = subprocess.run(argv, capture_output=True, text=True, check=True, timeout=PATIENCE)
    of_agent, of_job = said.stdout.split()[2], said.stdout.split()[3:]
    assert int(of_agent, 16) == 2
    assert of_job == ["0" * 16] * 3


def test_processes_are_bounded_by_the_job_s_own_user_without_groups(tmp_path: Path) -> None:
    require("root")
    lab = Lab(tmp_path / "lab", max_job_processes=50)
    cgroups.remove(lab.isolation.means.group)
    lab.isolation.means = msgspec.structs.replace(lab.isolation.means, group={})
    record, log = lab.run(BOMB)
    assert record.exit_code == 0, log
    assert lab.isolation.protection.pids
    assert int(log.splitlines()[-1]) == 49  # and the one that starts them


V1 = """\
24 23 0:21 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
25 23 0:22 /docker/7 /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:2 - cgroup cgroup rw,cpu,cpuacct
26 23 0:23 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
GROUPS = """\
5:memory:/user/a
4:cpu,cpuacct:/docker/7/b
3:name=systemd:/x
0::/user.slice/run-1.scope
"""


def test_hierarchies_are_found_by_controller() -> None:
    assert list(hierarchies.first_places(V1, GROUPS)) == [
        (["memory"], Path("/sys/fs/cgroup/memory")),  # where the group itself is not to be seen
        (["cpu"], Path("/sys/fs/cgroup/cpu,cpuacct")),
    ]
    assert hierarchies.second_place(V1, GROUPS)[0] == Path("/sys/fs/cgroup/unified")


def test_group_of_the_second_version_gets_its_limits(tmp_path: Path) -> None:
    """On a folder that looks like one: which files are written, and what is read."""
    for name in ("cgroup.controllers", "memory.max", "memory.swap.max", "memory.oom.group"):
        (tmp_path / name).touch()
    for name in ("cpu.max", "pids.max", "memory.peak", "memory.stat", "memory.events"):
        (tmp_path / name).touch()
    group = dict.fromkeys(cgroups.CONTROLLERS, str(tmp_path))
    cgroups.make({"memory": str(tmp_path)}, memory=1000)
    # Around several jobs: the one that asks for too much is killed, and the others are not.
    assert (tmp_path / "memory.oom.group").read_text() == ""
    cgroups.make(group, memory=1000, cpus=1.5, pids=7, as_one=True)
    written = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert written["memory.max"] == "1000"
    assert written["memory.swap.max"] == "0"
    assert written["memory.oom.group"] == "1"
    assert written["cpu.max"] == "150000 100000"
    assert written["pids.max"] == "7"
    (tmp_path / "memory.stat").write_text("anon 10\nfile 99\nshmem 5\n")
    (tmp_path / "memory.events").write_text("max 3\noom 1\noom_kill 2\noom_group_kill 1\n")
    (tmp_path / "memory.peak").write_text("77\n")
    assert (cgroups.used(group), cgroups.kills(group), cgroups.peak(group)) == (15, 2, 77)


def test_group_of_the_second_version_is_killed_at_one_stroke() -> None:
    require("root")
    top, _ = hierarchies.second_place(
        Path("/proc/self/mountinfo").read_text(), Path("/proc/self/cgroup").read_text()
    )
    if top is None:
        pytest.skip("There is no hierarchy of version 2.")
    group = {"": str(top / "dtrain-test")}
    cgroups.make(group)
    try:
        command = ["sh", "-c", "read go; sleep 60 & wait"]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            (top / "dtrain-test" / "cgroup.procs").write_text(str(process.pid))
            assert process.stdin is not None
            process.stdin.write(b"go\n")
            process.stdin.flush()
            wait_for(lambda: len(list(cgroups.members(group))) == 2, "both")
            assert cgroups.kill(group, 10) == []
            assert process.wait(PATIENCE) == -9
    finally:
        cgroups.remove(group)


def test_agents_own_group_comes_before_limits_below_it(tmp_path: Path) -> None:
    """In version 2 a group with others below it holds no processes: the agent goes into one."""
    scope = tmp_path / "run-7.scope"
    scope.mkdir()
    (tmp_path / "cgroup.type").write_text("domain")
    (scope / "cgroup.procs").write_text(f"{os.getpid()}\n")
    assert hierarchies.delegated(tmp_path, scope) == scope
    assert (scope / "agent" / "cgroup.procs").read_text() == str(os.getpid())
    assert hierarchies.delegated(tmp_path, scope / "agent") == scope
    service = tmp_path / "dtrain.service"
    service.mkdir()
    (service / "cgroup.procs").write_text(f"{os.getpid()}\n")
    with pytest.raises(PermissionError):
        hierarchies.delegated(tmp_path, service)
    (tmp_path / "cgroup.type").unlink()  # the root of all groups has none
    assert hierarchies.delegated(tmp_path, service) == tmp_path


def test_group_is_found_though_other_file_systems_may_not_be_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Forbidden(type(Path())):  # type: ignore[misc]  # the class of paths of this system
        def __truediv__(self, name: str) -> Path:
            raise PermissionError(errno.EPERM, "Operation not permitted", f"{self}/{name}")

    found = hierarchies._mounted
    forbidden = ("/", Forbidden("/sys/fs/bpf"), "bpf", [])
    monkeypatch.setattr(hierarchies, "_mounted", lambda text: iter([forbidden, *found(text)]))
    monkeypatch.setattr(hierarchies, "_own", lambda _: iter([(["memory"], "/nowhere")]))
    assert hierarchies.group_of(os.getpid()) == {}
