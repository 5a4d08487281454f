from __future__ import annotations

import ssl
from pathlib import Path

import msgspec
import pytest
from support.certificate import CERTIFICATE, KEY
from support.http_peer import Peer, peer

from dtrain.client.transport import Transport
from dtrain.protocol.errors import (
    Invalid,
    Unreachable,
)


class Word(msgspec.Struct):
    word: str


# Addresses, tokens, proxies, certificates.


@pytest.mark.parametrize(
    "url",
    [
        "",
        "localhost:5000",
        "localhost",
        "ftp://host",
        "http://",
        "http://:5000",
        "http://host:port",
        "http://host:99999",
        "http://host:0",
        "http://user:password@host",
        "http://host/?a=b",
        "http://host/#f",
        "http://[::1",
        "http://ho st",
        "http://host\r\nX: y",
        "file:///etc/passwd",
        "x" * 10_000,
    ],
)
def test_address_that_is_none_is_refused_in_a_sentence(url: str) -> None:
    with pytest.raises(Invalid, match="server's address") as caught:
        Transport(url)
    assert len(caught.value.detail) < 250
    assert "password" not in caught.value.detail
    assert "\n" not in caught.value.detail


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("http://localhost:5000/", "http://localhost:5000"),
        (" https://host ", "https://host"),
        ("http://[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_address_is_kept_without_its_last_slash(given: str, kept: str) -> None:
    assert Transport(given).base_url == kept


@pytest.mark.parametrize("token", ["a\r\nX: y", "a b", "tökén", " "])
def test_token_that_cannot_stand_in_a_header_is_refused(token: str) -> None:
    with pytest.raises(Invalid, match="token") as caught:
        Transport("http://localhost", token)
    assert token.strip() == "" or token not in caught.value.detail


def test_proxy_is_used_for_others_and_not_for_this_machine(
    server: Peer, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    with peer() as proxy:
        proxy.on("/x", lambda exchange: exchange.json({"word": "by proxy"}))
        server.on("/x", lambda exchange: exchange.json({"word": "direct"}))
        monkeypatch.setenv("http_proxy", proxy.url.replace("http://", "http://u:p@"))
        assert Transport(server.url).request("GET", "/x").decode(Word).word == "direct"
        other = Transport("http://train.example:5000")
        assert other.request("GET", "/x").decode(Word).word == "by proxy"
        assert proxy.asked[0].headers["host"] == "train.example:5000"
        assert proxy.asked[0].headers["proxy-authorization"] == "Basic dTpw"
        monkeypatch.setenv("no_proxy", "train.example")
        with pytest.raises(Unreachable, match="host name"):
            Transport("http://train.example:5000").request("GET", "/x")


def test_proxy_that_is_down_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "127.0.0.1:1")
    with pytest.raises(Unreachable, match=r"proxy on the way to http://train\.example"):
        Transport("http://train.example").request("GET", "/x")


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:1080", "http://[", "gopher://x"])
def test_proxy_of_an_unknown_kind_is_refused(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", proxy)
    with pytest.raises(Invalid, match="NO_PROXY"):
        Transport("http://train.example")


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """The file of the certificate; the key is beside it."""
    (tmp_path / "key.pem").write_text(KEY)
    path = tmp_path / "certificate.pem"
    path.write_text(CERTIFICATE)
    return path


@pytest.fixture
def secure(server: Peer, certificate: Path) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.with_name("key.pem"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.on("/x", lambda exchange: exchange.json({"word": "x"}))
    return server.url.replace("http:", "https:")


def test_certificate_of_an_unknown_ca_is_refused(secure: str) -> None:
    with pytest.raises(Unreachable, match=r"not trusted .*SSL_CERT_FILE"):
        Transport(secure, "token").request("GET", "/x")


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_ca_of_the_environment_is_trusted(
    variable: str, secure: str, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(certificate))
    transport = Transport(secure)
    for _ in range(2):
        assert transport.request("POST", "/x", body=b"y").status == 200
    transport.close()


def test_ca_file_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nowhere/ca.pem")
    with pytest.raises(Invalid, match=r"SSL_CERT_FILE names '/nowhere/ca\.pem'"):
        Transport("https://host")
    assert Transport("http://host").base_url == "http://host"


def test_https_to_a_plain_server_says_to_try_http(server: Peer) -> None:
    with pytest.raises(Unreachable, match="begins with http://"):
        Transport(server.url.replace("http:", "https:")).request("GET", "/x")
