"""Hostile archives are refused with a sentence, before anything of them is unpacked."""

from __future__ import annotations

import io
import stat
import struct
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest
from support.raw_zip import (
    DEFLATED,
    ENCRYPTED,
    End,
    Raw,
    deflate,
    ending,
    make,
)

from dtrain.protocol.bundle import BundleLimits, extract, inspect
from dtrain.protocol.errors import Invalid

MIB = 1024**2
FOLDER = stat.S_IFDIR | 0o755


@pytest.fixture
def refused(tmp_path: Path):
    """Have an archive refused by `inspect` and by `extract`, which writes nothing; the error."""
    path = tmp_path / "job.zip"
    into = tmp_path / "in" / "to"
    into.mkdir(parents=True)

    def check(data: bytes, limits: BundleLimits | None = None) -> Invalid:
        path.write_bytes(data)
        with pytest.raises(Invalid) as first:
            inspect(path, limits or BundleLimits())
        with pytest.raises(Invalid) as second:
            extract(path, into, limits or BundleLimits())
        assert second.value.detail == first.value.detail
        assert sorted(tmp_path.rglob("*")) == [into.parent, into, path]
        assert first.value.field == "file"
        assert first.value.status in {413, 422}
        assert first.value.detail.isprintable()
        assert len(first.value.detail) < 300
        return first.value

    return check


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"print('not a ZIP')\n", "text"),
        ("été".encode() * 10, "text"),
        (b"\x1f\x8b\x08" + bytes(30), "a gzip or tar.gz archive"),
        (b"Rar!\x1a\x07\x01\x00" + bytes(30), "a RAR archive"),
        (b"7z\xbc\xaf\x27\x1c" + bytes(30), "a 7z archive"),
        (b"BZh91AY" + bytes(30), "a bzip2 archive"),
        (b"\xfd7zXZ\x00" + bytes(30), "an xz archive"),
        (b"\x28\xb5\x2f\xfd" + bytes(30), "a Zstandard archive"),
        (b"\x7fELF" + bytes(30), "a program"),
        (b"%PDF-1.7" + bytes(30), "a PDF"),
        (b"\n <!DOCTYPE html><title>404</title>", "a web page"),
    ],
)
def test_what_is_not_a_zip_is_named(refused, data: bytes, kind: str) -> None:
    error = refused(data)
    assert error.code == "bundle_not_zip"
    assert error.detail == (
        f"The file is not a ZIP but looks like {kind}: make a ZIP of the job's folder."
    )


def test_a_tar_archive_is_named(refused) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("main.py"))
    assert "looks like a tar archive" in refused(file.getvalue()).detail


@pytest.mark.parametrize("data", [b"\0", b"\1\2\3", bytes(100), b"PK", b"P"])
def test_bytes_of_no_kind_are_no_zip(refused, data: bytes) -> None:
    assert refused(data).code == "bundle_not_zip"


def test_an_empty_file_is_refused(refused) -> None:
    assert refused(b"").detail == "The file is empty, no bytes arrived; send a ZIP."


