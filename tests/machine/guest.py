"""What is looked at in the machine; systemd starts it there, as root.

Each check is a line on the console, behind a bar. Nothing of the checkout is imported: DTrain is
what was installed.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
import time
import traceback
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import dtrain
from dtrain.protocol.messages import Job, Worker
from dtrain.protocol.resources import Protection

T = TypeVar("T")

CHECKOUT = Path("/checkout")
DTRAIN = "/opt/dtrain/bin/dtrain"
SERVER = "http://127.0.0.1:5000"
TOKEN = "the-token-of-the-workers-0123456789"
PATIENCE = 300.0
"""Seconds for what must happen: an emulated processor is ten times slower than a real one."""
UNIT = "dtrain-worker@room4"
IMAGE = "python:3.9-slim"
LIMITS = {"max_memory_gb": 0.4, "max_concurrent_jobs": 2, "max_job_processes": 200}
GROW = "kept = []\ndef grow(mib):\n    for _ in range(mib): kept.append(bytearray(1024**2))\n"
NEIGHBOUR = f"{GROW}import time\ngrow(100)\nprint('there', flush=True)\ntime.sleep(3600)\n"
BOMB = """\
import os, time
print("there", flush=True)
while True:
    try: os.fork()
    except OSError: time.sleep(0.05)
