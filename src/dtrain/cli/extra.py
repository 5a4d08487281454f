"""What needs the packages of a server, which are not installed with every command line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dtrain.protocol.errors import Invalid


@contextmanager
def importing_server() -> Iterator[None]:
    """Imports of `dtrain.server` stand in this context.

    Raises:
        Invalid: the packages are not there.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("dtrain."):
            raise
        raise Invalid(
            f"The server's packages are not installed ({error.name} is missing); install them with:"
            " pip install 'dtrain[server]'"
        ) from error
