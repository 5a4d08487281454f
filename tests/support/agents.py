"""Real agents, as processes, with a `FakeServer` as their server."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import psutil

from .attempts import GRACE
from .fake_server import TOKEN, Attempt, FakeServer
from .processes import PATIENCE, Running, clean_environment, wait_for
from .terminal import InTerminal

CODE = """\
import sys
from pathlib import Path
from dtrain.worker.agent import main
sys.exit(main(Path(sys.argv[1])))
"""
"""A program that runs an agent in the folder that is its argument."""
_PATIENT = f"""\
from functools import partial
from dtrain.worker import agent
agent.GRACE = {GRACE}
agent.Host = partial(agent.Host, grace={GRACE})
{CODE}"""
"""Likewise; but its jobs have so much time to end that a test waits for less."""

SAYS_WHERE = "import os, sys, time\nprint(os.getpid(), flush=True)\n"
"""The beginning of a script that tells its process's number in the first line of its log."""
COUNTS_UNTIL_LET_GO = (
    "number = 0\n"
    "while not os.path.exists('go'):\n"
    "    print('line', number, flush=True)\n"
    "    number += 1\n"
    "    time.sleep(0.01)\n"
    "print('bye', number)\n"
    "open(os.environ['DTRAIN_OUTPUT_DIR'] + '/left', 'w').write('x')\n"
    "sys.exit(3)\n"
)
"""The rest of a script that imports `os`, `sys` and `time`: it counts in its log until let go."""


class RunningAgent(Running):
    """An agent without a terminal."""

    kind = "an agent"

    def restart(self) -> None:
        """Start it once more; it must have ended."""
        assert not self.alive
        self.process = self._spawn()

    def wait_for_end(self) -> int:
        """Wait until it ends by itself; its exit status."""
        return self.process.wait(PATIENCE)

    def wait_for_text(self, text: str) -> None:
        """Wait until it has said something."""
        wait_for(lambda: text in self.text(), f"the agent to say {text!r}")


def write_settings(home: Path, server: FakeServer | str, **settings: object) -> None:
    """Write a `config.json` for a worker whose jobs need no environment.

    They are not isolated unless it is asked for: tests look at their processes from outside, and
    leave files for them.
    """
    home.mkdir(exist_ok=True)
    configuration = {
        "server_url": server if isinstance(server, str) else server.url,
        "token": TOKEN,
        "worker_name": "worker-1",
        "auto_accept_jobs": True,
        "executor": "fake",
        "isolation": "off",
        **settings,
    }
    (home / "config.json").write_text(json.dumps(configuration))


def start_agent(
    home: Path,
    server: FakeServer | str,
    env: Mapping[str, str] | None = None,
    *,
    is_patient: bool = False,
    is_without_groups: bool = False,
    **settings: object,
) -> RunningAgent:
    """Start an agent; settings go into its `config.json`, `env` into its environment.

    A patient one gives its jobs longer to end than a test waits. From one without groups those of
    the machine are hidden, which takes root.
    """
    write_settings(home, server, **settings)
    name = (env or {}).get("DTRAIN_WORKER_NAME", "agent")
    command = [sys.executable, "-c", _PATIENT if is_patient else CODE, str(home)]
    if is_without_groups:
        hide = 'mount -t tmpfs none /sys/fs/cgroup && exec "$@"'
        command = ["unshare", "--mount", "sh", "-c", hide, "sh", *command]
    environment = clean_environment() | dict(env or {})
    return RunningAgent(name, command, home, environment, home / f"{name}.log")


def start_in_terminal(
    home: Path,
    server: FakeServer | str,
    *,
    columns: int = 120,
    kind: str = "xterm-256color",
    **settings: object,
) -> InTerminal:
    """Start an agent that asks its owner at a terminal, of some width and kind."""
    write_settings(home, server, **{"auto_accept_jobs": False, **settings})
    command = [sys.executable, "-c", CODE, str(home)]
    environment = clean_environment()
    return InTerminal("agent", command, home, environment, columns=columns, kind=kind)


def owner_code(home: Path, name: str = "worker-1") -> str:
    """The owner's code of a worker that has started."""
    file = home / "data" / name / "owner_code"
    wait_for(file.exists, "the owner's code")
    assert file.stat().st_mode & 0o077 == 0
    return file.read_text().strip()


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
