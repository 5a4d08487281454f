"""A server with TLS of its own."""

from __future__ import annotations

import sys
from pathlib import Path

from .certificate import Authority
from .processes import Running, clean_environment, free_port, wait_for


class SecureServer(Running):
    """A server on loopback with a certificate for localhost."""

    def __init__(self, home: Path, authority: Authority, **settings: str) -> None:
        home.mkdir()
        self.home, self.ca, self.port = home, authority.file, free_port()
        self.url = f"https://localhost:{self.port}"
        environment = {
            **clean_environment(),
            **authority.sign("localhost", "127.0.0.1").settings,
            "DTRAIN_PORT": str(self.port),
            **settings,
        }
        command = [sys.executable, "-m", "dtrain", "server", str(home)]
        super().__init__("server", command, home, environment)
        wait_for(lambda: not self.alive or "agent.py" in self.text(), "the announcement")
        assert self.alive, self.text()
