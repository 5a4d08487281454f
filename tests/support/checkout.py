"""A copy of the project as a fresh clone has it, with a virtual environment of its own."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
from collections.abc import Mapping
from pathlib import Path

from .api import get
from .processes import Running, clean_environment, free_port, tail, wait_for

PROJECT = Path(__file__).parents[2]
USUAL_PORT = 5000
TOKEN = "your-worker-token"


class Checkout:
    """A folder with what git knows of the project, and `.venv` in it after `make_venv`."""

    def __init__(self, root: Path, git: Path) -> None:
        self.root = root
        listed = subprocess.run(
            [git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=PROJECT,
            capture_output=True,
            check=True,
        )
        for name in filter(None, listed.stdout.decode().split("\0")):
            if (PROJECT / name).is_file():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(PROJECT / name, root / name)

    def make_venv(self) -> None:
        """Make an empty virtual environment with the interpreter of the tests."""
        subprocess.run([sys.executable, "-m", "venv", self.root / ".venv"], check=True)

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Our environment with the virtual one activated."""
        environment = clean_environment() | {"VIRTUAL_ENV": str(self.root / ".venv")}
        environment["PATH"] = f"{self.root / '.venv' / 'bin'}{os.pathsep}{environment['PATH']}"
        return environment | dict(more or {})

    def shell(
        self,
        line: str,
        folder: Path,
        env: Mapping[str, str] | None = None,
        *,
        limit: float = 60,
    ) -> subprocess.CompletedProcess[str]:
        """What a line does that a user types in a folder, within a limit of seconds."""
        return subprocess.run(
            ["bash", "-c", line],
            cwd=folder,
            env=self.environment(env),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )

    def start_server(self, folder: Path, env: Mapping[str, str] | None = None) -> str:
        """Run `python app.py` and wait until it answers; its address, at port 5000 if that is free.

        Its worker token is `TOKEN`.
        """
        more = {"WORKER_SHARED_TOKEN": TOKEN, **(env or {})}
        port = int(more.get("DTRAIN_PORT", USUAL_PORT))
        if "DTRAIN_PORT" not in more and _is_taken(USUAL_PORT):
            port = free_port()
            more["DTRAIN_PORT"] = str(port)
        server = Running("python app.py", ["python", "app.py"], folder, self.environment(more))
        url = f"http://localhost:{port}"
        wait_for(lambda: not server.alive or _answers(url), "python app.py to answer")
        assert server.alive, tail(server.output)
        return url

    def start_worker(self, folder: Path, env: Mapping[str, str] | None = None) -> Running:
        """Run `python agent.py`."""
        more = dict(env or {})
        output = folder / f"output-{more.get('DTRAIN_WORKER_NAME', 'worker')}.log"
        command = ["python", "agent.py"]
        return Running("python agent.py", command, folder, self.environment(more), output)


def write_config(folder: Path, url: str, **settings: object) -> None:
    """Write the `config.json` of a worker whose owner is not asked."""
    configuration = {
        "server_url": url,
        "token": TOKEN,
        "worker_name": "worker-1",
        "poll_interval": 10,
        "max_concurrent_jobs": 1,
        "auto_accept_jobs": True,
        **settings,
    }
    (folder / "config.json").write_text(json.dumps(configuration, indent=4))


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _answers(url: str) -> bool:
    try:
        get(f"{url}/healthz")
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False
    return True
