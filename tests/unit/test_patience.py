from __future__ import annotations

from collections.abc import Callable
from threading import Event

import pytest

from dtrain.protocol.errors import DTrainError, Unavailable, Unreachable
from dtrain.worker.patience import CHECKPOINT, LAST_CHECKPOINT, Patience, persist

DAY = 86400.0


class Clock(Event):
    """The time, which goes on when it is waited for."""

    now = 0.0

    def wait(self, timeout: float | None = None) -> bool:
        """Let so many seconds go by, and one for the try."""
        self.now += (timeout or 0.0) + 1.0
        return False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr("dtrain.worker.patience.time.monotonic", lambda: made.now)
    return made


def given_up_after(
    patience: Patience, clock: Clock, error: Callable[[float], DTrainError]
) -> float:
    """Seconds after which a call is given up that fails with what `error` says of the time."""

    def ask() -> None:
        raise error(clock.now)

    with pytest.raises(DTrainError):
        persist(ask, patience, clock, lambda _: None)
    return clock.now


def test_checkpoint_is_given_up_soon(clock: Clock) -> None:
    assert given_up_after(CHECKPOINT, clock, lambda _: Unreachable("away")) < 60


def test_last_checkpoint_is_given_up_where_the_server_says_no(clock: Clock) -> None:
    assert given_up_after(LAST_CHECKPOINT, clock, lambda _: Unavailable("full")) < 400


def test_last_checkpoint_waits_for_a_server_that_is_away(clock: Clock) -> None:
    def error(now: float) -> DTrainError:
        return Unreachable("away") if now < DAY else Unavailable("full")

    assert DAY + 250 < given_up_after(LAST_CHECKPOINT, clock, error) < DAY + 400


def test_last_checkpoint_does_not_wait_for_ever(clock: Clock) -> None:
    assert given_up_after(LAST_CHECKPOINT, clock, lambda _: Unreachable("away")) < 8 * DAY
