"""Attempts that run isolated, as far as this machine allows."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import msgspec

from dtrain.worker.config import Config
from dtrain.worker.executors.base import Host, Plan
from dtrain.worker.isolation import Isolation, Means
from dtrain.worker.launcher import Running, launch
from dtrain.worker.probe import found_isolation, needed
from dtrain.worker.records import ExitRecord
from dtrain.worker.spool import AttemptFolder, WorkerFolder
from dtrain.worker.views import Views

from .attempts import GRACE, ended, new_attempt, step

MIB = 1024**2
GROW = """\
kept = []
def grow(mib):
    for _ in range(mib): kept.append(bytearray(1024**2))
"""
"""The beginning of a script that takes memory."""
MEDDLES = """\
import contextlib, ctypes, os, resource, signal
libc = ctypes.CDLL(None)
ATTACH, SEIZE = 16, 0x4206
done = [way for way in (ATTACH, SEIZE) if libc.ptrace(way, 1, 0, 0) == 0]
for name in ("mem", "environ", "maps", "io", "syscall", "auxv"):
    with contextlib.suppress(OSError):
        open(f"/proc/1/{name}", "rb").read(1)
        done.append(name)
for name in ("fd", "map_files"):
    with contextlib.suppress(OSError):
        os.listdir(f"/proc/1/{name}")
        done.append(name)
for name in ("exe", "cwd", "root", "ns/mnt", "fd/0"):
    with contextlib.suppress(OSError):
        os.readlink(f"/proc/1/{name}")
        done.append(name)
for name in ("oom_score_adj", "comm", "coredump_filter"):
    with contextlib.suppress(OSError):
        os.close(os.open(f"/proc/1/{name}", os.O_WRONLY))
        done.append(name)
byte = ctypes.create_string_buffer(1)
to = (ctypes.c_size_t * 2)(ctypes.addressof(byte), 1)
of = (ctypes.c_size_t * 2)(id(os), 1)
if libc.process_vm_readv(1, to, 1, of, 1, 0) >= 0: done.append("memory")
with contextlib.suppress(OSError):
    resource.prlimit(1, resource.RLIMIT_CPU, resource.getrlimit(resource.RLIMIT_CPU))
    done.append("limits")
for number in signal.valid_signals():
    with contextlib.suppress(OSError):
        os.kill(1, number)
print("init lives, and it had done to it", done)
"""
"""Tries what a process could do with another one of its user, on its init; says what succeeded."""


def isolated(worker: WorkerFolder, host: Host) -> Isolation:
    """The isolation of a worker that is root, without limits."""
    views = Views(worker, worker.path / "config.json", host.variables, needed(host), [])
    means = Means(uids=Config().uids, namespaces=True)
    return Isolation(worker, means, views, memory=None, cpus=None, pids=4096)


def not_isolated(worker: WorkerFolder) -> Isolation:
    """The isolation of a worker that does without."""
    views = Views(worker, worker.path / "config.json", {}, [], [])
    means = Means(confines=False)
    return Isolation(worker, means, views, memory=None, cpus=None, pids=4096)


class Lab:
    """A worker whose jobs run isolated.

    Args:
        home: of the worker.
        settings: other than usual.
    """

    def __init__(self, home: Path, **settings: object) -> None:
        home.mkdir(exist_ok=True)
        self.settings = home / "config.json"
        self.settings.write_text(json.dumps({"token": "the worker's secret"}))
        config = msgspec.convert({"worker_name": "lab", **settings}, Config)
        self.worker = WorkerFolder(config.folder(home))
        self.host = Host(
            worker_name="lab",
            environments=self.worker.environments,
            variables=os.environ,
            python=Path(sys.executable),
        )
        self.isolation: Isolation = found_isolation(config, self.worker, self.settings, self.host)

    def start(
        self,
        code: str,
        *,
        patience: float = 60.0,
        env: dict[str, str] | None = None,
        argv: list[str] | None = None,
        **spec: object,
    ) -> Running:
        """Start a script, or another program, with its variables."""
        folder = new_attempt(self.worker, None, **spec)
        given = {"env": env, "argv": argv}
        fields = {name: value for name, value in given.items() if value is not None}
        main = step(folder, "main", code, **fields)
        plan = Plan(steps=[main], grace=GRACE, patience=patience)
        return launch(folder, self.isolation.enclosed(folder, plan))

    def run(
        self,
        code: str,
        *,
        env: dict[str, str] | None = None,
        argv: list[str] | None = None,
        **spec: object,
    ) -> tuple[ExitRecord, str]:
        """Run a script, or another program, to its end; how it ended, and its log."""
        running = self.start(code, patience=60.0, env=env, argv=argv, **spec)
        record = ended(running)
        return record, running.folder.log.read_text()

    def group(self, folder: AttemptFolder, controller: str) -> Path:
        """The control group of an attempt."""
        return Path(folder.group[controller])
