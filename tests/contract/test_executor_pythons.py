"""Interpreters that jobs ask for: found on the worker, or fetched from a source on this machine."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.attempts import end_attempts, ended, new_attempt
from support.bench import Bench
from support.http_peer import Exchange, peer
from support.packages import make_wheel
from support.processes import PATIENCE, wait_for
from support.python_source import MINOR, OTHER, OWN, VERSION, PythonSource

from dtrain.protocol.states import Cause
from dtrain.worker.executors.base import PrepareFailed
from dtrain.worker.python_search import PythonSearch
from dtrain.worker.pythons import Pythons
from dtrain.worker.removal import remove_tree
from dtrain.worker.shared import Shared
from dtrain.worker.spool import WorkerFolder

SAYS = "import platform, sys; print('runs', platform.python_version(), sys.base_prefix)"


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PythonSource]:
    with peer() as there:
        yield PythonSource(there, tmp_path_factory.mktemp("source"))


@pytest.fixture
def bench(tmp_path: Path, environments: Path, source: PythonSource) -> Iterator[Bench]:
    """A machine that has fetched nothing yet."""
    source.fetched.clear()
    source.fails = False
    bench = Bench(WorkerFolder(tmp_path / "worker"), environments, tmp_path, **source.variables)
    make_wheel(bench.links, "parrot", "2.0")
    yield bench
    end_attempts(bench.worker)
    remove_tree(environments / "pythons")


def search(bench: Bench) -> PythonSearch:
    return PythonSearch(pythons(bench), bench.host.variables)


def pythons(bench: Bench) -> Pythons:
    host = bench.host
    shared = Shared(bench.environments)
    return Pythons(shared, host.python, host.variables, may_fetch=host.python_downloads)


def test_interpreter_is_fetched_for_the_job_that_asks_for_it(
    bench: Bench, source: PythonSource
) -> None:
    folder, record = bench.run(SAYS, None, python=VERSION)
    log = folder.log.read_text()
    assert record.exit_code == 0, log
    assert f"This worker has no Python {VERSION} yet; it is fetched." in log
    assert "Downloading cpython" in log
    assert log.splitlines()[-1].startswith(f"runs {VERSION} {bench.environments}/pythons/")

    again, record = bench.run(SAYS, None, python=VERSION)
    assert again.log.read_text().splitlines() == [log.splitlines()[-1]]
    assert source.fetched == [VERSION]


def test_fetched_interpreter_gets_its_requirements(bench: Bench) -> None:
    code = "import parrot, platform; print(parrot.__version__, platform.python_version())"
    folder, record = bench.run(code, "parrot", python=VERSION)
    assert record.exit_code == 0, folder.log.read_text()
    assert folder.log.read_text().endswith(f"2.0 {VERSION}\n")


def test_another_interpreter_of_the_same_minor_version_leaves_running_jobs_alone(
    bench: Bench,
) -> None:
    first, _ = bench.run(SAYS, None, python=OTHER)
    second, _ = bench.run(SAYS, None, python=VERSION)
    assert f"runs {OTHER}" in first.log.read_text()
    assert f"runs {VERSION}" in second.log.read_text()
    for folder, version in ((first, OTHER), (second, VERSION)):
        assert f"cpython-{version}-" in str((folder.venv / "bin/python").resolve())


def test_several_jobs_at_once_fetch_once(bench: Bench, source: PythonSource) -> None:
    source.open.clear()
    running = [bench.start(SAYS, None, python=VERSION) for _ in range(3)]
    waits = "Another job on this worker fetches an interpreter; this one waits"

    def waiting() -> int:
        return sum(waits in one.folder.log.read_text() for one in running)

    wait_for(lambda: waiting() == 2, "the two others to wait")
    source.open.set()
    assert [ended(one).exit_code for one in running] == [0, 0, 0]
    assert source.fetched == [VERSION]
    logs = [one.folder.log.read_text() for one in running]
    assert sum("Downloading" in log for log in logs) == 1


def test_source_that_fails_ends_the_attempt_in_its_own_words(
    bench: Bench, source: PythonSource
) -> None:
    source.fails = True
    folder, record = bench.run(SAYS, None, python=VERSION)
    log = folder.log.read_text()
    assert record.cause is Cause.ENVIRONMENT_FAILED
    assert f"cpython-{VERSION}.tar.gz" in log
    assert "404" in log
    assert log.endswith(f"Python {VERSION} cannot be fetched by this worker.\n")
    assert "runs" not in log
    assert search(bench).fetchable() == []


def test_interpreter_that_nobody_has_ends_the_attempt(bench: Bench) -> None:
    folder, record = bench.run(SAYS, None, python="3.2")
    assert record.cause is Cause.ENVIRONMENT_FAILED
    assert "No download found" in folder.log.read_text()


def test_owner_can_forbid_to_fetch(bench: Bench, source: PythonSource) -> None:
    owner = Bench(bench.worker, bench.environments, bench.links.parent)
    folder = new_attempt(bench.worker, {"main.py": SAYS}, python=VERSION)
    with pytest.raises(PrepareFailed, match=rf"This worker has no Python {VERSION}; install it"):
        owner.executor.prepare(folder)
    assert search(owner).fetchable() == []
    forbidden = {**source.variables, "UV_PYTHON_DOWNLOADS": "never"}
    machine = Bench(bench.worker, bench.environments, bench.links.parent, **forbidden)
    assert search(machine).fetchable() == []
    with pytest.raises(PrepareFailed, match=f"has no Python {VERSION}"):
        machine.executor.prepare(folder)


def test_what_can_be_fetched_is_told_and_the_source_is_asked(
    bench: Bench, source: PythonSource
) -> None:
    assert search(bench).fetchable() == [VERSION, OTHER]
    assert source.fetched == [VERSION]
    assert not (bench.environments / "pythons").exists()


def test_fetched_interpreter_is_told_among_those_found(bench: Bench) -> None:
    looks = search(bench)
    before = looks.installed() or []
    assert before[0] == OWN
    assert VERSION not in before
    bench.run(SAYS, None, python=VERSION)
    assert VERSION in (looks.installed() or [])


def test_silent_source_holds_nothing_up(tmp_path: Path, environments: Path) -> None:
    with peer() as there:
        there.on("/downloads.json", Exchange.hang)
        variables = {"UV_PYTHON_DOWNLOADS_JSON_URL": f"{there.url}/downloads.json"}
        looks = search(Bench(WorkerFolder(tmp_path), environments, tmp_path, **variables))
        found: list[list[str]] = []
        thread = threading.Thread(target=lambda: found.append(looks.fetchable()))
        thread.start()
        wait_for(lambda: there.asked, "the question")
        looks.close()
        thread.join(PATIENCE)
        assert found == [[]]


def test_versions_of_pyenv_are_found(bench: Bench, tmp_path: Path) -> None:
    """They are not on the path: the shims there depend on the folder that one is in."""
    root = tmp_path / "pyenv"
    (root / f"versions/{OWN}/bin").mkdir(parents=True)
    (root / f"versions/{OWN}/bin/python3").symlink_to(Path(sys.executable).resolve())
    (root / "shims").mkdir()
    shim = root / "shims/python3"
    shim.write_text("#!/bin/sh\nexit 1\n")
    shim.chmod(0o755)
    variables = {"PYENV_ROOT": str(root), "PATH": f"{root}/shims"}
    machine = Bench(bench.worker, bench.environments, tmp_path, **variables)
    found = pythons(machine).places()["PATH"].split(":")
    assert found == [str(root / f"versions/{OWN}/bin")]
    assert OWN in (search(machine).installed() or [])


@pytest.mark.parametrize("wanted", [MINOR, OWN, MINOR.split(".")[0]])
def test_own_interpreter_is_taken_where_it_fits(bench: Bench, wanted: str) -> None:
    folder = new_attempt(bench.worker, {"main.py": SAYS}, python=wanted)
    assert [step.name for step in bench.executor.prepare(folder).steps] == ["main"]
