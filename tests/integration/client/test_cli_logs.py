from __future__ import annotations

import random
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.command import COMMAND, dtrain, dtrain_bytes, environment
from support.processes import PATIENCE, RunningServer, start_server, wait_for
from support.scripted_worker import Attempt, ScriptedWorker
from support.terminal import InTerminal

from dtrain.client.client import Client
from dtrain.protocol.states import Cause, Status

BINARY = b"text\r\nGr\xc3\xbc\xc3\x9fe \xff\x00\x1b[31m\xc3\nno end"


@pytest.fixture
def start(server: RunningServer) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a command that goes on while the test does."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(*arguments: object) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*COMMAND, *map(str, arguments)],
            env=environment(server.url),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        running.append(process)
        return process

    yield begin
    for process in running:
        process.kill()
        process.communicate()


def taken(client: Client, worker: ScriptedWorker, folder: Path, **spec: object) -> Attempt:
    """A job that runs and has printed nothing."""
    client.submit(folder, **spec)
    attempt = worker.take()
    attempt.go_on()
    return attempt


# The log as it is.


def test_logs_are_printed_byte_for_byte(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    attempt = taken(client, worker, folder)
    attempt.log(BINARY)
    before = dtrain_bytes("logs", attempt.job_id, url=server.url)
    attempt.finish()
    client.jobs.wait(attempt.job_id, timeout=PATIENCE)
    after = dtrain_bytes("logs", attempt.job_id, url=server.url)
    assert (before.returncode, before.stdout, before.stderr) == (0, BINARY, b"")
    assert (after.returncode, after.stdout, after.stderr) == (0, BINARY, b"")


def test_logs_of_a_job_that_has_not_begun_are_empty(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    job = client.submit(folder, gpus=8)
    for arguments in ([], ["--tail", "5"]):
        done = dtrain("logs", job.id, *arguments, url=server.url)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_logs_tail_gives_the_last_lines(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    chance = random.Random(3)
    lines = [b"x" * chance.randrange(400) + b"\n" for _ in range(3000)]
    attempt = taken(client, worker, folder)
    attempt.log(b"".join(lines[:2000]))
    attempt.log(b"".join(lines[2000:]) + b"no end")
    for count in (0, 1, 2, 500, 2999, 3001, 5000):
        done = dtrain_bytes("logs", attempt.job_id, "--tail", count, url=server.url)
        wanted = [*lines, b"no end"][-count:] if count else []
        assert done.stdout == b"".join(wanted), count
    attempt.finish()


def test_logs_of_an_earlier_attempt_can_be_had(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    first = taken(client, worker, folder, max_retries=1)
    first.log(b"first\n")
    first.finish(exit_code=1)
    second = worker.take()
    second.log(b"second\n")
    second.finish()
    client.jobs.wait(second.job_id, timeout=PATIENCE)
    job_id = first.job_id
    assert dtrain("logs", job_id, url=server.url).stdout == "second\n"
    assert dtrain("logs", job_id, "--attempt", "1", url=server.url).stdout == "first\n"
    both = dtrain("logs", job_id, "--attempt", "1", "-f", url=server.url)
    assert both.stdout == "first\nsecond\n"
    missing = dtrain("logs", job_id, "--attempt", "7", url=server.url)
    assert missing.returncode == 2
    assert missing.stderr.startswith("dtrain: ")


def test_logs_into_a_closed_pipe_end_quietly(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    attempt = taken(client, worker, folder)
    attempt.log(b"line\n" * 100_000)
    attempt.finish()
    line = " ".join([*COMMAND, "logs", str(attempt.job_id), '| head -n 1; echo "${PIPESTATUS[0]}"'])
    done = subprocess.run(
        ["bash", "-c", line], env=environment(server.url), capture_output=True, check=True
    )
    assert done.stdout == b"line\n141\n"
    assert done.stderr == b""


# Following.


@pytest.mark.parametrize(
    ("cause", "exit_code", "status", "exits"),
    [
        (Cause.EXITED, 0, "completed", 0),
        (Cause.EXITED, 3, "failed", 1),
        (Cause.ENVIRONMENT_FAILED, None, "failed", 1),
    ],
)
def test_submit_follow_prints_the_log_and_exits_by_the_outcome(
    cause: Cause,
    exit_code: int | None,
    status: str,
    exits: int,
    client: Client,
    worker: ScriptedWorker,
    folder: Path,
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    process = start("submit", folder, "--follow")
    attempt = worker.take()
    attempt.go_on()
    attempt.log(BINARY)
    attempt.leave("model.bin", b"1")
    attempt.finish(cause, exit_code)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == exits, err
    assert out == BINARY
    told = err.decode()
    assert client.page(attempt.job_id) in told
    assert f"Job {attempt.job_id} {status} after" in told
    assert "It left 1 artifact" in told
    assert "\x1b" not in told


def test_submit_follow_exits_1_when_the_job_is_cancelled(
    client: Client,
    worker: ScriptedWorker,
    folder: Path,
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    process = start("submit", folder, "-f", "--gpus", "8")
    waiting = wait_for(lambda: client.jobs.list(status="pending").jobs, "the job")
    client.jobs.cancel(waiting[0].id)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert "was cancelled" in err.decode()


def test_follow_shows_bytes_as_soon_as_they_are_there(
    client: Client,
    worker: ScriptedWorker,
    folder: Path,
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    attempt = taken(client, worker, folder)
    process = start("logs", "-f", attempt.job_id)
    assert process.stdout is not None
    for number in range(3):
        attempt.log(b"epoch %d" % number)
        assert process.stdout.read(7) == b"epoch %d" % number
    attempt.finish(exit_code=1)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_follow_with_tail_begins_at_the_last_lines(
    client: Client,
    worker: ScriptedWorker,
    folder: Path,
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    attempt = taken(client, worker, folder)
    attempt.log(b"one\ntwo\nthree\n")
    process = start("logs", "-f", "--tail", "1", attempt.job_id)
    assert process.stdout is not None
    assert process.stdout.read(6) == b"three\n"
    attempt.log(b"four\n")
    attempt.finish()
    assert process.communicate(timeout=PATIENCE)[0] == b"four\n"


def test_follow_tells_where_the_next_attempt_begins(
    client: Client,
    worker: ScriptedWorker,
    folder: Path,
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    first = taken(client, worker, folder, max_retries=1)
    process = start("logs", "-f", first.job_id)
    first.log(b"first\n")
    assert process.stdout is not None
    assert process.stdout.read(6) == b"first\n"
    first.finish(exit_code=1)
    second = worker.take()
    second.go_on()
    second.log(b"second\n")
    second.finish()
    out, err = process.communicate(timeout=PATIENCE)
    assert out == b"second\n"
    assert "attempt 2 on scripted" in err.decode()


def test_follow_goes_on_over_kills_of_the_server_without_a_byte_lost_or_doubled(
    tmp_path: Path, folder: Path
) -> None:
    server = start_server(tmp_path / "server")
    worker = ScriptedWorker(server)
    client = Client(server.url)
    attempt = taken(client, worker, folder)
    with subprocess.Popen(
        [*COMMAND, "logs", "-f", str(attempt.job_id)],
        env=environment(server.url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        expected = b""
        received = bytearray()
        assert process.stdout is not None
        reader = threading.Thread(target=_read_all, args=(process.stdout, received))
        reader.start()
        for round_ in range(2):
            before = len(expected)
            for number in range(50):
                line = b"round %d line %d \xff\n" % (round_, number)
                attempt.log(line)
                expected += line
            wait_for(lambda before=before: len(received) > before, "a line to be shown")
            server.kill()
            server.restart()
        attempt.finish()
        assert process.wait(PATIENCE) == 0
        reader.join()
        assert process.stderr is not None
        assert b"Trying again" in process.stderr.read()
    assert bytes(received) == expected
    worker.close()
    client.close()


def _read_all(pipe: object, into: bytearray) -> None:
    while piece := pipe.read1(65536):  # type: ignore[attr-defined]  # a pipe of subprocess
        into += piece


def test_interrupted_follow_leaves_the_job_alone_and_says_how_to_stop_it(
    client: Client,
    worker: ScriptedWorker,
    folder: Path,
    start: Callable[..., subprocess.Popen[bytes]],
) -> None:
    process = start("submit", folder, "-f")
    attempt = worker.take()
    attempt.go_on()
    attempt.log(b"begun\n")
    assert process.stdout is not None
    assert process.stdout.read(6) == b"begun\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert f"dtrain cancel {attempt.job_id}" in err.decode()
    assert "Traceback" not in err.decode()
    assert client.jobs.get(attempt.job_id).status is Status.RUNNING
    attempt.finish()


# At a terminal.


def test_follow_at_a_terminal_shows_a_bar_beside_an_unspoilt_log(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    attempt = taken(client, worker, folder)
    terminal = InTerminal(
        "logs", [*COMMAND, "logs", "-f", str(attempt.job_id)], folder, environment(server.url)
    )
    attempt.log(b'begun\nPROGRESS: {"epoch": 1, "epochs": 4, "loss": 0.5}\n')
    terminal.wait_for_text("[######------------------]  25%  epoch 1/4, loss 0.5")
    attempt.log(b"half a line")
    terminal.wait_for_text("half a line")
    attempt.log(b" and its end\n")
    attempt.finish()
    assert terminal.ended() == 0
    terminal.wait_for_text("completed after")
    lines = _as_shown(terminal.output.read_bytes().decode())
    assert lines[-5:-2] == [
        "begun",
        'PROGRESS: {"epoch": 1, "epochs": 4, "loss": 0.5}',
        "half a line and its end",
    ]
    assert lines[-2].startswith(f"Job {attempt.job_id} completed after")
    assert not any("###" in line for line in lines)


def test_log_in_a_file_leaves_the_bar_on_the_terminal(
    server: RunningServer, client: Client, worker: ScriptedWorker, folder: Path
) -> None:
    attempt = taken(client, worker, folder)
    command = " ".join([*COMMAND, "logs", "-f", str(attempt.job_id), "> out.log"])
    terminal = InTerminal("logs", ["bash", "-c", command], folder, environment(server.url))
    attempt.log(b'PROGRESS: {"progress": 0.5}\nhalf a line')
    terminal.wait_for_text("[############------------]  50%")
    attempt.finish()
    assert terminal.ended() == 0
    assert (folder / "out.log").read_bytes() == b'PROGRESS: {"progress": 0.5}\nhalf a line'


def _as_shown(text: str) -> list[str]:
    """The lines that a terminal shows in the end, when `\\r` and erasing have done their work."""
    lines = text.replace("\r\n", "\n").split("\n")
    return [line.rpartition("\r\x1b[K")[2] for line in lines]
