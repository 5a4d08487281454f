"""A server that speaks TLS itself, and what it says of how others come to it."""

from __future__ import annotations

import re
import shlex
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from support.certificate import Authority, Certificate
from support.processes import PATIENCE, clean_environment, free_port
from support.secure import SecureServer

from dtrain.client.transport import Transport
from dtrain.protocol.errors import Invalid, Unreachable
from dtrain.server import joining
from dtrain.server.certificate import check
from dtrain.server.settings import load


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "pki")


@pytest.fixture
def server(tmp_path: Path, authority: Authority) -> Iterator[SecureServer]:
    return SecureServer(tmp_path / "home", authority)


def test_server_answers_by_tls_and_says_so(server: SecureServer) -> None:
    transport = Transport(server.url, ca_file=str(server.ca))
    assert transport.request("GET", "/healthz").body == b"ok\n"
    transport.close()
    assert f"DTrain serves at {server.url} " in server.text()
    (line,) = re.findall(r"\n    (DTRAIN_SERVER_URL=.*)\n", server.text())
    assert shlex.split(line)[0] == f"DTRAIN_SERVER_URL={server.url}"
    assert shlex.split(line)[2:] == ["DTRAIN_CA_FILE=ca.pem", "python", "agent.py"]
    assert "file of the CA" in server.text()


def test_plain_request_to_a_server_with_tls_is_closed(server: SecureServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as plain:
        plain.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        answer = b""
        while piece := plain.recv(4096):
            answer += piece
    assert b"HTTP" not in answer
    with pytest.raises(Unreachable, match=r"HTTPS|broke off"):
        Transport(server.url.replace("https:", "http:")).request("GET", "/healthz")
    with urllib.request.urlopen(
        f"{server.url}/healthz", context=ssl.create_default_context(cafile=str(server.ca))
    ) as again:
        assert again.status == 200


def test_session_of_a_server_with_tls_is_for_tls_alone(
    tmp_path: Path, authority: Authority
) -> None:
    token = "the-access-token-of-this-test-here"
    server = SecureServer(tmp_path / "home", authority, DTRAIN_ACCESS_TOKEN=token)
    transport = Transport(server.url, ca_file=str(server.ca))
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    with pytest.raises(Unreachable, match="sends to another address"):  # the way to the first page
        transport.request("POST", "/login", body=f"token={token}".encode(), headers=headers)
    transport.close()
    context = ssl.create_default_context(cafile=str(server.ca))
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context), urllib.request.HTTPCookieProcessor()
    )
    opener.open(f"{server.url}/login", f"token={token}".encode()).close()
    with opener.open(f"{server.url}/api/jobs") as answer:
        assert answer.status == 200
    (jar,) = [h.cookiejar for h in opener.handlers if hasattr(h, "cookiejar")]
    assert [(c.name, c.secure) for c in jar] == [(f"__Host-dtrain_{server.port}", True)]


def world_readable(certificate: Certificate) -> Certificate:
    certificate.key.chmod(0o644)
    return certificate


@pytest.mark.parametrize("what", ["expired", "future", "other key", "open key", "none", "no PEM"])
def test_certificate_that_cannot_be_served_is_refused_in_a_sentence(
    tmp_path: Path, authority: Authority, what: str
) -> None:
    good = authority.sign("localhost")
    (tmp_path / "text").write_text("hello")
    certificate, pattern = {
        "expired": (authority.sign("a", begins=-9, ends=-1), r"has expired; renew it.*"),
        "future": (authority.sign("b", begins=1, ends=9), r"is not valid yet; .* clock.*"),
        "other key": (Certificate(good.chain, authority.sign("c").key), r"is not that of .*"),
        "open key": (world_readable(authority.sign("d")), r"Everybody .* chmod o= .*"),
        "none": (Certificate(Path("none.pem"), good.key), r"DTRAIN_TLS_CERTIFICATE names .*"),
        "no PEM": (Certificate(tmp_path / "text", good.key), r"holds no certificate in PEM; .*"),
    }[what]
    (tmp_path / "home").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "dtrain", "server", tmp_path / "home"],
        env={**clean_environment(), **certificate.settings, "DTRAIN_PORT": str(free_port())},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf".*{pattern}\n", done.stderr), done.stderr


def test_key_with_a_password_is_refused_without_asking(authority: Authority) -> None:
    pair = authority.sign("localhost")
    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    pair.key.write_bytes(locked)
    with pytest.raises(Invalid, match="without a password"):
        check(pair.chain, pair.key)


def test_reach_is_the_public_address_or_a_name_that_the_certificate_has(
    tmp_path: Path, authority: Authority
) -> None:
    def found(certificate: Certificate | None, **settings: str) -> joining.Reach:
        pair = certificate.settings if certificate else {}
        return joining.reach(load(tmp_path, {**pair, **settings}))

    host = socket.gethostname()
    wide = {"DTRAIN_HOST": "0.0.0.0"}
    named = found(authority.sign("other.example", host), **wide)
    assert named == joining.Reach(f"https://{host}:5000", needs_ca=True)
    strange = found(authority.sign("other.example"), **wide)
    assert "does not name" in strange.notes[0]
    assert "DTRAIN_PUBLIC_URL" in strange.notes[0]
    public = {"DTRAIN_PUBLIC_URL": "https://dtrain.example"}
    assert found(None, **public) == joining.Reach("https://dtrain.example", needs_ca=None)
    assert found(authority.sign("dtrain.example"), **public).address == "https://dtrain.example"
    soon = found(authority.sign("localhost", ends=3))
    assert re.fullmatch(r"The certificate expires in [23] days; .*", soon.notes[0])
    gone = found(authority.sign("localhost", ends=-0.5))
    assert gone.address == "https://localhost:5000"
    assert "has expired" in gone.notes[0]
    plain = found(None, **wide)
    assert re.fullmatch(r"http://[^:]+:5000", plain.address)
    assert found(None, DTRAIN_HOST="::1").address == "http://[::1]:5000"
    assert found(None, DTRAIN_HOST="192.0.2.7").address == "http://192.0.2.7:5000"


@pytest.mark.parametrize("token", ["plain", "a$b", "it's", 'a"b;c&d', "`x`", "a\\b", "*", "#x"])
def test_worker_line_gives_a_shell_the_token_as_it_is(token: str) -> None:
    lines = joining.worker_lines(joining.Reach("http://h:5000", needs_ca=False), token)
    (line,) = [line for line in lines if line.startswith("    ")]
    line = line.replace("python agent.py", "printenv DTRAIN_WORKER_TOKEN")
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=True)
    assert done.stdout == f"{token}\n"
