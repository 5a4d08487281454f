"""A server and a worker on two machines, as their owners set them up from what is printed."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.certificate import Authority
from support.checks import ROOT
from support.machines import Machine, two_machines
from support.processes import Running, clean_environment, wait_for

TICKS = 60
JOB = f"""\
import os, time
from pathlib import Path
for tick in range({TICKS}):
    print("tick", tick, flush=True)
    time.sleep(0.1)
Path(os.environ["DTRAIN_OUTPUT_DIR"], "over").touch()
"""
WHOLE = "".join(f"tick {tick}\n" for tick in range(TICKS))
ASK_EVERYTHING = """\
import json, ssl, sys, urllib.error, urllib.request
from dtrain.protocol import routes

context = ssl.create_default_context(cafile="ca.pem")
headers = {"Authorization": f"Bearer {sys.argv[2]}"} if sys.argv[2] else {}
parts = dict(job_id=1, attempt=1, generation=1, worker_id="x", path="a", answer_id="a", sha256="a")
pages = dict(INDEX="/", WORKER_PAGE="/workers", JOB_PAGE="/jobs/1", LOGOUT="/logout", OTHER="/x")
found = {}
for name, template in {**vars(routes), **pages}.items():
    if name.isupper() and template.startswith("/"):
        for method in ("GET", "POST", "PUT", "DELETE"):
            path = routes.path(template, **parts)
            request = urllib.request.Request(sys.argv[1] + path, headers=headers, method=method)
            try:
                with urllib.request.urlopen(request, context=context, timeout=30) as answer:
                    found[f"{method} {path}"] = answer.status
            except urllib.error.HTTPError as error:
                found[f"{method} {path}"] = error.code
                error.close()
print(json.dumps(found))
"""


@dataclass
class Lab:
    """What the two owners have."""

    server: Machine
    other: Machine
    printed: str
    """What the server said at its start."""
    folder: Path
    """A copy of the project's folder `worker` on the other machine, with the CA's file."""
    home: Path
    """Of the person at the other machine."""

    @property
    def environment(self) -> dict[str, str]:
        """That person's, with the project's virtual environment activated."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return clean_environment() | {"PATH": path, "XDG_CONFIG_HOME": str(self.home / ".config")}

    def line(self, pattern: str) -> str:
        """The one line, or end of a line, that was printed and can be typed."""
        (found,) = re.findall(rf"{pattern}$", self.printed, re.MULTILINE)
        return str(found)

    def paste(self, title: str, line: str) -> Running:
        """Start what a line says on the other machine, in the worker's folder."""
        environment = self.environment | {"DTRAIN_AUTO_ACCEPT_JOBS": "true"}
        return self.other.start(title, ["bash", "-c", line], self.folder, environment)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with two_machines() as (server, other):
        authority = Authority(tmp_path / "pki")
        server_home, folder, home = (tmp_path / name for name in ("server", "worker", "person"))
        for path in (server_home, folder, home):
            path.mkdir()
        environment = {
            **clean_environment(),
            **authority.sign(server.address).settings,
            "DTRAIN_HOST": server.address,
        }
        command = [sys.executable, "-m", "dtrain", "server", str(server_home)]
        running = server.start("server", command, server_home, environment)
        wait_for(lambda: not running.alive or "Access token" in running.text(), "the announcement")
        shutil.copy(ROOT / "worker" / "agent.py", folder)
        shutil.copy(authority.file, folder / "ca.pem")
        yield Lab(server, other, running.text(), folder, home)


def test_second_machine_joins_by_the_printed_line_and_loses_nothing_without_its_cable(
    lab: Lab, tmp_path: Path
) -> None:
    join = lab.line(r"    (DTRAIN_SERVER_URL=.* python agent\.py)")
    worker = lab.paste("worker", join)
    wait_for(lambda: not worker.alive or "Joined" in worker.text(), "the worker to join")
    token = lab.line("Access token, .*: (.*)")
    assert f"https://{lab.server.address}:5000" in join
    shared = re.search("DTRAIN_WORKER_TOKEN=([^ ]+)", join)[1]
    for process in processes_of(lab.other):
        assert shared not in process
    assert lab.other.sockets() == []

    login = lab.line("or with: (dtrain login .*)")
    done = lab.other.run(["sh", "-c", login], lab.folder, lab.environment, stdin=token)
    assert (done.returncode, done.stderr) == (0, "")

    job = tmp_path / "job"
    job.mkdir()
    (job / "main.py").write_text(JOB)
    follower = lab.paste("submit", f"dtrain submit {job} --follow")
    wait_for(lambda: not follower.alive or "tick 3\n" in follower.text(), "the job to run")
    lab.other.plug(into=False)
    wait_for(
        lambda: list((lab.folder / "data").rglob("over")), "the job to end without the network"
    )
    assert "tick 59" not in follower.text()
    lab.other.plug(into=True)
    wait_for(lambda: not follower.alive, "the end to be told", patience=200)
    assert follower.process.returncode == 0, follower.text()
    ticks = "".join(re.findall(r"^tick \d+\n", follower.text(), re.MULTILINE))
    assert ticks == WHOLE

    show = ["dtrain", "show", "1", "--json"]
    shown = json.loads(lab.other.run(show, lab.folder, lab.environment).stdout)
    assert (shown["status"], shown["attempt"], shown["exit_code"]) == ("completed", 1, 0)
    logs = lab.other.run(["dtrain", "logs", "1"], lab.folder, lab.environment)
    assert logs.stdout == WHOLE
    assert lab.other.sockets() == []
    assert worker.stop() == 0


def test_second_machine_is_refused_everything_without_a_token(lab: Lab) -> None:
    url = f"https://{lab.server.address}:5000"

    def asked(token: str) -> dict[str, int]:
        command = [sys.executable, "-c", ASK_EVERYTHING, url, token]
        done = lab.other.run(command, lab.folder, lab.environment)
        assert done.returncode == 0, done.stderr
        answered: dict[str, int] = json.loads(done.stdout)
        return answered

    shared = re.search("DTRAIN_WORKER_TOKEN=([^ ]+)", lab.printed)[1]
    for token in ("", "wrong", shared):
        answered = asked(token)
        assert len(answered) > 80
        let_in = {name for name, status in answered.items() if status != 401}
        assert let_in == {"GET /healthz"} | (
            {"POST /api/worker/register"} if token == shared else set()
        )
        assert answered["GET /healthz"] == 200
    for command in (["dtrain", "jobs"], ["dtrain", "submit", str(lab.folder)]):
        environment = lab.environment | {"DTRAIN_SERVER_URL": url, "DTRAIN_CA_FILE": "ca.pem"}
        assert lab.other.run(command, lab.folder, environment).returncode == 2
    plain = lab.environment | {"DTRAIN_SERVER_URL": url.replace("https:", "http:")}
    done = lab.other.run(["dtrain", "jobs"], lab.folder, plain)
    assert done.returncode == 2
    assert "HTTPS" in done.stderr or "broke off" in done.stderr
    unknown = lab.other.run(
        ["dtrain", "jobs"], lab.folder, lab.environment | {"DTRAIN_SERVER_URL": url}
    )
    assert "CA that this machine does not know" in unknown.stderr


def processes_of(machine: Machine) -> list[str]:
    """The command lines of all processes on a machine."""
    network = Path("/run/netns", machine.namespace).stat().st_ino
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            if (entry / "ns" / "net").stat().st_ino == network:
                found.append((entry / "cmdline").read_text())
        except OSError:
            continue
    assert len(found) >= 2
    return found
