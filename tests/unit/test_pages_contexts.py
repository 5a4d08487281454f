"""What the pages make of the messages: filters, charts, history."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from dtrain.protocol.messages import Event, MetricRecord
from dtrain.server.pages import forms, history, series
from dtrain.server.pages.contexts import JobFilter

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(seq: int, **values: Any) -> MetricRecord:
    return MetricRecord(seq=seq, step=float(seq), at=NOW, values=values)


def event(kind: str, **data: Any) -> Event:
    return Event(id=1, kind=kind, job_id=1, worker_id=None, at=NOW, data=data)


def test_filter_leaves_out_what_is_not_set() -> None:
    assert JobFilter().query() == {}
    assert JobFilter(status="running", q="x").query() == {"status": "running", "q": "x"}


def test_filter_that_changes_begins_at_the_first_page() -> None:
    chosen = JobFilter(status="running", cursor="40")
    assert chosen.query() == {"status": "running", "cursor": "40"}
    assert chosen.query(status="failed") == {"status": "failed"}
    assert chosen.query(status=None) == {}
    assert chosen.query(cursor="20") == {"status": "running", "cursor": "20"}


def names(records: list[MetricRecord]) -> list[list[str]]:
    return [[one.name for one in chart] for chart in series.charts(records, records[0])]


def test_charts_join_training_and_validation() -> None:
    records = [record(0, epoch=1, loss=1.0, val_loss=2.0, accuracy=0.5)]
    assert names(records) == [["loss", "val_loss"], ["accuracy"]]


def test_charts_keep_series_that_are_rare() -> None:
    records = [record(0, loss=1.0), record(1, loss=0.9, val_loss=1.1), record(2, loss=0.8)]
    assert names(records) == [["loss", "val_loss"]]
    assert [one.last for one in series.charts(records, records[0])[0]] == [0.8, 1.1]


def test_charts_leave_out_what_is_never_a_finite_number() -> None:
    assert names([record(0, loss="NaN", note="text", ok=True)]) == []


def test_charts_stand_as_in_the_first_record_however_thin_the_others_are() -> None:
    first = record(0, loss=1.0, accuracy=0.1, val_loss=1.1, rate=0.01)
    thinned = [record(3, zeta=1), record(4, rate=0.01), record(5, accuracy=1), record(6, alpha=2)]
    found = series.charts([*thinned, record(9, loss=0.1, val_loss=0.2)], first)
    assert [[one.name for one in chart] for chart in found] == [
        ["loss", "val_loss"],
        ["accuracy"],
        ["rate"],
        ["alpha"],
        ["zeta"],
    ]


def test_charts_are_not_endless() -> None:
    records = [record(0, **{f"metric {number}": 1.0 for number in range(200)})]
    assert len(series.charts(records, records[0])) == 24


def test_history_is_told_in_words() -> None:
    events = [
        event("submitted"),
        event("claimed", attempt=2, worker="w-1"),
        event("cancel_asked", by="Ada"),
        event("cancel_asked", by=None),
        event("retry_wait", message="The job exited with code 1. Attempt 2 follows."),
        event("declined", worker="w-1", declined_because="not now"),
        event("unheard_of"),
    ]
    assert [entry.text for entry in history.entries(events, "Grace")] == [
        "Handed in by Grace",
        "Attempt 2 taken by w-1",
        "Cancel asked for by Ada",
        "Cancel asked for",
        "Failed: The job exited with code 1. Attempt 2 follows.",
        "Declined by the owner of w-1: not now",
        "unheard_of",
    ]
    assert history.entries(events[:1])[0].text == "Handed in"


def test_history_takes_a_name_for_text() -> None:
    (entry,) = history.entries([event("executing", worker="{0} {attempt} %s")])
    assert entry.text == "{0} {attempt} %s runs the code"


def test_form_has_every_field_of_the_spec() -> None:
    from dtrain.protocol.spec import FIELDS

    assert set(forms.NAMES) == set(FIELDS)
