"""A container engine that says what a test has told it to, over a real socket."""

from __future__ import annotations

import json
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

Answer = tuple[int, object]
"""A status, or 0 to break off; and what is said as it is or as JSON, or nothing if None."""


class ScriptedEngine:
    """What is asked of it, and what it answers.

    Args:
        socket: where it is to be reached.
        answers: by method and path, as in `GET /info`; what else is asked gets the answer to
            nothing, or is not found.
    """

    def __init__(self, socket: Path, answers: dict[str, Answer | Callable[[], Answer]]) -> None:
        self.socket = str(socket)
        self.answers = answers
        self.asked: list[str] = []

    def answer(self, request: str) -> Answer:
        """What it says to a request, which it keeps in mind."""
        self.asked.append(request)
        missing = 404, {"message": "There is no such thing."}
        found = self.answers.get(request, self.answers.get("", missing))
        return found() if callable(found) else found


@contextmanager
def scripted_engine(socket: Path, answers: dict[str, Any]) -> Iterator[ScriptedEngine]:
    """One that runs until the end of the block."""
    engine = ScriptedEngine(socket, answers)

    class Handler(BaseHTTPRequestHandler):
        def _do(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, said = engine.answer(f"{self.command} {urlsplit(self.path).path}")
            if not status:
                self.close_connection = True
                return
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            content = b"" if said is None else content
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_DELETE = do_PUT = _do  # noqa: N815 -- as `http.server` calls them

        def log_message(self, *_: object) -> None:
            """Nothing."""

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

        def get_request(self) -> tuple[Any, Any]:
            request, _ = super().get_request()
            return request, ("client", 0)

    with Server(str(socket), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield engine
        finally:
            server.shutdown()
            thread.join()
