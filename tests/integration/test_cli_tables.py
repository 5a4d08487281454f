from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.cells import cell_len
from support.command import COMMAND, dtrain, environment
from support.http_peer import Peer, peer
from support.messages import SHA, job, worker
from support.terminal import InTerminal

WIDTHS = [40, 60, 80, 120, 250]


@pytest.fixture
def server() -> Iterator[Peer]:
    with peer() as running:
        yield running


def shown(server: Peer, folder: Path, columns: int, *arguments: str) -> list[str]:
    """The lines that a command shows at a terminal so wide; none is wider."""
    terminal = InTerminal(
        "dtrain", [*COMMAND, *arguments], folder, environment(server.url), columns=columns
    )
    assert terminal.ended() == 0, terminal.screen()
    lines = [line.rstrip() for line in terminal.screen().splitlines() if line.strip()]
    assert max(map(cell_len, lines)) <= columns, "\n".join(lines)
    return lines


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("name", ["a long name " * 20, "模型训练" * 50, "short", "é" * 200])
def test_jobs_fit_and_keep_what_matters(
    columns: int, name: str, server: Peer, tmp_path: Path
) -> None:
    found = [
        job(id=123_456, name=name, status="failed", reason="out_of_memory", worker="gpu-1" * 8),
        job(id=2, name=name, submitter="somebody@a-host.example", fraction=0.5, worker="w"),
    ]
    page = {"jobs": found, "next": None}
    server.on("/api/jobs", lambda exchange: exchange.json(page))
    head, first, second = shown(server, tmp_path, columns, "jobs")
    assert head.split()[:3] == ["ID", "NAME", "STATUS"]
    assert first.startswith("123456  ")
    assert "failed (out_of_memory)"[: columns - 20] in first
    assert "pending" in second
    assert name[:3] in first
    assert ("…" in first) == (len(name) > 10)
    if columns >= 250:
        assert head.split()[3:] == ["DONE", "WORKER", "BY", "SUBMITTED"]
        assert "somebody@a-host.example" in second


@pytest.mark.parametrize("columns", WIDTHS)
def test_workers_fit_and_keep_what_matters(columns: int, server: Peer, tmp_path: Path) -> None:
    found = [worker(id="12345678-9", name="a-worker-" * 9, state="draining", hostname="h" * 99)]
    server.on("/api/workers", lambda exchange: exchange.json({"workers": found}))
    head, row = shown(server, tmp_path, columns, "workers")
    assert head.split()[0] == "NAME"
    assert row.startswith("a-worker-")
    assert "draining" in row
    assert "0 of 1" in row
    assert ("12345678" in row) == (columns >= 60)


@pytest.mark.parametrize("columns", WIDTHS)
def test_metrics_fit_and_keep_the_last_value(columns: int, server: Peer, tmp_path: Path) -> None:
    records = [
        {
            "seq": number,
            "step": number,
            "at": "2026-01-01T10:00:00Z",
            "values": {"validation/accuracy" * 4: number / 7, "loss": 1 / (number + 1)},
        }
        for number in range(100)
    ]
    page = {"attempt": 1, "records": records, "next": 100, "more": False}
    server.on("/api/jobs/1/metrics", lambda exchange: exchange.json(page))
    head, first, second, _ = shown(server, tmp_path, columns, "metrics", "1")
    assert head.split()[:2] == ["NAME", "LAST"]
    assert first.startswith("validation")
    assert "14.143" in first
    assert "0.01" in second
    assert ("█" in first) == (columns >= 60)


@pytest.mark.parametrize("columns", WIDTHS)
@pytest.mark.parametrize("command", ["artifacts", "events", "explain", "show"])
def test_other_tables_fit(columns: int, command: str, server: Peer, tmp_path: Path) -> None:
    long = "a/very/long/path/" * 20
    left = [{"path": long, "size": 5 * 1024**2, "sha256": SHA, "attempt": 1}]
    at = "2026-01-01T10:00:00Z"
    data = {"attempt": 1, "worker": "gpu" * 20, "status": "failed", "message": "why " * 50}
    event = {"id": 1, "kind": "claimed", "job_id": 1, "worker_id": "x", "at": at, "data": data}
    lacks = {"what": "gpus", "wanted": "8", "has": "0", "lasting": True}
    fit = {"worker_id": "x", "worker": "gpu-1", "state": "online", "declined": False}
    told = {"summary": "It waits.", "position": 0, "workers": [{**fit, "shortfalls": [lacks] * 9}]}
    server.on("/api/jobs/1", lambda exchange: exchange.json(job(name="n" * 200, artifacts=1)))
    server.on("/api/jobs/1/artifacts", lambda exchange: exchange.json({"artifacts": left}))
    server.on("/api/jobs/1/events", lambda exchange: exchange.json({"events": [event]}))
    server.on("/api/jobs/1/explain", lambda exchange: exchange.json(told))
    options = ["--list"] if command == "artifacts" else []
    lines = shown(server, tmp_path, columns, command, "1", *options)
    expected = {
        "artifacts": ["5.0 MB", "a/very/"],
        "events": ["claimed"],
        "explain": ["It waits.", "gpu-1", "lacks"],
        "show": ["Job 1", "gpus 8", "5.0 MB"],
    }
    assert all(any(text in line for line in lines) for text in expected[command]), lines


def test_nothing_is_cut_off_where_no_terminal_is(server: Peer) -> None:
    page = {"jobs": [job(name="n" * 200, worker="w" * 99)], "next": None}
    server.on("/api/jobs", lambda exchange: exchange.json(page))
    done = dtrain("jobs", url=server.url)
    assert "n" * 200 in done.stdout
    assert "w" * 99 in done.stdout
