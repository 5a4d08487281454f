"""What the page of a job makes of files, specs and records."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta

import pytest

from dtrain.cli.specs import given
from dtrain.cli.submit import submit
from dtrain.protocol.messages import MetricRecord
from dtrain.protocol.resources import Shortfall
from dtrain.protocol.spec import JobSpec, parse_spec
from dtrain.protocol.states import Executor
from dtrain.server.pages import browsing, commands, estimate, forms, previews, waiting

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PNG = b"\x89PNG\r\n\x1a\n rest"
FULL = JobSpec(
    name="-a name; rm -rf ~ 'x'",
    main_entry="src/train.py",
    args=["--lr", "0.1", "two words", "$HOME", ""],
    requirements_file="other.txt",
    python="3.12",
    env={"A": "1=2", "B": " spaced\nlines "},
    tags=["x", "-y"],
    priority=7,
    cpus=0.5,
    memory_gb=12.0,
    gpus=2,
    labels={"room": "lab"},
    time_limit=5400.0,
    max_retries=3,
    image="python:3.12",
    executor=Executor.DOCKER,
)


@pytest.mark.parametrize("spec", [FULL, JobSpec(name="plain")])
def test_command_says_all_that_a_spec_does(spec: JobSpec) -> None:
    words = shlex.split(shlex.join(commands.options(spec)))
    found = submit.make_context("submit", [".", *words]).params
    options = {name: value for name, value in found.items() if name not in _OTHERS}
    assert parse_spec(given(options, found["args"])) == spec


_OTHERS = {"path", "args", "as_json", "follow"}


def test_form_that_is_left_alone_keeps_a_spec_exactly() -> None:
    texts = {name: text.replace("\n", "\r\n") for name, text in forms.texts(FULL).items()}
    assert parse_spec(forms.changed(FULL, texts)) == FULL
    entries = texts | {"name": "new", "gpus": "", "args": "--lr\r\n1", "time_limit": "2h"}
    new = parse_spec(forms.changed(FULL, entries))
    assert (new.name, new.gpus, new.args, new.time_limit) == ("new", 0, ["--lr", "1"], 7200.0)
    assert (new.env, new.tags, new.cpus) == (FULL.env, FULL.tags, FULL.cpus)


def test_form_that_was_made_up_is_refused_by_name() -> None:
    assert "nonsense" in forms.changed(FULL, {"nonsense": "1"})


def test_folders_stand_before_files() -> None:
    files = [("b.txt", 1), ("a/x", 2), ("a/c/y", 3), ("ab", 4)]
    top = browsing.folder(files, "")
    assert [(one.name, one.size, one.files) for one in top] == [
        ("a", 5, 2),
        ("ab", 4, None),
        ("b.txt", 1, None),
    ]
    assert [one.path for one in browsing.folder(files, "a")] == ["a/c", "a/x"]
    assert browsing.folder(files, "none") == []


def test_preview_goes_by_what_a_file_is() -> None:
    assert previews.preview("a.PNG", PNG, len(PNG)).kind == "picture"
    assert previews.preview("a.png", PNG, 10**9).kind == "none"
    assert previews.preview("a.png", b"<html>", 6).text == "<html>"
    assert previews.preview("a.svg", b"<svg onload=x>", 14).kind == "text"
    assert previews.preview("a.bin", b"a\0b", 3).kind == "none"
    assert previews.preview("a.bin", bytes(range(128, 256)), 128).kind == "none"
    assert previews.preview("a.json", b'{"a":[1]}', 9).text == '{\n  "a": [\n    1\n  ]\n}'
    assert previews.preview("a.json", b"[" * 60_000, 60_000).text == "[" * 10_000 + " …"
    assert previews.preview("a.json", b'{"a":', 5).text == '{"a":'
    shown = previews.preview("a.log", b"10%\r\x1b[1m20%\x1b[0m\r\nnext\x07", 999)
    assert (shown.text, shown.is_cut) == ("20%\nnext\N{REPLACEMENT CHARACTER}", True)


def test_table_shows_its_first_rows() -> None:
    table = previews.preview("a.csv", b'x;y\n1;"2;3"\n4\n', 17)
    assert table.rows == [["x", "y"], ["1", "2;3"], ["4", ""]]
    long = b"x\ty\n" + b"1\t2\n" * 100
    table = previews.preview("a.tsv", long, len(long))
    assert (len(table.rows), table.is_cut) == (51, True)
    cut = previews.preview("a.csv", b"x,y\n1,2\n3,", 99)
    assert (cut.rows, cut.is_cut) == ([["x", "y"], ["1", "2"]], True)
    assert previews.preview("a.csv", b"just words\n", 11).kind == "text"


def record(seconds: int, **values: object) -> MetricRecord:
    at = NOW + timedelta(seconds=seconds)
    return MetricRecord(seq=seconds, step=0.0, at=at, values=dict(values))


def test_end_is_told_from_what_was_done_since_the_first_record() -> None:
    pace = estimate.pace(record(0, epoch=5, epochs=10), record(100, epoch=7, epochs=10))
    assert pace is not None
    assert pace.share == 0.5
    assert pace.ends is not None
    assert round((pace.ends - NOW).total_seconds()) == 250
    only = record(0, epoch=5, epochs=10)
    assert (found := estimate.pace(only, only)) is not None
    assert found.ends is None
    assert estimate.pace(record(0, loss=1.0), record(9, loss=0.5)) is None


@pytest.mark.parametrize(
    ("what", "wanted", "has", "lasting", "sentence"),
    [
        ("slots", "1", "0", False, "It runs as many jobs as it may."),
        ("gpus", "2", "1", False, "The job wants 2 GPUs, 1 free now."),
        ("memory", "9 GB", "8 GB", True, "The job wants 9 GB of memory, more than the worker has"),
        ("labels", "a=b", "c", True, "The job wants the label a=b; it has c."),
    ],
)
def test_what_a_worker_lacks_is_a_sentence(
    what: str, wanted: str, has: str, *, lasting: bool, sentence: str
) -> None:
    short = Shortfall(what=what, wanted=wanted, has=has, lasting=lasting)
    assert waiting.shortfall(short).startswith(sentence)
