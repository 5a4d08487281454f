"""Logs as people read them: pages of lines, and raw bytes."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import sqlalchemy as sa

from dtrain.protocol.errors import Invalid, NotFound
from dtrain.protocol.messages import LogLine, LogPage
from dtrain.protocol.progress import level_of
from dtrain.server.store import attempts, job_views, logs
from dtrain.server.store.attempts import Attempt

if TYPE_CHECKING:
    from dtrain.server.services import Services

MAX_LINES = 10_000
"""Lines on one page at most."""
_MAX_TEXT = 16 * 1024
"""Bytes of a line that a page shows; the raw log has the rest."""
_MAX_SCAN = 64 * 1024 * 1024
"""Bytes that one page looks through for lines that match."""
LEVELS = ("INFO", "WARNING", "ERROR", "PROGRESS")


def size(services: Services, job_id: int, *, attempt: int | None = None) -> tuple[int, int]:
    """Which attempt is meant, and how many bytes its log has.

    Raises:
        NotFound: there is no such job or attempt.
    """
    with services.database.read() as connection:
        found = attempt_of(connection, job_id, attempt)
        return (0, 0) if found is None else (found.number, found.log_bytes)


def raw(services: Services, job_id: int, *, attempt: int, start: int, end: int) -> Iterator[bytes]:
    """The bytes of a log from `start` up to `end`, piece by piece."""
    while start < end:
        piece = read_piece(services, job_id, attempt, start)
        if not piece:
            return
        yield piece[: end - start]
        start += len(piece)


def read_piece(services: Services, job_id: int, attempt: int, offset: int) -> bytes:
    """The bytes from an offset up to the end of the chunk they lie in; empty at the log's end."""
    with services.database.read() as connection:
        chunk = logs.chunk_at(connection, job_id, attempt, offset)
    if chunk is None:
        return b""
    return _unpacked(services, chunk)[offset - chunk.start :]


def page(
    services: Services,
    job_id: int,
    *,
    attempt: int | None = None,
    after: int = 0,
    limit: int = 1000,
    level: str | None = None,
    q: str | None = None,
    tail: bool = False,
) -> LogPage:
    """Lines of a log.

    Args:
        services: the server's parts.
        job_id: the job's number.
        attempt: the attempt's; the latest if none is given.
        after: the number of the first line wanted.
        limit: lines on the page.
        level: only lines of this level, or of these with commas.
        q: only lines that hold this text, whatever its case.
        tail: the last lines instead of those from `after` on.

    Raises:
        NotFound: there is no such job or attempt.
        Invalid: a filter is not acceptable.
    """
    levels = _levels(level)
    if not 1 <= limit <= MAX_LINES:
        raise Invalid(f"The limit is a number from 1 to {MAX_LINES}.", field="limit")
    with services.database.read() as connection:
        found = attempt_of(connection, job_id, attempt)
    if found is None:
        return LogPage(attempt=0, lines=[], next=0, more=False, total_lines=0, total_bytes=0)
    total = _total_lines(services, found)
    first = max(total - limit, 0) if tail else max(after, 0)
    lines: list[LogLine] = []
    following, scanned = first, 0
    for number, line, width in _lines(services, found, first):
        if len(lines) >= limit or scanned > _MAX_SCAN:
            break
        following, scanned = number + 1, scanned + width
        text = line.decode(errors="replace")
        if _matches(text, levels, q):
            lines.append(LogLine(number=number, level=level_of(text), text=text))
    return LogPage(
        attempt=found.number,
        lines=lines,
        next=following,
        more=following < total,
        total_lines=total,
        total_bytes=found.log_bytes,
    )


def attempt_of(connection: sa.Connection, job_id: int, number: int | None) -> Attempt | None:
    """The attempt that is meant; None if the job has had none yet.

    Raises:
        NotFound: there is no such job or attempt.
    """
    wanted = number if number is not None else job_views.get(connection, job_id).attempt
    found = attempts.get(connection, job_id, wanted)
    if found is None and wanted != 0:
        job_views.get(connection, job_id)
        raise NotFound(f"Job {job_id} has no attempt {wanted}.", field="attempt")
    return found


def _total_lines(services: Services, attempt: Attempt) -> int:
    """Newlines, and one more if the log does not end with one."""
    if attempt.log_bytes == 0:
        return 0
    last = read_piece(services, attempt.job_id, attempt.number, attempt.log_bytes - 1)
    return attempt.log_lines + (not last.endswith(b"\n"))


def _lines(services: Services, attempt: Attempt, first: int) -> Iterator[tuple[int, bytes, int]]:
    """Lines from a number on: number, the bytes shown, and how many bytes the line has."""
    offset = _offset_of(services, attempt, first)
    if offset is None:
        return
    number, head, width = first, bytearray(), 0
    while offset < attempt.log_bytes:
        piece = read_piece(services, attempt.job_id, attempt.number, offset)
        piece = piece[: attempt.log_bytes - offset]
        if not piece:
            break
        offset += len(piece)
        *whole, rest = piece.split(b"\n")
        for part in whole:
            yield number, bytes(head + part[: _MAX_TEXT - len(head)]), width + len(part) + 1
            number, head, width = number + 1, bytearray(), 0
        head += rest[: _MAX_TEXT - len(head)]
        width += len(rest)
    if width:
        yield number, bytes(head), width


def _offset_of(services: Services, attempt: Attempt, line: int) -> int | None:
    """Where a line begins; None if there is no such line."""
    if line == 0:
        return 0
    if line > attempt.log_lines:
        return None
    with services.database.read() as connection:
        chunk = logs.chunk_of_newline(connection, attempt.job_id, attempt.number, line - 1)
    if chunk is None:
        return None
    data = _unpacked(services, chunk)
    place = -1
    for _ in range(line - chunk.first_line):
        place = data.index(b"\n", place + 1)
    return chunk.start + place + 1


def _unpacked(services: Services, chunk: logs.Chunk) -> bytes:
    if chunk.data is not None:
        return zlib.decompress(chunk.data)
    path = services.blobs.path(chunk.blob_sha256 or "")
    with path.open("rb") as blob:
        blob.seek(chunk.blob_start or 0)
        return zlib.decompress(blob.read(chunk.blob_length or 0))


def _matches(text: str, levels: frozenset[str], q: str | None) -> bool:
    return (not q or q.casefold() in text.casefold()) and (not levels or level_of(text) in levels)


def _levels(text: str | None) -> frozenset[str]:
    levels = frozenset(word.strip().upper() for word in (text or "").split(",") if word.strip())
    if not levels <= set(LEVELS):
        raise Invalid(f"There is no such level; the levels are {', '.join(LEVELS)}.", field="level")
    return levels
