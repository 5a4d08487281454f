"""`dtrain backup`, `dtrain restore` and `dtrain move-database`: a server's data as a whole."""

from __future__ import annotations

import os
from pathlib import Path

import click

from . import describe, output
from .extra import importing_server
from .output import complain
from .screen import Screen

_PLACE = click.Path(file_okay=False, path_type=Path)
_NEW = "NEW_DATABASE_URL"
_INCOMPLETE = 1
"""The exit status where something is missing, of which the rest is as it should be."""


@click.command()
@click.argument("places", metavar="[DIR] TO", type=_PLACE, nargs=-1, required=True)
@click.option(
    "--keep", metavar="N", type=click.IntRange(1), help="Delete all but the newest N backups in TO."
)
@click.option("--verify", is_flag=True, help="Read the files again that TO has from earlier.")
@click.pass_context
def backup(
    context: click.Context, places: tuple[Path, ...], keep: int | None, *, verify: bool
) -> None:
    """Copy the data of the server in DIR, else in the current folder, into the folder TO.

    The server may run meanwhile. What TO has already from earlier backups is not copied again.
    """
    with importing_server():
        from dtrain.server.backup import back_up  # noqa: PLC0415  an optional extra
    if len(places) > 2:
        raise click.UsageError("Give the server's folder and the one for backups, no more.")
    home = places[0] if len(places) == 2 else Path()
    progress = _Progress()
    try:
        made = back_up(home, places[-1].absolute(), keep=keep, verify=verify, progress=progress)
    finally:
        progress.end()
    files = describe.count(made.manifest.blobs, "file")
    click.echo(f"{made.path}: the database and {files}, {made.copied} of them new.")
    if made.manifest.missing:
        _complain_of(made.manifest.missing, "The server itself lacks")
        context.exit(_INCOMPLETE)


@click.command()
@click.argument("source", metavar="FROM", type=_PLACE)
@click.argument("home", metavar="DIR", type=_PLACE)
@click.pass_context
def restore(context: click.Context, source: Path, home: Path) -> None:
    """Put a backup into DIR, a server's folder that has no data yet.

    FROM is one backup, or the folder of all of them, of which the newest is taken.
    """
    with importing_server():
        from dtrain.server.backup import restore as put_back  # noqa: PLC0415  an optional extra
    progress = _Progress()
    try:
        done = put_back(source.absolute(), home.absolute(), progress)
    finally:
        progress.end()
    click.echo(
        f"{home}: as it was on {output.local(done.manifest.made_at)}. Start it with: dtrain server"
        f" {home}"
    )
    if done.keeps_config:
        click.echo(
            f"Its config.py has stayed; that of the backup, {done.path / 'config.py'}, differs."
        )
    if done.missing:
        _complain_of(done.missing, "The backup lacks")
        context.exit(_INCOMPLETE)


@click.command("move-database")
@click.argument("home", metavar="[DIR]", type=_PLACE, default=".")
def move_database(home: Path) -> None:
    """Copy the database of the server in DIR, which must not run, into an empty one elsewhere.

    The URL of that is taken from NEW_DATABASE_URL, since it often holds a password.
    """
    with importing_server():
        from dtrain.server.backup import move_database as move  # noqa: PLC0415  an optional extra
    url = os.environ.get(_NEW)
    if not url:
        raise click.UsageError(
            f"Set {_NEW} to the new database first, such as postgresql://user:password@host/name."
        )
    progress = _Progress()
    try:
        rows = move(home.absolute(), url, progress)
    finally:
        progress.end()
    click.echo(
        f"{describe.count(rows, 'row')} copied and counted. Now set DATABASE_URL of the server to"
        " the new database; the old one has stayed as it was."
    )


class _Progress:
    """A bar on a terminal."""

    def __init__(self) -> None:
        self._screen = Screen()

    def __call__(self, what: str, done: int, total: int) -> None:
        fraction = done / total if total else 1.0
        self._screen.progress(fraction, f"{what}: {done} of {total}")

    def end(self) -> None:
        """Take the bar away."""
        self._screen.progress(None)


def _complain_of(missing: list[str], beginning: str) -> None:
    files = describe.count(len(missing), "file")
    complain(f"{beginning} {files} of those that it refers to: {', '.join(missing[:5])}.")
