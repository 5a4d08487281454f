"""How the pages show numbers, sizes, times, and text that comes from a job."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import Markup

from dtrain.server.pages import formats


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (5, "5"),
        (5.0, "5"),
        (-3, "-3"),
        (0.34, "0.34"),
        (0.123456, "0.1235"),
        (0.00012345, "0.0001234"),
        (0.000012345, "1.234e-5"),
        (1234.5678, "1235"),
        (12345.6, "12350"),
        (1234567.8, "1.235e6"),
        (999_999_999, "999999999"),
        (2**53, "9.007e15"),
        (-0.5, "-0.5"),
        (1e-300, "1e-300"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        (True, "true"),
        ("text", "text"),
    ],
)
def test_number_shows_four_digits(value: object, shown: str) -> None:
    assert formats.number(value) == shown


@given(st.floats(-1e300, 1e300))
def test_number_is_near_the_value(value: float) -> None:
    assert float(formats.number(value)) == pytest.approx(value, rel=1e-3)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-1, "0s"),
        (59.9, "59s"),
        (61, "1m 01s"),
        (3600, "1h 00m"),
        (86_399, "23h 59m"),
        (90_000, "1d 01h"),
    ],
)
def test_duration_has_two_units(seconds: float, shown: str) -> None:
    assert formats.duration(seconds) == shown
    assert formats.duration(timedelta(seconds=seconds)) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (-5, "just now"),
        (4, "just now"),
        (59, "59s ago"),
        (60, "1m ago"),
        (7200, "2h ago"),
        (200_000, "2d ago"),
    ],
)
def test_age_has_one_unit(seconds: float, shown: str) -> None:
    assert formats.age(timedelta(seconds=seconds)) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (123_456, "123 kB"), (2.5e12, "2.5 TB")],
)
def test_size_is_in_units_of_a_thousand(count: float, shown: str) -> None:
    assert formats.size(count) == shown


def test_memory_is_in_the_units_of_the_spec() -> None:
    assert formats.memory(8 * 1024**3) == "8 GB"
    assert formats.memory(1.5 * 1024**3) == "1.5 GB"
    assert formats.memory(0.25 * 1024**3) == "0.25 GB"


def test_percent_is_never_rounded_up_to_the_whole() -> None:
    assert formats.percent(0.999) == "99%"
    assert formats.percent(1.0) == "100%"


def test_times_are_utc() -> None:
    moment = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
    assert formats.iso(moment) == "2026-01-02T03:04:05.678Z"
    assert formats.date(moment) == "2026-01-02 03:04:05 UTC"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]8;;http://evil.example\x07link\x1b]8;;\x07", "link"),
        ("a\x07b\x00c", "a\N{REPLACEMENT CHARACTER}b\N{REPLACEMENT CHARACTER}c"),
        ("a\tb", "a\tb"),
        ("10%\r50%\r100%", "100%"),
        ("100%\r", "100%"),
        ("windows\r", "windows"),
        ("\r\r", ""),
        ("x" * 10_001, "x" * 10_000 + " …"),
    ],
)
def test_visible_shows_what_a_terminal_would(line: str, shown: str) -> None:
    assert formats.visible(line) == shown


@given(st.text(st.characters(exclude_characters="\n")))
def test_visible_leaves_nothing_that_steers(line: str) -> None:
    assert not any(ord(character) < 32 and character != "\t" for character in formats.visible(line))


def test_overrides_of_direction_are_replaced() -> None:
    assert formats.without_overrides("a\u202egpj.exe") == "a\N{REPLACEMENT CHARACTER}gpj.exe"
    assert formats.without_overrides("שלום") == "שלום"
    assert formats.without_overrides(5) == 5
    assert isinstance(formats.without_overrides(Markup("\u202e")), Markup)


def test_metrics_are_the_numbers_that_are_no_axis() -> None:
    record = {"epoch": 3, "epochs": 5, "loss": 0.5, "note": "x", "ok": True, "acc": "NaN"}
    assert formats.metrics(record) == [("loss", 0.5), ("acc", "NaN")]
    assert formats.metrics(record, 1) == [("loss", 0.5)]
    assert formats.metrics(None) == []


def test_tiles_join_a_count_with_its_total() -> None:
    record = {"step": 7, "max_steps": 9, "loss": 0.5, "note": "x", "progress": 0.7}
    assert formats.tiles(record) == [("step", 7, 9), ("loss", 0.5, None), ("note", "x", None)]
