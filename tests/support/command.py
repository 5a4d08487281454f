"""The command line `dtrain`, run as a person or a script would."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from .processes import PATIENCE, clean_environment

COMMAND = [sys.executable, "-m", "dtrain"]


def dtrain(
    *arguments: object,
    url: str | None = None,
    folder: Path | None = None,
    stdin: str = "",
    **env: str,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; its output as text."""
    done = dtrain_bytes(*arguments, url=url, folder=folder, stdin=stdin, **env)
    return subprocess.CompletedProcess(
        done.args,
        done.returncode,
        done.stdout.decode(errors="replace"),
        done.stderr.decode(errors="replace"),
    )


def dtrain_bytes(
    *arguments: object,
    url: str | None = None,
    folder: Path | None = None,
    stdin: str = "",
    **env: str,
) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end; its output as it is."""
    return subprocess.run(
        [*COMMAND, *map(str, arguments)],
        cwd=folder,
        env=environment(url, **env),
        input=stdin.encode(),
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )


def environment(url: str | None = None, **env: str) -> dict[str, str]:
    """What the command finds in its environment; it is logged in nowhere."""
    named = {} if url is None else {"DTRAIN_SERVER_URL": url}
    return {**clean_environment(), "XDG_CONFIG_HOME": "/nowhere", **named, **env}
