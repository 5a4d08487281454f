"""Requirements, and what a job installs by itself: environments built without a network."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.attempts import end_attempts, ended, new_attempt
from support.bench import SHOW, Bench
from support.http_peer import peer
from support.packages import make_sdist, make_wheel, serve_index

from dtrain.protocol.states import Cause
from dtrain.worker.executors.base import Host, PrepareFailed
from dtrain.worker.executors.venv import VenvExecutor
from dtrain.worker.launcher import launch
from dtrain.worker.removal import remove_tree
from dtrain.worker.spool import WorkerFolder


@pytest.fixture
def bench(tmp_path: Path, base: Path) -> Iterator[Bench]:
    worker = WorkerFolder(tmp_path / "worker")
    bench = Bench(worker, base, tmp_path)
    make_wheel(bench.links, "parrot", "2.0", script="squawk")
    yield bench
    end_attempts(worker)
    for path in base.glob("packages-*"):
        remove_tree(path)


@pytest.mark.parametrize("requirements", [None, "", "# torch\n\n  # more\n", "\ufeff# torch\n"])
def test_job_without_requirements_has_one_step(bench: Bench, requirements: str | None) -> None:
    files = {"main.py": ""} | ({} if requirements is None else {"requirements.txt": requirements})
    folder = new_attempt(bench.worker, files)
    assert [step.name for step in bench.executor.prepare(folder).steps] == ["main"]


def test_requirements_can_be_switched_off(bench: Bench) -> None:
    folder = new_attempt(
        bench.worker, {"main.py": "", "requirements.txt": "parrot"}, requirements_file=None
    )
    assert len(bench.executor.prepare(folder).steps) == 1


def test_named_requirements_must_be_there(bench: Bench) -> None:
    folder = new_attempt(bench.worker, {"main.py": ""}, requirements_file="needs.txt")
    with pytest.raises(PrepareFailed, match=r"The bundle has no file needs\.txt") as caught:
        bench.executor.prepare(folder)
    assert caught.value.cause is Cause.ENVIRONMENT_FAILED


@pytest.mark.parametrize("entry", ["missing.py", "../attempt.json", "folder"])
def test_entry_must_be_a_file_of_the_bundle(bench: Bench, entry: str) -> None:
    folder = new_attempt(bench.worker, {"folder/main.py": ""}, main_entry=entry)
    with pytest.raises(PrepareFailed) as caught:
        bench.executor.prepare(folder)
    assert caught.value.cause is Cause.ENTRY_MISSING


def test_requirements_are_installed_once_for_all_attempts(bench: Bench) -> None:
    first, record = bench.run(SHOW, "parrot\n")
    log = first.log.read_text()
    assert record.exit_code == 0, log
    assert "Resolved 1 package" in log
    assert " + parrot==2.0" in log
    (shared,) = bench.shared()
    assert log.splitlines()[-1].startswith(f"2.0 {shared}/lib/")
    assert "\x1b" not in log
    assert "\r" not in log

    second, record = bench.run(SHOW, "# the same\nparrot>=1.0")
    assert record.exit_code == 0
    assert "These packages are here already." in second.log.read_text()
    assert bench.shared() == {shared}


def test_commands_of_packages_are_found(bench: Bench) -> None:
    folder, _ = bench.run("import os; os.system('squawk')", "parrot")
    assert folder.log.read_text().endswith("parrot 2.0\n")


def test_shared_environment_is_compiled_and_read_only(bench: Bench) -> None:
    bench.run(SHOW, "parrot")
    (shared,) = bench.shared()
    module = next(shared.glob("lib/*/site-packages/parrot.py"))
    assert list(module.parent.glob("__pycache__/parrot.*.pyc"))
    assert module.stat().st_nlink == 1
    for path in (shared, *shared.rglob("*")):
        assert path.is_symlink() or not path.stat().st_mode & 0o222, path


def test_source_is_built(bench: Bench) -> None:
    make_sdist(bench.links, "kipper", "0.5")
    folder, record = bench.run("import kipper; print(kipper.__version__)", "kipper")
    assert record.exit_code == 0, folder.log.read_text()
    assert folder.log.read_text().endswith("\n0.5\n")


def test_requirements_that_cannot_be_met_end_the_attempt(bench: Bench) -> None:
    folder, record = bench.run("print('never')", "parrot>=3\n")
    log = folder.log.read_text()
    assert record.cause is Cause.ENVIRONMENT_FAILED
    assert "parrot>=3" in log
    assert "unsatisfiable" in log
    assert "never" not in log
    assert "unsatisfiable" in str(record.traceback)
    assert bench.shared() == set()


def test_unreadable_requirements_end_the_attempt(bench: Bench) -> None:
    folder, record = bench.run("print('never')", "this is not a requirement\n")
    assert record.cause is Cause.ENVIRONMENT_FAILED
    assert "requirements.txt" in folder.log.read_text()


def test_requirements_from_windows_are_read(bench: Bench) -> None:
    folder, record = bench.run(SHOW, "parrot\r\n".encode("utf-16"))
    assert record.exit_code == 0, folder.log.read_text()


def test_modules_of_the_bundle_do_not_disturb_the_preparation(bench: Bench) -> None:
    files = {"main.py": SHOW, "requirements.txt": "parrot", "subprocess.py": "1 / 0"}
    folder = new_attempt(bench.worker, {**files, "dtrain.py": "1 / 0", "uv.toml": "no toml"})
    record = ended(launch(folder, bench.executor.prepare(folder)))
    assert record.exit_code == 0, folder.log.read_text()


def test_package_from_another_place_is_another_package(bench: Bench, tmp_path: Path) -> None:
    with peer() as there:
        index = serve_index(there, "/simple", make_wheel(tmp_path / "elsewhere", "parrot", "2.0"))
        bench = Bench(bench.worker, bench.environments, tmp_path, PIP_NO_INDEX="")
        bench.run(SHOW, f"--index-url {index}/\nparrot")
        folder, record = bench.run(SHOW, f"--index-url {index}\nparrot")
    assert record.exit_code == 0, folder.log.read_text()
    assert "here already" not in folder.log.read_text()
    assert len(bench.shared()) == 2


def test_packages_of_a_folder_that_the_job_names_stay_with_the_attempt(
    bench: Bench, tmp_path: Path
) -> None:
    """What is in it may be another's tomorrow; only the machine's own folders are trusted."""
    make_wheel(tmp_path / "elsewhere", "parrot", "2.0")
    folder, record = bench.run(SHOW, f"--find-links {tmp_path}/elsewhere\nparrot")
    assert record.exit_code == 0, folder.log.read_text()
    assert folder.log.read_text().splitlines()[-1].startswith(f"2.0 {folder.venv}")
    assert bench.shared() == set()


def test_package_inside_the_bundle_stays_with_the_attempt(bench: Bench) -> None:
    wheel = make_wheel(bench.links.parent / "own", "kipper")
    files = {
        "main.py": f"import kipper; print(kipper.__file__); {SHOW}",
        "requirements.txt": f"parrot\n./wheels/{wheel.name}",
        f"wheels/{wheel.name}": wheel.read_bytes(),
    }
    folder, record = bench.run_bundle(files)
    log = folder.log.read_text()
    assert record.exit_code == 0, log
    own, others = log.splitlines()[-2:]
    assert own.startswith(str(folder.venv))
    (shared,) = bench.shared()
    assert others.startswith(f"2.0 {shared}")
    assert not list(shared.rglob("kipper*"))


def test_what_a_job_installs_stays_its_own(bench: Bench) -> None:
    make_wheel(bench.links, "kipper")
    make_wheel(bench.links, "parrot", "3.0")
    install = f"pip install --no-index --find-links {bench.links} kipper parrot==3.0"
    code = (
        "import subprocess, sys\n"
        f"subprocess.run([sys.executable, '-m', *{install.split()!r}], check=True)\n"
        f"subprocess.run({install.split()!r}, check=True)\n"
        "import kipper, parrot\n"
        "print('has', kipper.__file__, parrot.__version__)\n"
    )
    folder, record = bench.run(code, "parrot==2.0")
    log = folder.log.read_text()
    assert record.exit_code == 0, log
    assert f"has {folder.venv}" in log
    assert log.endswith(" 3.0\n")
    other, _ = bench.run(f"{SHOW}\nimport kipper", "parrot==2.0")
    log = other.log.read_text()
    assert "\n2.0 " in log
    assert "No module named 'kipper'" in log
    (shared,) = bench.shared()
    assert not list(shared.rglob("kipper*"))
    assert not list(bench.environments.glob("base-*/lib/*/site-packages/kipper*"))


def test_two_attempts_at_once_build_once(bench: Bench) -> None:
    both = [bench.start(SHOW, "parrot") for _ in range(2)]
    assert [ended(running).exit_code for running in both] == [0, 0]
    logs = [running.folder.log.read_text() for running in both]
    assert sum(" + parrot==2.0" in log for log in logs) == 1
    assert len(bench.shared()) == 1


def test_half_built_environment_is_built_again(bench: Bench) -> None:
    bench.run(SHOW, "parrot")
    (shared,) = bench.shared()
    shared.chmod(0o755)
    (shared / ".ready").unlink()
    module = next(shared.glob("lib/*/site-packages/parrot.py"))
    module.parent.chmod(0o755)
    module.unlink()
    folder, record = bench.run(SHOW, "parrot")
    assert record.exit_code == 0, folder.log.read_text()
    assert bench.shared() == {shared}
    assert module.exists()


def test_preparation_has_the_machines_settings_and_the_job_has_not(bench: Bench) -> None:
    code = "import os; print(*os.environ)"
    files = {"main.py": code, "requirements.txt": "parrot"}
    folder = new_attempt(bench.worker, files, env={"UV_INDEX": "https://of.the.job/"})
    first, main = bench.executor.prepare(folder).steps
    assert first.env["UV_FIND_LINKS"] == str(bench.links)
    assert first.env["UV_NO_INDEX"] == "1"
    assert "UV_INDEX" not in first.env
    assert first.failure is Cause.ENVIRONMENT_FAILED
    assert {name for name in main.env if name.startswith(("UV_", "PIP_"))} == {
        "UV_INDEX",
        "PIP_DISABLE_PIP_VERSION_CHECK",
    }


def test_job_can_be_a_shell_script(bench: Bench) -> None:
    script = 'words=(a b)\necho "${words[1]} $1"\npython -c "import sys; print(sys.prefix)"'
    files = {"scripts/run.sh": script}
    folder = new_attempt(bench.worker, files, main_entry="scripts/run.sh", args=["c"])
    record = ended(launch(folder, bench.executor.prepare(folder)))
    assert record.exit_code == 0
    assert folder.log.read_text() == f"b c\n{folder.venv}\n"


def test_job_gets_the_python_it_asks_for(bench: Bench) -> None:
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    folder, record = bench.run("import sys; print(sys.version)", None, python=own)
    assert record.exit_code == 0
    assert folder.log.read_text().startswith(own)
    other = new_attempt(bench.worker, {"main.py": ""}, python="3.2")
    with pytest.raises(PrepareFailed, match=r"This worker has no Python 3\.2"):
        bench.executor.prepare(other)


def test_job_without_requirements_starts_at_once(bench: Bench) -> None:
    folder = new_attempt(bench.worker, {"main.py": "print('ready')"})
    plan = bench.executor.prepare(folder)
    assert [step.name for step in plan.steps] == ["main"]
    assert ended(launch(folder, plan)).exit_code == 0
    assert folder.log.read_bytes() == b"ready\n"


def test_interpreter_without_pip_is_refused(bench: Bench, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\ncase $* in *ensurepip*) exit 1;; esac\nexec {sys.executable} "$@"\n'
    )
    python.chmod(0o755)
    host = Host(worker_name="w", environments=tmp_path / "none", variables={}, python=python)
    with pytest.raises(Exception, match="apt install python3-venv"):
        VenvExecutor(host).start()
