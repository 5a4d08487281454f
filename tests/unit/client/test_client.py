from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.example_job import zip_of
from support.http_peer import Answer, Asked, Exchange, Peer
from support.messages import job, job_json
from support.processes import PATIENCE
from werkzeug.datastructures import MultiDict
from werkzeug.formparser import parse_form_data

import dtrain
from dtrain.client.client import Client
from dtrain.client.once import TRIES
from dtrain.protocol.errors import DTrainError, Invalid, NotFound, Unavailable, Unreachable
from dtrain.protocol.spec import FIELDS
from dtrain.protocol.states import Status

JOBS = "/api/jobs"


@pytest.fixture
def client(server: Peer) -> Iterator[Client]:
    made = Client(server.url)
    yield made
    made.close()


def created(exchange: Exchange) -> None:
    exchange.reply(201, job_json(id=42))


def form_of(asked: Asked) -> tuple[MultiDict[str, str], bytes, str]:
    """The fields, the content and the name of the file that a server finds in a request."""
    environ = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": asked.headers["content-type"],
        "CONTENT_LENGTH": asked.headers["content-length"],
        "wsgi.input": io.BytesIO(asked.body),
    }
    _, fields, files = parse_form_data(environ)
    with files["file"].stream as file:
        return fields, file.read(), files["file"].filename or ""


def sent_spec(asked: Asked) -> dict[str, Any]:
    """The fields of the spec that a request brings, in a form or as JSON."""
    if asked.headers["content-type"] == "application/json":
        return dict(json.loads(asked.body))
    return dict(json.loads(form_of(asked)[0]["spec"]))


# Where the server is.


def test_client_is_the_packages_own_name() -> None:
    assert dtrain.Client is Client
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        dtrain.Nothing  # noqa: B018  that is the test


def test_importing_the_package_imports_little() -> None:
    code = "import sys, dtrain; print(sorted(sys.modules.keys() & {'urllib3', 'msgspec', 'click'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_client_finds_the_server_in_this_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DTRAIN_SERVER_URL", raising=False)
    assert Client().url == "http://localhost:5000"
    monkeypatch.setenv("DTRAIN_SERVER_URL", "http://train.example:5000/")
    assert Client().url == "http://train.example:5000"
    assert Client("http://other").url == "http://other"


