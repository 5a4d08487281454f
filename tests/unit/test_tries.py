from __future__ import annotations

import threading

import pytest

from dtrain.protocol.errors import Unavailable
from dtrain.server.tries import Tries


def test_tries_are_counted_for_each_target_and_forgiven() -> None:
    tries = Tries(2, "codes")
    for target in ("a", "a", "b"):
        tries.begin("192.0.2.1", target)
    with pytest.raises(Unavailable, match="wrong codes") as refused:
        tries.begin("192.0.2.1", "a")
    assert 59 < (refused.value.retry_after or 0) <= 60
    tries.begin("192.0.2.2", "a")
    tries.forgive("192.0.2.1", "a")
    tries.begin("192.0.2.1", "a")
    with pytest.raises(Unavailable):
        tries.check("192.0.2.1", "a")
    tries.check("192.0.2.1")


def test_many_at_once_are_no_more_than_one_after_the_other() -> None:
    tries = Tries(5)
    let_in: list[bool] = []

    def attempt() -> None:
        try:
            tries.begin("192.0.2.1")
        except Unavailable:
            let_in.append(False)
        else:
            let_in.append(True)

    threads = [threading.Thread(target=attempt) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert let_in.count(True) == 5
