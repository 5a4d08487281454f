"""A TCP proxy that does to connections what networks do: cut, swallow, delay, narrow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from .ledger import faults

_METHODS = (b"GET ", b"POST ", b"PUT ", b"DELETE ")


@dataclass
class Weather:
    """What happens to the bytes that pass; changed at any time."""

    drop_requests: bool = False
    """What the client sends is swallowed."""
    drop_answers: bool = False
    """What the server sends is swallowed: what was asked has been done."""
    refuse: bool = False
    """New connections are reset at once."""
    delay: float = 0.0
    """Seconds for which each piece is held."""
    rate: float = 0.0
    """Bytes a second that get through, of all connections together; 0 for any number."""

    @property
    def words(self) -> str:
        """What it is, for the account."""
        if self.rate:
            return "narrow network"
        if self.delay:
            return "slow network"
        if self.refuse:
            return "connections refused"
        lost = [("requests", self.drop_requests), ("answers", self.drop_answers)]
        return f"{' and '.join(what for what, is_lost in lost if is_lost)} swallowed"


@dataclass
class Ambush:
    """What is done between what a request has done and its answer, which is swallowed."""

    path: bytes
    """In the request's first line."""
    holds: bytes
    """In the answer's beginning."""
    act: Callable[[], object]
    met: threading.Event


class Proxy:
    """Listens on a free port of this machine and passes everything on to a port.

    Args:
        target: the port of the server, which need not be there yet.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self._weather = Weather()
        self._ambush: Ambush | None = None
        self._through = asyncio.Lock()
        self._loop = asyncio.new_event_loop()
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._thread.start()

    @property
    def url(self) -> str:
        """The server's address by way of the proxy."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def weather(self) -> Weather:
        """What happens to the bytes that pass."""
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self._weather = weather
        if weather != Weather():
            faults[weather.words] += 1

    @contextmanager
    def ambush(
        self, path: bytes, holds: bytes, act: Callable[[], object]
    ) -> Iterator[threading.Event]:
        """Act once, when the answer to such a request is on its way; set when that is done."""
        self._ambush = Ambush(path, holds, act, threading.Event())
        try:
            yield self._ambush.met
        finally:
            self._ambush = None

    def cut(self) -> int:
        """Reset every connection there is, in the midst of whatever it carries; how many."""
        faults["connections cut"] += 1
        return asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(10)

    def close(self) -> None:
        """Cut everything and end."""
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.close()

    async def _cut(self) -> int:
        number = len(self._writers)
        for writer in list(self._writers):
            writer.transport.abort()
        return number // 2

    async def _close(self) -> None:
        self._server.close()
        await self._cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        server: asyncio.StreamWriter | None = None
        try:
            if self.weather.refuse:
                return
            answers, server = await asyncio.open_connection("127.0.0.1", self.target)
            self._writers.add(server)
            asked = bytearray()
            ways = {
                asyncio.create_task(self._pass(reader, server, asked, answers=False)),
                asyncio.create_task(self._pass(answers, writer, asked, answers=True)),
            }
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in ways:
                    one.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            for end in filter(None, (writer, server)):
                self._writers.discard(end)
                end.transport.abort()
            self._tasks.discard(task)

    async def _pass(
        self,
        source: asyncio.StreamReader,
        to: asyncio.StreamWriter,
        asked: bytearray,
        *,
        answers: bool,
    ) -> None:
        """Pass bytes on one way; `asked` holds the beginning of the connection's last request."""
        with suppress(OSError):
            while piece := await source.read(64 * 1024):
                if not answers:
                    if piece.startswith(_METHODS):  # else it is more of a request's body
                        asked[:] = piece[:300]
                elif await self._fell_into_ambush(asked, piece):
                    return
                await self._hold_up(piece)
                weather = self.weather
                if not (weather.drop_answers if answers else weather.drop_requests):
                    to.write(piece)
                    await to.drain()

    async def _hold_up(self, piece: bytes) -> None:
        if self.weather.delay:
            await asyncio.sleep(self.weather.delay)
        if self.weather.rate:
            async with self._through:
                await asyncio.sleep(len(piece) / self.weather.rate)

    async def _fell_into_ambush(self, asked: bytearray, answer: bytes) -> bool:
        ambush = self._ambush
        if ambush is None or ambush.path not in asked or ambush.holds not in answer:
            return False
        self._ambush = None
        await self._loop.run_in_executor(None, ambush.act)
        ambush.met.set()
        return True


@contextmanager
def proxy_to(target: int) -> Iterator[Proxy]:
    """A proxy that runs until the block ends."""
    made = Proxy(target)
    try:
        yield made
    finally:
        made.close()
