"""Real agents, as processes, with a `FakeServer` as their server."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from .fake_server import TOKEN, Attempt, FakeServer
from .processes import Running, clean_environment, wait_for
from .terminal import InTerminal

CODE = """\
import sys
from pathlib import Path
from dtrain.worker.agent import main
sys.exit(main(Path(sys.argv[1])))
"""
"""A program that runs an agent in the folder that is its argument."""

SAYS_WHERE = "import os, sys, time\nprint(os.getpid(), flush=True)\n"
"""The beginning of a script that tells its process's number in the first line of its log."""


class RunningAgent(Running):
    """An agent without a terminal."""

    def restart(self) -> None:
        """Start it once more; it must have ended."""
        assert not self.alive
        self.process = self._spawn()

    def wait_for_end(self, timeout: float = 20) -> int:
        """Wait until it ends by itself; its exit status."""
        return self.process.wait(timeout)

    def wait_for_text(self, text: str, timeout: float = 20) -> None:
        """Wait until it has said something."""
        wait_for(lambda: text in self.text(), timeout, f"the agent to say {text!r}")


def write_settings(home: Path, server: FakeServer | str, **settings: object) -> None:
    """Write a `config.json` for a worker whose jobs need no environment."""
    home.mkdir(exist_ok=True)
    configuration = {
        "server_url": server if isinstance(server, str) else server.url,
        "token": TOKEN,
        "worker_name": "worker-1",
        "auto_accept_jobs": True,
        "executor": "fake",
        **settings,
    }
    (home / "config.json").write_text(json.dumps(configuration))


def start_agent(
    home: Path,
    server: FakeServer | str,
    env: Mapping[str, str] | None = None,
    **settings: object,
) -> RunningAgent:
    """Start an agent; settings go into its `config.json`, `env` into its environment."""
    write_settings(home, server, **settings)
    name = (env or {}).get("DTRAIN_WORKER_NAME", "agent")
    command = [sys.executable, "-c", CODE, str(home)]
    environment = clean_environment() | dict(env or {})
    return RunningAgent(name, command, home, environment, home / f"{name}.log")


def start_in_terminal(home: Path, server: FakeServer, **settings: object) -> InTerminal:
    """Start an agent that asks its owner at a terminal."""
    write_settings(home, server, auto_accept_jobs=False, **settings)
    command = [sys.executable, "-c", CODE, str(home)]
    return InTerminal("agent", command, home, clean_environment())


def job_process(server: FakeServer, attempt: Attempt) -> psutil.Process:
    """The process of a job whose script begins with `SAYS_WHERE`."""
    server.wait(lambda: b"\n" in attempt.log, "the job to say where it is")
    return psutil.Process(int(attempt.log.split(b"\n")[0]))


def has_ended(process: psutil.Process) -> bool:
    """Whether a process, which need not be ours, has ended."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def attempt_folders(home: Path, name: str = "worker-1") -> list[Path]:
    """The folders of the attempts that a worker keeps."""
    return list((home / "data" / name / "attempts").iterdir())
