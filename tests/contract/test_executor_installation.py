"""What a job reads in its log while its environment is made, and what becomes of slow builds."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
from support.attempts import (
    ended,
    is_running,
    new_attempt,
    pids_in,
    wait_for_log,
)
from support.bench import SHOW, Bench
from support.http_peer import Answer, Exchange, Peer, peer
from support.packages import make_sdist, make_wheel, serve_index, source_of
from support.processes import PATIENCE, wait_for

from dtrain.protocol.bundle import sha256_of
from dtrain.protocol.states import Cause
from dtrain.worker.launcher import Running, kill_rest, launch
from dtrain.worker.uv_calls import Blotter

WAITS = b"Another job on this worker builds the same packages; this one waits"


@pytest.fixture
def index() -> Iterator[Peer]:
    with peer() as there:
        yield there


@pytest.fixture
def bench(bench_of_index: Bench) -> Bench:
    return bench_of_index


def test_slow_index_is_told_while_it_is_read(bench: Bench, index: Peer, tmp_path: Path) -> None:
    serve_index(index, "/simple", make_wheel(tmp_path / "wheels", "parrot", "2.0"))
    (page,) = index.answers["/simple/parrot/"]
    index.on("/simple/parrot/", _once_let(tmp_path / "go", page))
    running = bench.start(SHOW, "parrot")
    wait_for_log(running.folder, b"with what requirements.txt says.\n")
    wait_for_log(running.folder, f"uv waits for {index.url}/simple/parrot/, for 5 s".encode())
    (tmp_path / "go").touch()
    assert ended(running).exit_code == 0, running.folder.log.read_text()
    log = running.folder.log.read_text()
    assert re.search(r"^Resolved 1 package in ", log, re.MULTILINE)
    assert re.search(r"^Prepared 1 package in ", log, re.MULTILINE)
    assert "DEBUG" not in log


def test_builds_are_told_as_they_go(bench: Bench, index: Peer, tmp_path: Path) -> None:
    serve_index(index, "/simple", make_sdist(tmp_path / "wheels", "kipper", "0.5"))
    folder, record = bench.run("import kipper", "kipper")
    log = folder.log.read_text()
    assert record.exit_code == 0, log
    assert "Building kipper==0.5" in log
    assert "Built kipper==0.5" in log


def test_index_that_hangs_ends_with_the_limit_of_the_step(bench: Bench, index: Peer) -> None:
    index.on("/simple/parrot/", Exchange.hang)
    folder = new_attempt(bench.worker, {"main.py": SHOW, "requirements.txt": "parrot"})
    plan = bench.executor.prepare(folder)
    limited = msgspec.structs.replace(plan.steps[0], time_limit=2.0)
    plan = msgspec.structs.replace(plan, steps=[limited, plan.steps[1]])
    record = ended(launch(folder, plan))
    assert record.cause is Cause.ENVIRONMENT_FAILED
    assert record.message == "The step environment took longer than 2 s."
    assert bench.shared() == set()


def test_second_waits_for_the_build_of_the_first_and_says_so(bench: Bench, tmp_path: Path) -> None:
    first, second, go = _two_builds(bench, tmp_path)
    go.touch()
    assert ended(first).exit_code == 0, first.folder.log.read_text()
    assert ended(second).exit_code == 0, second.folder.log.read_text()
    assert b"Built slow==1.0" in first.folder.log.read_bytes()
    assert b"Built slow==1.0" not in second.folder.log.read_bytes()
    assert b"These packages are here already." in second.folder.log.read_bytes()
    assert len(bench.shared()) == 1


@pytest.mark.parametrize("victim", ["step", "shim"])
def test_waiter_builds_when_the_builder_is_killed(
    bench: Bench, tmp_path: Path, victim: str
) -> None:
    first, second, go = _two_builds(bench, tmp_path)
    (backend,) = pids_in((tmp_path / "began").read_bytes(), "pid")
    step = first.folder.step
    assert step is not None
    os.kill(step.pid if victim == "step" else first.pid, signal.SIGKILL)
    assert first.wait(PATIENCE)
    assert kill_rest(first.folder)
    go.touch()
    assert ended(second).exit_code == 0, second.folder.log.read_text()
    log = second.folder.log.read_bytes()
    assert WAITS in log
    assert b" + slow==1.0" in log
    assert not is_running(backend)
    assert len(bench.shared()) == 1


def test_passwords_of_indexes_stay_out_of_the_log(
    bench: Bench, index: Peer, tmp_path: Path
) -> None:
    """Neither that of the machine's index nor one in the bundle, whether it works or not."""
    serve_index(index, "/simple", make_sdist(tmp_path / "wheels", "kipper", "0.5"))
    address = index.url.replace("://", "://bob:hunter2%21@") + "/simple"
    private = Bench(
        bench.worker,
        bench.environments,
        tmp_path,
        PIP_NO_INDEX="",
        PIP_FIND_LINKS="",
        PIP_INDEX_URL=address,
    )
    folder, record = private.run("import kipper", "kipper")
    assert record.exit_code == 0, folder.log.read_text()
    assert any("authorization" in asked.headers for asked in index.asked)
    _assert_silent(folder.log.read_bytes())
    folder, record = private.run("", "parrot")
    assert record.cause is Cause.ENVIRONMENT_FAILED
    _assert_silent(folder.log.read_bytes())
    own = f"--extra-index-url {address}\nparrot @ {address}/parrot-1.0-py3-none-any.whl"
    folder, record = bench.run("", own)
    assert record.cause is Cause.ENVIRONMENT_FAILED
    assert b"parrot" in folder.log.read_bytes()
    _assert_silent(folder.log.read_bytes())


