"""A container engine, spoken to over its socket: Docker's own, or Podman's, which is like it.

It is a thin client upon `http.client`, since a process with it stands by every job in a container:
it starts in a quarter of the time of Docker's SDK for Python and holds half of the memory.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pwd
import select
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlencode

from dtrain.protocol.errors import DTrainError, Invalid

_DEFAULT = "/var/run/docker.sock"
_TIMEOUT = 60.0
"""Seconds for what an engine answers at once, if the machine is not too busy."""
_MOMENT = 1.0
"""Seconds within which all connections to an engine that ends are closed."""
Query = Mapping[str, object]
"""The parameters of a request."""

_PIECE = 64 * 1024
_HEADER = 8
"""Bytes before each piece of a container's output: its stream, and its length."""


class EngineAway(DTrainError):
    """The engine cannot be reached, or broke off; the text says what to do."""

    code = "engine_away"


class EngineRefused(DTrainError):
    """The engine will not do it; the text is its own."""

    code = "engine_refused"

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class _Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float | None) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Engine:
    """An engine. Threads may share it: each call has a connection of its own.

    Every method raises `EngineAway` if the engine does not answer, and `EngineRefused` if it
    refuses.

    Args:
        path: of its socket.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Query | None = None,
        timeout: float = _TIMEOUT,
    ) -> Any:
        """Ask for something; the answer, of JSON, or None if it is empty."""
        with self.open(method, path, body, query=query, timeout=timeout) as answer:
            content = read(answer)
        return json.loads(content) if content else None

    @contextlib.contextmanager
    def open(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        timeout: float | None = _TIMEOUT,
        query: Query | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        """Ask for something whose answer comes bit by bit.

        Args:
            method: of HTTP.
            path: of the engine's API, without a version.
            body: a file is sent as it is, anything else as JSON.
            timeout: seconds between two bytes; None waits for ever.
            query: the parameters.
            headers: further ones.
        """
        connection = _Connection(self.path, timeout)
        is_file = hasattr(body, "read")
        sent = body if is_file or body is None else json.dumps(body).encode()
        kind = "application/x-tar" if is_file else "application/json"
        target = f"{path}?{urlencode(query)}" if query else path
        try:
            with self._trouble():
                connection.request(method, target, sent, {"Content-Type": kind, **(headers or {})})
                answer = connection.getresponse()
                if answer.status >= 400:
                    raise EngineRefused(answer.status, _words(answer.read()))
            yield answer
        finally:
            connection.close()

    @contextlib.contextmanager
    def _trouble(self) -> Iterator[None]:
        """Say what an error of the connection means."""
        try:
            yield
        except (OSError, http.client.HTTPException) as error:
            raise EngineAway(self._advice(error)) from error

    def _advice(self, error: Exception) -> str:
        if isinstance(error, PermissionError):
            user = _user()
            return (
                f"The user {user} may not use the container engine at {self.path}; add it to the"
                f" socket's group (usermod -aG docker {user}) and start the worker anew."
            )
        if isinstance(error, FileNotFoundError):
            return (
                f"There is no container engine at {self.path}; install Docker or Podman and start"
                " it, or name its socket in DOCKER_HOST."
            )
        if isinstance(error, ConnectionRefusedError):
            return f"The container engine at {self.path} does not run; start it."
        return f"The container engine at {self.path} does not answer ({error or 'it broke off'})."

    # Containers, by name or number.

    def state(self, name: str) -> dict[str, Any] | None:
        """The state of a container; None if there is no such container."""
        found = self._container(name)
        return None if found is None else dict(found["State"])

    def stop_signal(self, name: str) -> str:
        """The signal that asks a container to end, by its name or number."""
        found = self._container(name) or {}
        return str((found.get("Config") or {}).get("StopSignal") or "SIGTERM")

    def _container(self, name: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self.call("GET", f"/containers/{name}/json")
        except EngineRefused as error:
            if error.status == 404:
                return None
            raise
        return found

    @contextlib.contextmanager
    def ending(self, name: str, condition: str) -> Iterator[http.client.HTTPResponse]:
        """Be told of the end of a container; the answer is read to its end then.

        Whoever is told by it knows that the engine has not been restarted since it was asked.
        """
        path = f"/containers/{name}/wait"
        with self.open("POST", path, timeout=None, query={"condition": condition}) as answer:
            yield answer

    def send(self, name: str, signal: str) -> None:
        """Send a signal to a container's first process. Harmless if it has ended."""
        with contextlib.suppress(EngineRefused):
            self.call("POST", f"/containers/{name}/kill", query={"signal": signal})

    def remove(self, name: str) -> None:
        """End a container if it runs, and remove it. Harmless if there is none."""
        try:
            self.call("DELETE", f"/containers/{name}", query={"force": 1, "v": 1})
        except EngineRefused as error:
            if error.status not in {404, 409}:  # 409: another removes it already
                raise

    def containers(self, labels: Mapping[str, str]) -> list[dict[str, Any]]:
        """The containers that carry some labels, running or not."""
        filters = json.dumps({"label": [f"{name}={value}" for name, value in labels.items()]})
        query = {"all": 1, "filters": filters}
        found: list[dict[str, Any]] = self.call("GET", "/containers/json", query=query)
        return found

    def image(self, name: str) -> dict[str, Any] | None:
        """What an image is; None if the engine has none of this name."""
        try:
            found: dict[str, Any] = self.call("GET", f"/images/{quote(name)}/json")
        except EngineRefused as error:
            if error.status == 404:
                return None
            raise
        return found

    # The engine itself.

    @contextlib.contextmanager
    def watched(self) -> Iterator[Callable[[], bool]]:
        """Be able to tell, within the block, whether the engine has gone away since its beginning.

        What fails with an engine that ends, or in the hands of another program, does not say so.
        """
        filters = json.dumps({"container": ["dtrain-none"]})
        with self.open("GET", "/events", timeout=None, query={"filters": filters}) as answer:
            yield lambda: _has_ended(answer)

    def check(self) -> None:
        """Find out whether it answers, within seconds."""
        with self.open("GET", "/_ping", timeout=5) as answer:
            answer.read()

    def is_podman(self) -> bool:
        """Whether it is Podman behind the same face."""
        version = self.call("GET", "/version")
        return any("podman" in part["Name"].lower() for part in version.get("Components") or [])

    def info(self) -> dict[str, Any]:
        """What it says of itself."""
        found: dict[str, Any] = self.call("GET", "/info")
        return found


