"""Making a bundle of a folder."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dtrain.protocol.bundle import PackSummary, Skipped, extract, inspect, pack
from dtrain.protocol.errors import Invalid, Refused
from dtrain.protocol.packing import IGNORE_FILES, NEVER_PACKED


def written(folder: Path, files: dict[str, str | bytes]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


def packed(folder: Path, **options: list[str]) -> tuple[PackSummary, zipfile.ZipFile]:
    file = io.BytesIO()
    summary = pack(folder, file, **options)
    return summary, zipfile.ZipFile(file)


def names(folder: Path, **options: list[str]) -> list[str]:
    return packed(folder, **options)[1].namelist()


def test_pack_holds_the_folder_s_content_at_the_top(tmp_path: Path) -> None:
    files = {"main.py": "print()", "data/x.csv": "1,2", "été/日本.txt": "é", "empty.txt": ""}
    summary, archive = packed(written(tmp_path / "job", files))
    assert {name: archive.read(name).decode() for name in archive.namelist()} == files
    assert (summary.files, summary.bytes, summary.skipped) == (4, 12, [])


def test_what_pack_makes_is_accepted_and_unpacked_alike(tmp_path: Path) -> None:
    files = {"main.py": b"print()" * 99, "a/b/c.bin": os.urandom(3_000_000), "w.pt": bytes(9)}
    job = written(tmp_path / "job", files)
    (job / "main.py").chmod(0o700)
    (job / "models").mkdir()
    with (tmp_path / "job.zip").open("wb") as file:
        pack(job, file)
    assert len(inspect(tmp_path / "job.zip").files) == 3
    (tmp_path / "into").mkdir()
    extract(tmp_path / "job.zip", tmp_path / "into")
    assert {name: (tmp_path / "into" / name).read_bytes() for name in files} == files
    assert os.access(tmp_path / "into/main.py", os.X_OK)
    assert (tmp_path / "into/w.pt").stat().st_mode & 0o777 == 0o644
    assert (tmp_path / "into/models").is_dir()


def test_the_same_content_gives_the_same_bytes(tmp_path: Path) -> None:
    digests = set()
    for name, order in (("one", "abc"), ("two", "cba")):
        job = written(tmp_path / name, {f"{letter}/{letter}.py": letter for letter in order})
        (job / "a/a.py").chmod(0o600 if name == "one" else 0o644)
        os.utime(job / "b/b.py", (len(name) * 10**8, 10**9 if name == "one" else 10**8))
        file = io.BytesIO()
        pack(job, file)
        digests.add(hashlib.sha256(file.getvalue()).hexdigest())
    assert len(digests) == 1


def test_pack_writes_to_what_cannot_seek(tmp_path: Path) -> None:
    job = written(tmp_path / "job", {"main.py": "x" * 1000, "data/x": "y"})
    read, write = os.pipe()
    with os.fdopen(read, "rb") as ours, os.fdopen(write, "wb") as theirs:
        pack(job, theirs)
        theirs.close()
        (tmp_path / "job.zip").write_bytes(ours.read())
    assert inspect(tmp_path / "job.zip").expanded == 1001


def test_pack_does_not_deflate_what_is_compressed_already(tmp_path: Path) -> None:
    job = written(tmp_path / "job", {"a.PNG": "x" * 99, "b.tar.gz": "x" * 99, "c.py": "x" * 99})
    kinds = {entry.filename: entry.compress_type for entry in packed(job)[1].infolist()}
    stored, deflated = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
    assert kinds == {"a.PNG": stored, "b.tar.gz": stored, "c.py": deflated}


def test_pack_makes_no_bomb_of_a_file_of_zeros(tmp_path: Path) -> None:
    job = written(tmp_path / "job", {"main.py": "", "zeros.bin": bytes(5_000_000)})
    with (tmp_path / "job.zip").open("wb") as file:
        pack(job, file)
    assert inspect(tmp_path / "job.zip").expanded == 5_000_000
    assert (tmp_path / "job.zip").stat().st_size > 5_000_000


def test_pack_names_the_largest_files(tmp_path: Path) -> None:
    job = written(tmp_path / "job", {f"{size}.bin": bytes(size) for size in range(20)})
    summary = packed(job)[0]
    assert summary.largest[:2] == [("19.bin", 19), ("18.bin", 18)]
    assert len(summary.largest) == 10


def test_pack_leaves_out_what_never_belongs_in_a_bundle(tmp_path: Path) -> None:
    job = written(
        tmp_path / "job",
        {
            "main.py": "",
            ".git/config": "secret",
            "a/.git": "gitdir: elsewhere",
            "a/__pycache__/x.pyc": "",
            ".venv/bin/python": "",
            "env/pyvenv.cfg": "",
            "env/bin/python": "",
            "ui/node_modules/x.js": "",
            "data/.DS_Store": "",
            ".gitignore": "!.git\n!*\n",
        },
    )
    summary, archive = packed(job)
    assert archive.namelist() == ["a/", "data/", "ui/", ".gitignore", "main.py"]
    assert {(skipped.path, skipped.why) for skipped in summary.skipped} == {
        (".git/", "never packed"),
        ("a/.git", "never packed"),
        ("a/__pycache__/", "never packed"),
        (".venv/", "never packed"),
        ("env/", "a virtual environment"),
        ("ui/node_modules/", "never packed"),
        ("data/.DS_Store", "never packed"),
    }


def test_pack_honours_gitignore_files_at_every_level(tmp_path: Path) -> None:
    job = written(
        tmp_path / "job",
        {
            ".gitignore": "*.log\r\n/data/\n!keep.log\n",
            "main.py": "",
            "x.log": "",
            "keep.log": "",
            "data/x": "",
            "sub/data/x": "",
            "sub/.gitignore": "\ufeffkeep.log\n!y.log\n",
            "sub/keep.log": "",
            "sub/y.log": "",
            ".pytest_cache/.gitignore": "*\n",
            ".pytest_cache/v/x": "",
        },
    )
    summary, archive = packed(job)
    assert archive.namelist() == [
        ".pytest_cache/",
        ".gitignore",
        "keep.log",
        "main.py",
        "sub/.gitignore",
        "sub/data/x",
        "sub/y.log",
    ]
    assert Skipped("data/", "ignored") in summary.skipped


def test_a_dtrainignore_takes_the_place_of_gitignore_files(tmp_path: Path) -> None:
    files = {".gitignore": "data/\n", ".dtrainignore": "*.tmp\n", "data/x": "", "y.tmp": ""}
    job = written(tmp_path / "job", {**files, "sub/.gitignore": "*", "sub/z": ""})
    assert names(job) == [".dtrainignore", ".gitignore", "data/x", "sub/.gitignore", "sub/z"]


def test_more_patterns_have_the_last_word(tmp_path: Path) -> None:
    job = written(tmp_path / "job", {".gitignore": "a\n", "a": "", "b": "", "c/b": "", "c/d": ""})
    assert names(job, ignore=["!a", "b", "# c", ""]) == [".gitignore", "a", "c/d"]


def test_a_link_to_a_file_inside_becomes_that_file(tmp_path: Path) -> None:
    job = written(tmp_path / "job", {"data/v1.csv": "1"})
    (job / "latest.csv").symlink_to("data/v1.csv")
    (job / "absolute.csv").symlink_to(job / "data/v1.csv")
    (job / "twice.csv").symlink_to("latest.csv")
    archive = packed(job)[1]
    assert {name: archive.read(name) for name in archive.namelist()} == dict.fromkeys(
        ["absolute.csv", "data/v1.csv", "latest.csv", "twice.csv"], b"1"
    )


def test_other_links_are_left_out_and_named(tmp_path: Path) -> None:
    secret = written(tmp_path, {"secret.txt": "s"}) / "secret.txt"
    job = written(tmp_path / "job", {"main.py": "", "data/x": ""})
    (job / "outside").symlink_to(secret)
    (job / "device").symlink_to("/dev/zero")
    (job / "folder").symlink_to("data")
    (job / "data/up").symlink_to("..")
    (job / "loop").symlink_to("loop")
    (job / "gone").symlink_to("nowhere")
    (job / "under").symlink_to("main.py/x")
    summary, archive = packed(job)
    assert archive.namelist() == ["data/x", "main.py"]
    assert {skipped.path: skipped.why for skipped in summary.skipped} == {
        "outside": "a link that leads out of the folder",
        "device": "a link that leads out of the folder",
        "folder": "a link to something else than a file",
        "data/up": "a link to something else than a file",
        "loop": "a link to nothing",
        "gone": "a link to nothing",
        "under": "a link to nothing",
    }


def test_pack_takes_a_folder_by_a_link(tmp_path: Path) -> None:
    written(tmp_path / "job", {"main.py": "", "x": ""})
    (tmp_path / "job/y").symlink_to("x")
    (tmp_path / "link").symlink_to("job")
    assert names(tmp_path / "link") == ["main.py", "x", "y"]


def test_pipes_and_sockets_are_left_out_without_waiting(tmp_path: Path) -> None:
    job = written(tmp_path / "job", {"main.py": ""})
    os.mkfifo(job / "pipe")
    (job / "to_pipe").symlink_to("pipe")
    here = Path.cwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(job)
        try:
            server.bind("socket")
        finally:
            os.chdir(here)
        summary, archive = packed(job)
    assert archive.namelist() == ["main.py"]
    assert [skipped.path for skipped in summary.skipped] == ["pipe", "socket", "to_pipe"]


@pytest.mark.parametrize("files", [{}, {".git/config": ""}, {"a/b/__pycache__/x": ""}])
def test_a_folder_without_a_file_to_pack_is_refused(tmp_path: Path, files: dict[str, str]) -> None:
    job = written(tmp_path / "job", files)
    job.mkdir(exist_ok=True)
    with pytest.raises(Invalid, match="holds no file to pack") as caught:
        pack(job, io.BytesIO())
    assert caught.value.code == "bundle_empty"


@pytest.mark.parametrize("name", ["absent", "file"])
def test_what_is_no_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Refused, match="There is no folder"):
        pack(tmp_path / name, io.BytesIO())


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (b"a\\b.py", "backslash"),
        (b"a\n.py", "control character"),
        (b"caf\xe9.py", "not UTF-8"),
        (b"C:x", "drive"),
    ],
)
def test_a_name_that_no_bundle_may_hold_is_refused(tmp_path: Path, name: bytes, words: str) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_text("")
    with pytest.raises(Invalid, match=words) as caught:
        pack(tmp_path, io.BytesIO())
    assert caught.value.detail.isprintable()


def test_names_that_would_collide_elsewhere_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"'Model\.py' and the file 'model\.py'"):
        names(written(tmp_path / "job", {"Model.py": "", "model.py": ""}))


def test_a_folder_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="deeper than 64"):
        names(written(tmp_path / "job", {"d/" * 70 + "x": ""}))


@contextmanager
def _not_root() -> Iterator[None]:
    """Root may read everything: be nobody for a moment."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("what", ["main.py", "data", "linked"])
