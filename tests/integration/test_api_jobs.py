"""The jobs of the API: handed in, listed, and refused with a sentence where they must be."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.application import Application, application, bundle, form, upload
from werkzeug.test import TestResponse

from dtrain.protocol.messages import Job


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """A server for tests that leave nothing behind."""
    with application(tmp_path_factory.mktemp("standing")) as found:
        yield found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Application]:
    with application(tmp_path) as found:
        yield found


def assert_problem(
    answer: TestResponse, status: int, *words: str, field: str | None = None
) -> None:
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    problem = answer.json or {}
    assert problem["status"] == status
    assert problem["code"]
    assert problem["title"]
    assert problem.get("field") == field
    assert "\n" not in problem["detail"]
    assert len(problem["detail"]) < 1000
    for word in words:
        assert word in problem["detail"]


def post(server: Application, **changes: Any) -> TestResponse:
    fields = {"name": "a job", "file": upload(), **changes}
    given = {name: value for name, value in fields.items() if value is not None}
    return server.client.post("/api/jobs", **form(given))


def stored_files(server: Application) -> list[Path]:
    folder = server.services.settings.job_bundles_folder
    return [path for path in folder.rglob("*") if path.is_file()]


def test_submission_answers_with_the_job_and_its_address(server: Application) -> None:
    answer = post(
        server,
        name="My Training Job",
        main_entry="train.py",
        requirements_file="needs.txt",
        file=upload(bundle({"train.py": "", "needs.txt": ""})),
        args=["--lr", "0.1"],
        tags=["a", "b"],
        env=["SEED=7", "X=a=b"],
        labels="room=lab",
        priority="5",
        time_limit="15m",
        cpus="1.5",
    )
    assert answer.status_code == 201
    job = answer.json or {}
    assert answer.headers["Location"] == f"/api/jobs/{job['id']}"
    assert (job["name"], job["status"], job["phase"]) == ("My Training Job", "pending", "queued")
    assert set(job) == set(Job.__struct_fields__)
    spec = job["spec"]
    assert spec["args"] == ["--lr", "0.1"]
    assert spec["tags"] == ["a", "b"]
    assert spec["env"] == {"SEED": "7", "X": "a=b"}
    assert spec["labels"] == {"room": "lab"}
    assert (spec["priority"], spec["time_limit"], spec["cpus"]) == (5, 900, 1.5)
    assert job["created_at"].endswith("Z")
    assert server.client.get(answer.headers["Location"]).json == job


def test_submission_leaves_out_what_is_empty(server: Application) -> None:
    spec = server.submit(priority="", tags="", csrf_token="x", main_entry="")["spec"]
    assert (spec["priority"], spec["tags"], spec["main_entry"]) == (0, [], "main.py")


@pytest.mark.parametrize(
    ("fields", "status", "field", "words"),
    [
        ({"name": None}, 422, "name", ["name"]),
        ({"name": "  "}, 422, "name", ["name"]),
        ({"name": "x" * 10_000}, 422, "name", ["name"]),
        ({"name": "a\0b"}, 422, "name", ["character"]),
        ({"name": "a\nb"}, 422, "name", ["control character"]),
        ({"name": ["one", "two"]}, 422, "name", ["twice"]),
        ({"priority": "9" * 30}, 422, "priority", ["priority"]),
        ({"priority": "-1"}, 422, "priority", ["priority"]),
        ({"gpus": str(2**70)}, 422, "gpus", ["gpus"]),
        ({"memory_gb": "NaN"}, 422, "memory_gb", ["memory_gb"]),
        ({"cpus": "1e999"}, 422, "cpus", ["cpus"]),
        ({"time_limit": "soon"}, 422, "time_limit", ["time_limit", "15m"]),
        ({"env": "no equals sign"}, 422, "env", ["NAME=value"]),
        ({"nmae": "x"}, 422, "nmae", ["nmae"]),
        ({"main_entry": "train.py"}, 422, "main_entry", ["train.py", "main.py"]),
        (
            {"requirements_file": "needs.txt"},
            422,
            "requirements_file",
            ["needs.txt", "put what requirements_file names"],
        ),
        ({"file": None}, 422, "file", ["file"]),
        ({"file": "bundle.zip"}, 422, "file", ["-F file=@"]),
        ({"file": upload(b"", "")}, 422, "file", ["file"]),
        ({"bundle": upload()}, 422, "bundle", ["file"]),
        ({"file": [upload(), upload()]}, 422, "file", ["twice"]),
    ],
)
def test_submission_is_refused_with_the_field_and_leaves_nothing(
    standing: Application, fields: dict[str, Any], status: int, field: str, words: list[str]
) -> None:
    assert_problem(post(standing, **fields), status, *words, field=field)
    assert (standing.client.get("/api/jobs").json or {})["jobs"] == []


@pytest.mark.parametrize(
    ("files", "given", "stored"),
    [
        (["requirements.txt", "uv.lock", "pyproject.toml"], None, "requirements.txt"),
        (["uv.lock", "pyproject.toml"], None, "uv.lock"),
        (["uv.lock", "pyproject.toml"], "requirements.txt", "uv.lock"),
        (["uv.lock", "pyproject.toml"], "pyproject.toml", "pyproject.toml"),
        ([], "requirements.txt", None),
    ],
)
def test_job_says_what_is_installed_for_it(
    server: Application, files: list[str], given: str | None, stored: str | None
) -> None:
    content = bundle({"main.py": "", **dict.fromkeys(files, "")})
    answer = post(server, file=upload(content), requirements_file=given)
    assert (answer.json or {})["spec"]["requirements_file"] == stored


@pytest.mark.parametrize(
    "content", [b"", b"not a ZIP at all", bundle()[:-30]], ids=["nothing", "text", "cut off"]
)
def test_submission_of_something_else_than_a_zip_is_refused(
    standing: Application, content: bytes
) -> None:
    answer = post(standing, file=upload(content))
    assert 400 <= answer.status_code < 500
    assert_problem(answer, answer.status_code, "ZIP", field="file")


def test_submission_that_is_no_form_is_refused(standing: Application) -> None:
    assert_problem(standing.client.post("/api/jobs", data={"name": "x"}), 415, "-F")
    assert_problem(standing.client.post("/api/jobs"), 415, "-F")


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"", "multipart/form-data"),
        (b"", "multipart/form-data; boundary=x"),
        (b"nonsense", "multipart/form-data; boundary=x"),
        (
            b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc',
            "multipart/form-data; boundary=x",
        ),
        (b"--x\r\nno header at all\r\n\r\nabc\r\n--x--\r\n", "multipart/form-data; boundary=x"),
        (b"--x--\r\n", "multipart/form-data; boundary=x"),
    ],
)
def test_submission_with_a_broken_form_is_refused(
    server: Application, body: bytes, kind: str
) -> None:
    answer = server.client.post("/api/jobs", data=body, content_type=kind)
    assert answer.status_code in {400, 422}, answer.text
    assert answer.mimetype == "application/problem+json"
    assert stored_files(server) == []


def test_submission_that_is_too_large_is_refused_and_frees_the_disk(tmp_path: Path) -> None:
    with application(tmp_path, {"DTRAIN_MAX_UPLOAD_MB": "1"}) as server:
        one_too_many = b"\0" * (1024**2 + 1)
        assert_problem(post(server, file=upload(one_too_many)), 413)
        assert_problem(post(server, file=upload(one_too_many * 4)), 413)
        assert stored_files(server) == []


def test_submission_with_endless_fields_is_refused(standing: Application) -> None:
    many = {f"field{number}": "x" for number in range(2000)}
    assert_problem(post(standing, **many), 413, "too many fields")
    assert_problem(post(standing, args="x" * 3_000_000), 413, "too long")


def test_submission_says_who_hands_it_in(server: Application) -> None:
    headers = {"DTrain-Submitter": "zo%C3%AB@lab"}
    answer = server.client.post(
        "/api/jobs", **form({"name": "a job", "file": upload()}), headers=headers
    )
    assert (answer.json or {})["submitter"] == "zoë@lab"
    again = server.client.post("/api/jobs/1/retry", headers={"DTrain-Submitter": "yan@lab"})
    assert (again.json or {})["submitter"] == "yan@lab"
    bad = server.client.post("/api/jobs/1/retry", headers={"DTrain-Submitter": "a%0Ab"})
    assert_problem(bad, 422, "DTrain-Submitter", field="DTrain-Submitter")


def test_bundle_is_listed(server: Application) -> None:
    files = {"main.py": "print('hello')\n", "data/one.csv": "1,2\n"}
    assert post(server, file=upload(bundle(files))).status_code == 201
    assert server.client.get("/api/jobs/1/bundle/files").json == {
        "files": [{"path": "data/one.csv", "size": 4}, {"path": "main.py", "size": 15}],
        "expanded": 19,
    }
    assert_problem(server.client.get("/api/jobs/9/bundle/files"), 404, "no job 9")


def test_names_are_only_ever_text(server: Application) -> None:
    name = "<script>alert(1)</script>\" onmouseover='x' {{ 7*7 }} \u202e é 😀"
    job = server.submit(name=name)
    answer = server.client.get(f"/api/jobs/{job['id']}")
    assert (answer.json or {})["name"] == name
    assert answer.mimetype == "application/json"
    page = server.client.get("/").text
    assert "<script>alert" not in page
    assert "49" not in page[page.find("alert(1)") : page.find("alert(1)") + 60]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("status=done", "status"),
        ("limit=0", "limit"),
        ("limit=-1", "limit"),
        ("limit=many", "limit"),
        ("limit=1000000", "limit"),
        (f"limit={2**70}", "limit"),
        ("cursor=x", "cursor"),
        ("sort=name", "sort"),
        ("limit=1&limit=2", "limit"),
        ("q=%00", "q"),
    ],
)
def test_listing_refuses_parameters_it_cannot_take(
    standing: Application, query: str, field: str
) -> None:
    assert_problem(standing.client.get(f"/api/jobs?{query}"), 422, field, field=field)


@pytest.mark.parametrize(
    "path",
    [
        "/api/jobs/1",
        "/api/jobs/0",
        "/api/jobs/9223372036854775807",
        "/api/jobs/9223372036854775808",
        f"/api/jobs/{'9' * 5000}",
        "/api/jobs/-1",
        "/api/jobs/x",
        "/api/jobs/%D9%A1",
        "/api/jobs/1%00",
        "/api/jobs/1/",
        "/api//jobs",
        "/api/jobs/1/explain",
        "/api/jobs/1/events",
        "/api/jobs/1/logs",
        "/api/jobs/1/metrics",
        "/api/jobs/1/artifacts",
        "/api/jobs/1/artifacts/model.pt",
        "/api/jobs/1/artifacts/%00",
        "/api/jobs/1/bundle",
        "/api/jobs/1/stream",
        "/api/workers/nobody",
        "/api/workers/%00",
        "/api",
        "/api/",
        "/api/nothing",
    ],
)
def test_unknown_addresses_are_not_found(standing: Application, path: str) -> None:
    assert_problem(standing.client.get(path), 404)


def test_methods_that_an_address_does_not_take_are_named(standing: Application) -> None:
    answer = standing.client.patch("/api/jobs")
    assert_problem(answer, 405, "GET", "POST")
    assert "POST" in answer.headers["Allow"]


def test_jobs_are_cancelled_retried_explained_and_deleted(server: Application) -> None:
    job = server.submit()
    path = f"/api/jobs/{job['id']}"
    assert "summary" in (server.client.get(f"{path}/explain").json or {})
    assert (server.client.post(f"{path}/cancel").json or {})["status"] == "cancelled"
    assert (server.client.post(f"{path}/cancel").json or {})["status"] == "cancelled"
    events = (server.client.get(f"{path}/events").json or {})["events"]
    assert len(events) >= 2
    retried = server.client.post(f"{path}/retry")
    assert retried.status_code == 201
    assert (retried.json or {})["retry_of"] == job["id"]
    assert retried.headers["Location"] == f"/api/jobs/{(retried.json or {})['id']}"
    deleted = server.client.delete(path)
    assert (deleted.status_code, deleted.data) == (204, b"")
    assert_problem(server.client.get(path), 404)
    assert_problem(server.client.delete(path), 404)


def test_bundle_comes_back_as_an_attachment_with_ranges(server: Application) -> None:
    content = bundle({"main.py": "print(1)\n"})
    job = server.submit(file=upload(content))
    path = f"/api/jobs/{job['id']}/bundle"
    whole = server.client.get(path)
    assert whole.data == content
    assert whole.headers["Content-Type"] == "application/zip"
    assert whole.headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in whole.headers["Content-Security-Policy"]
    assert whole.headers["X-Content-Type-Options"] == "nosniff"
    assert whole.headers["ETag"] == f'"{job["bundle"]["sha256"]}"'
    part = server.client.get(path, headers={"Range": "bytes=2-5"})
    assert (part.status_code, part.data) == (206, content[2:6])
    assert part.headers["Content-Range"] == f"bytes 2-5/{len(content)}"
    assert (
        server.client.get(path, headers={"If-None-Match": whole.headers["ETag"]}).status_code == 304
    )
    beyond = server.client.get(path, headers={"Range": "bytes=99999-"})
    assert_problem(beyond, 416)
    assert beyond.headers["Content-Range"] == f"bytes */{len(content)}"
    assert server.client.get(path, headers={"Range": "bytes=0-1,3-4"}).data == content
    last = server.client.get(path, headers={"Range": "bytes=-4"})
    assert last.data == content[-4:]
    old = {"Range": "bytes=2-5", "If-Range": '"another"'}
    assert server.client.get(path, headers=old).data == content
    assert server.client.get(path, headers={"Range": "lines=1"}).data == content
    head = server.client.head(path)
    assert (head.headers["Content-Length"], head.data) == (str(len(content)), b"")


def test_a_mistake_of_the_server_is_a_problem_that_tells_nothing(
    server: Application, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise RuntimeError("the secret of the house")

    server.app.add_url_rule("/api/fails", "fails", fail)
    server.app.add_url_rule("/fails", "fails_as_page", fail)
    answer = server.client.get("/api/fails")
    assert_problem(answer, 500)
    assert "secret" not in answer.text
    page = server.client.get("/fails")
    assert (page.status_code, page.mimetype) == (500, "text/html")
    assert "secret" not in page.text
    assert "the secret of the house" in caplog.text


def test_a_database_that_is_gone_is_said_to_be_so(server: Application) -> None:
    with server.services.database.read() as connection:
        connection.exec_driver_sql("PRAGMA query_only=OFF")
        connection.exec_driver_sql("ALTER TABLE jobs RENAME TO jobs_gone")
        connection.commit()
    assert_problem(server.client.get("/api/jobs"), 500)


def test_errors_outside_the_api_are_pages(standing: Application) -> None:
    page = standing.client.get("/jobs/77")
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert standing.client.get("/nothing").mimetype == "text/html"


def test_health_and_metrics_are_told(server: Application) -> None:
    server.submit()
    assert server.client.get("/healthz").text == "ok\n"
    assert server.client.get("/readyz").text == "ready\n"
    metrics = server.client.get("/metrics")
    assert metrics.headers["Content-Type"].startswith("text/plain")
    for line in (
        'dtrain_jobs{status="pending"} 1.0',
        'dtrain_workers{state="online"} 0.0',
        "dtrain_held_polls 0.0",
        "dtrain_streams 0.0",
        "dtrain_log_bytes_total ",
    ):
        assert f"\n{line}" in metrics.text
