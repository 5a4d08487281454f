"""What an operator is handed: proxies, units and the commands of docs/operating.md, tried out."""

from __future__ import annotations

import http.client
import json
import os
import random
import re
import shlex
import shutil
import ssl
import subprocess
import sys
import tempfile
import urllib.parse
import zipfile
from collections.abc import Iterator
from configparser import RawConfigParser
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.checks import ROOT
from support.command import COMMAND, dtrain
from support.example_job import zip_of
from support.processes import (
    MARK,
    PATIENCE,
    Running,
    clean_environment,
    end_started,
    free_port,
    start_server,
    wait_for,
)
from support.proxies import Proxy
from support.requirements import require

from dtrain.client.client import Client
from dtrain.client.stream import content
from dtrain.protocol.messages import LogPiece
from dtrain.protocol.states import Status

ACCESS_TOKEN = "the-access-token-of-tests"
WORKER_TOKEN = "the-worker-token-of-tests"
DOCUMENT = ROOT / "docs" / "operating.md"
UNITS = ROOT / "deploy" / "systemd"

LINE_BY_LINE = """
import os, pathlib, time
folder = pathlib.Path(os.environ["FOLDER"])
for number in range(5):
    print(f"line {number}", flush=True)
    while not (folder / str(number)).exists():
        time.sleep(0.01)
"""
"""Prints a line only once somebody has seen the one before it."""


class Behind:
    """A server behind a proxy."""

    def __init__(self, kind: str, folder: Path) -> None:
        port = free_port()
        self.server = start_server(
            folder / "server",
            DTRAIN_PORT=port,
            WORKER_SHARED_TOKEN=WORKER_TOKEN,
            DTRAIN_ACCESS_TOKEN=ACCESS_TOKEN,
            DTRAIN_TRUSTED_PROXIES="127.0.0.1",
        )
        self.proxy = Proxy(kind, folder / "proxy", port)

    def client(self) -> Client:
        """A client that comes through the proxy."""
        return Client(self.proxy.url, ACCESS_TOKEN, ca_file=str(self.proxy.ca))

    def ask(
        self, method: str, path: str, body: str | None = None, **headers: str
    ) -> tuple[int, http.client.HTTPMessage, str]:
        """Status, headers and body of what the proxy answers."""
        trusted = ssl.create_default_context(cafile=str(self.proxy.ca))
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self.proxy.port, context=trusted, timeout=PATIENCE
        )
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, names)
        answer = connection.getresponse()
        found = answer.status, answer.headers, answer.read().decode()
        connection.close()
        return found


@pytest.fixture(params=["nginx", "caddy"])
def behind(request: pytest.FixtureRequest, tmp_path: Path) -> Behind:
    require(request.param)
    return Behind(request.param, tmp_path)


def test_strangers_do_not_get_through_the_proxy(behind: Behind) -> None:
    assert behind.ask("GET", "/healthz")[0] == 200
    for path in ("/api/jobs", "/metrics", "/api/openapi.json"):
        assert behind.ask("GET", path)[0] == 401, path
    page = behind.ask("GET", "/", Accept="text/html")
    assert (page[0], page[1]["Location"]) == (303, "/login?next=%2F")
    for forged in (
        {"X_Forwarded_For": "127.0.0.1"},
        {"Forwarded": "for=127.0.0.1;host=localhost"},
        {"X_Forwarded_Host": "localhost", "X_Real_IP": "127.0.0.1"},
    ):
        assert behind.ask("GET", "/api/jobs", **forged)[0] == 401, forged
    status, _, body = behind.ask("GET", "/api/jobs", Host="evil.example")
    assert status == 400 or not body  # Caddy itself has nothing by that name
    plain = http.client.HTTPConnection("127.0.0.1", behind.proxy.plain_port, timeout=PATIENCE)
    plain.request("GET", "/api/jobs")
    answer = plain.getresponse()
    assert answer.status in {301, 308}
    assert str(answer.headers["Location"]).startswith("https://")
    plain.close()


def test_people_log_in_through_the_proxy(behind: Behind) -> None:
    origin = {"Origin": behind.proxy.url, "Content_Type": "application/x-www-form-urlencoded"}
    form = urllib.parse.urlencode({"token": ACCESS_TOKEN, "next": "/workers"})
    status, headers, _ = behind.ask("POST", "/login", form, **origin)
    assert (status, headers["Location"]) == (303, "/workers")
    cookie = str(headers["Set-Cookie"])
    assert "HttpOnly" in cookie
    status, _, page = behind.ask("GET", "/workers", Cookie=cookie.partition(";")[0])
    assert status == 200
    assert "<html" in page
    foreign = {**origin, "Origin": "https://evil.example"}
    assert behind.ask("POST", "/login", form, **foreign)[0] == 403


