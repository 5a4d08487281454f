"""`dtrain clone`."""

from __future__ import annotations

from typing import Any

import click
import msgspec

from dtrain.client.client import Client
from dtrain.protocol.errors import Invalid, Refused
from dtrain.protocol.jobfile import job_file, read_job_file
from dtrain.protocol.messages import Job
from dtrain.protocol.spec import JobSpec, parse_spec

from . import output
from .arguments import JobId, as_json
from .connection import asks_server
from .output import complain
from .specs import given, refuse_both, spec_options
from .submit import handed_in

_HEAD = """\
# Job {id} again. Change what you like, save, and close the editor to hand it in.
# What you delete has its default again. An empty file hands nothing in.
"""


@click.command()
@click.argument("job_id", metavar="ID", type=JobId())
@click.argument("args", metavar="[-- ARG...]", nargs=-1)
@spec_options
@click.option("-e", "--edit", is_flag=True, help="Change it in your editor ($EDITOR) first.")
@as_json("the new job")
@asks_server
def clone(
    client: Client,
    job_id: int,
    args: tuple[str, ...],
    *,
    follow: bool,
    edit: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Hand a job in again, with changes and without another upload.

    An option replaces what the job had; --env and --label are added to what it had. What follows
    -- replaces the arguments of its script: dtrain clone 42 -- --epochs 50
    """
    refuse_both(follow=follow, as_json=as_json)
    earlier = client.jobs.get(job_id)
    spec = _changed(earlier.spec, given(options, args))
    if edit:
        spec = _edited(earlier, spec)
    job = client.jobs.clone(job_id, spec=spec)
    if as_json:
        output.print_json(job)
    else:
        handed_in(client, [job], follow=follow)


def _changed(spec: JobSpec, changes: dict[str, Any]) -> JobSpec:
    """A spec with what options say.

    Raises:
        Invalid: an option is not acceptable.
    """
    new = parse_spec({"name": spec.name, **changes})
    values = {name: getattr(new, name) for name in changes}
    for name in ("env", "labels"):
        if name in values:
            values[name] = {**getattr(spec, name), **values[name]}
    return msgspec.structs.replace(spec, **values)


def _edited(earlier: Job, spec: JobSpec) -> JobSpec:
    """The spec as a person leaves it in the editor, who is asked again where it is at fault.

    Raises:
        Refused: nothing was saved; or it is at fault, and stays so.
    """
    text = _HEAD.format(id=earlier.id) + job_file(spec)
    while True:
        left = click.edit(text, extension=".yaml")
        if left is None or not left.strip():
            raise Refused("Nothing was saved in the editor, so nothing is handed in.")
        try:
            return parse_spec(read_job_file(left.encode(errors="surrogateescape")))
        except Invalid as error:
            complain(error.detail)
            if not click.confirm("Edit it again?", default=True, err=True):
                raise
        text = left
