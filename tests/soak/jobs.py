"""The jobs of a soak: what each does, and how it must end."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from support.witness import Witness, bundle

from dtrain.client.multipart import Multipart
from dtrain.client.transport import Transport
from dtrain.protocol import routes
from dtrain.protocol.errors import DTrainError
from dtrain.protocol.messages import Job, encode

if TYPE_CHECKING:
    from .workplace import Workplace

AT_ONCE = 16
"""Jobs that wait at most; as many more are handed in as end."""


@dataclass
class Handed:
    """A job that was handed in."""

    job_id: int
    witness: Witness
    exit_code: int
    attempts: int
    """How many it must have."""
    cancelled: bool


def hand_in(place: Workplace, enough: Callable[[int], bool], chance: random.Random) -> list[Handed]:
    """Hand in jobs, a few at a time, until there are enough; cancel some in their midst."""
    packed = bundle(place.folder)
    handed: list[Handed] = []
    while not enough(len(handed)):
        handed.append(_hand_in_one(place, packed, len(handed), chance))
        if len(handed) % 10 == 0:
            print(f"{len(handed)} jobs handed in", flush=True)
        while place.waiting() >= AT_ONCE:
            time.sleep(0.2)
    return handed


def _hand_in_one(place: Workplace, packed: Path, index: int, chance: random.Random) -> Handed:
    exit_code = chance.choice([0, 0, 0, 0, 3])
    retries = chance.choice([0, 0, 1]) if exit_code else 0
    witness = Witness(place.folder / "witnesses" / str(index))
    variables = witness.variables(
        STEPS=chance.randint(5, 150), PAUSE=chance.choice([0.001, 0.02, 0.05]), EXIT=exit_code
    )
    cancelled = chance.random() < 0.15
    job_id = _submit(place, packed, f"job {index}", variables, retries)
    if cancelled:
        place.cancel_in_its_midst(job_id, chance.uniform(0, 4))
    return Handed(job_id, witness, exit_code, 1 + retries, cancelled)


def _submit(
    place: Workplace, packed: Path, name: str, variables: dict[str, str], retries: int
) -> int:
    """Hand a job in, however often the server is away; its number."""
    spec = encode({"name": name, "env": variables, "max_retries": retries}).decode()
    headers = {routes.IDEMPOTENCY_HEADER: secrets.token_hex(16)}
    deadline = time.monotonic() + 120
    transport = Transport(place.url)
    try:
        while True:
            try:
                with packed.open("rb") as file:
                    form = Multipart([("spec", spec)], file, file_name="witness.zip")
                    answer = transport.upload(routes.JOBS, form, headers=headers)
                return answer.decode(Job).id
            except DTrainError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
    finally:
        transport.close()