def test_password_is_blotted_out_wherever_it_turns_up() -> None:
    blot = Blotter(
        {"UV_INDEX": "https://bob:hunter2%21@host/simple", "UV_INDEX_X_PASSWORD": "pigs"}
    )
    assert blot("at https://bob:hunter2%21@host/simple it failed") == (
        "at https://****@host/simple it failed"
    )
    assert blot("https://a:p@ss@host/ git+https://token@host/x") == (
        "https://****@host/ git+https://****@host/x"
    )
    assert blot("the words hunter2! and hunter2%21 and pigs") == "the words **** and **** and ****"
    assert blot("git+ssh://git@host/x a@b.c") == "git+ssh://git@host/x a@b.c"


def test_hashes_of_requirements_are_checked(bench: Bench, index: Peer, tmp_path: Path) -> None:
    serve_index(index, "/simple", make_wheel(tmp_path / "wheels", "parrot", "2.0"))
    folder, record = bench.run(SHOW, f"parrot==2.0 --hash=sha256:{'0' * 64}")
    assert record.cause is Cause.ENVIRONMENT_FAILED
    assert "Hash mismatch" in folder.log.read_text()
    right = sha256_of(tmp_path / "wheels/parrot-2.0-py3-none-any.whl")
    folder, record = bench.run(SHOW, f"parrot==2.0 --hash=sha256:{right}")
    assert record.exit_code == 0, folder.log.read_text()


def test_requirements_of_any_name_and_place(bench: Bench, index: Peer, tmp_path: Path) -> None:
    wheels = [make_wheel(tmp_path / "wheels", "parrot", version) for version in ("1.0", "2.0")]
    serve_index(index, "/simple", *wheels, make_wheel(tmp_path / "wheels", "kipper", "1.0"))
    files: dict[str, str | bytes] = {
        "main.py": f"import kipper; {SHOW}",
        "needs/gpu.in": "-r base.txt\n-c ../limits.txt\nkipper\n",
        "needs/base.txt": "parrot\n",
        "limits.txt": "parrot<2\n",
    }
    folder, record = bench.run_bundle(files, requirements_file="needs/gpu.in")
    log = folder.log.read_text()
    assert record.exit_code == 0, log
    assert "\n1.0 " in log


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("environment.yml", "name: x", "Conda environment files"),
        ("Pipfile", "[packages]", "Pipfile:1:1"),
        ("requirements.txt", "-r missing.txt", "missing.txt"),
        ("requirements.txt", "--frobnicate", "requirements.txt:1:1"),
        ("requirements.txt", "./missing.whl", "missing.whl"),
        ("requirements.txt", "-e .", "does not appear to be a Python project"),
        ("-r.txt", "parrot", "parrot was not found"),
        ("pyproject.toml", "[project", "pyproject.toml cannot be read"),
        ("uv.lock", "version = 1", "There is no pyproject.toml in the bundle"),
        ("pylock.toml", "packages = 1", "pylock.toml"),
    ],
)
def test_what_cannot_be_installed_is_said(bench: Bench, name: str, content: str, says: str) -> None:
    folder, record = bench.run_bundle({"main.py": "", name: content}, requirements_file=name)
    assert record.cause is Cause.ENVIRONMENT_FAILED
    assert says in folder.log.read_text()
    assert "Traceback" not in folder.log.read_text()


def test_bundle_can_be_installed_as_a_package(bench: Bench, tmp_path: Path) -> None:
    files: dict[str, str | bytes] = {
        "main.py": "import kipper; print(kipper.__file__)",
        "requirements.txt": "./code\n",
        **source_of(make_sdist(tmp_path, "kipper"), "code"),
    }
    folder, record = bench.run_bundle(files)
    log = folder.log.read_text()
    assert record.exit_code == 0, log
    assert log.splitlines()[-1].startswith(str(folder.venv))
    assert bench.shared() == set()


def _once_let(go: Path, answer: Answer) -> Answer:
    """An answer that is given when a file is there."""

    def late(exchange: Exchange) -> None:
        wait_for(go.exists, "the leave to answer")
        answer(exchange)

    return late


def _assert_silent(log: bytes) -> None:
    assert b"hunter2" not in log


def _two_builds(bench: Bench, folder: Path) -> tuple[Running, Running, Path]:
    """Two attempts with equal requirements: one builds until a file is there, the other waits."""
    go, began = folder / "go", folder / "began"
    code = (
        "import os, pathlib, time\n"
        f"pathlib.Path({str(began)!r}).write_text(f'pid {{os.getpid()}}\\n')\n"
        f"while not pathlib.Path({str(go)!r}).exists(): time.sleep(0.02)\n"
    )
    slow = Bench(bench.worker, bench.environments, folder)
    make_sdist(slow.links, "slow", "1.0", code=code)
    first = slow.start("import slow", "slow")
    wait_for(began.exists, "the build to begin")
    second = slow.start("import slow", "slow")
    wait_for_log(second.folder, WAITS)
    return first, second, go
