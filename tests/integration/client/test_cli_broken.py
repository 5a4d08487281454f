"""The command line when a connection breaks, or when it is ended itself in the middle."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from support.command import COMMAND, dtrain, environment
from support.processes import PATIENCE, RunningServer, start_server, wait_for
from support.relay import Fault, Relay, relay
from support.scripted_worker import ScriptedWorker
from support.terminal import InTerminal

from dtrain.client.client import Client
from dtrain.protocol.states import Status

MIB = 1024**2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One that takes large bundles."""
    running = start_server(tmp_path_factory.mktemp("broken") / "server")
    yield running
    running.stop()


@pytest.fixture
def line(server: RunningServer) -> Iterator[Relay]:
    with relay(server.port) as running:
        yield running


@pytest.fixture
def large(folder: Path) -> Path:
    """A folder whose bundle has 20 MiB."""
    (folder / "data.bin").write_bytes(os.urandom(20 * MIB))
    return folder


def written(server: RunningServer) -> set[Path]:
    """What the server keeps of bundles: files, and those without a name that come in just now."""
    folder = server.home / "data" / "bundles"
    found = {path for path in folder.rglob("*") if path.is_file()}
    serving = psutil.Process(server.pid).children(recursive=True)
    for process in serving:
        for descriptor in Path(f"/proc/{process.pid}/fd").iterdir():
            with suppress(OSError):
                found.add(descriptor.readlink())
    return {path for path in found if path.is_relative_to(folder)}


def started(line: Relay, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        env=environment(line.url),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_upload_cut_off_in_the_middle_is_sent_again_and_makes_one_job(
    server: RunningServer, client: Client, line: Relay, large: Path
) -> None:
    before = written(server)
    line.faults += [Fault(5 * MIB, upward=True), Fault(15 * MIB, upward=True)]
    done = dtrain("submit", large, "--tag", "cut", url=line.url)
    assert done.returncode == 0, done.stderr
    [job] = client.jobs.list(tag="cut").jobs
    assert done.stdout.startswith(f"Job {job.id}: ")
    assert job.bundle.size > 20 * MIB
    assert line.faults == []
    wait_for(lambda: len(written(server) - before) == 1, "only the bundle to be there")


def test_answer_lost_behind_a_whole_upload_makes_one_job(
    client: Client, line: Relay, folder: Path
) -> None:
    line.faults += [Fault(0, upward=False)]
    done = dtrain("submit", folder, "--tag", "unheard", url=line.url)
    assert done.returncode == 0, done.stderr
    assert len(client.jobs.list(tag="unheard").jobs) == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_client_ended_in_mid_upload_leaves_nothing_behind(
    number: signal.Signals, server: RunningServer, client: Client, line: Relay, large: Path
) -> None:
    before, jobs = written(server), client.jobs.list(limit=1).jobs
    line.faults += [Fault(5 * MIB, upward=True, holds=True)]
    with started(line, "submit", large) as process:
        assert line.held.wait(PATIENCE)
        wait_for(lambda: written(server) != before, "the server to write what comes")
        process.send_signal(number)
        _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == (130 if number == signal.SIGINT else -number)
    assert b"Traceback" not in err
    line.over.set()
    wait_for(lambda: written(server) == before, "the server to forget what came")
    assert client.jobs.list(limit=1).jobs == jobs


def test_client_killed_in_mid_stream_leaves_the_job_alone(
    server: RunningServer, client: Client, line: Relay, folder: Path
) -> None:
    worker = ScriptedWorker(server)
    for job in client.jobs.iterate(status="pending"):
        client.jobs.cancel(job.id)
    with started(line, "submit", folder, "-f") as process:
        attempt = worker.take()
        attempt.go_on()
        attempt.log(b"begun\n")
        assert process.stdout is not None
        assert process.stdout.read(6) == b"begun\n"
        process.kill()
    attempt.log(b"ended\n")
    attempt.finish()
    assert client.jobs.wait(attempt.job_id, timeout=PATIENCE).status is Status.COMPLETED
    assert dtrain("logs", attempt.job_id, url=server.url).stdout == "begun\nended\n"
    worker.close()


def test_upload_at_a_terminal_shows_how_far_it_is_and_ends_by_ctrl_c(
    server: RunningServer, client: Client, line: Relay, large: Path
) -> None:
    before, jobs = written(server), client.jobs.list(limit=1).jobs
    line.faults += [Fault(12 * MIB, upward=True, holds=True)]
    terminal = InTerminal(
        "submit", [*COMMAND, "submit", str(large)], large.parent, environment(line.url), columns=60
    )
    terminal.wait_for_text("of 20.0 MB  ")
    shown = terminal.screen()
    assert "Packed 2 files, 20.0 MB." in shown
    assert "%  sent " in shown
    assert line.held.wait(PATIENCE)
    terminal.type("\x03")
    assert terminal.ended() == 130
    assert "Traceback" not in terminal.screen()
    line.over.set()
    wait_for(lambda: written(server) == before, "the server to forget what came")
    assert client.jobs.list(limit=1).jobs == jobs


def test_large_folder_is_warned_of_before_anything_is_sent(line: Relay, folder: Path) -> None:
    for name, megabytes in (("big.bin", 70), ("bigger.bin", 90), ("small.bin", 1)):
        with (folder / name).open("wb") as file:
            file.truncate(megabytes * MIB)
    line.faults += [Fault(0, upward=True, holds=True)]
    with started(line, "submit", folder) as process:
        assert process.stderr is not None
        told = b"".join(process.stderr.readline() for _ in range(4)).decode()
        assert line.held.wait(PATIENCE)
        process.kill()
    assert told.splitlines() == [
        "Packed 4 files, 161.0 MB.",
        "That is much. What the job does not need, name in .dtrainignore:",
        "     90.0 MB  bigger.bin",
        "     70.0 MB  big.bin",
    ]


def test_download_cut_off_in_the_middle_goes_on_where_it_was(
    client: Client, line: Relay, large: Path, tmp_path: Path
) -> None:
    job = client.submit(large)
    client.jobs.cancel(job.id)
    line.faults += [Fault(15 * MIB, upward=False)]
    done = dtrain("bundle", job.id, url=line.url, folder=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"job-{job.id}.zip\n"), done.stderr
    assert line.faults == []
    assert line.downward < job.bundle.size + 10 * MIB  # some was on the way when it was cut
    assert (tmp_path / f"job-{job.id}.zip").stat().st_size == job.bundle.size
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".dtrain-part"] == []


def test_download_ended_by_ctrl_c_is_taken_up_by_the_next(
    client: Client, line: Relay, large: Path, tmp_path: Path
) -> None:
    job = client.submit(large)
    client.jobs.cancel(job.id)
    line.faults += [Fault(12 * MIB, upward=False, holds=True)]
    terminal = InTerminal(
        "bundle", [*COMMAND, "bundle", str(job.id)], tmp_path, environment(line.url)
    )
    terminal.wait_for_text("of 20.0 MB  ")
    assert line.held.wait(PATIENCE)
    terminal.type("\x03")
    assert terminal.ended() == 130
    [part] = tmp_path.glob(".*.dtrain-part")
    there = part.stat().st_size
    assert 0 < there < job.bundle.size
    before = line.downward
    done = dtrain("bundle", job.id, url=line.url, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert line.downward - before < job.bundle.size - there + 100_000
    assert (tmp_path / f"job-{job.id}.zip").stat().st_size == job.bundle.size
