"""Real servers and workers as child processes, and the certainty that none outlives its test.

Every process that a test starts carries the test's mark in its environment. Jobs do not inherit
their worker's environment; they are known by their working directory, which lies in the test's
folder.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from .first_environments import first_environments
from .ledger import faults

MARK = "PYTEST_DTRAIN_MARK"
"""The variable that carries the mark of the test."""

PATIENCE = 240.0
"""Seconds within which all that a test waits for must come, on however slow a machine.

What must not come has to take longer by far, so that the two are told apart by more than speed.
"""

_TERMINAL = {"COLUMNS", "LINES"}
"""Where they are set, a program does not ask its terminal how large it is."""

_OWN_SETTINGS = {
    "SECRET_KEY",
    "DATABASE_URL",
    "WORKER_SHARED_TOKEN",
    "UPLOAD_FOLDER",
    "JOB_BUNDLES_FOLDER",
    "DEMO_ONCE",
}

T = TypeVar("T")

_OLDER = frozenset(path.name for path in Path("/proc").iterdir())
"""What ran before any test did, and is not looked at after each: the machine's, and ourselves."""
_started: list[Running] = []


class Running:
    """A child process of ours, with its output in a file."""

    kind = "a program"

    def __init__(
        self,
        title: str,
        command: list[str],
        folder: Path,
        environment: Mapping[str, str],
        output: Path | None = None,
    ) -> None:
        self.title = title
        self.output = output or folder / "output.log"
        self.command = command
        self.folder = folder
        self.environment = dict(environment)
        self.process = self._spawn()
        _started.append(self)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.output.open("ab") as output:
            return subprocess.Popen(
                self.command,
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def mark(self) -> str:
        """The mark of the test that started it, or of the run."""
        return self.environment.get(MARK, "")

    @property
    def pid(self) -> int:
        """The process that was started; it may have children."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self.process.poll() is None

    def text(self) -> str:
        """All that it printed so far, over all its starts."""
        return self.output.read_text(errors="replace")

    def stop(self, *, patience: float = PATIENCE) -> int:
        """End it with SIGTERM, as an orderly shutdown; returns the exit status."""
        if self.alive:
            self.process.terminate()
        try:
            status = self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(
                f"{self.title} did not end within {patience:g} s of SIGTERM:\n{tail(self.output)}"
            ) from None
        return status

    def kill(self) -> None:
        """End it with SIGKILL; its children are not touched."""
        if self.alive:
            self.process.kill()
            faults[f"kill -9 of {self.kind}"] += 1
        self.process.wait(PATIENCE)


class RunningServer(Running):
    """A server on a free port of the loopback interface."""

    kind = "a server"

    def __init__(self, home: Path, settings: Mapping[str, object]) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        self.port = int(str(settings.get("DTRAIN_PORT") or free_port()))
        self.token = str(settings.get("WORKER_SHARED_TOKEN") or secrets.token_urlsafe(24))
        environment = clean_environment() | {
            "DTRAIN_HOST": "127.0.0.1",
            "WORKER_SHARED_TOKEN": self.token,
            **{name: str(value) for name, value in settings.items()},
            "DTRAIN_PORT": str(self.port),
        }
        super().__init__("server", [*_dtrain(), "server", str(home)], home, environment)
        self._wait_until_healthy()

    @property
    def url(self) -> str:
        """The address for clients and workers."""
        return f"http://127.0.0.1:{self.port}"

    def kill(self) -> None:
        """End it with SIGKILL, and wait until the process that serves has died with it."""
        super().kill()
        wait_for(lambda: not _group_lives(self.pid), "the serving process to end")

    def restart(self) -> None:
        """Start it again on the same home and port; it is stopped first if it still runs."""
        if self.alive:
            self.stop()
        self.process = self._spawn()
        self._wait_until_healthy()

    def read(self, path: str) -> bytes:
        """The body that a GET of the path brings; HTTPError if it is refused."""
        with urllib.request.urlopen(self.url + path, timeout=PATIENCE) as answer:
            body: bytes = answer.read()
            return body

    def json(self, path: str) -> Any:
        """The JSON that a GET of the path brings."""
        return json.loads(self.read(path))

    def _wait_until_healthy(self) -> None:
        wait_for(lambda: not self.alive or self._healthy(), "the server to answer /healthz")
        assert self.alive, f"The server ended at once:\n{tail(self.output)}"

    def _healthy(self) -> bool:
        try:
            self.read("/healthz")
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False
        return True


class RunningWorker(Running):
    """An agent with a home folder of its own."""

    kind = "an agent"

    def __init__(
        self, home: Path, configuration: Mapping[str, object], env: Mapping[str, str] | None
    ) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self.home = home
        (home / "config.json").write_text(json.dumps(configuration, indent=4))
        environment = clean_environment() | dict(env or {})
        title = str(configuration["worker_name"])
        super().__init__(title, [*_dtrain(), "worker", str(home)], home, environment)

    def restart(self) -> None:
        """Start it again on the same home; it is stopped first if it still runs."""
        if self.alive:
            self.stop()
        self.process = self._spawn()


def start_server(home: Path, **settings: object) -> RunningServer:
    """Start a server and wait until it answers; settings go into its environment by their names."""
    return RunningServer(home, settings)


def start_worker(
    home: Path,
    server: RunningServer,
    *,
    name: str = "worker-1",
    auto_accept: bool = True,
    slots: int = 1,
    env: Mapping[str, str] | None = None,
    **settings: object,
) -> RunningWorker:
    """Start a worker of the server; further settings go into its `config.json`.

    Its jobs are not isolated unless it is asked for: tests look at their processes from outside,
    and have them write files for them. What a first start makes ready in seconds is there already.
    """
    environments = home / "data" / name / "environments"
    if not environments.exists():
        environments.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        shutil.copytree(first_environments(), environments, symlinks=True)
    configuration = {
        "server_url": server.url,
        "token": server.token,
        "worker_name": name,
        "poll_interval": 10,
        "max_concurrent_jobs": slots,
        "auto_accept_jobs": auto_accept,
        "isolation": "off",
        **settings,
    }
    return RunningWorker(home, configuration, env)


@contextmanager
def stopped(program: Running) -> Iterator[None]:
    """Have a program stand still meanwhile, as on a machine that sleeps."""
    os.killpg(program.pid, signal.SIGSTOP)
    faults[f"SIGSTOP of {program.kind}"] += 1
    try:
        yield
    finally:
        os.killpg(program.pid, signal.SIGCONT)


def wait_for(condition: Callable[[], T | None], what: str, *, patience: float = PATIENCE) -> T:
    """Ask until the answer is true, and return it; AssertionError after `patience` seconds."""
    deadline = time.monotonic() + patience
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"Waited {patience:g} s in vain for {what}.")
        time.sleep(0.05)


def free_port() -> int:
    """A port of the loopback interface that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def peak_memory(command: list[str], environment: Mapping[str, str]) -> int:
    """Run a command to its end, and tell how many bytes of memory it held at most.

    A new process counts what its parent held at that moment, so a small one starts it for us.
    """
    script = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=sys.stderr)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024)"
    )
    told = subprocess.check_output([sys.executable, "-c", script, *command], env=environment)
    return int(told)


