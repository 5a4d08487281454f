"""DTrain: hand in a folder of training code and have it run on whichever machine is free.

`dtrain.Client` is the way in for programs. It is imported when it is first asked for: whatever else
of the package runs needs nothing of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .client.client import Client

__all__ = ["Client", "__version__"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    if name == "Client":
        from .client.client import Client  # noqa: PLC0415  see above

        return Client
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
