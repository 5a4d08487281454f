from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from dtrain.protocol.errors import Invalid
from dtrain.protocol.states import OnStop
from dtrain.worker.config import VARIABLES, Config, load

TOKEN = {"DTRAIN_WORKER_TOKEN": "a-token"}


def write(home: Path, **settings: object) -> Path:
    file = home / "config.json"
    file.write_text(json.dumps({"token": "a-token", **settings}))
    return file


def refusal(home: Path, environment: dict[str, str] | None = None) -> Invalid:
    with pytest.raises(Invalid) as caught:
        load(home, environment or {})
    assert "\n" not in caught.value.detail
    return caught.value


def test_defaults_are_those_of_the_manual(tmp_path: Path) -> None:
    config = load(tmp_path, TOKEN)
    assert config.server_url == "http://localhost:5000"
    assert config.worker_name == socket.gethostname()
    assert config.poll_interval == 10
    assert config.max_concurrent_jobs == 1
    assert config.auto_accept_jobs is False
    assert config.on_stop is OnStop.HAND_BACK
    assert config.folder(tmp_path) == tmp_path / "data" / socket.gethostname()


def test_file_of_the_manual_is_read(tmp_path: Path) -> None:
    write(
        tmp_path,
        server_url="http://gpu.example:5000/",
        worker_name="worker-1",
        poll_interval=10,
        max_concurrent_jobs=1,
        auto_accept_jobs=False,
        docker_enabled=True,
        docker_image_tag="python:3.9-slim",
        docker_volumes=["/host/data:/container/data"],
        docker_environment=["CUDA_VISIBLE_DEVICES=0"],
        max_memory_gb=8,
        max_cpu_percent=80,
    )
    config = load(tmp_path, {})
    assert config.server_url == "http://gpu.example:5000"
    assert config.docker_image_tag == "python:3.9-slim"
    assert (config.max_memory_gb, config.max_cpu_percent) == (8, 80)


def test_example_file_holds_settings_that_are_known(tmp_path: Path) -> None:
    example = Path(__file__).parents[2] / "worker" / "config.example.json"
    (tmp_path / "config.json").write_text(example.read_text())
    assert load(tmp_path, {}) == Config(token="your-worker-token", worker_name="worker-1")


def test_variables_override_the_file(tmp_path: Path) -> None:
    write(tmp_path, worker_name="worker-1", max_concurrent_jobs=1, labels={"room": "a"})
    config = load(
        tmp_path,
        {
            "DTRAIN_SERVER_URL": "https://server.example",
            "DTRAIN_WORKER_TOKEN": "another",
            "DTRAIN_WORKER_NAME": "2",
            "DTRAIN_POLL_INTERVAL": "2.5",
            "DTRAIN_MAX_JOBS": "3",
            "DTRAIN_DEBUG": "true",
            "DTRAIN_AUTO_ACCEPT_JOBS": "True",
            "DTRAIN_LABELS": "room=b, gpu=a100",
            "DTRAIN_DOCKER_VOLUMES": "/a:/b,/c:/d",
            "DTRAIN_MAX_MEMORY_GB": "4",
            "DTRAIN_ON_STOP": "leave",
        },
    )
    assert config == Config(
        server_url="https://server.example",
        token="another",
        worker_name="2",
        poll_interval=2.5,
        max_concurrent_jobs=3,
        debug=True,
        auto_accept_jobs=True,
        labels={"room": "b", "gpu": "a100"},
        docker_volumes=["/a:/b", "/c:/d"],
        max_memory_gb=4,
        on_stop=OnStop.LEAVE,
    )


def test_empty_variables_are_as_if_they_were_not_set(tmp_path: Path) -> None:
    assert load(tmp_path, {**TOKEN, "DTRAIN_MAX_JOBS": ""}).max_concurrent_jobs == 1


def test_variables_of_other_programs_are_let_pass(tmp_path: Path) -> None:
    others = {"DTRAIN_HOST": "0.0.0.0", "DTRAIN_PORT": "80", "DTRAIN_TOKEN": "x", "HOME": "/"}
    assert load(tmp_path, {**TOKEN, **others}).token == "a-token"


