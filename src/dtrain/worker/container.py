"""The program that stands in for a container: a step of a plan, under the attempt's shim.

It creates the container and starts it, writes what the container writes, passes on the wish to end,
and leaves in a file how the container ended. The container is left to the executor, which removes
it when that is kept: until then another of these programs can find it out again.

    SIGTERM     asks the container to end, as `docker stop` does
    SIGQUIT     kills it

A container survives this program, and with it the shim and the agent. Run again for the same
attempt, it takes up a container that is there: it reads the container's log from its start, and
skips what is in the attempt's log already. Likewise it waits for an engine that has gone away.
"""

from __future__ import annotations

import contextlib
import http.client
import io
import os
import signal
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import msgspec

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.states import Cause

from . import cgroups, layout
from .engine import Engine, EngineAway, EngineRefused, Query, output, read
from .engine_patience import until_done
from .exit_file import ExitFile
from .hierarchies import group_of
from .image_command import SHELL, command_with, merged
from .layout import read_if_there, write_all, write_durably
from .ownership import give
from .say import say

_SLOW = 900.0
"""Seconds for the engine to unpack what a container needs."""
_SAMPLES = (0.01, 1.0)
"""Seconds between two looks at the memory: first, and at last."""
_KILLED = 128 + signal.SIGKILL
_FULL = 0.99
"""The part of its memory that a container has used that the kernel ends for want of more."""
_NO_ROOM = "no space left on device"
_SIGNALS = range(129, 193)
"""Exit codes that stand for a signal, as a container cannot say it otherwise."""


class ContainerOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What container is to be run for an attempt."""

    socket: str
    """Of the engine."""
    name: str
    image: str | None
    """Its image; None takes the one that the attempt's step before has found."""
    body: dict[str, Any]
    """What is asked of the engine, but for image and user."""
    args: list[str] = []
    """What is given to the command of the image."""
    opens_folder: bool = False
    """Whether everybody may write to the image's working directory."""
    rootless: bool
    """Whether the engine's root is the worker's own user."""
    user: int
    """The user and group that it has where the worker is root."""


class _Lost(DTrainError):
    """The container was lost through no fault of the job."""


