"""Checkpoints over HTTP: what workers send, what is refused, what people get."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from support.application import Agent, Application, application
from support.disks import fill
from werkzeug.test import TestResponse

from dtrain.protocol import routes

MEBIBYTE = 1024**2


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    settings = {"DTRAIN_MAX_CHECKPOINT_MB": "1"}
    with application(tmp_path_factory.mktemp("server"), settings) as found:
        yield found


@pytest.fixture
def agent(server: Application) -> Agent:
    """A worker that has claimed a job."""
    return claimed(server)


def claimed(server: Application) -> Agent:
    server.submit()
    found = Agent(server.client)
    found.claim()
    return found


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def put(agent: Agent, content: bytes, sha256: str | None = None) -> TestResponse:
    parts = {"sha256": sha256 or sha(content)}
    return agent.report("PUT", routes.ATTEMPT_CHECKPOINT_CONTENT, parts=parts, data=content)


def keep(agent: Agent, files: Mapping[str, bytes], number: int = 1, **more: Any) -> TestResponse:
    described = [
        {"path": path, "size": len(content), "sha256": sha(content), "mode": 0o600, **more}
        for path, content in files.items()
    ]
    message = {"number": number, "files": described}
    return agent.report("POST", routes.ATTEMPT_CHECKPOINTS, json=message)


def listed(server: Application, agent: Agent) -> list[dict[str, Any]]:
    answer = server.client.get(f"/api/jobs/{agent.job_id}/checkpoints").json or {}
    found: list[dict[str, Any]] = answer["checkpoints"]
    return found


def test_checkpoint_is_kept_listed_and_downloaded(server: Application, agent: Agent) -> None:
    files = {"deep/er/state 1.pt": b"\0weights" * 1000}
    content = files["deep/er/state 1.pt"]
    assert (keep(agent, files).json or {})["missing"] == [sha(content)]
    assert listed(server, agent) == []
    assert put(agent, content).status_code == 204
    assert (keep(agent, files).json or {})["kept"]

    (found,) = listed(server, agent)
    job = server.client.get(f"/api/jobs/{agent.job_id}").json or {}
    assert job["checkpoint"] == {
        "generation": 1,
        "attempt": 1,
        "files": 1,
        "size": 8000,
        "taken_at": found["taken_at"],
    }
    assert found["taken_at"].endswith("Z")
    assert found["files"][0]["path"] == "deep/er/state 1.pt"
    path = routes.path(
        routes.JOB_CHECKPOINT_FILE,
        job_id=agent.job_id,
        generation=1,
        path="deep/er/state 1.pt",
    )
    whole = server.client.get(path)
    assert (whole.data, whole.headers["ETag"]) == (content, f'"{sha(content)}"')
    assert server.client.get(path, headers={"Range": "bytes=3-5"}).data == content[3:6]
    fetched = agent.report("GET", routes.ATTEMPT_CHECKPOINT_CONTENT, parts={"sha256": sha(content)})
    assert fetched.data == content
    kept = agent.report("GET", routes.ATTEMPT_CHECKPOINTS).json or {}
    assert [one["number"] for one in kept["generations"]] == [1]
    assert kept["limit"] == MEBIBYTE
    page = server.client.get(f"/jobs/{agent.job_id}").text
    assert "<dt>Checkpoint</dt>" in page
    assert "1 file, 8.0 kB" in page


@pytest.mark.parametrize(
    "paths",
    [
        ["/etc/passwd"],
        ["../../up"],
        ["a/../../b"],
        ["a//b"],
        ["."],
        ["line\nbreak"],
        ["nul\0"],
        ["\ud800"],
        ["x" * 256],
        ["x/" * 60 + "x"],
        ["a", "a/b"],
        ["y" * 1001],
        [],
    ],
)
def test_files_that_cannot_lie_in_one_folder_are_refused(agent: Agent, paths: list[str]) -> None:
    put(agent, b"x")
    answer = keep(agent, dict.fromkeys(paths, b"x"))
    assert answer.status_code == 422, answer.text
    kept = agent.report("GET", routes.ATTEMPT_CHECKPOINTS).json or {}
    assert kept["generations"] == []


@pytest.mark.parametrize("change", [{"mode": 0o4755}, {"mode": -1}, {"size": -1}])
def test_file_that_cannot_be_so_is_refused(agent: Agent, change: dict[str, int]) -> None:
    put(agent, b"x")
    assert keep(agent, {"a": b"x"}, **change).status_code == 422


def test_content_of_another_size_than_it_should_have_comes_once_more(
    server: Application, agent: Agent
) -> None:
    put(agent, b"whole")
    assert not (keep(agent, {"a": b"whole"}, size=4).json or {})["kept"]
    server.services.blobs.path(sha(b"whole")).write_bytes(b"who")
    assert (keep(agent, {"a": b"whole"}).json or {})["missing"] == [sha(b"whole")]
    put(agent, b"whole")
    assert (keep(agent, {"a": b"whole"}).json or {})["kept"]


def test_checkpoint_that_is_too_large_is_refused(agent: Agent) -> None:
    half = b"x" * (MEBIBYTE // 2)
    assert put(agent, half).status_code == 204
    assert keep(agent, {"a": half, "b": half}).json == {"kept": True, "newest": 1, "missing": []}
    refused = keep(agent, {"a": half, "b": half, "c": b"x"}, number=2)
    assert (refused.status_code, (refused.json or {})["code"]) == (413, "too_large")
    assert put(agent, b"y" * (MEBIBYTE + 1)).status_code == 413


def test_content_must_be_what_it_is_said_to_be(server: Application, agent: Agent) -> None:
    assert put(agent, b"content", sha(b"other")).status_code == 422
    assert put(agent, b"content", "nonsense").status_code == 422
    assert (keep(agent, {"a": b"content"}).json or {})["missing"] == [sha(b"content")]


def test_ten_thousand_files_are_kept(server: Application, agent: Agent) -> None:
    put(agent, b"x")
    files = {f"{number:05}": b"x" for number in range(10_000)}
    assert (keep(agent, files).json or {})["kept"]
    assert len(listed(server, agent)[0]["files"]) == 10_000
    assert keep(agent, {**files, "one more": b"x"}, number=2).status_code == 422


def test_contents_of_other_jobs_are_not_given(server: Application, agent: Agent) -> None:
    put(agent, b"theirs")
    keep(agent, {"a": b"theirs"})
    other = claimed(server)
    put(other, b"not kept")
    for content in (b"theirs", b"not kept"):
        parts = {"sha256": sha(content)}
        answer = other.report("GET", routes.ATTEMPT_CHECKPOINT_CONTENT, parts=parts)
        assert answer.status_code == 404


@pytest.mark.parametrize(
    "place",
    ["2/a", "0/a", "x/a", "1/b", "1/../a", "1/..%2fa", "1//a", "1/a%00", "99999999999/a"],
)
def test_files_are_found_by_their_own_path_alone(
    server: Application, agent: Agent, place: str
) -> None:
    put(agent, b"x")
    keep(agent, {"a": b"x"})
    path = f"/api/jobs/{agent.job_id}/checkpoints"
    assert server.client.get(f"{path}/1/a").status_code == 200
    assert server.client.get(f"{path}/{place}").status_code == 404
    assert server.client.get("/api/jobs/999999/checkpoints").status_code == 404


def test_full_disk_keeps_the_generation_before(tmp_path: Path, small_disk: Path) -> None:
    with application(tmp_path, {"UPLOAD_FOLDER": str(small_disk)}) as server:
        agent = claimed(server)
        put(agent, b"1")
        assert (keep(agent, {"state": b"1"}).json or {})["kept"]
        fill(small_disk / "filler")
        large = b"2" * 4096
        refused = put(agent, large)
        assert (refused.status_code, (refused.json or {})["code"]) == (507, "disk_full")
        assert not (keep(agent, {"state": large}, number=2).json or {})["kept"]
        assert [one["generation"] for one in listed(server, agent)] == [1]
        (small_disk / "filler").unlink()
        assert put(agent, large).status_code == 204
        assert (keep(agent, {"state": large}, number=2).json or {})["kept"]
