"""The live stream of changes, on SQLite and on PostgreSQL alike."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import chain, islice

import msgspec
import pytest
from support.processes import PATIENCE
from support.queue import Hand, submitted

from dtrain.protocol.messages import Event
from dtrain.server.events import Batch
from dtrain.server.services import Services
from dtrain.server.store import events as stored


def append(services: Services, kind: str) -> int:
    """Store an event; its id."""
    services.database.write(lambda connection: stored.append(connection, kind, 1.0))
    with services.database.read() as connection:
        return stored.bounds(connection)[1]


def taken(stream: Iterator[Batch], count: int) -> list[Event]:
    """The next events of a stream; what else is in the last batch is passed over."""
    messages = chain.from_iterable(stream)
    told = (message for message in messages if message.event in {"job", "worker"})
    return [msgspec.json.decode(message.data, type=Event) for message in islice(told, count)]


def test_stream_goes_on_behind_the_event_that_was_seen_last(services: Services) -> None:
    ids = [append(services, f"k{n}") for n in range(5)]
    assert [event.id for event in taken(services.events.follow(ids[1]), 3)] == ids[2:]


def test_follower_misses_and_doubles_nothing_while_many_write(services: Services) -> None:
    first = append(services, "first")
    seen: dict[int, list[int]] = {}

    def follow(number: int) -> None:
        # Each is cut off again and again, and goes on behind what it saw last.
        last, mine = first, seen.setdefault(number, [])
        while len(mine) < 200:
            part = taken(services.events.follow(last), min(7 * number + 1, 200 - len(mine)))
            mine.extend(event.id for event in part)
            last = mine[-1]

    def write() -> None:
        for _ in range(50):
            append(services, "more")

    threads = [threading.Thread(target=follow, args=[number]) for number in range(4)]
    threads += [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    with services.database.read() as connection:
        stored_ids = [event.id for event in stored.after(connection, first, 1000)]
    assert len(stored_ids) == 200
    assert seen == dict.fromkeys(range(4), stored_ids)


def test_follower_that_lags_far_behind_is_brought_up_from_the_table(services: Services) -> None:
    first = append(services, "first")
    stream = services.events.follow(first)
    second = append(services, "second")
    assert [event.id for event in taken(stream, 1)] == [second]

    def flood(connection: object) -> None:
        for _ in range(2500):
            stored.append(connection, "flood", 1.0)  # type: ignore[arg-type]

    services.database.write(flood)
    last = append(services, "last")
    found = [event.id for event in taken(stream, 2501)]
    assert found == list(range(second + 1, last + 1))


def test_what_happened_while_nobody_followed_is_told_who_asks_for_it_alone(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = append(services, "first")
    monkeypatch.setattr(services.events, "_wanted_until", 0.0)
    unseen = [append(services, f"k{n}") for n in range(3)]
    stream, behind = services.events.follow(None), services.events.follow(first)
    last = append(services, "last")
    assert [event.id for event in taken(stream, 1)] == [last]
    assert [event.id for event in taken(behind, 4)] == [*unseen, last]


def test_follower_that_slept_meanwhile_misses_nothing(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = append(services, "first")
    sleeper = services.events.follow(first)
    seen = append(services, "seen")
    assert [event.id for event in taken(sleeper, 1)] == [seen]
    monkeypatch.setattr(services.events, "_wanted_until", 0.0)
    missed = [append(services, f"k{n}") for n in range(3)]
    other = services.events.follow(None)
    last = append(services, "last")
    assert [event.id for event in taken(other, 1)] == [last]
    assert [event.id for event in taken(sleeper, 4)] == [*missed, last]


def test_id_that_is_pruned_or_unknown_gets_a_reset(services: Services) -> None:
    ids = [append(services, f"k{n}") for n in range(6)]
    services.database.write(lambda connection: stored.prune(connection, 2.0, 4))
    append(services, "newest")
    for last_id in (ids[0], ids[-1] + 1000):
        [message] = next(services.events.follow(last_id))
        assert message.event == "reset"
        assert message.id is not None
    assert taken(services.events.follow(ids[3]), 3)[0].id == ids[4]


def test_progress_is_told_as_it_is_now_and_has_no_id(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    stream = services.events.follow(None)
    hand.log(ref, 0, b'PROGRESS: {"epoch": 1, "epochs": 5}\n')
    message = next(message for batch in stream for message in batch if message.event == "progress")
    assert message.id is None
    told = msgspec.json.decode(message.data)
    assert told == {"job_id": job.id, "progress": {"epoch": 1, "epochs": 5}, "fraction": 0.2}


def test_streams_end_with_the_server(services: Services) -> None:
    stream = services.events.follow(append(services, "first"))
    ended = threading.Event()

    def follow() -> None:
        for _ in stream:
            pass
        ended.set()

    threading.Thread(target=follow, daemon=True).start()
    services.stop.set()
    services.mailboxes.wake_all()
    assert ended.wait(PATIENCE)
