"""An agent in trouble: full disks, refusals, messages that come late. No job may be lost by it."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support.agents import (
    SAYS_WHERE,
    attempt_folders,
    has_ended,
    job_process,
    start_agent,
)
from support.attempts import not_refilled
from support.disks import fill, small_disk_at
from support.fake_server import (
    TOKEN,
    Attempt,
    Exchange,
    FakeServer,
    drops,
    fails,
    fake_server,
)
from support.isolated import not_isolated
from support.processes import PATIENCE, wait_for

from dtrain.client.transport import Transport
from dtrain.protocol.errors import DTrainError
from dtrain.protocol.resources import Protection
from dtrain.protocol.states import Cause, Executor, Phase
from dtrain.protocol.worker_messages import Assignment
from dtrain.worker import layout
from dtrain.worker.attempts import Attempts
from dtrain.worker.bundles import BundleCache
from dtrain.worker.config import Config
from dtrain.worker.console import Console, Trouble
from dtrain.worker.executors import make_executor
from dtrain.worker.executors.absent import Absent
from dtrain.worker.executors.base import Host
from dtrain.worker.inventory import Inventory
from dtrain.worker.link import AttemptRef, Link
from dtrain.worker.log_uploader import NOTE_INTERVAL
from dtrain.worker.poller import Poller
from dtrain.worker.python_search import PythonSearch
from dtrain.worker.pythons import Pythons
from dtrain.worker.records import AttemptRecord, ExitRecord
from dtrain.worker.runner import CERTAIN, Runner
from dtrain.worker.shared import Shared
from dtrain.worker.spool import AttemptFolder, WorkerFolder
from dtrain.worker.supervision import since_boot

NO_PROTECTION = Protection(
    memory="supervised",
    cpu="affinity",
    pids=False,
    uid=False,
    pid_namespace=False,
    filesystem=False,
)
SPEAKS_UNTIL_LET_GO = SAYS_WHERE + (
    "while not os.path.exists(os.environ['GATE']):\n"
    "    print('line', flush=True)\n"
    "    time.sleep(0.05)\n"
)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


@pytest.fixture
def home(small_disk: Path) -> Path:
    """The home of a worker on a small disk."""
    return small_disk / "worker"


def test_full_disk_of_the_worker_ends_no_job(
    tmp_path: Path, home: Path, server: FakeServer
) -> None:
    gate = tmp_path / "gate"
    agent = start_agent(home, server)
    job = server.submit({"main.py": SPEAKS_UNTIL_LET_GO}, env={"GATE": str(gate)})
    attempt = server.wait_until_claimed(job)
    process = job_process(server, attempt)
    fill(home / "filler")
    deadline = time.monotonic() + NOTE_INTERVAL + 2
    server.wait(lambda: time.monotonic() > deadline, "a note of how far the log is")
    assert not has_ended(process), agent.text()
    gate.touch()
    server.wait_until_ended(job)
    assert (attempt.finishes[0].cause, attempt.finishes[0].exit_code) == (Cause.EXITED, 0)
    wait_for(lambda: attempt_folders(home) == [], "the folder to go")


def test_job_that_the_disk_does_not_take_is_not_asked_for_again(
    home: Path, server: FakeServer
) -> None:
    agent = start_agent(home, server, max_concurrent_jobs=2)
    server.wait(lambda: server.polls, "a poll")
    first = server.polls[-1].next_secret
    fill(home / "filler")
    server.submit({"main.py": "print('never')"})
    agent.wait_for_text("cannot be taken")
    server.wait(lambda: server.polls[-1].next_secret != first, "another secret")
    (home / "filler").unlink()
    server.wait_until_ended(server.submit({"main.py": "print('hello')"}))


def test_secret_that_is_spent_is_replaced(tmp_path: Path, server: FakeServer) -> None:
    start_agent(tmp_path / "worker", server)
    server.wait(lambda: server.polls, "a poll")
    spent = server.polls[-1].next_secret
    server.spent.add(spent)
    job = server.submit({"main.py": "print('hello')"})
    server.waiting, kept = [], server.waiting
    server.wait(lambda: server.polls[-1].next_secret != spent, "another secret")
    server.waiting = kept
    server.wait_until_ended(job)
    assert server.attempt(job).secret != spent


def test_refused_end_is_told_without_what_may_be_too_much(
    tmp_path: Path, server: FakeServer
) -> None:
    server.on("/finish", fails(413, "too_large"))
    code = "import os; open(os.environ['DTRAIN_OUTPUT_DIR'] + '/left', 'w').write('x')"
    job = server.submit({"main.py": code})
    start_agent(tmp_path / "worker", server)
    attempt = server.wait_until_ended(job)
    assert (attempt.finishes[0].exit_code, attempt.finishes[0].artifacts) == (0, [])


def test_end_that_is_refused_for_a_while_is_not_lost(tmp_path: Path, server: FakeServer) -> None:
    server.on("/finish", fails(403, "forbidden"))
    job = server.submit({"main.py": "print('hello')"})
    start_agent(tmp_path / "worker", server)
    attempt = server.wait_until_ended(job)
    assert attempt.finishes[0].exit_code == 0
    assert attempt.log == b"hello\n"


def test_job_that_cannot_be_made_ready_says_why(tmp_path: Path, server: FakeServer) -> None:
    start_agent(tmp_path / "worker", server)
    server.wait(lambda: server.polls, "a poll")
    bundles = tmp_path / "worker" / "data" / "worker-1" / "bundles"
    bundles.rmdir()
    bundles.touch()
    attempt = server.wait_until_ended(server.submit({"main.py": "print('never')"}))
    assert attempt.finishes[0].cause is Cause.START_FAILED
    assert "Not a directory" in (attempt.finishes[0].message or "")


class Busy(AttemptFolder):
    """What an agent finds whose machine has no descriptor left, for a while."""

    denials = 2

    @property
    def exit(self) -> ExitRecord | None:
        """How it ended, once a file can be opened."""
        if self.denials:
            self.denials -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().exit


def left_by_its_agent(
    home: Path, server: FakeServer, gate: Path
) -> tuple[int, Attempt, psutil.Process]:
    """A job that speaks until there is a file `gate`, and whose agent was killed."""
    agent = start_agent(home, server)
    job = server.submit({"main.py": SPEAKS_UNTIL_LET_GO}, env={"GATE": str(gate)})
    attempt = server.wait_until_claimed(job)
    process = job_process(server, attempt)
    agent.kill()
    return job, attempt, process


def taken_up(home: Path, server: FakeServer, make: type[AttemptFolder]) -> Runner:
    """What goes on, in this process, with the attempt of an agent that was killed."""
    folder = WorkerFolder(home / "data" / "worker-1")
    [left] = folder.attempts()
    record = AttemptRecord(assignment=left.assignment, secret=left.secret)
    link = Link(Transport(server.url), threading.Event(), lambda _: None)
    link.credential = next(iter(server.credentials))
    bundles, isolation = BundleCache(folder.path / "bundles"), not_isolated(folder)
    attempt = make(left.path, record)
    refill = not_refilled(folder)
    return Runner(attempt, link, Absent("fake"), bundles, isolation, 30, lambda _: None, refill)


def test_attempt_that_is_over_holds_nothing_for_the_next_agent(
    tmp_path: Path, server: FakeServer
) -> None:
    home, gate = tmp_path / "worker", tmp_path / "gate"
    _, _, process = left_by_its_agent(home, server, gate)
    runner = taken_up(home, server, AttemptFolder)
    assert not runner.has_ended
    gate.touch()
    wait_for(lambda: has_ended(process), "the job to end")
    wait_for(lambda: runner.has_ended, "the supervisor to write down the end")


def test_end_is_not_lost_for_want_of_descriptors(tmp_path: Path, server: FakeServer) -> None:
    home, gate = tmp_path / "worker", tmp_path / "gate"
    job, attempt, process = left_by_its_agent(home, server, gate)
    gate.touch()
    wait_for(lambda: has_ended(process), "the job to end")
    [left] = attempt_folders(home)
    wait_for((left / layout.EXIT).exists, "the supervisor to write down the end")
    runner = taken_up(home, server, Busy)
    runner.start()
    server.wait_until_ended(job)
    assert runner.join(PATIENCE)
    assert (attempt.finishes[0].cause, attempt.finishes[0].exit_code) == (Cause.EXITED, 0)


def test_job_goes_on_where_no_thread_is_to_be_had_for_a_while(
    tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, gate = tmp_path / "worker", tmp_path / "gate"
    job, attempt, process = left_by_its_agent(home, server, gate)
    denied: list[str] = []

    class Denied(threading.Thread):
        def start(self) -> None:
            if len(denied) < 2:
                denied.append(self.name)
                raise RuntimeError("can't start new thread")
            super().start()

    runner = taken_up(home, server, AttemptFolder)
    monkeypatch.setattr("dtrain.worker.checkpoints.threading.Thread", Denied)
    runner.start()
    wait_for(lambda: len(denied) == 2, "threads to be denied")
    assert not has_ended(process)
    gate.touch()
    server.wait_until_ended(job)
    assert runner.join(PATIENCE)
    assert (attempt.finishes[0].cause, attempt.finishes[0].exit_code) == (Cause.EXITED, 0)


class Short(Attempts):
    """What is there on a machine that has no descriptor left, for a while."""

    denials = 2

    def stuck(self) -> str | None:
        """What cannot be killed, once a file can be opened."""
        if self.denials:
            self.denials -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().stuck()


def test_worker_that_is_short_of_something_polls_again(
    tmp_path: Path, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtrain.worker.poller.REFUSED_PAUSE", 0.1)
    ended: list[DTrainError] = []
    folder, stop = WorkerFolder(tmp_path / "worker"), threading.Event()
    link = Link(Transport(server.url), stop, lambda _: None)
    config = Config(server_url=server.url, token=TOKEN, worker_name="w", auto_accept_jobs=True)
    with (tmp_path / "console").open("w") as out:
        console = Console(out)
        attempts = Short(
            folder,
            link,
            {},
            lambda: False,
            [],
            not_isolated(folder),
            30.0,
            console,
            lambda: None,
            lambda: None,
        )
        pythons = Pythons(Shared(folder.path), Path(sys.executable), os.environ, may_fetch=False)
        search = PythonSearch(pythons, os.environ)
        inventory = Inventory(config, folder.path, [Executor.VENV], search, NO_PROTECTION)
        trouble = Trouble(console)
        Poller(config, folder, link, inventory, attempts, console, trouble, ended.append).start()
        server.wait(lambda: server.polls, "a poll")
        stop.set()
    assert not ended
    assert "This machine is short of something" in (tmp_path / "console").read_text()


@pytest.mark.parametrize(
    ("status", "code", "cause"),
    [(422, "bundle_lost", Cause.BUNDLE_INVALID), (403, "forbidden", Cause.START_FAILED)],
)
def test_bundle_that_is_refused_ends_the_attempt_with_the_servers_words(
    tmp_path: Path, server: FakeServer, status: int, code: str, cause: Cause
) -> None:
    server.on("/bundle", fails(status, code))
    job = server.submit({"main.py": "print('never')"})
    start_agent(tmp_path / "worker", server)
    attempt = server.wait_until_ended(job)
    assert attempt.finishes[0].cause is cause
    assert f"It is {code}." in (attempt.finishes[0].message or "")
    assert attempt.log == b""


def test_log_that_a_proxy_finds_too_large_is_sent_in_smaller_pieces(
    tmp_path: Path, server: FakeServer
) -> None:
    server.on("/log", *[_finds_too_large] * 1000)
    size = 1_000_000
    code = f"import os, sys; sys.stdout.buffer.write(os.urandom({size}))"
    job = server.submit({"main.py": code})
    start_agent(tmp_path / "worker", server)
    assert len(server.wait_until_ended(job).log) == size


def _finds_too_large(exchange: Exchange) -> bool:
    if len(exchange.body) > 100_000:
        exchange.problem(413, "too_large")
        return True
    return False


def test_registration_that_comes_late_supersedes_no_agent(
    tmp_path: Path, server: FakeServer
) -> None:
    """The first try is answered after the second: as by a server that was paused meanwhile."""

    def late(exchange: Exchange) -> bool:
        def act() -> None:
            server.wait(lambda: server.polls, "a poll of the session that the second try began")
            with server.changed:
                server.answer(exchange)
                server.changed.notify_all()

        threading.Thread(target=act).start()
        return drops(exchange)

    server.on("/register", late)
    agent = start_agent(tmp_path / "worker", server)
    server.wait(lambda: len(server.registered) == 3, "the agent to come once more")
    server.wait_until_ended(server.submit({"main.py": "print('hello')"}))
    assert agent.alive


def test_newer_session_supersedes_an_agent_that_came_at_the_first_try(
    tmp_path: Path, server: FakeServer
) -> None:
    agent = start_agent(tmp_path / "worker", server)
    server.wait(lambda: server.polls, "a poll")
    server.supersede()
    assert agent.wait_for_end() == 2


def test_late_bytes_are_sent_though_the_end_is_applied(tmp_path: Path, server: FakeServer) -> None:
    """The server has lost its patience while the worker was away."""

    def loses_patience(exchange: Exchange) -> bool:
        with server.changed:
            _, body = server.answer(exchange)
        exchange.reply(200, body.replace(b'"applied":false', b'"applied":true'))
        return True

    server.on("/log", *[fails(422, "invalid")])
    server.on("/finish", loses_patience)
    job = server.submit({"main.py": "print('hello')"})
    start_agent(tmp_path / "worker", server)
    attempt = server.wait_until_ended(job)
    assert attempt.log == b"hello\n"


def test_rubbish_that_cannot_be_removed_keeps_no_agent_from_starting(
    tmp_path: Path, server: FakeServer, small_disk: Path
) -> None:
    del small_disk  # whoever has one may mount another
    rubbish = tmp_path / "worker/data/worker-1/attempts/.removed-1-1-0"
    rubbish.mkdir(parents=True)
    with small_disk_at(rubbish / "mounted"):
        agent = start_agent(tmp_path / "worker", server)
        server.wait(lambda: server.polls, "a poll")
        assert agent.alive


@pytest.fixture
def folder(tmp_path: Path) -> WorkerFolder:
    return WorkerFolder(tmp_path / "worker")


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def attempts(
    tmp_path: Path, server: FakeServer, folder: WorkerFolder, stop: threading.Event
) -> Iterator[Attempts]:
    """Those of an agent in this process, which polls nothing."""
    link = Link(Transport(server.url), stop, lambda _: None)
    link.credential = "credential"
    server.credentials.add("credential")
    host = Host(
        worker_name="w", environments=folder.environments, variables={}, python=Path(sys.executable)
    )
    executors = {Executor.VENV: make_executor("fake", host)}
    with (tmp_path / "console").open("w") as out:
        found = Attempts(
            folder,
            link,
            executors,
            lambda: False,
            [],
            not_isolated(folder),
            30.0,
            Console(out),
            lambda: None,
            lambda: None,
        )
        yield found
        stop.set()
        found.join(PATIENCE)


def claim(server: FakeServer, folder: WorkerFolder, code: str) -> tuple[Assignment, str]:
    """A job that has just been given to the worker, with the secret that it was asked with."""
    server.submit({"main.py": code})
    waiting, secret = server.waiting[0], folder.secrets.next()
    with server.changed:
        server._claim(waiting, secret)
    return waiting.assignment, secret


def test_attempt_that_crosses_the_hand_back_is_handed_back(
    server: FakeServer, folder: WorkerFolder, attempts: Attempts
) -> None:
    assignment, secret = claim(server, folder, "import time; time.sleep(3600)")
    attempts.hand_back()
    attempts.begin(assignment, secret, since_boot())
    attempt = server.wait_until_ended(assignment.job_id)
    assert attempt.finishes[0].cause is Cause.HANDED_BACK


def test_attempt_is_asked_about_before_it_starts_unless_the_answer_is_fresh(
    tmp_path: Path, server: FakeServer, folder: WorkerFolder, attempts: Attempts
) -> None:
    """An agent that was stopped meanwhile must not start what another worker has by now."""
    ran = tmp_path / "ran"
    assignment, secret = claim(server, folder, f"open({str(ran)!r}, 'w').close()")
    server.on("/phase", fails(409, "stale"))
    attempts.begin(assignment, secret, since_boot() - CERTAIN - 1)
    wait_for(lambda: not attempts.all(), "the attempt to be forgotten")
    assert not ran.exists()
    assert not server.faults, "it was not asked"

    assignment, secret = claim(server, folder, f"open({str(ran)!r}, 'w').close()")
    attempts.begin(assignment, secret, since_boot())
    assert Phase.PREPARING not in server.wait_until_ended(assignment.job_id).phases
    assert ran.exists()


def test_second_answer_to_a_claim_runs_nothing_twice(
    tmp_path: Path, server: FakeServer, folder: WorkerFolder, attempts: Attempts
) -> None:
    """An owner's yes and a poll bring the same, and one of them may come when all is over."""
    code = f"open({str(tmp_path / 'ran')!r}, 'a').write('once ')"
    assignment, secret = claim(server, folder, code)
    attempts.begin(assignment, secret, since_boot())
    server.wait_until_ended(assignment.job_id)
    wait_for(lambda: not attempts.all(), "the attempt to be over")
    attempts.begin(assignment, secret, since_boot())
    assert not attempts.all()
    assert (tmp_path / "ran").read_text() == "once "


