from __future__ import annotations

import io
import threading
import time
from pathlib import Path

import msgspec
import pytest
from support.http_peer import Exchange, Peer, early
from support.processes import PATIENCE

from dtrain.client.multipart import Multipart
from dtrain.client.transport import Transport


class Word(msgspec.Struct):
    word: str


# What is sent and what comes back.


def test_request_sends_message_query_token_and_decodes_answer(
    server: Peer, transport: Transport
) -> None:
    server.on("/x", lambda exchange: exchange.json({"word": "answer", "unknown": 1}, 201))
    answer = transport.request(
        "POST", "/x", query={"q": "a b&c", "none": None, "n": 3}, message=Word("ask")
    )
    assert answer.status == 201
    assert answer.decode(Word) == Word("answer")
    assert answer.headers["CONTENT-TYPE"] == "application/json"
    [asked] = server.asked
    assert asked.method == "POST"
    assert asked.query == {"q": "a b&c", "n": "3"}
    assert asked.headers["authorization"] == "Bearer secret-token"
    assert asked.headers["content-type"] == "application/json"
    assert asked.headers["user-agent"].startswith("dtrain/")
    assert asked.body == b'{"word":"ask"}'


@pytest.mark.parametrize("kind", ["bytes", "file", "iterable"])
def test_request_sends_a_body_of_each_kind_whole(
    kind: str, server: Peer, transport: Transport, tmp_path: Path
) -> None:
    content = bytes(range(256)) * 4000
    (tmp_path / "file").write_bytes(b"skipped" + content)
    server.on("/x", lambda exchange: exchange.reply(204))
    with (tmp_path / "file").open("rb") as file:
        file.seek(len("skipped"))
        pieces = (content[at : at + 1000] for at in range(0, len(content), 1000))
        body = {"bytes": content, "file": file, "iterable": pieces}[kind]
        assert transport.request("PUT", "/x", body=body).status == 204
    [asked] = server.asked
    assert asked.body == content
    if kind != "iterable":
        assert asked.headers["content-length"] == str(len(content))


def test_request_keeps_a_path_before_the_api(server: Peer) -> None:
    server.on("/under/here/api", lambda exchange: exchange.json({"word": "x"}))
    assert Transport(f"{server.url}/under/here/").request("GET", "/api").status == 200


def test_request_uses_one_connection_again(server: Peer, transport: Transport) -> None:
    ports: list[int] = []

    def answer(exchange: Exchange) -> None:
        ports.append(exchange.client_address[1])
        exchange.json({"word": "x"})

    server.on("/x", answer)
    for _ in range(3):
        transport.request("GET", "/x")
    assert len(ports) == 3
    assert len(set(ports)) == 1


def test_transport_serves_many_threads_at_once(server: Peer, transport: Transport) -> None:
    together = threading.Barrier(6, timeout=PATIENCE)

    def answer(exchange: Exchange) -> None:
        together.wait()
        exchange.json({"word": exchange.path})

    server.on("/x", answer)
    words: list[str] = []

    def ask(number: int) -> None:
        answer = transport.request("GET", "/x", query={"n": number}, timeout=PATIENCE)
        words.append(answer.decode(Word).word)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(words) == [f"/x?n={number}" for number in range(6)]


