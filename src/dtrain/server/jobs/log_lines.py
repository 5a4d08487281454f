"""The lines of a log, read block by block: each block holds whole lines."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import msgspec
import sqlalchemy as sa

from dtrain.server.store import logs
from dtrain.server.store.attempts import Attempt

if TYPE_CHECKING:
    from dtrain.server.services import Services

_ENOUGH = 64 * 1024
"""Bytes from which on a block is handed on; small chunks are gathered up to there."""
_LONGEST = 64 * 1024
"""Bytes of a line that goes on and on that are kept; more of the line are passed over."""


class Block(msgspec.Struct, frozen=True):
    """Lines that follow each other."""

    first: int
    """The number of the first line."""
    data: bytes
    """The lines, with newlines between them and none behind the last."""
    size: int
    """Bytes of log that were read for it."""


def blocks(
    services: Services, connection: sa.Connection, attempt: Attempt, first: int
) -> Iterator[Block]:
    """The lines of a log from a number on, up to its end as `attempt` knows it."""
    start = _start(connection, attempt, first)
    if start is None:
        return
    offset, skipped = start
    parts: list[bytes] = []
    size = gathered = 0
    number = first
    for chunk in logs.scan(connection, attempt.job_id, attempt.number, offset, attempt.log_bytes):
        data = unpacked(services, chunk)[: attempt.log_bytes - chunk.start]
        size += len(data)
        if skipped:
            data, skipped = _behind(data, skipped), 0
        parts.append(data)
        gathered += len(data)
        if gathered < _ENOUGH:
            continue
        whole, newline, rest = b"".join(parts).rpartition(b"\n")
        if newline:
            yield Block(number, whole, size)
            number, size = number + whole.count(b"\n") + 1, 0
        parts, gathered = [shortened(rest)], 0
    last = b"".join(parts)
    if last:
        yield Block(number, last.removesuffix(b"\n"), size)


def shortened(line: bytes, most: int = _LONGEST) -> bytes:
    """As much of a long line as counts: of what was rewritten in place the latest version."""
    if len(line) <= most:
        return line
    end = b"\r" if line.endswith(b"\r") else b""
    return line.rstrip(b"\r").rpartition(b"\r")[2][:most] + end


def unpacked(services: Services, chunk: logs.Chunk) -> bytes:
    """The bytes of a chunk."""
    if chunk.data is not None:
        return zlib.decompress(chunk.data)
    path = services.blobs.path(chunk.blob_sha256 or "")
    with path.open("rb") as blob:
        blob.seek(chunk.blob_start or 0)
        return zlib.decompress(blob.read(chunk.blob_length or 0))


def _start(connection: sa.Connection, attempt: Attempt, line: int) -> tuple[int, int] | None:
    """The chunk in which a line begins, by its start, and how many newlines in it come before.

    None if there is no such line.
    """
    if line == 0:
        return 0, 0
    if line > attempt.log_lines:
        return None
    found = logs.chunk_of_newline(connection, attempt.job_id, attempt.number, line - 1)
    return None if found is None else (found[0], line - found[1])


def _behind(data: bytes, newlines: int) -> bytes:
    """What stands behind the n-th newline."""
    return data.split(b"\n", newlines)[newlines]
