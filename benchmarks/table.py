"""The results as a table: in Markdown for people, as JSON for programs."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Literal

from .samples import Summary

Role = Literal["dtrain", "floor", "peer"]
_HEAD = "| | median | p5 – p95 | n | to the floor | to DTrain | target |"
_RULE = "|---|---:|---:|---:|---:|---:|---|"


@dataclass(frozen=True, slots=True)
class Target:
    """What is wanted of DTrain: bounds from above, or from below where more is better."""

    median: float | None = None
    p95: float | None = None
    p99: float | None = None
    of_floor: float | None = None
    """A bound of the ratio to the floor of the same run."""


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that was measured, of one program."""

    measure: str
    """What; rows with the same one are compared."""
    subject: str
    """Of whom: `DTrain, Python client`, `HyperQueue`, `python` alone."""
    role: Role
    unit: str
    summary: Summary
    target: Target | None = None

    @property
    def more_is_better(self) -> bool:
        """Whether it is a rate."""
        return self.unit.endswith("/s")


def met(row: Row, floor: Row | None) -> bool | None:
    """Whether a row meets its target; None if it has none that can be judged."""
    if row.target is None:
        return None
    of_floor = None if floor is None else row.summary.median / floor.summary.median
    pairs = [
        (row.target.median, row.summary.median),
        (row.target.p95, row.summary.high),
        (row.target.p99, row.summary.p99),
        (row.target.of_floor, of_floor),
    ]
    judged = [
        value >= bound if row.more_is_better else value <= bound
        for bound, value in pairs
        if bound is not None and value is not None
    ]
    return all(judged) if judged else None


def markdown(
    rows: Sequence[Row],
    facts: Mapping[str, str],
    failures: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> str:
    """The whole table, with what the machine is above it and what is not in it below."""
    lines = [f"- {name}: {value}" for name, value in facts.items()]
    for measure, group in _groups(rows):
        floor, own = _first(group, "floor"), _first(group, "dtrain")
        lines += ["", f"### {measure} ({group[0].unit})", "", _HEAD, _RULE]
        lines += [_line(row, floor, own) for row in group]
    if failures:
        lines += ["", "### Failed", "", *(f"- {failure}" for failure in failures)]
    if left_out:
        lines += ["", "### Not here", "", *(f"- {one}" for one in left_out)]
    return "\n".join(lines) + "\n"


def document(
    rows: Sequence[Row],
    facts: Mapping[str, str],
    failures: Sequence[str] = (),
    left_out: Sequence[str] = (),
) -> dict[str, object]:
    """The same as JSON."""
    floors = {measure: _first(group, "floor") for measure, group in _groups(rows)}
    told = [asdict(row) | {"met": met(row, floors[row.measure])} for row in rows]
    return {
        "facts": dict(facts),
        "rows": told,
        "failed": list(failures),
        "not_here": list(left_out),
    }


def number(value: float) -> str:
    """Three digits, and no more than there are."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"


def _groups(rows: Iterable[Row]) -> list[tuple[str, list[Row]]]:
    """Rows by what they measure, in the order in which that came first; the floor last."""
    order = {measure: place for place, measure in enumerate(dict.fromkeys(r.measure for r in rows))}
    roles = ["dtrain", "peer", "floor"]
    by_order = sorted(rows, key=lambda row: (order[row.measure], roles.index(row.role)))
    return [(name, list(group)) for name, group in itertools.groupby(by_order, _measure)]


def _measure(row: Row) -> str:
    return row.measure


def _first(group: Iterable[Row], role: Role) -> Row | None:
    return next((row for row in group if row.role == role), None)


def _line(row: Row, floor: Row | None, own: Row | None) -> str:
    told = row.summary
    cells = [
        f"**{row.subject}**" if row.role == "dtrain" else row.subject,
        number(told.median),
        f"{number(told.low)} – {number(told.high)}",
        str(told.count),
        _ratio(row, floor),
        _ratio(row, own),
        _judged(row, floor),
    ]
    return f"| {' | '.join(cells)} |"


def _ratio(row: Row, other: Row | None) -> str:
    if other is None or other is row or not other.summary.median:
        return ""
    return f"{number(row.summary.median / other.summary.median)} ×"


def _judged(row: Row, floor: Row | None) -> str:
    if row.target is None:
        return ""
    sign = "≥" if row.more_is_better else "≤"
    bounds = {
        "median": row.target.median,
        "p95": row.target.p95,
        "p99": row.target.p99,
        "of the floor": row.target.of_floor,
    }
    wanted = [f"{name} {sign} {bound:g}" for name, bound in bounds.items() if bound is not None]
    word = {True: "met", False: "**missed**", None: "no floor"}[met(row, floor)]
    return f"{', '.join(wanted)}: {word}"
