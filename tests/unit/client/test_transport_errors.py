from __future__ import annotations

import io
import socket
import time
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import msgspec
import pytest
from support.http_peer import Exchange, Peer, early, raw_peer

from dtrain.client.transport import Transport
from dtrain.protocol.errors import (
    Conflict,
    DTrainError,
    Invalid,
    NotFound,
    Unauthorized,
    Unavailable,
    Unreachable,
)


class Word(msgspec.Struct):
    word: str


# What the server refuses.


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Unauthorized),
        (404, NotFound),
        (410, Conflict),
        (422, Invalid),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_problem_becomes_the_error_it_stands_for(
    status: int, kind: type[DTrainError], server: Peer, transport: Transport
) -> None:
    server.on("/x", lambda exchange: exchange.problem(status, "the_code", "Do this."))
    with pytest.raises(kind) as caught:
        transport.request("GET", "/x")
    assert type(caught.value) is kind
    assert caught.value.detail == "Do this."
    assert caught.value.code == "the_code"
    assert caught.value.status == status
    with pytest.raises(kind), transport.stream("/x"):
        pass
    with pytest.raises(kind):
        transport.download("/x", io.BytesIO())


def test_problem_carries_offset_and_field(server: Peer, transport: Transport) -> None:
    body = (
        b'{"status":416,"code":"log_gap","title":"t","detail":"d","offset":12,"field":"f","new":1}'
    )
    server.on("/x", lambda exchange: exchange.reply(416, body, "application/problem+json"))
    with pytest.raises(Conflict) as caught:
        transport.request("POST", "/x", body=b"log")
    assert caught.value.offset == 12
    assert caught.value.field == "f"


@pytest.mark.parametrize(
    ("given", "least", "most"), [("7", 7, 7), ("0", 0, 0), ("date", 80, 91), ("past", 0, 0)]
)
def test_retry_after_is_read_in_both_forms(
    given: str, least: float, most: float, server: Peer, transport: Transport
) -> None:
    offset = {"date": 90, "past": -90}.get(given)
    if offset is not None:
        given = format_datetime(datetime.now(UTC) + timedelta(seconds=offset), usegmt=True)
    server.on("/x", lambda exchange: exchange.problem(429, "busy", "Wait.", Retry_After=given))
    with pytest.raises(Unavailable) as caught:
        transport.request("GET", "/x")
    assert caught.value.retry_after is not None
    assert least <= caught.value.retry_after <= most


@pytest.mark.parametrize("given", ["soon", "-1", "nan", "9" * 400, "٣"])
def test_retry_after_that_says_nothing_is_none(
    given: str, server: Peer, transport: Transport
) -> None:
    encoded = given.encode().decode("latin-1")
    server.on("/x", lambda exchange: exchange.problem(429, "busy", "Wait.", Retry_After=encoded))
    with pytest.raises(Unavailable) as caught:
        transport.request("GET", "/x")
    assert caught.value.retry_after is None


def test_refusal_before_the_body_is_read_is_still_understood(
    server: Peer, transport: Transport
) -> None:
    def refuse(exchange: Exchange) -> None:
        exchange.problem(413, "too_large", "The bundle is too large.", Connection="close")
        exchange.wfile.flush()
        exchange.connection.shutdown(socket.SHUT_WR)
        while exchange.rfile.read1(65536):
            pass

    server.on("/x", early(refuse))
    with pytest.raises(Invalid, match="too large"):
        transport.request("POST", "/x", body=io.BytesIO(bytes(8 * 1024**2)))


# What is no answer of a DTrain server.


def test_html_page_of_a_gateway_is_unavailable(server: Peer, transport: Transport) -> None:
    page = b"<html><h1>502 Bad Gateway</h1>nginx</html>" + bytes(100_000)
    server.on("/x", lambda exchange: exchange.reply(502, page, "text/html", Retry_After="3"))
    with pytest.raises(Unavailable, match="502 Bad Gateway") as caught:
        transport.request("GET", "/x")
    assert "<html>" not in caught.value.detail
    assert caught.value.status == 502
    assert caught.value.retry_after == 3


@pytest.mark.parametrize("status", [401, 403, 404, 409, 410])
def test_foreign_refusal_never_passes_for_the_servers_word(
    status: int, server: Peer, transport: Transport
) -> None:
    server.on("/x", lambda exchange: exchange.reply(status, b"<html>no</html>", "text/html"))
    with pytest.raises(Unreachable, match="not as a DTrain server does") as caught:
        transport.request("GET", "/x")
    assert caught.value.code == "not_dtrain"


def test_foreign_limit_of_size_is_not_worth_a_second_try(
    server: Peer, transport: Transport
) -> None:
    server.on("/x", lambda exchange: exchange.reply(413, b"<html>", "text/html"))
    with pytest.raises(Invalid, match="too large"):
        transport.request("POST", "/x", body=b"x")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Welcome to the hotel</html>",
        b'{"word": 3}',
        b'{"word": "x"',
        b"\xff\xfe",
        b"[]",
    ],
)
def test_answer_that_is_no_message_is_named_so(
    body: bytes, server: Peer, transport: Transport
) -> None:
    server.on("/x", lambda exchange: exchange.reply(200, body, "text/html"))
    answer = transport.request("GET", "/x")
    with pytest.raises(Unreachable, match="check the address") as caught:
        answer.decode(Word)
    assert caught.value.code == "not_dtrain"


