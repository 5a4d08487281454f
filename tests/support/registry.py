"""A registry of container images that asks for a name and a password, with a small image in it."""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
import tarfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dtrain.worker.engine import Engine
from dtrain.worker.registries import encoded

from .processes import Running, free_port, wait_for
from .requirements import require

USER = "lab"
PASSWORD = "secret"
_HASHED = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
_SETTINGS = """\
version: 0.1
storage: {{ filesystem: {{ rootdirectory: {folder}/images }} }}
http: {{ addr: "127.0.0.1:{port}" }}
auth: {{ htpasswd: {{ realm: tests, path: {folder}/passwords }} }}
"""
_LAYER = 3 * 2**20
"""Bytes of the image that do not get smaller on their way."""


class Registry:
    """A registry, and the name of its image, which has a shell and no more.

    Args:
        folder: for all that it has.
        engine: that brings the image there.
    """

    def __init__(self, folder: Path, engine: Engine) -> None:
        program = require("registry")
        self.port = free_port()
        self.host = f"127.0.0.1:{self.port}"
        folder.mkdir()
        (folder / "passwords").write_text(f"{USER}:{_HASHED}\n")
        settings = folder / "settings.yml"
        settings.write_text(_SETTINGS.format(folder=folder, port=self.port))
        command = [str(program), "serve", str(settings)]
        self._running = Running("the registry", command, folder, os.environ)
        wait_for(self._answers, "the registry")
        self.image = self._filled(engine)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{self.host}/v2/", timeout=10).close()
        except urllib.error.HTTPError as error:
            return error.code == 401
        except OSError:
            return False
        return False

    def _filled(self, engine: Engine) -> str:
        """Bring the image there; it is not left with the engine."""
        name = f"{self.host}/lab/shell"
        query = {"fromSrc": "-", "repo": name, "tag": "1"}
        with engine.open("POST", "/images/create", _shell(), timeout=None, query=query) as answer:
            answer.read()
        shown = {"username": USER, "password": PASSWORD, "serveraddress": self.host}
        headers = {"X-Registry-Auth": encoded(shown)}
        path = f"/images/{name}/push"
        query = {"tag": "1"}
        with engine.open("POST", path, timeout=None, query=query, headers=headers) as answer:
            said = answer.read().decode()
        assert '"error"' not in said, said
        forget(engine, f"{name}:1")
        return f"{name}:1"


def forget(engine: Engine, image: str) -> None:
    """Have an engine be without an image, whether it has it or not."""
    if engine.image(image) is not None:
        engine.call("DELETE", f"/images/{image}", query={"force": 1})


def log_in(home: Path, host: str, password: str = PASSWORD) -> None:
    """Have the Docker configuration of a user as `docker login` leaves it."""
    secret = base64.b64encode(f"{USER}:{password}".encode()).decode()
    _configure(home, {"auths": {host: {"auth": secret}}})


def log_in_by_helper(home: Path, host: str, programs: Path) -> None:
    """Have a program keep the password, as `docker login` with a helper does."""
    helper = programs / "docker-credential-tests"
    programs.mkdir(exist_ok=True)
    answer = json.dumps({"Username": USER, "Secret": PASSWORD})
    helper.write_text(f"#!/bin/sh\nread asked\n[ \"$asked\" = {host} ] && echo '{answer}'\n")
    helper.chmod(0o755)
    _configure(home, {"auths": {host: {}}, "credsStore": "tests"})


def _configure(home: Path, content: object) -> None:
    folder = home / ".docker"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(content))


def _shell() -> io.BytesIO:
    """The archive of a system that has this machine's shell alone."""
    listed = subprocess.run(["ldd", "/bin/sh"], capture_output=True, text=True, check=True)
    libraries = [word for word in listed.stdout.split() if word.startswith("/")]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for path in ["/bin/sh", *libraries]:
            archive.add(os.path.realpath(path), path)
        content = os.urandom(_LAYER)
        info = tarfile.TarInfo("filler")
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    file.seek(0)
    return file


@contextmanager
def running_registry(folder: Path, engine: Engine) -> Iterator[Registry]:
    """A registry until the end of the test that it is for."""
    registry = Registry(folder, engine)
    try:
        yield registry
    finally:
        forget(engine, registry.image)
