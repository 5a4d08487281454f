"""A server behind a real nginx: what is believed of it, and that it opens nothing by mistake."""

from __future__ import annotations

import json
import os
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.parse import urlencode

import pytest
from support.application import registration
from support.certificate import Authority
from support.processes import (
    PATIENCE,
    Running,
    RunningServer,
    clean_environment,
    free_port,
    start_server,
    wait_for,
)
from support.requirements import require

from dtrain.client.client import Client
from dtrain.client.transport import Transport
from dtrain.protocol import routes

TOKEN = "the-access-token-of-this-test-here"
SILENT = "proxy_pass http://127.0.0.1:UPSTREAM;"
"""What many write first: the proxy says nothing of itself or of its caller."""
PROXY = "127.0.0.9"
"""From where the proxy that is trusted calls the server."""
TELLING = f"""
    proxy_bind {PROXY};
    proxy_pass http://127.0.0.1:UPSTREAM;
    proxy_http_version 1.1;
    proxy_set_header Host $http_host;
    proxy_set_header X-Forwarded-Host $http_host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_request_buffering off;
    client_max_body_size 0;
    proxy_read_timeout 1h;
"""


@dataclass(frozen=True)
class Proxy:
    """An nginx with TLS on loopback."""

    url: str
    ca: Path

    @property
    def context(self) -> ssl.SSLContext:
        """Trusts it."""
        return ssl.create_default_context(cafile=str(self.ca))

    def status(self, path: str, **headers: str) -> int:
        """How a request without redirects is answered."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, headers=named)
        try:
            with urllib.request.urlopen(request, context=self.context, timeout=PATIENCE) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code


class Browser:
    """What a browser does: keeps cookies, names its origin."""

    def __init__(self, proxy: Proxy, **headers: str) -> None:
        self.jar = CookieJar()
        self._url, self._headers = proxy.url, {"Origin": proxy.url, **headers}
        self._opener = urllib.request.build_opener(
            urllib.request.HTTPSHandler(context=proxy.context),
            urllib.request.HTTPCookieProcessor(self.jar),
        )

    def post(self, path: str, **fields: str) -> tuple[int, str]:
        body = urlencode(fields).encode()
        request = urllib.request.Request(self._url + path, body, self._headers)
        try:
            with self._opener.open(request, timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("pki"))


def start_nginx(folder: Path, authority: Authority, upstream: int, location: str) -> Proxy:
    program = require("nginx")
    folder.mkdir()
    port = free_port()
    pair = authority.sign("localhost")
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(f"""
{user} daemon off; worker_processes 1; pid {folder}/pid; error_log stderr;
events {{ worker_connections 200; }}
http {{
    access_log off; {temporary}
    server {{
        listen 127.0.0.1:{port} ssl;
        ssl_certificate {pair.chain}; ssl_certificate_key {pair.key};
        location / {{ {location.replace("UPSTREAM", str(upstream))} }}
    }}
}}
""")
    command = [str(program), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
    running = Running("nginx", command, folder, clean_environment())
    proxy = Proxy(f"https://localhost:{port}", authority.file)
    wait_for(lambda: not running.alive or answers(proxy), "nginx to answer")
    assert running.alive, running.text()
    return proxy


def answers(proxy: Proxy) -> bool:
    try:
        proxy.status("/healthz")
    except OSError:
        return False
    return True


@pytest.fixture
def told(tmp_path: Path, authority: Authority) -> Iterator[tuple[RunningServer, Proxy]]:
    """A server that is told of its proxy, and the proxy as the documents have it."""
    port = free_port()
    proxy = start_nginx(tmp_path / "nginx", authority, port, TELLING)
    server = start_server(
        tmp_path / "home",
        DTRAIN_PORT=port,
        DTRAIN_ACCESS_TOKEN=TOKEN,
        DTRAIN_PUBLIC_URL=proxy.url.replace("localhost", "LOCALHOST"),
        DTRAIN_TRUSTED_PROXIES=PROXY,
    )
    return server, proxy


def test_proxy_that_says_nothing_does_not_open_the_server(
    tmp_path: Path, authority: Authority
) -> None:
    server = start_server(tmp_path / "home")
    proxy = start_nginx(tmp_path / "nginx", authority, server.port, SILENT)
    assert server.json("/api/jobs")["jobs"] == []
    assert proxy.status("/api/jobs") == 401
    assert proxy.status("/healthz") == 200


def test_server_that_knows_its_public_address_is_not_open_to_any_proxy(
    tmp_path: Path, authority: Authority
) -> None:
    server = start_server(tmp_path / "home", DTRAIN_PUBLIC_URL="https://dtrain.example")
    newer = f"proxy_http_version 1.1; {SILENT}"
    proxy = start_nginx(tmp_path / "nginx", authority, server.port, newer)
    assert proxy.status("/api/jobs") == 401
    with pytest.raises(urllib.error.HTTPError, match="401"):
        server.read("/api/jobs")


def test_browser_works_through_a_proxy(told: tuple[RunningServer, Proxy]) -> None:
    server, proxy = told
    browser = Browser(proxy)
    status, page = browser.post("/login", token=TOKEN, next="/workers")
    assert status == 200
    (cookie,) = browser.jar
    assert (cookie.name, cookie.secure) == (f"__Host-dtrain_{server.port}", True)
    assert f"DTRAIN_SERVER_URL={proxy.url} " in page
    (token,) = re.findall(r'name="csrf-token" content="([^"]+)"', page)
    foreign = Browser(proxy, Origin="https://evil.test")
    foreign.jar.set_cookie(cookie)
    assert foreign.post("/logout", csrf_token=token)[0] == 403
    assert browser.post("/logout", csrf_token=token)[0] == 200
    assert list(browser.jar) == []


def test_tries_are_counted_by_the_address_before_the_proxy(
    told: tuple[RunningServer, Proxy],
) -> None:
    _, proxy = told
    # Whoever calls the proxy may say anything of an address before it: the proxy's word counts.
    answered = [
        Browser(proxy, **{"X-Forwarded-For": f"203.0.113.{number}"}).post("/login", token="x")[0]
        for number in range(6)
    ]
    assert answered == [401] * 5 + [429]


def test_client_and_worker_work_through_a_proxy(
    told: tuple[RunningServer, Proxy], tmp_path: Path
) -> None:
    server, proxy = told
    ca = str(proxy.ca)
    (tmp_path / "job").mkdir()
    (tmp_path / "job" / "main.py").write_text("print('hello')\n")
    client = Client(proxy.url, TOKEN, ca_file=ca)
    job = client.submit(tmp_path / "job")
    worker = Transport(proxy.url, ca_file=ca)
    headers = {"Authorization": f"Bearer {server.token}", "Content-Type": "application/json"}
    registered = worker.request(
        "POST", routes.REGISTER, body=json.dumps(registration()).encode(), headers=headers
    )
    assert registered.status == 200
    updates = client.jobs.follow(job.id)
    assert next(updates) is not None  # comes at once: nginx holds nothing back
    assert client.jobs.cancel(job.id).status == "cancelled"
    assert list(updates)
    assert proxy.status("/metrics") == 401
    assert proxy.status("/api/jobs", Authorization=f"Bearer {TOKEN}", Host="evil.test") == 400
    worker.close()
    client.close()
