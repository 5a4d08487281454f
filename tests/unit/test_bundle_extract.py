"""Unpacking: what comes out, what is left after a fault, and that no bytes break it."""

from __future__ import annotations

import io
import os
import random
import stat
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.raw_zip import DEFLATED, DESCRIPTOR, STORED, End, Raw, make

from dtrain.protocol.bundle import BundleLimits, extract, inspect
from dtrain.protocol.errors import Invalid


def content(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture
def unpacked(tmp_path: Path) -> Callable[[bytes], Path]:
    def unpack(data: bytes) -> Path:
        (tmp_path / "job.zip").write_bytes(data)
        into = tmp_path / "into"
        into.mkdir()
        extract(tmp_path / "job.zip", into)
        return into

    return unpack


def test_extract_writes_the_content(unpacked: Callable[[bytes], Path]) -> None:
    big = random.Random(1).randbytes(700_000) + bytes(900_000)
    files = {
        "main.py": b"print()",
        "empty": b"",
        "data/été/x.bin": big,
        "data/y.bin": b"1234" * 100_000,
        "exact.bin": bytes(256 * 1024),
    }
    entries = [
        Raw(name, data, method, flags=0x800 | flags)
        for (name, data), method, flags in zip(
            files.items(), [DEFLATED, STORED] * 3, [0, 0, DESCRIPTOR, DESCRIPTOR, 0], strict=False
        )
    ]
    into = unpacked(make(*entries, Raw("models/", b"", mode=stat.S_IFDIR)))
    assert content(into) == files
    assert list((into / "models").iterdir()) == []


def test_extract_says_what_it_wrote(tmp_path: Path) -> None:
    path = tmp_path / "job.zip"
    path.write_bytes(make(Raw("b", b"12"), Raw("a/c", b"345")))
    (tmp_path / "into").mkdir()
    assert extract(path, tmp_path / "into") == inspect(path)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_extract_keeps_nothing_of_a_mode_but_the_execute_bit(
    unpacked: Callable[[bytes], Path], umask: int
) -> None:
    before = os.umask(umask)
    try:
        into = unpacked(
            make(
                Raw("d/run.sh", mode=stat.S_IFREG | 0o6777),
                Raw("plain", mode=stat.S_IFREG | 0o1666),
                Raw("secret", mode=stat.S_IFREG),
                Raw("s/", b"", mode=stat.S_IFDIR | 0o7777),
                Raw("foreign", mode=0, host=0),
            )
        )
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in into.rglob("*")}
    assert modes == {
        "d": 0o755,
        "run.sh": 0o755,
        "plain": 0o644,
        "secret": 0o644,
        "s": 0o755,
        "foreign": 0o644,
    }


def test_extract_refuses_a_folder_that_is_not_empty(tmp_path: Path) -> None:
    path = tmp_path / "job.zip"
    path.write_bytes(make(Raw("main.py")))
    into = tmp_path / "into"
    into.mkdir()
    (into / "mine").write_text("keep")
    with pytest.raises(OSError, match="not empty"):
        extract(path, into)
    assert content(into) == {"mine": b"keep"}


def test_extract_obeys_its_own_limits(tmp_path: Path) -> None:
    path = tmp_path / "job.zip"
    path.write_bytes(make(Raw("main.py", bytes(1000))))
    (tmp_path / "into").mkdir()
    with pytest.raises(Invalid):
        extract(path, tmp_path / "into", BundleLimits(expanded_bytes=999))


def test_extract_passes_on_what_the_disk_says_and_leaves_nothing(tmp_path: Path) -> None:
    """A path that is too long stands for the full disk: a fault in the middle, not of the ZIP."""
    into = tmp_path
    while len(str(into)) < 3900:
        into /= "d" * min(200, 3900 - len(str(into)))
    into.mkdir(parents=True)
    path = tmp_path / "job.zip"
    path.write_bytes(make(Raw("a/main.py"), Raw("/".join(["e" * 50] * 6))))
    with pytest.raises(OSError, match="too long"):
        extract(path, into)
    assert list(into.iterdir()) == []


