from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtrain.protocol.errors import Invalid
from dtrain.protocol.spec import FIELDS, JobSpec, parse_spec
from dtrain.protocol.states import Executor, OnPartition

ANY_TEXT = st.text() | st.text(alphabet=st.characters(categories=["Cs", "Cc"]))
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
)


def test_fields_of_a_form_become_what_they_stand_for() -> None:
    spec = parse_spec(
        {
            "name": "My Training Job",
            "main_entry": "src/train.py",
            "args": "--lr\n0.1",
            "env": "A=1\r\nB= two = 2",
            "tags": "vision, nightly\nlarge",
            "labels": ["gpu=a100", "site = north"],
            "priority": "7",
            "cpus": "0.5",
            "memory_gb": "16",
            "gpus": "2",
            "time_limit": "1.5h",
            "max_retries": "3",
            "on_partition": "stop",
            "executor": "venv",
            "python": "3.11",
        }
    )
    assert spec == JobSpec(
        name="My Training Job",
        main_entry="src/train.py",
        args=["--lr", "0.1"],
        env={"A": "1", "B": " two = 2"},
        tags=["vision", "nightly", "large"],
        labels={"gpu": "a100", "site": "north"},
        priority=7,
        cpus=0.5,
        memory_gb=16.0,
        gpus=2,
        time_limit=5400.0,
        max_retries=3,
        on_partition=OnPartition.STOP,
        executor=Executor.VENV,
        python="3.11",
    )


def test_empty_texts_are_fields_left_out() -> None:
    assert parse_spec(dict.fromkeys(FIELDS, "") | {"name": "x"}) == JobSpec(name="x")


def test_none_means_no_requirements() -> None:
    assert parse_spec({"name": "x", "requirements_file": None}).requirements_file is None


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", None, "A job needs a name"),
        ("name", "   ", "A job needs a name"),
        ("name", "x" * 10_000, "it must have at most 200 characters."),
        ("name", "a\x1b[31mb", "control character"),
        ("name", "a\ud800", "cannot be stored"),
        ("name", "a\0b", "cannot be stored"),
        ("name", 5, "it must be text, not a whole number."),
        ("nmae", "x", "There is no field 'nmae'"),
        ("priority", "-1", "it must be a whole number of at least 0."),
        ("priority", "101", "of at most 100."),
        ("priority", str(2**70), "of at most 100."),
        ("priority", "high", "it must be a whole number."),
        ("cpus", "0", "it must be a number greater than 0."),
        ("cpus", "nan", "greater than 0."),
        ("cpus", "inf", "of at most 4,096."),
        ("cpus", "many", "it must be a number."),
        ("memory_gb", "-1", "greater than 0."),
        ("memory_gb", "1e999", "the number is too large."),
        ("gpus", "1.5", "a whole number."),
        ("tags", ["a,b"], "'a,b' holds a comma"),
        ("time_limit", "soon", "is no duration"),
        ("time_limit", "0s", "greater than 0."),
        ("time_limit", "9" * 400, "of at most 31,536,000."),
        ("env", "NOT A NAME=1", "no name of a variable"),
        ("env", "lonely", "is not like NAME=value"),
        ("env", [1], "is not like NAME=value"),
        ("labels", {"": "x"}, "each name and value must have at least 1 character."),
        ("tags", ["x"] * 51, "it must have at most 50 items."),
        ("tags", ["x" * 101], "each item must have at most 100 characters."),
        ("args", [{"a": 1}], "each item must be text, not names with values."),
        ("python", "three", "it must be a version such as 3.11."),
        ("executor", "cloud", "it must be auto or venv or docker."),
        ("on_partition", "maybe", "it must be keep or stop."),
    ],
)
def test_what_is_not_acceptable_is_named(field: str, value: object, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        parse_spec({"name": "x", field: value})
    assert refused.value.field == field
    assert words.lower() in refused.value.detail.lower()
    assert "\n" not in refused.value.detail
    assert len(refused.value.detail) < 500


@given(
    st.dictionaries(st.sampled_from(FIELDS) | ANY_TEXT, ANYTHING, max_size=5).map(
        lambda raw: {"name": "x", **raw}
    )
)
def test_whatever_comes_is_refused_or_can_be_stored(raw: dict[str, Any]) -> None:
    try:
        spec = parse_spec(raw)
    except Invalid as error:
        error.detail.encode()
        return
    stored = msgspec.json.encode(spec)
    assert b"\\u0000" not in stored
    assert msgspec.json.decode(stored, type=JobSpec) == spec
