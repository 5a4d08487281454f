"""What the commands share that ask a server: the options that say which, and the client for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from dtrain.client.client import Client


def asks_server(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the argument `client`, and the options that may stand before it as well."""

    @click.option("--server", metavar="URL", help="The server's address.")
    @click.option("--token", metavar="TOKEN", help="The server's access token.")
    @wraps(command)
    def connected(*, server: str | None, token: str | None, **arguments: Any) -> Any:
        before = click.get_current_context().obj
        client = Client(server or before["server"], token or before["token"])
        return command(client=client, **arguments)

    return connected
