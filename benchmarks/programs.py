"""Real programs as child processes: what they are started in, what they cost, how they end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self, TypeVar

import psutil

_OURS = {"SECRET_KEY", "DATABASE_URL", "WORKER_SHARED_TOKEN", "UPLOAD_FOLDER"}
_TESTERS = {"PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED", "JOB_BUNDLES_FOLDER", "COLUMNS", "LINES"}
"""What changes how fast a Python starts, and what a developer may have set; nothing that is
measured gets it."""

T = TypeVar("T")


class Program:
    """A child process with a session of its own; its output is in a file."""

    def __init__(
        self,
        command: Sequence[str | Path],
        folder: Path,
        environment: Mapping[str, str] | None = None,
        *,
        title: str = "program",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.title = title
        self.output = folder / f"{title}.log"
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                list(command),
                cwd=folder,
                env=clean_environment() if environment is None else dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def text(self) -> str:
        """What it printed."""
        return self.output.read_text(errors="replace")

    def stop(self, seconds: float = 60) -> None:
        """End it, by force where it does not follow; what it leaves in its session goes too."""
        if self.process.poll() is None:
            self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def tree(self) -> list[psutil.Process]:
        """The process and all below it."""
        root = psutil.Process(self.process.pid)
        return [root, *root.children(recursive=True)]

    def memory(self) -> int:
        """Bytes of memory of the whole tree; what several share is counted once (PSS)."""
        total = 0
        for process in self.tree():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                total += process.memory_full_info().pss
        return total

    def cpu_seconds(self) -> float:
        """Seconds of processor that the processes of the tree have used."""
        total = 0.0
        for process in self.tree():
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
        return total


class MemoryWatch:
    """Samples the memory of programs in the background, in bytes of the program and its tree."""

    def __init__(self, programs: Sequence[Program], pause: float = 0.5) -> None:
        self._programs = programs
        self._pause = pause
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.before = [program.memory() for program in programs]
        self.peak = list(self.before)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(self._pause):
            for place, program in enumerate(self._programs):
                with suppress(psutil.NoSuchProcess):
                    self.peak[place] = max(self.peak[place], program.memory())


def clean_environment() -> dict[str, str]:
    """Our environment, without what would change the programs that are measured."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in _OURS | _TESTERS and not name.startswith("DTRAIN_")
    }


def wait_for(
    condition: Callable[[], T | None], seconds: float, what: str, *, pause: float = 0.02
) -> T:
    """Ask until the answer is true, with a pause in seconds between, and return it.

    Raises:
        TimeoutError: it has not become true in time.
    """
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        if time.monotonic() > deadline:
            raise TimeoutError(f"Waited {seconds:g} s in vain for {what}.")
        time.sleep(pause)
    return answer


def free_port() -> int:
    """A port of the loopback interface that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def milliseconds(work: Callable[[], object]) -> float:
    """How long the work takes."""
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) * 1000
