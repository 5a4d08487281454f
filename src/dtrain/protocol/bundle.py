"""Bundles, the ZIPs that jobs are handed in as: looked into, unpacked, named by their content.

An archive is hostile until it has been checked, and `extract` checks it again. It is never opened
with another reader of ZIPs than the one that checked it. Making a bundle is `packing`'s business.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from .bundlepaths import shown
from .packing import PackSummary, Skipped, pack
from .zipcheck import DEFAULT_LIMITS, UNLIMITED, BundleLimits, Entry, read_contents
from .zipformat import damaged

__all__ = [
    "DEFAULT_LIMITS",
    "UNLIMITED",
    "BundleFile",
    "BundleLimits",
    "BundleListing",
    "PackSummary",
    "Skipped",
    "entry_hint",
    "extract",
    "inspect",
    "pack",
    "read",
    "sha256_of",
    "shown",
    "stream",
]

_PIECE = 256 * 1024
_NAMED = 3


class BundleFile(msgspec.Struct, frozen=True):
    """A file in a bundle."""

    path: str
    size: int
    """Bytes, unpacked."""


class BundleListing(msgspec.Struct, frozen=True):
    """What a bundle holds."""

    files: tuple[BundleFile, ...]
    """By path."""
    expanded: int
    """Bytes of all files, unpacked."""


def inspect(path: Path, limits: BundleLimits = DEFAULT_LIMITS) -> BundleListing:
    """What a bundle holds, once its central directory has been checked; nothing is unpacked.

    Raises:
        Invalid: field `file`; codes `bundle_not_zip`, `bundle_empty`, `bundle_invalid`,
            `bundle_unsafe`, `bundle_too_large` (status 413).
        OSError: the file cannot be read.
    """
    with path.open("rb") as archive:
        return _listing(read_contents(archive.fileno(), limits).files)


def extract(path: Path, into: Path, limits: BundleLimits = DEFAULT_LIMITS) -> BundleListing:
    """Unpack a bundle into an empty folder, and say what it held.

    Files get the mode 0644, or 0755 where the archive says executable; folders 0755. Whatever
    fails, the folder is left as empty as it was.

    Raises:
        Invalid: as `inspect`, or the content is not what the directory declares.
        OSError: the disk is full, the folder is not empty, or the like.
    """
    with path.open("rb") as archive:
        contents = read_contents(archive.fileno(), limits)
        if any(into.iterdir()):
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY), str(into))
        try:
            for folder in contents.folders:
                (into / folder).mkdir()
                (into / folder).chmod(0o755)
            for entry in contents.files:
                _unpack(archive, entry, into / entry.path)
        except BaseException:
            _clear(into)
            raise
    return _listing(contents.files)


def read(path: Path, name: str, most: int, limits: BundleLimits = DEFAULT_LIMITS) -> bytes | None:
    """A file in a bundle, or its first `most` bytes; None if there is no such file.

    Raises:
        Invalid: as `extract`.
        OSError: the file cannot be read.
    """
    with path.open("rb") as archive:
        for entry in read_contents(archive.fileno(), limits).files:
            if entry.path == name:
                return _beginning(archive, entry, most)
    return None


def stream(
    path: Path, name: str, limits: BundleLimits = DEFAULT_LIMITS
) -> tuple[int, Iterator[bytes]] | None:
    """The size of a file in a bundle, unpacked, and its bytes; None if there is no such file.

    Raises:
        Invalid: as `extract`; what is wrong with the content only shows while it is read.
        OSError: the file cannot be read.
    """
    with path.open("rb") as archive:
        found = [e for e in read_contents(archive.fileno(), limits).files if e.path == name]
    return (found[0].size, _opened(path, found[0])) if found else None


def entry_hint(listing: BundleListing, wanted: str, field: str = "main_entry") -> str:
    """The second half of `There is no main.py in the bundle: …`: what is there, and what to do.

    Files of the wanted name elsewhere, else the topmost ones with its ending, else the topmost.
    `field` is what the submitter would have to set. Ends without a full stop.
    """
    paths = [file.path for file in listing.files if not file.path.startswith("__MACOSX/")]
    paths.sort(key=lambda path: (path.count("/"), path))
    name = wanted.rpartition("/")[2].lower()
    same = [path for path in paths if path.rpartition("/")[2].lower() == name]
    if same:
        return f"found {_named(same)}; set {field} to {'it' if len(same) == 1 else 'one of them'}"
    ending = name[name.rfind(".") :] if "." in name else ".py"
    alike = [path for path in paths if path.lower().endswith(ending)]
    if alike:
        return f"found {_named(alike)}; set {field} to the one that is meant"
    return f"found {_named(paths or ['nothing'])}; put what {field} names into the bundle"


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file's content, in lower-case hexadecimal digits.

    Raises:
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _listing(entries: list[Entry]) -> BundleListing:
    files = sorted((BundleFile(entry.path, entry.size) for entry in entries), key=lambda f: f.path)
    return BundleListing(tuple(files), sum(file.size for file in files))


def _named(paths: list[str]) -> str:
    named = [shown(path) for path in paths[:_NAMED]]
    if len(paths) > _NAMED:
        named.append(f"{len(paths) - _NAMED:,} more")
    return " and ".join(filter(None, (", ".join(named[:-1]), *named[-1:])))


def _opened(path: Path, entry: Entry) -> Iterator[bytes]:
    with path.open("rb") as archive:
        yield from _checked(archive, entry)


def _beginning(archive: BinaryIO, entry: Entry, most: int) -> bytes:
    found = bytearray()
    for piece in _checked(archive, entry):
        found += piece
        if len(found) >= most:
            break
    return bytes(found[:most])


def _unpack(archive: BinaryIO, entry: Entry, to: Path) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(to, "wb", opener=lambda name, _: os.open(name, flags, 0o600)) as file:
        os.fchmod(file.fileno(), 0o755 if entry.executable else 0o644)
        for piece in _checked(archive, entry):
            file.write(piece)


def _checked(archive: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """An entry's bytes, unpacked; refused at the latest behind the last, if they are not right."""
    size = 0
    crc = 0
    try:
        for piece in _pieces(archive, entry):
            size += len(piece)
            if size > entry.size:
                break
            crc = zlib.crc32(piece, crc)
            yield piece
    except zlib.error:
        raise damaged(f"the content of {shown(entry.path)} cannot be decompressed") from None
    if size != entry.size or crc != entry.crc:
        raise damaged(f"the content of {shown(entry.path)} is not what was packed")


def _pieces(archive: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """An entry's bytes, unpacked, at most `_PIECE` at a time."""
    archive.seek(entry.start)
    left = entry.packed
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    while left:
        data = archive.read(min(_PIECE, left))
        left -= len(data)
        if not data or inflater.eof:
            raise damaged(f"the content of {shown(entry.path)} is not as long as declared")
        if not entry.deflated:
            yield data
            continue
        piece = data
        while data or len(piece) == _PIECE:
            piece = inflater.decompress(data, _PIECE)
            data = inflater.unconsumed_tail
            yield piece
    if entry.deflated and (not inflater.eof or inflater.unused_data):
        raise damaged(f"the content of {shown(entry.path)} is not as long as declared")


def _clear(folder: Path) -> None:
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
