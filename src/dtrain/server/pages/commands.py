"""The commands that do again what a job did."""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from dtrain.protocol.messages import Job
from dtrain.protocol.spec import FIELDS, JobSpec

_OPTIONS = {"tags": "tag", "labels": "label"}
"""Of the fields whose option has another name: it is given once for each member."""


@dataclass(frozen=True)
class Commands:
    """What to type to have a job again."""

    clone: str
    """With the bundle that the server has, and the same spec."""
    submit: str
    """From the bundle itself, on any server."""


def commands(job: Job) -> Commands:
    """The commands for a job."""
    bundle = f"job-{job.id}.zip"
    submit = shlex.join(["dtrain", "submit", bundle, *options(job.spec)])
    return Commands(
        clone=f"dtrain clone {job.id}",
        submit=f"dtrain bundle {job.id} -o {bundle}\n{submit}",
    )


def options(spec: JobSpec) -> list[str]:
    """What of a spec is not as it is by default, as options and arguments of `dtrain submit`."""
    plain = JobSpec(name=spec.name)
    found = ["--name", spec.name]
    for name in FIELDS:
        value = getattr(spec, name)
        if name in {"name", "args"} or value is None or value == getattr(plain, name):
            continue
        option = "--" + _OPTIONS.get(name, name).replace("_", "-")
        if isinstance(value, dict):
            members = [f"{key}={text}" for key, text in value.items()]
        elif isinstance(value, list):
            members = value
        else:
            members = [as_text(value) if isinstance(value, float) else str(value)]
        for member in members:
            found += [option, member]
    return [*found, "--", *spec.args] if spec.args else found


def as_text(number: float) -> str:
    """A number as a field takes it: no exponent, and no fraction where it has none."""
    return f"{number:.10f}".rstrip("0").rstrip(".")
