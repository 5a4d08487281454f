from __future__ import annotations

from dtrain.cli.show import _why
from dtrain.protocol.messages import Explanation, WorkerFit


def test_reason_of_an_owner_who_declined_is_shown() -> None:
    def fit(name: str, reason: str | None) -> WorkerFit:
        return WorkerFit(
            worker_id=name, worker=name, state="online", declined=True, reason=reason, shortfalls=[]
        )

    fits = [fit("one", "too big\x1b[2J"), fit("two", None)]
    shown = _why(Explanation(summary="It waits.", position=0, workers=fits)).plain
    assert "one: declined it (too big" in shown
    assert "two: declined it" in shown
    assert "\x1b" not in shown
