"""What a database cannot hold is refused, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.application import Agent, Application, application, bearer, registration

from dtrain.protocol import routes

LARGEST = 2**63 - 1


@pytest.fixture
def server(tmp_path: Path, database_url: str) -> Iterator[Application]:
    with application(tmp_path, {"DATABASE_URL": database_url}) as found:
        yield found


def test_job_goes_through_on_either_database(server: Application) -> None:
    job = server.submit(name="日本 \u202e 😀", tags=["é", "x"])
    agent = Agent(server.client, name="wörker")
    agent.claim()
    log = b'\xff\x00line\nPROGRESS: {"a": Infinity}\n'
    written = agent.report("POST", routes.ATTEMPT_LOG, query_string={"offset": 0}, data=log)
    assert written.json == {"offset": len(log)}
    done = agent.report(
        "POST",
        routes.ATTEMPT_FINISH,
        json={"cause": "exited", "exit_code": 0, "log_bytes": len(log)},
    )
    assert (done.json or {})["applied"]
    found = server.client.get(f"/api/jobs/{job['id']}").json or {}
    assert (found["status"], found["name"], found["worker"]) == ("completed", job["name"], "wörker")
    raw = server.client.get(f"/api/jobs/{job['id']}/logs", headers={"Accept": "text/plain"})
    assert raw.data == log


def test_odd_addresses_are_not_found(server: Application) -> None:
    server.submit()
    for path in (
        f"/api/jobs/{LARGEST}",
        f"/api/jobs/{LARGEST}/logs?attempt={2**31 - 1}",
        "/api/jobs/1/artifacts/%00",
        "/api/jobs/1/artifacts/%ED%A0%80",
        "/api/workers/%00",
        "/api/workers/%ED%A0%80",
        "/api/workers/%F0%9F%98%80",
    ):
        assert server.client.get(path).status_code == 404, path


def test_odd_filters_are_refused_or_find_nothing(server: Application) -> None:
    server.submit()
    odd = ("q=%00", "tag=%00", "worker=a%00", "submitter=%00", "cursor=%00", f"cursor={2**70}")
    for query in (*odd, f"q={'x' * 1001}", "tag=" + ",".join(map(str, range(51)))):
        assert server.client.get(f"/api/jobs?{query}").status_code == 422, query
    for query in ("q=%ED%A0%80", "tag=%F0%9F%98%80", "q=%25%5F%5C%27", f"q={'%25' * 1000}"):
        assert (server.client.get(f"/api/jobs?{query}").json or {})["jobs"] == [], query
    for cursor in ("AAAAAAAAAAA", "f_________8"):
        assert server.client.get(f"/api/jobs?cursor={cursor}").status_code == 200


def test_odd_places_in_logs_and_metrics_do_no_harm(server: Application) -> None:
    server.submit()
    Agent(server.client).claim()
    for query in (f"attempt={2**31 - 1}", f"after={2**31 - 1}", "after=0&limit=10000"):
        for what in ("logs", "metrics"):
            answer = server.client.get(f"/api/jobs/1/{what}?{query}")
            assert answer.status_code in {200, 404}, answer.text
    query = f"attempt=1&offset={LARGEST}&seq={2**31 - 1}"
    stream = server.client.get(f"/api/jobs/1/stream?{query}")
    assert stream.status_code == 200
    stream.close()


def test_odd_registrations_are_never_a_mistake_of_the_server(server: Application) -> None:
    large = {"slots": LARGEST, "cpus": 1e308, "memory": LARGEST, "executors": ["venv"]}
    negative = {"slots": -5, "cpus": -1.0, "memory": -1, "executors": []}
    for changes in (
        {"protocol": LARGEST},
        {"capacity": large},
        {"capacity": negative},
        {"worker_id": "no UUID at all"},
        {"version": "x" * 100_000, "boot_id": ""},
    ):
        headers = bearer("your-worker-token")
        message = registration(**changes)
        answer = server.client.post(routes.REGISTER, json=message, headers=headers)
        assert answer.status_code < 500, answer.text
        assert server.client.get("/api/workers").status_code == 200


def test_odd_polls_are_never_a_mistake_of_the_server(server: Application) -> None:
    agent = Agent(server.client)
    report = {"job_id": LARGEST, "attempt": LARGEST, "secret": "s" * 43, "phase": "executing"}
    gpu = {"x" * 1000: -1.0}
    for changes in (
        {"session": LARGEST},
        {"offers": [LARGEST, -1]},
        {"metrics": {"cpu_percent": 1e308, "memory_used": LARGEST, "gpus": [gpu]}},
        {"attempts": [report]},
        {"number": 2**53},
    ):
        answer = agent.call("POST", routes.POLL, json=agent.poll_message(**changes))
        assert answer.status_code < 500, answer.text


def test_odd_ends_are_never_a_mistake_of_the_server(server: Application) -> None:
    for changes in (
        {"exit_code": LARGEST},
        {"exit_code": -LARGEST, "signal": LARGEST},
        {"peak_memory": 2**53, "duration": 1e308},
        {"message": "x" * 2000, "traceback": "\u202e\x1b[31m" * 1000},
        {"artifacts": [{"path": "../a", "size": 1, "sha256": "0" * 64}]},
        {"artifacts": [{"path": "a", "size": 2**53, "sha256": "0" * 64}] * 2},
        {"log_bytes": 2**53},
    ):
        server.submit()
        agent = Agent(server.client)
        agent.claim()
        message = {"cause": "exited", "exit_code": 1, **changes}
        answer = agent.report("POST", routes.ATTEMPT_FINISH, json=message)
        assert answer.status_code < 500, answer.text
        assert server.client.get(f"/api/jobs/{agent.job_id}").status_code == 200
