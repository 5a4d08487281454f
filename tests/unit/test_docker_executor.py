"""What the executor does with an engine whose answers the test chooses."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.attempts import assignment, new_attempt, script, step
from support.scripted_engine import Answer, ScriptedEngine, scripted_engine

from dtrain.worker.docker_settings import DockerSettings
from dtrain.worker.engine import Engine
from dtrain.worker.executors.base import Host
from dtrain.worker.executors.docker import DockerExecutor
from dtrain.worker.image_keeper import ImageKeeper
from dtrain.worker.processes import boot_id
from dtrain.worker.records import ShimRecord
from dtrain.worker.spool import AttemptFolder, WorkerFolder

KEY = "k"
VARIABLES = {
    "DOCKER_CONFIG": "/etc/docker-of-mine",
    "AWS_PROFILE": "lab",
    "GNUPGHOME": "/keys",
    "DTRAIN_WORKER_TOKEN": "secret",
}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[ScriptedEngine]:
    answers: dict[str, Any] = {
        "GET /_ping": (200, None),
        "GET /version": (200, {}),
        "GET /info": (200, {}),
    }
    with scripted_engine(tmp_path / "s", answers) as engine:
        yield engine


@pytest.fixture
def worker(tmp_path: Path) -> WorkerFolder:
    return WorkerFolder(tmp_path / "worker")


@pytest.fixture
def executor(engine: ScriptedEngine, worker: WorkerFolder) -> DockerExecutor:
    host = Host(
        worker_name="worker-1",
        environments=worker.environments,
        variables=VARIABLES,
        python=Path(sys.executable),
    )
    settings = DockerSettings(image="a", processes=1000, user=1000)
    return DockerExecutor(host, settings, worker.path, KEY, Engine(engine.socket))


def container(number: str, name: str, **labels: str) -> dict[str, Any]:
    named = {f"dtrain.{label}": value for label, value in labels.items()}
    return {"Id": number, "Names": [f"/{name}"], "Labels": {"dtrain.worker": KEY, **named}}


def test_containers_that_others_made_of_our_images_are_left(
    engine: ScriptedEngine, executor: DockerExecutor
) -> None:
    found = [
        container("0", "of-a-built-image"),
        container("1", "of-a-kept-container", attempt="7-1"),
        container("2", f"dtrain-{KEY}-7-1", attempt="7-1"),
        container("3", f"dtrain-{KEY}-8-1", attempt="8-1"),
        container("4", f"dtrain-{KEY}-9-1-environment", attempt="9-1"),
    ]
    engine.answers |= {"GET /containers/json": (200, found), "DELETE /containers/4": (204, None)}
    engine.answers["DELETE /containers/2"] = 204, None
    executor.sweep(lambda: {"8-1"})
    removed = [request for request in engine.asked if request.startswith("DELETE")]
    assert removed == ["DELETE /containers/2", "DELETE /containers/4"]


def test_container_that_cannot_be_removed_keeps_no_other_from_it(
    engine: ScriptedEngine, executor: DockerExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    found = [container(str(n), f"dtrain-{KEY}-{n}-1", attempt=f"{n}-1") for n in range(2)]
    engine.answers |= {
        "GET /containers/json": (200, found),
        "DELETE /containers/0": (500, {"message": "device or resource busy"}),
        "DELETE /containers/1": (204, None),
    }
    with caplog.at_level(logging.WARNING):
        executor.sweep(set)
    assert engine.asked[-1] == "DELETE /containers/1"
    assert f"The container /dtrain-{KEY}-0-1 is left: device or resource busy" in caplog.text


def test_limits_that_the_engine_lacks_are_left_out_and_told_once(
    engine: ScriptedEngine,
    executor: DockerExecutor,
    worker: WorkerFolder,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder = new_attempt(worker, {"main.py": ""}, memory_gb=1, cpus=2)
    engine.answers["GET /images/a/json"] = 200, {"Id": "sha256:1"}

    def limits() -> set[str]:
        executor.start()
        executor.prepare(folder)
        order = msgspec.json.decode((folder.path / "container.json").read_bytes())
        return {"Memory", "MemorySwap", "NanoCpus", "PidsLimit"} & {*order["body"]["HostConfig"]}

    has_all = {"MemoryLimit": True, "CpuCfsPeriod": True, "CpuCfsQuota": True, "PidsLimit": True}
    for info in ({}, has_all):
        engine.answers["GET /info"] = 200, info
        assert limits() == {"Memory", "MemorySwap", "NanoCpus", "PidsLimit"}
    engine.answers["GET /info"] = 200, {**has_all, "CpuCfsPeriod": False, "CpuCfsQuota": False}
    for _ in range(2):
        assert limits() == {"Memory", "MemorySwap", "PidsLimit"}
    engine.answers["GET /info"] = 200, dict.fromkeys(has_all, False)
    assert limits() == set()
    assert [record.message.split(" of containers")[0] for record in caplog.records] == [
        "The container engine cannot limit the processors",
        "The container engine cannot limit the memory and processors and processes",
    ]


def test_credentials_are_for_the_step_that_gets_the_image_alone(
    executor: DockerExecutor, worker: WorkerFolder
) -> None:
    folder = new_attempt(worker, {"main.py": ""})
    image, main = executor.prepare(folder).steps
    assert VARIABLES.items() - image.env.items() == {("DTRAIN_WORKER_TOKEN", "secret")}
    assert image.env["TMPDIR"] == str(folder.tmp)
    assert not VARIABLES.keys() & main.env.keys()
    assert b"lab" not in (folder.path / "container.json").read_bytes()


def test_container_is_what_its_engine_takes(
    engine: ScriptedEngine, executor: DockerExecutor, worker: WorkerFolder
) -> None:
    folder = worker.create_attempt(assignment(gpus=1), worker.secrets.next(), ["GPU-1"])
    (folder.work / "main.py").touch()
    engine.answers["GET /images/a/json"] = 200, {"Id": "sha256:1"}

    def asked() -> tuple[Any, Any]:
        executor.start()
        executor.prepare(folder)
        order = msgspec.json.decode((folder.path / "container.json").read_bytes())
        host = order["body"]["HostConfig"]
        return host["DeviceRequests"], host["SecurityOpt"]

    of_docker = [{"DeviceIDs": ["GPU-1"], "Capabilities": [["gpu"]]}]
    assert asked() == (of_docker, ["no-new-privileges"])
    engine.answers["GET /info"] = 200, {"SecurityOptions": ["name=seccomp", "name=selinux"]}
    assert asked() == (of_docker, ["no-new-privileges", "label=disable"])
    engine.answers["GET /version"] = 200, {"Components": [{"Name": "Podman Engine"}]}
    of_podman = [{"Driver": "cdi", "DeviceIDs": ["nvidia.com/gpu=GPU-1"]}]
    assert asked()[0] == of_podman


@pytest.mark.parametrize("tells", [True, False], ids=["newer", "older"])
def test_images_that_were_built_count_by_what_they_share_with_no_other(
    engine: ScriptedEngine, worker: WorkerFolder, tells: bool
) -> None:
    """An older engine tells that along with all else that takes up its disk."""
    images = [
        {
            "Id": str(number),
            "RepoTags": [f"localhost/dtrain-build:{number}"],
            "Size": 1000,
            "SharedSize": 900,
            "Created": number,
        }
        for number in range(3)
    ]
    listed = images if tells else [{**image, "SharedSize": -1} for image in images]
    engine.answers |= {
        "GET /images/json": (200, listed),
        "GET /system/df": (200, {"Images": [*images, {"Id": "other", "SharedSize": 5}]}),
        "DELETE /images/dtrain-build:0": (200, []),
    }
    ImageKeeper(Engine(engine.socket), {"dtrain.worker": KEY}, worker.path, 250, None).look()
    assert engine.asked[-1] == "DELETE /images/dtrain-build:0"
    assert ("GET /system/df" in engine.asked) != tells


@pytest.fixture
def killed(worker: WorkerFolder) -> AttemptFolder:
    """An attempt whose shim was killed a minute after it had begun, while its container ran."""
    folder = new_attempt(worker)
    plan = script(folder, "", time_limit=100.0)
    image = step(folder, "image", "", env={"NOT_UTF_8": "\udcff"})
    plan = msgspec.structs.replace(plan, steps=[image, *plan.steps])
    record = ShimRecord(pid=1, ticks=1, boot_id=boot_id(), mark="m")
    for name, content in (("plan.json", plan), ("shim.json", record)):
        (folder.path / name).write_text(json.dumps(msgspec.to_builtins(content)))
    a_minute_ago = time.time() - 60
    os.utime(folder.path / "shim.json", (a_minute_ago, a_minute_ago))
    (folder.path / "begun").write_text("0")
    return folder


RUNS = 200, {"State": {"Status": "running", "StartedAt": "2020-01-01T00:00:00.0Z"}}


@pytest.mark.parametrize("answer", [RUNS, (0, None), (500, {})], ids=["runs", "away", "trouble"])
def test_container_that_was_started_is_gone_on_with(
    engine: ScriptedEngine, executor: DockerExecutor, killed: AttemptFolder, answer: Answer
) -> None:
    """Also where the engine is away: what stands in for the container waits for it."""
    engine.answers[f"GET /containers/dtrain-{KEY}-1-1/json"] = answer
    plan = executor.resume(killed)
    assert plan is not None
    assert [step.name for step in plan.steps] == ["main"]
    assert plan.time_limit == pytest.approx(40, abs=10)


def test_end_that_is_known_is_gone_on_with(executor: DockerExecutor, killed: AttemptFolder) -> None:
    assert executor.resume(killed) is None, "its container is gone"
    (killed.path / "outcome.json").write_text("{}")
    assert executor.resume(killed) is not None


@pytest.mark.parametrize("answer", [RUNS, (0, None)], ids=["runs", "away"])
def test_nothing_is_gone_on_with_that_has_not_begun(
    engine: ScriptedEngine, executor: DockerExecutor, killed: AttemptFolder, answer: Answer
) -> None:
    """A container of this name is then of an attempt with another server."""
    engine.answers[f"GET /containers/dtrain-{KEY}-1-1/json"] = answer
    (killed.path / "begun").unlink()
    assert executor.resume(killed) is None
