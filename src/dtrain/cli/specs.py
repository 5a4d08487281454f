"""The options that say what a job is like, for the commands that hand one in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from dtrain.protocol.filenames import DEFAULT_ENTRY, DEFAULT_REQUIREMENTS
from dtrain.protocol.states import Executor, OnPartition

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option(
        "--name", help="What the job is called; else as its dtrain.yaml says, else as the folder."
    ),
    click.option("--main-entry", metavar="PATH", help=f"The script to run; else {DEFAULT_ENTRY}."),
    click.option(
        "--arg", "more_args", metavar="TEXT", multiple=True, help="An argument for the script."
    ),
    click.option(
        "--requirements-file",
        metavar="PATH",
        help=f"What to install first; else {DEFAULT_REQUIREMENTS} if there is one.",
    ),
    click.option("--python", metavar="VERSION", help="The Python to run with, such as 3.11."),
    click.option(
        "--env", metavar="NAME=VALUE", multiple=True, help="A variable of the environment."
    ),
    click.option("--tag", "tags", multiple=True, help="A word to find the job by."),
    click.option("--priority", help="From 0 to 100; higher goes first."),
    click.option("--cpus", help="Processor cores to set aside."),
    click.option("--memory-gb", help="Memory to set aside, in GB."),
    click.option("--gpus", help="GPUs to set aside."),
    click.option(
        "--label",
        "labels",
        metavar="NAME=VALUE",
        multiple=True,
        help="A label that the worker must have.",
    ),
    click.option("--time-limit", metavar="TIME", help="When to end it: 90s, 15m, 2h, 1d."),
    click.option("--max-retries", help="New attempts after one that failed."),
    click.option(
        "--on-partition",
        type=click.Choice([choice.value for choice in OnPartition]),
        help="What a worker does with it that is cut off from the server.",
    ),
    click.option("--image", help="A container image to run in."),
    click.option(
        "--executor",
        type=click.Choice([choice.value for choice in Executor]),
        help="How to run it.",
    ),
    click.option(
        "-f", "--follow", is_flag=True, help="Print its log until it has ended; exit 1 if it fails."
    ),
)


def spec_options(command: F) -> F:
    """Give a command the fields of the job spec as options, and `--follow`."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def given(options: dict[str, Any], args: Sequence[str]) -> dict[str, Any]:
    """The fields of the spec of which options, or the arguments behind `--`, say something."""
    fields = {**options, "args": (*options["more_args"], *args)}
    del fields["more_args"]
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in fields.items()
        if value
    }


def refuse_both(*, follow: bool, as_json: bool) -> None:
    """Refuse two options that want stdout for different things.

    Raises:
        UsageError: both are given.
    """
    if follow and as_json:
        raise click.UsageError("--follow prints the log, --json the job: give one of them.")
