"""The place of an executor that an earlier agent had, and this one has not."""

from __future__ import annotations

import logging

from dtrain.protocol.states import Cause
from dtrain.worker.spool import AttemptFolder

from .base import Plan, PrepareFailed

log = logging.getLogger(__name__)


class Absent:
    """Has attempts that run go on, since their shims need no executor, and hands others back."""

    def __init__(self, name: str) -> None:
        self.name = name

    def start(self) -> None:
        """Nothing: it runs nothing."""

    def prepare(self, folder: AttemptFolder) -> Plan:
        """Give the job to other workers."""
        del folder
        raise PrepareFailed(
            Cause.HANDED_BACK, f"The worker was started again without the executor {self.name}."
        )

    def resume(self, folder: AttemptFolder) -> Plan | None:  # noqa: ARG002 -- the contract's
        """Nothing: what has outlived a shim only the executor itself could take up."""
        return None

    def clean(self, folder: AttemptFolder) -> None:
        """Say that something may be left: only the executor itself would find it."""
        log.warning(
            "What the executor %s left of attempt %s is not cleaned up: this worker was started"
            " without it.",
            self.name,
            folder.path.name,
        )
