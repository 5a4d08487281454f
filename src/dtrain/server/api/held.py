"""How many requests are held at once: each keeps a thread, so there is a bound on them."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import cast

from flask import Flask, current_app

from dtrain.server.settings import Settings

_EXTENSION = "dtrain.held"


class Gate:
    """Lets in so many and no more."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._inside = 0
        self._lock = threading.Lock()

    @property
    def inside(self) -> int:
        """How many are in."""
        return self._inside

    def enter(self) -> bool:
        """Go in; False where it is full. Who went in must leave."""
        with self._lock:
            if self._inside >= self.limit:
                return False
            self._inside += 1
            return True

    def leave(self) -> None:
        """Make room for another."""
        with self._lock:
            self._inside -= 1


@dataclass(frozen=True)
class Held:
    """The requests that a server holds."""

    polls: Gate
    streams: Gate


def install(app: Flask, settings: Settings) -> None:
    """Give the application gates as wide as the settings say."""
    app.extensions[_EXTENSION] = Held(Gate(settings.max_held_polls), Gate(settings.max_streams))


def held(app: Flask | None = None) -> Held:
    """The gates of an application; of the present one if none is given."""
    return cast(Held, (app or current_app).extensions[_EXTENSION])
