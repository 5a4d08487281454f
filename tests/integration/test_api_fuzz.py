"""Whatever the API is asked, it answers as it is described, and never with a mistake of its own."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from schemathesis.hooks import HookContext
from support.application import WIDE, Agent, Application, application, bearer, bundle
from support.fuzzing import Findings, fuzz
from support.processes import start_server

from dtrain.protocol import routes
from dtrain.server.api.held import held

PUBLIC = "^(?!/api/worker/)"
WORKER = "^/api/worker/"
ATTEMPT = "^/api/worker/attempts/"
KNOWN = hashlib.sha256(bundle()).hexdigest()


@schemathesis.hook
def map_body(_context: HookContext, body: Any) -> Any:
    """Name the bundle that is there in every second submission: else all of them are refused."""
    if isinstance(body, dict) and str(body.get("bundle", "")).startswith(tuple("01234567")):
        return {**body, "bundle": KNOWN, "main_entry": "main.py", "requirements_file": None}
    return body


@schemathesis.hook
def filter_query(_context: HookContext, query: Any) -> bool:
    """Leave out what is sent as an empty parameter, which is as good as none, and yet is refused
    by the description: an object or a list of nothing."""
    return not isinstance(query, dict) or not any(one in ({}, []) for one in query.values())


def stand(app: Application) -> None:
    """Have jobs that wait, run and have ended, with all that they leave."""
    for number in range(4):
        app.submit(name=f"job {number}", tags="a,b")
    agent = Agent(app.client, name="worker-1")
    agent.claim()
    log = b'one\nPROGRESS: {"epoch": 1, "loss": NaN}\n'
    agent.report("POST", routes.ATTEMPT_LOG, query_string={"offset": 0}, data=log)
    sha256 = hashlib.sha256(b"weights").hexdigest()
    agent.report(
        "PUT",
        routes.ATTEMPT_ARTIFACT,
        parts={"path": "model.pt"},
        query_string={"sha256": sha256},
        data=b"weights",
    )
    left = [{"path": "model.pt", "size": 7, "sha256": sha256}]
    end = {"cause": "exited", "exit_code": 1, "log_bytes": len(log), "artifacts": left}
    assert agent.report("POST", routes.ATTEMPT_FINISH, json=end).status_code == 200
    agent.secret = "s" * 43
    agent.claim()


def assert_clean(found: Findings) -> None:
    assert sum(found.answers.values()) > 20
    assert not [answer for answer in found.answers if answer[1] >= 500]
    told = "\n\n".join(found.complaints.values())
    assert not told, f"With the seed {found.seed}:\n{told}"


def test_public_addresses_answer_as_described(tmp_path: Path) -> None:
    with application(tmp_path) as app:
        stand(app)
        found = fuzz(app.app, PUBLIC)
    assert_clean(found)
    assert {200, 201} & found.statuses("POST /api/jobs")
    assert 200 in found.statuses("GET /api/jobs/{job_id}")
    assert {200, 422} <= found.statuses("GET /api/jobs")


def test_public_addresses_want_the_token_and_answer_as_described(
    tmp_path: Path, postgres_url: str
) -> None:
    token = WIDE["DTRAIN_ACCESS_TOKEN"]
    server = start_server(tmp_path, DATABASE_URL=postgres_url, DTRAIN_ACCESS_TOKEN=token)
    found = fuzz(server.url, PUBLIC, headers=bearer(token), share=0.4, coverage=False)
    assert_clean(found)


def test_workers_are_answered_as_described(tmp_path: Path) -> None:
    with application(tmp_path, {"DTRAIN_MAX_HELD_POLLS": "1"}) as app:
        stand(app)
        assert held(app.app).polls.enter()  # and so no poll is held: each could be for 10 seconds
        credential = bearer(Agent(app.client, name="worker-2").credential)
        found = fuzz(app.app, WORKER, headers=credential)
    assert_clean(found)


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_reports_about_an_attempt_are_answered_as_described(
    tmp_path: Path, database: str, request: pytest.FixtureRequest
) -> None:
    on_sqlite = database == "sqlite"
    url = request.getfixturevalue("sqlite_url" if on_sqlite else "postgres_url")
    with application(tmp_path, {"DATABASE_URL": url}) as app:
        app.submit()
        agent = Agent(app.client)
        agent.claim()
        found = fuzz(
            app.app,
            ATTEMPT,
            headers=bearer(agent.credential),
            parameters={
                "path.job_id": agent.job_id,
                "path.attempt": agent.attempt,
                "header.DTrain-Attempt-Secret": agent.secret,
            },
            share=1.0 if on_sqlite else 0.4,
            coverage=on_sqlite,
        )
    assert_clean(found)
    assert 200 in found.statuses("POST /api/worker/attempts/{job_id}/{attempt}/log")
