from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.agents import SAYS_WHERE, attempt_folders, has_ended, job_process, start_agent
from support.fake_server import FakeServer, drops, drops_answer, fails, fake_server
from support.processes import wait_for

from dtrain.protocol.states import Cause, Phase

WAITS_FOR_A_FILE = SAYS_WHERE + "while not os.path.exists('go'): time.sleep(0.02)\nprint('bye')\n"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


def test_job_is_run_and_reported(tmp_path: Path, server: FakeServer) -> None:
    agent = start_agent(tmp_path / "worker", server)
    script = """\
import os, pathlib, sys
print("to standard output", flush=True)
print("to standard error", file=sys.stderr, flush=True)
sys.stdout.buffer.write(b"\\x00\\xff not text\\r\\n")
output = pathlib.Path(os.environ["DTRAIN_OUTPUT_DIR"])
(output / "model.bin").write_bytes(b"weights")
(output / "deep/er").mkdir(parents=True)
(output / "deep/er/näme with space.txt").write_text("text")
sys.exit(3)
"""
    attempt = server.wait_until_ended(server.submit({"main.py": script}))

    expected = b"to standard output\nto standard error\n\x00\xff not text\r\n"
    assert bytes(attempt.log) == expected
    assert attempt.phases == [Phase.EXECUTING]
    assert attempt.artifacts == {
        "model.bin": b"weights",
        "deep/er/näme with space.txt": b"text",
    }
    finish = attempt.finishes[0]
    assert (finish.cause, finish.exit_code, finish.signal) == (Cause.EXITED, 3, None)
    assert finish.log_bytes == len(expected)
    assert attempt.finishes == [finish, finish]
    wait_for(lambda: attempt_folders(tmp_path / "worker") == [], "the folder to go")
    agent.wait_for_text("Job 1 (a job) failed with exit code 3")


def test_slot_is_free_at_once_for_the_next_job(tmp_path: Path, server: FakeServer) -> None:
    start_agent(tmp_path / "worker", server)
    jobs = [server.submit({"main.py": f"print({number})"}) for number in range(5)]
    for number, job in enumerate(jobs):
        assert bytes(server.wait_until_ended(job).log) == b"%d\n" % number


def test_several_jobs_run_side_by_side(tmp_path: Path, server: FakeServer) -> None:
    start_agent(tmp_path / "worker", server, max_concurrent_jobs=2)
    jobs = [server.submit({"main.py": WAITS_FOR_A_FILE}) for _ in range(2)]
    processes = [job_process(server, server.wait_until_claimed(job)) for job in jobs]
    server.wait(lambda: len(server.polls[-1].attempts) == 2, "both to be listed")
    for process in processes:
        Path(process.cwd(), "go").touch()
    for job in jobs:
        server.wait_until_ended(job)


def test_bundle_is_fetched_once(tmp_path: Path, server: FakeServer) -> None:
    start_agent(tmp_path / "worker", server)
    reads = [
        server.wait_until_ended(server.submit({"main.py": "print(1)"})).bundle_reads
        for _ in range(2)
    ]
    assert reads == [1, 0]


def test_large_log_arrives_byte_for_byte(tmp_path: Path, server: FakeServer) -> None:
    start_agent(tmp_path / "worker", server)
    script = """\
import hashlib, sys
block = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(2000))
for _ in range(100):
    sys.stdout.buffer.write(block)
"""
    attempt = server.wait_until_ended(server.submit({"main.py": script}))
    block = bytes(attempt.log[:64000])
    assert len(attempt.log) == 6_400_000
    assert attempt.log == block * 100


def test_line_arrives_soon_after_it_was_written(tmp_path: Path, server: FakeServer) -> None:
    start_agent(tmp_path / "worker", server)
    script = """\
import time
for _ in range(30):
    print(time.time(), flush=True)
    time.sleep(0.2)
"""
    attempt = server.wait_until_claimed(server.submit({"main.py": script}))
    server.wait(lambda: attempt.log.count(b"\n") >= 3, "a few lines")
    delays = []
    while not attempt.applied:
        lines = attempt.log.count(b"\n")
        server.wait(
            lambda lines=lines: attempt.applied or attempt.log.count(b"\n") > lines, "a line"
        )
        if not attempt.applied:
            last = attempt.log.split(b"\n")[-2]
            delays.append(time.time() - float(last))
    assert min(delays) < 1


@pytest.mark.parametrize("fault", [fails(500), fails(429), drops, drops_answer])
def test_failures_on_the_way_lose_and_double_nothing(
    tmp_path: Path, server: FakeServer, fault: object
) -> None:
    for path in ("/register", "/poll", "/bundle", "/phase", "/artifacts/", "/finish"):
        server.on(path, fault, fault)
    server.on("/log", *[fault] * 4)
    start_agent(tmp_path / "worker", server)
    script = """\
import os, time
time.sleep(1)
for number in range(40):
    print(number, "x" * 100, flush=True)
    time.sleep(0.02)
open(os.environ["DTRAIN_OUTPUT_DIR"] + "/left", "w").write("x")
"""
    attempt = server.wait_until_ended(server.submit({"main.py": script}))

    lines = [b"%d %s" % (number, b"x" * 100) for number in range(40)]
    assert attempt.log.splitlines() == lines
    assert attempt.artifacts == {"left": b"x"}
    assert len(set(map(repr, attempt.finishes))) == 1
    assert server.faults == []
    wait_for(lambda: attempt_folders(tmp_path / "worker") == [], "the folder to go")


