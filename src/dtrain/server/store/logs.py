"""Logs: raw bytes in compressed chunks, found by byte offset or by line number."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import msgspec
import sqlalchemy as sa

from .schema import log_chunks

MAX_CHUNK = 1 << 20
"""Bytes of log in one chunk at most, before compression."""

_INSERT = log_chunks.insert()
_OF_LOG = sa.and_(
    log_chunks.c.job_id == sa.bindparam("job_id"), log_chunks.c.attempt == sa.bindparam("attempt")
)
_OFFSET = sa.bindparam("offset", type_=sa.BigInteger)
_START_AT = (
    sa.select(sa.func.max(log_chunks.c.start))
    .where(_OF_LOG, log_chunks.c.start <= _OFFSET)
    .scalar_subquery()
)
_AT = (
    sa.select(log_chunks)
    .where(_OF_LOG, log_chunks.c.start >= sa.func.coalesce(_START_AT, 0))
    .where(log_chunks.c.start + log_chunks.c.length > _OFFSET)
    .order_by(log_chunks.c.start)
    .limit(1)
)
_OF_NEWLINE = (
    sa.select(log_chunks.c.start, log_chunks.c.first_line)
    .where(_OF_LOG, log_chunks.c.first_line <= sa.bindparam("newline"), log_chunks.c.lines > 0)
    .order_by(log_chunks.c.first_line.desc(), log_chunks.c.start.desc())
    .limit(1)
)
_SCAN = (
    sa.select(log_chunks)
    .where(_OF_LOG, log_chunks.c.start >= sa.bindparam("start"))
    .where(log_chunks.c.start < sa.bindparam("end"))
    .order_by(log_chunks.c.start)
    .execution_options(yield_per=16)
)
_UNSEALED = (
    sa.select(log_chunks)
    .where(_OF_LOG, log_chunks.c.start >= sa.bindparam("after"), log_chunks.c.data.is_not(None))
    .order_by(log_chunks.c.start)
    .limit(16)
)
_SEAL = (
    log_chunks.update()
    .where(
        log_chunks.c.job_id == sa.bindparam("this_job"),
        log_chunks.c.attempt == sa.bindparam("this_attempt"),
        log_chunks.c.start == sa.bindparam("this_start"),
    )
    .values(
        data=None,
        blob_sha256=sa.bindparam("sha256"),
        blob_start=sa.bindparam("place"),
        blob_length=sa.bindparam("size"),
    )
)


class Chunk(msgspec.Struct, frozen=True, kw_only=True):
    """Where a piece of a log begins and where its bytes are."""

    start: int
    """Offset of the first byte in the attempt's log."""
    length: int
    first_line: int
    """Newlines before the chunk."""
    lines: int
    """Newlines in the chunk."""
    data: bytes | None
    blob_sha256: str | None
    blob_start: int | None
    blob_length: int | None


def append(
    connection: sa.Connection,
    job_id: int,
    attempt: int,
    start: int,
    first_line: int,
    data: bytes,
    compressed: bytes,
) -> None:
    """Store the bytes that follow at `start`; `compressed` is `data` under zlib."""
    connection.execute(
        _INSERT,
        {
            "job_id": job_id,
            "attempt": attempt,
            "start": start,
            "length": len(data),
            "first_line": first_line,
            "lines": data.count(b"\n"),
            "data": compressed,
        },
    )


def compress(data: bytes) -> bytes:
    """Log bytes as they are stored."""
    return zlib.compress(data, 1)


def chunk_at(connection: sa.Connection, job_id: int, attempt: int, offset: int) -> Chunk | None:
    """The chunk that holds the byte at an offset, else the next one."""
    which = {"job_id": job_id, "attempt": attempt, "offset": offset}
    row = connection.execute(_AT, which).one_or_none()
    return None if row is None else _chunk(row)


def chunk_of_newline(
    connection: sa.Connection, job_id: int, attempt: int, newline: int
) -> tuple[int, int] | None:
    """The chunk that holds the n-th newline, counted from 0: its start, and newlines before it."""
    which = {"job_id": job_id, "attempt": attempt, "newline": newline}
    found = connection.execute(_OF_NEWLINE, which).one_or_none()
    return None if found is None else (found.start, found.first_line)


def scan(
    connection: sa.Connection, job_id: int, attempt: int, start: int, end: int
) -> Iterator[Chunk]:
    """The chunks that begin at or behind `start` and before `end`, in order, read as they go."""
    which = {"job_id": job_id, "attempt": attempt, "start": start, "end": end}
    for row in connection.execute(_SCAN, which):
        yield _chunk(row)


def chunks(connection: sa.Connection, job_id: int, attempt: int, after: int) -> list[Chunk]:
    """Some chunks of a log that lie in the database and begin at or behind an offset, in order."""
    which = {"job_id": job_id, "attempt": attempt, "after": after}
    return [_chunk(row) for row in connection.execute(_UNSEALED, which)]


def seal(
    connection: sa.Connection,
    job_id: int,
    attempt: int,
    sha256: str,
    places: list[tuple[int, int, int]],
) -> None:
    """From now on the chunks lie in a blob: for each its start, and its place and length there."""
    if not places:
        return
    log = {"this_job": job_id, "this_attempt": attempt, "sha256": sha256}
    connection.execute(
        _SEAL,
        [
            log | {"this_start": start, "place": place, "size": size}
            for start, place, size in places
        ],
    )


def _chunk(row: sa.Row[Any]) -> Chunk:
    return Chunk(
        start=row.start,
        length=row.length,
        first_line=row.first_line,
        lines=row.lines,
        data=None if row.data is None else bytes(row.data),
        blob_sha256=row.blob_sha256,
        blob_start=row.blob_start,
        blob_length=row.blob_length,
    )
