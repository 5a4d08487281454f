"""Projects in a bundle: `pyproject.toml`, `uv.lock`, `pylock.toml`, as users of uv expect."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import uv
from support.bench import SHOW, Bench
from support.http_peer import Peer, peer
from support.packages import make_wheel, serve_index

from dtrain.protocol.bundle import sha256_of
from dtrain.protocol.states import Cause

PROJECT = '[project]\nname = "bird"\nversion = "1.0"\nrequires-python = ">=3.11"\n'
BACKEND = """
import os, zipfile

NAME = "bird-1.0-py3-none-any.whl"

def build_wheel(folder, config_settings=None, metadata_directory=None):
    info = "bird-1.0.dist-info"
    with zipfile.ZipFile(f"{folder}/{NAME}", "w") as wheel:
        wheel.writestr("bird.pth", os.path.abspath("src"))
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.2\\nName: bird\\nVersion: 1.0\\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\n")
        wheel.writestr(f"{info}/RECORD", "")
    return NAME

build_editable = build_wheel
"""
BUILDS = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
PACKAGE = {"backend.py": BACKEND, "src/bird/__init__.py": "song = 'tweet'\n"}

Files = dict[str, str | bytes]


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Peer]:
    """An index with two versions of `parrot`, and `kipper`."""
    with peer() as there:
        wheels = [make_wheel(tmp_path / "wheels", "parrot", version) for version in ("1.0", "2.0")]
        serve_index(there, "/simple", *wheels, make_wheel(tmp_path / "wheels", "kipper", "1.0"))
        yield there


@pytest.fixture
def bench(bench_of_index: Bench) -> Bench:
    return bench_of_index


def locked(folder: Path, index: Peer, files: Files, *, pylock: bool = False) -> Files:
    """Files of a project, with the lock that uv makes of it."""
    place = folder / "locked"
    for name, content in files.items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    env = {"PATH": os.environ["PATH"], "HOME": str(folder), "UV_NO_CONFIG": "1"}
    env |= {"UV_DEFAULT_INDEX": f"{index.url}/simple", "UV_PYTHON_DOWNLOADS": "never"}
    commands = [["lock"]]
    if pylock:
        commands.append(["export", "--frozen", "--no-emit-project", "-o", "pylock.toml"])
    for command in commands:
        subprocess.run([uv.find_uv_bin(), *command], cwd=place, env=env, check=True)
    name = "pylock.toml" if pylock else "uv.lock"
    return {**files, name: (place / name).read_bytes()}


def test_dependencies_of_a_project_are_installed(bench: Bench) -> None:
    files: Files = {"main.py": SHOW, "pyproject.toml": PROJECT + 'dependencies = ["parrot<2"]\n'}
    folder, record = bench.run_bundle(files, requirements_file="pyproject.toml")
    log = folder.log.read_text()
    assert record.exit_code == 0, log
    (shared,) = bench.shared()
    assert log.splitlines()[-1].startswith(f"1.0 {shared}")


def test_project_that_is_a_package_can_be_imported(bench: Bench) -> None:
    files: Files = {
        "main.py": f"import bird; print(bird.song, bird.__file__); {SHOW}",
        "pyproject.toml": f'{PROJECT}dependencies = ["parrot"]\n{BUILDS}',
        **PACKAGE,
    }
    folder, record = bench.run_bundle(files, requirements_file="pyproject.toml")
    log = folder.log.read_text()
    assert record.exit_code == 0, log
    own, others = log.splitlines()[-2:]
    assert own == f"tweet {folder.work}/src/bird/__init__.py"
    (shared,) = bench.shared()
    assert others.startswith(f"2.0 {shared}")


def test_lock_is_installed_to_the_letter(bench: Bench, index: Peer, tmp_path: Path) -> None:
    """Also when the index has a newer version by now, and the project would let it in."""
    old = PROJECT + 'dependencies = ["parrot<2"]\n'
    files = locked(tmp_path, index, {"main.py": SHOW, "pyproject.toml": old})
    files["pyproject.toml"] = PROJECT + 'dependencies = ["parrot"]\n'
    folder, record = bench.run_bundle(files, requirements_file="uv.lock")
    log = folder.log.read_text()
    assert record.exit_code == 0, log
    assert "\n1.0 " in log
    again, _ = bench.run_bundle(files, requirements_file="uv.lock")
    assert "These packages are here already." in again.log.read_text()
    assert len(bench.shared()) == 1


def test_groups_that_uv_would_install_are_installed(
    bench: Bench, index: Peer, tmp_path: Path
) -> None:
    groups = '[dependency-groups]\ndev = ["kipper"]\n'
    files: Files = {
        "main.py": "import kipper",
        "pyproject.toml": f'{PROJECT}dependencies = ["parrot"]\n{groups}',
    }
    folder, record = bench.run_bundle(locked(tmp_path, index, files), requirements_file="uv.lock")
    assert record.exit_code == 0, folder.log.read_text()


def test_locked_project_and_its_local_packages_stay_with_the_attempt(
    bench: Bench, index: Peer, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path / "own", "crab", "1.0")
    settings = f'[tool.uv.sources]\ncrab = {{ path = "wheels/{wheel.name}" }}\n'
    files: Files = {
        "main.py": f"import bird, crab; print(bird.song, crab.__file__); {SHOW}",
        "pyproject.toml": f'{PROJECT}dependencies = ["parrot", "crab"]\n{settings}{BUILDS}',
        f"wheels/{wheel.name}": wheel.read_bytes(),
        **PACKAGE,
    }
    folder, record = bench.run_bundle(locked(tmp_path, index, files), requirements_file="uv.lock")
    log = folder.log.read_text()
    assert record.exit_code == 0, log
    own, others = log.splitlines()[-2:]
    assert own.startswith(f"tweet {folder.venv}")
    (shared,) = bench.shared()
    assert others.startswith(f"2.0 {shared}")
    assert not list(shared.rglob("crab*"))


def test_file_that_is_not_the_locked_one_is_refused(
    bench: Bench, index: Peer, tmp_path: Path
) -> None:
    project = PROJECT + 'dependencies = ["parrot==2.0"]\n'
    files = locked(tmp_path, index, {"main.py": SHOW, "pyproject.toml": project})
    other = make_wheel(tmp_path / "others", "parrot", "2.0", script="evil")
    serve_index(index, "/simple", other)
    folder, record = bench.run_bundle(files, requirements_file="uv.lock")
    assert record.cause is Cause.ENVIRONMENT_FAILED
    assert "Hash mismatch" in folder.log.read_text()
    assert bench.shared() == set()


def test_pylock_is_installed_to_the_letter(bench: Bench, index: Peer, tmp_path: Path) -> None:
    project = PROJECT + 'dependencies = ["parrot<2"]\n'
    files = locked(tmp_path, index, {"main.py": SHOW, "pyproject.toml": project}, pylock=True)
    del files["pyproject.toml"]
    folder, record = bench.run_bundle(files, requirements_file="pylock.toml")
    assert record.exit_code == 0, folder.log.read_text()
    assert "\n1.0 " in folder.log.read_text()


def test_pylock_of_files_on_this_disk_stays_with_the_attempt(bench: Bench, tmp_path: Path) -> None:
    wheel = make_wheel(tmp_path / "own", "crab", "1.0")
    lock = (
        'lock-version = "1.0"\ncreated-by = "hand"\n[[packages]]\nname = "crab"\nversion = "1.0"\n'
        f'wheels = [{{ path = "{wheel.name}", hashes = {{ sha256 = "{sha256_of(wheel)}" }} }}]\n'
    )
    files: Files = {
        "main.py": "import crab; print(crab.__file__)",
        "locks/pylock.cpu.toml": lock,
        f"locks/{wheel.name}": wheel.read_bytes(),
    }
    folder, record = bench.run_bundle(files, requirements_file="locks/pylock.cpu.toml")
    log = folder.log.read_text()
    assert record.exit_code == 0, log
    assert log.splitlines()[-1].startswith(str(folder.venv))
    assert bench.shared() == set()


def test_settings_of_tools_alone_ask_for_nothing(bench: Bench) -> None:
    files: Files = {"main.py": "print('ran')", "pyproject.toml": "[tool.ruff]\nline-length = 100\n"}
    folder, record = bench.run_bundle(files, requirements_file="pyproject.toml")
    assert record.exit_code == 0, folder.log.read_text()
    assert folder.log.read_text().endswith("describes no project: nothing is installed.\nran\n")


def test_index_of_the_project_is_asked(bench: Bench, tmp_path: Path) -> None:
    with peer() as there:
        index = serve_index(there, "/own", make_wheel(tmp_path / "own", "crab", "1.0"))
        settings = f'[[tool.uv.index]]\nurl = "{index}"\n'
        files: Files = {
            "main.py": "import crab",
            "pyproject.toml": f'{PROJECT}dependencies = ["crab"]\n{settings}',
        }
        folder, record = bench.run_bundle(files, requirements_file="pyproject.toml")
    assert record.exit_code == 0, folder.log.read_text()


def test_python_that_the_project_requires_is_taken(bench: Bench) -> None:
    """There is none of version 99, nor may it be fetched."""
    project = '[project]\nname = "bird"\nversion = "1.0"\nrequires-python = ">=99.1"\n'
    files: Files = {"main.py": "", "pyproject.toml": project}
    folder, record = bench.run_bundle(files, requirements_file="pyproject.toml")
    assert record.cause is Cause.ENVIRONMENT_FAILED
    assert folder.log.read_text() == (
        "pyproject.toml asks for Python >=99.1, which this worker does not have and may not fetch;"
        " install it there, or ask for another.\n"
    )


@pytest.mark.parametrize("bounds", ["/bin/sh", "--help", "nonsense", "", "3"])
def test_bounds_that_are_none_are_left_to_the_resolver(bench: Bench, bounds: str) -> None:
    project = f'[project]\nname = "bird"\nversion = "1.0"\nrequires-python = "{bounds}"\n'
    files: Files = {"main.py": "", "pyproject.toml": project}
    folder, record = bench.run_bundle(files, requirements_file="pyproject.toml")
    assert "Traceback" not in folder.log.read_text()
    assert record.cause is (Cause.EXITED if bounds == "" else Cause.ENVIRONMENT_FAILED)
