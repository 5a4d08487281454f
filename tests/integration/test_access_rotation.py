"""Tokens that change while the server runs, and workers that are forgotten."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.application import WIDE, Agent, Application, application, bearer, registration

from dtrain.protocol import routes
from dtrain.server import kept_secrets
from dtrain.server.kept_secrets import FILE, known_secrets, read_kept, replace
from dtrain.server.settings import ACCESS_TOKEN, WORKER_TOKEN, load

ON_ALL = {"DTRAIN_HOST": WIDE["DTRAIN_HOST"], "WORKER_SHARED_TOKEN": ""}
"""Settings of a server that others can reach, whose tokens are made."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Application]:
    with application(tmp_path, ON_ALL) as found:
        yield found


def token(server: Application, name: str = ACCESS_TOKEN) -> str:
    return server.services.tokens.newest(name)


def status(server: Application, shown: str) -> int:
    return server.client.get("/api/jobs", headers=bearer(shown)).status_code


def enrol(server: Application, shown: str) -> int:
    message = registration()
    answer = server.client.post(routes.REGISTER, json=message, headers=bearer(shown))
    return answer.status_code


def test_two_access_tokens_hold_while_one_replaces_the_other(
    server: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = token(server)
    replace(server.services.settings.data, [ACCESS_TOKEN])
    new = token(server)
    assert new != old
    assert (status(server, old), status(server, new), status(server, "x")) == (200, 200, 401)
    now = kept_secrets.time.time()
    monkeypatch.setattr(kept_secrets.time, "time", lambda: now + kept_secrets.OVERLAP + 1)
    assert (status(server, old), status(server, new)) == (401, 200)


def test_old_tokens_end_at_once_where_that_is_wanted(server: Application) -> None:
    data = server.services.settings.data
    seen = [token(server)]
    for _ in range(3):
        replace(data, [ACCESS_TOKEN])
        seen.append(token(server))
    assert [status(server, one) for one in seen] == [200] * 4
    replace(data, [ACCESS_TOKEN], overlap=0)
    assert [status(server, one) for one in seen] == [401] * 4
    assert status(server, token(server)) == 200
    assert "old" not in json.loads((data / FILE).read_text())


def test_worker_token_is_replaced_and_enrolled_workers_do_not_notice(server: Application) -> None:
    agent, old = Agent(server.client, token(server, WORKER_TOKEN)), token(server, WORKER_TOKEN)
    replace(server.services.settings.data, [WORKER_TOKEN], overlap=0)
    assert enrol(server, old) == 401
    assert enrol(server, token(server, WORKER_TOKEN)) == 200
    assert agent.call("POST", routes.POLL, json=agent.poll_message()).status_code == 200
    again = registration(worker_id=agent.id)
    answer = server.client.post(routes.REGISTER, json=again, headers=bearer(agent.credential))
    assert (answer.status_code, (answer.json or {})["worker_id"]) == (200, agent.id)


@pytest.mark.parametrize(("overlap", "expected"), [(3600.0, 200), (0.0, 401)])
def test_sessions_end_with_the_token_that_opened_them(
    server: Application, overlap: float, expected: int
) -> None:
    server.client.post("/login", data={"token": token(server)})
    assert server.client.get("/api/jobs").status_code == 200
    replace(server.services.settings.data, [ACCESS_TOKEN], overlap=overlap)
    assert server.client.get("/api/jobs").status_code == expected
    page = server.client.get("/", headers={"Accept": "text/html"}, follow_redirects=True)
    assert ("Log out" in page.text) == (expected == 200)
    assert ("Log in" in page.text) == (expected == 401)
    server.client.post("/login", data={"token": token(server)})
    assert server.client.get("/api/jobs").status_code == 200


def test_streams_end_with_the_token_that_opened_them(server: Application) -> None:
    answer = server.client.get(routes.STREAM, headers=bearer(token(server)), buffered=False)
    pieces = answer.iter_encoded()
    assert next(pieces).startswith(b"retry:")
    replace(server.services.settings.data, [ACCESS_TOKEN], overlap=0)
    Agent(server.client, token(server, WORKER_TOKEN))  # something to tell
    assert not any(b"joined" in piece for piece in pieces)
    answer.close()


def test_file_that_is_damaged_meanwhile_changes_nothing(
    server: Application, caplog: pytest.LogCaptureFixture
) -> None:
    held = token(server)
    file = server.services.settings.data / FILE
    for content in ("{", "{}"):
        file.write_text(content)
        assert status(server, held) == 200
    file.unlink()
    assert status(server, held) == 200
    assert "the secrets stay as they were" in caplog.text
    assert held not in caplog.text


def test_token_that_is_set_is_not_taken_from_the_file(tmp_path: Path) -> None:
    with application(tmp_path, ON_ALL) as first:
        made = token(first)
    with application(tmp_path, WIDE) as server:
        data = server.services.settings.data
        assert read_kept(data).unused == ["DTRAIN_ACCESS_TOKEN", "WORKER_SHARED_TOKEN"]
        replace(data, [ACCESS_TOKEN])
        assert status(server, read_kept(data).secrets[ACCESS_TOKEN]) == 401
        assert status(server, made) == 401
        assert status(server, WIDE["DTRAIN_ACCESS_TOKEN"]) == 200
    assert load(tmp_path, {}, known_secrets).access_token == ""
    with application(tmp_path, ON_ALL):
        assert read_kept(data).unused == []


def test_secrets_that_root_replaces_stay_readable_for_the_servers_user(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")
    load(tmp_path, {})
    data = tmp_path / "data"
    for path in (data, *data.iterdir()):
        os.chown(path, 65534, 65534)
    replace(data, [ACCESS_TOKEN])
    for path in data.iterdir():
        found = path.stat()
        assert (found.st_uid, stat.S_IMODE(found.st_mode)) == (65534, 0o600)


def test_worker_is_forgotten_with_its_credential(server: Application) -> None:
    agent = Agent(server.client, token(server, WORKER_TOKEN), name="gone")
    shown = {"headers": bearer(token(server))}
    assert server.client.delete(f"/api/workers/{agent.id}", **shown).status_code == 204
    assert server.client.delete(f"/api/workers/{agent.id}", **shown).status_code == 404
    assert server.client.post(f"/api/workers/{agent.id}/drain", **shown).status_code == 404
    assert (server.client.get("/api/workers", **shown).json or {})["workers"] == []
    for path, message in [
        (routes.POLL, agent.poll_message()),
        (routes.REGISTER, registration(worker_id=agent.id)),
    ]:
        assert agent.call("POST", path, json=message).status_code == 401


def test_worker_with_a_job_is_forgotten_by_force_alone(server: Application) -> None:
    shown = bearer(token(server))
    server.client.environ_base["HTTP_AUTHORIZATION"] = shown["Authorization"]
    server.submit()
    agent = Agent(server.client, token(server, WORKER_TOKEN), name="busy")
    agent.claim()
    address = f"/api/workers/{agent.id}"
    refused = server.client.delete(address)
    assert refused.status_code == 409
    assert (refused.json or {})["code"] == "busy"
    assert "job 1" in (refused.json or {})["detail"]
    assert server.client.delete(f"{address}?force=true").status_code == 204
    job = server.client.get("/api/jobs/1").json or {}
    assert (job["status"], job["attempt"]) == ("pending", 1)
    late = agent.report("POST", routes.ATTEMPT_FINISH, json={"cause": "exited", "exit_code": 0})
    assert late.status_code == 401


def test_jobs_name_the_worker_that_ran_them_when_it_is_forgotten(server: Application) -> None:
    server.client.environ_base["HTTP_AUTHORIZATION"] = bearer(token(server))["Authorization"]
    server.submit()
    agent = Agent(server.client, token(server, WORKER_TOKEN), name="gone")
    agent.claim()
    done = {"cause": "exited", "exit_code": 0}
    assert agent.report("POST", routes.ATTEMPT_FINISH, json=done).status_code == 200
    assert server.client.delete(f"/api/workers/{agent.id}").status_code == 204
    job = server.client.get("/api/jobs/1").json or {}
    assert (job["status"], job["worker"]) == ("completed", "gone")
