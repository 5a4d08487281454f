"""Checkpoints that travel: real workers, a real server, and jobs that save, fail and are moved."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

import msgspec
import pytest
from support.agents import CODE, RunningAgent, start_agent, write_settings
from support.api import get_json, log_of, wait_for_status
from support.example_job import zip_of
from support.fake_server import fake_server
from support.processes import (
    RunningServer,
    RunningWorker,
    clean_environment,
    start_server,
    start_worker,
    wait_for,
)
from support.proxy import proxy_to

from dtrain.client.client import Client
from dtrain.protocol.errors import NotFound
from dtrain.protocol.messages import CheckpointFile
from dtrain.protocol.worker_messages import KeptGeneration

JOB = """\
import os, pathlib, signal, sys, time

place = pathlib.Path(os.environ["PLACE"])
folder = pathlib.Path(os.environ["DTRAIN_CHECKPOINT_DIR"])
state = folder / "deep" / "state"

def save(content):
    state.parent.mkdir(exist_ok=True)
    unfinished = folder / "unfinished"
    unfinished.write_bytes(content)
    unfinished.chmod(0o640)
    unfinished.replace(state)

def end(*_):
    if len(saved) < 100:
        save(b"saved at the end")
    sys.exit(0)

signal.signal(signal.SIGTERM, end)
found = state.read_bytes() if state.exists() else b"nothing"
mode = f"{state.stat().st_mode & 0o777:o}" if state.exists() else ""
print("found", len(found), found[:30].decode(), mode, flush=True)
saved = (place / "save").read_bytes()
while not (place / "end").exists():
    with open(place / "save", "rb") as file:
        wanted = file.read()
    if wanted != saved:
        save(wanted)
        saved = wanted
    time.sleep(0.02)