def clean_environment() -> dict[str, str]:
    """Our environment without the settings of a server or worker that a developer may have set."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _OWN_SETTINGS | _TERMINAL and not name.startswith("DTRAIN_")
    }


def tail(path: Path, characters: int = 6000) -> str:
    """The end of a text file."""
    return path.read_text(errors="replace")[-characters:]


def outputs() -> dict[str, str]:
    """What the processes of the current test, and those of the whole run, printed last."""
    mark = os.environ.get(MARK, "")
    return {
        f"{running.title} ({running.output})": tail(running.output)
        for running in _started
        if mark.startswith(running.mark) and running.output.exists()
    }


def end_started(mark: str) -> None:
    """End the processes that were started under a mark: the youngest first, so workers first."""
    ours = [running for running in _started if running.mark == mark]
    try:
        for running in reversed(ours):
            running.stop()
    finally:
        for running in ours:
            _started.remove(running)


def left_over(mark: str, folder: Path | None = None, *, within: float = PATIENCE) -> list[str]:
    """The processes of a mark, or at work in a folder, that do not end within some seconds.

    They are killed; the answer describes them.
    """
    deadline = time.monotonic() + within
    while (found := _alive(mark, folder)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in found:
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGKILL)
    return [f"{process} {description}" for process, description in found.items()]


def _alive(mark: str, folder: Path | None) -> dict[int, str]:
    """The command lines of the processes that carry a mark or are at work in a folder."""
    found = {}
    for entry in list(os.scandir("/proc")):
        if entry.name in _OLDER or not entry.name.isdecimal():
            continue
        with suppress(OSError):
            variables = Path(entry.path, "environ").read_bytes().split(b"\0")
            place = Path(entry.path, "cwd").readlink()
            carries = any(variable.startswith(f"{MARK}={mark}".encode()) for variable in variables)
            if carries or (folder is not None and place.is_relative_to(folder)):
                command = Path(entry.path, "cmdline").read_bytes().replace(b"\0", b" ")
                found[int(entry.name)] = command.decode(errors="replace")
    return found


def _group_lives(group: int) -> bool:
    """Whether a process of a group runs; what has ended and is not yet waited for does not."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            fields = (process / "stat").read_text().rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] != "Z":
                return True
    return False


def _dtrain() -> list[str]:
    return [sys.executable, "-m", "dtrain"]