def test_server_that_is_down_does_not_stop_a_job(tmp_path: Path) -> None:
    with fake_server() as server:
        agent = start_agent(tmp_path / "worker", server)
        attempt = server.wait_until_claimed(server.submit({"main.py": WAITS_FOR_A_FILE}))
        process = job_process(server, attempt)
        port = server.server_port
    agent.wait_for_text("keeps trying")
    assert not has_ended(process)
    Path(process.cwd(), "go").touch()
    wait_for(lambda: has_ended(process), "the job to end")

    with fake_server(port) as other:
        other.credentials, other.session = server.credentials, server.session
        other.attempts = server.attempts
        other.wait_until_ended(1)
        assert bytes(attempt.log) == b"%d\nbye\n" % process.pid
    agent.wait_for_text("The server answers again.")


def test_log_that_the_server_has_lost_is_sent_again(tmp_path: Path, server: FakeServer) -> None:
    start_agent(tmp_path / "worker", server)
    attempt = server.wait_until_claimed(server.submit({"main.py": WAITS_FOR_A_FILE}))
    process = job_process(server, attempt)
    with server.changed:
        attempt.log.clear()
    Path(process.cwd(), "go").touch()
    server.wait_until_ended(1)
    assert bytes(attempt.log) == b"%d\nbye\n" % process.pid


def test_cancel_gives_the_job_time_to_end(tmp_path: Path, server: FakeServer) -> None:
    start_agent(tmp_path / "worker", server)
    script = """\
import signal, sys, time
def end(*_):
    print("saving", flush=True)
    sys.exit(5)
signal.signal(signal.SIGTERM, end)
print("ready", flush=True)
time.sleep(3600)
"""
    attempt = server.wait_until_claimed(server.submit({"main.py": script}))
    server.wait(lambda: b"ready" in attempt.log, "the job to be ready")
    server.command(1, "cancel")
    server.wait_until_ended(1)
    assert bytes(attempt.log) == b"ready\nsaving\n"
    assert attempt.finishes[0].cause is Cause.CANCELLED
    assert any(
        report.phase is Phase.CANCELLING for poll in server.polls for report in poll.attempts
    )


def test_second_cancel_leaves_no_time(tmp_path: Path, server: FakeServer) -> None:
    start_agent(tmp_path / "worker", server, is_patient=True)
    ignores = SAYS_WHERE.replace("import os", "import signal, os") + (
        "signal.signal(signal.SIGTERM, lambda *_: print('no', flush=True))\n"
        "print('ready', flush=True)\n"
        "while True: time.sleep(1)\n"
    )
    attempt = server.wait_until_claimed(server.submit({"main.py": ignores}))
    server.wait(lambda: b"ready" in attempt.log, "the job to be ready")
    server.command(1, "cancel")
    server.wait(lambda: b"no" in attempt.log, "the job to ignore it")
    server.command(1, "cancel", at_once=True)
    server.wait_until_ended(1)
    assert attempt.finishes[0].cause is Cause.CANCELLED


def test_cancel_while_the_bundle_is_fetched(tmp_path: Path, server: FakeServer) -> None:
    server.on("/bundle", *[fails(503)] * 3)
    start_agent(tmp_path / "worker", server)
    attempt = server.wait_until_claimed(server.submit({"main.py": "print('never')"}))
    server.command(1, "cancel")
    server.wait_until_ended(1)
    assert attempt.finishes[0].cause is Cause.CANCELLED
    assert attempt.log == b""


def test_stale_attempt_is_killed_and_forgotten(tmp_path: Path, server: FakeServer) -> None:
    start_agent(tmp_path / "worker", server)
    attempt = server.wait_until_claimed(server.submit({"main.py": WAITS_FOR_A_FILE}))
    process = job_process(server, attempt)
    server.command(1, "stale")
    wait_for(lambda: has_ended(process), "the job to be killed")
    wait_for(lambda: attempt_folders(tmp_path / "worker") == [], "the folder to go")
    assert attempt.finishes == []
    # Nothing is in the way of the next job.
    server.wait_until_ended(server.submit({"main.py": "print(1)"}))


def test_attempt_that_a_report_finds_stale_is_killed(tmp_path: Path, server: FakeServer) -> None:
    start_agent(tmp_path / "worker", server)
    chatty = SAYS_WHERE + "while True:\n    print('x', flush=True)\n    time.sleep(0.05)\n"
    attempt = server.wait_until_claimed(server.submit({"main.py": chatty}))
    process = job_process(server, attempt)
    with server.changed:
        attempt.stale = True
    wait_for(lambda: has_ended(process), "the job to be killed")
    wait_for(lambda: attempt_folders(tmp_path / "worker") == [], "the folder to go")


