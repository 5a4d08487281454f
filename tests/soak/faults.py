"""The faults of a soak: several at a time, at random, until they are stopped."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

from support.processes import RunningServer, RunningWorker
from support.proxy import Proxy, Weather

from .workplace import Workplace

DOWN = (0.0, 1.0)
"""Seconds for which a killed program stays away."""
SPELL = (0.2, 4.0)
"""Seconds of bad weather, or for which a program is stopped."""
SERVER_KILLED = "kill -9 of a server"
AGENT_KILLED = "kill -9 of an agent"


@dataclass(frozen=True)
class Kind:
    """A kind of fault."""

    name: str
    weight: int
    """How often it is chosen, beside the others of its thread."""
    inflict: Callable[[random.Random], None]


class Faults:
    """Threads that do harm: one to the servers, one to the agents, one to the network.

    None of them heeds the others, so that faults also fall together.

    Args:
        place: what it is done to.
        chance: says what and when.
        pause: mean seconds between two faults of a thread.
    """

    def __init__(self, place: Workplace, chance: random.Random, pause: float) -> None:
        self.done: Counter[str] = Counter()
        self._place = place
        self._pause = pause
        self._over = threading.Event()
        self._counting = threading.Lock()
        self._trouble: Exception | None = None
        self._threads = [
            threading.Thread(target=self._run, args=[kinds, random.Random(chance.random())])
            for kinds in (self._to_servers(), self._to_agents(), self._to_the_network())
        ]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """End, once the faults under way are over; raises what kept one from being done."""
        self._over.set()
        for thread in self._threads:
            thread.join()
        if self._trouble is not None:
            raise self._trouble

    def have_killed(self, number: int) -> bool:
        """Whether so many servers and so many agents were killed, or no more will be."""
        killed = min(self.done[SERVER_KILLED], self.done[AGENT_KILLED])
        return killed >= number or self._over.is_set()

    def _to_servers(self) -> list[Kind]:
        kinds = [
            Kind(SERVER_KILLED, 9, lambda chance: _kill(chance, self._place.servers)),
            Kind(
                "server stopped for a while", 1, lambda chance: _stop(chance, self._place.servers)
            ),
        ]
        if self._place.cluster is not None:
            cut_off = self._place.cluster.end_connections
            kinds.append(Kind("database connections ended", 4, lambda _: cut_off()))
        return kinds

    def _to_agents(self) -> list[Kind]:
        return [
            Kind(AGENT_KILLED, 9, lambda chance: _kill(chance, self._place.workers)),
            Kind("agent stopped for a while", 2, lambda chance: _stop(chance, self._place.workers)),
        ]

    def _to_the_network(self) -> list[Kind]:
        return [
            Kind("connections cut", 6, lambda _: self._cut()),
            Kind("answers swallowed", 3, self._spoilt_by(Weather(drop_answers=True))),
            Kind("requests swallowed", 3, self._spoilt_by(Weather(drop_requests=True))),
            Kind("connections refused", 2, self._spoilt_by(Weather(refuse=True))),
            Kind("slow network", 2, self._spoilt_by(Weather(delay=0.3))),
        ]

    def _run(self, kinds: list[Kind], chance: random.Random) -> None:
        weights = [kind.weight for kind in kinds]
        while not self._over.wait(chance.expovariate(1 / self._pause)):
            [kind] = chance.choices(kinds, weights)
            try:
                kind.inflict(chance)
            except Exception as error:  # told by `stop`: a soak without faults proves nothing
                self._trouble = error
                self._over.set()
                return
            with self._counting:
                self.done[kind.name] += 1

    def _cut(self) -> None:
        for proxy in self._place.proxies:
            proxy.cut()

    def _spoilt_by(self, weather: Weather) -> Callable[[random.Random], None]:
        def spoil(chance: random.Random) -> None:
            proxy: Proxy = chance.choice(self._place.proxies)
            proxy.weather = weather
            time.sleep(chance.uniform(*SPELL))
            proxy.weather = Weather()
            if not weather.delay:
                proxy.cut()  # a stream of which a part is missing never goes on

        return spoil


def _kill(chance: random.Random, programs: Sequence[RunningServer | RunningWorker]) -> None:
    program = chance.choice(programs)
    program.kill()
    time.sleep(chance.uniform(*DOWN))
    program.restart()


def _stop(chance: random.Random, programs: Sequence[RunningServer | RunningWorker]) -> None:
    program = chance.choice(programs)
    with suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGSTOP)
        time.sleep(chance.uniform(*SPELL))
        os.killpg(program.pid, signal.SIGCONT)
