"""The whole job spec by the same names through every door, and each submission once."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.application import Application, application, bundle, form, upload
from support.processes import PATIENCE, start_server
from werkzeug.test import TestResponse

from dtrain.protocol.spec import FIELDS

SPEC: dict[str, Any] = {
    "name": "My Training Job",
    "main_entry": "src/train.py",
    "args": ["--lr", "0.1", "a, b"],
    "requirements_file": "needs.txt",
    "python": "3.11",
    "env": {"SEED": "7", "X": "a=b"},
    "tags": ["red", "two words"],
    "priority": 5,
    "cpus": 1.5,
    "memory_gb": 2.0,
    "gpus": 1,
    "labels": {"room": "lab"},
    "time_limit": 900.0,
    "max_retries": 2,
    "on_partition": "stop",
    "image": "python:3.12-slim",
    "executor": "docker",
}
FILES = {"src/train.py": "print(1)\n", "needs.txt": "", "main.py": "print(2)\n"}
FORM: dict[str, Any] = {
    **SPEC,
    "env": ["SEED=7", "X=a=b"],
    "labels": ["room=lab"],
    "time_limit": "15m",
}
YAML = """
name: My Training Job
main_entry: src/train.py
args: [--lr, 0.1, 'a, b']
requirements_file: needs.txt
python: 3.11
env: {SEED: 7, X: a=b}
tags: [red, two words]
priority: 5
cpus: 1.5
memory_gb: 2
gpus: 1
labels: {room: lab}
time_limit: 15m
max_retries: 2
on_partition: stop
image: python:3.12-slim
executor: docker
"""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Application]:
    with application(tmp_path) as found:
        yield found


def send(
    server: Application, headers: Mapping[str, str] | None = None, **fields: Any
) -> TestResponse:
    return server.client.post("/api/jobs", **form(fields), headers=headers)


def zipped(files: Mapping[str, str] = FILES, **more: str) -> Any:
    return upload(bundle({**files, **more}))


def refused(answer: TestResponse, field: str, *words: str, status: int = 422) -> None:
    assert answer.status_code == status, answer.text
    problem = answer.json or {}
    assert problem["field"] == field
    for word in words:
        assert word in problem["detail"]


def texts(fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value if isinstance(value, list) else str(value) for name, value in fields.items()
    }


def test_every_door_takes_the_whole_spec(server: Application) -> None:
    assert set(SPEC) == set(FIELDS)
    by_form = send(server, file=zipped(), **texts(FORM))
    sha256 = (by_form.json or {})["bundle"]["sha256"]
    by_json = server.client.post("/api/jobs", json={**SPEC, "bundle": sha256})
    by_field = send(server, file=zipped(), spec=json.dumps({**SPEC, "time_limit": "15m"}))
    by_file = send(server, file=zipped(**{"dtrain.yaml": YAML}))
    for answer in (by_form, by_json, by_field, by_file):
        assert answer.status_code == 201, answer.text
        assert (answer.json or {})["spec"] == SPEC
    assert (by_json.json or {})["bundle"] == (by_form.json or {})["bundle"]


def test_a_job_that_is_shown_can_be_handed_in_again_with_changes(server: Application) -> None:
    first = server.submit(name="first")
    answer = server.client.post(
        "/api/jobs",
        json={**first["spec"], "bundle": first["bundle"]["sha256"], "args": ["--lr", "0.2"]},
    )
    assert answer.status_code == 201
    again = answer.json or {}
    assert again["spec"] == {**first["spec"], "args": ["--lr", "0.2"]}
    assert again["retry_of"] is None


def test_a_bundle_that_is_not_there_is_refused_with_what_to_do(server: Application) -> None:
    unknown = {"name": "x", "bundle": "0" * 64}
    refused(server.client.post("/api/jobs", json=unknown), "bundle", "send the ZIP")
    job = server.submit()
    sha256 = job["bundle"]["sha256"]
    server.client.delete(f"/api/jobs/{job['id']}")
    from dtrain.server.store import bundles

    server.services.database.write(lambda c: bundles.forget_unneeded(c, {sha256}))
    refused(server.client.post("/api/jobs", json={"name": "x", "bundle": sha256}), "bundle")
    server.services.bundles.delete(sha256, 0)
    refused(server.client.post("/api/jobs", json={"name": "x", "bundle": sha256}), "bundle")


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ([], 422, None),
        ("text", 422, None),
        ({}, 422, "bundle"),
        ({"name": "x"}, 422, "bundle"),
        ({"bundle": 7}, 422, "bundle"),
        ({"bundle": "A" * 64}, 422, "bundle"),
        ({"bundle": "KNOWN"}, 422, "name"),
        ({"bundle": "KNOWN", "name": None}, 422, "name"),
        ({"bundle": "KNOWN", "name": "x", "priority": "5"}, 422, "priority"),
        ({"bundle": "KNOWN", "name": "x", "priority": None}, 422, "priority"),
        ({"bundle": "KNOWN", "name": "x", "gpus": True}, 422, "gpus"),
        ({"bundle": "KNOWN", "name": "x", "tags": "a,b"}, 422, "tags"),
        ({"bundle": "KNOWN", "name": "x", "tags": ["a,b"]}, 422, "tags"),
        ({"bundle": "KNOWN", "name": "x", "env": ["A=1"]}, 422, "env"),
        ({"bundle": "KNOWN", "name": "x", "time_limit": "soon"}, 422, "time_limit"),
        ({"bundle": "KNOWN", "name": "x", "file": "x"}, 422, "file"),
        ({"bundle": "KNOWN", "name": "x", "nmae": "x"}, 422, "nmae"),
        ({"bundle": "KNOWN", "name": "x", "main_entry": "other.py"}, 422, "main_entry"),
    ],
)
def test_json_is_taken_by_its_types(
    server: Application, body: Any, status: int, field: str | None
) -> None:
    sha256 = server.submit()["bundle"]["sha256"]
    if isinstance(body, dict) and body.get("bundle") == "KNOWN":
        body = {**body, "bundle": sha256}
    answer = server.client.post("/api/jobs", json=body)
    assert answer.status_code == status, answer.text
    assert (answer.json or {}).get("field") == field
    assert len((server.client.get("/api/jobs").json or {})["jobs"]) == 1


def test_json_that_is_none_is_refused(server: Application) -> None:
    for body in (b"", b"{", b"\xff", b'{"a": 1, "a": 2}', b'{"name": NaN}', b"[" * 100_000):
        answer = server.client.post("/api/jobs", data=body, content_type="application/json")
        assert answer.status_code in {400, 422}, answer.text


def test_a_field_given_in_two_ways_is_refused_by_name(server: Application) -> None:
    spec = json.dumps({"name": "x", "priority": 3})
    refused(send(server, file=upload(), name="y", spec=spec), "name", "twice")
    taken = send(server, file=upload(), name="", args="", spec=spec)
    assert (taken.json or {})["spec"]["priority"] == 3


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ("{", "spec"),
        ("[]", "spec"),
        ('{"name": "x", "name": "y"}', "name"),
        ('{"name": "x", "nmae": 1}', "nmae"),
        ('{"name": "x", "priority": "1"}', "priority"),
        ('{"name": "x", "bundle": "1"}', "bundle"),
        ('{"name": "a\\u0000"}', "spec"),
    ],
)
def test_a_spec_in_the_form_is_taken_by_its_types(
    server: Application, spec: str, field: str
) -> None:
    refused(send(server, file=upload(), spec=spec), field)


def test_a_dockerfile_says_that_a_job_needs_a_container(server: Application) -> None:
    files = {"main.py": "", "Dockerfile": "FROM python:3.9-slim\n"}

    def executor(**fields: str) -> str:
        answer = send(server, file=upload(bundle(files)), name="x", **fields)
        return str((answer.json or {})["spec"]["executor"])

    assert executor() == "docker"
    assert executor(executor="venv") == "venv"
    assert executor(python="3.11") == "auto"
    alone = upload(bundle({"Dockerfile": "FROM a\nCMD b\n"}))
    assert send(server, file=alone, name="no main.py").status_code == 201
    refused(send(server, file=upload(bundle(files)), name="x", image="a b"), "image", "a b")


def test_what_is_said_wins_over_what_the_bundle_says(server: Application) -> None:
    own = "name: of the bundle\npriority: 7\ncpus: 2\ntags: [a]\nrequirements_file:\n"
    files = {"main.py": "", "requirements.txt": "", "dtrain.yaml": own}
    spec = (send(server, file=upload(bundle(files)), priority="9", tags="").json or {})["spec"]
    assert (spec["name"], spec["priority"], spec["cpus"]) == ("of the bundle", 9, 2)
    assert (spec["tags"], spec["requirements_file"]) == (["a"], None)
    answer = send(server, file=upload(bundle(files)), spec='{"name": "x", "cpus": null}')
    spec = (answer.json or {})["spec"]
    assert (spec["name"], spec["cpus"]) == ("x", None)
    sha256 = (answer.json or {})["bundle"]["sha256"]
    again = server.client.post("/api/jobs", json={"bundle": sha256, "gpus": 1}).json or {}
    assert (again["name"], again["spec"]["priority"], again["spec"]["gpus"]) == (
        "of the bundle",
        7,
        1,
    )


@pytest.mark.parametrize(
    ("own", "field", "words"),
    [
        ("priority: high", "priority", ["In dtrain.yaml", "priority", "whole number"]),
        ("nmae: x", "nmae", ["In dtrain.yaml, line 1", "nmae"]),
        ("name: [", "dtrain.yaml", ["In dtrain.yaml, line"]),
        ("env: &a {A: 1}", "dtrain.yaml", ["anchors"]),
        ("name: " + "x" * 70_000, "dtrain.yaml", ["64 KiB"]),
        ("main_entry: other.py", "main_entry", ["other.py"]),
        ("priority: 1", "name", ["field name", "dtrain.yaml"]),
        ("name:", "name", ["field name", "dtrain.yaml"]),
    ],
)
def test_a_file_in_the_bundle_that_is_wrong_is_named(
    server: Application, own: str, field: str, words: list[str]
) -> None:
    files = {"main.py": "", "dtrain.yaml": own}
    given = {} if field == "name" else {"name": "x", "priority": "3"}
    if field == "main_entry":
        del given["priority"]
    refused(send(server, file=upload(bundle(files)), **given), field, *words)
    assert not list(server.services.settings.job_bundles_folder.glob("??/*"))


def test_a_misnamed_file_in_the_bundle_is_pointed_at(server: Application) -> None:
    files = {"main.py": "", "dtrain.yml": "name: x"}
    answer = send(server, file=upload(bundle(files)), name="x")
    refused(answer, "dtrain.yaml", "rename it to dtrain.yaml")


def test_a_file_below_the_top_says_nothing(server: Application) -> None:
    files = {"main.py": "", "conf/dtrain.yaml": "nonsense: 1"}
    assert send(server, file=upload(bundle(files)), name="x").status_code == 201


def test_the_browsers_form_leaves_the_say_to_the_file(server: Application) -> None:
    page = server.client.get("/").text
    assert 'name="executor"' in page
    own = "name: of the bundle\nexecutor: venv\non_partition: stop\n"
    files = {"main.py": "", "dtrain.yaml": own}
    empty = dict.fromkeys(FIELDS, "")
    sent = server.client.post("/jobs", **form({**empty, "file": upload(bundle(files), "my.zip")}))
    assert sent.status_code == 303
    job = (server.client.get("/api/jobs").json or {})["jobs"][0]
    spec = job["spec"]
    assert (job["name"], spec["executor"], spec["on_partition"]) == (
        "of the bundle",
        "venv",
        "stop",
    )
    server.client.post("/jobs", **form({**empty, "file": upload(name="my.zip")}))
    assert (server.client.get("/api/jobs").json or {})["jobs"][0]["name"] == "my"


def test_each_submission_with_a_key_makes_one_job(server: Application) -> None:
    key = {"Idempotency-Key": "0f6c7a52-6c0f-4c1e-9a39-6d1f0a8c5f1e"}
    first = send(server, key, name="one", file=upload())
    again = send(server, key, name="one", file=upload())
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json == again.json
    assert again.headers["Location"] == first.headers["Location"]
    sha256 = (first.json or {})["bundle"]["sha256"]
    by_json = server.client.post("/api/jobs", json={"name": "one", "bundle": sha256}, headers=key)
    assert (by_json.status_code, by_json.json) == (200, first.json)
    other = server.client.post("/api/jobs", json={"name": "two", "bundle": sha256}, headers=key)
    refused(other, "Idempotency-Key", "another submission", status=409)
    retried = server.client.post("/api/jobs/1/retry", headers=key)
    refused(retried, "Idempotency-Key", "another submission", status=409)


def test_each_retry_with_a_key_makes_one_job(server: Application) -> None:
    server.submit()
    key = {"Idempotency-Key": "again"}
    first = server.client.post("/api/jobs/1/retry", headers=key)
    again = server.client.post("/api/jobs/1/retry", headers=key)
    assert (first.status_code, again.status_code) == (201, 200)
    assert first.json == again.json
    of_the_retry = server.client.post("/api/jobs/2/retry", headers=key)
    assert of_the_retry.status_code == 409
    assert server.client.post("/api/jobs/1/retry").status_code == 201


def test_keys_of_one_submitter_are_no_other_ones(server: Application) -> None:
    for submitter in ("ada", "grace"):
        headers = {"Idempotency-Key": "1", "DTrain-Submitter": submitter}
        assert send(server, headers, name="x", file=upload()).status_code == 201


@pytest.mark.parametrize("key", ["", " ", "x" * 256, "ä", "a\tb"])
def test_keys_that_are_none_are_refused(server: Application, key: str) -> None:
    refused(send(server, {"Idempotency-Key": key}, name="x", file=upload()), "Idempotency-Key")
    server.submit()
    answer = server.client.post("/api/jobs/1/retry", headers={"Idempotency-Key": key})
    refused(answer, "Idempotency-Key")
    assert send(server, {"Idempotency-Key": "x" * 255}, name="x", file=upload()).status_code == 201


def test_submissions_at_once_with_a_key_make_one_job(tmp_path: Path, database_url: str) -> None:
    server = start_server(tmp_path / "server", DATABASE_URL=database_url)
    body = form({"name": "once", "file": upload()})
    answers: list[tuple[int, Any]] = []

    def send_once(kind: str, data: bytes, path: str, key: str) -> None:
        headers = {"Content-Type": kind, "Idempotency-Key": key}
        request = urllib.request.Request(f"{server.url}{path}", data, headers, method="POST")
        with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
            answers.append((answer.status, json.load(answer)["id"]))

    def at_once(*arguments: Any) -> list[tuple[int, Any]]:
        answers.clear()
        threads = [threading.Thread(target=send_once, args=arguments) for _ in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return sorted(answers)

    by_form = at_once(body["content_type"], body["data"], "/api/jobs", "one")
    assert by_form == [(200, 1)] * 11 + [(201, 1)]
    by_retry = at_once("application/json", b"", "/api/jobs/1/retry", "two")
    assert [status for status, _ in by_retry] == [200] * 11 + [201]
    assert len({job_id for _, job_id in by_retry}) == 1
    with urllib.request.urlopen(f"{server.url}/api/jobs/1") as answer:
        sha256 = json.load(answer)["bundle"]["sha256"]
    message = json.dumps({"name": "by JSON", "bundle": sha256}).encode()
    by_json = at_once("application/json", message, "/api/jobs", "three")
    assert [status for status, _ in by_json] == [200] * 11 + [201]
    with urllib.request.urlopen(f"{server.url}/api/jobs") as answer:
        assert len(json.load(answer)["jobs"]) == 3
