from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dtrain.protocol.errors import Invalid
from dtrain.protocol.filenames import JOB_FILE, MAX_JOB_FILE
from dtrain.protocol.jobfile import job_file, read_job_file
from dtrain.protocol.spec import FIELDS, JobSpec, parse_spec
from dtrain.protocol.states import Executor, OnPartition

WHOLE = b"""\
# What this job needs.
name: My Training Job
main_entry: src/train.py
args: [--lr, 0.10, --resume, no, 2024-01-01]
requirements_file: requirements/train.txt
python: 3.10
env:
  SEED: 010
  DEBUG: yes
  EMPTY: ''
tags: [no, 1.10]
priority: 7
cpus: 1.5
memory_gb: 16
gpus: 2
labels:
  room: lab
  fast: on
time_limit: 2h
max_retries: 3
on_partition: stop
image: python:3.12-slim
executor: docker
"""


def test_every_field_is_read_as_the_text_that_stands_there() -> None:
    fields = read_job_file(WHOLE)
    assert set(fields) == set(FIELDS)
    assert parse_spec(fields) == JobSpec(
        name="My Training Job",
        main_entry="src/train.py",
        args=["--lr", "0.10", "--resume", "no", "2024-01-01"],
        requirements_file="requirements/train.txt",
        python="3.10",
        env={"SEED": "010", "DEBUG": "yes", "EMPTY": ""},
        tags=["no", "1.10"],
        priority=7,
        cpus=1.5,
        memory_gb=16.0,
        gpus=2,
        labels={"room": "lab", "fast": "on"},
        time_limit=7200.0,
        max_retries=3,
        on_partition=OnPartition.STOP,
        image="python:3.12-slim",
        executor=Executor.DOCKER,
    )


@pytest.mark.parametrize(
    "data", [b"", b"\n# nothing but a word\n", b"---\n", b"\xef\xbb\xbf", b"{}"]
)
def test_an_empty_file_says_nothing(data: bytes) -> None:
    assert read_job_file(data) == {}


@pytest.mark.parametrize(
    ("data", "fields"),
    [
        (b"\xef\xbb\xbfname: x\r\ncpus: 2\r\n", {"name": "x", "cpus": "2"}),
        (b"name: 007", {"name": "007"}),
        (b"name: no", {"name": "no"}),
        (b"name: 2024-01-01", {"name": "2024-01-01"}),
        (b"requirements_file:", {"requirements_file": None}),
        (b"requirements_file: null", {"requirements_file": None}),
        (b"tags: a, b", {"tags": "a, b"}),
        (b"env: |\n  A=1\n  B=2\n", {"env": "A=1\nB=2\n"}),
        (b"env: [A=1]", {"env": ["A=1"]}),
        (b"python: '3.11'", {"python": "3.11"}),
        (b'{"name": "x", "gpus": 1}', {"name": "x", "gpus": "1"}),
        (b"time_limit: 1e3", None),
        (b"time_limit: 90", {"time_limit": "90"}),
    ],
)
def test_what_a_person_writes_is_what_is_meant(
    data: bytes, fields: dict[str, object] | None
) -> None:
    if fields is None:
        with pytest.raises(Invalid, match="is no duration"):
            read_job_file(data)
    else:
        assert read_job_file(data) == fields


