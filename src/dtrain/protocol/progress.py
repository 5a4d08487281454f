"""What a job says about itself in its log: `PROGRESS:` records, levels, how much is done."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

PREFIX = b"PROGRESS:"
MAX_LINE = 64 * 1024
"""Bytes; a longer line is never a record."""
MAX_VALUES = 200
"""Members of one record."""
_MAX_INTEGER = 2**53

_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
_WORDS = "DEBUG|INFO|WARNING|WARN|ERROR|CRITICAL|FATAL"
_LEVEL = re.compile(
    # first in the line, behind a time or a bracket; or set apart by colons, bars or dashes
    rf"(?:^\W{{0,3}}|\d\d:\d\d:\d\d\S{{0,16}}\W{{1,4}}|\]\W{{0,3}})(?P<first>{_WORDS})\b"
    rf"|(?:[:|]|\s-)\s*(?P<apart>{_WORDS})\s*(?:[:|\]]|-\s)"
)
_EXCEPTION = re.compile(
    r"(?:\[\w+\]:\s*)?(?:Traceback \(most recent call last\)"
    # `MeanSquaredError: 0.25` is a metric
    r"|(?:[A-Za-z_][\w.]*)?(?:Error(?!: [-+\d.e]+\s*$)|Exception|Interrupt|Exit)(?::|\s*$))"
)
_WARNING_CLASS = re.compile(r"\b\w*Warning: ")
_LEVELS = {"WARN": "WARNING", "CRITICAL": "ERROR", "FATAL": "ERROR", "DEBUG": "INFO"}

COUNTERS = {
    "epoch": ("epochs", "total_epochs", "num_epochs"),
    "step": ("steps", "total_steps", "max_steps"),
}
"""What counts up in a record, and the names that its total goes by."""
AXES = frozenset({"progress", *COUNTERS, *(name for names in COUNTERS.values() for name in names)})
"""Members of a record that say how far the job is: an axis, not a series."""


def parse_progress(line: bytes) -> dict[str, Any] | None:
    """The record in a line of a log, or None if the line is not one.

    Numbers, text and booleans are kept, NaN and infinities as the texts `NaN`, `Infinity` and
    `-Infinity` (JSON has no other way to say them), integers beyond 2**53 as floats; nested
    values, nulls and texts that are too long or cannot be stored are left out. A line that is not
    JSON, or of which nothing is left, is an ordinary one.
    """
    _, returned, line = line.rstrip(b"\r").rpartition(b"\r")
    if len(line) > MAX_LINE:
        return None
    if returned and PREFIX in line:
        # A progress bar, rewritten in place, stands before the record on the same line.
        line = line[line.index(PREFIX) :]
    line = line.lstrip()
    if not line.startswith(PREFIX):
        return None
    try:
        record = json.loads(line[len(PREFIX) :].decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not record or len(record) > MAX_VALUES:
        return None
    values = {key: _value(value) for key, value in record.items() if _storable(key)}
    return {key: value for key, value in values.items() if value is not None} or None


def number(value: object) -> float | None:
    """A record's value as a number, NaN and infinities included; None if it is not one."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str):
        return float(value) if value in {"NaN", "Infinity", "-Infinity"} else None
    if isinstance(value, (int, float)):
        try:
            return float(value)
        except OverflowError:
            return math.inf if value > 0 else -math.inf
    return None


def step_of(record: Mapping[str, Any], counter: int) -> float:
    """Where a record stands on the axis: its `step`, else its `epoch`, else the counter."""
    for key in ("step", "epoch"):
        found = number(record.get(key))
        if found is not None and math.isfinite(found):
            return found
    return float(counter)


def fraction_of(record: Mapping[str, Any] | None) -> float | None:
    """How much is done, from 0 to 1: `progress`, else `epoch` of `epochs` or `step` of `steps`."""
    if record is None:
        return None
    told = number(record.get("progress"))
    if told is not None and 0 <= told <= 1:
        return told
    for done_key, total_keys in COUNTERS.items():
        done = number(record.get(done_key))
        for total_key in total_keys:
            total = number(record.get(total_key))
            if (
                done is not None
                and total
                and math.isfinite(done)
                and math.isfinite(total)
                and total > 0
            ):
                return min(max(done / total, 0.0), 1.0)
    return None


def level_of(line: str) -> str:
    """`PROGRESS`, `ERROR`, `WARNING` or `INFO`, told from the common formats of log lines."""
    if line.lstrip().startswith("PROGRESS:"):
        return "PROGRESS"
    head = _COLOUR.sub("", line[:200])
    found = _LEVEL.search(head)
    if found:
        level = found["first"] or found["apart"]
        return _LEVELS.get(level, level)
    if _EXCEPTION.match(head):
        return "ERROR"
    if _WARNING_CLASS.search(head):
        return "WARNING"
    return "INFO"


def _value(value: object) -> object:
    if isinstance(value, bool) or (
        isinstance(value, str) and len(value) <= 1000 and _storable(value)
    ):
        return value
    if isinstance(value, int):
        if abs(value) <= _MAX_INTEGER:
            return value
        try:
            return _value(float(value))
        except OverflowError:
            return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return value
    return None


def _storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)