def test_client_sends_the_token_of_the_environment(
    server: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.on("/api/jobs/1", lambda exchange: exchange.reply(body=job_json()))
    monkeypatch.setenv("DTRAIN_TOKEN", "from-environment")
    Client(server.url).jobs.get(1)
    Client(server.url, "given").jobs.get(1)
    sent = [asked.headers["authorization"] for asked in server.asked]
    assert sent == ["Bearer from-environment", "Bearer given"]


# Handing in.


def test_submit_packs_a_folder_and_names_the_job_after_it(
    server: Peer, client: Client, folder: Path
) -> None:
    server.on(JOBS, created)
    summaries = []
    made = client.submit(folder, packed=summaries.append)
    assert made.id == 42
    assert made.status is Status.PENDING
    assert made.spec.main_entry == "main.py"
    fields, content, name = form_of(server.asked[0])
    assert dict(fields) == {"spec": '{"name":"my-training"}'}
    assert name == "my-training.zip"
    assert zipfile.ZipFile(io.BytesIO(content)).read("main.py") == b"print('hello')\n"
    assert summaries[0].files == 1


def test_submit_of_the_present_folder_has_its_name(
    server: Peer, client: Client, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.on(JOBS, created)
    monkeypatch.chdir(folder)
    client.submit(".")
    assert sent_spec(server.asked[0]) == {"name": "my-training"}


def test_submit_sends_a_zip_as_it_is(server: Peer, client: Client, tmp_path: Path) -> None:
    path = tmp_path / "given.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("main.py", "1")
    server.on(JOBS, created)
    client.submit(str(path), name="A Name")
    _, content, _ = form_of(server.asked[0])
    assert sent_spec(server.asked[0]) == {"name": "A Name"}
    assert content == path.read_bytes()


def test_submit_brings_every_field_to_the_server_as_it_was_given(
    server: Peer, client: Client, folder: Path
) -> None:
    server.on(JOBS, created)
    given: dict[str, Any] = {
        "name": "Größe ✓",
        "main_entry": "src/train.py",
        "args": ["--text", " two\nlines ", "", "--rate=0.1"],
        "requirements_file": "needs.txt",
        "python": "3.11",
        "env": {"A": "1", "B": "x=y\nz"},
        "tags": ["one", "two"],
        "priority": 7,
        "cpus": 1.5,
        "memory_gb": 0.25,
        "gpus": 0,
        "labels": {"disk": "ssd", "zone": "a"},
        "time_limit": "2h",
        "max_retries": 3,
        "on_partition": "stop",
        "image": "python:3.11-slim",
        "executor": "docker",
    }
    client.submit(folder, **given)
    assert sent_spec(server.asked[0]) == {**given, "time_limit": 7200.0}
    assert set(given) == set(FIELDS)


@pytest.mark.parametrize(
    "spec",
    [
        {"args": ["--verbose"]},
        {"args": ["a, b"]},
        {"args": ["two\nlines"]},
        {"args": [""]},
        {"env": {"A": " two,\nlines "}},
        {"labels": {"a": "b,c"}},
        {"requirements_file": None},
    ],
)
def test_submit_brings_a_single_item_as_it_was_given(
    spec: dict[str, Any], server: Peer, client: Client, folder: Path
) -> None:
    server.on(JOBS, created)
    client.submit(folder, **spec)
    assert sent_spec(server.asked[0]) == {"name": "my-training", **spec}


def test_submit_sends_nothing_of_what_was_not_said(
    server: Peer, client: Client, folder: Path
) -> None:
    server.on(JOBS, created)
    client.submit(folder, python=None, args=None, image="")
    assert sent_spec(server.asked[0]) == {"name": "my-training"}


def test_submit_leaves_to_the_server_what_dtrain_yaml_says(
    server: Peer, client: Client, folder: Path
) -> None:
    (folder / "dtrain.yaml").write_text("name: From the file\ntime_limit: 2h\ngpus: 1\n")
    server.on(JOBS, created)
    client.submit(folder, gpus=2)
    client.submit(folder, name="From the call")
    assert [sent_spec(asked) for asked in server.asked] == [{"gpus": 2}, {"name": "From the call"}]


def test_submit_names_the_job_after_its_folder_where_dtrain_yaml_does_not(
    server: Peer, client: Client, folder: Path, tmp_path: Path
) -> None:
    (folder / "dtrain.yaml").write_text("gpus: 1\n")
    server.on(JOBS, created)
    client.submit(folder)
    client.submit(zip_of(tmp_path / "a.zip", {"main.py": "1", "dtrain.yaml": "name: In the ZIP"}))
    assert [sent_spec(asked) for asked in server.asked] == [{"name": "my-training"}, {}]


@pytest.mark.parametrize(
    ("content", "field", "said"),
    [
        ("priority: 500\n", "priority", "In dtrain.yaml: the field priority"),
        ("gpu: 1\n", "gpu", "In dtrain.yaml, line 1: there is no field 'gpu'"),
        ("name: [\n", "dtrain.yaml", "In dtrain.yaml, line 2"),
    ],
)
def test_submit_finds_fault_with_dtrain_yaml_before_anything_is_sent(
    content: str, field: str, said: str, server: Peer, client: Client, folder: Path
) -> None:
    (folder / "dtrain.yaml").write_text(content)
    with pytest.raises(Invalid, match=said) as caught:
        client.submit(folder)
    assert caught.value.field == field
    assert server.asked == []


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"priority": 101}, "priority"),
        ({"colour": "red"}, "colour"),
        ({"time_limit": "soon"}, "time_limit"),
        ({"env": ["A"]}, "env"),
        ({"name": "x" * 10_000}, "name"),
    ],
)
def test_submit_refuses_a_wrong_field_before_anything_is_sent(
    spec: dict[str, Any], field: str, server: Peer, client: Client, folder: Path
) -> None:
    with pytest.raises(Invalid) as caught:
        client.submit(folder, **spec)
    assert caught.value.field == field
    assert server.asked == []


def test_submit_names_a_path_that_is_not_there(client: Client, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="There is no folder or ZIP file"):
        client.submit(tmp_path / "nothing")


def test_submit_refuses_a_file_that_is_no_zip(client: Client, folder: Path) -> None:
    with pytest.raises(Invalid, match="neither a folder nor a ZIP file"):
        client.submit(folder / "main.py")


def _answer_is_lost(exchange: Exchange) -> None:
    exchange.begin(201, "application/json", Content_Length="5000")
    exchange.cut()


def _gateway_is_down(exchange: Exchange) -> None:
    exchange.reply(502, b"<html>", "text/html")


@pytest.mark.parametrize("lost", [_answer_is_lost, _gateway_is_down, Exchange.cut])
def test_submit_tries_again_with_the_same_key_and_the_same_bytes(
    lost: Answer, server: Peer, client: Client, folder: Path
) -> None:
    server.on(JOBS, lost, lost, created)
    assert client.submit(folder).id == 42
    assert len(server.asked) == 3
    keys = {asked.headers["idempotency-key"] for asked in server.asked}
    assert len(keys) == 1
    assert len(keys.pop()) >= 16
    contents = {form_of(asked)[1] for asked in server.asked}
    assert len(contents) == 1
    client.submit(folder)
    assert len({asked.headers["idempotency-key"] for asked in server.asked}) == 2


