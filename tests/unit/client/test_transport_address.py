from __future__ import annotations

import ssl
from pathlib import Path

import msgspec
import pytest
from support.certificate import Authority, Certificate
from support.http_peer import Peer, peer

from dtrain.client.address import origin
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
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def secured(server: Peer, certificate: Certificate) -> str:
    """The address of the peer, which now shows a certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.chain, certificate.key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.on("/x", lambda exchange: exchange.json({"word": "x"}))
    return server.url.replace("http:", "https:")


def test_certificate_of_an_unknown_ca_is_refused(server: Peer, authority: Authority) -> None:
    url = secured(server, authority.sign("127.0.0.1"))
    with pytest.raises(Unreachable, match=r"CA that this machine does not know.*DTRAIN_CA_FILE"):
        Transport(url, "token").request("GET", "/x")


@pytest.mark.parametrize(
    ("name", "days", "sentence"),
    [
        ("127.0.0.1", (-9, -1), "has expired; have it renewed"),
        ("127.0.0.1", (1, 9), "is not valid yet; correct this machine's clock"),
        ("192.0.2.7", (-1, 9), r"is not for 127\.0\.0\.1; use an address that it names"),
    ],
)
def test_certificate_that_does_not_hold_is_refused_in_a_sentence(
    server: Peer, authority: Authority, name: str, days: tuple[int, int], sentence: str
) -> None:
    url = secured(server, authority.sign(name, begins=days[0], ends=days[1]))
    with pytest.raises(Unreachable, match=sentence) as caught:
        Transport(url, ca_file=str(authority.file)).request("GET", "/x")
    assert caught.value.detail.count("\n") == 0


def test_certificate_for_another_name_is_refused(
    server: Peer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = secured(server, authority.sign("dtrain.example"))
    monkeypatch.setenv("DTRAIN_CA_FILE", str(authority.file))
    with pytest.raises(Unreachable, match="is not for localhost"):
        Transport(url.replace("127.0.0.1", "localhost")).request("GET", "/x")


@pytest.mark.parametrize("variable", ["DTRAIN_CA_FILE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"])
def test_ca_of_the_environment_is_trusted(
    variable: str, server: Peer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = secured(server, authority.sign("127.0.0.1"))
    monkeypatch.setenv(variable, str(authority.file))
    transport = Transport(url)
    for _ in range(2):
        assert transport.request("POST", "/x", body=b"y").status == 200
    transport.close()


def test_ca_that_is_said_goes_before_the_environment(
    server: Peer, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = secured(server, authority.sign("127.0.0.1"))
    monkeypatch.setenv("DTRAIN_CA_FILE", "/nowhere/ca.pem")
    transport = Transport(url, ca_file=str(authority.file))
    assert transport.request("GET", "/x").status == 200
    transport.close()


@pytest.mark.parametrize("variable", ["DTRAIN_CA_FILE", "SSL_CERT_FILE"])
def test_ca_file_that_cannot_be_used_is_named(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, "/nowhere/ca.pem")
    with pytest.raises(Invalid, match=rf"{variable} names '/nowhere/ca\.pem'.*no such file"):
        Transport("https://host")
    assert Transport("http://host").base_url == "http://host"
    (tmp_path / "other").write_text("no certificate")
    with pytest.raises(Invalid, match=r"ca_file names .*holds no certificate"):
        Transport("https://host", ca_file=str(tmp_path / "other"))


def test_https_to_a_plain_server_says_to_try_http(server: Peer) -> None:
    with pytest.raises(Unreachable, match="begins with http://"):
        Transport(server.url.replace("http:", "https:")).request("GET", "/x")


def test_plain_request_to_a_server_with_tls_says_to_try_https(
    server: Peer, authority: Authority
) -> None:
    url = secured(server, authority.sign("127.0.0.1"))
    with pytest.raises(Unreachable, match=r"HTTPS|broke off"):
        Transport(url.replace("https:", "http:")).request("GET", "/x")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://HOST", "http://host:80/path"),
        ("https://host:443", "https://host"),
        ("http://[::1]:5000", "http://[::1]:5000/"),
    ],
)
def test_origin_tells_servers_apart(one: str, other: str) -> None:
    assert origin(one) == origin(other)
    assert len({origin(u) for u in ("http://h", "https://h", "http://h:81", "http://h2")}) == 4