@pytest.mark.parametrize("entries", [[], [Raw("data/", b"", mode=FOLDER)]])
@pytest.mark.parametrize("zip64", [False, True])
def test_a_zip_without_a_file_is_refused(refused, entries: list[Raw], zip64: bool) -> None:
    data = make(*entries, end=End(zip64=zip64))
    assert refused(data).code == "bundle_empty"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil", "leads out"),
        ("a/../../evil", "leads out"),
        ("..", "leads out"),
        ("a/..", "leads out"),
        ("/etc/passwd", "absolute"),
        ("//server/share", "absolute"),
        ("./" + "/etc/passwd", "absolute"),
        ("..\\..\\evil", "backslash"),
        ("a\\b", "backslash"),
        ("C:evil", "drive"),
        ("C:/evil", "drive"),
        ("c:", "drive"),
        ("main.py\0.png", "control character"),
        ("a\nb", "control character"),
        ("a\x1b]8;;x\x07", "control character"),
        ("a\x7f", "control character"),
        ("a\x9b31m", "control character"),
        ("", "empty part"),
        ("/", "empty part"),
        ("a//b", "empty part"),
        ("a/./b", "empty part"),
        (".", "empty part"),
        ("././a", "empty part"),
        ("x" * 256, "longer than 255 bytes"),
        ("é" * 150, "longer than 255 bytes"),
        ("/".join(["d" * 100] * 11), "longer than 1000 bytes"),
        ("/".join("d" * 65), "deeper than 64"),
        ("d/" * 3000 + "x", "longer than 1000 bytes"),
        (b"\xff\xfe.py", "not UTF-8"),
        (b"\xed\xa0\x80.py", "not UTF-8"),
        (b"caf\x82.py", "not UTF-8"),
    ],
)
@pytest.mark.parametrize("folder", [False, True])
def test_a_name_that_could_do_harm_is_refused(
    refused, name: str | bytes, words: str, folder: bool
) -> None:
    encoded = name if isinstance(name, bytes) else name.encode()
    evil = Raw(encoded, flags=0x800 if words != "not UTF-8" else 0)
    if folder:
        evil = Raw(encoded.rstrip(b"/") + b"/", b"", mode=FOLDER, flags=evil.flags)
    if encoded == b"." and folder:
        return  # the archive's root, which is no harm
    error = refused(make(Raw("main.py"), evil))
    assert error.code == "bundle_unsafe"
    assert words in error.detail or (folder and "absolute" in words)


@pytest.mark.parametrize(
    ("mode", "words"),
    [
        (stat.S_IFLNK | 0o777, "symbolic link"),
        (stat.S_IFCHR | 0o666, "neither a file nor a folder"),
        (stat.S_IFBLK | 0o666, "neither a file nor a folder"),
        (stat.S_IFIFO | 0o666, "neither a file nor a folder"),
        (stat.S_IFSOCK | 0o666, "neither a file nor a folder"),
        (stat.S_IFDIR | 0o755, "neither a file nor a folder"),
        (0o170000, "neither a file nor a folder"),
    ],
)
@pytest.mark.parametrize("host", [3, 0, 19])
def test_what_is_no_regular_file_is_refused(refused, mode: int, words: str, host: int) -> None:
    error = refused(make(Raw("main.py"), Raw("evil", b"/etc/passwd", mode=mode, host=host)))
    assert error.code == "bundle_unsafe"
    assert words in error.detail


def test_a_link_named_as_a_folder_is_refused(refused) -> None:
    error = refused(make(Raw("a/", b"", mode=stat.S_IFLNK | 0o777), Raw("a/b")))
    assert "symbolic link" in error.detail


def test_a_folder_with_content_is_refused(refused) -> None:
    assert "content of its own" in refused(make(Raw("a/", b"hidden", mode=FOLDER))).detail


@pytest.mark.parametrize("flag", [ENCRYPTED, 0x40, 0x2000])
def test_an_encrypted_entry_is_refused(refused, flag: int) -> None:
    error = refused(make(Raw("main.py", flags=flag)))
    assert error.detail == ("The entry 'main.py' is encrypted; make the ZIP without a password.")


@pytest.mark.parametrize(
    ("method", "name"),
    [(14, "LZMA"), (12, "bzip2"), (9, "Deflate64"), (93, "Zstandard"), (1, "method 1")],
)
def test_another_compression_is_refused_by_name(refused, method: int, name: str) -> None:
    error = refused(make(Raw("main.py", method=method, packed=b"xx")))
    assert error.code == "bundle_invalid"
    assert f"compressed with {name}" in error.detail


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("main.py", "main.py"),
        ("a", "a"),
        ("Model.py", "model.py"),
        ("DATA/x", "data/y"),
        ("é.py", "e\u0301.py"),
        ("É.py", "e\u0301.py"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("A", "a/b"),
        ("a/b/c", "A/b"),
    ],
)
def test_names_that_collide_are_refused(refused, one: str, other: str) -> None:
    error = refused(make(Raw("main.txt"), Raw(one), Raw(other)))
    assert error.code == "bundle_unsafe"
    assert ("twice" if one == other else "same name") in error.detail


def test_a_file_and_a_folder_of_one_name_are_refused(refused) -> None:
    for entries in (
        [Raw("a"), Raw("a/", b"", mode=FOLDER)],
        [Raw("a/", b"", mode=FOLDER), Raw("a")],
    ):
        assert refused(make(*entries)).code == "bundle_unsafe"


