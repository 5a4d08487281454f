"""Answers that were given on a worker's page, until the worker has settled them."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from dtrain.protocol.states import Outcome
from dtrain.protocol.worker_messages import AnswerOutcome, PageAnswer

from .database import notice
from .schema import page_answers


def topic(answer_id: str) -> str:
    """What is told when an answer has been settled."""
    return f"answer:{answer_id}"


def insert(connection: sa.Connection, worker_id: str, answer: PageAnswer, now: float) -> None:
    """Keep an answer for the worker."""
    values = msgspec.structs.asdict(answer)
    connection.execute(page_answers.insert().values(worker_id=worker_id, at=now, **values))


def unsettled(connection: sa.Connection, worker_id: str, since: float) -> list[PageAnswer]:
    """The answers that the worker has to settle, oldest first."""
    columns = [page_answers.c[name] for name in PageAnswer.__struct_fields__]
    rows = connection.execute(
        sa.select(*columns)
        .where(page_answers.c.worker_id == worker_id, page_answers.c.at >= since)
        .where(page_answers.c.outcome.is_(None))
        .order_by(page_answers.c.at)
    )
    return [PageAnswer(**row._mapping) for row in rows]


def settle(
    connection: sa.Connection, worker_id: str, answer_id: str, message: AnswerOutcome
) -> None:
    """Keep what the worker made of an answer, for whoever waits for it; nothing if nobody does."""
    connection.execute(
        page_answers.update()
        .where(page_answers.c.id == answer_id, page_answers.c.worker_id == worker_id)
        .values(outcome=message.outcome, detail=message.detail)
    )
    notice(connection, topic(answer_id))


def outcome(connection: sa.Connection, answer_id: str) -> AnswerOutcome | None:
    """What the worker made of an answer; None as long as it has not said so."""
    row = connection.execute(
        sa.select(page_answers.c.outcome, page_answers.c.detail).where(
            page_answers.c.id == answer_id
        )
    ).one_or_none()
    if row is None or row.outcome is None:
        return None
    return AnswerOutcome(outcome=Outcome(row.outcome), detail=row.detail)


def delete(connection: sa.Connection, answer_id: str) -> None:
    """Forget an answer."""
    connection.execute(page_answers.delete().where(page_answers.c.id == answer_id))


def prune(connection: sa.Connection, before: float) -> None:
    """Forget the answers for which nobody can be waiting any more."""
    connection.execute(page_answers.delete().where(page_answers.c.at < before))
