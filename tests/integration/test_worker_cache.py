"""What a worker keeps for later jobs, under limits so small that most of it has to go."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.agents import start_agent
from support.attempts import end_attempts, ended, new_attempt, wait_for_log
from support.bench import Bench
from support.fake_server import FakeServer, fake_server
from support.packages import make_wheel
from support.processes import wait_for

from dtrain.worker.cache import Sweep
from dtrain.worker.removal import remove_tree
from dtrain.worker.shared import Shared, is_ready
from dtrain.worker.spool import WorkerFolder

MEGABYTE = 1024**2
LATE = "import time, pathlib\nprint('waits', flush=True)\n" + (
    "while not pathlib.Path('go').exists(): time.sleep(0.02)\nimport parrot\nprint('has it')\n"
)
"""A job that needs its package only after a while."""


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    worker = WorkerFolder(tmp_path / "worker")
    bench = Bench(worker, worker.environments, tmp_path)
    for name in ("parrot", "kipper"):
        make_wheel(bench.links, name, "2.0")
    yield bench
    end_attempts(worker)
    remove_tree(worker.path)


def sweep(bench: Bench, limit: float | None) -> None:
    Sweep(bench.worker.path, limit).run()


def fake_place(bench: Bench, name: str, size: int = MEGABYTE, *, files: int = 1) -> Path:
    """A shared folder of a size, as it would have been built."""

    def build(_: int) -> None:
        (place / "bin").mkdir(parents=True)
        (place / "bin/python").symlink_to(sys.executable)
        for number in range(files):
            (place / f"{number}").write_bytes(os.urandom(size // files))

    shared = Shared(bench.environments)
    place = bench.environments / name
    return shared.have(place, None, build)


def used(place: Path, days_ago: float) -> None:
    then = time.time() - days_ago * 86400
    os.utime(place.parent / "locks" / place.name, (then, then))


def test_least_recently_used_goes_first(bench: Bench) -> None:
    places = [fake_place(bench, f"packages-{name}") for name in "abc"]
    for place, days in zip(places, (1, 3, 2), strict=True):
        used(place, days)
    sweep(bench, 2.5 * MEGABYTE)
    assert [place.exists() for place in places] == [True, False, True]
    sweep(bench, None)
    sweep(bench, 2.5 * MEGABYTE)
    assert [place.exists() for place in places] == [True, False, True]
    sweep(bench, 1)
    assert [place.exists() for place in places] == [False, False, False]
    assert [path.name for path in (bench.environments / "locks").iterdir()] == ["sweep"]


def test_what_a_running_job_uses_stays_and_is_there_when_it_is_needed(bench: Bench) -> None:
    running = bench.start(LATE, "parrot")
    wait_for_log(running.folder, b"waits\n")
    other, record = bench.run("import kipper", "kipper")
    assert record.exit_code == 0
    assert len(bench.shared()) == 2
    other.remove()
    sweep(bench, 1)
    (kept,) = bench.shared()
    assert (running.folder.venv / "shared").resolve() == kept
    assert not (bench.environments / "cache").exists()
    (running.folder.work / "go").touch()
    assert ended(running).exit_code == 0, running.folder.log.read_text()
    running.folder.remove()
    sweep(bench, 1)
    assert bench.shared() == set()
    _, record = bench.run("import parrot, kipper", "parrot\nkipper")
    assert record.exit_code == 0


def test_what_a_job_begins_to_use_stays(bench: Bench) -> None:
    """It is under its lock until it is noted."""
    place = fake_place(bench, "packages-a")
    shared = Shared(bench.environments)
    folder = new_attempt(bench.worker)
    with shared.locked(place.name) as lock:
        sweep(bench, 1)
        assert is_ready(place)
        shared.note(place, folder.path, lock)
    sweep(bench, 1)
    assert is_ready(place)
    folder.remove()
    sweep(bench, 1)
    assert not place.exists()


def test_base_stays_so_that_jobs_without_requirements_start_at_once(bench: Bench) -> None:
    bench.executor.start()
    sweep(bench, 1)
    (base,) = bench.environments.glob("base-*")
    assert is_ready(base)


def test_what_was_left_half_done_goes_and_what_is_being_built_stays(bench: Bench) -> None:
    root = bench.environments
    for name in ("packages-half", "packages-building", "base-half", ".removed-x-1234"):
        (root / name / "lib").mkdir(parents=True)
    (root / "pythons/.temp/x").mkdir(parents=True)
    shared = Shared(root)
    with shared.locked("packages-gone"), shared.locked("packages-building"):
        sweep(bench, None)
        assert {path.name for path in root.iterdir()} == {
            "locks",
            "packages-building",
            "pythons",
        }
        assert {path.name for path in (root / "locks").iterdir()} >= {
            "packages-gone",
            "packages-building",
        }
    sweep(bench, None)
    assert {path.name for path in root.iterdir()} == {"locks", "pythons"}
    assert list((root / "pythons").iterdir()) == []


def test_interpreters_that_were_fetched_go_with_their_short_names(bench: Bench) -> None:
    pythons = bench.environments / "pythons"
    place = pythons / "cpython-3.99.1-linux"
    (place / "bin").mkdir(parents=True)
    (place / "bin/python").write_bytes(b"x" * MEGABYTE)
    (pythons / "cpython-3.99-linux").symlink_to(place)
    folder = new_attempt(bench.worker)
    shared = Shared(bench.environments)
    with shared.locked(place.name) as lock:
        shared.note(place, folder.path, lock)
    sweep(bench, 1)
    assert place.exists()
    folder.remove()
    sweep(bench, 1)
    assert list(pythons.iterdir()) == []


def test_bundles_are_part_of_it(bench: Bench) -> None:
    bundles = bench.worker.path / "bundles"
    bundles.mkdir()
    for name, days in (("old", 2), ("new", 1)):
        (bundles / name).write_bytes(b"x" * MEGABYTE)
        then = time.time() - days * 86400
        os.utime(bundles / name, (then, then))
    sweep(bench, 1.5 * MEGABYTE)
    assert [path.name for path in bundles.iterdir()] == ["new"]


def test_cache_of_uv_goes_first_when_it_has_more_than_its_share(bench: Bench) -> None:
    place = fake_place(bench, "packages-a")
    used(place, 100)
    cache = bench.environments / "cache"
    cache.mkdir()
    (cache / "large").write_bytes(b"x" * 2 * MEGABYTE)
    sweep(bench, 3.5 * MEGABYTE)
    assert cache.exists()
    with Shared(bench.environments).joined("cache"):
        sweep(bench, 2.5 * MEGABYTE)
        assert cache.exists()
        assert not place.exists()
    place = fake_place(bench, "packages-a")
    sweep(bench, 2.5 * MEGABYTE)
    assert not cache.exists()
    assert is_ready(place)


def test_killed_in_the_middle_it_leaves_nothing_half(bench: Bench) -> None:
    """Either all of a folder is there, or it does not count and goes with the next look."""
    place = fake_place(bench, "packages-a", files=3000)
    command = [sys.executable, "-I", "-m", "dtrain.worker.cache", str(bench.worker.path), "1"]
    with subprocess.Popen(command) as process:
        wait_for(lambda: not place.exists(), "the folder to go")
        process.send_signal(signal.SIGKILL)
    assert not place.exists()
    left = list(bench.environments.glob(".removed-*"))
    assert len(left) == 1, "The test was too late."
    subprocess.run(command, check=True)
    assert list(bench.environments.glob(".removed-*")) == []
    again = fake_place(bench, "packages-a")
    assert is_ready(again)


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with fake_server() as server:
        yield server


def test_agent_keeps_to_the_limit_while_jobs_run(tmp_path: Path, server: FakeServer) -> None:
    for name in ("parrot", "kipper"):
        make_wheel(tmp_path / "links", name, "2.0")
    env = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "links"), "HOME": str(tmp_path)}
    settings = {"executor": "venv", "cache_gb": 1e-6, "python_downloads": False}
    start_agent(tmp_path / "worker", server, env, max_concurrent_jobs=2, **settings)
    environments = tmp_path / "worker/data/worker-1/environments"
    named = {"requirements_file": "requirements.txt"}
    late = server.submit({"main.py": LATE, "requirements.txt": "parrot"}, **named)
    attempt = server.wait_until_claimed(late)
    server.wait(lambda: b"waits" in attempt.log, "the job to wait")
    (used_now,) = environments.glob("packages-*")
    short = {"main.py": "import kipper", "requirements.txt": "kipper"}
    ended_soon = server.wait_until_ended(server.submit(short, **named))
    assert ended_soon.finishes[0].exit_code == 0, ended_soon.log
    wait_for(lambda: list(environments.glob("packages-*")) == [used_now], "the other one to go")
    wait_for(lambda: not list((tmp_path / "worker/data/worker-1/bundles").iterdir()), "the bundles")
    (tmp_path / "worker/data/worker-1/attempts/1-1/work/go").touch()
    assert server.wait_until_ended(late).finishes[0].exit_code == 0
    wait_for(lambda: not list(environments.glob("packages-*")), "the last one to go")