def test_forgotten_worker_enrols_anew_and_its_job_goes_on(
    tmp_path: Path, server: FakeServer
) -> None:
    agent = start_agent(tmp_path / "worker", server, poll_interval=0.5)
    attempt = server.wait_until_claimed(server.submit({"main.py": WAITS_FOR_A_FILE}))
    process = job_process(server, attempt)
    server.forget_workers()
    server.wait(lambda: len(server.registered) == 2, "another enrolment")
    assert server.registered[1].worker_id is None
    assert not has_ended(process)
    Path(process.cwd(), "go").touch()
    server.wait_until_ended(1)
    assert bytes(attempt.log) == b"%d\nbye\n" % process.pid
    agent.wait_for_text("does not know this worker any more")


def test_superseded_agent_stops_and_its_job_goes_on(tmp_path: Path, server: FakeServer) -> None:
    agent = start_agent(tmp_path / "worker", server)
    attempt = server.wait_until_claimed(server.submit({"main.py": WAITS_FOR_A_FILE}))
    process = job_process(server, attempt)
    server.supersede()
    assert agent.wait_for_end() == 2
    assert "It is superseded." in agent.text()
    assert server.left == []
    assert not has_ended(process)
    Path(process.cwd(), "go").touch()
    wait_for(lambda: has_ended(process), "the job to end by itself")
    assert len(attempt_folders(tmp_path / "worker")) == 1


@pytest.mark.parametrize(
    ("files", "spec", "cause", "words"),
    [
        ({"train.py": "print(1)"}, {}, Cause.ENTRY_MISSING, "train.py"),
        ({"main.py": "x"}, {"main_entry": "../main.py"}, Cause.ENTRY_MISSING, "../main.py"),
        ({"a/../../b": "x"}, {}, Cause.BUNDLE_INVALID, ".."),
        ({"main.py": "x"}, {"gpus": 1}, Cause.START_FAILED, "GPU"),
        ({"main.py": "x"}, {"env": {"FAKE_PREPARE": "image_failed"}}, Cause.IMAGE_FAILED, "fail"),
    ],
)
def test_job_that_cannot_be_prepared_ends_with_its_cause(
    tmp_path: Path,
    server: FakeServer,
    files: dict[str, str],
    spec: dict[str, object],
    cause: Cause,
    words: str,
) -> None:
    start_agent(tmp_path / "worker", server, {"CUDA_VISIBLE_DEVICES": ""})
    attempt = server.wait_until_ended(server.submit(files, **spec))
    finish = attempt.finishes[0]
    assert finish.cause is cause
    assert words in (finish.message or "")
    assert attempt.log == b""
    wait_for(lambda: attempt_folders(tmp_path / "worker") == [], "the folder to go")


def test_bundle_with_another_content_is_never_run(tmp_path: Path, server: FakeServer) -> None:
    job = server.submit({"main.py": "print('never')"})
    server.waiting[0].content = b"something else"
    start_agent(tmp_path / "worker", server)
    attempt = server.wait_until_ended(job)
    assert attempt.finishes[0].cause is Cause.BUNDLE_INVALID
    assert attempt.bundle_reads == 3


def test_hostile_output_is_read_without_harm(tmp_path: Path, server: FakeServer) -> None:
    secret = tmp_path / "secret"
    secret.write_text("not yours")
    script = f"""\
import os
os.chdir(os.environ["DTRAIN_OUTPUT_DIR"])
os.symlink({str(secret)!r}, "link")
os.symlink({str(tmp_path)!r}, "folder")
os.mkfifo("fifo")
open(b"\\xff\\xfe", "w").write("x")
open("line\\nbreak", "w").write("x")
os.makedirs("/".join(["d"] * 60))
open("good", "w").write("x")
"""
    agent = start_agent(tmp_path / "worker", server)
    attempt = server.wait_until_ended(server.submit({"main.py": script}))
    assert attempt.artifacts == {"good": b"x"}
    for name in ("link", "folder", "fifo", "line\\nbreak", "\\udcff"):
        agent.wait_for_text(name)


def test_server_can_drain_a_worker(tmp_path: Path, server: FakeServer) -> None:
    agent = start_agent(tmp_path / "worker", server, poll_interval=0.2)
    server.wait(lambda: server.polls, "a poll")
    server.drain = True
    agent.wait_for_text("takes no new jobs until it is resumed")
    server.drain = False
    agent.wait_for_text("takes jobs again")


def test_idle_agent_is_small(tmp_path: Path, server: FakeServer) -> None:
    agent = start_agent(tmp_path / "worker", server, poll_interval=0.5)
    server.wait(lambda: len(server.polls) > 3, "a few polls")
    wait_for(lambda: psutil.Process(agent.pid).num_threads() == 2, "two threads")
    assert psutil.Process(agent.pid).memory_info().rss < 45 * 1024**2
