from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.http_peer import Answer, Exchange, Peer

from dtrain.client.downloads import TRIES, chosen, fetch, place_in
from dtrain.client.transport import Transport
from dtrain.protocol.errors import Conflict, DTrainError, NotFound, Refused, Unavailable
from dtrain.protocol.messages import Artifact

CONTENT = bytes(range(256)) * 1000
SHA = hashlib.sha256(CONTENT).hexdigest()
KEPT = f".{SHA[:32]}.dtrain-part"
Fetch = Callable[..., None]


@pytest.fixture
def get(transport: Transport) -> Fetch:
    """Downloads the content."""

    def download(place: Path, **options: object) -> None:
        known = {"sha256": SHA, "size": len(CONTENT), **options}
        fetch(transport, "/file", place, **known)  # type: ignore[arg-type]  # as named

    return download


def whole(exchange: Exchange) -> None:
    """All of it, or the range that is asked for, as a server gives it."""
    asked = exchange.server.asked[-1].headers
    start = int(asked["range"].removeprefix("bytes=").removesuffix("-")) if "range" in asked else 0
    if start == 0 or asked["if-range"] != f'"{SHA}"':
        exchange.reply(200, CONTENT, "application/octet-stream")
        return
    there = {"Content_Range": f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"}
    exchange.reply(206, CONTENT[start:], "application/octet-stream", **there)


def broken_after(count: int) -> Answer:
    """An answer that breaks off behind some bytes of those that were asked for."""

    def answer(exchange: Exchange) -> None:
        asked = exchange.server.asked[-1].headers.get("range", "bytes=0-")
        start = int(asked.removeprefix("bytes=").removesuffix("-"))
        there = {"Content_Range": "bytes"} if start else {}
        exchange.begin(
            206 if start else 200, "x/y", Content_Length=str(len(CONTENT) - start), **there
        )
        exchange.raw(CONTENT[start : start + count])

    return answer


# What arrives.


def test_file_is_there_whole_with_its_folders_and_nothing_else(
    server: Peer, get: Fetch, tmp_path: Path
) -> None:
    server.on("/file", whole)
    told: list[int] = []
    get(tmp_path / "a" / "b.bin", progress=told.append)
    assert (tmp_path / "a" / "b.bin").read_bytes() == CONTENT
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b.bin"]
    assert told[-1] == len(CONTENT)
    assert told == sorted(told)


def test_download_that_breaks_off_goes_on_where_it_was(
    server: Peer, get: Fetch, tmp_path: Path
) -> None:
    server.on("/file", *[broken_after(50_000)] * (TRIES - 1), whole)
    get(tmp_path / "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == CONTENT
    ranges = [asked.headers.get("range") for asked in server.asked]
    assert ranges == [None, *(f"bytes={50_000 * count}-" for count in range(1, TRIES))]


def test_download_gives_up_where_nothing_more_comes_and_is_taken_up_by_the_next(
    server: Peer, get: Fetch, tmp_path: Path
) -> None:
    def away(exchange: Exchange) -> None:
        exchange.problem(503, "unavailable", "Not now.", Retry_After="0")

    server.on("/file", broken_after(60_000), *[away] * TRIES, whole)
    with pytest.raises(Unavailable, match="Not now"):
        get(tmp_path / "b.bin")
    assert [path.name for path in tmp_path.iterdir()] == [KEPT]
    assert (tmp_path / KEPT).read_bytes() == CONTENT[:60_000]
    get(tmp_path / "b.bin")
    assert server.asked[-1].headers["range"] == "bytes=60000-"
    assert [path.name for path in tmp_path.iterdir()] == ["b.bin"]
    assert (tmp_path / "b.bin").read_bytes() == CONTENT


def test_answer_without_the_range_is_taken_from_its_start(
    server: Peer, get: Fetch, tmp_path: Path
) -> None:
    (tmp_path / KEPT).write_bytes(CONTENT[:1000])
    server.on("/file", lambda exchange: exchange.reply(200, CONTENT, "x/y"))
    get(tmp_path / "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == CONTENT


def test_rest_of_something_longer_is_not_gone_on_with(
    server: Peer, get: Fetch, tmp_path: Path
) -> None:
    (tmp_path / KEPT).write_bytes(CONTENT + b"more")
    server.on("/file", whole)
    get(tmp_path / "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == CONTENT
    assert "range" not in server.asked[0].headers


@pytest.mark.parametrize("other", [b"x" * len(CONTENT), CONTENT + b"x"])
def test_other_content_than_was_stored_is_refused_and_not_kept(
    other: bytes, server: Peer, get: Fetch, tmp_path: Path
) -> None:
    server.on("/file", lambda exchange: exchange.reply(200, other, "x/y"))
    with pytest.raises(DTrainError, match="SHA-256 differs") as caught:
        get(tmp_path / "b.bin")
    assert caught.value.code == "damaged"
    assert list(tmp_path.iterdir()) == []


def test_empty_file_needs_no_answer(server: Peer, get: Fetch, tmp_path: Path) -> None:
    get(tmp_path / "empty", sha256=hashlib.sha256().hexdigest(), size=0)
    assert (tmp_path / "empty").read_bytes() == b""
    assert server.asked == []


# Where it goes.


def test_file_that_is_there_stays_unless_it_is_to_be_overwritten(
    server: Peer, get: Fetch, tmp_path: Path
) -> None:
    server.on("/file", whole)
    (tmp_path / "b.bin").write_bytes(b"mine")
    with pytest.raises(Conflict, match="there already"):
        get(tmp_path / "b.bin")
    assert (tmp_path / "b.bin").read_bytes() == b"mine"
    assert server.asked == []
    get(tmp_path / "b.bin", overwrite=True)
    assert (tmp_path / "b.bin").read_bytes() == CONTENT


def test_link_that_is_there_is_replaced_and_not_followed(
    server: Peer, get: Fetch, tmp_path: Path
) -> None:
    server.on("/file", whole)
    outside = tmp_path / "outside"
    outside.write_bytes(b"mine")
    (tmp_path / "b.bin").symlink_to(outside)
    with pytest.raises(Conflict):
        get(tmp_path / "b.bin")
    get(tmp_path / "b.bin", overwrite=True)
    assert outside.read_bytes() == b"mine"
    assert not (tmp_path / "b.bin").is_symlink()


def test_link_in_place_of_the_rest_is_not_followed(
    server: Peer, get: Fetch, tmp_path: Path
) -> None:
    server.on("/file", whole)
    outside = tmp_path / "outside"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / KEPT).symlink_to(outside)
    with pytest.raises(OSError, match="symbolic links"):
        get(tmp_path / "folder" / "b.bin")
    assert not outside.exists()


def test_folder_in_its_place_is_refused(get: Fetch, tmp_path: Path) -> None:
    (tmp_path / "b.bin").mkdir()
    with pytest.raises(Conflict, match="is a folder"):
        get(tmp_path / "b.bin", overwrite=True)


def test_second_download_of_the_same_waits_its_turn(
    server: Peer, get: Fetch, tmp_path: Path
) -> None:
    server.on("/file", whole)
    with (tmp_path / KEPT).open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(Conflict, match="Another program"):
            get(tmp_path / "b.bin")
    get(tmp_path / "b.bin")


PARTS = st.one_of(st.sampled_from(["..", ".", "", "a", "b\n", "\\", "link"]), st.text(max_size=8))


@given(st.lists(PARTS, max_size=6).map("/".join))
def test_no_name_leads_out_of_the_folder(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    home = tmp_path_factory.getbasetemp() / "names"
    folder = home / "folder"
    if not folder.exists():
        folder.mkdir(parents=True)
        (folder / "link").symlink_to(home)
    try:
        place = place_in(folder, name)
    except Refused:
        return
    assert place != folder
    assert place.is_relative_to(folder)
    assert ".." not in place.parts
    assert place.parent.resolve().is_relative_to(folder)


@pytest.mark.parametrize(
    "name", ["../x", "/etc/x", "a/../../x", "a//x", "", ".", "a/..", "x\0", "link/x", "link/a/x"]
)
def test_name_that_leads_out_is_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    with pytest.raises(Refused, match="out of"):
        place_in(folder, name)


def test_harmless_names_are_kept_as_they_are(tmp_path: Path) -> None:
    for name in ("a", "a/b", "..a", "a..b/c...", "C:\\x", "größe.bin", "-rf"):
        assert place_in(tmp_path, name) == tmp_path / name


# Which files.


@pytest.mark.parametrize(
    ("patterns", "found"),
    [
        ([], ["a.pt", "deep/er/b.pt", "deep/log.txt"]),
        (["*.pt"], ["a.pt", "deep/er/b.pt"]),
        (["b.pt"], ["deep/er/b.pt"]),
        (["deep"], ["deep/er/b.pt", "deep/log.txt"]),
        (["deep/"], ["deep/er/b.pt", "deep/log.txt"]),
        (["deep/er", "a.*"], ["a.pt", "deep/er/b.pt"]),
    ],
)
def test_patterns_mean_paths_names_and_folders(patterns: list[str], found: list[str]) -> None:
    all_ = [
        Artifact(path=path, size=1, sha256=SHA, attempt=1)
        for path in ("a.pt", "deep/er/b.pt", "deep/log.txt")
    ]
    assert [artifact.path for artifact in chosen(all_, patterns)] == found
    with pytest.raises(NotFound, match=r"No artifact fits '\*\.png'"):
        chosen(all_, [*patterns, "*.png"])