class StandIn:
    """One container, from its creation to its end.

    Args:
        folder: of the attempt.
        order: what to run.
        begun: the file that notes how much of the attempt's log is not the container's.
    """

    def __init__(self, folder: Path, order: ContainerOrder, begun: str = layout.BEGUN) -> None:
        self._folder = folder
        self._order = order
        self._name = order.name
        self._engine = Engine(order.socket)
        self._begun = folder / begun
        size = (folder / layout.LOG).stat().st_size
        noted = read_if_there(str(self._begun))
        self._others = size if noted is None else int(noted)
        """Bytes of the attempt's log that are not the container's."""
        self._received = max(size - self._others, 0)
        """Bytes of the container's log that are in the attempt's."""
        self._is_in_line = False
        """Whether what it wrote last was no whole line."""
        self._is_doubtful = False
        """Whether the engine went away while the container ran."""
        self._wish: str | None = None
        """The signal that the container was sent last, or is to be."""
        self._memory = _Memory(self._engine, self._name, folder / layout.CONTAINER_GROUP)

    def run(self) -> dict[str, Any]:
        """Run the container to its end; how it ended, in the words of `layout.OUTCOME`."""
        signal.signal(signal.SIGTERM, lambda *_: self._end("SIGTERM"))
        signal.signal(signal.SIGQUIT, lambda *_: self._end("SIGKILL"))
        try:
            return self._outcome(self._finished())
        except EngineRefused as error:
            if self._wish is not None:
                return {}
            is_full = _NO_ROOM in error.detail.lower()
            cause = Cause.DISK_FULL if is_full else Cause.START_FAILED
            return {"cause": cause, "message": f"The container cannot be run: {error.detail}"}
        except _Lost as error:
            return {"cause": Cause.SHIM_LOST, "message": error.detail}

    def remove(self) -> None:
        """Remove what is left of the container; if the engine is away, the worker does it later."""
        with contextlib.suppress(EngineAway, EngineRefused):
            self._engine.remove(self._name)

    def _end(self, number: str) -> None:
        self._wish = number
        with contextlib.suppress(EngineAway, EngineRefused):  # it is told when the engine is back
            asks = number == "SIGTERM"
            self._engine.send(self._name, self._engine.stop_signal(self._name) if asks else number)
            if asks:
                self._engine.send(self._name, "SIGCONT")

    def _finished(self) -> dict[str, Any]:
        """The state of the container once it has ended, whatever the engine does meanwhile."""
        return until_done(self._followed, self._doubt, self._say)

    def _say(self, line: str) -> None:
        """Say something beside the container, to be told from what it writes by whoever comes next.

        It is counted before it is said: who is killed in between has a line twice, and loses none.
        """
        if self._is_in_line:
            self._is_in_line = False
            line = f"\n{line}"
        with contextlib.suppress(OSError):
            self._others += len(line.encode(errors="replace")) + 1
            if self._begun.exists():
                self._note()
            say(line)

    def _note(self) -> None:
        write_durably(str(self._begun), b"%d" % self._others)

    def _doubt(self, error: EngineAway) -> None:
        is_slow = isinstance(error.__cause__, TimeoutError)  # one that is slow has ended nothing
        self._is_doubtful |= self._begun.exists() and not is_slow

    def _followed(self) -> dict[str, Any]:
        state = self._engine.state(self._name)
        if not self._begun.exists():
            if state is not None:  # half made, or of an attempt of this name with another server
                self._engine.remove(self._name)
            self._create()
            state = {"Status": "created"}
        if state is None:
            raise _Lost("The container is gone: it was removed, or its engine lost it.")
        if state["Status"] == "created":
            self._begin()
        else:
            self._take_up()
        state = self._engine.state(self._name)
        if state is None:
            raise _Lost("The container was removed by somebody else.")
        return state

    def _create(self) -> None:
        order = self._order
        if self._wish is not None:
            raise EngineRefused(0, "It was stopped before it began.")
        image = order.image or (self._folder / layout.IMAGE).read_text().strip()
        host = {**order.body["HostConfig"], "LogConfig": _log_config(self._engine)}
        user = self._user()
        body = {**order.body, "Image": image, "User": f"{user}:{user}", "HostConfig": host}
        config = (self._engine.image(image) or {}).get("Config") or {}
        if "Entrypoint" in body:
            self._make(body)
        else:
            self._make_own(body, command_with(order.args, config))
        if order.opens_folder and config.get("WorkingDir", "/") not in {"", "/"}:
            self._open_folder(config["WorkingDir"])

    def _make(self, body: dict[str, Any]) -> None:
        self._slow("/containers/create", body, {"name": self._name})

    def _make_own(self, body: dict[str, Any], command: dict[str, list[str]]) -> None:
        """Make it with the image's own command, all of whose output is one stream if possible.

        Of two streams an engine's log tells neither their order nor what they had of a line.
        """
        if any(command.values()):
            self._make({**body, **merged(command)})
            if self._has(SHELL):
                return
            self._engine.remove(self._name)
        self._make({**body, **command})

    def _has(self, path: str) -> bool:
        """Whether there is something at a path in the container."""
        place = f"/containers/{self._name}/archive"
        try:
            with self._engine.open("HEAD", place, query={"path": path}):
                return True
        except EngineRefused:
            return False

    def _slow(self, path: str, body: object = None, query: Query | None = None) -> None:
        """Have the engine do what may take it minutes with a large image."""
        self._engine.call("POST", path, body, query=query, timeout=_SLOW)

    def _open_folder(self, place: str) -> None:
        """Let everybody write to a folder of the container, which has not begun."""
        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            info = tarfile.TarInfo(place.strip("/"))
            info.type, info.mode, info.mtime = tarfile.DIRTYPE, 0o777, int(time.time())
            tar.addfile(info)
        archive.seek(0)
        self._engine.call("PUT", f"/containers/{self._name}/archive", archive, query={"path": "/"})

    def _user(self) -> int:
        """The user that the container runs as, whose the job's own folders are from now on."""
        if self._order.rootless:
            return 0
        if os.geteuid() != 0:
            return os.geteuid()
        own = [self._folder / name for name in layout.OF_THE_JOB if (self._folder / name).exists()]
        for path in own:
            give(path, self._order.user)
        return self._order.user

    def _begin(self) -> None:
        """Start the container, and write what it writes from its first byte on."""
        self._is_doubtful = False
        self._note()
        path = f"/containers/{self._name}/attach"
        attach = {"stream": 1, "stdout": 1, "stderr": 1}
        with self._engine.ending(self._name, "next-exit") as ending:
            with self._engine.open("POST", path, timeout=None, query=attach) as stream:
                self._slow(f"/containers/{self._name}/start")
                if self._wish is not None:
                    self._end(self._wish)
                self._memory.start()
                self._pump(stream)
            read(ending)

    def _take_up(self) -> None:
        """Go on with a container that was started before."""
        with self._engine.ending(self._name, "not-running") as ending:
            if self._wish is not None:
                self._end(self._wish)
            self._memory.start()
            self._read_log(follow=1)
            read(ending)
        # Who follows a log is not told of a last line without an end by every engine.
        self._read_log(follow=0)

    def _read_log(self, follow: int) -> None:
        """Write what the engine has noted and is not yet written, or is noted from now on, too."""
        path = f"/containers/{self._name}/logs"
        query = {"follow": follow, "stdout": 1, "stderr": 1}
        with self._engine.open("GET", path, timeout=None, query=query) as stream:
            self._pump(stream, skipped=self._received)

    def _pump(self, stream: http.client.HTTPResponse, skipped: int = 0) -> None:
        with contextlib.suppress(EngineAway):  # what waits for the end says so as well
            for piece in output(stream):
                new = piece[skipped:]
                skipped -= len(piece) - len(new)
                write_all(1, new)
                self._received += len(new)
                if new:
                    self._is_in_line = not new.endswith(b"\n")

    def _outcome(self, state: dict[str, Any]) -> dict[str, Any]:
        code = state["ExitCode"]
        if state.get("Error"):
            return {"cause": Cause.START_FAILED, "message": state["Error"]}
        asked = self._wish is not None
        if self._is_doubtful and not asked and not self._outlives():
            raise _Lost("The container engine was restarted, and has ended the container.")
        limit, peak = self._order.body["HostConfig"].get("Memory"), self._memory.peak
        outcome: dict[str, Any] = {"peak_memory": peak, "memory_limit": limit}
        # Podman does not always say so.
        is_full = code == _KILLED and not asked and limit and peak and peak >= limit * _FULL
        outcome |= {"signal": code - 128} if code in _SIGNALS else {"exit_code": code}
        if is_full or (state.get("OOMKilled") and code and not asked):
            outcome["cause"] = Cause.OUT_OF_MEMORY
        elif not asked:
            outcome["cause"] = Cause.EXITED
        return outcome

    def _outlives(self) -> bool:
        """Whether containers live on when the engine ends."""
        with contextlib.suppress(EngineAway):
            return bool(self._engine.info().get("LiveRestoreEnabled")) or self._engine.is_podman()
        return False


