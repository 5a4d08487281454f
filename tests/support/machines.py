"""Two machines with a cable between them: network namespaces, in which real processes run."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .processes import PATIENCE, Running
from .requirements import require

_LISTENS = "0A"
"""The state of a listening TCP socket in `/proc/net/tcp`."""


@dataclass(frozen=True)
class Machine:
    """A network of its own; the file system is that of all."""

    namespace: str
    interface: str
    address: str

    def start(
        self, title: str, command: list[str], folder: Path, environment: Mapping[str, str]
    ) -> Running:
        """Start a process on it."""
        output = folder / f"{title}.log"
        return Running(title, [*self._inside, *command], folder, environment, output)

    def run(
        self, command: list[str], folder: Path, environment: Mapping[str, str], stdin: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on it to its end."""
        return subprocess.run(
            [*self._inside, *command],
            cwd=folder,
            env=dict(environment),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )

    def plug(self, *, into: bool) -> None:
        """Put its cable in, or pull it."""
        state = "up" if into else "down"
        _ip("-n", self.namespace, "link", "set", self.interface, state)

    def sockets(self) -> list[str]:
        """What listens on it or waits for datagrams: the lines of the kernel's tables."""
        tables = ("tcp", "tcp6", "udp", "udp6")
        shown = [self.run(["cat", f"/proc/net/{name}"], Path("/"), os.environ) for name in tables]
        lines = [
            (name, line)
            for name, done in zip(tables, shown, strict=True)
            for line in done.stdout.splitlines()[1:]
        ]
        return [line for name, line in lines if "udp" in name or line.split()[3] == _LISTENS]

    @property
    def _inside(self) -> list[str]:
        return ["ip", "netns", "exec", self.namespace]


@contextmanager
def two_machines() -> Iterator[tuple[Machine, Machine]]:
    """Two machines on one network. Ends the test where that cannot be had."""
    require("root")
    require("iproute2")
    mark = secrets.token_hex(3)
    one = Machine(f"dtrain-{mark}-1", f"dt{mark}1", "192.0.2.1")
    other = Machine(f"dtrain-{mark}-2", f"dt{mark}2", "192.0.2.2")
    try:
        for machine in (one, other):
            _ip("netns", "add", machine.namespace)
            _ip("-n", machine.namespace, "link", "set", "lo", "up")
        ends = [["name", m.interface, "netns", m.namespace] for m in (one, other)]
        _ip("link", "add", *ends[0], "type", "veth", "peer", *ends[1])
        for machine in (one, other):
            address = f"{machine.address}/24"
            _ip("-n", machine.namespace, "address", "add", address, "dev", machine.interface)
            machine.plug(into=True)
        yield one, other
    finally:
        for machine in (one, other):
            subprocess.run(["ip", "netns", "delete", machine.namespace], check=False)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True)
