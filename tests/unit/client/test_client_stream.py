from __future__ import annotations

import base64
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.http_peer import Answer, Exchange, Peer
from support.messages import job_json

from dtrain.client import stream
from dtrain.client.stream import Metric, ServerEvent, content, follow, parse
from dtrain.client.transport import Transport
from dtrain.protocol.errors import DTrainError, NotFound, Unavailable, Unreachable
from dtrain.protocol.messages import Job, LogPiece, encode

STREAM = "/api/jobs/7/stream"


# The form of the messages.


def test_parse_reads_every_field_and_skips_what_it_does_not_know() -> None:
    text = (
        b"retry: 2000\n\n: keep-alive\n\nid: 1.2.3.4\nevent: log\ndata: one\ndata:two\n"
        b"data:  three\ncolor: red\nnonsense\n\n"
    )
    assert list(parse([text])) == [ServerEvent("log", b"one\ntwo\n three", "1.2.3.4")]


def test_parse_keeps_the_last_id_for_messages_without_one() -> None:
    text = b"id: 5\ndata: a\n\ndata: b\n\nid\ndata: c\n\nid: x\0y\ndata: d\n\n"
    assert [event.id for event in parse([text])] == ["5", "5", "", ""]


def test_parse_drops_a_message_that_is_not_complete() -> None:
    assert list(parse([b"data: a\n\ndata: b\n"])) == [ServerEvent("message", b"a", None)]
    assert list(parse([b"data: a"])) == []
    assert list(parse([b"event: job\n\n"])) == []


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["job", "log", "metric"]),
            st.text(alphabet=st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])),
        ),
        max_size=8,
    ),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.randoms(use_true_random=False),
)
def test_parse_does_not_care_how_the_bytes_are_cut(
    messages: list[tuple[str, str]], end: bytes, chance: random.Random
) -> None:
    lines = []
    for number, (event, data) in enumerate(messages):
        lines += [b"event: " + event.encode(), b"data: " + data.encode(), b"id: %d" % number, b""]
    text = b"".join(line + end for line in lines) + b":" + end
    cuts = sorted(chance.sample(range(len(text) + 1), k=min(10, len(text))))
    pieces = [text[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    assert list(parse(pieces)) == [
        ServerEvent(event, data.encode(), str(number))
        for number, (event, data) in enumerate(messages)
    ]


def test_parse_refuses_a_message_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "LARGEST_MESSAGE", 1000)
    with pytest.raises(ValueError, match="too large"):
        list(parse([b"x" * 600, b"x" * 600]))
    with pytest.raises(ValueError, match="too large"):
        list(parse([b"data: " + b"x" * 600 + b"\n"] * 2))
    assert len(list(parse([b"data: " + b"x" * 600 + b"\n\n"] * 5))) == 5


@pytest.mark.parametrize("data", [b"", b"text\n", "Grüße".encode(), b"\xff\x00\xfe", b"\xc3"])
def test_content_gives_the_very_bytes(data: bytes) -> None:
    try:
        piece = LogPiece(attempt=1, offset=0, end=len(data), text=data.decode())
    except UnicodeDecodeError:
        piece = LogPiece(attempt=1, offset=0, end=len(data), base64=base64.b64encode(data).decode())
    assert content(piece) == data


# Following.


def message(event: str, data: bytes, id_: str | None = None) -> bytes:
    head = b"" if id_ is None else b"id: %b\n" % id_.encode()
    return head + b"event: %b\ndata: %b\n\n" % (event.encode(), data)


def log_piece(offset: int, data: bytes) -> bytes:
    piece = LogPiece(attempt=1, offset=offset, end=offset + len(data), text=data.decode())
    return message("log", encode(piece), f"1.1.{offset + len(data)}.0")


JOB = message("job", job_json(id=7, status="running", phase="executing"), "1.1.0.0")
END = message("end", b"{}", "2.1.0.0")


def told(*chunks: bytes) -> Answer:
    """An answer that says these bytes, then ends as it should."""

    def answer(exchange: Exchange) -> None:
        exchange.begin()
        for chunk in chunks:
            exchange.chunk(chunk)
        exchange.finish_chunks()

    return answer


def cut_after(*chunks: bytes) -> Answer:
    """An answer that breaks off after these bytes."""

    def answer(exchange: Exchange) -> None:
        exchange.begin()
        for chunk in chunks:
            exchange.chunk(chunk)
        exchange.cut()

    return answer


def test_follow_gives_typed_updates_until_the_end(server: Peer, transport: Transport) -> None:
    metric = {"attempt": 1, "seq": 0, "step": 1, "at": "2026-01-01T00:00:00Z", "values": {"a": 1}}
    server.on(
        STREAM,
        told(
            b"retry: 2000\n\n",
            JOB,
            log_piece(0, b"hello\n"),
            message("metric", encode(metric)),
            message("news", b"from the future"),
            END,
            message("job", b"never looked at"),
        ),
    )
    job, piece, record = follow(transport, 7)
    assert isinstance(job, Job)
    assert job.id == 7
    assert isinstance(piece, LogPiece)
    assert content(piece) == b"hello\n"
    assert isinstance(record, Metric)
    assert (record.attempt, record.values) == (1, {"a": 1})
    assert server.asked[0].headers["accept"] == "text/event-stream"


def test_follow_says_where_to_begin(server: Peer, transport: Transport) -> None:
    server.on(STREAM, told(END))
    assert list(follow(transport, 7, attempt=3, offset=100)) == []
    assert server.asked[0].query == {"attempt": "3", "offset": "100"}
    assert "last-event-id" not in server.asked[0].headers


@pytest.mark.parametrize("breaks", [cut_after, told])
def test_follow_goes_on_behind_the_last_message(
    breaks: Any, server: Peer, transport: Transport
) -> None:
    half = log_piece(6, b"world\n")
    server.on(
        STREAM,
        breaks(JOB, log_piece(0, b"hello\n"), half[: len(half) // 2]),
        lambda exchange: exchange.reply(502, b"<html>", "text/html"),
        lambda exchange: exchange.problem(503, "unavailable", "Later.", Retry_After="0"),
        Exchange.cut,
        told(half, END),
    )
    cuts: list[DTrainError] = []
    updates = list(follow(transport, 7, on_cut=cuts.append))
    log = b"".join(content(each) for each in updates if isinstance(each, LogPiece))
    assert log == b"hello\nworld\n"
    assert len(cuts) == 4
    ids = [asked.headers.get("last-event-id") for asked in server.asked]
    assert ids == [None, *["1.1.6.0"] * 4]


def test_follow_loses_and_doubles_nothing_over_many_cuts(
    server: Peer, transport: Transport
) -> None:
    chance = random.Random(7)
    log = bytes(chance.choice(b"abc\n") for _ in range(20_000))

    def answer(exchange: Exchange) -> None:
        position = exchange.headers.get("Last-Event-ID")
        offset = int(position.split(".")[2]) if position else 0
        exchange.begin()
        if not position:
            exchange.chunk(JOB)
        while offset < len(log):
            data = log[offset : offset + chance.randrange(1, 400)]
            text = log_piece(offset, data)
            if chance.random() < 0.1:
                exchange.chunk(text[: chance.randrange(1, len(text))])
                exchange.cut()
                return
            exchange.chunk(text)
            offset += len(data)
        exchange.chunk(END)
        exchange.finish_chunks()

    server.on(STREAM, answer)
    updates = list(follow(transport, 7))
    assert isinstance(updates[0], Job)
    assert b"".join(content(each) for each in updates[1:] if isinstance(each, LogPiece)) == log
    assert len(server.asked) > 5


def test_follow_outlives_a_server_that_is_away_for_long(
    server: Peer, transport: Transport, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "LONGEST_PAUSE", 0.001)
    away = [Exchange.cut] * 40
    server.on(STREAM, cut_after(JOB), *away, told(END))
    assert len(list(follow(transport, 7))) == 1
    assert len(server.asked) == 42


def test_follow_does_not_wait_for_a_server_that_was_never_there() -> None:
    transport = Transport("http://127.0.0.1:1")
    with pytest.raises(Unreachable, match="connection refused"):
        list(follow(transport, 7))


def test_follow_waits_only_a_little_for_a_server_that_was_never_ready(
    server: Peer, transport: Transport
) -> None:
    server.on(STREAM, lambda exchange: exchange.problem(503, "too_many_streams", "Later."))
    with pytest.raises(Unavailable, match="Later"):
        list(follow(transport, 7))
    assert len(server.asked) == stream.FIRST_TRIES


def test_follow_ends_when_the_job_is_gone(server: Peer, transport: Transport) -> None:
    server.on(
        STREAM, cut_after(JOB), lambda exchange: exchange.problem(404, "not_found", "No job 7.")
    )
    updates = follow(transport, 7)
    next(updates)
    with pytest.raises(NotFound, match="No job 7"):
        list(updates)


@pytest.mark.parametrize(
    "answer",
    [
        lambda exchange: exchange.reply(200, b"<html>hotel</html>", "text/html"),
        told(message("job", b"{}")),
        told(message("log", b"\xff")),
    ],
)
def test_follow_names_a_peer_that_is_no_server(
    answer: Answer, server: Peer, transport: Transport
) -> None:
    server.on(STREAM, answer)
    with pytest.raises(Unreachable, match="not as a DTrain server does") as caught:
        list(follow(transport, 7))
    assert caught.value.code == "not_dtrain"


def test_pauses_grow_at_random_up_to_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "FIRST_PAUSE", 0.2)
    monkeypatch.setattr(stream, "LONGEST_PAUSE", 5.0)
    rows = [[next(waits) for _ in range(8)] for waits in (stream.pauses() for _ in range(300))]
    for place, bound in enumerate([0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]):
        column = [row[place] for row in rows]
        assert max(column) <= bound
        assert max(column) > bound * 0.8
        assert min(column) < bound * 0.2
