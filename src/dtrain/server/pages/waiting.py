"""What keeps a job off a worker, in words."""

from __future__ import annotations

from dtrain.protocol.resources import Shortfall

_AMOUNTS = {"cpus": "CPUs", "memory": "of memory", "gpus": "GPUs"}
_NEEDS = {"labels": "the label", "executor": "the executor", "python": "Python"}


def shortfall(short: Shortfall) -> str:
    """One thing that a worker lacks, as a sentence."""
    if short.what == "slots":
        return "It runs as many jobs as it may."
    if short.what in _AMOUNTS:
        wanted = f"The job wants {short.wanted} {_AMOUNTS[short.what]}"
        if short.lasting:
            return f"{wanted}, more than the worker has for jobs."
        return f"{wanted}, {short.has} free now."
    return f"The job wants {_NEEDS.get(short.what, short.what)} {short.wanted}; it has {short.has}."
