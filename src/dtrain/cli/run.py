"""`dtrain server` and `dtrain worker`."""

from __future__ import annotations

from pathlib import Path

import click

from dtrain.protocol.errors import Invalid

_HOME = click.Path(exists=True, file_okay=False, path_type=Path)


@click.command()
@click.argument("home", metavar="[DIR]", type=_HOME, default=".")
@click.pass_context
def server(context: click.Context, home: Path) -> None:
    """Run a server with its settings (config.py) and data in DIR, else in the current folder."""
    try:
        from dtrain.server.app import serve  # noqa: PLC0415  an optional extra
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dtrain."):
            raise
        raise Invalid(
            f"The server's packages are not installed ({error.name} is missing); install them with:"
            " pip install 'dtrain[server]'"
        ) from error
    context.exit(serve(home.resolve()))


@click.command()
@click.argument("home", metavar="[DIR]", type=_HOME, default=".")
@click.pass_context
def worker(context: click.Context, home: Path) -> None:
    """Run a worker with its settings (config.json) and data in DIR, else in the current folder."""
    from dtrain.worker.agent import main  # noqa: PLC0415  heavy, and nothing else here needs it

    context.exit(main(home.resolve()))
