from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dtrain.protocol.checkpoints import objection
from dtrain.worker import snapshot
from dtrain.worker.snapshot import Changing, Snapshots


def nothing() -> None:
    """Break nothing off."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "checkpoints"
    made.mkdir()
    return made


def snapshots(folder: Path, check: Callable[[], None] = nothing) -> Snapshots:
    return Snapshots(folder, folder.with_name("snapshot"), check)


def replace(path: Path, content: bytes) -> None:
    """Write a file as a good job does."""
    unfinished = path.with_name(f"{path.name}.tmp")
    unfinished.write_bytes(content)
    unfinished.rename(path)


def test_files_are_described_with_their_modes_by_path(folder: Path) -> None:
    (folder / "b").write_bytes(b"bb")
    (folder / "a").mkdir()
    (folder / "a" / "run.sh").write_bytes(b"#!")
    (folder / "a" / "run.sh").chmod(0o4750)
    (folder / "b").chmod(0o640)

    taken = snapshots(folder)
    found = taken.take(taken.look())

    assert [(file.path, file.size, file.mode) for file in found] == [
        ("a/run.sh", 2, 0o750),
        ("b", 2, 0o640),
    ]
    assert found[1].sha256 == hashlib.sha256(b"bb").hexdigest()


def test_snapshot_stays_as_it_was_when_a_file_is_replaced(folder: Path) -> None:
    replace(folder / "state", b"old")
    taken = snapshots(folder)
    (file,) = taken.take(taken.look())

    replace(folder / "state", b"something new")

    with taken.open("state") as content:
        assert content.read() == b"old"
    (newer,) = taken.take(taken.look())
    assert (file.size, newer.size) == (3, 13)
    taken.clear()
    assert not folder.with_name("snapshot").exists()


def test_file_that_is_replaced_between_look_and_snapshot_is_seen(folder: Path) -> None:
    replace(folder / "state", b"old")
    taken = snapshots(folder)
    seen = taken.look()
    replace(folder / "state", b"new")
    with pytest.raises(Changing):
        taken.take(seen)
    (folder / "state").unlink()
    with pytest.raises(Changing):
        taken.take(seen)


def test_file_that_came_after_the_look_is_not_left_out(folder: Path) -> None:
    replace(folder / "one", b"1")
    taken = snapshots(folder)
    seen = taken.look()
    replace(folder / "two", b"2")
    with pytest.raises(Changing):
        taken.take(seen)


def test_file_that_is_open_for_writing_is_waited_for(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = snapshots(folder)
    with (folder / "state").open("wb", buffering=0) as writer:
        writer.write(b"half")
        with pytest.raises(Changing, match="open for writing"):
            taken.take(taken.look())
        assert taken.take(taken.look(), is_over=True)
        monkeypatch.setattr(snapshot, "STILL", 0)
        assert taken.take(taken.look())
        monkeypatch.undo()
        writer.write(b" and half")
    with (folder / "state").open("rb"):
        (file,) = taken.take(taken.look())
    assert file.size == 13


def test_file_that_is_written_to_while_it_is_read_is_seen(folder: Path) -> None:
    state = folder / "state"
    state.write_bytes(b"x" * 10)

    def write_on() -> None:
        with state.open("r+b") as file:
            file.write(b"y")

    taken = snapshots(folder, write_on)
    with pytest.raises(Changing, match="while it was read"):
        taken.take(taken.look())


def test_content_that_grows_is_read_as_far_as_it_was(folder: Path) -> None:
    state = folder / "state"
    state.write_bytes(b"as it was")
    taken = snapshots(folder)
    taken.take(taken.look())
    with taken.open("state") as content, state.open("ab") as file:
        file.write(b", and more")
        file.flush()
        assert content.read() == b"as it was"
        assert content.read(5) == b""
        content.seek(3)
        assert content.read(2) == b"it"


def test_what_an_enemy_leaves_is_passed_over(folder: Path) -> None:
    (folder / "good").write_bytes(b"good")
    (folder / "passwd").symlink_to("/etc/passwd")
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "fifo")
    (folder / "line\nbreak").write_bytes(b"x")
    Path(os.fsdecode(bytes(folder) + b"/\xff\xfe")).write_bytes(b"x")
    (folder / "/".join(["d"] * 60)).mkdir(parents=True)

    taken = snapshots(folder)
    found = taken.take(taken.look())

    assert [file.path for file in found] == ["good"]
    assert len(taken.left_out) == 6


def test_look_and_snapshot_take_ten_thousand_files(folder: Path) -> None:
    for number in range(10_000):
        (folder / str(number)).write_bytes(b"%d" % (number % 100))
    taken = snapshots(folder)
    found = taken.take(taken.look())
    assert len(found) == 10_000
    assert len({file.sha256 for file in found}) == 100


@pytest.mark.parametrize(
    "paths",
    [
        ["/etc/passwd"],
        ["../up"],
        ["a/../b"],
        ["a//b"],
        ["a/"],
        ["."],
        [""],
        ["line\nbreak"],
        ["nul\0"],
        ["lone\ud800"],
        ["x" * 256],
        ["/".join(["d"] * 52)],
        ["a", "a"],
        ["a", "a/b"],
        ["a/b/c", "a/b"],
    ],
)
def test_paths_that_cannot_lie_in_one_folder_are_refused(paths: list[str]) -> None:
    assert objection(paths) is not None


def test_ordinary_paths_are_taken() -> None:
    assert objection(["a", "b/a", "b/ä b.pt", "..a", "b/c/back\\slash", "d" * 255]) is None