"""


def main() -> None:
    """Check one thing after the other, and switch the machine off."""
    failed = 0
    with open("/dev/ttyS0", "w", buffering=1) as console:  # noqa: PTH123 - no file on a disk
        for title, check in CHECKS.items():
            begin = time.monotonic()
            try:
                check()
                word = "ok"
            except Exception:
                failed += 1
                word = "FAILED"
                for line in traceback.format_exc().splitlines()[-40:]:
                    console.write(f"|    {line}\n")
            console.write(f"|{word}: {title} ({time.monotonic() - begin:.0f} s)\n")
        console.write(f"|failed: {failed}\n")
    os.sync()
    Path("/proc/sysrq-trigger").write_text("o")


def tests_of_isolation() -> None:
    """The same tests as everywhere, where the kernel has version 2 of control groups alone."""
    names = ("test_isolation.py", "test_isolation_levels.py")
    tests = [str(CHECKOUT / "tests" / "contract" / name) for name in names]
    run("/opt/dtrain/bin/python", "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)


def installed_units() -> None:
    """As docs/operating.md says; the server serves."""
    units = CHECKOUT / "deploy" / "systemd"
    run("install", "-D", "-m", "644", units / "dtrain.sysusers", "/etc/sysusers.d/dtrain.conf")
    for unit in units.glob("*.service"):
        shutil.copy(unit, "/etc/systemd/system")
    run("systemd-sysusers")
    run("systemctl", "daemon-reload")
    folder = Path("/etc/dtrain")
    folder.mkdir()
    (folder / "server.env").write_text(f"WORKER_SHARED_TOKEN={TOKEN}\n")
    (folder / "worker.env").write_text(f"DTRAIN_SERVER_URL={SERVER}\nDTRAIN_WORKER_TOKEN={TOKEN}\n")
    run("systemctl", "start", "dtrain-server")
    wait_for(_answers, "the server to answer")


def unit_as_it_is_shipped() -> None:
    """As a user of its own; systemd older than 254 leaves it no control groups."""
    _configure(Path("/var/lib/dtrain-worker"))
    protection = _started_unit()
    assert protection.level == "namespace", protection
    assert protection.pids, protection
    _work(protection)


def unit_as_root() -> None:
    """With what docs/isolation.md says of root."""
    run("systemctl", "stop", UNIT)
    before = _groups()
    text = (CHECKOUT / "docs" / "isolation.md").read_text()
    override = text.partition("```ini\n")[2].partition("```")[0]
    more = Path("/etc/systemd/system/dtrain-worker@.service.d/override.conf")
    more.parent.mkdir()
    more.write_text("\n".join(line.strip() for line in override.splitlines()) + "\n")
    run("systemctl", "daemon-reload")
    protection = _started_unit()
    assert protection.level == "namespace", protection
    assert (protection.memory, protection.cpu, protection.pids) == ("cgroup", "cgroup", True)
    assert protection.uid, protection
    _work(protection)
    run("systemctl", "stop", UNIT)
    assert _groups() == before


def user_in_a_scope() -> None:
    """By hand, as another user, in a scope that systemd has delegated."""
    run("useradd", "--create-home", "tester")
    run("loginctl", "enable-linger", "tester")
    uid = int(run("id", "-u", "tester"))
    wait_for(lambda: Path(f"/run/user/{uid}/bus").exists(), "the user's systemd")
    home = Path("/home/tester/worker")
    _configure(home, server_url=SERVER, token=TOKEN, worker_name="by-hand", auto_accept_jobs=True)
    run("chown", "-R", "tester:", home)
    scope = f"systemd-run --user --scope -p Delegate=yes {DTRAIN} worker {home}"
    with subprocess.Popen(
        ["runuser", "-l", "tester", "-c", f"XDG_RUNTIME_DIR=/run/user/{uid} exec {scope}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as agent:
        protection = _protection_of("by-hand")
        assert protection.level == "namespace", protection
        assert (protection.memory, protection.cpu, protection.pids) == ("cgroup", "cgroup", True)
        job = _neighbour()
        _bear_hogs(job, protection)
        _cancel(job)
        agent.terminate()
        agent.wait(PATIENCE)


def containers() -> None:
    """In an engine that has its groups by systemd, on version 2, where no group is around all."""
    _make_image()
    home = Path("/var/lib/contained")
    settings = {"docker_enabled": True, "docker_image_tag": IMAGE, "auto_accept_jobs": True}
    _configure(home, server_url=SERVER, token=TOKEN, worker_name="contained", **settings)
    agent = _started_agent(home)
    protection = _protection_of("contained")
    wait_for(lambda: "docker" in _worker("contained").capacity.executors, "containers")
    job = _neighbour()
    assert len(_containers()) == 1
    _bear_hogs(job, protection)
    together = _ended(_submit(f"{GROW}grow(350)\nimport time; time.sleep(3600)"))
    assert together.reason == "out_of_memory", together
    assert client.jobs.get(job).status == "running", "the neighbour has not survived"
    agent.kill()
    agent.wait()
    agent = _started_agent(home)
    time.sleep(10)
    now = client.jobs.get(job)
    assert (now.status, now.attempt) == ("running", 1), now
    _cancel(job)
    wait_for(lambda: not _containers(), "the containers to go")
    agent.terminate()
    agent.wait(PATIENCE)


def server_that_stops() -> None:
    """At once, with nothing left in its unit."""
    begin = time.monotonic()
    run("systemctl", "stop", "dtrain-server")
    assert time.monotonic() - begin < 30
    assert run("systemctl", "show", "-P", "Result", "dtrain-server").strip() == "success"


CHECKS: dict[str, Callable[[], None]] = {
    "the tests of isolation, on version 2 of control groups": tests_of_isolation,
    "the units are installed, and the server serves": installed_units,
    "the worker's unit as it is shipped": unit_as_it_is_shipped,
    "the worker's unit as root": unit_as_root,
    "a worker of a user, in a delegated scope": user_in_a_scope,
    "containers of an engine with systemd's groups": containers,
    "the server's unit stops": server_that_stops,
}


def _work(protection: Protection) -> None:
    """A job outlives hogs beside it, and its agent's stop and end; it ends when it is told to."""
    job = _neighbour()
    _bear_hogs(job, protection)
    for command in (("restart",), ("kill", "--signal=KILL", "--kill-who=main")):
        old = {_main_pid(), 0}
        run("systemctl", *command, UNIT)
        _wait_for_another(old)
        wait_for(lambda: "goes on" in run("journalctl", "-u", UNIT, "-n", "3"), "the job to go on")
        now = client.jobs.get(job)
        assert (now.status, now.attempt) == ("running", 1), now
    _cancel(job)


