"""Many metric records in few: of each series the least and the greatest value of a span are kept.

Spans of 8 records are summarised, 8 of these again, and so on, so that a chart of a million
records is drawn from some thousand of them, and no peak is lost.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from dtrain.protocol.progress import AXES, number

FACTOR = 8
"""Spans that make one of the next width."""
WIDTHS = tuple(FACTOR**power for power in range(1, 7))
"""How many records spans have."""


class Point(msgspec.Struct, array_like=True, frozen=True):
    """One value of a series."""

    seq: int
    step: float
    at: float
    """Seconds since the epoch."""
    value: float | str
    """`NaN` and infinities as text."""


Span = dict[str, list[Point]]
"""By series the points that are kept: the least, the greatest, and one that is no number."""


def span_of(seq: int, step: float, at: float, record: Mapping[str, Any]) -> Span:
    """One record as a span."""
    return {
        name: [Point(seq, step, at, value)]
        for name, value in record.items()
        if name not in AXES and number(value) is not None
    }


def merged(spans: Iterable[Span]) -> Span:
    """Spans that follow each other as one."""
    found: Span = {}
    for span in spans:
        for name, points in span.items():
            found.setdefault(name, []).extend(points)
    return {name: _kept(points) for name, points in found.items()}


def gathered(spans: list[Span], most: int) -> list[Span]:
    """At most so many spans, each made of as many that follow each other."""
    size = math.ceil(len(spans) / most) if spans else 1
    if size == 1:
        return spans
    return [merged(spans[start : start + size]) for start in range(0, len(spans), size)]


def width_for(records: int, spans: int) -> int:
    """The greatest width that makes at least so many spans; 1 for the records themselves."""
    return max((width for width in WIDTHS if records // width >= spans), default=1)


def _kept(points: list[Point]) -> list[Point]:
    if len(points) == 1:
        return points
    finite = [point for point in points if not isinstance(point.value, str)]
    chosen: dict[int, Point] = {}
    if finite:
        for pick in (min, max):
            point = pick(finite, key=_value)
            chosen[point.seq] = point
    if len(finite) < len(points):
        point = next(point for point in points if isinstance(point.value, str))
        chosen[point.seq] = point
    return [chosen[seq] for seq in sorted(chosen)]


def _value(point: Point) -> float:
    return float(point.value)
