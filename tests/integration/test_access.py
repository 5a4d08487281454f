"""Who is let in: tokens, sessions, hosts and origins, walked over every address there is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from support.application import (
    ACCESS_TOKEN,
    SHARED_TOKEN,
    WIDE,
    Agent,
    Application,
    application,
    bearer,
    form,
    registration,
    upload,
)
from werkzeug.test import TestResponse

from dtrain.protocol import routes
from dtrain.server.auth import PUBLIC

UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
SAMPLES = {
    "job_id": "1",
    "attempt": "1",
    "path": "a/b",
    "filename": "main.css",
    "worker_id": "00000000-0000-0000-0000-000000000000",
}


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Application]:
    """A server on loopback."""
    with application(tmp_path) as found:
        yield found


@pytest.fixture
def wide(tmp_path: Path) -> Iterator[Application]:
    """A server that others can reach."""
    with application(tmp_path, WIDE) as found:
        yield found


def addresses(server: Application) -> list[tuple[str, str, str]]:
    """Every endpoint with a method and an address of it."""
    found = []
    for rule in server.app.url_map.iter_rules():
        path = re.sub(r"<(?:[^:>]*:)?(\w+)>", lambda part: SAMPLES[part[1]], rule.rule)
        found += [(rule.endpoint, method, path) for method in sorted(rule.methods or ())]
    return found


def ask(client: FlaskClient, method: str, path: str, headers: dict[str, str]) -> TestResponse:
    answer = client.open(path, method=method, headers=headers)
    answer.close()
    return answer


def is_for_workers(path: str) -> bool:
    return path.startswith("/api/worker/")


def test_every_address_is_refused_without_the_access_token(wide: Application) -> None:
    credential = Agent(wide.client).credential
    tokens = [
        {},
        bearer("wrong"),
        bearer(""),
        bearer(ACCESS_TOKEN[:-1]),
        bearer(SHARED_TOKEN),
        bearer(credential),
        {"Authorization": f"Basic {ACCESS_TOKEN}"},
        {"Cookie": "dtrain_5000=forged"},
        {"X-Forwarded-For": "127.0.0.1"},
        {"Host": "localhost"},
        {"User-Agent": "curl/8"},
        {"Accept": "text/html"},
    ]
    walked = 0
    for endpoint, method, path in addresses(wide):
        if endpoint in PUBLIC or is_for_workers(path):
            continue
        for headers in tokens:
            answer = ask(wide.client, method, path, headers)
            to_login = answer.status_code == 303 and answer.headers["Location"].startswith(
                "/login?"
            )
            assert answer.status_code == 401 or (method in {"GET", "HEAD"} and to_login), (
                f"{method} {path} with {headers} was answered {answer.status_code}"
            )
            walked += 1
    assert walked > 300


def test_every_address_is_open_with_the_access_token(wide: Application) -> None:
    for endpoint, method, path in addresses(wide):
        if endpoint not in PUBLIC and not is_for_workers(path):
            answer = ask(wide.client, method, path, bearer(ACCESS_TOKEN))
            assert answer.status_code not in {401, 403}, f"{method} {path}"


def test_public_addresses_are_the_ones_meant(wide: Application) -> None:
    assert {"healthz", "static", "login"} == PUBLIC
    assert wide.client.get("/healthz").status_code == 200
    assert wide.client.get("/login").status_code == 200
    assert wide.client.get("/static/no-such-file").status_code == 404


@pytest.mark.parametrize("settings", [{}, WIDE])
def test_every_address_of_workers_needs_the_workers_own_credential(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    with application(tmp_path, settings) as server:
        tokens = [{}, bearer("wrong"), bearer(ACCESS_TOKEN), bearer(SHARED_TOKEN)]
        walked = [(method, path) for _, method, path in addresses(server) if is_for_workers(path)]
        assert len(walked) >= 18
        for method, path in walked:
            for headers in tokens:
                if path == routes.REGISTER and headers == bearer(SHARED_TOKEN):
                    continue
                answer = ask(server.client, method, path, headers)
                assert answer.status_code == 401, f"{method} {path} with {headers}"
                assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_wrong_token_of_a_worker_names_the_settings_at_fault(opened: Application) -> None:
    answer = opened.client.post(routes.REGISTER, json=registration(), headers=bearer("wrong"))
    assert answer.status_code == 401
    detail = (answer.json or {})["detail"]
    assert "config.json" in detail
    assert "WORKER_SHARED_TOKEN" in detail
    assert "wrong" not in detail.replace("wrong_worker_token", "")
    assert SHARED_TOKEN not in answer.text


def test_worker_that_comes_back_shows_its_credential(opened: Application) -> None:
    agent = Agent(opened.client)
    answer = opened.client.post(
        routes.REGISTER, json=registration(worker_id=agent.id), headers=bearer(agent.credential)
    )
    assert (answer.json or {})["worker_id"] == agent.id
    assert (answer.json or {})["credential"] is None


def test_one_worker_cannot_speak_for_another(opened: Application) -> None:
    opened.submit()
    one, other = Agent(opened.client), Agent(opened.client, name="other")
    one.claim()
    other.job_id, other.attempt, other.secret = one.job_id, one.attempt, one.secret
    answer = other.report("POST", routes.ATTEMPT_FINISH, json={"cause": "exited"})
    assert answer.status_code == 409


@pytest.mark.parametrize(
    "host",
    [
        "evil.test",
        "evil.test:5000",
        "localhost.evil.test",
        "127.0.0.1.evil.test",
        "192.0.2.1",
        "",
        "localhost,evil.test",
        "evil@localhost",
        "localhost/..",
        "localhost:x",
        "[::1",
        "2130706433",
        "localhost:5000:5000",
        "0x7f.1",
    ],
)
def test_another_host_is_refused_everywhere(opened: Application, host: str) -> None:
    for _, method, path in addresses(opened):
        answer = ask(opened.client, method, path, {"Host": host})
        assert answer.status_code == 400, f"{method} {path}"
    assert opened.client.get("/", headers={"Host": host}).mimetype == "text/html"


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:5000", "127.0.0.1:1234", "127.0.0.5", "[::1]:5000"]
)
def test_names_of_this_machine_are_taken(opened: Application, host: str) -> None:
    assert opened.client.get("/api/jobs", headers={"Host": host}).status_code == 200


def test_wide_server_is_known_by_any_address_and_by_its_names(tmp_path: Path) -> None:
    with application(tmp_path, {**WIDE, "DTRAIN_ALLOWED_HOSTS": "dtrain.example, other"}) as server:

        def status(host: str) -> int:
            headers = {"Host": host, **bearer(ACCESS_TOKEN)}
            return server.client.get("/api/jobs", headers=headers).status_code

        assert status("192.0.2.7:5000") == 200
        assert status("[2001:db8::1]:5000") == 200
        assert status("DTrain.Example") == 200
        assert status("evil.test") == 400


def test_server_behind_a_proxy_is_not_open(tmp_path: Path) -> None:
    with application(tmp_path, {"DTRAIN_ALLOWED_HOSTS": "dtrain.example"}) as server:

        def status(**headers: str) -> int:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return server.client.get("/api/jobs", headers=named).status_code

        assert status(Host="localhost:5000") == 200
        assert status(Host="dtrain.example") == 401
        for header in ("X_Forwarded_For", "Forwarded", "Via", "X_Real_IP", "X_Forwarded_Host"):
            assert status(Host="localhost", **{header: "127.0.0.1"}) == 401


@pytest.mark.parametrize("settings", [{}, WIDE])
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.test"},
        {"Origin": "null"},
        {"Origin": ""},
        {"Origin": "http://localhost:3000"},
        {"Origin": "http://localhost.evil.test"},
        {"Origin": "http://[", "User-Agent": "curl/8"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"},
    ],
)
def test_what_another_site_sends_is_refused(
    tmp_path: Path, settings: dict[str, str], headers: dict[str, str]
) -> None:
    with application(tmp_path, settings) as server:
        for _, method, path in addresses(server):
            if method in UNSAFE:
                shown = {**headers, **bearer(ACCESS_TOKEN)}
                answer = ask(server.client, method, path, shown)
                assert answer.status_code == 403, f"{method} {path}"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "http://localhost"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "http://localhost"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_what_a_program_or_our_own_page_sends_is_taken(
    opened: Application, headers: dict[str, str]
) -> None:
    job = opened.submit()
    answer = opened.client.post(f"/api/jobs/{job['id']}/cancel", headers=headers)
    assert answer.status_code == 200


def login(server: Application, token: str = ACCESS_TOKEN, **fields: str) -> TestResponse:
    return server.client.post("/login", data={"token": token, **fields})


def csrf_of(server: Application) -> str:
    found = re.search(r'name="csrf-token" content="([^"]+)"', server.client.get("/").text)
    assert found
    return found[1]


def test_browser_logs_in_and_out(wide: Application) -> None:
    first = wide.client.get("/jobs/7?tab=log", headers={"Accept": "text/html,*/*;q=0.8"})
    assert (first.status_code, first.headers["Location"]) == (
        303,
        "/login?next=%2Fjobs%2F7%3Ftab%3Dlog",
    )
    page = wide.client.get(first.headers["Location"])
    assert 'value="/jobs/7?tab=log"' in page.text
    answer = login(wide, next="/workers")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/workers")
    cookie = answer.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert ACCESS_TOKEN not in cookie
    assert wide.client.get("/workers").status_code == 200
    assert wide.client.get("/api/jobs").status_code == 200
    assert wide.client.get("/login").status_code == 303
    assert wide.client.post("/logout").status_code == 403
    assert wide.client.post("/logout", data={"csrf_token": csrf_of(wide)}).status_code == 303
    assert wide.client.get("/api/jobs").status_code == 401


def test_session_changes_things_with_its_csrf_token_alone(wide: Application) -> None:
    login(wide)
    token = csrf_of(wide)
    fields = {"name": "x", "file": upload()}
    assert wide.client.post("/api/jobs", **form(fields)).status_code == 403
    for wrong in ("", "wrong", token[:-1]):
        fields = {"name": "x", "file": upload(), "csrf_token": wrong}
        assert wide.client.post("/api/jobs", **form(fields)).status_code == 403
    fields = {"name": "x", "file": upload(), "csrf_token": token}
    assert wide.client.post("/api/jobs", **form(fields)).status_code == 201
    assert wide.client.post("/api/jobs/1/cancel").status_code == 403
    shown = {"X-CSRF-Token": token}
    assert wide.client.post("/api/jobs/1/cancel", headers=shown).status_code == 200
    assert wide.client.delete("/api/jobs/1", headers=shown).status_code == 204
    folder = wide.services.settings.job_bundles_folder
    assert sum(path.is_file() for path in folder.rglob("*")) == 1


def test_session_ends_when_the_access_token_changes(tmp_path: Path) -> None:
    with application(tmp_path, {**WIDE, "SECRET_KEY": "your-secret-key"}) as server:
        login(server)
        cookie = server.client.get_cookie("dtrain_5000")
        assert cookie
    other = {**WIDE, "SECRET_KEY": "your-secret-key", "DTRAIN_ACCESS_TOKEN": "another-access-token"}
    with application(tmp_path, other) as server:
        headers = {"Cookie": f"dtrain_5000={cookie.value}"}
        assert server.client.get("/api/jobs", headers=headers).status_code == 401


def test_login_refuses_a_wrong_token_and_then_the_address(wide: Application) -> None:
    for _ in range(5):
        answer = login(wide, "wrong")
        assert answer.status_code == 401
        assert "not the access token" in answer.text
        assert "Set-Cookie" not in answer.headers
    refused = login(wide)
    assert refused.status_code == 429
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    elsewhere = wide.client.post(
        "/login", data={"token": ACCESS_TOKEN}, environ_base={"REMOTE_ADDR": "192.0.2.9"}
    )
    assert elsewhere.status_code == 303


@pytest.mark.parametrize(
    "target",
    [
        "//evil.test",
        "/\\evil.test",
        "http://evil.test",
        "javascript:alert(1)",
        "evil.test",
        "",
        "/a\r\nX: 1",
        "\\\\evil.test",
        "/\t/evil.test",
    ],
)
def test_login_goes_on_within_this_server_alone(wide: Application, target: str) -> None:
    answer = login(wide, next=target)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/")
    assert "X" not in answer.headers


def test_open_server_asks_nobody_to_log_in(opened: Application) -> None:
    answer = opened.client.get("/login?next=/workers")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/workers")


def test_access_token_that_is_set_is_asked_for_on_loopback(tmp_path: Path) -> None:
    with application(tmp_path, {"DTRAIN_ACCESS_TOKEN": ACCESS_TOKEN}) as server:
        assert server.client.get("/api/jobs").status_code == 401
        assert server.client.get("/api/jobs", headers=bearer(ACCESS_TOKEN)).status_code == 200


def test_every_answer_forbids_foreign_and_inline_code(opened: Application) -> None:
    opened.submit()
    paths = [
        "/",
        "/jobs/1",
        "/workers",
        "/nothing",
        "/healthz",
        "/metrics",
        "/api/jobs",
        "/api/nothing",
        "/static/nothing",
        "/api/jobs/1/bundle",
        "/api/jobs/1/logs",
    ]
    for path in paths:
        answer = opened.client.get(path)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none';")
        assert "unsafe" not in policy
        assert "*" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
        assert "Access-Control-Allow-Origin" not in answer.headers
        answer.close()
