from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtrain.protocol.progress import MAX_LINE, fraction_of, level_of, parse_progress, step_of

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)


@pytest.mark.parametrize(
    ("line", "record"),
    [
        (b'PROGRESS: {"epoch": 1, "loss": 0.5}', {"epoch": 1, "loss": 0.5}),
        (b'  PROGRESS:{"epoch": 1}\r', {"epoch": 1}),
        (b'50%|##  | 5/10\r60%|### | 6/10PROGRESS: {"step": 6}', {"step": 6}),
        (b'PROGRESS: {"loss": NaN, "best": -Infinity}', {"loss": "NaN", "best": "-Infinity"}),
        (b'PROGRESS: {"big": 1e400}', {"big": "Infinity"}),
        (b'PROGRESS: {"n": %d}' % 2**70, {"n": float(2**70)}),
        (b'PROGRESS: {"n": %s}' % (b"9" * 400), {"n": "Infinity"}),
        (b'PROGRESS: {"note": "warm-up", "done": true}', {"note": "warm-up", "done": True}),
        (b'PROGRESS: {"epoch": 1, "nested": {"a": 1}, "none": null}', {"epoch": 1}),
        (b'PROGRESS: {"epoch": 1, "bad": "\\ud800", "worse": "\\u0000"}', {"epoch": 1}),
        (b'PROGRESS: {"epoch": 1, "epoch": 2}', {"epoch": 2}),
        (b"PROGRESS: {}", None),
        (b"PROGRESS: [1]", None),
        (b"PROGRESS: epoch 1", None),
        (b'PROGRESS: {"nested": {}}', None),
        (b'said PROGRESS: {"epoch": 1}', None),
        (b'\xffPROGRESS: {"epoch": 1}', None),
        (b'PROGRESS: {"a": ' + b"[" * 20_000, None),
        (b'PROGRESS: {"a": "' + b"x" * MAX_LINE + b'"}', None),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_record_of_a_line(line: bytes, record: dict[str, object] | None) -> None:
    assert parse_progress(line) == record


@given(st.dictionaries(st.text(), ANYTHING, max_size=5))
def test_record_can_be_stored_and_sent_whatever_a_job_prints(values: dict[str, object]) -> None:
    record = parse_progress(b"PROGRESS: " + json.dumps(values).encode())
    if record is not None:
        assert json.loads(json.dumps(record, allow_nan=False)) == record
        "".join(str(text) for pair in record.items() for text in pair).encode()


@pytest.mark.parametrize(
    ("record", "step"),
    [
        ({"step": 7, "epoch": 1}, 7.0),
        ({"epoch": 2.5}, 2.5),
        ({"step": "NaN", "epoch": 3}, 3.0),
        ({"step": True}, 9.0),
        ({"loss": 1}, 9.0),
    ],
)
def test_step_is_told_or_counted(record: dict[str, object], step: float) -> None:
    assert step_of(record, counter=9) == step


@pytest.mark.parametrize(
    ("record", "fraction"),
    [
        ({"progress": 0.25, "epoch": 1, "epochs": 2}, 0.25),
        ({"progress": 25, "epoch": 1, "epochs": 2}, 0.5),
        ({"epoch": 3, "total_epochs": 4}, 0.75),
        ({"step": 10, "max_steps": 100}, 0.1),
        ({"epoch": 11, "epochs": 10}, 1.0),
        ({"epoch": -1, "epochs": 10}, 0.0),
        ({"epoch": 1, "epochs": 0}, None),
        ({"epoch": "NaN", "epochs": 10}, None),
        ({"epoch": 1}, None),
        (None, None),
    ],
)
def test_how_much_is_done(record: dict[str, object] | None, fraction: float | None) -> None:
    assert fraction_of(record) == fraction


@given(st.dictionaries(st.sampled_from(["progress", "epoch", "epochs", "step"]), ANYTHING))
def test_fraction_is_one_or_none(record: dict[str, object]) -> None:
    fraction = fraction_of(record)
    assert fraction is None or (0 <= fraction <= 1 and math.isfinite(fraction))


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("PROGRESS: {}", "PROGRESS"),
        ("ERROR: it broke", "ERROR"),
        ("2026-01-01 10:00:00,123 - trainer - WARNING - slow", "WARNING"),
        ("[2026-01-01 10:00:00] ERROR in main: no", "ERROR"),
        ("INFO:root:started", "INFO"),
        ("WARNING:root:slow", "WARNING"),
        ("\x1b[31mCRITICAL\x1b[0m: it broke", "ERROR"),
        ("12:00:00 | DEBUG | detail", "INFO"),
        ("Traceback (most recent call last):", "ERROR"),
        ("ValueError: no such file", "ERROR"),
        ("torch.cuda.OutOfMemoryError: CUDA out of memory", "ERROR"),
        ("KeyboardInterrupt", "ERROR"),
        ("/lib/x.py:3: UserWarning: careful", "WARNING"),
        ("MeanSquaredError: 0.25", "INFO"),
        ("the error rate is 3 %", "INFO"),
        ("no ERRORS were found", "INFO"),
        ("Epoch 1/5: training...", "INFO"),
        ("", "INFO"),
    ],
)
def test_level_of_a_line(line: str, level: str) -> None:
    assert level_of(line) == level
