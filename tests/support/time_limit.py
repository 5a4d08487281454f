"""A moment after which a test run starts no further test, for machines too slow for all of them.

`TEST_UNTIL=$(date -d '+1 hour' +%s) make test`, in seconds since 1970. What is not started is told
as skipped, and the end of the run says how much that was and in which files.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable

import pytest

_OVER = "the time of TEST_UNTIL was over"


def skip_if_over() -> None:
    """Skip the test that is about to start if the run's time is over."""
    if time.time() > float(os.environ.get("TEST_UNTIL") or "inf"):
        pytest.skip(_OVER)


def account(skipped: Iterable[pytest.TestReport]) -> list[str]:
    """What was not started for want of time, a line for each file; empty if nothing was."""
    files = Counter(
        report.nodeid.partition("::")[0]
        for report in skipped
        if isinstance(report.longrepr, tuple) and _OVER in report.longrepr[2]
    )
    if not files:
        return []
    return [
        f"{sum(files.values())} tests were not started, since {_OVER}:",
        *(f"{count:6} in {file}" for file, count in sorted(files.items())),
        "Without TEST_UNTIL all of them run.",
    ]
