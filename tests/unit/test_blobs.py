from __future__ import annotations

import hashlib
import os
import threading
import time
from io import BytesIO
from pathlib import Path
from typing import NoReturn

import pytest
from support.processes import wait_for

from dtrain.protocol.errors import DTrainError, Invalid, NotFound
from dtrain.server.blobs import BlobStore

CONTENT = b"content" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "blobs")


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_same_content_is_kept_once_under_its_hash(store: BlobStore, tmp_path: Path) -> None:
    first = store.receive(BytesIO(CONTENT), limit=None)
    again = store.receive(BytesIO(CONTENT), limit=len(CONTENT), expected_sha256=SHA256)
    assert first == again
    assert (first.sha256, first.size) == (SHA256, len(CONTENT))
    assert store.path(SHA256).read_bytes() == CONTENT
    assert files_in(tmp_path) == [SHA256]


class BrokenOff:
    """A stream whose sender vanishes."""

    def __init__(self) -> None:
        self._pieces = [b"half"]

    def read(self, _size: int) -> bytes:
        if self._pieces:
            return self._pieces.pop()
        raise ConnectionResetError


def refuse(path: Path) -> NoReturn:
    assert path.read_bytes() == CONTENT
    raise Invalid("It is not a ZIP.")


@pytest.mark.parametrize(
    ("stream", "limits", "error"),
    [
        (BytesIO(CONTENT), {"limit": len(CONTENT) - 1}, Invalid),
        (BytesIO(CONTENT), {"limit": None, "expected_sha256": "0" * 64}, Invalid),
        (BytesIO(CONTENT), {"limit": None, "check": refuse}, Invalid),
        (BrokenOff(), {"limit": None}, ConnectionResetError),
    ],
    ids=["too large", "damaged", "refused", "broken off"],
)
def test_what_is_not_kept_leaves_nothing(
    store: BlobStore, tmp_path: Path, stream: BytesIO, limits: dict[str, object], error: type
) -> None:
    with pytest.raises(error):
        store.receive(stream, **limits)  # type: ignore[arg-type]
    assert files_in(tmp_path) == []


def test_refused_copy_harms_no_blob_that_is_there(store: BlobStore) -> None:
    store.receive(BytesIO(CONTENT), limit=None)
    with pytest.raises(Invalid):
        store.receive(BytesIO(CONTENT), limit=None, check=refuse)
    assert store.path(SHA256).read_bytes() == CONTENT


@pytest.mark.parametrize("name", ["", "../secrets.json", "a" * 63, SHA256.upper(), "0" * 64])
def test_only_hashes_of_blobs_lead_to_a_path(store: BlobStore, name: str) -> None:
    store.receive(BytesIO(CONTENT), limit=None)
    with pytest.raises(NotFound):
        store.path(name)


def test_delete_is_harmless_when_repeated(store: BlobStore) -> None:
    store.receive(BytesIO(CONTENT), limit=None)
    os.utime(store.path(SHA256), (0, 0))
    store.delete(SHA256, 60)
    store.delete(SHA256, 60)
    with pytest.raises(DTrainError):
        store.path(SHA256)


def test_what_was_sent_again_is_not_deleted(store: BlobStore) -> None:
    store.receive(BytesIO(CONTENT), limit=None)
    os.utime(store.path(SHA256), (0, 0))
    assert list(store.aged(60)) == [SHA256]
    store.receive(BytesIO(CONTENT), limit=None)
    store.delete(SHA256, 60)
    assert store.path(SHA256).read_bytes() == CONTENT


def test_sending_and_deleting_at_once_leaves_what_was_sent(store: BlobStore) -> None:
    """A deleter that saw an old blob meets one that has just been sent."""
    over = threading.Event()

    def delete() -> None:
        while not over.is_set():
            store.delete(SHA256, 60)

    deleter = threading.Thread(target=delete)
    deleter.start()
    try:
        for _ in range(200):
            path = store.receive(BytesIO(CONTENT), limit=None).path
            os.utime(path, (0, 0))  # it may be gone right after
            path = store.receive(BytesIO(CONTENT), limit=None).path
            wait_for(path.exists, "what was sent")
            time.sleep(0.001)
            assert path.exists()
    finally:
        over.set()
        deleter.join()


def test_old_is_told_from_new(store: BlobStore, tmp_path: Path) -> None:
    store.receive(BytesIO(CONTENT), limit=None)
    new = store.receive(BytesIO(b"new"), limit=None)
    left = tmp_path / "blobs" / "tmp" / "left"
    left.write_bytes(b"half")
    for path in (store.path(SHA256), left):
        os.utime(path, (0, 0))
    assert list(store.aged(60)) == [SHA256]
    assert store.sweep(60) == 1
    assert files_in(tmp_path) == sorted([SHA256, new.sha256])
