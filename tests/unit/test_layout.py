"""What a job leaves is made durable, whatever it left."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dtrain.worker import layout
from dtrain.worker.removal import remove_tree


def test_nothing_that_a_job_leaves_holds_up_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forced: list[str] = []

    def force(descriptor: int) -> None:
        forced.append(str(Path(f"/proc/self/fd/{descriptor}").readlink()))

    monkeypatch.setattr(os, "fsync", force)
    monkeypatch.chdir(tmp_path)
    for _ in range(1200):  # deeper than recursion goes, and longer than a path may be
        os.mkdir("deeper")  # noqa: PTH102 -- relative to where one stands
        os.chdir("deeper")
    os.chdir(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"weights")
    (tmp_path / "elsewhere").symlink_to("/etc/passwd")
    (tmp_path / "round").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    layout.sync_tree(str(tmp_path))
    assert forced.count(str(tmp_path / "model.pt")) == forced.count(str(tmp_path)) == 1
    assert not [path for path in forced if path.endswith(("passwd", "pipe"))]
    layout.sync_tree(str(tmp_path / "nothing"))
    remove_tree(tmp_path / "deeper")  # pytest cannot
