"""Logs as people read them: pages of lines, and raw bytes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import sqlalchemy as sa

from dtrain.protocol.errors import Invalid, NotFound
from dtrain.protocol.messages import LogLine, LogMatches, LogPage
from dtrain.protocol.progress import level_of
from dtrain.server.rules.matching import LEVELS, Filter
from dtrain.server.store import attempts, job_views, logs
from dtrain.server.store.attempts import Attempt

from .log_lines import blocks, shortened, unpacked

if TYPE_CHECKING:
    from dtrain.server.services import Services

MAX_LINES = 10_000
"""Lines on one page at most."""
_ENOUGH = 256 * 1024
"""Bytes from which on no further chunk is read with others."""
_MAX_TEXT = 16 * 1024
"""Bytes of a line that a page shows; the raw log has the rest."""
_MAX_SCAN = 64 * 1024 * 1024
"""Bytes that one page looks through for lines that match."""
_MAX_RANGES = 100_000
"""Ranges of lines that match after which an answer ends."""


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
    """The bytes from an offset up to a chunk's end, small chunks together; empty at the log's end.

    A log that was printed slowly has a chunk for each few lines; whoever follows it from its
    beginning must not have to ask for each.
    """
    with services.database.read() as connection:
        first = logs.chunk_at(connection, job_id, attempt, offset)
        if first is None:
            return b""
        parts = [unpacked(services, first)[offset - first.start :]]
        behind, end = first.start + first.length, offset + _ENOUGH
        if behind < end:
            following = logs.scan(connection, job_id, attempt, behind, end)
            parts += [unpacked(services, chunk) for chunk in following]
    return b"".join(parts)


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
    wanted = Filter(_levels(level), q or "")
    if not 1 <= limit <= MAX_LINES:
        raise Invalid(f"The limit is a number from 1 to {MAX_LINES}.", field="limit")
    with services.database.read() as connection:
        found = attempt_of(connection, job_id, attempt)
        if found is None:
            return LogPage(attempt=0, lines=[], next=0, more=False, total_lines=0, total_bytes=0)
        total = _total_lines(services, found)
        first = max(total - limit, 0) if tail else max(after, 0)
        lines, following = _lines(services, connection, found, first, limit, wanted)
    return LogPage(
        attempt=found.number,
        lines=lines,
        next=following,
        more=following < total,
        total_lines=total,
        total_bytes=found.log_bytes,
    )


def matches(
    services: Services,
    job_id: int,
    *,
    attempt: int | None = None,
    after: int = 0,
    level: str | None = None,
    q: str | None = None,
) -> LogMatches:
    """The numbers of the lines that match, without the lines, as ranges.

    Args:
        services: the server's parts.
        job_id: the job's number.
        attempt: the attempt's; the latest if none is given.
        after: the number of the first line looked at.
        level: only lines of this level, or of these with commas.
        q: only lines that hold this text, whatever its case.

    Raises:
        NotFound: there is no such job or attempt.
        Invalid: a filter is not acceptable.
    """
    wanted = Filter(_levels(level), q or "")
    ranges: list[list[int]] = []
    following, scanned = after, 0
    with services.database.read() as connection:
        found = attempt_of(connection, job_id, attempt)
        if found is None:
            return LogMatches(attempt=0, ranges=[], next=0, more=False, total_lines=0)
        total = _total_lines(services, found)
        for block in blocks(services, connection, found, after):
            _extend(ranges, block.first, wanted.matching(block.data))
            following = block.first + block.data.count(b"\n") + 1
            scanned += block.size
            if scanned > _MAX_SCAN or len(ranges) > _MAX_RANGES:
                break
    return LogMatches(
        attempt=found.number,
        ranges=ranges,
        next=following,
        more=following < total,
        total_lines=total,
    )


def _lines(
    services: Services,
    connection: sa.Connection,
    attempt: Attempt,
    first: int,
    limit: int,
    wanted: Filter,
) -> tuple[list[LogLine], int]:
    """Lines that are wanted, and the number of the first one that was not looked at."""
    found: list[LogLine] = []
    following, scanned = first, 0
    for block in blocks(services, connection, attempt, first):
        lines = block.data.split(b"\n", -1 if wanted else limit - len(found))
        indices = wanted.matching(block.data) if wanted else range(len(lines))
        left = limit - len(found)
        found += [_line(block.first + index, lines[index]) for index in indices[:left]]
        following, scanned = block.first + len(lines), scanned + block.size
        if len(found) >= limit:
            return found, found[-1].number + 1
        if scanned > _MAX_SCAN:
            break
    return found, following


def _line(number: int, line: bytes) -> LogLine:
    text = shortened(line, _MAX_TEXT).decode(errors="replace")
    return LogLine(number=number, level=level_of(text), text=text)


def _extend(ranges: list[list[int]], first: int, indices: list[int]) -> None:
    """Add lines to ranges; those that follow each other make one."""
    for index in indices:
        number = first + index
        if ranges and ranges[-1][1] == number - 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])


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


def _levels(text: str | None) -> frozenset[str]:
    levels = frozenset(word.strip().upper() for word in (text or "").split(",") if word.strip())
    if not levels <= set(LEVELS):
        raise Invalid(f"There is no such level; the levels are {', '.join(LEVELS)}.", field="level")
    return levels
