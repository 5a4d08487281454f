"""What people take away: whole, in ranges, only when it is new, and under a harmless name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from email.message import Message
from urllib.parse import quote, unquote

import pytest
from support.application import Agent, Application, application
from werkzeug.test import TestResponse

from dtrain.protocol import routes
from dtrain.server.api import GROUPS

CONTENT = bytes(range(256)) * 40
LOG = b"one\ntwo\nthree\n"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    """A server on which the first job has left artifacts in two attempts."""
    with application(tmp_path_factory.mktemp("downloads")) as found:
        found.submit(max_retries="1")
        agent = Agent(found.client)
        agent.claim()
        leave(agent, "model.pt", b"of the first")
        end(agent, 1, "model.pt", b"of the first")
        found.services.clock.time = lambda: 2e10  # type: ignore[method-assign]  # the retry is due
        agent.secret = "s" * 43
        agent.claim()
        for path in (
            "model.pt",
            "out/plot.png",
            'données \u202e"1"; x.txt',
            "a\t\x1b\x9fb",
            "<b>.html",
        ):
            leave(agent, path, CONTENT)
        agent.report("POST", routes.ATTEMPT_LOG, query_string={"offset": 0}, data=LOG)
        yield found


def leave(agent: Agent, path: str, content: bytes) -> None:
    answer = agent.report(
        "PUT",
        routes.ATTEMPT_ARTIFACT,
        parts={"path": path},
        query_string={"sha256": hashlib.sha256(content).hexdigest()},
        data=content,
    )
    assert answer.status_code == 204, answer.text


def end(agent: Agent, exit_code: int, path: str, content: bytes) -> None:
    left = {"path": path, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    message = {"cause": "exited", "exit_code": exit_code, "artifacts": [left]}
    assert agent.report("POST", routes.ATTEMPT_FINISH, json=message).status_code == 200


def get(server: Application, path: str, **headers: str) -> TestResponse:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return server.client.get(f"/api/jobs/1/{path}", headers=named)


@pytest.mark.parametrize("path", ["artifacts/model.pt", "bundle"])
def test_content_comes_whole_in_ranges_and_only_when_it_is_new(
    server: Application, path: str
) -> None:
    whole = get(server, path)
    content, etag = whole.data, whole.headers["ETag"]
    assert etag == f'"{hashlib.sha256(content).hexdigest()}"'
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert int(whole.headers["Content-Length"]) == len(content)
    for asked, start, stop in (
        ("bytes=0-0", 0, 1),
        ("bytes=2-5", 2, 6),
        ("bytes=90-", 90, None),
        ("bytes=-7", len(content) - 7, None),
        ("bytes=5-99999999", 5, None),
    ):
        part = get(server, path, Range=asked)
        expected = content[start:stop]
        assert (part.status_code, part.data) == (206, expected), asked
        last = start + len(expected) - 1
        assert part.headers["Content-Range"] == f"bytes {start}-{last}/{len(content)}"
        assert int(part.headers["Content-Length"]) == len(expected)
        assert part.headers["ETag"] == etag
    for asked in ("bytes=0-1,4-5", "bytes=5-2", "bytes=x", "lines=1-2", "bytes", "bytes=--1"):
        assert get(server, path, Range=asked).data == content, asked
    beyond = get(server, path, Range=f"bytes={len(content)}-")
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, f"bytes */{len(content)}")
    assert (beyond.json or {})["offset"] == len(content)

    for condition in (etag, f'"other", {etag}', "*", f"W/{etag}"):
        known = get(server, path, If_None_Match=condition)
        assert (known.status_code, known.data, known.headers["ETag"]) == (304, b"", etag)
    assert get(server, path, If_None_Match='"other"').data == content
    assert get(server, path, Range="bytes=0-1", If_Range=etag).status_code == 206
    for condition in ('"other"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        assert get(server, path, Range="bytes=0-1", If_Range=condition).data == content, condition


def test_what_is_saved_is_harmless_to_look_at(server: Application) -> None:
    for path, kind in (
        ("model.pt", "application/octet-stream"),
        ("out/plot.png", "image/png"),
        ("<b>.html", "application/octet-stream"),
    ):
        answer = get(server, f"artifacts/{quote(path)}")
        assert answer.mimetype == kind
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert answer.headers["Content-Disposition"].startswith("attachment;")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("out/plot.png", "plot.png"),
        ('données \u202e"1"; x.txt', 'données _"1"; x.txt'),
        ("a\t\x1b\x9fb", "a___b"),
        ("<b>.html", "<b>.html"),
    ],
)
def test_names_survive_and_end_no_header(server: Application, path: str, name: str) -> None:
    answer = get(server, f"artifacts/{quote(path)}")
    assert answer.status_code == 200
    header = answer.headers["Content-Disposition"]
    assert header.isascii()
    assert header.isprintable()
    message = Message()
    message["Content-Disposition"] = header
    assert message.get_content_disposition() == "attachment"
    extended = re.search("filename\\*=UTF-8''(\\S+)$", header)
    assert (unquote(extended[1]) if extended else message.get_filename()) == name


def test_files_of_earlier_attempts_are_there_as_well(server: Application) -> None:
    def paths(query: str) -> list[tuple[str, int]]:
        listed = (server.client.get(f"/api/jobs/1/artifacts{query}").json or {})["artifacts"]
        return [(found["path"], found["attempt"]) for found in listed]

    assert paths("?attempt=1") == [("model.pt", 1)]
    assert len(paths("?attempt=2")) == 5
    assert paths("") == paths("?attempt=2")
    assert get(server, "artifacts/model.pt?attempt=1").data == b"of the first"
    assert get(server, "artifacts/model.pt?attempt=2").data == CONTENT
    assert get(server, "artifacts/out/plot.png?attempt=1").status_code == 404
    for number in (0, 3, 2**31 - 1):
        answer = get(server, f"artifacts?attempt={number}")
        assert (answer.status_code, (answer.json or {})["field"]) == (404, "attempt")
    assert get(server, "artifacts?attempt=x").status_code == 422
    assert get(server, "artifacts?attempts=1").status_code == 422


def test_the_raw_log_comes_in_ranges_and_the_lines_in_pages(server: Application) -> None:
    text = {"Accept": "text/plain"}
    assert get(server, "logs", **text).data == LOG
    part = get(server, "logs", Range="bytes=4-6", **text)
    assert (part.status_code, part.data) == (206, b"two")
    assert get(server, "logs?attempt=1", **text).data == b""
    assert get(server, "logs", Range="bytes=0-1,3-4", **text).data == LOG
    assert get(server, "logs", Range="bytes=99-", **text).status_code == 416
    page = get(server, "logs?limit=2").json or {}
    assert ([line["text"] for line in page["lines"]], page["next"]) == (["one", "two"], 2)
    page = get(server, "logs?after=2").json or {}
    assert ([line["text"] for line in page["lines"]], page["more"]) == (["three"], False)
    page = get(server, "logs?q=T&level=INFO,ERROR").json or {}
    assert [line["number"] for line in page["lines"]] == [1, 2]


@pytest.mark.parametrize(
    "template",
    [one.template for group in GROUPS for one in group.endpoints if one.method == "GET"],
)
def test_head_is_get_without_the_content(server: Application, template: str) -> None:
    parts = {"job_id": 1, "attempt": 1, "path": "model.pt", "worker_id": "nobody"}
    parts |= {"generation": 1, "sha256": "0" * 64}
    path = routes.path(template, **parts)
    head = server.client.head(path, headers={"Range": "bytes=0-1"})
    got = server.client.get(path)
    assert (head.status_code, head.data) == (got.status_code, b"")
    for name in ("Content-Type", "ETag", "Content-Disposition", "Accept-Ranges", "Vary"):
        assert head.headers.get(name) == got.headers.get(name), name
    if got.is_streamed and "Content-Length" in got.headers and template != routes.METRICS:
        assert head.headers["Content-Length"] == got.headers["Content-Length"]
    got.close()
