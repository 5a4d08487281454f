"""Logs by line, however they came: found by number, by level and by text."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.application import Agent, Application, application

from dtrain.protocol import routes
from dtrain.server.jobs import sealing

LINES = [
    b"\x1b[31mERROR\x1b[0m: no %d" % n if n % 100 == 7 else b"step %d" % n for n in range(30_000)
]


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Application]:
    with application(tmp_path) as found:
        yield found


def log(site: Application, data: bytes, *, most: int) -> Agent:
    """A job that has logged this, in pieces of up to `most` bytes."""
    site.submit()
    agent = Agent(site.client)
    agent.claim()
    agent.report("POST", routes.ATTEMPT_PHASE, json={"phase": "executing"})
    sizes = random.Random(1)
    offset = 0
    while offset < len(data):
        piece = data[offset : offset + sizes.randint(1, most)]
        answer = agent.report("POST", f"{routes.ATTEMPT_LOG}?offset={offset}", data=piece)
        assert answer.status_code == 200, answer.text
        offset += len(piece)
    return agent


def ask(site: Application, query: str, part: str = "") -> dict[str, Any]:
    answer = site.client.get(f"/api/jobs/1/logs{part}?{query}")
    assert answer.status_code == 200, answer.text
    return dict(answer.json or {})


@pytest.mark.parametrize("sealed", [False, True])
def test_lines_are_found_wherever_the_pieces_end(site: Application, *, sealed: bool) -> None:
    log(site, b"\n".join(LINES), most=10_000)
    if sealed:
        sealing.seal(site.services, 1, 1)
    for after in (0, 1, 12_345, 29_999):
        page = ask(site, f"after={after}&limit=3")
        wanted = [line.decode() for line in LINES[after : after + 3]]
        assert [line["text"] for line in page["lines"]] == wanted
        assert page["lines"][0]["number"] == after
        assert page["more"] is (after < 29_999)
    assert ask(site, "after=30000")["lines"] == []
    assert ask(site, "tail=true&limit=1")["lines"][0]["number"] == 29_999

    for query in ("level=ERROR", "q=error:", "q=ERROR%3A&level=ERROR"):
        assert ask(site, query, "/matches")["ranges"] == [[n, n] for n in range(7, 30_000, 100)]
        page = ask(site, f"{query}&limit=2&after=108")
        assert [line["number"] for line in page["lines"]] == [207, 307]
        assert page["next"] == 308
    assert ask(site, "level=INFO&after=29900", "/matches") == {
        "attempt": 1,
        "ranges": [[29_900, 29_906], [29_908, 29_999]],
        "next": 30_000,
        "more": False,
        "total_lines": 30_000,
    }


def test_a_log_that_is_too_long_for_one_answer_is_searched_in_parts(
    site: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(site, b"\n".join(LINES), most=100_000)
    monkeypatch.setattr("dtrain.server.jobs.logs._MAX_SCAN", 50_000)
    numbers: list[int] = []
    after, more, answers = 0, True, 0
    while more:
        answer = ask(site, f"level=ERROR&after={after}", "/matches")
        numbers += [first for first, _ in answer["ranges"]]
        assert answer["next"] > after
        after, more, answers = answer["next"], answer["more"], answers + 1
    assert numbers == list(range(7, 30_000, 100))
    assert answers > 1


def test_of_a_bar_that_was_rewritten_for_long_the_latest_version_counts(site: Application) -> None:
    bar = b"".join(b"\r%d%% of it" % percent for percent in range(100)) * 200
    agent = log(site, b"first\n" + bar + b"\r100%", most=8000)
    assert ask(site, "tail=true&limit=1")["lines"][0]["text"] == "100%"
    size = 6 + len(bar) + 5
    agent.report("POST", f"{routes.ATTEMPT_LOG}?offset={size}", data=b" done\nlast\n")
    assert [line["text"] for line in ask(site, "")["lines"]] == ["first", "100% done", "last"]


def test_a_search_that_is_not_acceptable_is_refused(site: Application) -> None:
    site.submit()
    assert ask(site, "q=x", "/matches")["ranges"] == []
    assert site.client.get("/api/jobs/1/logs/matches?level=LOUD").status_code == 422
    assert site.client.get("/api/jobs/2/logs/matches").status_code == 404
