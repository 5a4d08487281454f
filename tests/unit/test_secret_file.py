from __future__ import annotations

import random
from pathlib import Path

import pytest

from dtrain.worker.secret_file import SecretFile


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "next_secrets")


def test_next_secret_stays_until_it_is_taken(path: str) -> None:
    found = SecretFile(path)
    first = found.next()
    assert found.next() == SecretFile(path).next() == first  # the next agent's, too
    found.strike_out({first})
    assert found.next() != first
    assert not found.expects(first)


def test_lent_secrets_are_others_and_come_later(path: str) -> None:
    found = SecretFile(path)
    first = found.next()
    lent = [found.lend() for _ in range(40)]
    assert len({first, *lent}) == 41
    assert found.next() == first
    for secret in lent:
        found.take_back(secret)
    found.strike_out({first, *lent[1:]})
    left = []
    while lent[0] not in left:
        left.append(found.next())
        found.strike_out({left[-1]})
    assert not {first, *lent[1:]} & {*left}


def test_whatever_comes_and_goes_no_secret_is_asked_with_twice_at_a_time(path: str) -> None:
    """Polls and ends side by side, answered in any order, with jobs and without."""
    found, chance = SecretFile(path), random.Random(7)
    lent: list[str] = []
    taken: set[str] = set()
    for _ in range(300):
        polled = found.next()
        assert polled not in lent
        assert polled not in taken
        if len(lent) < 4 and chance.random() < 0.6:
            lent.append(found.lend())
        assert polled not in lent
        assert len({*lent}) == len(lent)
        ended = [*([polled] if chance.random() < 0.3 else []), *chance.sample(lent, len(lent) // 2)]
        for secret in ended:
            if chance.random() < 0.7:
                found.strike_out({secret})
                taken.add(secret)
            if secret in lent:
                lent.remove(secret)
                found.take_back(secret)


def test_secret_is_forgotten_though_the_file_has_gone(path: str) -> None:
    found = SecretFile(path)
    spent = found.next()
    Path(path).unlink()
    found.forget(spent)
    assert found.next() != spent
