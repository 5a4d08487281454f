from __future__ import annotations

import getpass
import hashlib
import json
import math
import socket
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.http_peer import Exchange, Peer
from support.messages import SHA, job, job_json, worker

import dtrain
from dtrain.client.client import Client
from dtrain.client.columns import columns_of
from dtrain.protocol.errors import Conflict, JobFailed, NotFound, Refused
from dtrain.protocol.messages import MetricRecord

JOBS = "/api/jobs"


@pytest.fixture
def client(server: Peer) -> Iterator[Client]:
    with Client(server.url) as made:
        yield made


# The package.


def test_names_of_the_package_are_these() -> None:
    assert dtrain.__all__ == [
        "Artifact",
        "Checkpoint",
        "Client",
        "Conflict",
        "DTrainError",
        "Event",
        "Forbidden",
        "Invalid",
        "Job",
        "JobFailed",
        "LogPiece",
        "Metric",
        "MetricRecord",
        "NotFound",
        "Phase",
        "Reason",
        "Refused",
        "Status",
        "Unauthorized",
        "Unavailable",
        "Unreachable",
        "Worker",
        "__version__",
    ]
    for name in dtrain.__all__:
        assert getattr(dtrain, name) is not None
    assert dtrain.NotFound is NotFound


def test_every_error_is_one_of_the_tree() -> None:
    kinds = [
        found
        for name in dtrain.__all__
        if isinstance(found := getattr(dtrain, name), type) and issubclass(found, Exception)
    ]
    assert len(kinds) == 10
    assert all(issubclass(kind, dtrain.DTrainError) for kind in kinds)


# Who asks.


@pytest.mark.parametrize(
    ("variable", "said"), [("Zoë Ž", "Zoë Ž"), ("", None), ("a\r\nX: y", "a\r\nX: y")]
)
def test_client_says_who_asks(
    variable: str, said: str | None, server: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DTRAIN_SUBMITTER", variable)
    server.on(f"{JOBS}/1", lambda exchange: exchange.reply(body=job_json()))
    with Client(server.url) as client:
        client.jobs.get(1)
    sent = server.asked[0].headers.get("dtrain-submitter")
    assert said == (None if sent is None else unquote(sent))
    assert "x" not in server.asked[0].headers


def test_client_says_user_and_host_where_nothing_is_chosen(
    server: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DTRAIN_SUBMITTER", raising=False)
    server.on(f"{JOBS}/1", lambda exchange: exchange.reply(body=job_json()))
    with Client(server.url) as client:
        client.jobs.get(1)
    sent = unquote(server.asked[0].headers["dtrain-submitter"])
    assert sent == f"{getpass.getuser()}@{socket.gethostname()}"


# Lists.


def test_iterate_asks_for_a_page_only_when_it_is_needed(server: Peer, client: Client) -> None:
    def page(exchange: Exchange) -> None:
        before = int(exchange.server.asked[-1].query.get("cursor", 7))
        found = [job(id=number) for number in range(before - 1, max(before - 3, 0), -1)]
        following = str(before - 2) if before > 3 else None
        exchange.json({"jobs": found, "next": following})

    server.on(JOBS, page)
    every = client.jobs.iterate(page=2, status="failed", tag=["a", "b"])
    assert [each.id for each in islice(every, 3)] == [6, 5, 4]
    assert len(server.asked) == 2
    assert [each.id for each in every] == [3, 2, 1]
    assert len(server.asked) == 3
    assert all(asked.query["status"] == "failed" for asked in server.asked)
    assert all(asked.query["tag"] == "a,b" for asked in server.asked)


def test_records_are_those_of_one_attempt_over_all_pages(server: Peer, client: Client) -> None:
    def page(exchange: Exchange) -> None:
        after = int(exchange.server.asked[-1].query["after"])
        record = {"seq": after, "step": after, "at": "2026-01-01T10:00:00Z", "values": {"x": 1}}
        exchange.json({"attempt": 2, "records": [record], "next": after + 1, "more": after < 2})

    server.on(f"{JOBS}/1/metrics", page)
    assert [record.seq for record in client.jobs.records(1)] == [0, 1, 2]
    assert [asked.query.get("attempt") for asked in server.asked] == [None, "2", "2"]


def record(seq: int, at_step: float, **values: Any) -> MetricRecord:
    at = "2026-01-01T10:00:00Z"
    told = {"seq": seq, "step": at_step, "at": at, "values": values}
    return msgspec.json.decode(json.dumps(told), type=MetricRecord)


def test_columns_are_of_one_length_and_hold_none_where_nothing_was_said() -> None:
    columns = columns_of(
        [
            record(0, 1, epoch=1, loss=0.5),
            record(1, 2, epoch=2, loss="NaN", note="slow"),
            record(2, 3, step=3, loss="-Infinity"),
        ]
    )
    assert math.isnan(columns["loss"].pop(1))
    assert columns == {
        "step": [1, 2, 3],
        "epoch": [1, 2, None],
        "loss": [0.5, -math.inf],
        "note": [None, "slow", None],
    }
    assert columns_of([]) == {"step": []}


NUMBERS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
"""What JSON has no other way to say."""


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from("abc"),
            st.one_of(st.integers(), st.text(), st.sampled_from(sorted(NUMBERS))),
        ),
        max_size=9,
    )
)
def test_columns_lose_nothing(rows: list[dict[str, Any]]) -> None:
    columns = columns_of(record(number, number, **row) for number, row in enumerate(rows))
    assert {len(column) for column in columns.values()} == {len(rows)}
    for number, row in enumerate(rows):
        there = {name: column[number] for name, column in columns.items() if name != "step"}
        # By their text: NaN is not equal to itself.
        assert {name: repr(value) for name, value in there.items() if value is not None} == {
            name: repr(NUMBERS.get(value, value)) for name, value in row.items()
        }


