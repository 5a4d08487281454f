"""What makes a process that was just forked the shim of an attempt.

Imported by the shim, hence the standard library's quick part alone.
"""

from __future__ import annotations

import contextlib
import json
import os

from . import layout, processes
from .layout import read_if_there, write_durably
from .shim import Shim
from .spawn import become_subreaper

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

READY = 3
"""The descriptor on which the launcher hears `ok`."""
HELD = 4
"""The descriptor of the attempt's lock, which the launcher has taken for the shim."""


def main(folder: str) -> None:
    """Run the attempt whose plan lies in the folder; what is heard on `READY` is said first."""
    os.set_inheritable(HELD, False)  # noqa: FBT003 -- it takes no name
    become_subreaper()
    os.chdir(folder)
    plan = json.loads(read_if_there(f"{folder}/{layout.PLAN}") or b"")
    shim = Shim(folder, plan)
    write_durably(f"{folder}/{layout.SHIM}", json.dumps(_who()).encode())
    with contextlib.suppress(BrokenPipeError):  # the agent was killed; the next one finds this shim
        _say("ok")
    try:
        shim.run()
    except Exception as error:  # the last line of defence: a job is never left without its shim
        shim.give_up(error)
        raise


def _who() -> dict[str, Any]:
    """What tells this process from every other, and the mark of all it starts."""
    pid = os.getpid()
    me = processes.look(pid)
    return {
        "pid": pid,
        "ticks": me.ticks if me else 0,
        "boot_id": processes.boot_id(),
        "mark": os.environ[layout.MARK],
    }


def _say(word: str) -> None:
    try:
        os.write(READY, word.encode())
    finally:
        os.close(READY)