class _Memory:
    """What memory a container uses at most, as its control group counts it.

    Args:
        engine: that runs it.
        name: of the container.
        note: the file that says which control group it is.
    """

    def __init__(self, engine: Engine, name: str, note: Path) -> None:
        self.peak: int | None = None
        """Bytes; None as long as nothing is known."""
        self._engine = engine
        self._name = name
        self._note = note
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Look at it again and again until the container ends."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._watch, daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        pause, longest = _SAMPLES
        with contextlib.suppress(EngineAway, EngineRefused, OSError, KeyError):
            group = group_of((self._engine.state(self._name) or {})["Pid"])
            self._tell(group)
            while (peak := cgroups.peak(group)) is not None:
                self.peak = max(peak, self.peak or 0)
                time.sleep(pause)
                pause = min(pause * 2, longest)

    def _tell(self, group: cgroups.Group) -> None:
        """Note the group for whoever wants to know what the container uses."""
        new = self._note.with_name(f"{self._note.name}.new")
        new.write_bytes(msgspec.json.encode(group))
        new.replace(self._note)


def _log_config(engine: Engine) -> dict[str, Any]:
    """Where the engine keeps the log: byte for byte, for Docker's own default is for text."""
    if engine.is_podman():
        return {"Type": "k8s-file"}
    return {"Type": "local", "Config": {"max-size": "2g", "max-file": "2", "compress": "false"}}


def main(arguments: list[str]) -> int:
    """Run the container of the attempt whose folder is given; the exit status."""
    folder = Path(arguments[0])
    order = msgspec.json.decode((folder / layout.CONTAINER).read_bytes(), type=ContainerOrder)
    file = ExitFile(str(folder / layout.OUTCOME))
    told = StandIn(folder, order).run()
    noted = read_if_there(str(folder / layout.OUTCOME))  # by one that was killed then
    outcome = told if noted is None else msgspec.json.decode(noted, type=dict[str, Any])
    file.write(msgspec.json.encode(outcome))
    return int(outcome.get("exit_code", 1)) % 256


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
