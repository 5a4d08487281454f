"""What the benchmark makes of its samples."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.floor import in_turn
from benchmarks.place import Form, Place
from benchmarks.report import Report
from benchmarks.samples import percentile, summary
from benchmarks.table import Row, Target, document, markdown, met


def row(value: float, role: str = "dtrain", unit: str = "ms", target: Target | None = None) -> Row:
    return Row("latency", f"a {role}", role, unit, summary([value]), target)  # type: ignore[arg-type]


def test_percentiles_lie_between_neighbours_in_proportion() -> None:
    assert percentile([4, 1, 3, 2], 50) == 2.5
    assert percentile([10, 20], 95) == pytest.approx(19.5)
    assert percentile([7], 5) == 7


def test_few_samples_are_told_by_their_least_and_greatest() -> None:
    few = summary([3, 1, 2])
    assert (few.low, few.median, few.high, few.count) == (1, 2, 3, 3)
    many = summary(list(range(101)))
    assert (many.low, many.median, many.high, many.p99) == (5, 50, 95, 99)


def test_no_samples_have_no_summary() -> None:
    with pytest.raises(ValueError, match="no samples"):
        summary([])


@pytest.mark.parametrize(
    ("value", "unit", "target", "expected"),
    [
        (39, "ms", Target(median=40), True),
        (41, "ms", Target(median=40), False),
        (39, "ms", Target(median=40, p95=30), False),
        (41, "jobs/s", Target(median=40), True),
        (39, "jobs/s", Target(median=40), False),
        (61, "MiB/s", Target(of_floor=0.6), True),
        (59, "MiB/s", Target(of_floor=0.6), False),
        (59, "ms", None, None),
    ],
)
def test_target_is_a_bound_from_above_and_of_a_rate_from_below(
    value: float, unit: str, target: Target | None, expected: bool | None
) -> None:
    assert met(row(value, unit=unit, target=target), row(100, "floor", unit)) is expected


def test_target_of_the_floor_is_not_judged_without_a_floor() -> None:
    assert met(row(1, unit="MiB/s", target=Target(of_floor=0.6)), None) is None


def test_table_compares_each_row_with_the_floor_and_with_dtrain() -> None:
    rows = [
        row(20, "floor"),
        row(80, "peer"),
        row(40, target=Target(median=30)),
    ]
    lines = markdown(rows, {"machine": "2 cores"}, ["Slurm: it is away"]).splitlines()
    assert lines[0] == "- machine: 2 cores"
    assert [line for line in lines if line.startswith(("| a", "| **a"))] == [
        "| **a dtrain** | 40 | 40 – 40 | 1 | 2 × |  | median ≤ 30: **missed** |",
        "| a peer | 80 | 80 – 80 | 1 | 4 × | 2 × |  |",
        "| a floor | 20 | 20 – 20 | 1 |  | 0.5 × |  |",
    ]
    assert lines[-3:] == ["### Failed", "", "- Slurm: it is away"]


def test_table_tells_which_peers_are_not_here_and_how_they_come() -> None:
    lines = markdown([row(20)], {}, left_out=["Ray: `make bench-peers` brings it."]).splitlines()
    assert lines[-3:] == ["### Not here", "", "- Ray: `make bench-peers` brings it."]


def test_document_tells_the_same_as_json() -> None:
    told = json.loads(json.dumps(document([row(41, target=Target(median=40))], {})))
    assert told["rows"][0]["met"] is False
    assert told["rows"][0]["summary"]["median"] == 41


def test_machines_speed_is_kept_with_the_samples(tmp_path: Path) -> None:
    report = Report(tmp_path / "run")
    report.machine("before idle")
    assert report.loops[0] > 0
    assert (report.rows[0].subject, report.rows[0].unit) == ("before idle", "ms")


def test_ways_are_measured_in_turn() -> None:
    values = iter(range(6))
    ways = {"DTrain": lambda: next(values), "floor": lambda: next(values)}
    assert in_turn(ways, 3) == {"DTrain": [0, 2, 4], "floor": [1, 3, 5]}


def test_sizes_of_a_run_go_up_to_that_of_its_form(tmp_path: Path) -> None:
    def sizes(form: Form) -> tuple[int, ...]:
        return Place(tmp_path, form).sizes(1, 10, 100, trial=1, short=10)

    assert [sizes(form) for form in ("trial", "short", "long")] == [(1,), (1, 10), (1, 10, 100)]


def test_report_keeps_raw_samples_and_what_failed(tmp_path: Path) -> None:
    report = Report(tmp_path / "run")
    report.add("latency", "DTrain", "ms", [1.5, 2.5])
    report.fail("Slurm", RuntimeError("what happened\nwhere"))
    raw = (tmp_path / "run" / "samples.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in raw] == [["latency", "DTrain", "ms", [1.5, 2.5]]]
    assert report.rows[0].summary.median == 2
    assert report.failures == ["Slurm: what happened"]