def read(answer: http.client.HTTPResponse, most: int | None = None) -> bytes:
    """Read an answer, all of it or so many bytes.

    Raises:
        EngineAway: the engine broke off.
    """
    try:
        return answer.read(most)
    except (OSError, http.client.HTTPException) as error:
        raise EngineAway("The container engine broke off.") from error


def read_some(answer: http.client.HTTPResponse) -> bytes:
    """Read some bytes of an answer, as soon as there are any; none at its end.

    Raises:
        EngineAway: the engine broke off.
    """
    try:
        return answer.read1(_PIECE)
    except (OSError, http.client.HTTPException) as error:
        raise EngineAway("The container engine broke off.") from error


def output(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    """What a container writes, both of its streams as they come, until it ends or breaks off."""
    while len(header := read(answer, _HEADER)) == _HEADER:
        left = int.from_bytes(header[4:], "big")
        while left and (piece := read(answer, min(left, _PIECE))):
            left -= len(piece)
            yield piece


def _has_ended(answer: http.client.HTTPResponse) -> bool:
    """Whether an answer ends now, or within a moment."""
    while select.select([answer], [], [], _MOMENT)[0]:
        try:
            if not read_some(answer):
                return True
        except EngineAway:
            return True
    return False


def socket_path(variables: Mapping[str, str]) -> str:
    """Where the engine's socket is: the first that the user may use, or else that there is.

    Raises:
        Invalid: DOCKER_HOST names an engine on another machine.
    """
    places = socket_places(variables)
    usable = [place for place in places if os.access(place, os.R_OK | os.W_OK)]
    there = [place for place in places if os.path.exists(place)]  # noqa: PTH110
    return [*usable, *there, *places][0]


def socket_places(variables: Mapping[str, str]) -> list[str]:
    """Where an engine's socket may be: what DOCKER_HOST names, else where engines have it.

    Raises:
        Invalid: DOCKER_HOST names an engine on another machine.
    """
    given = variables.get("DOCKER_HOST", "")
    if given.startswith("unix://"):
        return [given.removeprefix("unix://")]
    if given:
        raise Invalid(
            f"DOCKER_HOST is {given}, but jobs need the engine of this machine: name its socket, as"
            " in unix:///run/user/1000/docker.sock.",
            field="DOCKER_HOST",
        )
    own = variables.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}"
    return [
        _DEFAULT,
        f"{own}/docker.sock",
        f"{own}/podman/podman.sock",
        "/run/podman/podman.sock",
    ]


def _user() -> str:
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _words(content: bytes) -> str:
    """The engine's own words for why it refuses."""
    with contextlib.suppress(ValueError, KeyError, TypeError):
        return str(json.loads(content)["message"]).strip()
    return content.decode(errors="replace").strip() or "It gave no reason."
