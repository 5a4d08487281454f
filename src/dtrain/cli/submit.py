"""`dtrain submit`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from dtrain.client.client import Client
from dtrain.protocol.bundle import PackSummary
from dtrain.protocol.messages import Job
from dtrain.protocol.spec import DEFAULT_ENTRY, DEFAULT_REQUIREMENTS
from dtrain.protocol.states import Executor, OnPartition, Status

from . import describe, output
from .connection import asks_server
from .following import follow as follow_job
from .screen import Screen

_LARGE = 100 * 1024**2
"""Bytes from which on the largest files are named."""
_BAR_FROM = 4 * 1024**2
"""Bytes from which on a bar is shown while they are sent."""
_ODD = ("a link", "not a regular file")
"""How the reasons begin for which something is left out that nobody has asked to leave out."""
_NAMED = 5


@click.command()
@click.argument("path", metavar="FOLDER|ZIP", type=click.Path(path_type=Path))
@click.argument("args", metavar="[-- ARG...]", nargs=-1)
@click.option("--name", help="What the job is called; else as the folder is.")
@click.option("--main-entry", metavar="PATH", help=f"The script to run; else {DEFAULT_ENTRY}.")
@click.option(
    "--arg", "more_args", metavar="TEXT", multiple=True, help="An argument for the script."
)
@click.option(
    "--requirements-file",
    metavar="PATH",
    help=f"What to install first; else {DEFAULT_REQUIREMENTS} if there is one.",
)
@click.option("--python", metavar="VERSION", help="The Python to run with, such as 3.11.")
@click.option("--env", metavar="NAME=VALUE", multiple=True, help="A variable of the environment.")
@click.option("--tag", "tags", multiple=True, help="A word to find the job by.")
@click.option("--priority", help="From 0 to 100; higher goes first.")
@click.option("--cpus", help="Processor cores to set aside.")
@click.option("--memory-gb", help="Memory to set aside, and the job's limit.")
@click.option("--gpus", help="GPUs to set aside.")
@click.option(
    "--label",
    "labels",
    metavar="NAME=VALUE",
    multiple=True,
    help="A label that the worker must have.",
)
@click.option("--time-limit", metavar="TIME", help="When to end it: 90s, 15m, 2h, 1d.")
@click.option("--max-retries", help="New attempts after one that failed.")
@click.option(
    "--on-partition",
    type=click.Choice([choice.value for choice in OnPartition]),
    help="What a worker does with it that is cut off from the server.",
)
@click.option("--image", help="A container image to run in.")
@click.option(
    "--executor", type=click.Choice([choice.value for choice in Executor]), help="How to run it."
)
@click.option(
    "-f", "--follow", is_flag=True, help="Print its log until it has ended; exit 1 if it fails."
)
@click.option("--json", "as_json", is_flag=True, help="For programs: the job as JSON.")
@asks_server
def submit(
    client: Client,
    path: Path,
    args: tuple[str, ...],
    more_args: tuple[str, ...],
    *,
    follow: bool,
    as_json: bool,
    **spec: Any,
) -> None:
    """Hand in a folder, or a ZIP file of one, as a job.

    What follows -- goes to the script: dtrain submit FOLDER -- --epochs 5
    """
    if follow and as_json:
        raise click.UsageError("--follow prints the log, --json the job: give one of them.")
    spec["args"] = more_args + args
    given = {
        name: list(value) if isinstance(value, tuple) else value for name, value in spec.items()
    }
    job = _submitted(client, path, {name: value for name, value in given.items() if value})
    if as_json:
        output.print_json(job)
        return
    click.echo(f"Job {job.id}: {client.page(job.id)}", err=follow)
    if not follow:
        click.echo(f"Follow it with: dtrain logs -f {job.id}")
        return
    ended = follow_job(client, job.id)
    click.get_current_context().exit(0 if ended.status is Status.COMPLETED else 1)


def _submitted(client: Client, path: Path, spec: dict[str, Any]) -> Job:
    screen = Screen()

    def sent(done: int, total: int | None) -> None:
        if total and total >= _BAR_FROM:
            screen.progress(done / total, f"{output.size(done)} of {output.size(total)} sent")

    try:
        return client.submit(path, packed=_tell, progress=sent, **spec)
    finally:
        screen.progress(None)


def _tell(summary: PackSummary) -> None:
    """Say what of the folder goes into the bundle, where a person might not expect it."""
    files = f"{describe.count(summary.files, 'file')}, {output.size(summary.bytes)}"
    click.echo(f"Packed {files}.", err=True)
    odd = [skipped for skipped in summary.skipped if skipped.why.startswith(_ODD)]
    for skipped in odd[:_NAMED]:
        click.echo(f"Left out: {output.clean(skipped.path)}, {skipped.why}.", err=True)
    if len(odd) > _NAMED:
        click.echo(f"Left out as well: {len(odd) - _NAMED} more.", err=True)
    if summary.bytes > _LARGE:
        click.echo("That is much. What the job does not need, name in .dtrainignore:", err=True)
        for path, size in summary.largest[:_NAMED]:
            click.echo(f"  {output.size(size):>10}  {output.clean(path)}", err=True)
