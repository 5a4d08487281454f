"""The server's application without a socket, and a worker that speaks its protocol by hand."""

from __future__ import annotations

import io
import secrets
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart

from dtrain.protocol import routes
from dtrain.server.app import compose, create_app
from dtrain.server.services import Services
from dtrain.server.settings import load

SHARED_TOKEN = "your-worker-token"
ACCESS_TOKEN = "the-access-token-of-these-tests-and-of-none-else"
WIDE = {"DTRAIN_HOST": "0.0.0.0", "DTRAIN_ACCESS_TOKEN": ACCESS_TOKEN}
"""Settings of a server that others can reach."""


class Application:
    """The parts of a server, its application, and a client that calls it directly."""

    def __init__(self, services: Services, app: Flask) -> None:
        self.services = services
        self.app = app
        self.client: FlaskClient = app.test_client()

    def submit(self, name: str = "a job", **fields: Any) -> dict[str, Any]:
        """Hand in a job whose bundle holds `main.py`."""
        answer = self.client.post(routes.JOBS, **form({"name": name, "file": upload(), **fields}))
        assert answer.status_code == 201, answer.text
        return dict(answer.json or {})


@contextmanager
def application(home: Path, settings: Mapping[str, str] | None = None) -> Iterator[Application]:
    """A server's application on a home folder, by its environment's settings alone."""
    environment = {"WORKER_SHARED_TOKEN": SHARED_TOKEN, **(settings or {})}
    services = compose(load(home, environment))
    services.events.start()
    try:
        yield Application(services, create_app(services))
    finally:
        services.stop.set()
        services.mailboxes.wake_all()
        services.events.stop()
        services.database.close()


def bundle(files: Mapping[str, str] | None = None) -> bytes:
    """A ZIP; of `main.py` alone if nothing else is said. The same files make the same one."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in (files or {"main.py": "print('hello')\n"}).items():
            member = zipfile.ZipInfo(name)
            member.external_attr = 0o600 << 16
            archive.writestr(member, text)
    return packed.getvalue()


def upload(content: bytes | None = None, name: str = "bundle.zip") -> FileStorage:
    """A bundle as a field of a form."""
    return FileStorage(io.BytesIO(bundle() if content is None else content), name)


def form(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The fields as a body and its type, for a call of the client."""
    boundary, body = encode_multipart(fields)
    return {"data": body, "content_type": f"multipart/form-data; boundary={boundary}"}


CAPACITY: dict[str, Any] = {
    "slots": 1,
    "cpus": 4.0,
    "memory": 8 * 1024**3,
    "executors": ["venv"],
}


class Agent:
    """A worker that has come, and does what it is told."""

    def __init__(self, client: FlaskClient, token: str = SHARED_TOKEN, name: str = "w") -> None:
        self.client = client
        self.secret = secrets.token_urlsafe(32)
        self.number = 0
        answer = client.post(routes.REGISTER, json=registration(name), headers=bearer(token))
        assert answer.status_code == 200, answer.text
        registered = answer.json or {}
        self.id: str = registered["worker_id"]
        self.session: int = registered["session"]
        self.credential: str = registered["credential"]
        self.job_id = 0
        self.attempt = 0

    def poll_message(self, **changes: Any) -> dict[str, Any]:
        """What a poll says."""
        self.number += 1
        return {
            "session": self.session,
            "number": self.number,
            "wait": 0,
            "capacity": CAPACITY,
            "metrics": {},
            "attempts": [],
            "next_secret": self.secret,
            "asks": False,
            **changes,
        }

    def claim(self) -> dict[str, Any]:
        """Poll once for a job; the assignment."""
        answer = self.call("POST", routes.POLL, json=self.poll_message())
        assert answer.status_code == 200, answer.text
        assignment: dict[str, Any] = (answer.json or {})["assignment"]
        assert assignment is not None
        self.job_id, self.attempt = assignment["job_id"], assignment["attempt"]
        return assignment

    def call(self, method: str, path: str, **options: Any) -> TestResponse:
        """Ask with the worker's credential."""
        headers = {**bearer(self.credential), **options.pop("headers", {})}
        return self.client.open(path, method=method, headers=headers, **options)

    def report(self, method: str, template: str, **options: Any) -> TestResponse:
        """Ask about the attempt that was claimed, with its secret."""
        parts = {"job_id": self.job_id, "attempt": self.attempt, **options.pop("parts", {})}
        headers = {routes.SECRET_HEADER: self.secret, **options.pop("headers", {})}
        return self.call(method, routes.path(template, **parts), headers=headers, **options)


def registration(name: str = "w", **changes: Any) -> dict[str, Any]:
    """What a worker says when it comes."""
    return {
        "protocol": 1,
        "version": "0.1.0",
        "name": name,
        "hostname": "host",
        "worker_id": None,
        "boot_id": "boot",
        "capacity": CAPACITY,
        "asks": False,
        **changes,
    }


def bearer(token: str) -> dict[str, str]:
    """The header that shows a token."""
    return {"Authorization": f"Bearer {token}"}
