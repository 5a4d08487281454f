"""Many jobs, while servers and agents are killed and connections cut: is anything lost?

    make soak                                    200 jobs, two workers, one server on SQLite
    make soak ARGS="--jobs 1000 --seed 7"
    make soak ARGS="--servers 2"                 two servers on one PostgreSQL
    make soak ARGS="--kills 1000 --calm 1.5"     until 1,000 servers and 1,000 agents were killed

Every job writes down what it prints. In the end that is compared, byte for byte and record for
record, with what the server has, and the table says what was done and what was lost. The exit
status is 1 unless all of the losses are zero.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import secrets
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from support.processes import MARK, end_started, left_over

from .account import Account, judge
from .faults import Faults
from .jobs import hand_in
from .workplace import Workplace, make_workplace

CALM = 60.0
"""Seconds after the last fault in which everything must have come to rest."""
LONGEST = 1800.0
"""Seconds for all of the jobs."""


def main(arguments: list[str]) -> int:
    """Soak; the exit status."""
    options = _parser().parse_args(arguments)
    seed = options.seed if options.seed is not None else secrets.randbelow(10_000)
    mark = f"soak-{secrets.token_hex(8)}"
    os.environ[MARK] = mark
    folder = Path(tempfile.mkdtemp(prefix="dtrain-soak-"))
    print(f"Seed {seed}; everything is in {folder}.", flush=True)
    with ExitStack() as stack:
        try:
            place = make_workplace(stack, folder, options.servers, options.workers, options.slots)
            account = _soak(place, options, random.Random(seed))
        finally:
            end_started(mark)
        account.left = left_over(mark, folder)
        account.groups_left = place.groups_left()
    print(account.table())
    return 0 if account.is_clean else 1


def _soak(place: Workplace, options: argparse.Namespace, chance: random.Random) -> Account:
    faults = Faults(place, random.Random(chance.random()), options.calm)
    over_at = time.monotonic() + 60 * options.minutes

    def is_enough(number: int) -> bool:
        done = number >= options.jobs and faults.have_killed(options.kills)
        return done or time.monotonic() >= over_at

    faults.start()
    try:
        handed = hand_in(place, is_enough, chance)
        place.wait_until_all_ended(handed, LONGEST)
    finally:
        faults.stop()
    place.mend()
    place.wait_until_all_ended(handed, CALM)
    place.wait_until_at_rest(CALM)
    return judge(place, handed, faults.done)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="make soak", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--jobs", type=int, default=200, help="how many jobs at least (200)")
    parser.add_argument("--workers", type=int, default=2, help="how many workers (2)")
    parser.add_argument("--slots", type=int, default=4, help="jobs that a worker runs at once (4)")
    parser.add_argument("--servers", type=int, default=1, help="more than one: on PostgreSQL (1)")
    parser.add_argument(
        "--kills", type=int, default=0, help="servers, and agents, to kill at least (0)"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="after which no more jobs are handed in, whatever was asked for (no limit)",
    )
    parser.add_argument(
        "--calm", type=float, default=1.0, help="mean seconds from a fault to the next like it (1)"
    )
    parser.add_argument("--seed", type=int, help="repeats the choices of an earlier run")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
