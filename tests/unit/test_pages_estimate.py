"""What the list of jobs draws and foretells from a few records."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from dtrain.protocol.messages import BundleInfo, Job, MetricRecord
from dtrain.protocol.spec import JobSpec
from dtrain.protocol.states import Status
from dtrain.server.pages import estimate, sparklines

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def job(**changes: Any) -> Job:
    values = dict.fromkeys(Job.__struct_fields__) | {
        "id": 1,
        "name": "x",
        "status": Status.RUNNING,
        "attempt": 1,
        "spec": JobSpec(name="x"),
        "bundle": BundleInfo(sha256="0" * 64, size=1, files=1),
        "created_at": NOW,
    }
    return Job(**values | changes)


def record(seq: int, seconds: float, **values: Any) -> MetricRecord:
    at = NOW + timedelta(seconds=seconds)
    return MetricRecord(seq=seq, step=float(seq), at=at, values=values)


def test_sparkline_is_of_the_first_metric_and_lies_in_its_picture() -> None:
    records = [record(seq, seq, epoch=seq, loss=9.0 - seq, accuracy=0.5) for seq in range(3)]
    line = sparklines.sparkline(job(progress=records[-1].values), records)
    assert line is not None
    assert (line.name, line.points) == ("loss", "1.5,1.5 32.0,10.0 62.5,18.5")


@pytest.mark.parametrize("values", [[1.0], ["NaN", 1.0], [None, None], ["Infinity", "NaN"]])
def test_there_is_no_line_through_less_than_two_values(values: list[Any]) -> None:
    records = [record(seq, seq, loss=value) for seq, value in enumerate(values)]
    assert sparklines.sparkline(job(progress={"loss": 1.0}), records) is None


def test_line_of_what_does_not_change_lies_in_the_middle() -> None:
    records = [record(seq, seq, loss=5) for seq in range(2)]
    line = sparklines.sparkline(job(progress={"loss": 5}), records)
    assert line is not None
    assert line.points == "1.5,10.0 62.5,10.0"


def test_end_is_told_from_the_pace_of_the_records() -> None:
    records = [record(seq, seq * 10, epoch=5 + seq, epochs=20) for seq in range(6)]
    end = estimate.end_of(job(), records, NOW + timedelta(seconds=60))
    assert end == NOW + timedelta(seconds=50 + 100)


def test_end_is_not_told_of_a_job_that_stands_or_has_ended() -> None:
    still = [record(seq, seq, epoch=5, epochs=20) for seq in range(6)]
    going = [record(seq, seq, epoch=seq, epochs=20) for seq in range(6)]
    assert estimate.end_of(job(), still, NOW) is None
    assert estimate.end_of(job(), going[:1], NOW) is None
    ended = msgspec.structs.replace(job(), status=Status.FAILED)
    assert estimate.end_of(ended, going, NOW) is None