@pytest.mark.parametrize("ratio_free", [MIB + 1, 50 * MIB])
def test_a_bomb_is_refused(refused, ratio_free: int) -> None:
    bomb = Raw("zeros", bytes(ratio_free), DEFLATED)
    assert ratio_free / len(bomb.payload) > 900
    error = refused(make(Raw("main.py"), bomb))
    assert (error.code, error.status) == ("bundle_too_large", 413)
    assert "200 times" in error.detail


def test_a_bomb_that_claims_a_modest_size_stops_at_that_size(refused_late) -> None:
    bomb = Raw("zeros", bytes(50 * MIB), DEFLATED, size=MIB)
    error = refused_late(make(Raw("main.py"), bomb))
    assert "not what was packed" in error.detail


def test_entries_that_overlap_are_refused(refused) -> None:
    kernel = deflate(bytes(MIB))
    first = Raw("a", bytes(MIB), DEFLATED, packed=kernel)
    again = Raw("b", bytes(MIB), DEFLATED, packed=kernel, offset=0, without_local=True)
    assert "another name in its own header" in refused(make(first, again)).detail


def test_entries_that_share_their_bytes_are_refused(refused) -> None:
    """Each header lies in the content of the entry before, as in the best known bomb."""
    inner = Raw("b", b"y" * 100)
    outer = Raw("a", inner.local() + b"z" * 10)
    offset = 30 + 1
    error = refused(make(outer, Raw("b", b"y" * 100, offset=offset, without_local=True)))
    assert error.code == "bundle_unsafe"
    assert "overlaps" in error.detail


def test_an_entry_that_reaches_into_the_directory_is_refused(refused) -> None:
    data = make(Raw("main.py", size=100, packed_size=100))
    assert "overlaps" in refused(data).detail


def test_an_entry_beyond_the_end_is_refused(refused) -> None:
    for offset in (10**6, 0xFFFFFFFE):
        entry = Raw("b", offset=offset, without_local=True)
        assert refused(make(Raw("main.py"), entry)).code == "bundle_invalid"
    for offset in (2**63, 2**64 - 1):
        entry = Raw("b", offset=offset, without_local=True, wide=True)
        assert refused(make(Raw("main.py"), entry)).code == "bundle_invalid"


def test_many_nested_archives_are_only_bytes(tmp_path: Path) -> None:
    """What lies in an archive inside an archive is never looked at."""
    data = make(Raw("main.py"))
    for _ in range(5):
        data = make(Raw("inner.zip", data, DEFLATED))
    path = tmp_path / "nested.zip"
    path.write_bytes(data)
    assert [file.path for file in inspect(path).files] == ["inner.zip"]


def test_a_local_header_with_another_name_is_refused(refused) -> None:
    for local in (b"../evi1", b"main.pyc", b"main", b""):
        error = refused(make(Raw("main.py", local_name=local)))
        assert error.code == "bundle_unsafe"
        assert "another name" in error.detail


def test_headers_that_contradict_each_other_are_refused(refused) -> None:
    for entry in (Raw("a", local_method=DEFLATED), Raw("a", method=DEFLATED, local_method=0)):
        assert "contradict" in refused(make(entry)).detail
    encrypted = make(Raw("a", flags=0)).replace(b"PK\3\4\x14\0\0", b"PK\3\4\x14\0\1")
    assert "contradict" in refused(encrypted).detail


def test_sizes_of_a_stored_entry_that_differ_are_refused(refused) -> None:
    assert "sizes" in refused(make(Raw("a", b"1234", size=5))).detail
    assert "sizes" in refused(make(Raw("a", b"1234", size=3))).detail


def test_sizes_of_several_exbibytes_are_refused(refused) -> None:
    entry = Raw("a", b"1", DEFLATED, size=2**63, packed_size=2**62, wide=True)
    assert refused(make(entry)).code == "bundle_too_large"
    small = [Raw(f"{n}", b"1", DEFLATED, size=2 * MIB, packed_size=MIB) for n in range(2)]
    assert refused(make(*small), BundleLimits(expanded_bytes=3 * MIB)).code == "bundle_unsafe"


