"""Which engine a worker's containers are run by, and how it is looked for."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from support.requirements import require
from support.scripted_engine import scripted_engine

from dtrain.protocol.errors import Invalid
from dtrain.worker.config import Config
from dtrain.worker.console import Console
from dtrain.worker.containers import Containers
from dtrain.worker.engine import socket_path
from dtrain.worker.executors.base import Host
from dtrain.worker.spool import WorkerFolder

ANSWERS: dict[str, object] = {
    "GET /_ping": (200, None),
    "GET /info": (200, {}),
    "GET /version": (200, {}),
    "GET /containers/json": (200, []),
}


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder for sockets that every user gets to."""
    with TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture
def variables(place: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Those of a user whose machine has no engine but in that folder."""
    monkeypatch.setattr("dtrain.worker.engine._DEFAULT", str(place / "default.sock"))
    return {"XDG_RUNTIME_DIR": str(place)}


def test_engine_is_the_one_that_is_named() -> None:
    assert socket_path({"DOCKER_HOST": "unix:///a/b"}) == "/a/b"
    with pytest.raises(Invalid, match="the engine of this machine"):
        socket_path({"DOCKER_HOST": "tcp://10.0.0.1:2375"})


def test_engine_is_the_first_that_the_user_may_use(place: Path, variables: dict[str, str]) -> None:
    require("root")
    default, own = place / "default.sock", place / "docker.sock"
    assert socket_path(variables) == str(default)
    own.touch(0o600)
    assert socket_path(variables) == str(own)
    default.touch(0o600)
    assert socket_path(variables) == str(default)
    os.chown(own, 12345, 12345)
    assert _as_user(12345, variables) == str(own)
    assert _as_user(12346, variables) == str(default), "may not use any, and is told of the first"


def _as_user(uid: int, variables: dict[str, str]) -> str:
    """What another user finds, whose rights are asked by the real number."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setresuid(uid, uid, uid)
        os.write(writer, socket_path(variables).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        found = answer.read().decode()
    assert os.waitpid(pid, 0)[1] == 0
    return found


def test_engine_that_is_started_after_the_worker_is_found_and_kept(
    tmp_path: Path, place: Path, variables: dict[str, str]
) -> None:
    folder = WorkerFolder(tmp_path / "worker")
    folder.path.mkdir(parents=True, exist_ok=True)
    host = Host(
        worker_name="worker-1",
        environments=folder.environments,
        variables=variables,
        python=Path(sys.executable),
    )
    containers = Containers(Config(docker_enabled=True), host, folder, Console(io.StringIO()), {})
    containers.look()
    with ExitStack() as engines:
        own = engines.enter_context(scripted_engine(place / "docker.sock", {**ANSWERS}))
        containers.look()
        assert "GET /info" in own.asked
        default = engines.enter_context(scripted_engine(place / "default.sock", {**ANSWERS}))
        own.answers["GET /_ping"] = 0, None
        containers.look()
        containers.look()
        assert default.asked == [], "it knows nothing of the containers that run"
        assert own.asked[-1] == "GET /_ping"