@pytest.mark.parametrize(
    ("data", "field", "words"),
    [
        (b"nmae: x", "nmae", "line 1: there is no field 'nmae'"),
        (b"1: x", "1", "there is no field '1'"),
        (b"<<: {name: x}", "<<", "there is no field '<<'"),
        (b"name: a\nname: b", "name", "line 2: 'name' is given twice"),
        (b"env: {A: 1, A: 2}", "env", "'A' is given twice"),
        (b"name: a\x00b", JOB_FILE, "a character"),
        (b'name: "a\\0b"', "name", "cannot be stored"),
        (b"name: \xff", JOB_FILE, "not UTF-8"),
        (b"name: x\ntags: [a", JOB_FILE, "line 2"),
        (b"name: a: b", JOB_FILE, "line 1: mapping values are not allowed here"),
        (b"a\n", JOB_FILE, "it must hold fields"),
        (b"- name\n", JOB_FILE, "it must hold fields"),
        (b"name: x\n---\nname: y\n", JOB_FILE, "line 2"),
        (b"? [a]\n: b", JOB_FILE, "a name must be a text"),
        (b"env: {? {a: b} : c}", "env", "a name must be a text"),
        (b"env: &a {A: 1}\nlabels: *a", JOB_FILE, "anchors and aliases"),
        (b"name: !!python/object/apply:os.system [id]", JOB_FILE, "tags (!)"),
        (b"gpus: !!int 3", JOB_FILE, "tags (!)"),
        (b"tags: [[a]]", "tags", "nested too deeply"),
        (b"[" * 60_000, JOB_FILE, "nested too deeply"),
        (b"{a: " * 15_000, JOB_FILE, "nested too deeply"),
        (b"tags: [" + b"a," * 30_000, JOB_FILE, "holds too much"),
        (b"env: {A: }", "env", "has no value"),
        (b"tags: [~]", "tags", "has no value"),
        (b"args: --lr 0.1", "args", "must be a list"),
        (b"gpus: yes", "gpus", "is not acceptable"),
        (b"gpus: 0x10", "gpus", "is not acceptable"),
        (b"priority: 010", "priority", "is not acceptable"),
        (b"time_limit: 1:30", "time_limit", "is no duration"),
        (b"cpus: .inf", "cpus", "is not acceptable"),
        (b"main_entry: [a]", "main_entry", "is not acceptable"),
        (b"env: [lonely]", "env", "is not like NAME=value"),
        (b"python: 3.x", "python", "is not acceptable"),
        (b"name: " + b"x" * MAX_JOB_FILE, JOB_FILE, "larger than 64 KiB"),
    ],
)
def test_what_is_wrong_is_said_with_file_and_field(data: bytes, field: str, words: str) -> None:
    with pytest.raises(Invalid) as refused:
        read_job_file(data)
    assert refused.value.field == field
    assert refused.value.code == "job_file"
    assert refused.value.detail.startswith(f"In {JOB_FILE}")
    assert words in refused.value.detail
    assert "\n" not in refused.value.detail
    assert len(refused.value.detail) < 500


@given(
    st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode(errors="replace"))
)
def test_whatever_is_in_it_is_read_or_refused(data: bytes) -> None:
    try:
        fields = read_job_file(data)
    except Invalid as error:
        error.detail.encode()
        return
    parse_spec({"name": "x"} | fields | ({} if fields.get("name") else {"name": "x"}))


@given(
    st.lists(
        st.sampled_from(
            [
                *FIELDS,
                ":",
                " ",
                "\n",
                "\n  ",
                "- ",
                "[",
                "]",
                "{",
                "}",
                ",",
                "'",
                '"',
                "|",
                "&a",
                "*a",
                "!!",
                "?",
                "#",
                "x",
                "1",
                "~",
                "---",
                "%",
                "\t",
            ]
        ),
        max_size=40,
    )
)
def test_whatever_looks_like_yaml_is_read_or_refused(parts: list[str]) -> None:
    try:
        read_job_file("".join(parts).encode())
    except Invalid as error:
        error.detail.encode()


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


@given(
    args=st.lists(TEXT, max_size=4),
    env=st.dictionaries(st.from_regex(r"[A-Za-z_]{1,9}", fullmatch=True), TEXT, max_size=4),
    cpus=st.none() | st.floats(0.01, 4096),
    time_limit=st.none() | st.floats(0.001, 31_536_000),
    python=st.sampled_from([None, "3.10", "3"]),
    tags=st.lists(st.sampled_from(["no", "1e3", "null", "a: b", "- x", "#", "größe"]), max_size=3),
)
def test_file_that_is_written_says_what_the_spec_says(**fields: Any) -> None:
    spec = JobSpec(name="1.10", requirements_file=None, **fields)
    assert parse_spec(read_job_file(job_file(spec).encode())) == spec