def test_a_web_page_before_the_zip_is_refused(refused) -> None:
    page = b"<html><script>alert(1)</script></html>"
    whole = make(Raw("main.py"))
    for data in (page + whole, make(Raw("main.py"), before=page)):
        error = refused(data)
        assert error.code == "bundle_unsafe"
        assert "begins with a web page" in error.detail


def test_a_program_before_the_zip_is_refused(refused) -> None:
    assert "a Windows program" in refused(make(Raw("a"), before=b"MZ" + bytes(500))).detail


def test_an_unlisted_entry_before_the_first_is_refused(refused) -> None:
    hidden = Raw("hidden.html", b"<script>").local()
    error = refused(make(Raw("main.py"), before=hidden))
    assert (error.code, "before the first file" in error.detail) == ("bundle_unsafe", True)


def test_anything_behind_the_zip_is_refused(refused) -> None:
    whole = make(Raw("main.py"))
    for behind in (b"\0", b"<script>", bytes(60_000)):
        assert "behind the end" in refused(whole + behind).detail
    assert refused(whole + bytes(70_000)).code == "bundle_invalid"


def test_a_zip_behind_a_zip_is_refused(refused) -> None:
    one, other = make(Raw("main.py")), make(Raw("evil.py"))
    assert refused(one + other).code == "bundle_invalid"


def test_an_archive_in_the_comment_is_refused(refused) -> None:
    inner = make(Raw("evil.py"))
    assert refused(make(Raw("main.py"), end=End(comment=inner))).code == "bundle_invalid"
    assert refused(make(Raw("main.py"), end=End(comment=b"PK\5\6"))).code == "bundle_invalid"


def test_a_comment_of_a_false_length_is_refused(refused) -> None:
    for size in (0, 3, 500):
        data = make(Raw("main.py"), end=End(comment=b"hello", comment_size=size))
        assert refused(data).code == "bundle_unsafe"


@pytest.mark.parametrize(
    "end",
    [
        End(count=2),
        End(count=0),
        End(count=65_535),
        End(size=0),
        End(size=10**9),
        End(offset=0),
        End(offset=10**9),
        End(offset=0xFFFFFFFF),
        End(zip64=True, count64=2),
        End(zip64=True, count64=2**60),
        End(zip64=True, size64=2**63),
        End(zip64=True, offset64=2**64 - 1),
        End(zip64=True, offset64=0),
        End(zip64=True, locator=0),
        End(zip64=True, locator=2**64 - 1),
        End(zip64=True, record_size=2**64 - 1),
        End(zip64=True, record_size=12),
        End(zip64=True, size=5),
        End(zip64=True, count=2, count64=1),
        End(zip64=True, count=0),
    ],
)
def test_an_end_that_lies_is_refused(refused, end: End) -> None:
    error = refused(make(Raw("main.py"), end=end))
    assert error.code in {"bundle_invalid", "bundle_too_large"}


@pytest.mark.parametrize("end", [End(disk=1), End(count_here=0), End(zip64=True, disks=2)])
def test_a_part_of_a_split_archive_is_refused(refused, end: End) -> None:
    assert "split archive" in refused(make(Raw("main.py"), end=end)).detail


def test_a_size_that_stands_in_no_zip64_field_is_refused(refused) -> None:
    for extra in (b"", b"\1\0\4\0abcd", b"\1\0\xff\xff12345678", b"\2\0\0\0", b"\1"):
        entry = Raw("a", b"x", size=0xFFFFFFFF, packed_size=0xFFFFFFFF, extra=extra)
        assert refused(make(entry)).code in {"bundle_invalid", "bundle_unsafe"}


def test_a_truncated_zip_is_refused_wherever_it_is_cut(refused) -> None:
    whole = make(Raw("main.py", method=DEFLATED), Raw("b.py"), end=End(zip64=True))
    for size in range(1, len(whole)):
        error = refused(whole[:size])
        assert error.code in {"bundle_invalid", "bundle_not_zip"}
    assert "cut off" in refused(whole[:-5]).detail


