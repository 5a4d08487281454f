"""`Client.workers`: the workers of a server."""

from __future__ import annotations

from collections.abc import Sequence

from dtrain.protocol import routes
from dtrain.protocol.bundlepaths import shown
from dtrain.protocol.errors import Conflict, NotFound
from dtrain.protocol.messages import Worker, WorkerList

from .transport import Transport

SHORTEST_ID = 4
"""Characters of an id that may stand for all of it."""


class Workers:
    """The workers of a server. Every call may raise DTrainError."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Sequence[Worker]:
        """All workers that are known."""
        return self._transport.request("GET", routes.WORKERS).decode(WorkerList).workers

    def get(self, worker_id: str) -> Worker:
        """One worker, by its id."""
        return self._ask("GET", routes.WORKER, worker_id)

    def find(self, name: str) -> Worker:
        """One worker, by its name, its id, or the beginning of its id.

        Raises:
            NotFound: there is none.
            Conflict: there are several; the sentence names them.
        """
        known = self.list()
        found = (
            [worker for worker in known if worker.id == name]
            or [worker for worker in known if worker.name == name]
            or [
                worker
                for worker in known
                if len(name) >= SHORTEST_ID and worker.id.startswith(name)
            ]
        )
        if not found:
            raise NotFound(f"There is no worker {shown(name)}; list them with: dtrain workers")
        if len(found) > 1:
            which = ", ".join(f"{worker.id} on {worker.hostname}" for worker in found)
            raise Conflict(
                f"There are {len(found)} workers {shown(name)}; name one by its id: {which}.",
                code="ambiguous",
            )
        return found[0]

    def drain(self, worker_id: str) -> Worker:
        """Have a worker take nothing new."""
        return self._ask("POST", routes.WORKER_DRAIN, worker_id)

    def resume(self, worker_id: str) -> Worker:
        """Have a drained worker take jobs again."""
        return self._ask("POST", routes.WORKER_RESUME, worker_id)

    def forget(self, worker_id: str, *, force: bool = False) -> None:
        """End a worker's credential and take it from the list.

        Raises:
            Conflict: it has jobs; with `force` they are given to others.
        """
        path = routes.path(routes.WORKER, worker_id=worker_id)
        self._transport.request("DELETE", path, query={"force": "true" if force else None})

    def _ask(self, method: str, template: str, worker_id: str) -> Worker:
        path = routes.path(template, worker_id=worker_id)
        return self._transport.request(method, path).decode(Worker)
