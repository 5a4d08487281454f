"""`dtrain token`: the tokens of a server on this machine."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import click

from dtrain.protocol.errors import Invalid

from .extra import importing_server

with importing_server():
    from dtrain.server.joining import login_lines, reach, worker_lines
    from dtrain.server.kept_secrets import OVERLAP, known_secrets, read_kept, replace
    from dtrain.server.settings import ACCESS_TOKEN, WORKER_TOKEN, Settings, load

_HOME = click.Path(exists=True, file_okay=False, path_type=Path)


@click.group()
def token() -> None:
    """Show or replace the tokens of a server on this machine."""


@token.command()
@click.argument("home", metavar="[DIR]", type=_HOME, default=".")
def show(home: Path) -> None:
    """Print the tokens of the server in DIR, else in the current folder, and what to do with them.

    The access token lets people and programs in, the worker token is what a new worker joins with.
    """
    _print(_settings(home), (WORKER_TOKEN, ACCESS_TOKEN))


@token.command()
@click.argument("home", metavar="[DIR]", type=_HOME, default=".")
@click.option("--access", is_flag=True, help="Only the one for people and programs.")
@click.option("--worker", is_flag=True, help="Only the one with which new workers join.")
@click.option("--now", is_flag=True, help="End the old ones at once.")
def rotate(home: Path, *, access: bool, worker: bool, now: bool) -> None:
    """Make new tokens for the server in DIR, else in the current folder.

    A running server takes them over at once. The old ones hold for another 24 hours, unless --now
    is given. Workers that have joined do not notice; browsers log in again when the old one ends.
    """
    settings = _settings(home)
    names = [WORKER_TOKEN] * worker + [ACCESS_TOKEN] * access or [WORKER_TOKEN, ACCESS_TOKEN]
    kept = read_kept(settings.data)
    for name in names:
        if name not in settings.kept or name in kept.unused or name not in kept.secrets:
            raise Invalid(_set_elsewhere(name, "changed", alone=len(names) == 1), field=name)
    replace(settings.data, names, overlap=0.0 if now else OVERLAP)
    _print(_settings(home), names)
    if now:
        click.echo("The old ones hold no longer.")
    else:
        until = datetime.fromtimestamp(time.time() + OVERLAP).astimezone()
        click.echo(f"The old ones hold until {until:%Y-%m-%d %H:%M}; --now ends them at once.")


def _settings(home: Path) -> Settings:
    """The settings of a server that has run in a folder; an unknown secret is empty.

    Raises:
        Invalid: none has.
    """
    settings = load(home.resolve(), secrets=known_secrets)
    if not settings.data.is_dir():
        raise Invalid(
            f"No server has run in {home.resolve()} yet; name its folder, or start one there with:"
            " dtrain server"
        )
    return settings


def _print(settings: Settings, names: Sequence[str]) -> None:
    found = reach(settings)
    worker, access = settings.worker_shared_token, settings.access_token
    lines = [*found.notes]
    if WORKER_TOKEN in names:
        unknown = [_set_elsewhere(WORKER_TOKEN, "known", alone=True)]
        lines += worker_lines(found, worker) if worker else unknown
    if ACCESS_TOKEN in names:
        unknown = [_set_elsewhere(ACCESS_TOKEN, "known", alone=True)]
        lines += login_lines(found, access) if access else unknown
        if settings.open:
            lines.append("On this machine nobody is asked for it, as long as others are kept out.")
    click.echo("\n".join(lines))


def _set_elsewhere(name: str, what: str, *, alone: bool) -> str:
    other = "--access" if name == WORKER_TOKEN else "--worker"
    rest = "" if alone else f" ({other} changes the other one)"
    return (
        f"{name} is set in config.py or in the environment of the server, so it can only be {what}"
        f" there{rest}."
    )
