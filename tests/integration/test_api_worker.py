"""The protocol of workers over HTTP, and what comes of it for people."""

from __future__ import annotations

import base64
import hashlib
import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.application import Agent, Application, application, bearer, registration
from werkzeug.test import TestResponse

from dtrain.protocol import routes

MEBIBYTE = 1024**2


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """A server for tests that leave nothing behind."""
    with application(tmp_path_factory.mktemp("standing")) as found:
        yield found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Application]:
    with application(tmp_path) as found:
        yield found


@pytest.fixture
def agent(server: Application) -> Agent:
    """A worker that has claimed a job."""
    server.submit()
    found = Agent(server.client)
    found.claim()
    return found


def assert_problem(answer: TestResponse, status: int, code: str | None = None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.mimetype == "application/problem+json"
    problem: dict[str, Any] = answer.json or {}
    assert code in {None, problem["code"]}
    assert "\n" not in problem["detail"]
    return problem


def append(
    agent: Agent, offset: object, data: bytes, phase: str | None = None, **headers: str
) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    query = {"offset": offset} | ({} if phase is None else {"phase": phase})
    return agent.report("POST", routes.ATTEMPT_LOG, query_string=query, data=data, headers=named)


def put(agent: Agent, path: str, content: bytes, sha256: str | None = None) -> TestResponse:
    return agent.report(
        "PUT",
        routes.ATTEMPT_ARTIFACT,
        parts={"path": path},
        query_string={"sha256": sha256 or hashlib.sha256(content).hexdigest()},
        data=content,
    )


def finish(agent: Agent, **changes: Any) -> TestResponse:
    message = {"cause": "exited", "exit_code": 0, **changes}
    return agent.report("POST", routes.ATTEMPT_FINISH, json=message)


def test_worker_runs_a_job_from_claim_to_result(server: Application, agent: Agent) -> None:
    job = f"/api/jobs/{agent.job_id}"
    bundle = agent.report("GET", routes.ATTEMPT_BUNDLE)
    assert bundle.data == server.client.get(f"{job}/bundle").data
    phase = agent.report("POST", routes.ATTEMPT_PHASE, json={"phase": "executing"})
    assert (phase.status_code, phase.data) == (204, b"")
    assert (server.client.get(job).json or {})["phase"] == "executing"
    log = b'hello\nPROGRESS: {"epoch": 1, "loss": NaN}\n\xff\xfe\x00 end'
    assert append(agent, 0, log[:10]).json == {"offset": 10}
    packed = zlib.compress(log[5:])
    assert append(agent, 5, packed, Content_Encoding="deflate").json == {"offset": len(log)}
    model = b"\0weights" * 1000
    early = finish(agent, log_bytes=len(log), artifacts=[described("out/model.pt", model)])
    assert (early.status_code, (early.json or {})["missing_artifacts"]) == (202, ["out/model.pt"])
    assert put(agent, "out/model.pt", model).status_code == 204
    done = finish(agent, log_bytes=len(log), artifacts=[described("out/model.pt", model)])
    assert (done.status_code, (done.json or {})["applied"]) == (200, True)

    assert (server.client.get(job).json or {})["status"] == "completed"
    raw = server.client.get(f"{job}/logs", headers={"Accept": "text/plain"})
    assert raw.data == log
    page = server.client.get(f"{job}/logs?level=progress").json or {}
    assert [line["number"] for line in page["lines"]] == [1]
    assert (server.client.get(f"{job}/logs?tail=1&limit=1").json or {})["lines"][0]["number"] == 2
    records = (server.client.get(f"{job}/metrics").json or {})["records"]
    assert [record["values"] for record in records] == [{"epoch": 1, "loss": "NaN"}]
    listed = (server.client.get(f"{job}/artifacts").json or {})["artifacts"]
    assert [found["path"] for found in listed] == ["out/model.pt"]
    assert server.client.get(f"{job}/artifacts/out/model.pt").data == model


def test_phase_comes_with_the_log(server: Application, agent: Agent) -> None:
    def phase() -> object:
        return (server.client.get(f"/api/jobs/{agent.job_id}").json or {})["phase"]

    assert_problem(append(agent, 9, b"late", phase="executing"), 416, "log_gap")
    assert phase() == "preparing"
    assert append(agent, 0, b"hello", phase="executing").json == {"offset": 5}
    assert phase() == "executing"
    assert_problem(append(agent, 5, b"!", phase="finishing"), 422, "invalid")
    early = finish(agent, log_bytes=6)
    assert early.status_code == 202
    again = append(agent, 0, b"hello", phase="executing")  # its first answer was lost
    assert (again.json, phase()) == ({"offset": 5}, "finishing")


def test_last_of_the_log_comes_with_the_end(server: Application, agent: Agent) -> None:
    job = f"/api/jobs/{agent.job_id}"
    log = b'hello\nPROGRESS: {"epoch": 1}\nbye\n'
    append(agent, 0, log[:8])
    tail = base64.b64encode(log[3:]).decode()  # some of which is there already
    done = finish(agent, log_bytes=len(log), log_tail=tail)
    assert (done.status_code, (done.json or {})["applied"]) == (200, True)
    raw = server.client.get(f"{job}/logs", headers={"Accept": "text/plain"})
    assert raw.data == log
    assert len((server.client.get(f"{job}/metrics").json or {})["records"]) == 1
    kinds = [event["kind"] for event in (server.client.get(f"{job}/events").json or {})["events"]]
    assert kinds[-2:] == ["executing", "completed"]
    for other in (tail, base64.b64encode(b"x" * 5).decode(), ""):
        assert finish(agent, log_bytes=len(log), log_tail=other).status_code == 200
    assert server.client.get(f"{job}/logs", headers={"Accept": "text/plain"}).data == log


def test_end_of_a_log_that_has_a_gap_before_it_is_asked_for_again(agent: Agent) -> None:
    early = finish(agent, log_bytes=9, log_tail=base64.b64encode(b"1234").decode())
    assert (early.status_code, (early.json or {})["missing_log_from"]) == (202, 0)
    assert append(agent, 0, b"123456789").json == {"offset": 9}
    assert finish(agent, log_bytes=9).status_code == 200


@pytest.mark.parametrize(
    ("tail", "size"), [("1234", 2), (base64.b64encode(b"x" * 65537).decode(), 65537), ("!", 1)]
)
def test_end_of_a_log_that_cannot_be_one_changes_nothing(
    server: Application, agent: Agent, tail: str, size: int
) -> None:
    refused = finish(agent, log_bytes=size, log_tail=tail)
    assert refused.status_code == 422
    assert (server.client.get(f"/api/jobs/{agent.job_id}").json or {})["status"] == "running"


def described(path: str, content: bytes) -> dict[str, Any]:
    return {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def test_bundle_that_the_server_has_lost_is_said_to_be_lost(
    server: Application, agent: Agent
) -> None:
    """As `stale` it would have the attempt killed and its worker taken for lost."""
    for path in server.services.settings.job_bundles_folder.glob("??/*"):
        path.unlink()
    assert_problem(agent.report("GET", routes.ATTEMPT_BUNDLE), 422, "bundle_lost")


def test_raw_log_comes_in_ranges(server: Application, agent: Agent) -> None:
    append(agent, 0, b"0123456789")
    append(agent, 10, b"abcdefghij")
    path = f"/api/jobs/{agent.job_id}/logs"

    def part(value: str) -> TestResponse:
        return server.client.get(path, headers={"Accept": "text/plain", "Range": value})

    found = part("bytes=8-11")
    assert (found.status_code, found.data) == (206, b"89ab")
    assert found.headers["Content-Range"] == "bytes 8-11/20"
    assert part("bytes=15-").data == b"fghij"
    assert part("bytes=-3").data == b"hij"
    assert part("bytes=5-999").data == b"56789abcdefghij"
    beyond = part("bytes=20-")
    assert assert_problem(beyond, 416)["offset"] == 20
    assert beyond.headers["Content-Range"] == "bytes */20"
    for odd in ("bytes=x", "bytes=9-2", "lines=0-1", "bytes=0-1,3-4", "bytes=" + "9" * 5000):
        assert part(odd).status_code in {200, 416}


def test_log_of_a_job_that_has_not_run_is_empty(server: Application) -> None:
    path = f"/api/jobs/{server.submit()['id']}/logs"
    assert (server.client.get(path).json or {})["lines"] == []
    assert server.client.get(path, headers={"Accept": "text/plain"}).data == b""


def test_log_is_json_unless_text_is_asked_for(server: Application, agent: Agent) -> None:
    append(agent, 0, b"<b>x</b>\n")
    path = f"/api/jobs/{agent.job_id}/logs"
    for accept in ("*/*", "application/json", "text/html,*/*;q=0.8", ""):
        assert server.client.get(path, headers={"Accept": accept}).mimetype == "application/json"
    raw = server.client.get(path, headers={"Accept": "text/plain"})
    assert raw.headers["Content-Type"].startswith("text/plain")
    assert raw.headers["X-Content-Type-Options"] == "nosniff"
    assert "Accept" in raw.headers["Vary"]


@pytest.mark.parametrize(
    "query",
    [
        "after=-1",
        "after=x",
        "limit=0",
        "limit=10001",
        f"attempt={2**31}",
        f"after={2**63}",
        "level=LOUD",
        "tail=perhaps",
        "from=1",
    ],
)
def test_log_refuses_parameters_it_cannot_take(
    server: Application, agent: Agent, query: str
) -> None:
    answer = server.client.get(f"/api/jobs/{agent.job_id}/logs?{query}")
    assert assert_problem(answer, 422)["field"] == query.partition("=")[0]


def test_log_with_a_gap_says_where_it_goes_on(agent: Agent) -> None:
    append(agent, 0, b"12345")
    assert assert_problem(append(agent, 9, b"x"), 416, "log_gap")["offset"] == 5


@pytest.mark.parametrize("offset", ["", "-1", "x", str(2**53 + 1), "1.5"])
def test_log_wants_an_offset(agent: Agent, offset: str) -> None:
    assert_problem(append(agent, offset, b"x"), 422)


def test_log_that_is_too_long_is_refused(agent: Agent) -> None:
    assert append(agent, 0, b"x" * MEBIBYTE).status_code == 200
    assert_problem(append(agent, MEBIBYTE, b"x" * (MEBIBYTE + 1)), 413)
    assert_problem(append(agent, MEBIBYTE, b"x" * (3 * MEBIBYTE)), 413)


def test_log_is_unpacked_within_bounds(agent: Agent) -> None:
    whole = zlib.compress(b"x" * MEBIBYTE)
    assert append(agent, 0, whole, Content_Encoding="deflate").json == {"offset": MEBIBYTE}
    bomb = zlib.compress(b"\0" * (64 * MEBIBYTE))
    assert_problem(append(agent, MEBIBYTE, bomb, Content_Encoding="deflate"), 413)


@pytest.mark.parametrize(
    "body",
    [b"", b"no zlib", zlib.compress(b"x" * 1000)[:-1], zlib.compress(b"x") + b"more", b"\x78\x9c"],
)
def test_log_that_is_not_whole_is_refused(server: Application, agent: Agent, body: bytes) -> None:
    assert_problem(append(agent, 0, body, Content_Encoding="deflate"), 400, "not_deflate")
    assert (server.client.get(f"/api/jobs/{agent.job_id}").json or {})["log_bytes"] == 0


def test_log_in_another_encoding_is_refused(agent: Agent) -> None:
    assert_problem(append(agent, 0, b"x", Content_Encoding="gzip"), 415)


def test_artifact_must_be_what_it_is_said_to_be(server: Application, agent: Agent) -> None:
    assert_problem(put(agent, "a", b"content", "0" * 64), 422, "sha256_mismatch")
    assert_problem(put(agent, "a", b"content", "nonsense"), 422)
    folder = server.services.settings.upload_folder
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_artifact_that_is_too_large_is_refused(tmp_path: Path) -> None:
    with application(tmp_path, {"DTRAIN_MAX_ARTIFACT_MB": "1"}) as server:
        server.submit()
        agent = Agent(server.client)
        agent.claim()
        assert put(agent, "a", b"x" * MEBIBYTE).status_code == 204
        assert_problem(put(agent, "b", b"y" * (MEBIBYTE + 1)), 413)


@pytest.mark.parametrize(
    "name",
    [
        "plot.png",
        "ein Modell.pt",
        "a'b\"c;d.txt",
        "日本.csv",
        "page.html",
        "line\nbreak\r\nX: 1",
        "\x1b]8;;http://evil\x07",
        "a" * 900,
        "deep/er/file",
        "x#y?z%2e",
        "..\\..\\up",
    ],
)
def test_artifact_of_any_name_comes_back_under_it_and_does_no_harm(
    server: Application, agent: Agent, name: str
) -> None:
    stored = put(agent, name, b"<script>alert(1)</script>")
    if stored.status_code != 204:
        assert 400 <= stored.status_code < 500
        return
    finish(agent, artifacts=[described(name, b"<script>alert(1)</script>")])
    answer = server.client.get(routes.path(routes.JOB_ARTIFACT, job_id=agent.job_id, path=name))
    assert answer.data == b"<script>alert(1)</script>"
    assert answer.headers["Content-Disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["Content-Security-Policy"]
    assert answer.mimetype == ("image/png" if name == "plot.png" else "application/octet-stream")
    assert "X" not in answer.headers
    for _, value in answer.headers:
        assert value.isprintable()


@pytest.mark.parametrize(
    "path",
    [
        "../model",
        "..%2fmodel",
        "..%252fmodel",
        "%2e%2e/model",
        ";/../model",
        "#model",
        "\\..\\model",
        "//model",
        "/etc/passwd",
        "%2fetc%2fpasswd",
        "model%00",
    ],
)
def test_artifacts_are_found_by_their_own_path_alone(
    server: Application, agent: Agent, path: str
) -> None:
    put(agent, "out/model", b"x")
    finish(agent, artifacts=[described("out/model", b"x")])
    answer = server.client.get(f"/api/jobs/{agent.job_id}/artifacts/out/{path}")
    assert answer.status_code == 404


def test_attempt_needs_its_secret(agent: Agent) -> None:
    calls = [
        ("GET", routes.ATTEMPT_BUNDLE, {}),
        ("POST", routes.ATTEMPT_PHASE, {"json": {"phase": "executing"}}),
        ("POST", routes.ATTEMPT_LOG, {"query_string": {"offset": 0}, "data": b"x"}),
        (
            "PUT",
            routes.ATTEMPT_ARTIFACT,
            {"parts": {"path": "a"}, "query_string": {"sha256": "0" * 64}},
        ),
        ("POST", routes.ATTEMPT_FINISH, {"json": {"cause": "exited"}}),
    ]
    for method, template, options in calls:
        without = agent.report(method, template, headers={routes.SECRET_HEADER: ""}, **options)
        assert_problem(without, 403, "no_secret")
        other = {routes.SECRET_HEADER: "x" * 43}
        assert_problem(agent.report(method, template, headers=other, **options), 409, "stale")


def test_workers_are_listed_drained_and_resumed(server: Application, agent: Agent) -> None:
    listed = (server.client.get("/api/workers").json or {})["workers"]
    assert [(found["id"], found["jobs"]) for found in listed] == [(agent.id, [agent.job_id])]
    path = f"/api/workers/{agent.id}"
    assert (server.client.post(f"{path}/drain").json or {})["state"] == "draining"
    assert (server.client.post(f"{path}/resume").json or {})["state"] == "online"
    assert (server.client.get(path).json or {})["name"] == "w"


def send(server: Application, body: bytes, **options: Any) -> TestResponse:
    headers = bearer("your-worker-token")
    options = {"content_type": "application/json", **options}
    return server.client.post(routes.REGISTER, data=body, headers=headers, **options)


def changed(text: str) -> bytes:
    """A registration whose host name is this JSON."""
    return json.dumps(registration(hostname="@")).replace('"@"', text).encode()


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not JSON"),
        (b"{", 400, "not JSON"),
        (b"\xff\xfe", 400, "UTF-8"),
        (b"\xef\xbb\xbf{}", 400, "not JSON"),
        ("{}".encode("utf-16"), 400, "UTF-8"),
        (b"[" * 200_000, 400, "nested"),
        (b'{"a":' * 200_000, 400, "nested"),
        (b"[]", 422, "body"),
        (b"null", 422, "body"),
        (b"{}", 422, "protocol"),
        (changed("7"), 422, "hostname"),
        (changed('"x", "hostname": "y"'), 422, "twice"),
        (changed('"x", "hostnmae": "y"'), 422, "hostnmae"),
        (changed(r'"\ud800"'), 422, "hostname"),
        (changed(r'"a\u0000b"'), 422, "hostname"),
        (changed(r'"x", "\ud800": 1'), 422, "stored"),
        (changed("NaN"), 422, "NaN"),
        (changed("-Infinity"), 422, "Infinity"),
        (changed('"x", "protocol": 9223372036854775808'), 422, "too large"),
        (changed('"x", "protocol": ' + "9" * 5000), 422, "too large"),
        (changed('"x", "protocol": 1e999'), 422, "too large"),
        (changed('"' + "x" * 300 + '"'), 422, "hostname"),
        (changed('"' + "x" * 3_000_000 + '"'), 413, "larger"),
    ],
)
def test_message_that_is_not_one_is_refused(
    standing: Application, body: bytes, status: int, words: str
) -> None:
    assert words in assert_problem(send(standing, body), status)["detail"]
    assert (standing.client.get("/api/workers").json or {})["workers"] == []


def test_message_must_be_said_to_be_json(server: Application) -> None:
    good = json.dumps(registration()).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        assert_problem(send(server, good, content_type=kind), 415)
    assert send(server, good, content_type="application/json; charset=utf-8").status_code == 200


def test_worker_of_another_protocol_is_told_to_upgrade(server: Application) -> None:
    body = json.dumps(registration(protocol=99)).encode()
    assert_problem(send(server, body), 426, "version")


def test_poll_beyond_the_bound_is_answered_at_once(tmp_path: Path) -> None:
    with application(tmp_path, {"DTRAIN_MAX_HELD_POLLS": "1"}) as server:
        agent = Agent(server.client)
        held = server.app.extensions["dtrain.held"]
        assert held.polls.enter()
        answer = agent.call("POST", routes.POLL, json=agent.poll_message(wait=60))
        assert answer.status_code == 200
        assert held.polls.inside == 1


def test_stream_beyond_the_bound_is_refused_for_a_while(tmp_path: Path) -> None:
    with application(tmp_path, {"DTRAIN_MAX_STREAMS": "1"}) as server:
        first = server.client.get("/api/stream")
        assert first.status_code == 200
        refused = server.client.get("/api/stream")
        assert_problem(refused, 503, "too_many_streams")
        assert int(refused.headers["Retry-After"]) > 0
        first.close()
        again = server.client.get("/api/stream")
        assert again.status_code == 200
        again.close()
        for _ in range(3):
            assert server.client.head("/api/stream").status_code == 200
        last = server.client.get("/api/stream")
        assert last.status_code == 200
        last.close()


@pytest.mark.parametrize("last_id", ["x", "-1", "1.2", "9" * 30, "٣"])
def test_stream_refuses_an_id_that_is_none(server: Application, last_id: str) -> None:
    job = server.submit()
    headers = {"Last-Event-ID": last_id.encode().decode("latin-1")}
    assert_problem(server.client.get("/api/stream", headers=headers), 422)
    path = f"/api/jobs/{job['id']}/stream"
    assert_problem(server.client.get(path, headers=headers), 422)


def test_stream_of_an_ended_job_tells_all_and_ends(server: Application, agent: Agent) -> None:
    append(agent, 0, b'hello\nPROGRESS: {"step": 3}\n')
    finish(agent, log_bytes=28)
    path = f"/api/jobs/{agent.job_id}/stream"
    answer = server.client.get(path)
    assert answer.mimetype == "text/event-stream"
    assert answer.headers["X-Accel-Buffering"] == "no"
    messages = answer.text.split("\n\n")
    assert messages[0] == "retry: 2000"
    events = [dict(line.split(": ", 1) for line in m.split("\n")) for m in messages[1:-1]]
    kinds = [event["event"] for event in events]
    assert kinds[0] == "job"
    assert kinds[-1] == "end"
    assert "".join(json.loads(e["data"])["text"] for e in events if e["event"] == "log") == (
        'hello\nPROGRESS: {"step": 3}\n'
    )
    resumed = server.client.get(path, headers={"Last-Event-ID": events[-2]["id"]})
    assert "event: log" not in resumed.text
    assert "event: end" in resumed.text
