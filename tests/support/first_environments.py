"""The environment with pip that every worker makes at its first start, made once for a run."""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

from dtrain.worker.executors.base import Host
from dtrain.worker.executors.venv import VenvExecutor
from dtrain.worker.removal import remove_tree


@cache
def first_environments() -> Path:
    """A folder of environments as a worker has it that has started once."""
    folder = Path(tempfile.mkdtemp(prefix="dtrain-environments-"))
    atexit.register(remove_tree, folder)
    VenvExecutor(
        Host(
            worker_name="worker-1",
            environments=folder,
            variables=os.environ,
            python=Path(sys.executable),
            python_downloads=False,
        )
    ).start()
    shutil.rmtree(folder / "locks")
    return folder
