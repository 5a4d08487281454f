"""The arguments and options that several commands share, and what a shell offers for them."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.types import StringParamType

from dtrain.protocol.errors import DTrainError

from .output import clean, complain

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from dtrain.client.client import Client

F = TypeVar("F", bound=Callable[..., Any])
T = TypeVar("T")
R = TypeVar("R")

PATIENCE = 2.0
"""Seconds for which a shell waits for the server before it offers nothing."""
_OFFERED = 100
"""Jobs that are looked at for it."""
_PLAIN = re.compile(r"[\w.@+-]+", re.ASCII)
"""What a shell takes as it stands: other names could act on it."""


class JobId(click.IntRange):
    """The number of a job.

    Args:
        ended: which jobs a shell offers: those that have ended, those that have not, or all.
    """

    name = "id"

    def __init__(self, *, ended: bool | None = None) -> None:
        super().__init__(1, 2**63 - 1)
        self._ended = ended

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002  click's own form
        incomplete: str,
    ) -> list[CompletionItem]:
        """The newest jobs that are meant, with their names."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415  for shells alone

        return [
            CompletionItem(str(job.id), help=f"{clean(job.name)}, {job.status}")
            for job in _asked(ctx, lambda client: client.jobs.list(limit=_OFFERED).jobs)
            if self._ended in {None, job.status.final} and str(job.id).startswith(incomplete)
        ]


class WorkerName(StringParamType):
    """A worker, by its name or id."""

    name = "worker"

    def shell_complete(
        self,
        ctx: click.Context,
        param: click.Parameter,  # noqa: ARG002  click's own form
        incomplete: str,
    ) -> list[CompletionItem]:
        """The workers by name, or by id where the name could act on the shell or is not its own."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415  for shells alone

        found = _asked(ctx, lambda client: client.workers.list())
        names = [worker.name for worker in found]
        items = []
        for worker in found:
            is_usable = _PLAIN.fullmatch(worker.name) and names.count(worker.name) == 1
            offered = worker.name if is_usable else worker.id
            if offered.startswith(incomplete):
                said = f"{clean(worker.name)} on {clean(worker.hostname)}, {worker.state}"
                items.append(CompletionItem(offered, help=said))
        return items


def job_ids(*, ended: bool | None = None) -> Callable[[F], F]:
    """One or more jobs, as the argument `job_ids`."""
    return click.argument(
        "job_ids", metavar="ID...", type=JobId(ended=ended), nargs=-1, required=True
    )


def as_json(what: str) -> Callable[[F], F]:
    """The option `--json`, which every command has that shows something."""
    return click.option("--json", "as_json", is_flag=True, help=f"For programs: {what} as JSON.")


def each(things: Iterable[T], act: Callable[[T], R]) -> tuple[list[R], bool]:
    """Act on things one after the other, and complain about those that are refused.

    Returns what came of the others, and whether one was refused.
    """
    done: list[R] = []
    refused = False
    for thing in things:
        try:
            done.append(act(thing))
        except DTrainError as error:
            refused = True
            complain(error.detail)
    return done, refused


def _asked(ctx: click.Context, ask: Callable[[Client], Iterable[T]]) -> list[T]:
    """What a server answers at once; nothing where it does not."""
    found: list[T] = []
    before = ctx.find_root().params
    given = {name: ctx.params.get(name) or before.get(name) for name in ("server", "token")}
    # In a thread of its own: looking up a host's name knows no time limit.
    thread = threading.Thread(target=_ask, args=(given, ask, found), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return found


def _ask(given: dict[str, Any], ask: Callable[[Client], Iterable[T]], into: list[T]) -> None:
    from dtrain.client.client import Client  # noqa: PLC0415  for shells alone

    with suppress(DTrainError, OSError), Client(given["server"], given["token"]) as client:
        into.extend(ask(client))