(place / "end").rename(place / "ended")
exec((place / "ended").read_text())
"""


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, _no_process_outlives_the_run: str
) -> RunningServer:
    """A server that takes checkpoints of 100 MiB at most."""
    return start_server(tmp_path_factory.mktemp("server"), DTRAIN_MAX_CHECKPOINT_MB=100)


class Job:
    """A job that saves what it is told to, and ends as it is told to."""

    def __init__(self, folder: Path, server: RunningServer, **spec: object) -> None:
        self.folder = folder
        self.server = server
        folder.mkdir()
        self.save(b"")
        bundle = zip_of(folder / "job.zip", {"main.py": JOB})
        env = {"PLACE": str(folder)}
        self.id = Client(server.url).submit(bundle, name="saves", env=env, **spec).id  # type: ignore[arg-type]
        wait_for(lambda: b"found" in log_of(server.url, self.id), "the job to run")

    def save(self, content: bytes) -> None:
        """Have it save something."""
        (self.folder / "new").write_bytes(content)
        (self.folder / "new").replace(self.folder / "save")

    def end(self, code: str) -> None:
        """Have it run some code, and end."""
        (self.folder / "new").write_text(code)
        (self.folder / "new").replace(self.folder / "end")

    def generation(self) -> int:
        """The newest generation that is kept; 0 if there is none."""
        return (get_json(f"{self.server.url}/api/jobs/{self.id}")["checkpoint"] or {}).get(
            "generation", 0
        )

    def kept(self) -> bytes | None:
        """What the newest generation holds."""
        generation = self.generation()
        path = f"/api/jobs/{self.id}/checkpoints/{generation}/deep/state"
        return self.server.read(path) if generation else None

    def wait_until_kept(self, content: bytes) -> None:
        """Wait until the newest generation holds something."""
        wait_for(lambda: self.kept() == content, f"{content[:30]!r} to be kept")

    def wait_for_attempt(self, number: int, status: str = "running") -> bytes:
        """Wait for an attempt, or a later one, to have looked at what it found; its log."""
        job = f"{self.server.url}/api/jobs/{self.id}"
        wait_for(lambda: get_json(job)["attempt"] >= number, f"attempt {number}")
        wait_for(lambda: b"found" in log_of(self.server.url, self.id), "the job to run")
        wait_for_status(self.server.url, self.id, status)
        return log_of(self.server.url, self.id)


def worker(tmp_path: Path, server: RunningServer, number: int = 1) -> RunningWorker:
    """A worker whose jobs need no environment, and whose checkpoints need not wait."""
    return start_worker(
        tmp_path / f"worker-{number}",
        server,
        name=f"worker-{number}",
        executor="fake",
        checkpoint_interval=0.2,
    )


def test_handed_back_job_goes_on_elsewhere_with_what_it_saved_last(
    tmp_path: Path, server: RunningServer
) -> None:
    first = worker(tmp_path, server)
    job = Job(tmp_path / "job", server)
    job.save(b"saved while it ran")
    job.wait_until_kept(b"saved while it ran")

    worker(tmp_path, server, 2)
    assert first.stop() == 0

    log = job.wait_for_attempt(2)
    assert log.startswith(b"[DTrain: Checkpoint 2 of attempt 1 is restored: 1 file, 16 bytes.]\n")
    assert b"found 16 saved at the end 640\n" in log
    jobs = Client(server.url).jobs
    (saved,) = jobs.save_checkpoint(job.id, tmp_path / "here")
    assert saved == tmp_path / "here" / "deep" / "state"
    assert saved.read_bytes() == b"saved at the end"
    (saved,) = jobs.save_checkpoint(job.id, tmp_path / "here", generation=1, overwrite=True)
    assert saved.read_bytes() == b"saved while it ran"
    with pytest.raises(NotFound):
        jobs.save_checkpoint(job.id, tmp_path / "there", generation=7)
    job.end("sys.exit(0)")
    wait_for_status(server.url, job.id, "completed")
    assert get_json(f"{server.url}/api/jobs/{job.id}/checkpoints")["checkpoints"] == []


def test_worker_that_stops_waits_for_its_checkpoint_on_a_slow_line(
    tmp_path: Path, server: RunningServer
) -> None:
    impatient = CODE.replace(
        "from dtrain.worker.agent import main",
        "from dtrain.worker import agent\nagent.REPORT_TIME = 0.1\nmain = agent.main",
    )
    with proxy_to(server.port) as line:
        home = tmp_path / "worker"
        write_settings(home, line.url, token=server.token, checkpoint_interval=3600)
        command = [sys.executable, "-c", impatient, str(home)]
        agent = RunningAgent("agent", command, home, clean_environment(), home / "agent.log")
        job = Job(tmp_path / "job", server)
        job.save(b"small")
        job.wait_until_kept(b"small")
        job.save(b"0" * 8_000_000)
        state = next(home.rglob("checkpoints/deep/state"))
        wait_for(lambda: state.stat().st_size == 8_000_000, "the job to save more")
        line.weather.delay = 0.01
        agent.process.terminate()
        assert agent.wait_for_end() == 0
    assert "Not all is handed back" not in agent.text()
    assert len(job.kept() or b"") == 8_000_000
    Client(server.url).jobs.cancel(job.id)


def test_failed_attempt_is_followed_by_one_that_goes_on_on_the_same_worker(
    tmp_path: Path, server: RunningServer
) -> None:
    worker(tmp_path, server)
    job = Job(tmp_path / "job", server, max_retries=2)
    job.end("save(b'just before'); sys.exit(7)")
    assert b"found 11 just before 640\n" in job.wait_for_attempt(2)

    # The newest is damaged on the server's disk: there is the one before.
    job.save(b"the newest")
    job.wait_until_kept(b"the newest")
    (newest, _) = get_json(f"{server.url}/api/jobs/{job.id}/checkpoints")["checkpoints"]
    sha256 = newest["files"][0]["sha256"]
    (server.home / "data" / "uploads" / sha256[:2] / sha256).write_bytes(b"the mewest")
    job.end("sys.exit(7)")
    log = job.wait_for_attempt(3)
    first, second, _ = log.splitlines()
    assert first.startswith(b"[DTrain: Checkpoint 2 of attempt 2 cannot be restored: ")
    assert second == b"[DTrain: Checkpoint 1 of attempt 1 is restored: 1 file, 11 bytes.]"
    assert b"found 11 just before 640\n" in log
    job.end("sys.exit(0)")
    wait_for_status(server.url, job.id, "completed")


def test_newest_wins_when_the_server_was_away(tmp_path: Path, server: RunningServer) -> None:
    agent = worker(tmp_path, server)
    job = Job(tmp_path / "job", server)
    job.save(b"0" * 50_000_000)
    uploads = server.home / "data" / "uploads" / "tmp"
    wait_for(lambda: any(uploads.iterdir()), "an upload to begin")
    server.kill()
    for number in range(1, 4):
        job.save(b"%d" % number)
        state = next((tmp_path / "worker-1").rglob("checkpoints/deep/state"))
        wait_for(lambda path=state, text=b"%d" % number: path.read_bytes() == text, "it")
    agent.kill()
    agent.restart()
    server.restart()

    job.wait_until_kept(b"3")
    assert job.generation() <= 2
    job.end("sys.exit(0)")
    wait_for_status(server.url, job.id, "completed")


def test_job_goes_on_with_a_checkpoint_that_is_too_large(
    tmp_path: Path, server: RunningServer
) -> None:
    agent = worker(tmp_path, server)
    job = Job(tmp_path / "job", server, max_retries=1)
    job.save(b"fits")
    job.wait_until_kept(b"fits")
    job.end(
        "os.truncate(os.open(folder / 'sparse', os.O_WRONLY | os.O_CREAT), 2**40)\n"
        "while not (place / 'end').exists(): time.sleep(0.02)\n"
        "(place / 'end').unlink(); print('went on'); sys.exit(7)"
    )
    wait_for(lambda: "1,048,576 MB" in agent.output.read_text(), "the worker to say so")
    job.end("")
    log = job.wait_for_attempt(2)
    assert b"found 4 fits 640\n" in log
    earlier = server.json(f"/api/jobs/{job.id}/logs?attempt=1")["lines"]
    assert [line["text"] for line in earlier][1] == "went on"
    assert earlier[2]["text"].startswith("[DTrain: The last checkpoint is not kept: ")
    job.end("sys.exit(0)")
    wait_for_status(server.url, job.id, "completed")


def test_hostile_checkpoint_does_no_harm(tmp_path: Path, server: RunningServer) -> None:
    worker(tmp_path, server)
    job = Job(tmp_path / "job", server)
    job.save(b"good")
    code = """\
