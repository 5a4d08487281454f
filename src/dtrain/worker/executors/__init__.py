"""The ways to run attempts, by name. `base` says what each of them has to do."""

from __future__ import annotations

from collections.abc import Callable

from dtrain.protocol.errors import Invalid

from .base import Executor, Host
from .fake import FakeExecutor
from .venv import VenvExecutor

EXECUTORS: dict[str, Callable[[Host], Executor]] = {"venv": VenvExecutor, "fake": FakeExecutor}


def make_executor(name: str, host: Host) -> Executor:
    """The executor with a name.

    Raises:
        Invalid: there is none.
    """
    if name not in EXECUTORS:
        raise Invalid(f"There is no executor {name!r}; use {' or '.join(EXECUTORS)}.")
    return EXECUTORS[name](host)
