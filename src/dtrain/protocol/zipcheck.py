"""Whether a ZIP is fit to be a bundle, told from its central directory before anything is unpacked.

What is not needed to hand in code and data is refused: names that escape or collide, links,
devices, encryption, compressions other than deflate, overlapping entries, bombs.
"""

from __future__ import annotations

import stat
from typing import NamedTuple

import msgspec

from .bundlepaths import Tree, check_path, fault, shown
from .zipformat import AGAIN, Directory, Record, Source, damaged, find_data, find_directory, records

_GIB = 1024**3


class BundleLimits(msgspec.Struct, frozen=True):
    """How large a bundle may be."""

    archive_bytes: int = 10 * _GIB
    """Of the ZIP."""
    expanded_bytes: int = 50 * _GIB
    """Of all files, unpacked."""
    entries: int = 100_000
    """Files and folders."""
    directory_bytes: int = 32 * 1024**2
    """Of the ZIP's central directory."""
    ratio: int = 200
    """Unpacked bytes for each packed one, in files of more than `RATIO_FREE` bytes."""


DEFAULT_LIMITS = BundleLimits()
UNLIMITED = BundleLimits(*[2**63] * 5)
"""For a bundle that was let in before."""
RATIO_FREE = 1024**2
"""Unpacked bytes up to which a file may be packed however tightly."""

_ENCRYPTED = 0x0001 | 0x0040 | 0x2000
_STORED = 0
_DEFLATED = 8
_METHODS = {
    9: "Deflate64, as Windows Explorer does with files over 2 GB",
    12: "bzip2",
    14: "LZMA",
    93: "Zstandard",
    95: "XZ",
    98: "PPMd",
    99: "AES encryption",
}


class Entry(NamedTuple):
    """A regular file of an archive."""

    path: str
    size: int
    """Bytes, unpacked."""
    packed: int
    """Bytes in the archive."""
    start: int
    """The offset of the first of them."""
    crc: int
    deflated: bool
    executable: bool


class Contents(NamedTuple):
    """What an archive holds."""

    files: list[Entry]
    folders: list[str]
    """Each after the one it is in."""


def read_contents(descriptor: int, limits: BundleLimits) -> Contents:
    """What the archive behind an open file holds, once all of it has been checked.

    Raises:
        Invalid: field `file`; the codes are those of `bundlepaths.fault`.
        OSError: the file cannot be read.
    """
    source = Source(descriptor)
    if source.size == 0:
        raise fault("The file is empty, no bytes arrived; send a ZIP.", "bundle_empty")
    if source.size > limits.archive_bytes:
        raise fault(
            f"The bundle has {source.size:,} bytes, and at most {limits.archive_bytes:,} are"
            " accepted; leave data out, or have the job fetch it.",
            "bundle_too_large",
        )
    directory = find_directory(source)
    _check_directory(directory, limits)
    found = sorted(records(source, directory), key=lambda record: record.offset)
    contents = _contents(source, found, directory.offset, limits)
    if not contents.files:
        raise fault("The ZIP holds no file; put the job's code into it.", "bundle_empty")
    return contents


def _check_directory(directory: Directory, limits: BundleLimits) -> None:
    if directory.entries > limits.entries:
        raise fault(
            f"The ZIP holds {directory.entries:,} files and folders, and at most {limits.entries:,}"
            " are accepted; put them into one archive that the job unpacks.",
            "bundle_too_large",
        )
    if directory.size > limits.directory_bytes:
        raise fault(
            f"The directory of the ZIP has {directory.size:,} bytes, and at most"
            f" {limits.directory_bytes:,} are accepted; use fewer files or shorter names.",
            "bundle_too_large",
        )


def _contents(source: Source, found: list[Record], end: int, limits: BundleLimits) -> Contents:
    """Check the entries, given in the order of their places, all of which must lie before `end`."""
    tree = Tree(limits.entries)
    files: list[Entry] = []
    free = 0
    expanded = 0
    for record in found:
        path = _path(record.name)
        _check_kind(path, record)
        expanded += record.size
        _check_size(path, record, expanded, limits)
        start = find_data(source, record)
        if record.offset < free or start + record.packed > end:
            raise fault(f"The entry {shown(path)} overlaps another one; {AGAIN}.", "bundle_unsafe")
        free = start + record.packed
        if path.endswith("/") or not path:
            tree.add_folder(path[:-1])
        else:
            tree.add_file(path)
            files.append(_entry(path, record, start))
    if found and found[0].offset:
        raise fault(f"There is something before the first file; {AGAIN}.", "bundle_unsafe")
    return Contents(files, sorted(tree.folders))


def _entry(path: str, record: Record, start: int) -> Entry:
    return Entry(
        path=path,
        size=record.size,
        packed=record.packed,
        start=start,
        crc=record.crc,
        deflated=record.method == _DEFLATED,
        executable=bool(record.mode & 0o111),
    )


def _path(name: bytes) -> str:
    """The path that a name stands for, checked; a folder's ends with a slash, the root's is empty.

    Names are read as UTF-8 whether or not they are flagged so, for the common `zip` of Linux and
    the Finder leave the flag out. One that is not UTF-8 could mean anything, and is refused.
    """
    if name == b"./":
        return ""
    try:
        path = name.decode().removeprefix("./")
    except UnicodeDecodeError:
        raise fault(
            f"The name {shown(name)} is not UTF-8; rename the file, or make the ZIP with a tool"
            " that writes UTF-8 names.",
            "bundle_unsafe",
        ) from None
    check_path(path[:-1] if path.endswith("/") else path)
    return path


def _check_kind(path: str, record: Record) -> None:
    if record.flags & _ENCRYPTED:
        raise fault(f"The entry {shown(path)} is encrypted; make the ZIP without a password.")
    if record.method not in {_STORED, _DEFLATED}:
        method = _METHODS.get(record.method, f"method {record.method}")
        raise fault(
            f"The entry {shown(path)} is compressed with {method}, which is not supported; {AGAIN}."
        )
    kind = stat.S_IFMT(record.mode)
    folder = record.name.endswith(b"/")
    if kind == stat.S_IFLNK:
        raise fault(
            f"The entry {shown(path)} is a symbolic link; put the file itself into the ZIP.",
            "bundle_unsafe",
        )
    if kind not in {0, stat.S_IFDIR if folder else stat.S_IFREG}:
        raise fault(
            f"The entry {shown(path)} is neither a file nor a folder; leave it out.",
            "bundle_unsafe",
        )
    if folder and record.size:
        raise fault(f"The folder {shown(path)} has content of its own; {AGAIN}.", "bundle_unsafe")


def _check_size(path: str, record: Record, expanded: int, limits: BundleLimits) -> None:
    if record.method == _STORED and record.packed != record.size:
        raise damaged(f"the sizes of {shown(path)} contradict each other")
    if record.size > RATIO_FREE and record.size > limits.ratio * record.packed:
        raise fault(
            f"The entry {shown(path)} unpacks to more than {limits.ratio} times its packed size;"
            " store it uncompressed, or leave it out.",
            "bundle_too_large",
        )
    if expanded > limits.expanded_bytes:
        raise fault(
            f"The bundle unpacks to more than {limits.expanded_bytes:,} bytes; leave data out, or"
            " have the job fetch it.",
            "bundle_too_large",
        )