def _steps_to_refuse(data: bytes, path: Path, limits: BundleLimits) -> int:
    """How many lines and calls of Python a refusal takes: as a measure of work, never a flake."""
    path.write_bytes(data)
    steps = 0

    def count(frame: FrameType, event: str, arg: object) -> Callable[..., object]:
        nonlocal steps
        steps += 1
        return count

    sys.settrace(count)
    try:
        with pytest.raises(Invalid):
            inspect(path, limits)
    finally:
        sys.settrace(None)
    return steps


def _many(count: int, claimed: int) -> bytes:
    entry = Raw("a", b"").central(0)
    return Raw("a", b"").local() + (entry * count) + ending(31, len(entry) * count, claimed, None)


@pytest.mark.parametrize(
    ("data", "limits"),
    [
        pytest.param(_many(65_000, 65_000), BundleLimits(entries=10_000), id="65k, limit 10k"),
        pytest.param(_many(70_000, 1), BundleLimits(), id="70k that claim to be 1"),
        pytest.param(_many(70_000, 65_535), BundleLimits(), id="70k that claim to be 65535"),
        pytest.param(_many(70_000, 70_000 % 65_536), BundleLimits(), id="70k, count wrapped"),
        pytest.param(
            make(Raw("a"), end=End(zip64=True, count64=2**40)), BundleLimits(), id="claims 2**40"
        ),
        pytest.param(_many(600_000, 600_000 % 65_536), BundleLimits(), id="27 MB of directory"),
    ],
)
def test_a_flood_of_entries_is_refused_at_once(
    tmp_path: Path, data: bytes, limits: BundleLimits
) -> None:
    # Some 200 steps are spent on each file of an archive that is looked at in earnest.
    assert _steps_to_refuse(data, tmp_path / "flood.zip", limits) < 20 * 70_000


def test_entries_that_share_one_place_are_refused(refused) -> None:
    assert refused(_many(1000, 1000)).code == "bundle_unsafe"


def test_a_flood_of_folders_counts_as_entries(refused) -> None:
    entries = [Raw(f"{number}/" + "d/" * 20 + "x", b"") for number in range(100)]
    assert refused(make(*entries), BundleLimits(entries=1000)).code == "bundle_too_large"


def test_a_short_record_in_the_directory_is_refused(refused) -> None:
    whole = make(Raw("main.py"), Raw("b.py"))
    at = whole.rindex(b"PK\1\2")
    for position, value in ((28, 0xFFFF), (30, 0xFFFF), (32, 7), (28, 0)):
        data = bytearray(whole)
        struct.pack_into("<H", data, at + position, value)
        assert refused(bytes(data)).code == "bundle_invalid"


@pytest.fixture
def refused_late(tmp_path: Path):
    """Have an archive refused by `extract`, which leaves nothing; the error."""
    path = tmp_path / "job.zip"
    into = tmp_path / "into"
    into.mkdir()

    def check(data: bytes) -> Invalid:
        path.write_bytes(data)
        inspect(path)
        with pytest.raises(Invalid) as caught:
            extract(path, into)
        assert list(into.iterdir()) == []
        assert caught.value.code == "bundle_invalid"
        return caught.value

    return check


@pytest.mark.parametrize(
    "entry",
    [
        Raw("b/c.bin", b"1234", crc=1),
        Raw("b/c.bin", b"1234", DEFLATED, crc=1),
        Raw("b/c.bin", b"1234", DEFLATED, size=3),
        Raw("b/c.bin", b"1234", DEFLATED, size=5),
        Raw("b/c.bin", b"1234", DEFLATED, packed=b"\xff\xff\xff"),
        Raw("b/c.bin", b"1234", DEFLATED, packed=b""),
        Raw("b/c.bin", b"1234", DEFLATED, packed=deflate(b"1234")[:-2]),
        Raw("b/c.bin", b"1234", DEFLATED, packed=deflate(b"1234") + b"hidden"),
        Raw("b/c.bin", b"1234", DEFLATED, packed=deflate(b"1234") + bytes(600_000)),
        Raw("b/c.bin", bytes(MIB), DEFLATED, packed=deflate(bytes(MIB - 1))),
    ],
)
def test_content_that_is_not_as_declared_leaves_nothing(refused_late, entry: Raw) -> None:
    refused_late(make(Raw("a/main.py"), entry, Raw("z.py")))
