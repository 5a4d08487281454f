from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dtrain.protocol.progress import MAX_LINE
from dtrain.server.rules.records import last_record, read_records

LOG = (
    b"starting\n"
    b'PROGRESS: {"epoch": 1, "loss": NaN}\n'
    b"PROGRESS: not json\n"
    b'  PROGRESS: {"epoch": 2}\r\n'
    b'\r 10%|#   | 1/10\r 20%|##  | 2/10PROGRESS: {"epoch": 3}\n'
    b'said "PROGRESS: {}" in passing\n'
    b'PROGRESS: {"epoch": 4}'
)
RECORDS = [{"epoch": 1, "loss": "NaN"}, {"epoch": 2}, {"epoch": 3}, {"epoch": 4}]


def read_in_pieces(pieces: list[bytes]) -> list[dict[str, Any]]:
    carry, found = b"", []
    for piece in pieces:
        reading = read_records(carry, piece)
        found += reading.records
        carry = reading.carry
        assert len(carry) <= MAX_LINE + 3
    return found + last_record(carry).records


def test_records_are_read_from_a_whole_log() -> None:
    assert read_in_pieces([LOG]) == RECORDS


@given(st.lists(st.integers(0, len(LOG)), max_size=12).map(sorted))
def test_records_do_not_depend_on_where_the_log_is_cut(cuts: list[int]) -> None:
    edges = [0, *cuts, len(LOG)]
    pieces = [LOG[a:b] for a, b in itertools.pairwise(edges)]
    assert read_in_pieces(pieces) == RECORDS


FRAGMENTS = [
    b'PROGRESS: {"loss": 1}',
    b"PROGRESS: {",
    b'"a": 2}',
    b"PROG",
    b"RESS:",
    b"\r",
    b"\n",
    b"\r\n",
    b" ",
    b"\0",
    b"50%|#",
    b"\xff",
    b" " * MAX_LINE,
]


@given(st.lists(st.lists(st.sampled_from(FRAGMENTS), max_size=5).map(b"".join), max_size=6))
def test_odd_lines_in_pieces_are_read_as_in_one(pieces: list[bytes]) -> None:
    assert read_in_pieces(pieces) == read_in_pieces([b"".join(pieces)])


def test_line_that_is_too_long_is_no_record_and_is_not_kept() -> None:
    long = b'PROGRESS: {"text": "' + b"x" * MAX_LINE
    pieces = [long[at : at + 1000] for at in range(0, len(long), 1000)]
    assert read_in_pieces([*pieces, b'"}\n', b'PROGRESS: {"epoch": 1}\n']) == [{"epoch": 1}]