def test_agent_that_ends_begins_nothing_more(
    tmp_path: Path,
    server: FakeServer,
    folder: WorkerFolder,
    stop: threading.Event,
    attempts: Attempts,
) -> None:
    """The job may be another worker's as soon as the server knows that this one has left."""
    bundled, secret = claim(server, folder, "print('it is here already')")
    attempts.begin(bundled, secret, since_boot())
    server.wait_until_ended(bundled.job_id)
    assignment, secret = claim(server, folder, "print('it is here already')")
    stop.set()
    attempts.begin(assignment, secret, since_boot())
    wait_for(lambda: not attempts.all(), "the attempt to be left alone")
    [left] = folder.attempts()
    assert left.shim is None


@pytest.mark.usefixtures("attempts")
def test_phase_is_told_by_itself_if_the_log_that_it_came_with_is_not_taken(
    server: FakeServer, folder: WorkerFolder
) -> None:
    assignment, secret = claim(server, folder, "print('never')")
    ref = AttemptRef(assignment.job_id, assignment.attempt, secret)
    link = Link(Transport(server.url), threading.Event(), lambda _: None)
    link.credential = next(iter(server.credentials))
    attempt = server.attempt(assignment.job_id)
    assert link.append_log(ref, 5, b"late", Phase.EXECUTING) == 0
    assert (attempt.phases, bytes(attempt.log)) == ([Phase.EXECUTING], b"")
    assert link.append_log(ref, 0, b"whole", Phase.EXECUTING) == 5
    assert attempt.phases == [Phase.EXECUTING] * 2
