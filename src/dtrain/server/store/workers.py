"""Workers: who they are, what they have, when they were last heard of."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import sqlalchemy as sa

from dtrain.protocol.errors import NotFound
from dtrain.protocol.messages import WorkerMetrics
from dtrain.protocol.resources import Capacity
from dtrain.protocol.worker_messages import Poll, Register
from dtrain.server.rules.leases import worker_state

from . import events
from .database import notice
from .schema import workers

FORGOTTEN = "forgotten"
"""The kind of the topics that tell which worker is known no more."""
_FORGOTTEN = "forgotten "
"""Before the id, in place of a credential's hash; no hash begins so."""
_KNOWN = ~workers.c.credential_hash.startswith(_FORGOTTEN)


_GET = sa.select(workers).where(workers.c.id == sa.bindparam("worker_id"), _KNOWN)
_LOCK = _GET.with_for_update()
_BY_CREDENTIAL = sa.select(workers.c.id).where(
    workers.c.credential_hash == sa.bindparam("credential_hash")
)
_UPDATE = workers.update().where(workers.c.id == sa.bindparam("this_worker"))


class WorkerRow(msgspec.Struct, frozen=True, kw_only=True):
    """A worker as it is stored."""

    id: str
    name: str
    session: int
    poll_number: int
    hostname: str
    version: str
    capacity: Capacity
    metrics: WorkerMetrics
    asks: bool
    answer_on_page: bool
    drained: bool
    """Told by an operator to take nothing new."""
    draining: bool
    """Takes nothing new by its own word."""
    left: bool
    last_seen: float

    def state(self, now: float) -> str:
        """`online`, `draining` or `offline`."""
        draining = self.drained or self.draining
        return worker_state(self.last_seen, now, left=self.left, draining=draining)


def hash_credential(credential: str) -> str:
    """How a credential is stored. It is random and long, so a plain hash is enough."""
    return hashlib.sha256(credential.encode(errors="replace")).hexdigest()


def insert(
    connection: sa.Connection, worker_id: str, credential: str, message: Register, now: float
) -> None:
    """Enrol a worker; `begin_session` follows."""
    connection.execute(
        workers.insert().values(
            id=worker_id,
            credential_hash=hash_credential(credential),
            session=0,
            drained=False,
            enrolled_at=now,
            **_described(message, now),
        )
    )


def begin_session(connection: sa.Connection, worker_id: str, message: Register, now: float) -> int:
    """A worker's agent has started; gives the number of its session.

    Raises:
        NotFound: there is no such worker.
    """
    connection.execute(
        workers.update()
        .where(workers.c.id == worker_id)
        .values(session=workers.c.session + 1, **_described(message, now))
    )
    session = get(connection, worker_id).session
    events.append(connection, "joined", now, worker_id=worker_id, name=message.name)
    return session


def by_hash(connection: sa.Connection, credential_hash: str) -> str | None:
    """The worker whose credential has this hash."""
    values = {"credential_hash": credential_hash}
    return connection.execute(_BY_CREDENTIAL, values).scalar_one_or_none()


def get(connection: sa.Connection, worker_id: str, *, lock: bool = False) -> WorkerRow:
    """One worker.

    Raises:
        NotFound: there is no such worker.
    """
    statement = _LOCK if lock else _GET
    row = connection.execute(statement, {"worker_id": worker_id}).one_or_none()
    if row is None:
        raise NotFound(
            f"There is no worker {worker_id}; `dtrain workers` lists the ones there are."
        )
    return _worker(row)


def listing(connection: sa.Connection) -> list[WorkerRow]:
    """All workers, by name."""
    rows = connection.execute(
        sa.select(workers).where(_KNOWN).order_by(workers.c.name, workers.c.enrolled_at)
    )
    return [_worker(row) for row in rows]


def beat(connection: sa.Connection, worker_id: str, message: Poll, now: float) -> None:
    """Store what a poll says of the worker itself."""
    update(
        connection,
        worker_id,
        last_seen=now,
        poll_number=message.number,
        capacity=_json(message.capacity),
        metrics=_json(message.metrics),
        asks=message.asks,
        answer_on_page=message.answer_on_page,
        draining=message.draining,
    )


def update(connection: sa.Connection, worker_id: str, **values: Any) -> None:
    """Change columns of a worker."""
    connection.execute(_UPDATE, {"this_worker": worker_id} | values)


def forget(connection: sa.Connection, worker_id: str) -> None:
    """Let a worker be known no more; its row stays, for its name stands at the jobs that it ran."""
    update(connection, worker_id, credential_hash=f"{_FORGOTTEN}{worker_id}")
    notice(connection, f"{FORGOTTEN}:{worker_id}")


def _described(message: Register, now: float) -> dict[str, Any]:
    return {
        "name": message.name,
        "hostname": message.hostname,
        "version": message.version,
        "boot_id": message.boot_id,
        "capacity": _json(message.capacity),
        "metrics": _json(WorkerMetrics()),
        "asks": message.asks,
        "answer_on_page": False,
        "draining": False,
        "left": False,
        "last_seen": now,
        "poll_number": 0,
    }


def _json(message: object) -> str:
    return msgspec.json.encode(message).decode()


def _worker(row: sa.Row[Any]) -> WorkerRow:
    return WorkerRow(
        id=row.id,
        name=row.name,
        session=row.session,
        poll_number=row.poll_number,
        hostname=row.hostname,
        version=row.version,
        capacity=msgspec.json.decode(row.capacity, type=Capacity),
        metrics=msgspec.json.decode(row.metrics, type=WorkerMetrics),
        asks=row.asks,
        answer_on_page=row.answer_on_page,
        drained=row.drained,
        draining=row.draining,
        left=row.left,
        last_seen=row.last_seen,
    )
