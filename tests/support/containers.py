"""A container engine of the tests' own, and the base image for it, made without a registry.

One Docker engine serves all processes of a run: the first that needs it starts it, the last one
ends it. Its images stay in `.cache`, so that only the first run makes them: `python -m
support.containers` does before the tests, since it takes longer than a test may.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dtrain.protocol.errors import DTrainError
from dtrain.worker.engine import Engine

from .checks import ROOT
from .processes import MARK, PATIENCE, clean_environment, tail, wait_for
from .requirements import PARTS, require

IMAGES = ("python:3.9-slim", "python:3.11-slim")
"""What the base image is called; the registry's are not needed."""

DOCKERFILE = """\
FROM python:3.9-slim

WORKDIR /app
COPY requirements.txt .
RUN pip install -r requirements.txt

COPY . .
CMD ["python", "main.py"]
"""
"""As the manual has it."""

_PACKAGES = "python3,python3-pip,python-is-python3"

_LEFT_OUT = ("/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/man/*")
"""What it is smaller without."""
_CACHE = ROOT / ".cache" / "docker"
_ARCHIVE = _CACHE / "base.tar"
_STARTS = 3
_BUILT = json.dumps({"label": ["dtrain.worker"]})


class TestEngine:
    """A Docker engine, which can be killed.

    Args:
        folder: for its sockets and its process; a short path.
        data: for its images and containers.
        options: further ones of `dockerd`.
    """

    __test__ = False

    def __init__(self, folder: Path, data: Path, *options: str) -> None:
        self.socket = str(folder / "docker.sock")
        self.engine = Engine(self.socket)
        self._folder = folder
        self._data = data
        self._log = folder / "output.log"
        number = int(hashlib.sha256(self.socket.encode()).hexdigest()[:4], 16)
        self._bridge = f"dtrain-{number}"
        """Its network, which leads nowhere: BuildKit will have one."""
        self._address = f"10.{200 + number % 50}.{number // 256}.1/24"
        self._options = [
            *("--host", f"unix://{self.socket}", "--data-root", str(data)),
            *("--exec-root", str(folder / "run"), "--pidfile", str(folder / "pid")),
            *("--bridge", self._bridge, "--iptables=false", "--ip6tables=false"),
            *("--ip-forward=false", "--ip-masq=false", *options),
        ]

    @property
    def pid(self) -> int | None:
        """The process of the engine; None if it does not run."""
        with suppress(OSError, ValueError):
            pid = int((self._folder / "pid").read_text())
            if b"dockerd" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        return None

    def start(self, *options: str) -> None:
        """Start it, with further options, and wait until it answers."""
        if not Path(f"/sys/class/net/{self._bridge}").exists():
            _run("ip", "link", "add", "name", self._bridge, "type", "bridge")
            _run("ip", "address", "add", self._address, "dev", self._bridge)
        for _ in range(_STARTS):
            self._start(*options)
            # It gives up by itself where its own parts are slow to come, as on a busy machine.
            with suppress(AssertionError):
                wait_for(lambda: self.answers() or self._has_ended(), "an answer")
            if self.answers():
                return
            self.end(signal.SIGKILL)
        raise AssertionError(f"The container engine does not start.\n{tail(self._log)}")

    def _start(self, *options: str) -> None:
        (self._folder / "pid").unlink(missing_ok=True)
        environment = {**clean_environment(), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        environment.pop(MARK, None)
        with self._log.open("ab") as log:
            # Not as a child of this process: others of the run use it as well.
            subprocess.run(
                ["setsid", "--fork", "dockerd", *self._options, *options],
                cwd="/",
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
            )
        wait_for((self._folder / "pid").exists, "the engine to begin")

    def _has_ended(self) -> bool:
        return self.pid is None

    def answers(self) -> bool:
        """Whether it runs."""
        try:
            self.engine.check()
        except DTrainError:
            return False
        return True

    def end(self, number: int = signal.SIGTERM) -> None:
        """End it, in order or not."""
        pid = self.pid
        if pid is not None:
            os.kill(pid, number)
            wait_for(lambda: not Path(f"/proc/{pid}").exists(), "the engine to end")

    def close(self) -> None:
        """End it, and remove its network and what jobs have built."""
        for image in self.engine.call("GET", "/images/json", query={"filters": _BUILT}):
            with suppress(DTrainError):
                self.engine.call("DELETE", f"/images/{image['Id']}", query={"force": 1})
        self.end()
        _run("ip", "link", "delete", self._bridge)
        for mount in reversed(_mounts_in(self._data)):
            _run("umount", mount)

    def add_base(self, base: Path) -> None:
        """Have the base image under its names, if it does not have them yet."""
        if self.engine.image(IMAGES[0]) is None:
            with base.open("rb") as archive:
                name, tag = IMAGES[0].split(":")
                query = {"fromSrc": "-", "repo": name, "tag": tag, "changes": 'CMD ["python3"]'}
                with self.engine.open(
                    "POST", "/images/create", archive, timeout=None, query=query
                ) as answer:
                    answer.read()
        for image in IMAGES[1:]:
            name, tag = image.split(":")
            path = f"/images/{IMAGES[0]}/tag"
            self.engine.call("POST", path, query={"repo": name, "tag": tag})


@contextmanager
def running_engine() -> Iterator[TestEngine]:
    """The engine of the run, with the base image."""
    require("root")
    require("docker")
    require("iproute2")
    folder = _short_folder("engine")
    engine = TestEngine(folder, _CACHE / "data")
    with (folder / "users").open("w") as users:
        with _alone(folder):
            fcntl.flock(users, fcntl.LOCK_SH)
            if not engine.answers():
                engine.start()
            engine.add_base(base_image())
        yield engine
        with _alone(folder):
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return
            engine.close()


@contextmanager
def private_engine(data: Path) -> Iterator[TestEngine]:
    """An engine that a test may kill, with the base image."""
    folder = _short_folder(f"private-{os.getpid()}")
    engine = TestEngine(folder, data)
    try:
        engine.start()
        engine.add_base(base_image())
        yield engine
    finally:
        if not engine.answers():
            engine.start()  # to end what it has left
        for found in engine.engine.call("GET", "/containers/json", query={"all": 1}):
            engine.engine.remove(found["Id"])
        engine.close()
        shutil.rmtree(folder, ignore_errors=True)


def base_image() -> Path:
    """The archive of a small Debian with Python, made where it is not yet."""
    if not _ARCHIVE.exists():
        _CACHE.mkdir(parents=True, exist_ok=True)
        new = _ARCHIVE.with_suffix(".new")
        _run(
            *("mmdebstrap", "--variant=minbase", f"--include={_PACKAGES}", "--skip=output/dev"),
            *(f"--dpkgopt=path-exclude={path}" for path in _LEFT_OUT),
            # What keeps pip from installing where Python's own images let it.
            "--customize-hook=rm $1/usr/lib/python3.*/EXTERNALLY-MANAGED",
            *("--format=tar", "bookworm", str(new)),
        )
        new.rename(_ARCHIVE)
    return _ARCHIVE


def _mounts_in(folder: Path) -> list[str]:
    """What is mounted on a folder and in it, in the order of mounting.

    An engine mounts its data on itself at each start, and one that is killed leaves the root file
    system of what it was building.
    """
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    places = [mount.split()[4] for mount in mounts]
    return [place for place in places if Path(place).is_relative_to(folder.resolve())]


def _run(*command: str) -> None:
    environment = {**os.environ, "PATH": f"/usr/sbin:/sbin:{os.environ['PATH']}"}
    done = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-3000:]


def _short_folder(name: str) -> Path:
    """A folder whose path is short enough for the sockets in it."""
    key = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
    folder = Path("/tmp") / f"dtrain-{key}-{name}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def left_containers(engine: Engine, key: str, within: float = PATIENCE) -> list[str]:
    """The containers of a worker that are not gone within some seconds; they are removed."""
    deadline = time.monotonic() + within
    labels = {"dtrain.worker": key}
    while (found := engine.containers(labels)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for one in found:
        engine.remove(one["Id"])
    return [str(one["Names"]) for one in found]


if __name__ == "__main__":
    if PARTS["root"].find() and PARTS["docker"].find() and not _ARCHIVE.exists():
        print("Making a small Debian with Python, for the tests of containers (a minute) …")  # noqa: T201 (its purpose)
        base_image()
