from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.messages import job_json

from dtrain.cli import describe, output
from dtrain.cli.logs import beginning
from dtrain.cli.metrics import line
from dtrain.protocol.messages import Job


def a_job(**changes: object) -> Job:
    return msgspec.json.decode(job_json(**changes), type=Job)


@given(st.text())
def test_clean_leaves_one_line_that_cannot_act(text: str) -> None:
    cleaned = output.clean(text)
    assert len(cleaned) == len(text)
    assert all(ord(character) >= 0x20 for character in cleaned)
    assert not set(cleaned) & set("\x1b\x9b\n\r\t\x7f\u202e\u2066")


def test_clean_keeps_what_people_write() -> None:
    text = "Größe 模型 \U0001f40d naïve — ok"
    assert output.clean(text) == text
    assert output.clean("a\tb\nc") == "a b c"
    assert output.clean_lines("a\tb\nc\x1b[m\r") == "a\tb\nc\ufffd[m "


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0.4, "0 s"),
        (59, "59 s"),
        (59.9, "59 s"),
        (60, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3599, "59 min"),
        (3600, "1 h 00 min"),
        (90_000, "25 h 00 min"),
        (200_000, "2 d 7 h"),
    ],
)
def test_duration_is_in_units_that_fit(seconds: float, shown: str) -> None:
    assert output.duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 kB"),
        (1024**2 * 5.25, "5.2 MB"),
        (1024**3, "1.0 GB"),
        (1024**5, "1024.0 TB"),
    ],
)
def test_size_is_in_a_unit_that_fits(count: float, shown: str) -> None:
    assert output.size(count) == shown


def test_age_is_never_negative() -> None:
    now = datetime.now(UTC)
    assert output.age(now + timedelta(hours=1)) == "just now"
    assert output.age(now - timedelta(seconds=90)) == "1 min 30 s ago"


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "pending"),
        ({"phase": "offered"}, "pending (offered)"),
        ({"status": "running", "phase": "executing"}, "running"),
        ({"status": "running", "phase": "unreachable"}, "running (unreachable)"),
        ({"status": "failed", "phase": None, "reason": "time_limit"}, "failed (time_limit)"),
        ({"status": "cancelled", "phase": None, "reason": "user"}, "cancelled"),
        ({"status": "completed", "phase": None}, "completed"),
    ],
)
def test_state_says_more_where_there_is_more(changes: dict[str, object], shown: str) -> None:
    assert describe.state(a_job(**changes)) == shown


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({"status": "completed"}, "Job 1 completed after 1 min 5 s"),
        (
            {"status": "failed", "reason": "exit_nonzero", "message": "It exited with code 3."},
            "Job 1 failed after 1 min 5 s (exit_nonzero): It exited with code 3",
        ),
        (
            {"status": "failed", "reason": "signal", "signal": 9},
            "Job 1 failed after 1 min 5 s (signal): signal 9",
        ),
        (
            {"status": "failed", "reason": "poison", "started_at": None},
            "Job 1 failed (poison): no more is known",
        ),
        ({"status": "cancelled", "started_at": None}, "Job 1 was cancelled"),
    ],
)
def test_ending_is_a_sentence(changes: dict[str, object], shown: str) -> None:
    times = {"started_at": "2026-01-01T10:00:00Z", "finished_at": "2026-01-01T10:01:05Z"}
    assert describe.ending(a_job(**{"phase": None, **times, **changes})) == shown


def test_wants_and_rules_name_only_what_was_ordered() -> None:
    plain = a_job().spec
    assert (describe.wants(plain), describe.rules(plain)) == ("", "")
    spec = a_job(
        spec={
            "name": "x",
            "cpus": 1.5,
            "memory_gb": 4,
            "gpus": 2,
            "labels": {"disk": "ssd"},
            "python": "3.11",
            "executor": "docker",
            "image": "x:1",
            "priority": 5,
            "time_limit": 5400,
            "max_retries": 2,
            "on_partition": "stop",
        }
    ).spec
    assert describe.wants(spec) == (
        "1.5 CPUs, 4 GB of memory, 2 GPUs, label disk=ssd, Python 3.11, executor docker, image x:1"
    )
    assert describe.rules(spec) == (
        "priority 5, at most 1 h 30 min, 2 retries, stops when cut off from the server"
    )


@given(
    st.lists(st.sampled_from([b"", b"a", b"bc"]), max_size=20), st.booleans(), st.integers(1, 25)
)
def test_beginning_finds_the_last_lines(texts: list[bytes], ends: bool, count: int) -> None:
    data = b"\n".join(texts) + (b"\n" if ends else b"")
    lines = data.splitlines(keepends=True)
    place = beginning(data, count)
    if len(lines) > count:
        assert place is not None
        assert data[place:] == b"".join(lines[-count:])
    else:
        assert place is None


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([], ""),
        ([math.nan, math.inf], ""),
        ([3.0], "▅"),
        ([2.0, 2.0], "▅▅"),
        ([0.0, 1.0], "▁█"),
        ([7.0, 6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.0], "█▇▆▅▄▃▂▁"),
        ([0.0, math.nan, 1.0], "▁ █"),
        ([-1.7e308, 0.0, 1.7e308], "▁▅█"),
        ([0.0] * 500 + [1.0] * 500, "▁" * 12 + "█" * 12),
    ],
)
def test_course_of_numbers_is_a_line_of_blocks(values: list[float], shown: str) -> None:
    assert line(values) == shown


@given(st.lists(st.floats(), max_size=200))
def test_course_of_any_numbers_is_no_wider_than_told(values: list[float]) -> None:
    shown = line(values, 24)
    assert len(shown) in {0, min(len(values), 24)}
    assert set(shown) <= set(" ▁▂▃▄▅▆▇█")
