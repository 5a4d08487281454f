"""Two thousand workers that poll and two hundred open streams, while jobs come in."""

from __future__ import annotations

import asyncio
import json
import random
import resource
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec

import dtrain
from dtrain.protocol import routes
from dtrain.protocol.messages import encode
from dtrain.protocol.worker_messages import PollAnswer, Registered

from . import wire
from .place import Place, Server
from .report import Report, say
from .table import Target

_WAIT = 10.0
"""Seconds for which each poll is held at most."""
_A_SECOND = 10
"""Jobs that are handed in."""
_AT_ONCE = 20
"""Workers that enrol at the same moment."""


@dataclass
class Seen:
    """What the fleet has seen; times are of the monotonic clock, by the job's number."""

    claimed: dict[int, float] = field(default_factory=dict)
    pauses: list[float] = field(default_factory=list)
    """Seconds from each answer to a poll to the next answer."""
    streamed: list[dict[int, float]] = field(default_factory=list)
    """When each stream told that a job was handed in."""
    polling: int = 0


def measure(place: Place, report: Report) -> None:
    """The workers speak the real protocol, all of them from one process beside the server."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    workers, streams = place.pick(500, 2000, trial=100), place.pick(50, 200, trial=20)
    held = {"DTRAIN_MAX_HELD_POLLS": workers + 100, "DTRAIN_MAX_STREAMS": streams + 100}
    bundle = place.bundle({"main.py": "print('ok')\n"})
    with place.server(**held) as server, dtrain.Client(server.url) as client:
        job = client.submit(bundle)
        client.jobs.cancel(job.id)
        seen, sent = asyncio.run(
            _run(server, job.bundle.sha256, workers, streams, seconds=place.pick(15, 60, trial=5))
        )
        online = sum(worker.state == "online" for worker in client.workers.list())
        memory = server.memory() / 1024**2
    lost = set(sent) - set(seen.claimed)
    if lost:
        raise RuntimeError(f"Of {len(sent)} jobs {len(lost)} were never given to a worker.")
    title = f"{workers:,} workers, {streams} streams"
    claims = [(seen.claimed[number] - at) * 1000 for number, at in sent.items()]
    told = [
        (stream[number] - at) * 1000
        for stream in seen.streamed
        for number, at in sent.items()
        if number in stream
    ]
    if len(told) != len(sent) * streams:
        raise RuntimeError(f"Of {len(sent) * streams} events {len(told)} have come.")
    report.add(f"{title}: submit → claimed", "DTrain", "ms", claims, target=Target(p99=250))
    report.add(f"{title}: submit → told by a stream", "DTrain", "ms", told)
    report.add(f"{title}: answer to answer of a worker's polls", "DTrain", "s", seen.pauses)
    report.add(
        f"{title}: workers found silent",
        "DTrain",
        "workers",
        [workers - online],
        target=Target(median=0),
    )
    report.add(f"{title}: memory of the server", "DTrain", "MB", [memory])


async def _run(
    server: Server, bundle: str, workers: int, streams: int, seconds: float
) -> tuple[Seen, dict[int, float]]:
    seen = Seen()
    enrolling = asyncio.Semaphore(_AT_ONCE)
    tasks = [
        asyncio.create_task(_worker(server, enrolling, number, seen)) for number in range(workers)
    ]
    tasks += [asyncio.create_task(_stream(server, seen)) for _ in range(streams)]
    try:
        while seen.polling < workers:
            _raise_of(tasks)
            await asyncio.sleep(0.5)
        say(f"    {workers} workers poll")
        await asyncio.sleep(_WAIT)
        seen.pauses.clear()
        sent = await _hand_in(server, bundle, seconds)
        await asyncio.sleep(_WAIT)
        _raise_of(tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return seen, sent


async def _hand_in(server: Server, bundle: str, seconds: float) -> dict[int, float]:
    """Jobs at their times, whether those before are answered or not; when each was sent."""
    body = json.dumps({"bundle": bundle, "name": "fleet"}).encode()
    handed = []
    begin = time.monotonic()
    for count in range(round(seconds * _A_SECOND)):
        await asyncio.sleep(max(0.0, begin + count / _A_SECOND - time.monotonic()))
        handed.append(asyncio.create_task(_submit(server, body)))
    return dict(await asyncio.gather(*handed))


async def _submit(server: Server, body: bytes) -> tuple[int, float]:
    """The number of the job, and when it was sent."""
    begin = time.monotonic()
    line = await _Line.to(server)
    try:
        answer = await line.post(routes.JOBS, body, {})
    finally:
        line.close()
    return int(json.loads(answer)["id"]), begin


async def _worker(server: Server, enrolling: asyncio.Semaphore, number: int, seen: Seen) -> None:
    async with enrolling:
        line = await _Line.to(server)  # one that lies idle is closed by the server
        body = encode(wire.register(f"fleet-{number}"))
        answer = await line.post(routes.REGISTER, body, wire.bearer(server.worker_token))
    registered = msgspec.json.decode(answer, type=Registered)
    headers = wire.bearer(registered.credential or "")
    secret, count, last = wire.new_secret(), 0, time.monotonic()
    while True:
        count += 1
        seen.polling += count == 1
        wait = _WAIT * random.uniform(0.8, 1)
        message = wire.poll(registered.session, count, wait, secret)
        answer = await line.post(routes.POLL, encode(message), headers)
        now = time.monotonic()
        seen.pauses.append(now - last)
        last = now
        found = msgspec.json.decode(answer, type=PollAnswer)
        if found.assignment is not None:
            seen.claimed[found.assignment.job_id] = now
            place = routes.path(
                routes.ATTEMPT_FINISH,
                job_id=found.assignment.job_id,
                attempt=found.assignment.attempt,
            )
            secretly = {**headers, routes.SECRET_HEADER: secret}
            await line.post(place, encode(wire.finish()), secretly)
        if found.assignment is not None or found.secret_spent:
            secret = wire.new_secret()


async def _stream(server: Server, seen: Seen) -> None:
    line = await _Line.to(server)
    told: dict[int, float] = {}
    seen.streamed.append(told)
    async for data in line.events(routes.STREAM):
        event = json.loads(data)
        if event.get("kind") == "submitted":
            told[event["job_id"]] = time.monotonic()


class _Line:
    """A connection that is kept: as little HTTP as costs the measuring process little."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def to(cls, server: Server) -> _Line:
        """Connect."""
        address = urlsplit(server.url)
        return cls(*await asyncio.open_connection(address.hostname, address.port))

    def close(self) -> None:
        """Give the connection up."""
        self._writer.close()

    async def post(self, path: str, body: bytes, headers: dict[str, str]) -> bytes:
        """The body of the answer.

        Raises:
            RuntimeError: it is refused.
        """
        sent = {
            **headers,
            "Host": "127.0.0.1",
            "Content-Type": "application/json",
            "Content-Length": str(len(body)),
        }
        await self._send("POST", path, sent, body)
        status, received = await self._head()
        answer = await self._reader.readexactly(int(received.get("content-length", 0)))
        if status >= 300:
            raise RuntimeError(f"{path} answers {status}: {answer[:300].decode()}")
        return answer

    async def events(self, path: str) -> AsyncIterator[bytes]:
        """The data of the messages of a stream, for ever.

        Raises:
            RuntimeError: it is refused, or has ended.
        """
        await self._send("GET", path, {"Host": "127.0.0.1"}, b"")
        status, _ = await self._head()
        if status != 200:
            raise RuntimeError(f"{path} answers {status}.")
        while line := await self._reader.readline():
            if line.startswith(b"data: "):
                yield line.removeprefix(b"data: ")
        raise RuntimeError(f"{path} has ended.")

    async def _send(self, method: str, path: str, headers: dict[str, str], body: bytes) -> None:
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {v}" for name, v in headers.items())]
        self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await self._writer.drain()

    async def _head(self) -> tuple[int, dict[str, str]]:
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in head[1:] if line)
        return int(head[0].split()[1]), {name.lower(): value.strip() for name, _, value in pairs}


def _raise_of(tasks: list[asyncio.Task[None]]) -> None:
    """Tell of what has failed in the fleet."""
    for task in tasks:
        if task.done():
            task.result()
