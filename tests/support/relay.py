"""A line between a client and a server that breaks, or falls silent, where a test wants it to."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from .processes import PATIENCE


@dataclass(frozen=True)
class Fault:
    """What happens to one connection."""

    after: int
    """Bytes that pass first."""
    upward: bool
    """Whether those from the client are counted, or those to it."""
    holds: bool = False
    """Whether nothing passes from then on; else the connection is cut."""


class Relay:
    """Passes bytes on to a port of this machine; each connection meets the next fault, if any."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.faults: list[Fault] = []
        self.held = threading.Event()
        """Set when a connection has fallen silent."""
        self.over = threading.Event()
        self.downward = 0
        """Bytes that have passed to clients."""

    def serve(self) -> None:
        while True:
            try:
                ours, _ = self._listener.accept()
            except OSError:
                return
            fault = self.faults.pop(0) if self.faults else None
            threading.Thread(target=self._pass_on, args=(ours, fault), daemon=True).start()

    def close(self) -> None:
        self.over.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _pass_on(self, ours: socket.socket, fault: Fault | None) -> None:
        with ours, socket.create_connection(("127.0.0.1", self._port)) as theirs:
            ways = []
            for source, target, upward in ((ours, theirs, True), (theirs, ours, False)):
                own = fault if fault and fault.upward == upward else None
                pump = threading.Thread(target=self._pump, args=(source, target, own, upward))
                ways.append(pump)
            for way in ways:
                way.start()
            for way in ways:
                way.join()

    def _pump(
        self, source: socket.socket, target: socket.socket, fault: Fault | None, upward: bool
    ) -> None:
        passed = 0
        with suppress(OSError):
            while piece := source.recv(16 * 1024):
                passed += len(piece)
                if fault and passed > fault.after:
                    self._break(source, target, holds=fault.holds)
                    return
                target.sendall(piece)
                self.downward += 0 if upward else len(piece)
            target.shutdown(socket.SHUT_WR)

    def _break(self, source: socket.socket, target: socket.socket, *, holds: bool) -> None:
        if holds:
            self.held.set()
            self.over.wait(PATIENCE)
        for end in (source, target):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.shutdown(socket.SHUT_RDWR)


@contextmanager
def relay(port: int) -> Iterator[Relay]:
    """A line to a port, until the block ends."""
    line = Relay(port)
    thread = threading.Thread(target=line.serve)
    thread.start()
    try:
        yield line
    finally:
        line.close()
        thread.join()