os.symlink("/etc/passwd", folder / "passwd")
os.symlink("/", folder / "root")
os.mkfifo(folder / "fifo")
open(folder / "line\\nbreak", "w").close()
open(os.fsencode(folder) + b"/\\xff", "w").close()
save(b"better")
while not (place / 'end').exists(): time.sleep(0.02)
"""
    job.end(code)
    job.wait_until_kept(b"better")
    (newest, *_) = get_json(f"{server.url}/api/jobs/{job.id}/checkpoints")["checkpoints"]
    assert [file["path"] for file in newest["files"]] == ["deep/state"]
    job.end("")
    wait_for_status(server.url, job.id, "completed")


@pytest.mark.parametrize(
    "paths",
    [["../../evil"], ["/tmp/evil"], ["a", "a/b"], ["a/../../evil"], ["nul\0"], ["wrong hash"]],
)
def test_what_a_server_sends_never_leaves_the_checkpoint_folder(
    tmp_path: Path, paths: list[str]
) -> None:
    script = """\
import os, pathlib
folder = pathlib.Path(os.environ["DTRAIN_CHECKPOINT_DIR"])
print(*(path.relative_to(folder) for path in folder.rglob("*")))
"""
    with fake_server() as server, contextlib.ExitStack() as ends:
        # The fake one gives the hash itself as the content.
        sha256 = "0" * 64
        files = [CheckpointFile(path=path, size=64, sha256=sha256, mode=0o600) for path in paths]
        server.generations = [KeptGeneration(number=1, attempt=1, files=files)]
        server.submit({"main.py": script})
        (waiting,) = server.waiting
        waiting.assignment = msgspec.structs.replace(waiting.assignment, attempt=2)
        ends.callback(start_agent(tmp_path / "worker", server).stop)
        server.wait(lambda: (1, 2) in server.attempts, "the job to be claimed")
        attempt = server.attempts[1, 2]
        server.wait(lambda: attempt.applied, "the job to end")
    said, anew, found = attempt.log.decode().split("\n", 2)
    assert said.startswith("[DTrain: Checkpoint 1 of attempt 1 cannot be restored: ")
    assert (anew, found) == ("[DTrain: The job starts anew.]", "\n")
    assert not [*tmp_path.rglob("evil"), *Path("/tmp").glob("evil")]


def test_server_that_knows_no_checkpoints_is_no_reason_to_end_a_job(tmp_path: Path) -> None:
    script = """\
import os, time
open(os.path.join(os.environ["DTRAIN_CHECKPOINT_DIR"], "state"), "w").close()
while not os.path.exists("go"): time.sleep(0.02)
"""
    with fake_server() as server, contextlib.ExitStack() as ends:
        agent = start_agent(tmp_path / "worker", server)
        ends.callback(agent.stop)
        attempt = server.wait_until_claimed(server.submit({"main.py": script}))
        agent.wait_for_text("older version, which keeps no checkpoints")
        (work,) = (tmp_path / "worker" / "data" / "worker-1" / "attempts").glob("*/work")
        (work / "go").touch()
        server.wait_until_ended(1)
        assert attempt.finishes[0].exit_code == 0