def test_upload_sends_a_form_that_standard_readers_understand(
    server: Peer, transport: Transport
) -> None:
    from werkzeug.formparser import parse_form_data

    content = b"\r\n--boundary\r\n" * 20_000
    told: list[tuple[int, int | None]] = []
    form = Multipart(
        [("name", "Größe \U0001f40d"), ("tags", "a"), ("tags", "b"), ('odd"\r\nname', "x\r\ny")],
        io.BytesIO(content),
        file_name='bun"dle\r\n.zip',
        progress=lambda done, total: told.append((done, total)),
    )
    server.on("/x", lambda exchange: exchange.reply(204))
    transport.upload("/x", form, headers={"Idempotency-Key": "k"})
    [asked] = server.asked
    assert int(asked.headers["content-length"]) == len(asked.body) == form.length
    assert asked.headers["idempotency-key"] == "k"
    environ = {
        "REQUEST_METHOD": "POST",
        "CONTENT_TYPE": asked.headers["content-type"],
        "CONTENT_LENGTH": asked.headers["content-length"],
        "wsgi.input": io.BytesIO(asked.body),
    }
    _, fields, files = parse_form_data(environ)
    assert fields["name"] == "Größe \U0001f40d"
    assert fields.getlist("tags") == ["a", "b"]
    assert "x\r\ny" in fields.values()
    with files["file"].stream as file:
        assert file.read() == content
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (form.length, form.length)
    assert len(told) > 3


def test_upload_can_be_sent_again(server: Peer, transport: Transport) -> None:
    server.on("/x", lambda exchange: exchange.reply(204))
    file = io.BytesIO(b"skipped, content")
    file.seek(9)
    form = Multipart([("a", "b")], file, file_name="x.zip")
    transport.upload("/x", form)
    transport.upload("/x", form)
    first, second = server.asked
    assert first.body == second.body
    assert b"content" in first.body
    assert b"skipped" not in first.body


def test_upload_of_a_huge_file_takes_little_memory(server: Peer, transport: Transport) -> None:
    import tracemalloc

    class Zeros(io.RawIOBase):
        size, at = 80 * 1024**2, 0

        def seek(self, offset: int, whence: int = 0) -> int:
            self.at = self.size + offset if whence == 2 else offset
            return self.at

        def tell(self) -> int:
            return self.at

        def read(self, size: int = -1) -> bytes:
            size = min(size, self.size - self.at)
            self.at += size
            return bytes(size)

    def swallow(exchange: Exchange) -> None:
        left = int(exchange.headers["Content-Length"])
        while left:
            left -= len(exchange.rfile.read(min(left, 65536)))
        exchange.reply(204)

    server.on("/x", early(swallow))
    form = Multipart([], Zeros(), file_name="x.zip")
    tracemalloc.start()
    try:
        transport.upload("/x", form)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * 1024**2


def test_download_writes_all_bytes_and_tells_progress(server: Peer, transport: Transport) -> None:
    content = bytes(range(256)) * 2000
    server.on("/x", lambda exchange: exchange.reply(body=content, kind="application/zip"))
    into = io.BytesIO()
    told: list[tuple[int, int | None]] = []
    count = transport.download("/x", into, progress=lambda done, all_: told.append((done, all_)))
    assert into.getvalue() == content
    assert count == len(content)
    assert told[-1] == (len(content), len(content))


def test_stream_hands_on_each_piece_when_it_comes(server: Peer, transport: Transport) -> None:
    go_on = threading.Event()

    def answer(exchange: Exchange) -> None:
        exchange.begin()
        exchange.chunk(b"first")
        assert go_on.wait(PATIENCE)
        exchange.chunk(b"second")
        exchange.finish_chunks()

    server.on("/x", answer)
    with transport.stream("/x", query={"a": 1}, headers={"Last-Event-ID": "7"}) as stream:
        pieces = iter(stream)
        assert next(pieces) == b"first"
        go_on.set()
        assert list(pieces) == [b"second"]
    assert server.asked[0].headers["last-event-id"] == "7"


def test_stream_left_early_closes_the_connection(server: Peer, transport: Transport) -> None:
    closed = threading.Event()

    def answer(exchange: Exchange) -> None:
        exchange.begin()
        try:
            while True:
                exchange.chunk(b": keep-alive\n\n")
                time.sleep(0.01)
        except OSError:
            closed.set()
            raise

    server.on("/x", answer)
    with transport.stream("/x") as stream:
        next(iter(stream))
    assert closed.wait(PATIENCE)
