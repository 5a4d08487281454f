"""A real HTTP peer whose answers, good and bad, a test writes itself."""

from __future__ import annotations

import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

from .processes import PATIENCE

Answer = Callable[["Exchange"], None]


@dataclass
class Asked:
    """One request as the peer received it."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes


class Exchange(BaseHTTPRequestHandler):
    """One connection; an answer calls these to say what it wants, byte by byte if need be."""

    protocol_version = "HTTP/1.1"
    server: Peer

    def reply(
        self, status: int = 200, body: bytes = b"", kind: str = "application/json", **headers: str
    ) -> None:
        self.begin(status, kind, Content_Length=str(len(body)), **headers)
        self.wfile.write(body)

    def json(self, value: object, status: int = 200, **headers: str) -> None:
        self.reply(status, json.dumps(value).encode(), **headers)

    def problem(self, status: int, code: str, detail: str, **headers: str) -> None:
        body = {"status": status, "code": code, "title": "x", "detail": detail}
        self.reply(status, json.dumps(body).encode(), "application/problem+json", **headers)

    def begin(self, status: int = 200, kind: str = "text/event-stream", **headers: str) -> None:
        """Send the head; without a Content_Length the answer is chunked."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if "Content_Length" not in headers:
            self.send_header("Transfer-Encoding", "chunked")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def chunk(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def finish_chunks(self) -> None:
        self.wfile.write(b"0\r\n\r\n")

    def raw(self, data: bytes) -> None:
        """Send bytes as they are, then end the connection."""
        self.wfile.write(data)
        self.close_connection = True

    def cut(self) -> None:
        """Reset the connection, as a machine that goes away does."""
        linger = struct.pack("ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True

    def hang(self) -> None:
        """Say nothing until the test is over."""
        self.server.over.wait()
        self.close_connection = True

    def handle_one_request(self) -> None:
        try:
            super().handle_one_request()
        except OSError:
            self.close_connection = True

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        setattr(self, f"do_{self.command}", self._serve)
        return True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base's own name
        pass

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        answers = self.server.answers.get(parts.path)
        early = getattr(answers[0], "early", False) if answers else False
        asked = Asked(
            method=self.command,
            path=parts.path,
            query=dict(parse_qsl(parts.query)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=b"" if early else self._body(),
        )
        self.server.asked.append(asked)
        if not answers:
            self.problem(404, "not_found", "There is nothing here.")
        elif len(answers) == 1:
            answers[0](self)
        else:
            answers.pop(0)(self)

    def _body(self) -> bytes:
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        if "Transfer-Encoding" not in self.headers:
            return b""
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(pieces)


class Peer(ThreadingHTTPServer):
    """Listens on a free port of this machine."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Exchange)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.answers: dict[str, list[Answer]] = {}
        self.asked: list[Asked] = []
        self.over = threading.Event()

    def on(self, path: str, *answers: Answer) -> None:
        """Answer requests for a path with these in turn; the last one is for all that follow."""
        self.answers[path] = list(answers)

    def handle_error(self, request: object, client_address: object) -> None:
        pass


def early(answer: Answer) -> Answer:
    """An answer that is given before the request's body is read."""
    answer.early = True  # type: ignore[attr-defined]  # a mark on the function
    return answer


@contextmanager
def peer() -> Iterator[Peer]:
    """A peer that runs until the block ends."""
    with Peer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.over.set()
            server.shutdown()
            thread.join()


@contextmanager
def raw_peer(say: bytes, *, read: bool = True) -> Iterator[str]:
    """A TCP port that says these bytes to whoever connects; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        over = threading.Event()

        def serve() -> None:
            while not over.is_set():
                connection, _ = listener.accept()
                with connection:
                    if over.is_set():
                        return
                    if read:
                        connection.recv(65536)
                    connection.sendall(say)
                    connection.shutdown(socket.SHUT_WR)
                    connection.settimeout(PATIENCE)
                    while connection.recv(65536):
                        pass

        thread = threading.Thread(target=serve)
        thread.start()
        port = listener.getsockname()[1]
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            over.set()
            socket.create_connection(("127.0.0.1", port)).close()
            thread.join()
