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
from dtrain.server.auth import HEADER_TRIES, PUBLIC

UNSAFE = ("POST", "PUT", "PATCH", "DELETE")
SAMPLES = {
    "job_id": "1",
    "attempt": "1",
    "generation": "1",
    "sha256": "a",
    "path": "a/b",
    "filename": "main.css",
    "answer_id": "0",
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


CHECKPOINT_FILE = {"path": "a", "size": 1, "sha256": "0" * 64, "mode": 0}
ATTEMPT_REPORTS = [
    ("GET", routes.ATTEMPT_BUNDLE, {}),
    ("POST", routes.ATTEMPT_PHASE, {"json": {"phase": "executing"}}),
    ("POST", routes.ATTEMPT_LOG, {"query_string": {"offset": 0}, "data": b"x"}),
    ("PUT", routes.ATTEMPT_ARTIFACT, {"query_string": {"sha256": "0" * 64}, "data": b"x"}),
    ("GET", routes.ATTEMPT_CHECKPOINTS, {}),
    ("POST", routes.ATTEMPT_CHECKPOINTS, {"json": {"number": 1, "files": [CHECKPOINT_FILE]}}),
    ("GET", routes.ATTEMPT_CHECKPOINT_CONTENT, {}),
    ("PUT", routes.ATTEMPT_CHECKPOINT_CONTENT, {"data": b"x"}),
    ("POST", routes.ATTEMPT_FINISH, {"json": {"cause": "exited", "exit_code": 0}}),
]


def test_every_address_of_an_attempt_needs_its_worker_and_its_secret(opened: Application) -> None:
    tested = {template for _, template, _ in ATTEMPT_REPORTS}
    assert tested == {getattr(routes, n) for n in dir(routes) if n.startswith("ATTEMPT_")}
    opened.submit()
    owner, other = Agent(opened.client), Agent(opened.client, name="other")
    owner.claim()
    other.job_id, other.attempt = owner.job_id, owner.attempt
    for method, template, options in ATTEMPT_REPORTS:
        parts = {"parts": {"path": "a", "sha256": "0" * 64}}
        stolen = {routes.SECRET_HEADER: owner.secret}
        for agent, headers, status in [
            (other, stolen, 409),
            (other, {}, 409),
            (owner, {routes.SECRET_HEADER: other.secret}, 409),
            (owner, {routes.SECRET_HEADER: ""}, 403),
        ]:
            answer = agent.report(method, template, headers=headers, **parts, **options)
            assert answer.status_code == status, f"{method} {template}: {answer.text}"
    job = opened.client.get("/api/jobs/1").json or {}
    assert (job["status"], job["phase"]) == ("running", "preparing")
    assert opened.client.get("/api/jobs/1/logs", headers={"Accept": "text/plain"}).text == ""


def test_session_of_a_browser_is_nothing_to_the_addresses_of_workers(wide: Application) -> None:
    login(wide)
    shown = {"X-CSRF-Token": csrf_of(wide)}
    for _, method, path in addresses(wide):
        if is_for_workers(path):
            assert ask(wide.client, method, path, shown).status_code == 401


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


def test_short_token_cannot_be_found_by_trying_it_in_headers(tmp_path: Path) -> None:
    short = {**WIDE, "DTRAIN_ACCESS_TOKEN": "0123456789abcdef", "WORKER_SHARED_TOKEN": "secret"}
    right = bearer("0123456789abcdef")
    with application(tmp_path, short) as server:
        agent = Agent(server.client, token="secret")
        for number in range(HEADER_TRIES):
            answer = server.client.get("/api/jobs", headers=bearer(f"guess {number}"))
            assert answer.status_code == 401
        for method, path, headers in [
            ("GET", "/api/jobs", bearer("guess")),
            ("GET", "/api/jobs", right),
            ("POST", routes.REGISTER, bearer("secret")),
        ]:
            answer = ask(server.client, method, path, headers)
            assert answer.status_code == 429, path
            assert 0 < int(answer.headers["Retry-After"]) <= 60
        # What nobody can guess is not held up: workers go on.
        polled = agent.call("POST", routes.POLL, json=agent.poll_message())
        assert polled.status_code == 200
        elsewhere = {"environ_base": {"REMOTE_ADDR": "192.0.2.9"}}
        assert server.client.get("/api/jobs", headers=right, **elsewhere).status_code == 200


def test_long_token_keeps_nobody_waiting(wide: Application) -> None:
    for number in range(HEADER_TRIES + 1):
        wide.client.get("/api/jobs", headers=bearer(f"guess {number}"))
    assert wide.client.get("/api/jobs", headers=bearer(ACCESS_TOKEN)).status_code == 200


def test_login_page_works_without_a_script_and_says_what_is_wrong(wide: Application) -> None:
    page = wide.client.get("/login?next=/workers")
    assert '<label for="token">' in page.text
    assert re.search(r'<input id="token"[^>]* autofocus>', page.text)
    refused = login(wide, "wrong", name="Ada <script>", next="/workers")
    assert 'aria-describedby="token-error"' in refused.text
    assert 'id="token-error" role="alert"' in refused.text
    assert 'value="Ada &lt;script&gt;"' in refused.text
    assert 'name="next" value="/workers"' in refused.text
    assert "wrong" not in refused.text
    long = login(wide, name="x" * 201)
    assert long.status_code == 422
    assert 'id="name-error" role="alert"' in long.text


def test_name_of_the_login_is_the_submitter_unless_a_header_says_another(wide: Application) -> None:
    login(wide, name=" Ada Lovelace ")
    token = csrf_of(wide)

    def submitter(**headers: str) -> object:
        fields = {"name": "x", "file": upload(), "csrf_token": token}
        answer = wide.client.post("/api/jobs", headers=headers, **form(fields))
        return (answer.json or {})["submitter"]

    assert submitter() == "Ada Lovelace"
    assert submitter(**{routes.SUBMITTER_HEADER: "Grace"}) == "Grace"
    wide.client.post("/logout", data={"csrf_token": token})
    login(wide)
    token = csrf_of(wide)
    assert submitter() is None


SECURE = {**WIDE, "DTRAIN_PUBLIC_URL": "https://dtrain.example"}


def test_cookie_is_for_tls_and_this_host_alone_under_https(tmp_path: Path) -> None:
    with application(tmp_path, SECURE) as server:
        base = {"base_url": "https://dtrain.example"}
        answer = server.client.post("/login", data={"token": ACCESS_TOKEN}, **base)
        name, _, rest = answer.headers["Set-Cookie"].partition("=")
        assert name == "__Host-dtrain_5000"
        parts = set(rest.split("; ")[1:])
        assert {"Secure", "HttpOnly", "Path=/", "SameSite=Lax"} <= parts
        assert not any(part.startswith("Domain") for part in parts)
        assert server.client.get("/api/jobs", **base).status_code == 200


def test_server_with_a_public_address_is_not_open_and_takes_its_pages_requests(
    tmp_path: Path,
) -> None:
    """As a proxy asks that passes nothing on but its own address."""
    with application(tmp_path, {"DTRAIN_PUBLIC_URL": "https://dtrain.example"}) as server:
        assert server.client.get("/api/jobs").status_code == 401
        shown = bearer(server.services.settings.access_token)
        job = server.client.post(
            "/api/jobs", headers=shown, **form({"name": "x", "file": upload()})
        )
        assert job.status_code == 201
        for origin, status in [
            ("https://dtrain.example", 200),
            ("http://dtrain.example", 403),
            ("https://dtrain.example:8443", 403),
            ("https://evil.test", 403),
        ]:
            headers = {**shown, "Origin": origin, "Sec-Fetch-Site": "same-origin"}
            assert server.client.post("/api/jobs/1/cancel", headers=headers).status_code == status
        assert "https://dtrain.example" in server.client.get("/workers", headers=shown).text


def test_only_trusted_proxies_tell_of_the_caller_before_them(tmp_path: Path) -> None:
    trusting = {**WIDE, "DTRAIN_TRUSTED_PROXIES": "10.0.0.0/24"}
    told = {
        "X-Forwarded-For": "203.0.113.7, 10.0.0.9",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "10.0.0.1",
    }
    with application(tmp_path, trusting) as server:

        def cookie(address: str) -> str:
            base = {"environ_base": {"REMOTE_ADDR": address}}
            answer = server.client.post(
                "/login", data={"token": ACCESS_TOKEN}, headers=told, **base
            )
            assert answer.status_code == 303
            return answer.headers["Set-Cookie"]

        def try_wrong(times: int, **headers: str) -> int:
            base = {"environ_base": {"REMOTE_ADDR": "10.0.0.2"}}
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            for _ in range(times):
                answer = server.client.post("/login", data={"token": "x"}, headers=named, **base)
            return answer.status_code

        assert cookie("10.0.0.2").startswith("__Host-")
        server.client = server.app.test_client()
        assert cookie("10.0.1.2").startswith("dtrain_5000")
        server.client = server.app.test_client()
        assert try_wrong(6, X_Forwarded_For="203.0.113.7") == 429
        assert try_wrong(1, X_Forwarded_For="198.51.100.1, 203.0.113.7") == 429
        assert try_wrong(1, X_Forwarded_For="203.0.113.8") == 401
        evil = {"X-Forwarded-Host": "evil.test", **bearer(ACCESS_TOKEN)}
        base = {"environ_base": {"REMOTE_ADDR": "10.0.0.2"}}
        assert server.client.get("/api/jobs", headers=evil, **base).status_code == 400


def test_proxy_that_says_nothing_but_speaks_an_old_http_is_no_local_caller(
    opened: Application,
) -> None:
    for protocol in ("HTTP/1.0", "HTTP/1"):
        old = {"environ_overrides": {"SERVER_PROTOCOL": protocol}}
        assert opened.client.get("/api/jobs", **old).status_code == 401
    assert opened.client.get("/api/jobs").status_code == 200


def test_login_through_a_proxy_to_an_open_server_asks_and_does_not_go_in_circles(
    opened: Application,
) -> None:
    through = {"headers": {"X-Forwarded-For": "203.0.113.7", "Accept": "text/html"}}
    assert opened.client.get("/", **through).headers["Location"].startswith("/login?")
    assert opened.client.get("/login", **through).status_code == 200
    token = opened.services.settings.access_token
    assert opened.client.post("/login", data={"token": token}, **through).status_code == 303
    assert opened.client.get("/", **through).status_code == 200


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
