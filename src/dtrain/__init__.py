"""DTrain: hand in a folder of training code and have it run on whichever machine is free.

`dtrain.Client` is the way in for programs, beside it what its calls give and raise. Each name is
imported when it is first asked for: whatever else of the package runs needs nothing of it. This
module is imported by all of that, each job's shim above all, hence nothing is imported here.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .client.client import Client
    from .client.stream import Metric
    from .protocol.errors import (
        Conflict,
        DTrainError,
        Forbidden,
        Invalid,
        JobFailed,
        NotFound,
        Refused,
        Unauthorized,
        Unavailable,
        Unreachable,
    )
    from .protocol.messages import Artifact, Checkpoint, Event, Job, LogPiece, MetricRecord, Worker
    from .protocol.states import Phase, Reason, Status

_PLACES = {
    "client.client": ("Client",),
    "client.stream": ("Metric",),
    "protocol.errors": (
        "Conflict",
        "DTrainError",
        "Forbidden",
        "Invalid",
        "JobFailed",
        "NotFound",
        "Refused",
        "Unauthorized",
        "Unavailable",
        "Unreachable",
    ),
    "protocol.messages": (
        "Artifact",
        "Checkpoint",
        "Event",
        "Job",
        "LogPiece",
        "MetricRecord",
        "Worker",
    ),
    "protocol.states": ("Phase", "Reason", "Status"),
}
_PLACE_OF = {name: place for place, names in _PLACES.items() for name in names}

__all__ = [
    "Artifact",
    "Checkpoint",
    "Client",
    "Conflict",
    "DTrainError",
    "Event",
    "Forbidden",
    "Invalid",
    "Job",
    "JobFailed",
    "LogPiece",
    "Metric",
    "MetricRecord",
    "NotFound",
    "Phase",
    "Reason",
    "Refused",
    "Status",
    "Unauthorized",
    "Unavailable",
    "Unreachable",
    "Worker",
    "__version__",
]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name not in _PLACE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415 -- not before it is needed

    found = getattr(importlib.import_module(f"{__name__}.{_PLACE_OF[name]}"), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return __all__
