"""What is measured of a peer, and how a driver in the peers' own environment is asked."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.place import STAMP
from benchmarks.programs import clean_environment
from benchmarks.throughput import AT_ONCE

ROOT = Path(__file__).parent.parent.parent
ENVIRONMENT = ROOT / ".cache" / "bench-peers"
PYTHON = ENVIRONMENT / "bin" / "python"
_DRIVERS = Path(__file__).parent / "drivers"


@dataclass(frozen=True, slots=True)
class Counts:
    """How much is asked of a peer."""

    latencies: int
    """Jobs one after another."""
    jobs: int
    """Jobs in each run of many."""
    runs: int


@dataclass(frozen=True, slots=True)
class Figures:
    """What a peer has shown."""

    subject: str
    latencies: list[float]
    """Milliseconds from the submission to the first line of the job's code."""
    rates: list[float]
    """Jobs per second, two at a time."""


def has_package(name: str) -> bool:
    """Whether the peers' environment has a package."""
    return PYTHON.exists() and any(ENVIRONMENT.glob(f"lib/python*/site-packages/{name}"))


def script_in(folder: Path) -> Path:
    """The job's script."""
    script = folder / "main.py"
    script.write_text(STAMP)
    return script


def driven(driver: str, folder: Path, counts: Counts, **settings: object) -> list[Figures]:
    """Run a driver, and read the figures that it prints as JSON on its last line.

    Raises:
        RuntimeError: it has failed.
    """
    asked = {
        **asdict(counts),
        "at_once": AT_ONCE,
        "folder": str(folder),
        "script": str(script_in(folder)),
        "python": str(PYTHON),
        **settings,
    }
    done = subprocess.run(
        [PYTHON, _DRIVERS / f"{driver}.py", json.dumps(asked)],
        cwd=folder,
        env=clean_environment() | {"PATH": f"{PYTHON.parent}:{clean_environment()['PATH']}"},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    if done.returncode:
        told = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError("\n".join([told[-1] if told else "It said nothing.", *told[-30:]]))
    last = done.stdout.strip().splitlines()[-1]
    return [Figures(**figures) for figures in json.loads(last)]
