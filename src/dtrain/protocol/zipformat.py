"""The parts of a ZIP as they lie in the file: end records, central directory, local headers.

Nothing is believed because it is written: whatever two places say must agree, and what is not
exactly where it should be is refused. Hence no other reader sees another archive in the same bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple

from .bundlepaths import fault, shown
from .errors import Invalid

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4sBB5H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_END64 = struct.Struct("<4sQ2H2L4Q")
_LOCATOR = struct.Struct("<4sLQL")
_LENGTHS = struct.Struct("<3H")
_NARROW = 0xFFFF
_WIDE = 0xFFFFFFFF
_KINDS = (
    (0, b"\x1f\x8b", "a gzip or tar.gz archive"),
    (257, b"ustar", "a tar archive"),
    (0, b"Rar!", "a RAR archive"),
    (0, b"7z\xbc\xaf", "a 7z archive"),
    (0, b"BZh", "a bzip2 archive"),
    (0, b"\xfd7zXZ", "an xz archive"),
    (0, b"\x28\xb5\x2f\xfd", "a Zstandard archive"),
    (0, b"%PDF", "a PDF"),
    (0, b"\x7fELF", "a program"),
    (0, b"MZ", "a Windows program"),
)
AGAIN = "make it again, for example with `zip -r job.zip .`"


class Source:
    """The bytes of an archive, by their place."""

    def __init__(self, descriptor: int) -> None:
        """Read from an open file, which stays open."""
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, offset: int, size: int) -> bytes:
        """The `size` bytes from `offset` on.

        Raises:
            Invalid: if the archive has not so many.
            OSError: the file cannot be read.
        """
        data = b""
        if offset + size <= self.size:
            data = os.pread(self._descriptor, size, offset)
        if len(data) != size:
            raise damaged("it ends too early")
        return data


class Directory(NamedTuple):
    """Where the central directory is, and how many entries it is said to have."""

    offset: int
    size: int
    entries: int


class Record(NamedTuple):
    """An entry as the central directory has it."""

    name: bytes
    flags: int
    method: int
    crc: int
    packed: int
    """Bytes in the archive."""
    size: int
    """Bytes, unpacked."""
    mode: int
    """As of `stat`; 0 where the archive comes from elsewhere than Unix."""
    offset: int
    """Of the local header."""


def damaged(why: str) -> Invalid:
    """The error for bytes that do not make a ZIP."""
    return fault(f"The ZIP is damaged: {why}; {AGAIN}.")


def find_directory(source: Source) -> Directory:
    """Where the archive's central directory is, by its end records.

    Raises:
        Invalid: no ZIP, a damaged or a split one, or one with something before or behind it.
    """
    tail_size = min(source.size, _END.size + _NARROW)
    tail = source.read(source.size - tail_size, tail_size)
    found = tail.rfind(b"PK\5\6")
    head = source.read(0, min(source.size, 512))
    if not head.startswith((b"PK\3\4", b"PK\5\6", b"PK\6\6")):
        raise _not_zip(head, has_end=found >= 0)
    if found < 0 or tail_size - found < _END.size:
        raise damaged("its end is missing, perhaps it was cut off on the way")
    _, disk, first_disk, here, count, size, offset, comment = _END.unpack_from(tail, found)
    if found + _END.size + comment != tail_size:
        raise fault(f"There is something behind the end of the ZIP; {AGAIN}.", "bundle_unsafe")
    if disk or first_disk or here != count:
        raise _split()
    end = source.size - tail_size + found
    directory = Directory(offset, size, count)
    wide = _find_wide_directory(source, end)
    if wide:
        end, directory = wide
        _check_agreement(Directory(offset, size, count), directory)
    if directory.offset + directory.size != end:
        raise damaged("its directory is not where its end says")
    return directory


def records(source: Source, directory: Directory) -> list[Record]:
    """The entries of the central directory.

    Raises:
        Invalid: it does not consist of exactly as many as are claimed.
    """
    data = source.read(directory.offset, directory.size)
    starts: list[int] = []
    at = 0
    while len(data) - at >= _CENTRAL.size and len(starts) < directory.entries:
        starts.append(at)
        at += _CENTRAL.size + sum(_LENGTHS.unpack_from(data, at + 28))
    if len(starts) != directory.entries or at != len(data):
        raise damaged("it does not hold as many entries as it says")
    return [_record(data, start) for start in starts]


def find_data(source: Source, record: Record) -> int:
    """The offset of an entry's bytes, behind its local header.

    Raises:
        Invalid: the local header says something else than the directory.
    """
    head = source.read(record.offset, _LOCAL.size + len(record.name))
    sign, _, flags, method, _, _, _, _, _, name_length, extra_length = _LOCAL.unpack_from(head)
    if sign != b"PK\3\4":
        raise damaged(f"{shown(record.name)} is not where the directory says")
    if name_length != len(record.name) or not head.endswith(record.name):
        raise fault(
            f"The entry {shown(record.name)} has another name in its own header; {AGAIN}.",
            "bundle_unsafe",
        )
    if (flags ^ record.flags) & 1 or method != record.method:
        raise damaged(f"the headers of {shown(record.name)} contradict each other")
    return record.offset + _LOCAL.size + int(name_length) + int(extra_length)


def _find_wide_directory(source: Source, end: int) -> tuple[int, Directory] | None:
    """The zip64 end record before the end record at `end`: its offset and what it says."""
    at = end - _LOCATOR.size
    if at < 0:
        return None
    sign, disk, offset, disks = _LOCATOR.unpack(source.read(at, _LOCATOR.size))
    if sign != b"PK\6\7":
        return None
    if offset + _END64.size != at:
        raise damaged("its zip64 record is not where it is said to be")
    sign, rest, _, _, this_disk, first_disk, here, count, size, first = _END64.unpack(
        source.read(offset, _END64.size)
    )
    if sign != b"PK\6\6" or rest != _END64.size - 12:
        raise damaged("its zip64 record is malformed")
    if disk or this_disk or first_disk or disks > 1 or here != count:
        raise _split()
    return offset, Directory(first, size, count)


def _check_agreement(narrow: Directory, wide: Directory) -> None:
    """Each number of the plain end record is that of the zip64 one, or says to look there."""
    overflows = Directory(_WIDE, _WIDE, _NARROW)
    for said, true, overflow in zip(narrow, wide, overflows, strict=True):
        if said not in {true, overflow}:
            raise damaged("its two end records contradict each other")


def _split() -> Invalid:
    return fault("The ZIP is one part of a split archive; make it in one piece.")


def _not_zip(head: bytes, *, has_end: bool) -> Invalid:
    kind = next((kind for at, sign, kind in _KINDS if head.startswith(sign, at)), None)
    if kind is None and head.lstrip()[:9].lower().startswith((b"<!doctype", b"<html")):
        kind = "a web page"
    if has_end:
        before = kind or "something else"
        return fault(f"The ZIP begins with {before}, not with a file; {AGAIN}.", "bundle_unsafe")
    if kind is None and not any(byte < 9 for byte in head):
        kind = "text"
    looks = f" but looks like {kind}" if kind else ""
    return fault(f"The file is not a ZIP{looks}: make a ZIP of the job's folder.", "bundle_not_zip")


def _record(data: bytes, at: int) -> Record:
    sign, _, _, _, flags, method, _, _, crc, packed, size, n, e, _, disk, _, attributes, offset = (
        _CENTRAL.unpack_from(data, at)
    )
    if sign != b"PK\1\2":
        raise damaged("its directory is malformed")
    if disk:
        raise _split()
    at += _CENTRAL.size
    if _WIDE in {packed, size, offset}:
        size, packed, offset = _widened(data[at + n : at + n + e], size, packed, offset)
    return Record(data[at : at + n], flags, method, crc, packed, size, attributes >> 16, offset)


def _widened(extra: bytes, *values: int) -> Iterator[int]:
    """Each value, or the next one of the zip64 field where it says that it did not fit."""
    wide = _wide_values(extra)
    for value in values:
        if value != _WIDE:
            yield value
        elif wide:
            yield wide.pop(0)
        else:
            raise damaged("a zip64 size is missing")


def _wide_values(extra: bytes) -> list[int]:
    at = 0
    while len(extra) - at >= 4:
        kind, length = struct.unpack_from("<2H", extra, at)
        if kind == 1:
            field = extra[at + 4 : at + 4 + length]
            count = min(len(field) // 8, 3)
            return list(struct.unpack_from(f"<{count}Q", field))
        at += 4 + length
    return []