def test_large_bundle_goes_through_the_proxy_as_it_comes(behind: Behind, tmp_path: Path) -> None:
    size = 600 * 1024**2
    packed = tmp_path / "large.zip"
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("main.py", "print(1)")
        with archive.open("data.bin", "w", force_zip64=True) as file:
            piece = random.Random(1).randbytes(1024**2)
            for _ in range(size // len(piece)):
                file.write(piece)
    held = [0]

    def look(*_: object) -> None:
        held[0] = max(held[0], _bytes_in(behind.proxy.home))

    job = behind.client().submit(packed, name="large", progress=look)

    assert job.bundle.size > size
    assert held[0] < 20 * 1024**2, "the proxy kept the upload on its disk"
    for running in (behind.server, behind.proxy):
        for process in [psutil.Process(running.pid), *psutil.Process(running.pid).children()]:
            assert _peak_memory(process) < 300 * 1024**2, process


def _bytes_in(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _peak_memory(process: psutil.Process) -> int:
    status = Path(f"/proc/{process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) * 1024 if found else 0


def _start_worker(home: Path, proxy: Proxy) -> None:
    home.mkdir()
    settings = {
        "server_url": proxy.url,
        "token": WORKER_TOKEN,
        "ca_file": str(proxy.ca),
        "worker_name": "far-away",
        "auto_accept_jobs": True,
        "isolation": "off",  # the job looks for files of the test
    }
    (home / "config.json").write_text(json.dumps(settings))
    Running("worker", [*COMMAND, "worker", str(home)], home, clean_environment())


def test_worker_through_the_proxy_completes_a_job_that_is_seen_line_by_line(
    behind: Behind, tmp_path: Path
) -> None:
    _start_worker(tmp_path / "worker", behind.proxy)
    packed = zip_of(tmp_path / "job.zip", {"main.py": LINE_BY_LINE})
    client = behind.client()
    job = client.submit(packed, name="lines", env={"FOLDER": str(tmp_path)})
    told = b""
    for message in client.jobs.follow(job.id):
        told += content(message) if isinstance(message, LogPiece) else b""
        for number in re.findall(rb"line (\d)", told):
            (tmp_path / number.decode()).touch()
    assert told == b"".join(b"line %d\n" % number for number in range(5))
    ended = client.jobs.get(job.id)
    assert (ended.status, ended.worker) == (Status.COMPLETED, "far-away")


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
def test_one_of_two_servers_on_postgresql_can_be_stopped_unnoticed(
    kind: str, tmp_path: Path, postgres_url: str
) -> None:
    require(kind)
    shared = {
        "DATABASE_URL": postgres_url,
        "SECRET_KEY": "the-same-for-both",
        "WORKER_SHARED_TOKEN": WORKER_TOKEN,
        "DTRAIN_ACCESS_TOKEN": ACCESS_TOKEN,
        "DTRAIN_TRUSTED_PROXIES": "127.0.0.1",
        "UPLOAD_FOLDER": str(tmp_path / "uploads"),
        "JOB_BUNDLES_FOLDER": str(tmp_path / "bundles"),
    }
    one, other = (start_server(tmp_path / name, **shared) for name in ("one", "other"))
    proxy = Proxy(kind, tmp_path / "proxy", one.port, other.port)
    _start_worker(tmp_path / "worker", proxy)
    client = Client(proxy.url, ACCESS_TOKEN, ca_file=str(proxy.ca))
    packed = zip_of(tmp_path / "job.zip", {"main.py": LINE_BY_LINE})
    job = client.submit(packed, name="lines", env={"FOLDER": str(tmp_path)})
    told = b""
    for message in client.jobs.follow(job.id):
        told += content(message) if isinstance(message, LogPiece) else b""
        if b"line 2" in told and one.alive:
            one.stop()
            assert client.jobs.get(job.id).status is Status.RUNNING
        for number in re.findall(rb"line (\d)", told):
            (tmp_path / number.decode()).touch()
    assert told == b"".join(b"line %d\n" % number for number in range(5))
    ended = client.jobs.get(job.id)
    assert (ended.status, ended.attempt) == (Status.COMPLETED, 1)


class Unit:
    """A unit of systemd, as far as it can be followed without systemd."""

    def __init__(self, name: str, instance: str = "") -> None:
        self.path = UNITS / name
        parser = RawConfigParser(strict=False, dict_type=_Gathering)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(self.path.read_text().replace("%i", instance))
        self.service = {key: value.split("\n") for key, value in parser.items("Service")}

    def __getitem__(self, name: str) -> str:
        return self.service[name][-1]

    def start(self, folder: Path, user: str | None, **more: str) -> Running:
        """Run its ExecStart, as the user, with a folder of the test for that of the unit."""
        state = f"/var/lib/{self['StateDirectory']}"
        line = self["ExecStart"].replace("/opt/dtrain/bin/dtrain", shlex.join(COMMAND))
        environment = dict(entry.split("=", 1) for entry in self.service.get("Environment", []))
        words = shlex.split(line.replace(state, str(folder)))
        if user is not None:
            words = [*_become(user), *words]
        variables = {**clean_environment(), **environment, "HOME": str(folder), **more}
        return Running(self.path.name, words, folder, variables, folder / "journal")


class _Gathering(dict[str, Any]):
    """Lets a name that comes again add a line to its value, as systemd does."""

    def __setitem__(self, key: str, value: Any) -> None:
        if isinstance(value, list) and isinstance(self.get(key), list):
            self[key].extend(value)
        else:
            super().__setitem__(key, value)


@pytest.fixture
def state() -> Iterator[Path]:
    """A folder that any user can reach, unlike those of tests."""
    folder = Path(tempfile.mkdtemp(prefix="dtrain-units-", dir="/tmp"))
    folder.chmod(0o755)
    yield folder
    end_started(os.environ[MARK])  # what still runs would write into it meanwhile
    shutil.rmtree(folder)


def _become(user: str) -> list[str]:
    """The beginning of a command line that is run as another user, without any rights."""
    return ["setpriv", f"--reuid={user}", "--clear-groups", "--inh-caps=-all", "--no-new-privs"]


def _another_user() -> str | None:
    """One without rights, where we can become it and it can run our Python; else ourselves."""
    if os.geteuid() != 0:
        return None
    words = [*_become("nobody"), sys.executable, "-c", "import sys; open(sys.executable).close()"]
    done = subprocess.run(words, cwd="/", capture_output=True, check=False)
    return "nobody" if done.returncode == 0 else None


def _owned(folder: Path, user: str | None) -> Path:
    folder.mkdir(mode=0o700)
    if user is not None:
        shutil.chown(folder, user)
    return folder


@pytest.mark.parametrize("name", ["dtrain-server.service", "dtrain-worker@.service"])
def test_units_are_what_systemd_understands(name: str, tmp_path: Path) -> None:
    unit = tmp_path / name
    unit.write_text((UNITS / name).read_text().replace("/opt/dtrain/bin/dtrain", "/bin/true"))
    done = subprocess.run(
        [require("systemd"), "verify", "--man=no", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_jobs_outlive_the_stop_of_their_worker_by_its_unit(state: Path) -> None:
    """systemd is played by us: it sends SIGTERM to the main process alone, as the unit says."""
    user = _another_user()
    port = str(free_port())
    server_unit, unit = Unit("dtrain-server.service"), Unit("dtrain-worker@.service", "room4")
    server_unit.start(
        _owned(state / "server", user), user, DTRAIN_PORT=port, WORKER_SHARED_TOKEN=WORKER_TOKEN
    )
    url = f"http://127.0.0.1:{port}"
    client = Client(url)
    home = _owned(state / "worker", user)
    variables = {"DTRAIN_SERVER_URL": url, "DTRAIN_WORKER_TOKEN": WORKER_TOKEN}
    variables["DTRAIN_ISOLATION"] = "off"  # the job looks for files of the test
    agent = unit.start(home, user, **variables)
    wait_for(lambda: "Joined" in agent.text() or not agent.alive, "the worker to join")
    assert agent.alive, agent.text()
    gate = _owned(state / "gate", user)
    gate.chmod(0o777)
    packed = zip_of(state / "job.zip", {"main.py": LINE_BY_LINE})
    job = client.submit(packed, name="lives on", env={"FOLDER": str(gate)})
    wait_for(lambda: client.jobs.get(job.id).phase == "executing", "the job to run")
    (process,) = wait_for(lambda: _programs_in(home), "the job's own process")

    assert unit["KillMode"] == "process"
    assert agent.stop(patience=float(unit["TimeoutStopSec"])) == 0

    assert process.is_running()
    agent = unit.start(home, user, **variables)
    for number in range(5):
        (gate / str(number)).touch()
    wait_for(lambda: client.jobs.get(job.id).status.final, "the job to end")
    ended = client.jobs.get(job.id)
    assert (ended.status, ended.attempt, ended.worker) == (Status.COMPLETED, 1, "room4")
    if user is not None:
        assert (home / "data" / "room4").owner() == user


def _programs_in(folder: Path) -> list[psutil.Process]:
    """The processes at work in a folder that run `main.py`; others may end while it is asked."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.cmdline()[-1:] == ["main.py"] and Path(process.cwd()).is_relative_to(folder):
                found.append(process)
    return found


def _lines() -> list[str]:
    """The lines of the document's blocks of commands."""
    blocks = re.findall(r"^```sh\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    text = "\n".join(blocks).replace("\\\n", " ")
    return [line.partition("   #")[0].strip() for line in text.splitlines() if line.strip()]


def test_commands_of_the_document_exist() -> None:
    found = [shlex.split(line.partition("dtrain/bin/dtrain ")[2]) for line in _lines()]
    commands = [words for words in found if words]
    assert {words[0] for words in commands} >= {"backup", "restore", "move-database"}
    for words in commands:
        shown = dtrain(words[0], "--help")
        assert shown.returncode == 0, words
        options = [word for word in words if word.startswith("--")]
        assert [option for option in options if option not in shown.stdout] == []


def test_files_of_the_document_are_there() -> None:
    named = re.findall(r"deploy/[\w@./-]*\w", DOCUMENT.read_text())
    assert named
    assert [name for name in named if not (ROOT / name).exists()] == []


def test_backup_and_restore_work_as_the_document_says(tmp_path: Path) -> None:
    home, backups = tmp_path / "var" / "lib" / "dtrain", tmp_path / "srv" / "backups"
    server = start_server(home)
    Client(server.url).submit(zip_of(tmp_path / "job.zip", {"main.py": "print(1)"}), name="kept")
    lines = [line for line in _lines() if re.search(r"bin/dtrain (backup|restore) ", line)]
    assert len(lines) == 2
    for line in lines:
        if " restore " in line:
            server.stop()
            home.rename(tmp_path / "lost")
        typed = line.removeprefix("sudo -u dtrain ").replace("/opt/dtrain/bin/dtrain", "dtrain")
        typed = typed.replace("/var/lib/dtrain", str(home)).replace("/srv/backups", str(backups))
        done = dtrain(*shlex.split(typed)[1:], WORKER_SHARED_TOKEN=server.token)
        assert done.returncode == 0, (line, done.stderr)
    server.output = tmp_path / "again.log"
    server.restart()
    assert [job["name"] for job in server.json("/api/jobs")["jobs"]] == ["kept"]


def test_old_jobs_are_deleted_as_the_document_says(tmp_path: Path) -> None:
    server = start_server(tmp_path / "server")
    client = Client(server.url)
    packed = zip_of(tmp_path / "job.zip", {"main.py": "print(1)"})
    jobs = [client.submit(packed, name=str(number)) for number in range(3)]
    for job in jobs[:2]:
        client.jobs.cancel(job.id)
    blocks = re.findall(r"^```python\n(.*?)^```", DOCUMENT.read_text(), re.MULTILINE | re.DOTALL)
    (script,) = [block for block in blocks if "delete" in block]
    for days, left in ((90, 3), (0, 1)):
        typed = script.replace("days=90", f"days={days}")
        env = clean_environment() | {"DTRAIN_SERVER_URL": server.url}
        subprocess.run([sys.executable, "-c", typed], env=env, check=True, timeout=PATIENCE)
        assert len(client.jobs.list().jobs) == left


def test_metrics_of_the_document_are_told(tmp_path: Path) -> None:
    server = start_server(tmp_path / "server")
    told = set(re.findall(r"^# TYPE (\w+)", server.read("/metrics").decode(), re.MULTILINE))
    told = {name for name in told if not name.endswith("_created")}
    named = set(re.findall(r"\b((?:dtrain|process)_\w+)\b", DOCUMENT.read_text()))
    assert {name for name in told if name.startswith("dtrain_")} <= named
    assert named <= told
