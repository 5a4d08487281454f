from __future__ import annotations

import threading

from support.processes import PATIENCE, wait_for

from dtrain.worker.chores import Chore


def test_chore_is_done_when_it_is_due_and_when_it_is_asked_for() -> None:
    done: list[int] = []
    chore = Chore("chore", lambda: done.append(1), period=3600, pause=0)
    chore.turn()
    wait_for(lambda: done == [1], "the first time")
    assert chore.due_in() > 3500
    chore.turn()
    assert done == [1]
    chore.ask()
    assert chore.due_in() == 0
    wait_for(lambda: chore.turn() or done == [1, 1], "the second time")


def test_chore_is_not_done_twice_at_once_nor_before_its_pause() -> None:
    go = threading.Event()
    began: list[int] = []

    def work() -> None:
        began.append(1)
        go.wait(PATIENCE)

    later = Chore("later", work, period=3600, pause=60)
    later.turn()
    later.ask()
    assert 50 < later.due_in() <= 60
    assert began == []
    chore = Chore("chore", work, period=3600, pause=0)
    chore.turn()
    wait_for(lambda: began, "the first time")
    chore.ask()
    chore.turn()
    assert chore.due_in() > 0
    assert began == [1]
    go.set()
    chore.ask()
    wait_for(lambda: chore.turn() or len(began) == 2, "the second time")


def test_chore_that_fails_is_tried_again() -> None:
    tries: list[int] = []

    def work() -> None:
        tries.append(1)
        raise ValueError("no")

    chore = Chore("chore", work, period=0, pause=0)
    wait_for(lambda: chore.turn() or len(tries) >= 2, "two tries")
