"""`dtrain artifacts` and `dtrain bundle`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from dtrain.client.client import Client
from dtrain.client.downloads import chosen
from dtrain.protocol.messages import Artifact

from . import describe, output
from .arguments import JobId, as_json
from .connection import asks_server
from .screen import transfer
from .tables import Column, Table


@click.command()
@click.argument("job_id", metavar="ID", type=JobId())
@click.argument("patterns", metavar="[PATTERN...]", nargs=-1)
@click.option(
    "-o",
    "--output",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where they go; else into a folder job-ID here.",
)
@click.option("-l", "--list", "only_list", is_flag=True, help="List them instead.")
@click.option("--force", is_flag=True, help="Overwrite files that are there.")
@click.option("--attempt", type=click.IntRange(1), help="An earlier attempt's.")
@as_json("a list of the artifacts, instead of a download,")
@asks_server
def artifacts(
    client: Client,
    job_id: int,
    patterns: tuple[str, ...],
    folder: Path | None,
    *,
    only_list: bool,
    force: bool,
    attempt: int | None,
    as_json: bool,
) -> None:
    """Download the files that a job has left: all, or those that a pattern means.

    A pattern is a path, a name or a folder; *, ? and [...] are as in a shell, but * goes over
    slashes. A download that broke off goes on where it was; the content is checked.
    """
    found = chosen(client.jobs.artifacts(job_id, attempt=attempt), patterns)
    if as_json:
        output.print_json(found)
    elif not found:
        click.echo(f"Job {job_id} has left nothing.", err=True)
    elif only_list:
        _list(found)
    else:
        _save(client, job_id, found, patterns, folder or Path(f"job-{job_id}"), force=force)


@click.command()
@click.argument("job_id", metavar="ID", type=JobId())
@click.option(
    "-o",
    "--output",
    "path",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Where it goes; else into job-ID.zip here.",
)
@click.option("-l", "--list", "only_list", is_flag=True, help="List what it holds instead.")
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@as_json("what the bundle holds, instead of a download,")
@asks_server
def bundle(
    client: Client,
    job_id: int,
    path: Path | None,
    *,
    only_list: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Download the ZIP that a job was handed in as."""
    if as_json:
        output.print_json(client.jobs.bundle_files(job_id))
        return
    if only_list:
        shown = Table(Column("SIZE", right=True), Column("PATH", flexible=True))
        for entry in client.jobs.bundle_files(job_id).files:
            shown.add(output.size(entry.size), entry.path)
        shown.show()
        return
    path = path or Path(f"job-{job_id}.zip")
    with transfer() as coming:
        client.jobs.save_bundle(job_id, path, overwrite=force, progress=coming.show)
    click.echo(output.clean(str(path)))


def _list(found: Sequence[Artifact]) -> None:
    shown = Table(
        Column("SIZE", right=True),
        Column("PATH", flexible=True),
        Column("SHA-256", spare=1),
    )
    for artifact in found:
        shown.add(output.size(artifact.size), artifact.path, artifact.sha256)
    shown.show()


def _save(
    client: Client,
    job_id: int,
    found: Sequence[Artifact],
    patterns: Sequence[str],
    folder: Path,
    *,
    force: bool,
) -> None:
    total = sum(artifact.size for artifact in found)
    with transfer() as coming:
        before, last = 0, found[0]

        def show(artifact: Artifact, there: int) -> None:
            nonlocal before, last
            if artifact.path != last.path:
                before, last = before + last.size, artifact
            coming.show(before + there, total)

        places = client.jobs.save_artifacts(
            job_id,
            folder,
            patterns,
            attempt=found[0].attempt,
            overwrite=force,
            progress=show,
        )
    for place in places:
        click.echo(output.clean(str(place)))
    what = f"{describe.count(len(places), 'file')}, {output.size(total)}"
    click.echo(output.clean(f"{what}, in {folder}."), err=True)
