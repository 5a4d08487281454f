"""Bytes of a log are stored, and in the same transaction the PROGRESS records that they end."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from dtrain.server.rules.records import read_records
from dtrain.server.store import attempts, jobs, logs
from dtrain.server.store.attempts import Attempt
from dtrain.server.store.database import notice

from . import records


class Piece(msgspec.Struct, frozen=True):
    """Some bytes of an attempt's log."""

    offset: int
    """Of the first of them."""
    data: bytes
    packed: bytes
    """The same, compressed."""


def piece(offset: int, data: bytes) -> Piece:
    """Make bytes ready to be stored, outside of any transaction."""
    return Piece(offset, data, logs.compress(data))


def append(
    connection: sa.Connection, attempt: Attempt, given: Piece, now: float, *, counts: bool
) -> Attempt:
    """Store what follows of a log; what is there already is passed over.

    Args:
        connection: inside a writing transaction.
        attempt: kept from other writers, with a log that goes at least to where the piece begins.
        given: the piece.
        now: seconds since the epoch.
        counts: whether the attempt is the one that counts.

    Returns:
        The attempt as it is then; the same one if there was nothing new.
    """
    start, lines = attempt.log_bytes, attempt.log_lines
    data, packed = given.data[start - given.offset :], given.packed
    if not data:
        return attempt
    if len(data) < len(given.data):
        packed = logs.compress(data)
    logs.append(connection, attempt.job_id, attempt.number, start, lines, data, packed)
    reading = read_records(attempt.log_carry, data)
    total_records = records.store(connection, attempt, reading, now, counts=counts)
    come = {
        "log_bytes": start + len(data),
        "log_lines": lines + data.count(b"\n"),
        "log_carry": reading.carry,
        "metric_records": total_records,
        # Its reported end waits for the log, too.
        "finish_at": now if attempt.state == "finishing" else attempt.finish_at,
    }
    attempts.update(connection, attempt, log_sealed=False, **come)
    notice(connection, jobs.topic(attempt.job_id))
    return msgspec.structs.replace(attempt, **come)