# Again.


def test_clone_sends_the_earlier_spec_with_changes_and_the_bundles_hash(
    server: Peer, client: Client
) -> None:
    spec = {"name": "old", "args": ["--lr", "1"], "gpus": 1, "env": {"A": "1"}}
    server.on(f"{JOBS}/7", lambda exchange: exchange.reply(body=job_json(id=7, spec=spec)))
    server.on(JOBS, Exchange.cut, lambda exchange: exchange.reply(201, job_json(id=8)))
    assert client.jobs.clone(7, name="new", args=["--lr", "2"], time_limit="2m").id == 8
    _, lost, asked = server.asked
    assert lost.headers["idempotency-key"] == asked.headers["idempotency-key"]
    assert asked.headers["content-type"] == "application/json"
    sent = json.loads(asked.body)
    assert sent["bundle"] == SHA
    assert (sent["name"], sent["args"], sent["time_limit"]) == ("new", ["--lr", "2"], 120.0)
    assert (sent["gpus"], sent["env"], sent["python"]) == (1, {"A": "1"}, None)


# Waiting.


def test_wait_raises_for_a_job_that_did_not_complete_if_told_to(
    server: Peer, client: Client
) -> None:
    def failed(exchange: Exchange) -> None:
        exchange.reply(
            body=job_json(status="failed", reason="exit_nonzero", message="It exited with code 3.")
        )

    server.on(f"{JOBS}/1", failed)
    assert client.jobs.wait(1).status == "failed"
    with pytest.raises(JobFailed, match="Job 1 failed: It exited with code 3") as caught:
        client.jobs.wait(1, raise_on_failure=True)
    assert caught.value.job.reason == "exit_nonzero"


# Artifacts.


def test_save_artifacts_downloads_nothing_unless_all_can_be(
    server: Peer, client: Client, tmp_path: Path
) -> None:
    content = b"content"
    sha = hashlib.sha256(content).hexdigest()

    def left(*paths: str) -> None:
        found = [{"path": path, "size": 7, "sha256": sha, "attempt": 1} for path in paths]
        server.on(f"{JOBS}/1/artifacts", lambda exchange: exchange.json({"artifacts": found}))
        for path in paths:
            server.on(f"{JOBS}/1/artifacts/{path}", lambda exchange: exchange.reply(200, content))

    left("a/good", "../evil")
    with pytest.raises(Refused, match=r"'\.\./evil' leads out of the folder"):
        client.jobs.save_artifacts(1, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    [place] = client.jobs.save_artifacts(1, tmp_path / "out", ["good"])
    assert place.read_bytes() == content
    left("a/good", "b")
    with pytest.raises(Conflict, match="there already"):
        client.jobs.save_artifacts(1, tmp_path / "out")
    assert not (tmp_path / "out" / "b").exists()
    told: list[tuple[str, int]] = []
    client.jobs.save_artifacts(
        1,
        tmp_path / "out",
        overwrite=True,
        progress=lambda artifact, done: told.append((artifact.path, done)),
    )
    assert told == [("a/good", 7), ("b", 7)]


# Workers.


def test_workers_are_found_by_name_id_or_the_beginning_of_it(server: Peer, client: Client) -> None:
    known = [
        worker(id="1234aaaa", name="gpu", hostname="one"),
        worker(id="1234bbbb", name="gpu", hostname="two"),
        worker(id="5678cccc", name="cpu", hostname="three"),
        worker(id="9abcdddd", name="5678", hostname="four"),
    ]
    server.on("/api/workers", lambda exchange: exchange.json({"workers": known}))
    find = client.workers.find
    assert find("cpu").id == "5678cccc"
    assert find("1234bbbb").hostname == "two"
    assert find("1234b").hostname == "two"
    assert find("5678").hostname == "four"  # a name goes before the beginning of an id
    with pytest.raises(Conflict) as caught:
        find("gpu")
    assert str(caught.value) == (
        "There are 2 workers 'gpu'; name one by its id: 1234aaaa on one, 1234bbbb on two."
    )
    for unknown in ("nobody", "123", ""):
        with pytest.raises(NotFound, match="There is no worker"):
            find(unknown)
