"""`dtrain submit`, and what is shown of every job that has been handed in."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from dtrain.client.client import Client
from dtrain.protocol.bundle import PackSummary
from dtrain.protocol.messages import Job

from . import describe, output
from .arguments import as_json
from .connection import asks_server
from .following import exit_status
from .following import follow as follow_job
from .screen import transfer
from .specs import given, refuse_both, spec_options

_LARGE = 100 * 1024**2
"""Bytes from which on the largest files are named."""
_ODD = ("a link", "not a regular file")
"""How the reasons begin for which something is left out that nobody has asked to leave out."""
_NAMED = 5


@click.command()
@click.argument("path", metavar="FOLDER|ZIP", type=click.Path(path_type=Path))
@click.argument("args", metavar="[-- ARG...]", nargs=-1)
@spec_options
@as_json("the job")
@asks_server
def submit(
    client: Client,
    path: Path,
    args: tuple[str, ...],
    *,
    follow: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Hand in a folder, or a ZIP file of one, as a job.

    What follows -- goes to the script: dtrain submit FOLDER -- --epochs 5

    A dtrain.yaml in the folder says the same as the options, which win.
    """
    refuse_both(follow=follow, as_json=as_json)
    with transfer("sent ") as sending:
        fields = given(options, args)
        job = client.submit(path, packed=_tell, progress=sending.show, **fields)
    if as_json:
        output.print_json(job)
    else:
        handed_in(client, [job], follow=follow)


def handed_in(client: Client, jobs: Sequence[Job], *, follow: bool) -> None:
    """Say where new jobs are; with `follow` print their logs, and exit by how they end."""
    for job in jobs:
        click.echo(f"Job {job.id}: {client.page(job.id)}", err=follow)
        if not follow:
            click.echo(f"Follow it with: dtrain logs -f {job.id}")
    if follow:
        ended = [follow_job(client, job.id) for job in jobs]
        click.get_current_context().exit(exit_status(ended))


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
