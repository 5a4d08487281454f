"""Honest archives, made by common tools, are taken as they are meant."""

from __future__ import annotations

import hashlib
import io
import shutil
import stat
import zipfile
from pathlib import Path

import pytest
from support.raw_zip import DEFLATED, DESCRIPTOR, End, Raw, make

from dtrain.protocol.bundle import (
    BundleFile,
    BundleLimits,
    BundleListing,
    entry_hint,
    inspect,
    sha256_of,
    shown,
)
from dtrain.protocol.errors import Invalid


def listed(tmp_path: Path, data: bytes, limits: BundleLimits | None = None) -> BundleListing:
    path = tmp_path / "job.zip"
    path.write_bytes(data)
    return inspect(path, limits or BundleLimits())


def refused(tmp_path: Path, data: bytes, limits: BundleLimits | None = None) -> Invalid:
    with pytest.raises(Invalid) as caught:
        listed(tmp_path, data, limits)
    return caught.value


def test_inspect_lists_files_by_path_with_their_sizes(tmp_path: Path) -> None:
    data = make(Raw("src/b.py", b"12345"), Raw("main.py", b"1"), Raw("src/a.py", b"123"))
    assert listed(tmp_path, data) == BundleListing(
        (BundleFile("main.py", 1), BundleFile("src/a.py", 3), BundleFile("src/b.py", 5)), 9
    )


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("seekable", [True, False])
def test_inspect_takes_what_the_standard_library_writes(
    tmp_path: Path, compression: int, seekable: bool
) -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return seekable

        def tell(self) -> int:
            if not seekable:
                raise io.UnsupportedOperation
            return super().tell()

    file = Pipe()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("data/", b"")
        archive.writestr("data/été 日本.csv", "a,b\n" * 1000)
        with archive.open("main.py", "w", force_zip64=True) as entry:
            entry.write(b"print()")
        archive.comment = b"made by a test"
    assert [found.path for found in listed(tmp_path, file.getvalue()).files] == [
        "data/été 日本.csv",
        "main.py",
    ]


def test_inspect_takes_what_make_archive_writes(tmp_path: Path) -> None:
    folder = tmp_path / "my_job"
    folder.mkdir()
    (folder / "main.py").write_text("print(1)\n")
    shutil.make_archive(str(tmp_path / "made"), "zip", tmp_path, "my_job")
    assert inspect(tmp_path / "made.zip").files == (BundleFile("my_job/main.py", 9),)


def test_inspect_reads_unflagged_names_as_utf8_as_common_tools_write_them(tmp_path: Path) -> None:
    data = make(Raw("données/été.csv".encode(), flags=0))
    assert listed(tmp_path, data).files[0].path == "données/été.csv"


def test_inspect_takes_a_leading_dot_and_the_root_as_an_entry(tmp_path: Path) -> None:
    folder = Raw("./", b"", mode=stat.S_IFDIR | 0o755)
    assert listed(tmp_path, make(folder, Raw("./main.py"))).files[0].path == "main.py"


def test_inspect_takes_descriptors_foreign_hosts_and_repeated_folders(tmp_path: Path) -> None:
    folder = Raw("data/", b"", mode=0, host=0)
    data = make(
        folder,
        Raw("main.py", method=DEFLATED, flags=DESCRIPTOR, mode=0, host=0),
        Raw("data/x.bin", flags=DESCRIPTOR),
        folder,
    )
    assert [file.path for file in listed(tmp_path, data).files] == ["data/x.bin", "main.py"]


def test_inspect_takes_true_zip64_records(tmp_path: Path) -> None:
    data = make(Raw("main.py"), Raw("big.bin", b"abc", wide=True), end=End(zip64=True))
    assert listed(tmp_path, data).expanded == 9


def test_inspect_takes_more_entries_than_the_plain_end_record_can_count(tmp_path: Path) -> None:
    data = make(*(Raw(f"f{number}", b"") for number in range(66_000)), end=End(zip64=True))
    assert len(listed(tmp_path, data).files) == 66_000


def test_inspect_takes_names_at_the_limits(tmp_path: Path) -> None:
    deep = "/".join(["d"] * 64)
    wide = "é" * 127 + "x"
    assert len(listed(tmp_path, make(Raw(deep), Raw(wide))).files) == 2


def test_inspect_lets_a_small_file_be_packed_tightly(tmp_path: Path) -> None:
    data = make(Raw("zeros.bin", bytes(1024**2), DEFLATED))
    assert listed(tmp_path, data).expanded == 1024**2


def test_inspect_leaves_a_missing_file_to_the_caller(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        inspect(tmp_path / "absent.zip")


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (BundleLimits(archive_bytes=100), "at most 100"),
        (BundleLimits(expanded_bytes=99), "99 bytes"),
        (BundleLimits(entries=2), "3 files and folders"),
        (BundleLimits(entries=4), "more than 4"),
        (BundleLimits(directory_bytes=90), "at most 90"),
    ],
)
def test_inspect_refuses_what_is_beyond_a_limit(
    tmp_path: Path, limits: BundleLimits, words: str
) -> None:
    data = make(Raw("a/b/c.py", b"1" * 50), Raw("d.py", b"2" * 50), Raw("e.py", b""))
    error = refused(tmp_path, data, limits)
    assert (error.code, error.status, error.field) == ("bundle_too_large", 413, "file")
    assert words in error.detail


def test_sha256_of_is_that_of_the_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1_000_000)
    assert sha256_of(path) == hashlib.sha256(b"abc" * 1_000_000).hexdigest()


def hint(*paths: str, wanted: str = "main.py", field: str = "main_entry") -> str:
    return entry_hint(BundleListing(tuple(BundleFile(path, 1) for path in paths), 0), wanted, field)


def test_hint_names_the_file_elsewhere_and_what_to_set() -> None:
    assert hint("my_job/main.py", "my_job/a.py") == "found 'my_job/main.py'; set main_entry to it"


def test_hint_names_several_nearest_first() -> None:
    found = hint("x/y/main.py", "b/Main.py", "a/main.py", "__MACOSX/a/main.py")
    assert found == (
        "found 'a/main.py', 'b/Main.py' and 'x/y/main.py'; set main_entry to one of them"
    )


def test_hint_names_scripts_where_none_has_the_name() -> None:
    found = hint("z.py", "a.py", "b.py", "c.py", "d.py", "e.txt")
    assert found == (
        "found 'a.py', 'b.py', 'c.py' and 2 more; set main_entry to the one that is meant"
    )


def test_hint_names_anything_where_there_is_no_script() -> None:
    assert hint("README.md", "data/x.csv") == (
        "found 'README.md' and 'data/x.csv'; put what main_entry names into the bundle"
    )


def test_hint_serves_other_fields() -> None:
    found = hint("main.py", "reqs.txt", wanted="requirements.txt", field="requirements_file")
    assert found == "found 'reqs.txt'; set requirements_file to the one that is meant"


def test_hint_is_bounded_and_safe_with_hostile_names() -> None:
    names = [f"\u202e{'<script>' * 30}{number}\u2028.py" for number in range(1000)]
    found = hint(*names)
    assert len(found) < 400
    assert found.isprintable()


def test_shown_escapes_and_shortens() -> None:
    assert shown("a.py") == "'a.py'"
    assert shown("a\n\x1b\ud800") == r"'a\n\x1b\ud800'"
    assert shown(b"\xff") == r"'\xff'"
    assert len(shown("x" * 5000)) == 80
    assert shown("x" * 5000 + "end").endswith("end'")