@pytest.mark.parametrize(
    "body", [b"", b"not json", b'{"status": "x"}', b"\xff", b'{"detail": 1}', b"x" * 200_000]
)
def test_problem_that_cannot_be_read_is_still_an_error(
    body: bytes, server: Peer, transport: Transport
) -> None:
    server.on("/x", lambda exchange: exchange.reply(500, body, "application/problem+json"))
    with pytest.raises((Unavailable, Unreachable)):
        transport.request("GET", "/x")


def test_redirect_is_named_and_not_followed(server: Peer, transport: Transport) -> None:
    server.on("/x", lambda exchange: exchange.reply(302, Location="/y"))
    server.on("/y", lambda exchange: exchange.reply(302, Location="/x"))
    with pytest.raises(Unreachable, match=f"{server.url}/y"):
        transport.request("POST", "/x", body=b"secret")
    assert [asked.path for asked in server.asked] == ["/x"]


def test_answer_without_end_is_given_up(
    server: Peer, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtrain.client.transport.LARGEST_ANSWER", 1_000_000)

    def answer(exchange: Exchange) -> None:
        exchange.begin()
        while True:
            exchange.chunk(bytes(65536))

    server.on("/x", answer)
    with pytest.raises(Unreachable, match="1,000,000 bytes"):
        transport.request("GET", "/x")


def test_answer_that_drips_is_given_up(
    server: Peer, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtrain.client.transport.SLOWEST_ANSWER", 0.1)

    def answer(exchange: Exchange) -> None:
        exchange.begin()
        while True:
            exchange.chunk(b"x")
            time.sleep(0.01)

    server.on("/x", answer)
    with pytest.raises(Unreachable, match="too slowly"):
        transport.request("GET", "/x")


@pytest.mark.parametrize(
    "say",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\xff\x00\xff\r\n\r\n",
        b"HTTP/1.1 99999 What\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    ],
)
def test_bytes_that_are_not_http_are_named_so(say: bytes) -> None:
    with raw_peer(say) as url, pytest.raises(Unreachable, match="not as a DTrain server") as caught:
        Transport(url, read_timeout=60).request("GET", "/x")
    assert caught.value.code == "not_dtrain"


# No answer at all.


def test_port_without_a_server_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(Unreachable) as caught:
        Transport(url).request("GET", "/x")
    assert url in caught.value.detail
    assert "connection refused" in caught.value.detail
    assert caught.value.code == "unreachable"


def test_unknown_host_is_named() -> None:
    with pytest.raises(Unreachable, match=r"name in http://nowhere\.invalid:5000 is not known"):
        Transport("http://nowhere.invalid:5000").request("GET", "/x")


def test_connection_that_is_never_taken_times_out() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        queued = [socket.socket() for _ in range(4)]
        for each in queued:
            each.settimeout(0)
            each.connect_ex(address)
        with pytest.raises(Unreachable, match=r"within 0\.2 seconds"):
            Transport(f"http://127.0.0.1:{address[1]}", connect_timeout=0.2).request("GET", "/x")
        for each in queued:
            each.close()


def test_silent_server_is_given_up_after_the_timeout(server: Peer, transport: Transport) -> None:
    server.on("/x", Exchange.hang)
    begun = time.monotonic()
    with pytest.raises(Unreachable, match=r"said nothing for 0\.2 seconds"):
        transport.request("GET", "/x", timeout=0.2)
    assert time.monotonic() - begun < 50


def test_stream_that_falls_silent_is_given_up(server: Peer, transport: Transport) -> None:
    def answer(exchange: Exchange) -> None:
        exchange.begin()
        exchange.chunk(b"first")
        exchange.hang()

    server.on("/x", answer)
    with transport.stream("/x", timeout=2) as stream:
        pieces = iter(stream)
        assert next(pieces) == b"first"
        with pytest.raises(Unreachable, match="said nothing"):
            next(pieces)


def _half(exchange: Exchange) -> None:
    exchange.begin(kind="application/json", Content_Length="1000")
    exchange.raw(b'{"word":')


def _half_chunked(exchange: Exchange) -> None:
    exchange.begin()
    exchange.chunk(b'{"word": "x"}')
    exchange.close_connection = True


def _nothing(exchange: Exchange) -> None:
    exchange.close_connection = True


@pytest.mark.parametrize("answer", [_half, _half_chunked, _nothing, Exchange.cut])
def test_answer_that_breaks_off_is_no_answer(
    answer: object, server: Peer, transport: Transport
) -> None:
    server.on("/x", answer)  # type: ignore[arg-type]  # functions of one shape
    with pytest.raises(Unreachable, match="broke off") as caught:
        transport.request("GET", "/x")
    assert caught.value.code == "unreachable"
    into = io.BytesIO()
    with pytest.raises(Unreachable, match="broke off"):
        transport.download("/x", into)


def test_server_that_leaves_a_body_unread_is_given_up(
    server: Peer, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dtrain.client.transport.SEND_TIMEOUT", 0.2)
    server.on("/x", early(Exchange.hang))
    with pytest.raises(Unreachable, match="broke off"):
        transport.request("PUT", "/x", body=io.BytesIO(bytes(64 * 1024**2)))


def test_sending_may_pause_for_longer_than_connecting(server: Peer) -> None:
    def slow(exchange: Exchange) -> None:
        time.sleep(0.5)
        exchange._body()
        exchange.reply(204)

    server.on("/x", early(slow))
    transport = Transport(server.url, connect_timeout=0.2, read_timeout=60)
    for _ in range(2):
        answer = transport.request("PUT", "/x", body=io.BytesIO(bytes(32 * 1024**2)))
        assert answer.status == 204