def _bear_hogs(job: int, protection: Protection) -> None:
    """Others that ask for too much are ended, and this one goes on."""
    own = _ended(_submit(f"{GROW}grow(300)", memory_gb=0.1))
    assert own.reason == "out_of_memory", own
    everything = _ended(_submit(f"{GROW}grow(600)"))
    assert everything.reason == "out_of_memory", everything
    assert client.jobs.get(job).status == "running", "the neighbour has not survived"
    if protection.pids:
        bomb = _submit(BOMB)
        _wait_for_line(bomb)
        time.sleep(5)
        _cancel(bomb)
    assert client.jobs.get(job).status == "running", "the neighbour has not survived"


def _make_image() -> None:
    """The image that the worker names, of this machine's own files: there is no registry."""
    places = ("usr/bin", "usr/lib", "usr/lib64", "bin", "sbin", "lib", "lib64", "etc")
    left = ("usr/lib/modules", "usr/lib/systemd", "usr/lib/gcc")
    files = " ".join((*(f"--exclude={one}" for one in left), *places))
    run("sh", "-c", f"tar -C / -c {files} | docker import - {IMAGE}")


def _started_agent(home: Path) -> subprocess.Popen[bytes]:
    nowhere = subprocess.DEVNULL
    return subprocess.Popen([DTRAIN, "worker", home], stdout=nowhere, stderr=nowhere)


def _worker(name: str) -> Worker:
    def found() -> Worker | None:
        return next((one for one in client.workers.list() if one.name == name), None)

    return wait_for(found, f"the worker {name}")


def _containers() -> list[str]:
    return run("docker", "ps", "--all", "--quiet", "--filter", "label=dtrain.attempt").split()


def _groups() -> set[str]:
    """The groups that workers have made."""
    named = (path.name for path in Path("/sys/fs/cgroup").glob("**/dtrain-*"))
    return {name for name in named if re.fullmatch("dtrain-[0-9a-f]{12}", name)}


def _wait_for_another(old: set[int]) -> None:
    wait_for(lambda: _main_pid() not in old, "another agent")


def _main_pid() -> int:
    return int(run("systemctl", "show", "-P", "MainPID", UNIT))


def _started_unit() -> Protection:
    run("systemctl", "start", UNIT)
    return _protection_of("room4")


def _protection_of(name: str) -> Protection:
    def shown() -> Protection | None:
        worker = _worker(name)
        return worker.capacity.protection if worker.state == "online" else None

    return wait_for(shown, f"what protects on the worker {name}")


def _configure(home: Path, **settings: object) -> None:
    home.mkdir(exist_ok=True)
    (home / "config.json").write_text(json.dumps({**LIMITS, **settings}))


def _answers() -> bool:
    try:
        with urllib.request.urlopen(f"{SERVER}/healthz", timeout=10):
            return True
    except OSError:
        return False


def _neighbour() -> int:
    job = _submit(NEIGHBOUR)
    _wait_for_line(job)
    return job


def _submit(code: str, memory_gb: float | None = None) -> int:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "main.py").write_text(code)
        return client.submit(folder, memory_gb=memory_gb).id


def _wait_for_line(job: int) -> None:
    def said() -> bool:
        now = client.jobs.get(job)
        assert not now.status.final, now
        return any("there" in line.text for line in client.jobs.logs(job).lines)

    wait_for(said, "the job to say something")


def _ended(job: int) -> Job:
    return client.jobs.wait(job, timeout=PATIENCE, raise_on_failure=False)


def _cancel(job: int) -> None:
    client.jobs.cancel(job)
    client.jobs.cancel(job)
    assert _ended(job).status == "cancelled"


def run(*command: object) -> str:
    """What a command prints.

    Raises:
        AssertionError: it has failed.
    """
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-4000:]}"
    return done.stdout


def wait_for(condition: Callable[[], T | None], what: str) -> T:
    """What a condition gives, once it gives something.

    Raises:
        AssertionError: it never does.
    """
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert time.monotonic() < deadline, f"Waited {PATIENCE:.0f} s in vain for {what}."
        time.sleep(0.3)
    return found


client = dtrain.Client(SERVER)

if __name__ == "__main__":
    main()
