"""Metric records in few: what a chart needs of many is kept."""

from __future__ import annotations

from dtrain.server.rules.spans import Point, Span, gathered, merged, span_of, width_for


def spans(*values: object) -> list[Span]:
    return [span_of(seq, seq * 10, 5.0, {"loss": value}) for seq, value in enumerate(values)]


def kept(span: Span) -> list[tuple[int, float | str]]:
    return [(point.seq, point.value) for point in span["loss"]]


def test_of_a_span_the_least_and_the_greatest_are_kept_in_their_order() -> None:
    assert kept(merged(spans(3.0, 9.0, 1.0, 2.0))) == [(1, 9.0), (2, 1.0)]


def test_a_value_that_is_no_number_is_kept_beside_them() -> None:
    assert kept(merged(spans(3.0, "NaN", "Infinity", 1.0))) == [(0, 3.0), (1, "NaN"), (3, 1.0)]
    assert kept(merged(spans("NaN", "NaN"))) == [(0, "NaN")]


def test_only_series_are_kept() -> None:
    record = {"epoch": 1, "steps": 4, "note": "x", "ok": True, "loss": 1}
    assert span_of(7, 1.0, 2.0, record) == {"loss": [Point(7, 1.0, 2.0, 1)]}


def test_spans_of_spans_keep_what_spans_of_records_do() -> None:
    found = spans(*(value * 37 % 64 for value in range(64)))
    assert merged(gathered(found, 8)) == merged(found)
    assert len(gathered(found, 8)) == 8
    assert gathered(found, 64) == found
    assert gathered([], 5) == []


def test_the_width_leaves_enough_spans() -> None:
    assert [width_for(records, 1000) for records in (0, 7999, 8000, 100_000, 1_000_000)] == [
        1,
        1,
        8,
        64,
        512,
    ]
