"""What stands in for a container, with an engine whose answers the test chooses."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.disks import fill
from support.processes import wait_for
from support.scripted_engine import ScriptedEngine, scripted_engine

from dtrain.worker.container import ContainerOrder

ENDED = {"Status": "exited", "ExitCode": 0}
WAITS = b"The job waits for it.\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of an attempt whose container is called c."""
    path = tmp_path / "7-1"
    path.mkdir()
    (path / "log").write_bytes(b"early\n")
    order = ContainerOrder(
        socket=str(tmp_path / "s"),
        name="c",
        image="i",
        body={"HostConfig": {}, "Entrypoint": ["x"]},
        rootless=True,
        user=1000,
    )
    (path / "container.json").write_bytes(msgspec.json.encode(order))
    return path


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[ScriptedEngine]:
    with scripted_engine(tmp_path / "s", {}) as engine:
        yield engine


@contextmanager
def stand_in(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The program, whose words go to the attempt's log."""
    command = [sys.executable, "-m", "dtrain.worker.container", str(folder)]
    with (folder / "log").open("ab") as log, subprocess.Popen(command, stdout=log) as program:
        try:
            yield program
        finally:
            program.kill()


def ending(folder: Path) -> dict[str, Any]:
    """Run it to its end; how the container ended."""
    with stand_in(folder) as program:
        assert program.wait(60) is not None
    found: dict[str, Any] = json.loads((folder / "outcome.json").read_text())
    return found


def frame(text: bytes) -> bytes:
    return b"\1\0\0\0" + len(text).to_bytes(4, "big") + text


def has_run(said: bytes) -> dict[str, Any]:
    """The answers of an engine whose container has said something and ended."""
    return {
        "": (200, {}),
        "GET /containers/c/json": (200, {"State": ENDED, "Config": {}}),
        "GET /containers/c/logs": (200, frame(said)),
    }


def test_what_is_said_beside_a_container_is_not_taken_for_its_words(
    folder: Path, engine: ScriptedEngine
) -> None:
    """The engine goes away when the container has been started and has said nothing yet."""
    broken_off = {"": (0, None)}
    engine.answers |= {
        "": (200, {}),
        "GET /containers/c/json": (404, {}),
        "POST /containers/c/start": (204, None),
        "POST /containers/c/wait": (0, None),
    }
    with stand_in(folder) as program:
        wait_for((folder / "begun").exists, "the start")
        engine.answers.clear()
        engine.answers |= broken_off
        wait_for(lambda: WAITS in (folder / "log").read_bytes(), "a word of it")
        engine.answers |= has_run(b"a line that is longer than what was said beside it\n" * 5)
        assert program.wait(60) == 1  # ended with the engine, as far as it knows
    _, said, *lines = (folder / "log").read_bytes().splitlines()
    assert said.endswith(WAITS.strip())
    assert lines == [b"a line that is longer than what was said beside it"] * 5


def test_what_is_said_beside_a_container_is_known_to_who_comes_next(
    folder: Path, engine: ScriptedEngine
) -> None:
    (folder / "begun").write_text("6")
    (folder / "log").write_bytes(b"early\nhel")
    engine.answers |= {"": (0, None)}
    with stand_in(folder):
        wait_for(lambda: WAITS in (folder / "log").read_bytes(), "a word of it")
    engine.answers |= has_run(b"hello, and more than was said beside it by far, " * 9)
    assert ending(folder)["exit_code"] == 0
    log = (folder / "log").read_bytes()
    assert log.startswith(b"early\nhelThe container engine")
    assert log.endswith(WAITS + (b"hello, and more than was said beside it by far, " * 9)[3:])


def test_container_that_is_started_anew_owes_nothing_to_an_engine_before(
    folder: Path, engine: ScriptedEngine
) -> None:
    """The engine goes away in the middle of the start, and the container is there as it was."""
    created = {"State": {"Status": "created"}, "Config": {}}
    engine.answers |= {
        "": (200, {}),
        "GET /containers/c/json": (404, {}),
        "POST /containers/c/start": (0, None),
        "GET /info": (200, {"LiveRestoreEnabled": False}),
    }
    with stand_in(folder) as program:
        wait_for(lambda: "POST /containers/c/start" in engine.asked, "the start")
        states = iter([created])
        ended = {"State": ENDED, "Config": {}}
        engine.answers["GET /containers/c/json"] = lambda: (200, next(states, ended))
        engine.answers["POST /containers/c/start"] = 204, None
        assert program.wait(60) == 0
    assert json.loads((folder / "outcome.json").read_text())["cause"] == "exited"


def test_end_is_noted_on_a_full_disk(
    folder: Path, engine: ScriptedEngine, small_disk: Path
) -> None:
    moved = shutil.copytree(folder, small_disk / "attempt")
    (moved / "begun").write_text("6")
    filled = threading.Event()

    def runs() -> tuple[int, object]:
        if not filled.is_set():
            fill(small_disk / "filler")
            filled.set()
        return 200, {"State": ENDED, "Config": {}}

    engine.answers |= {**has_run(b""), "GET /containers/c/json": runs}
    outcome = ending(moved)
    assert (outcome["cause"], outcome["exit_code"]) == ("exited", 0)


def test_end_that_was_noted_once_stays(folder: Path, engine: ScriptedEngine) -> None:
    """Its container is read once more: what it wrote last may not be in the log."""
    (folder / "begun").write_text("6")
    noted = {"cause": "out_of_memory", "exit_code": 1, "peak_memory": 3}
    (folder / "outcome.json").write_text(json.dumps(noted))
    engine.answers |= has_run(b"last words")
    assert ending(folder) == noted
    assert (folder / "log").read_bytes() == b"early\nlast words"
    engine.answers["GET /containers/c/json"] = 404, {}
    assert ending(folder) == noted
    assert not any(request.startswith("DELETE") for request in engine.asked)