def test_submit_gives_up_after_a_few_tries(server: Peer, client: Client, folder: Path) -> None:
    server.on(
        JOBS, lambda exchange: exchange.problem(503, "unavailable", "Disk full.", Retry_After="0")
    )
    with pytest.raises(Unavailable, match="Disk full"):
        client.submit(folder)
    assert len(server.asked) == TRIES


def _refuse(exchange: Exchange) -> None:
    exchange.problem(422, "invalid", "Not so.")


def _redirect(exchange: Exchange) -> None:
    exchange.reply(301, Location="/elsewhere")


@pytest.mark.parametrize(("answer", "kind"), [(_refuse, Invalid), (_redirect, Unreachable)])
def test_submit_does_not_repeat_what_was_refused(
    answer: Answer, kind: type[DTrainError], server: Peer, client: Client, folder: Path
) -> None:
    server.on(JOBS, answer)
    with pytest.raises(kind):
        client.submit(folder)
    assert len(server.asked) == 1


# Asking.


def test_jobs_list_passes_on_filters_and_reads_pages(server: Peer, client: Client) -> None:
    page = {"jobs": [job(id=2), job(id=1)], "next": "1"}
    server.on(JOBS, lambda exchange: exchange.json(page))
    found = client.jobs.list(status="pending", q="a&b", limit=2)
    assert [each.id for each in found.jobs] == [2, 1]
    assert found.next == "1"
    assert server.asked[0].query == {"status": "pending", "q": "a&b", "limit": "2"}


@pytest.mark.parametrize(
    ("call", "method", "path"),
    [
        ("get", "GET", "/api/jobs/1"),
        ("cancel", "POST", "/api/jobs/1/cancel"),
        ("retry", "POST", "/api/jobs/1/retry"),
    ],
)
def test_jobs_calls_go_to_their_routes(
    call: str, method: str, path: str, server: Peer, client: Client
) -> None:
    server.on(path, lambda exchange: exchange.reply(body=job_json(status="running", new=1)))
    assert getattr(client.jobs, call)(1).status is Status.RUNNING
    assert (server.asked[0].method, server.asked[0].path) == (method, path)


def test_jobs_delete_reads_an_empty_answer(server: Peer, client: Client) -> None:
    server.on("/api/jobs/1", lambda exchange: exchange.reply(204))
    client.jobs.delete(1)
    assert server.asked[0].method == "DELETE"


def test_jobs_get_of_an_unknown_job_says_so(server: Peer, client: Client) -> None:
    server.on("/api/jobs/9", lambda exchange: exchange.problem(404, "not_found", "No job 9."))
    with pytest.raises(NotFound, match="No job 9"):
        client.jobs.get(9)


def test_download_log_asks_for_the_range_it_needs(server: Peer, client: Client) -> None:
    server.on("/api/jobs/1/logs", lambda exchange: exchange.reply(206, b"\xffog", "text/plain"))
    into = io.BytesIO()
    client.jobs.download_log(1, into)
    client.jobs.download_log(1, into, attempt=2, start=5)
    client.jobs.download_log(1, into, start=5, end=8)
    assert into.getvalue() == b"\xffog" * 3
    assert [asked.headers["accept"] for asked in server.asked] == ["text/plain"] * 3
    assert [asked.headers.get("range") for asked in server.asked] == [None, "bytes=5-", "bytes=5-7"]
    assert server.asked[1].query == {"attempt": "2"}


def test_download_artifact_keeps_slashes_and_quotes_the_rest(server: Peer, client: Client) -> None:
    path = "/api/jobs/1/artifacts/sub%20folder/50%25%23.txt"
    server.on(path, lambda exchange: exchange.reply(200, b"content", "application/octet-stream"))
    into = io.BytesIO()
    assert client.jobs.download_artifact(1, "sub folder/50%#.txt", into) == 7
    assert into.getvalue() == b"content"


def test_wait_returns_the_ended_job_over_an_outage(server: Peer, client: Client) -> None:
    server.on(
        "/api/jobs/1",
        lambda exchange: exchange.reply(body=job_json(status="running")),
        Exchange.cut,
        lambda exchange: exchange.reply(body=job_json(status="failed", reason="exit_nonzero")),
    )
    ended = client.jobs.wait(1, timeout=PATIENCE)
    assert ended.status is Status.FAILED


def test_wait_does_not_wait_longer_than_told(server: Peer, client: Client) -> None:
    server.on("/api/jobs/1", lambda exchange: exchange.reply(body=job_json(status="running")))
    with pytest.raises(TimeoutError, match="Job 1 is still running"):
        client.jobs.wait(1, timeout=0.1)
