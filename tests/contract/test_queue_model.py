"""The queue against a model of it, under every fault that a network and a clock can do.

In the usual run few and always the same stories are told; `QUEUE_EXAMPLES=500` tells so many, each
time others (`make faults`).
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support.ledger import faults
from support.queue import open_services
from support.queue_model import Queue

MANY = int(os.environ.get("QUEUE_EXAMPLES", "0"))
STEPS = 50


@pytest.mark.timeout(0 if MANY else 900)
def test_whatever_happens_nothing_is_lost_or_doubled(tmp_path: Path, database_url: str) -> None:
    """On PostgreSQL every call comes to another of two servers."""
    with ExitStack() as stack:
        made = [
            stack.enter_context(open_services(tmp_path / f"{number}", database_url))
            for number in range(1 if database_url.startswith("sqlite") else 2)
        ]
        for server in made[1:]:
            for part in ("clock", "blobs", "bundles"):
                object.__setattr__(server, part, getattr(made[0], part))

        class Story(Queue):
            servers = made
            told = faults

        run_state_machine_as_test(
            Story,
            settings=settings(
                max_examples=MANY or 7,
                stateful_step_count=STEPS,
                derandomize=not MANY,
                database=None,
                print_blob=True,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
