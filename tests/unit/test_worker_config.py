from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from dtrain.protocol.errors import Invalid
from dtrain.protocol.states import OnStop
from dtrain.worker.config import VARIABLES, Config, load
from dtrain.worker.policy import Rule

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


OF_THE_WHOLE = {"worker_name", "docker_environment", "docker_volumes", "docker_image_tag"}
"""Settings whose faults are told by what they are, not by where they stand."""


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


def test_file_of_a_ca_is_looked_for_in_the_workers_folder(tmp_path: Path) -> None:
    assert load(tmp_path, TOKEN).ca_file is None
    write(tmp_path, ca_file="ca.pem")
    assert load(tmp_path, {}).ca_file == str(tmp_path / "ca.pem")
    assert load(tmp_path, {"DTRAIN_CA_FILE": "/etc/ca.pem"}).ca_file == "/etc/ca.pem"


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
        ({"poll_interval": "10"}, "poll_interval", "it must be a number, not text."),
        ({"max_concurrent_jobs": 1.5}, "max_concurrent_jobs", "a whole number"),
        ({"max_concurrent_jobs": 0}, "max_concurrent_jobs", "of at least 1."),
        ({"max_memory_gb": -1}, "max_memory_gb", "greater than 0."),
        ({"max_cpu_percent": 101}, "max_cpu_percent", "of at most 100."),
        ({"auto_accept_jobs": "yes"}, "auto_accept_jobs", "true or false"),
        ({"docker_volumes": "a:b"}, "docker_volumes", "a list"),
        ({"docker_environment": ["A"]}, "docker_environment", "NAME=value"),
        ({"docker_environment": ["2=A"]}, "docker_environment", "NAME=value"),
        ({"docker_volumes": ["/a"]}, "docker_volumes", "write /path/here:/path/in/the/container"),
        ({"docker_volumes": ["/a:/tmp"]}, "docker_volumes", "a /tmp of its own; name another"),
        ({"docker_volumes": ["/a:/x/../tmp/:ro"]}, "docker_volumes", "a /tmp of its own"),
        ({"docker_volumes": ["data:/b"]}, "docker_volumes", "write /path/here"),
        ({"docker_volumes": ["/a:/b:wx"]}, "docker_volumes", "with :ro after it"),
        ({"docker_volumes": ["/a:/"]}, "docker_volumes", "container's / cannot be another"),
        ({"docker_volumes": ["/a:/x/../dtrain/work"]}, "docker_volumes", "/dtrain/work cannot"),
        ({"docker_image_tag": "Python:3"}, "docker_image_tag", "the name of an image"),
        ({"labels": {"a": 1}}, "labels", "it must be text, not a whole number."),
        ({"on_stop": "wait"}, "on_stop", "drain or hand_back or leave"),
        ({"answer_on_page": 1}, "answer_on_page", "true or false"),
        ({"accept_when": {"tag": "a"}}, "accept_when", "a list"),
        ({"accept_when": [{}]}, "accept_when", "set auto_accept_jobs"),
        ({"accept_when": [{"tag": "a"}, {"tags": "a"}]}, "accept_when", "rule 2: there is no"),
        ({"accept_when": [{"tags": "a"}]}, "accept_when", "'tags'; there are tag, submitter"),
        ({"accept_when": [{"tag": None}]}, "accept_when", "tag of rule 1"),
        ({"accept_when": [{"tag": []}]}, "accept_when", "tag of rule 1"),
        ({"accept_when": [{"max_gpus": "1"}]}, "accept_when", "max_gpus of rule 1"),
        ({"decline_when": [{"max_time_limit": "soon"}]}, "decline_when", "'soon' is no duration"),
        ({"decline_when": [{"sha256": "abc"}]}, "decline_when", "no SHA-256"),
        ({"worker_name": "a/b"}, "worker_name", "slash"),
        ({"worker_name": ".."}, "worker_name", "folder"),
        ({"worker_name": "a\nb"}, "worker_name", "control character"),
        ({"worker_name": ""}, "worker_name", "at least 1 character."),
        ({"worker_name": "x" * 101}, "worker_name", "at most 100 characters."),
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
    assert str(file) in error.detail or name in OF_THE_WHOLE


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("DTRAIN_MAX_JOBS", "many", "a whole number"),
        ("DTRAIN_POLL_INTERVAL", "nan", "it must be a number greater than 0."),
        ("DTRAIN_AUTO_ACCEPT_JOBS", "perhaps", "it must be true or false."),
        ("DTRAIN_LABELS", "room", "names with values"),
        ("DTRAIN_ACCEPT_WHEN", "tag=a", "it is not JSON"),
        ("DTRAIN_ACCEPT_WHEN", '[{"colour": "red"}]', "no condition 'colour'"),
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


def test_rules_are_read_from_the_file_and_as_json_from_the_variable(tmp_path: Path) -> None:
    write(tmp_path, accept_when=[{"tag": ["a", "b"], "image": None}, {"max_bundle_mb": 5}])
    config = load(tmp_path, {"DTRAIN_DECLINE_WHEN": '[{"name": "*, crypto*"}]'})
    assert config.accept_when == [Rule(tag=["a", "b"], image=None), Rule(max_bundle_mb=5)]
    assert config.decline_when == [Rule(name="*, crypto*")]
    assert config.asks


def test_rules_that_decline_are_applied_where_nobody_is_asked(tmp_path: Path) -> None:
    write(tmp_path, auto_accept_jobs=True)
    assert not load(tmp_path, {}).asks
    assert load(tmp_path, {"DTRAIN_DECLINE_WHEN": '[{"tag": "no"}]'}).asks


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


@pytest.mark.parametrize("text", ["", "5", "9-5", "0-7", "1-4294967295", "a-b"])
def test_users_of_jobs_are_a_range(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"token": "t", "job_uids": text}))
    with pytest.raises(Invalid, match="job_uids"):
        load(tmp_path, {})


def test_folders_of_jobs_are_whole_paths_that_exist(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="job_folders"):
        load(tmp_path, {"DTRAIN_WORKER_TOKEN": "t", "DTRAIN_JOB_FOLDERS": "data"})
    given = {"DTRAIN_WORKER_TOKEN": "t", "DTRAIN_JOB_FOLDERS": f"{tmp_path},/"}
    assert load(tmp_path, given).job_folders == [str(tmp_path), "/"]