def test_extract_is_fast_with_many_small_files(tmp_path: Path) -> None:
    entries = [Raw(f"d{number % 100}/{number}.txt", b"%d" % number) for number in range(10_000)]
    path = tmp_path / "job.zip"
    path.write_bytes(make(*entries))
    (tmp_path / "into").mkdir()
    started = time.process_time()
    assert len(extract(path, tmp_path / "into").files) == 10_000
    assert time.process_time() - started < 50


def _honest() -> list[bytes]:
    """Archives of several makers, to be damaged."""
    made = []
    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        file = io.BytesIO()
        with zipfile.ZipFile(file, "w", compression) as archive:
            archive.writestr("main.py", "print('hello')\n" * 20)
            archive.writestr("data/", b"")
            archive.writestr("data/x.csv", "1,2,3\n" * 100)
            archive.comment = b"a comment"
        made.append(file.getvalue())
    entries = (Raw("main.py", b"x" * 90, DEFLATED, flags=DESCRIPTOR), Raw("a/b", b"12", wide=True))
    made.append(make(*entries, end=End(zip64=True)))
    return made


HONEST = _honest()
_INTERESTING = [0, 1, 0x7F, 0x80, 0xFF]


def _damaged(data: bytes, edits: list[tuple[int, int, int]]) -> bytes:
    """`data` with bytes set, left out, doubled or moved."""
    changed = bytearray(data)
    for kind, where, value in edits:
        at = where % max(len(changed), 1)
        if kind == 0 and changed:
            changed[at] = value
        elif kind == 1:
            del changed[at : at + value % 40]
        elif kind == 2:
            changed[at:at] = changed[at : at + value]
        elif kind == 3:
            changed[at : at + 4] = bytes([value]) * 4
        elif kind == 4:
            other = (where * 31 + value) % max(len(changed), 1)
            changed[at : at + 4] = changed[other : other + 4]
    return bytes(changed)


EDITS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.integers(0, 1500),
        st.one_of(st.sampled_from(_INTERESTING), st.integers(0, 255)),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=600, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(which=st.integers(0, len(HONEST) - 1), edits=EDITS)
def test_damaged_archives_are_refused_or_mean_the_same_to_another_reader(
    tmp_path_factory: pytest.TempPathFactory, which: int, edits: list[tuple[int, int, int]]
) -> None:
    _try(tmp_path_factory.mktemp("fuzz"), _damaged(HONEST[which], edits))


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), start=st.sampled_from([b"", b"PK\3\4", b"PK\5\6"]))
def test_any_bytes_are_refused_with_a_sentence(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes
) -> None:
    folder = tmp_path_factory.mktemp("fuzz")
    (folder / "job.zip").write_bytes(start + data)
    with pytest.raises(Invalid) as caught:
        inspect(folder / "job.zip")
    assert caught.value.detail.isprintable()


def test_every_single_byte_may_be_wrong(tmp_path: Path) -> None:
    """Each byte of an archive in turn, set to what breaks readers most."""
    for which, data in enumerate(HONEST):
        for at in range(len(data)):
            for value in {0x00, 0xFF, data[at] ^ 0x01}:
                folder = tmp_path / f"{which}-{at}-{value}"
                folder.mkdir()
                _try(folder, data[:at] + bytes([value]) + data[at + 1 :])


def _try(folder: Path, data: bytes) -> None:
    path = folder / "job.zip"
    path.write_bytes(data)
    into = folder / "into"
    into.mkdir()
    try:
        expected = {file.path: file.size for file in extract(path, into).files}
    except Invalid:
        expected = {}
    found = content(into)
    assert {name: len(text) for name, text in found.items()} == expected
    assert not found or _read_by_another(data) in (None, found)
    assert found or not any(into.iterdir())
    assert sorted(folder.iterdir()) == [into, path]


def _read_by_another(data: bytes) -> dict[str, bytes] | None:
    """What the standard library reads in the same bytes; None if it refuses them."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {
                _path(info): archive.read(info) for info in archive.infolist() if not info.is_dir()
            }
    except (zipfile.BadZipFile, NotImplementedError, OSError, UnicodeDecodeError, RuntimeError):
        return None


def _path(info: zipfile.ZipInfo) -> str:
    name = info.orig_filename
    if not info.flag_bits & 0x800:
        name = name.encode("cp437").decode()
    return name.removeprefix("./")
