"""Why is a job where it is: in a sentence, whatever it does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.application import Agent, Application, application

from dtrain.protocol import routes


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Application]:
    with application(tmp_path) as found:
        yield found


def explained(server: Application, job_id: int = 1) -> dict[str, Any]:
    answer = server.client.get(f"/api/jobs/{job_id}/explain")
    assert answer.status_code == 200
    return dict(answer.json or {})


def end(agent: Agent, exit_code: int) -> None:
    message = {"cause": "exited", "exit_code": exit_code}
    assert agent.report("POST", routes.ATTEMPT_FINISH, json=message).status_code == 200


def test_a_job_that_waits_has_a_place_and_reasons(server: Application) -> None:
    server.submit(priority="5")
    server.submit()
    server.submit(gpus="2", memory_gb="100", labels="room=lab")
    assert explained(server)["summary"] == "No worker has joined yet; start one."
    agent = Agent(server.client, name="worker-1")
    agent.claim()
    waits = explained(server, 2)
    assert waits["summary"] == "It waits for a worker to become free, and it is next."
    assert waits["position"] == 0
    assert waits["workers"] == [
        {
            "worker_id": agent.id,
            "worker": "worker-1",
            "state": "online",
            "declined": False,
            "reason": None,
            "shortfalls": [{"what": "slots", "wanted": "1", "has": "0", "lasting": False}],
        }
    ]
    last = explained(server, 3)
    assert last["position"] == 1
    assert "even when idle" in last["summary"]
    assert {short["what"] for short in last["workers"][0]["shortfalls"]} == {
        "slots",
        "gpus",
        "memory",
        "labels",
    }


def test_a_drained_worker_is_named(server: Application) -> None:
    server.submit()
    agent = Agent(server.client, name="worker-1")
    server.client.post(f"/api/workers/{agent.id}/drain")
    agent.call("POST", routes.POLL, json=agent.poll_message())
    assert explained(server)["summary"].endswith("is away: worker-1 is draining.")


def test_an_owner_who_is_asked_or_has_declined_is_named(server: Application) -> None:
    server.submit()
    agent = Agent(server.client, name="worker-1")
    agent.call("POST", routes.POLL, json=agent.poll_message(asks=True))
    assert explained(server)["summary"] == "It waits for the word of the owner of worker-1."
    reply = {
        "session": agent.session,
        "accept": False,
        "secret": agent.secret,
        "reason": "I need it",
    }
    assert agent.call("POST", routes.path(routes.OFFER, job_id=1), json=reply).status_code == 200
    after = explained(server)
    assert "declined" in after["summary"]
    assert "worker-1 (I need it)" in after["summary"]
    assert (after["workers"][0]["declined"], after["workers"][0]["reason"]) == (True, "I need it")


def test_a_job_that_waits_for_its_next_attempt_says_how_long(server: Application) -> None:
    server.submit(max_retries="1")
    agent = Agent(server.client)
    agent.claim()
    end(agent, 3)
    waits = explained(server)
    assert 0 <= waits["retry_in"] <= 1
    assert "exited with code 3" in waits["summary"]
    assert "The next attempt may start in" in waits["summary"]


def test_a_job_that_runs_or_has_ended_is_told_in_a_sentence(server: Application) -> None:
    for number in range(3):
        server.submit(name=f"job {number}")
    agent = Agent(server.client, name="worker-1")
    agent.claim()
    assert explained(server) == {
        "summary": "It is on worker-1, attempt 1: its environment is being prepared.",
        "position": None,
        "workers": [],
        "retry_in": None,
    }
    agent.report("POST", routes.ATTEMPT_PHASE, json={"phase": "executing"})
    assert explained(server)["summary"] == "It is on worker-1, attempt 1: its script runs."
    server.client.post("/api/jobs/1/cancel")
    assert "asked to end" in explained(server)["summary"]
    end(agent, 0)
    assert explained(server)["summary"] == "It completed on worker-1, with attempt 1."
    agent.secret = "s" * 43
    agent.claim()
    end(agent, 7)
    assert explained(server, 2)["summary"].startswith("It failed with attempt 1. The job exited")
    server.client.post("/api/jobs/3/cancel")
    assert explained(server, 3)["summary"].startswith("It was cancelled before it ran.")


def test_a_job_that_runs_and_is_deleted_is_killed(server: Application) -> None:
    server.submit()
    agent = Agent(server.client)
    agent.claim()
    assert server.client.delete("/api/jobs/1").status_code == 204
    assert server.client.delete("/api/jobs/1").status_code == 404
    assert server.client.delete("/api/jobs/2").status_code == 404
    report = {"job_id": 1, "attempt": 1, "secret": agent.secret, "phase": "executing"}
    poll = agent.poll_message(attempts=[report], next_secret="n" * 43)
    told = agent.call("POST", routes.POLL, json=poll).json or {}
    assert [(one["job_id"], one["action"]) for one in told["commands"]] == [(1, "stale")]
    assert agent.report("POST", routes.ATTEMPT_FINISH, json={"cause": "exited"}).status_code == 410
