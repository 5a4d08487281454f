from __future__ import annotations

import hashlib
import io
import os
import threading
import urllib.request
from pathlib import Path

import pytest
from support.example_job import zip_of
from support.http_peer import Exchange, peer
from support.processes import PATIENCE, RunningServer
from support.scripted_worker import ScriptedWorker

from dtrain.client.client import Client
from dtrain.client.stream import Metric, content
from dtrain.protocol.errors import Invalid, NotFound
from dtrain.protocol.messages import Job, LogPiece
from dtrain.protocol.spec import parse_spec
from dtrain.protocol.states import Cause, Reason, Status


def test_submitted_spec_is_the_one_that_was_given(client: Client, folder: Path) -> None:
    spec = {
        "args": ["--text", " two\nlines ", ""],
        "env": {"A": "x=y", "B": " spaced\nlines "},
        "tags": ["one"],
        "labels": {"zone": "a"},
        "time_limit": "90s",
        "cpus": 0.5,
    }
    job = client.submit(folder, **spec)
    expected = parse_spec({"name": "my-training", "requirements_file": None, **spec})
    assert job.spec == expected
    assert client.jobs.get(job.id) == job


def test_bundle_comes_back_as_it_was_sent(client: Client, tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", {"main.py": "1", "data.txt": "x" * 100_000})
    job = client.submit(path)
    into = io.BytesIO()
    told: list[int] = []
    client.jobs.download_bundle(job.id, into, progress=lambda done, _: told.append(done))
    assert into.getvalue() == path.read_bytes()
    assert job.bundle.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert told[-1] == path.stat().st_size


def test_submission_whose_answer_is_lost_makes_one_job(
    server: RunningServer, client: Client, folder: Path
) -> None:
    def forward(exchange: Exchange) -> bytes:
        asked = exchange.server.asked[-1]
        request = urllib.request.Request(server.url + asked.path, asked.body, method="POST")
        for name in ("content-type", "idempotency-key"):
            request.add_header(name, asked.headers[name])
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            body: bytes = answer.read()
            return body

    def lose(exchange: Exchange) -> None:
        forward(exchange)
        exchange.cut()

    with peer() as between:
        between.on("/api/jobs", lose, lambda exchange: exchange.reply(200, forward(exchange)))
        far = Client(between.url)
        job = far.submit(folder, name="only once", tags=["lost"])
        far.close()
        assert len(between.asked) == 2
    assert [each.id for each in client.jobs.list(tag="lost").jobs] == [job.id]


def test_bundle_that_is_too_large_is_refused_in_a_sentence(client: Client, folder: Path) -> None:
    (folder / "large.bin").write_bytes(os.urandom(40 * 1024**2))
    with pytest.raises(Invalid) as caught:
        client.submit(folder)
    assert caught.value.status == 413
    assert "larger" in caught.value.detail


def test_job_can_be_lived_through_from_python(
    client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    job = client.submit(folder)
    assert client.jobs.explain(job.id).position == 0
    attempt = worker.take()
    attempt.go_on()
    attempt.log(b'one\nPROGRESS: {"step": 1, "loss": NaN}\nWARNING: two\n')
    attempt.leave("a folder/50%#?.bin", b"content")
    attempt.finish(exit_code=2)
    ended = client.jobs.wait(job.id, timeout=PATIENCE)
    assert (ended.status, ended.reason, ended.exit_code) == (
        Status.FAILED,
        Reason.EXIT_NONZERO,
        2,
    )
    assert [line.level for line in client.jobs.logs(job.id).lines] == [
        "INFO",
        "PROGRESS",
        "WARNING",
    ]
    assert client.jobs.logs(job.id, level="warning", q="TWO").lines[0].number == 2
    assert client.jobs.metrics(job.id).records[0].values == {"step": 1, "loss": "NaN"}
    [artifact] = client.jobs.artifacts(job.id)
    into = io.BytesIO()
    client.jobs.download_artifact(job.id, artifact.path, into)
    assert into.getvalue() == b"content"
    assert len(client.jobs.events(job.id)) >= 3
    again = client.jobs.retry(job.id)
    assert again.retry_of == job.id
    client.jobs.cancel(again.id)
    client.jobs.delete(job.id)
    with pytest.raises(NotFound):
        client.jobs.get(job.id)


def test_follow_tells_all_that_happens_in_its_order(
    client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    job = client.submit(folder)
    updates: list[object] = []
    follower = threading.Thread(target=lambda: updates.extend(client.jobs.follow(job.id)))
    follower.start()
    attempt = worker.take()
    attempt.go_on()
    attempt.log(b"begun \xff\n")
    attempt.log(b'PROGRESS: {"epoch": 1, "epochs": 2}\nrest')
    attempt.finish()
    follower.join(PATIENCE)
    assert not follower.is_alive()
    jobs = [update for update in updates if isinstance(update, Job)]
    assert jobs[0].status is Status.PENDING
    assert jobs[-1].status is Status.COMPLETED
    assert updates[-1] is jobs[-1]
    pieces = [update for update in updates if isinstance(update, LogPiece)]
    expected = b'begun \xff\nPROGRESS: {"epoch": 1, "epochs": 2}\nrest'
    assert b"".join(map(content, pieces)) == expected
    [record] = [update for update in updates if isinstance(update, Metric)]
    assert (record.attempt, record.seq, record.values) == (1, 0, {"epoch": 1, "epochs": 2})


def test_follow_of_an_ended_job_gives_everything_at_once(
    client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    job = client.submit(folder)
    attempt = worker.take()
    attempt.log(b"x" * 700_000)
    attempt.finish(Cause.TIME_LIMIT, None)
    client.jobs.wait(job.id, timeout=PATIENCE)
    pieces = [each for each in client.jobs.follow(job.id, offset=10) if isinstance(each, LogPiece)]
    assert b"".join(map(content, pieces)) == b"x" * 699_990
    with pytest.raises(NotFound):
        list(client.jobs.follow(999_999))


def test_worker_can_be_drained_and_resumed(
    client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    worker.commands()
    newest = max(client.workers.list(), key=lambda each: each.last_seen)
    assert client.workers.drain(newest.id).state == "draining"
    assert client.workers.get(newest.id).state == "draining"
    assert client.workers.resume(newest.id).state == "online"
    with pytest.raises(NotFound):
        client.workers.get("no such worker")
