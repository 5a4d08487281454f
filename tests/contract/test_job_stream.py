"""The stream of one job: what its followers share."""

from __future__ import annotations

import threading
from itertools import chain
from typing import Any

import msgspec
import sqlalchemy as sa
from support.processes import wait_for
from support.queue import Hand, submitted

from dtrain.protocol.messages import LogPiece
from dtrain.server.jobs.follow import follow
from dtrain.server.services import Services

FOLLOWERS = 30
PIECES = 20


def test_what_many_followers_are_told_is_read_once_for_all(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    hand.log(ref, 0, b"it begins\n")
    printed = bytearray(b"it begins\n")
    logs = [bytearray() for _ in range(FOLLOWERS)]
    queries: list[str] = []

    def note(*told: Any) -> None:
        if threading.current_thread() in threads:
            queries.append(told[2])

    def listen(log: bytearray) -> None:
        for message in chain.from_iterable(follow(services, job.id, last_id=None)):
            if message.event == "log":
                log += (msgspec.json.decode(message.data, type=LogPiece).text or "").encode()

    def all_know() -> bool:
        return all(log == printed for log in logs)

    threads = [threading.Thread(target=listen, args=[log], daemon=True) for log in logs]
    for thread in threads:
        thread.start()
    wait_for(all_know, "all to be told the beginning")
    sa.event.listen(services.database.engine, "before_cursor_execute", note)
    for number in range(PIECES):
        piece = f"piece {number}: grüße\n".encode()
        hand.log(ref, len(printed), piece)
        printed += piece
        wait_for(all_know, "all to be told the piece")
    services.stop.set()
    services.mailboxes.wake_all()
    for thread in threads:
        thread.join()
    assert queries
    assert len(queries) < FOLLOWERS * PIECES / 2


def test_log_that_came_in_many_small_pieces_is_not_read_piece_by_piece(services: Services) -> None:
    job = submitted(services)
    hand = Hand(services)
    ref = hand.run_next()
    printed = bytearray()
    for number in range(300):
        line = f"line {number}: grüße\n".encode()
        hand.log(ref, len(printed), line)
        printed += line
    queries: list[str] = []
    sa.event.listen(
        services.database.engine, "before_cursor_execute", lambda *told: queries.append(told[2])
    )
    told = bytearray()
    for message in chain.from_iterable(follow(services, job.id, last_id=None)):
        if message.event == "log":
            told += (msgspec.json.decode(message.data, type=LogPiece).text or "").encode()
        if told == printed:
            break
    assert 0 < len(queries) < 20