def test_what_cannot_be_read_is_named(tmp_path: Path, what: str) -> None:
    job = written(tmp_path / "job", {"main.py": "", "data/x": "", "hidden/x": "", "other.py": ""})
    (job / "linked").symlink_to("hidden/x")
    for folder in (job, tmp_path, *tmp_path.parents):
        if folder.owner() == tmp_path.owner():
            folder.chmod(folder.stat().st_mode | 0o055)
    (job / ("hidden" if what == "linked" else what)).chmod(0)
    with _not_root(), pytest.raises(Refused) as caught:
        pack(job, io.BytesIO())
    name = {"data": "'data/'", "main.py": "'main.py'", "linked": "'hidden/'"}[what]
    assert caught.value.code == "unreadable"
    assert caught.value.detail.startswith(f"Cannot read {name}: Permission denied; ")


def test_a_fault_of_the_target_is_passed_on(tmp_path: Path) -> None:
    job = written(tmp_path / "job", {"main.py": os.urandom(1_000_000)})
    with (
        Path("/dev/full").open("wb", buffering=0) as full,
        pytest.raises(OSError, match="No space"),
    ):
        pack(job, full)


NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="/\\"),
    min_size=1,
    max_size=8,
).filter(lambda name: name not in {".", "..", *NEVER_PACKED, *IGNORE_FILES} and name[1:2] != ":")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    files=st.dictionaries(
        st.lists(NAMES, min_size=1, max_size=3).map("/".join), st.binary(max_size=50), min_size=1
    )
)
def test_whatever_is_packed_comes_out_again(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes]
) -> None:
    folder = tmp_path_factory.mktemp("any")
    job = folder / "job"
    for name, data in files.items():
        path = job / name
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
    there = {
        str(path.relative_to(job)): path.read_bytes() for path in job.rglob("*") if path.is_file()
    }
    with (folder / "job.zip").open("wb") as file:
        try:
            pack(job, file, ignore=["!*"])
        except Invalid as error:
            if error.code in {"bundle_unsafe", "bundle_empty"}:
                return  # names that collide on other systems
            raise
    into = folder / "into"
    into.mkdir()
    extract(folder / "job.zip", into)
    assert there == {
        str(path.relative_to(into)): path.read_bytes() for path in into.rglob("*") if path.is_file()
    }
