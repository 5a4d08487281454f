"""ZIPs made byte by byte, as honest or as false as a test wants them."""

from __future__ import annotations

import stat
import struct
import zlib
from dataclasses import dataclass

UTF8 = 0x800
ENCRYPTED = 0x1
DESCRIPTOR = 0x8
STORED = 0
DEFLATED = 8
UNIX = 3
_WIDE = 0xFFFFFFFF


@dataclass
class Raw:
    """An entry; what is None is as it should be."""

    name: str | bytes
    data: bytes = b"x = 1\n"
    method: int = STORED
    flags: int = UTF8
    mode: int = stat.S_IFREG | 0o644
    host: int = UNIX
    packed: bytes | None = None
    """The bytes in the archive."""
    packed_size: int | None = None
    size: int | None = None
    crc: int | None = None
    local_name: bytes | None = None
    local_method: int | None = None
    offset: int | None = None
    extra: bytes = b""
    """In the directory."""
    local_extra: bytes = b""
    without_local: bool = False
    """The entry has only its line in the directory."""
    wide: bool = False
    """Sizes and offset stand in a zip64 field."""

    @property
    def encoded(self) -> bytes:
        return self.name.encode() if isinstance(self.name, str) else self.name

    @property
    def payload(self) -> bytes:
        if self.packed is not None:
            return self.packed
        return deflate(self.data) if self.method == DEFLATED else self.data

    def local(self) -> bytes:
        """The local header, the content and, where it is flagged, the descriptor behind it."""
        name = self.encoded if self.local_name is None else self.local_name
        later = bool(self.flags & DESCRIPTOR)
        crc, packed, size = (0, 0, 0) if later else self._numbers()
        head = struct.pack(
            "<4s5H3L2H",
            b"PK\3\4",
            20,
            self.flags,
            self.method if self.local_method is None else self.local_method,
            0,
            0x21,
            crc,
            min(packed, _WIDE),
            min(size, _WIDE),
            len(name),
            len(self.local_extra),
        )
        tail = struct.pack("<4s3L", b"PK\7\x08", *self._numbers()) if later else b""
        return head + name + self.local_extra + self.payload + tail

    def central(self, offset: int) -> bytes:
        """The entry's line in the directory."""
        crc, packed, size = self._numbers()
        offset = offset if self.offset is None else self.offset
        extra = self.extra
        if self.wide:
            extra += struct.pack("<2H3Q", 1, 24, size, packed, offset)
            packed = size = offset = _WIDE
        head = struct.pack(
            "<4s2B5H3L5H2L",
            b"PK\1\2",
            20,
            self.host,
            20,
            self.flags,
            self.method,
            0,
            0x21,
            crc,
            packed,
            size,
            len(self.encoded),
            len(extra),
            0,
            0,
            0,
            self.mode << 16,
            offset,
        )
        return head + self.encoded + extra

    def _numbers(self) -> tuple[int, int, int]:
        crc = zlib.crc32(self.data) if self.crc is None else self.crc
        packed = len(self.payload) if self.packed_size is None else self.packed_size
        return crc, packed, len(self.data) if self.size is None else self.size


@dataclass
class End:
    """What the end of an archive says; what is None is as it should be."""

    count: int | None = None
    count_here: int | None = None
    size: int | None = None
    offset: int | None = None
    disk: int = 0
    comment: bytes = b""
    comment_size: int | None = None
    zip64: bool = False
    count64: int | None = None
    size64: int | None = None
    offset64: int | None = None
    locator: int | None = None
    """The offset of the zip64 record."""
    disks: int = 1
    record_size: int = 44


def deflate(data: bytes, level: int = 9) -> bytes:
    """Raw deflated bytes."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


def make(*entries: Raw, end: End | None = None, before: bytes = b"", behind: bytes = b"") -> bytes:
    """An archive; with `before`, all offsets are right all the same."""
    body = bytearray(before)
    directory = bytearray()
    for entry in entries:
        directory += entry.central(len(body))
        if not entry.without_local:
            body += entry.local()
    return bytes(body + directory + ending(len(body), len(directory), len(entries), end)) + behind


def ending(offset: int, size: int, count: int, end: End | None = None) -> bytes:
    """The end records of an archive."""
    end = end or End()
    wide = b""
    if end.zip64:
        at = offset + size
        real = (
            count if end.count64 is None else end.count64,
            count if end.count64 is None else end.count64,
            size if end.size64 is None else end.size64,
            offset if end.offset64 is None else end.offset64,
        )
        wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", end.record_size, 45, 45, 0, 0, *real)
        place = at if end.locator is None else end.locator
        wide += struct.pack("<4sLQL", b"PK\6\7", 0, place, end.disks)
        count, size, offset = min(count, 0xFFFF), _WIDE, _WIDE
    claimed = count if end.count is None else end.count
    return (
        wide
        + struct.pack(
            "<4s4H2LH",
            b"PK\5\6",
            end.disk,
            0,
            claimed if end.count_here is None else end.count_here,
            claimed,
            size if end.size is None else end.size,
            offset if end.offset is None else end.offset,
            len(end.comment) if end.comment_size is None else end.comment_size,
        )
        + end.comment
    )
