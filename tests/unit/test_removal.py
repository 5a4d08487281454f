from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support.requirements import require

from dtrain.worker.removal import remove_tree

UID = 12345


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user gets to and may write to."""
    require("root")
    with TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o777)
        yield path


def _removed_by_another(path: Path) -> None:
    os.setresuid(UID, UID, UID)
    remove_tree(path)


@pytest.mark.parametrize("depth", [1, 2])
def test_empty_folders_of_root_are_removed_from_a_users_own(place: Path, depth: int) -> None:
    """As an engine leaves them where a volume was mounted in a job's `/tmp`."""
    attempt = place / "attempt"
    own = attempt.joinpath(*["own"] * depth)
    own.mkdir(parents=True)
    for path in (own, *own.parents):
        if path.is_relative_to(attempt):
            os.chown(path, UID, UID)
    (own / "mounted").mkdir()
    (own / "file").touch()
    context = multiprocessing.get_context("fork")
    other = context.Process(target=_removed_by_another, args=(attempt,))
    other.start()
    other.join()
    assert other.exitcode == 0
    assert not attempt.exists()
