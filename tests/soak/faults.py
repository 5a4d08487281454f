"""The faults of a soak: one after the other, at random, until it is stopped."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from support.processes import Running
from support.proxy import Proxy, Weather

from .workplace import Workplace

DOWN = (0.0, 3.0)
"""Seconds for which a killed program stays away."""
SPELL = (0.2, 4.0)
"""Seconds of bad weather, or for which a program is stopped."""


class Faults:
    """A thread that does harm.

    Args:
        place: what it is done to.
        chance: says what and when.
        pause: mean seconds between two faults.
    """

    def __init__(self, place: Workplace, chance: random.Random, pause: float) -> None:
        self.done: Counter[str] = Counter()
        self._place = place
        self._chance = chance
        self._pause = pause
        self._over = threading.Event()
        self._trouble: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="faults")
        self._kinds: dict[str, tuple[int, Callable[[], None]]] = {
            "kill -9 of a server": (3, lambda: self._kill(self._a_server())),
            "kill -9 of an agent": (6, lambda: self._kill(self._a_worker())),
            "kill -9 of server and agent": (
                2,
                lambda: self._kill(self._a_server(), self._a_worker()),
            ),
            "connections cut": (6, self._cut),
            "answers swallowed": (3, lambda: self._spoil(Weather(drop_answers=True))),
            "requests swallowed": (3, lambda: self._spoil(Weather(drop_requests=True))),
            "connections refused": (2, lambda: self._spoil(Weather(refuse=True))),
            "slow network": (2, lambda: self._spoil(Weather(delay=0.3))),
            "server stopped for a while": (1, lambda: self._stop(self._a_server())),
            "agent stopped for a while": (2, lambda: self._stop(self._a_worker())),
        }
        if place.cluster is not None:
            self._kinds["database connections ended"] = (3, place.cluster.end_connections)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End, once the fault under way is over; raises what kept it from being done."""
        self._over.set()
        self._thread.join()
        if self._trouble is not None:
            raise self._trouble

    def _run(self) -> None:
        names = list(self._kinds)
        weights = [self._kinds[name][0] for name in names]
        while not self._over.wait(self._chance.expovariate(1 / self._pause)):
            name = self._chance.choices(names, weights)[0]
            try:
                self._kinds[name][1]()
            except Exception as error:  # told by `stop`: a soak without faults proves nothing
                self._trouble = error
                return
            self.done[name] += 1

    def _a_server(self) -> Running:
        return self._chance.choice(self._place.servers)

    def _a_worker(self) -> Running:
        return self._chance.choice(self._place.workers)

    def _kill(self, *programs: Running) -> None:
        for program in programs:
            program.kill()
        time.sleep(self._chance.uniform(*DOWN))
        for program in programs:
            program.restart()  # type: ignore[attr-defined]  # servers and workers have it

    def _cut(self) -> None:
        for proxy in self._place.proxies:
            proxy.cut()

    def _spoil(self, weather: Weather) -> None:
        proxy: Proxy = self._chance.choice(self._place.proxies)
        proxy.weather = weather
        time.sleep(self._chance.uniform(*SPELL))
        proxy.weather = Weather()
        if not weather.delay:
            proxy.cut()  # a stream of which a part is missing never goes on

    def _stop(self, program: Running) -> None:
        with suppress(ProcessLookupError):
            os.killpg(program.pid, signal.SIGSTOP)
            time.sleep(self._chance.uniform(*SPELL))
            os.killpg(program.pid, signal.SIGCONT)