def test_no_settings_at_all_says_what_to_do(tmp_path: Path) -> None:
    detail = refusal(tmp_path).detail
    for word in ("config.example.json", "config.json", "DTRAIN_SERVER_URL", "DTRAIN_WORKER_TOKEN"):
        assert word in detail


def test_missing_token_says_where_it_is(tmp_path: Path) -> None:
    write(tmp_path, token=" ")
    error = refusal(tmp_path)
    assert error.field == "token"
    assert "server prints it" in error.detail


@pytest.mark.parametrize(
    ("settings", "name", "words"),
    [
        ({"pol_interval": 10}, "pol_interval", "poll_interval"),
        ({"zzz": 1}, "zzz", "max_concurrent_jobs"),
        ({"poll_interval": "10"}, "poll_interval", "expected a number, got text"),
        ({"max_concurrent_jobs": 1.5}, "max_concurrent_jobs", "a whole number"),
        ({"max_concurrent_jobs": 0}, "max_concurrent_jobs", ">= 1"),
        ({"max_memory_gb": -1}, "max_memory_gb", "> 0"),
        ({"max_cpu_percent": 101}, "max_cpu_percent", "<= 100"),
        ({"auto_accept_jobs": "yes"}, "auto_accept_jobs", "true or false"),
        ({"docker_volumes": "a:b"}, "docker_volumes", "a list"),
        ({"docker_environment": ["A"]}, "docker_environment", "NAME=value"),
        ({"labels": {"a": 1}}, "labels", "expected text"),
        ({"on_stop": "wait"}, "on_stop", "drain, hand_back, leave"),
        ({"worker_name": "a/b"}, "worker_name", "slash"),
        ({"worker_name": ".."}, "worker_name", "folder"),
        ({"worker_name": "a\nb"}, "worker_name", "control character"),
        ({"worker_name": ""}, "worker_name", "length >= 1"),
        ({"worker_name": "x" * 101}, "worker_name", "length <= 100"),
        ({"worker_name": "日" * 90}, "worker_name", "200 bytes"),
    ],
)
def test_unacceptable_setting_of_the_file_is_refused_by_name(
    settings: dict[str, object], name: str, words: str, tmp_path: Path
) -> None:
    file = write(tmp_path, **settings)
    error = refusal(tmp_path)
    assert error.field == name
    assert name in error.detail
    assert words in error.detail
    assert str(file) in error.detail or name in {"worker_name", "docker_environment"}


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("DTRAIN_MAX_JOBS", "many", "a whole number"),
        ("DTRAIN_POLL_INTERVAL", "nan", "a number > 0"),
        ("DTRAIN_AUTO_ACCEPT_JOBS", "perhaps", "true or false"),
        ("DTRAIN_LABELS", "room", "names with values"),
        ("DTRAIN_MAX_JOB", "1", "DTRAIN_MAX_JOBS"),
        ("DTRAIN_MAX_CONCURRENT_JOBS", "1", "DTRAIN_MAX_JOBS"),
        ("DTRAIN_SERVER_ULR", "http://a", "DTRAIN_SERVER_URL"),
    ],
)
def test_unacceptable_variable_is_refused_by_name(
    variable: str, text: str, words: str, tmp_path: Path
) -> None:
    error = refusal(tmp_path, {**TOKEN, variable: text})
    assert variable in error.detail
    assert words in error.detail


def test_address_that_is_none_is_refused(tmp_path: Path) -> None:
    write(tmp_path, server_url="localhost:5000")
    assert "http://host:port" in refusal(tmp_path).detail


@pytest.mark.parametrize("content", ["", "{", "[]", "\xff", '{"poll_interval": NaN}'])
def test_file_that_is_no_object_of_json_is_refused(content: str, tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(content.encode("latin-1"))
    assert str(file) in refusal(tmp_path).detail


def test_every_setting_has_a_variable_of_its_own() -> None:
    assert len(set(VARIABLES.values())) == len(VARIABLES)
    assert all(name.startswith("DTRAIN_") for name in VARIABLES.values())
