"""What isolated jobs share: nothing that is built for one can change what another will run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.attempts import end_attempts
from support.bench import SHOW, Bench
from support.isolated import isolated
from support.packages import make_sdist, make_wheel, source_of
from support.requirements import require

from dtrain.protocol.states import Cause
from dtrain.worker.cells import FOLDER as CELLS
from dtrain.worker.environment import CACHE
from dtrain.worker.removal import remove_tree
from dtrain.worker.spool import WorkerFolder

TRIES = """\
import os, pathlib
for place in {places!r}:
    try:
        (pathlib.Path(place) / "planted").write_text("x")
    except OSError:
        pass
    else:
        print("WROTE", place)
for place in {secrets!r}:
    try:
        print("READ", pathlib.Path(place).read_bytes()[:1])
    except OSError:
        pass
"""
"""What a hostile build tries."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("environments")
    yield path
    remove_tree(path)


@pytest.fixture
def bench(tmp_path: Path, base: Path) -> Iterator[Bench]:
    require("root")
    worker = WorkerFolder(tmp_path / "worker")
    worker.environments = base
    bench = Bench(worker, base, tmp_path)
    bench.enclosed = isolated(worker, bench.host).enclosed
    make_wheel(bench.links, "parrot", "2.0")
    yield bench
    end_attempts(worker)
    for path in base.glob("packages-*"):
        remove_tree(path)


def test_wheels_are_shared_and_nobody_can_change_them(bench: Bench, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    make_wheel(bench.links, "startup", "1.0", at_start=f"open({str(ran)!r}, 'w')")
    code = f"{SHOW}\nimport os; open(os.path.dirname(parrot.__file__) + '/x', 'w')"
    folder, record = bench.run(code, "parrot\nstartup\n")
    assert record.exit_code == 1
    assert re.search(r"Read-only file system: '.*site-packages/x'", folder.log.read_text())
    assert not ran.exists()
    folder, record = bench.run(SHOW, "startup\nparrot\n")
    assert "These packages are here already." in folder.log.read_text()
    (shared,) = bench.shared()
    assert list(shared.rglob("parrot*.pyc"))
    assert all(path.stat().st_uid == 0 for path in shared.rglob("*"))


def test_builds_reach_nothing_of_the_workers(bench: Bench, tmp_path: Path) -> None:
    places = [bench.environments, bench.environments / CACHE, bench.worker.path, "/etc", tmp_path]
    secrets = [tmp_path / "config.json", bench.worker.path / "attempts/1-1/attempt.json"]
    (tmp_path / "config.json").write_text("{}")
    code = TRIES.format(places=[str(one) for one in places], secrets=[str(one) for one in secrets])
    make_sdist(bench.links, "kipper", code=code)
    folder, record = bench.run(
        "import kipper, parrot; print(kipper.__version__)", "kipper\nparrot\n"
    )
    log = folder.log.read_text()
    assert record.exit_code == 0, log
    assert log.endswith("1.0\n")
    assert "READ" not in log
    # Its own layer above the cache is all that it could write.
    wrote = {line.split()[-1] for line in log.splitlines() if "WROTE" in line}
    assert wrote <= {str(bench.environments / CACHE)}
    assert not list(bench.environments.glob("**/planted"))
    folder, _ = bench.run("import kipper", "kipper\nparrot\n")
    assert "These packages are here already." in folder.log.read_text()


def test_uv_finds_out_about_an_interpreter_for_all_attempts_once(bench: Bench) -> None:
    folder, record = bench.run(SHOW, "parrot\n")
    assert record.exit_code == 0
    assert list((bench.environments / CACHE).glob("interpreter-*/*/*"))
    layer = folder.path / CELLS / "own/cache"
    assert layer.is_dir()
    assert not list(layer.glob("interpreter-*"))


def test_cache_from_before_isolation_was_on_serves_as_well(bench: Bench) -> None:
    remove_tree(bench.environments / CACHE)
    make_wheel(bench.links, "kipper")
    isolates, bench.enclosed = bench.enclosed, lambda _, plan: plan
    _, record = bench.run(SHOW, "parrot\n")
    assert record.exit_code == 0
    bench.enclosed = isolates
    folder, record = bench.run(SHOW, "parrot\nkipper\n")
    assert record.exit_code == 0, folder.log.read_text()
    assert (bench.environments / CACHE).stat().st_mode & 0o777 == 0o700


def test_package_of_the_bundle_is_built_and_cannot_change_what_is_shared(
    bench: Bench, tmp_path: Path
) -> None:
    bench.run(SHOW, "parrot\n")
    (module,) = {path for shared in bench.shared() for path in shared.rglob("parrot.py")}
    before = module.read_text()
    code = f"import os; os.chmod({str(module)!r}, 0o644); open({str(module)!r}, 'w').write('evil')"
    sdist = make_sdist(tmp_path, "kipper", code=f"try:\n    {code}\nexcept OSError: pass\n")
    files = {"main.py": "import kipper, parrot", "requirements.txt": "./code\nparrot\n"}
    folder, record = bench.run_bundle({**files, **source_of(sdist, "code")})
    assert record.exit_code == 0, folder.log.read_text()
    assert module.read_text() == before


@pytest.mark.parametrize("place", ["/", "{private}"])
def test_requirement_on_this_machines_disk_is_reached_as_the_jobs_own_user(
    bench: Bench, tmp_path: Path, place: str
) -> None:
    private, ran = tmp_path / "private", tmp_path / "ran"
    private.mkdir(mode=0o700)
    (private / "setup.py").write_text(f"open({str(ran)!r}, 'w')\n")
    _, record = bench.run(SHOW, f"parrot\n-e {place.format(private=private)}\n")
    assert record.cause is Cause.ENVIRONMENT_FAILED
    assert not ran.exists()
    assert [path.name for path in private.iterdir()] == ["setup.py"]
