"""PROGRESS records out of a log that arrives in pieces."""

from __future__ import annotations

from typing import Any

import msgspec

from dtrain.protocol.progress import MAX_LINE, PREFIX, parse_progress


class Reading(msgspec.Struct, frozen=True):
    """What a piece of a log has brought."""

    records: list[dict[str, Any]]
    carry: bytes
    """The line that has begun, to be handed in with the next piece; cut once it is too long."""


def read_records(carry: bytes, data: bytes) -> Reading:
    """Read the records of the lines that a piece completes.

    Args:
        carry: what the piece before left.
        data: the piece.
    """
    whole, newline, rest = data.rpartition(b"\n")
    if not newline:
        return Reading([], _begun(carry + data))
    records = []
    if _may_hold(carry, whole):
        for line in (carry + whole).split(b"\n"):
            record = parse_progress(line) if PREFIX in line else None
            if record is not None:
                records.append(record)
    return Reading(records, _begun(rest))


def last_record(carry: bytes) -> Reading:
    """Read the record of a last line that was never ended."""
    record = parse_progress(carry)
    return Reading([] if record is None else [record], b"")


def _may_hold(carry: bytes, whole: bytes) -> bool:
    return bool(carry) or PREFIX in whole


def _begun(line: bytes) -> bytes:
    """As much of a begun line as is needed to know whether it is a record.

    Of what was rewritten in place the latest counts, as in `parse_progress`; whether a carriage
    return at the end belongs to a line's end or begins another rewriting, the next piece tells.
    One byte more than a record can have keeps a long line from becoming one by being cut.
    """
    body = line.rstrip(b"\r")
    end = b"\r" if len(body) < len(line) else b""
    _, returned, last = body.rpartition(b"\r")
    if not returned and not PREFIX.startswith(last.lstrip()[: len(PREFIX)]):
        return b"\0" + end
    return returned + last[: MAX_LINE + 1] + end
