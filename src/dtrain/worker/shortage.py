"""What a machine says no with that is short of something for a while."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

PASSING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
"""The errors after which the same may succeed a moment later."""


@contextmanager
def starting_thread() -> Iterator[None]:
    """Where a thread is started: Python says of the machine's refusal that it is a `RuntimeError`.

    Raises:
        BlockingIOError: there is no thread to be had.
    """
    try:
        yield
    except RuntimeError as error:
        raise BlockingIOError(errno.EAGAIN, f"no thread is to be had ({error})") from error
