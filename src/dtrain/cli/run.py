"""`dtrain server` and `dtrain worker`."""

from __future__ import annotations

from pathlib import Path

import click

from .extra import importing_server

_HOME = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("home", metavar="[DIR]", type=_HOME, default=".")
@click.pass_context
def server(context: click.Context, home: Path) -> None:
    """Run a server with its settings (config.py) and data in DIR, else in the current folder."""
    with importing_server():
        from dtrain.server.app import serve  # noqa: PLC0415  an optional extra
    context.exit(serve(home.resolve()))


@click.command()
@click.argument("home", metavar="[DIR]", type=_HOME, default=".")
@click.pass_context
def worker(context: click.Context, home: Path) -> None:
    """Run a worker with its settings (config.json) and data in DIR, else in the current folder."""
    from dtrain.worker.agent import main  # noqa: PLC0415  heavy, and nothing else here needs it

    context.exit(main(home.resolve()))
