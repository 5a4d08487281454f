from __future__ import annotations

import subprocess
from pathlib import Path

from support.requirements import require

from dtrain.worker.spool import WorkerFolder


def lies_apart(folder: Path) -> bool:
    """Whether the disk is asked to have what is in a folder lie apart."""
    said = subprocess.run(["lsattr", "-d", folder], capture_output=True, text=True, check=False)
    return "T" in said.stdout.partition(" ")[0]


def test_attempts_lie_apart_where_the_disk_can_be_asked_for_that(tmp_path: Path) -> None:
    require("ext4")  # brings both programs
    asked = subprocess.run(["chattr", "+T", tmp_path], capture_output=True, check=False)
    worker = tmp_path / "worker"
    WorkerFolder(worker)
    assert lies_apart(worker / "attempts") == (asked.returncode == 0)
    assert not lies_apart(worker / "environments")
    WorkerFolder(worker)
    assert lies_apart(worker / "attempts") == (asked.returncode == 0)
