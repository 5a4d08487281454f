"""Finds out what isolation works on this machine, by running a small job that way.

The best comes first; what a job cannot run with, or what does not keep it from what it should, is
left out, and the rest is tried again.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.messages import BundleInfo
from dtrain.protocol.resources import Protection
from dtrain.protocol.spec import JobSpec
from dtrain.protocol.states import Cause
from dtrain.protocol.worker_messages import Assignment

from .config import Config, IsolationMode
from .executors.base import Host, Plan, Step
from .hierarchies import make_worker_group
from .isolation import GIB, Isolation, Means, key_of
from .launcher import kill_rest, launch
from .records import AttemptRecord
from .removal import remove_tree
from .spool import AttemptFolder, WorkerFolder
from .uv_calls import program
from .views import Views

log = logging.getLogger(__name__)

_NAME = "probe"
_LIMIT = 40 * 1024**2
"""Bytes that the job may use, where a group holds that; it wants twice as much."""
_TIME = 10.0
"""Seconds that the job may take, on a machine however busy."""
_JOB = """\
import json, os, sys
def opens(path):
    try:
        os.close(os.open(path, os.O_RDONLY))
    except OSError:
        return False
    return True
facts = {"pid": os.getpid(), "uid": os.getuid(), "reads": opens(sys.argv[1])}
facts["writes"] = os.access(sys.argv[2], os.W_OK)
open("written", "w").close()
print(json.dumps(facts), flush=True)
bytearray(int(sys.argv[3]))
"""
"""Says who it is and what it can do, and asks for memory."""


def best(isolations: Iterator[Isolation], folder: WorkerFolder) -> Isolation:
    """The first with which a job runs as it should; the last if none does.

    Args:
        isolations: the better ones first.
        folder: of the worker.
    """
    for isolation in isolations:
        problem = trouble(isolation, folder)
        if problem is None:
            return isolation
        log.debug("Jobs cannot run with %s: %s", isolation.means, problem)
    return isolation


def trouble(isolation: Isolation, folder: WorkerFolder) -> str | None:
    """What is wrong with a job that runs this way; None if nothing is."""
    attempt = _attempt(folder)
    try:
        plan = isolation.enclosed(attempt, _plan(attempt, isolation.means))
        running = launch(attempt, plan)
        if not running.wait(_TIME):
            kill_rest(attempt)
            return "it does not end"
        return _wrong(attempt, isolation.means)
    except (OSError, DTrainError, ValueError) as error:
        return str(error)
    finally:
        isolation.release(attempt)
        remove_tree(attempt.path)


def _attempt(folder: WorkerFolder) -> AttemptFolder:
    path = folder.path / _NAME
    remove_tree(path)
    assignment = Assignment(
        job_id=0,
        attempt=1,
        spec=JobSpec(name=_NAME, memory_gb=_LIMIT / GIB),
        bundle=BundleInfo(sha256="0" * 64, size=0, files=0),
        submitter=None,
    )
    record = AttemptRecord(assignment=assignment, secret="")
    attempt = AttemptFolder(path, record)
    attempt.make(record)
    return attempt


def _plan(attempt: AttemptFolder, means: Means) -> Plan:
    wanted = 2 * _LIMIT if "memory" in means.group else 0
    secret = str(attempt.path / "attempt.json")
    argv = [sys.executable, "-I", "-S", "-c", _JOB, secret, os.path.realpath(sys.executable)]
    step = Step(name="main", argv=[*argv, str(wanted)], env={}, cwd=str(attempt.work))
    return Plan(steps=[step])


def _wrong(attempt: AttemptFolder, means: Means) -> str | None:
    record = attempt.exit
    said = attempt.log.read_text(errors="replace")
    if record is None or not said.startswith("{"):
        return f"it does not begin: {record and record.message} {said}"
    facts = json.loads(said.splitlines()[0])
    if "memory" in means.group and record.cause is not Cause.OUT_OF_MEMORY:
        return f"it gets more memory than it may have: {record}"
    if means.uids is not None and facts["uid"] not in means.uids:
        return "it is another user than it should be"
    if (means.namespaces or means.uids is not None) and facts["reads"]:
        return "it can read what is the worker's"
    if means.namespaces and (facts["pid"] > 9 or facts["writes"]):
        return "it sees what it should not"
    return None


def found_isolation(config: Config, folder: WorkerFolder, settings: Path, host: Host) -> Isolation:
    """The best isolation that works for a worker, with what is left of gone attempts removed.

    Args:
        config: the owner's settings.
        folder: of the worker.
        settings: the file that they are in.
        host: tells what jobs need to read.
    """
    views = Views(folder, settings, host.variables, needed(host), map(Path, config.job_folders))
    group = make_worker_group(key_of(folder))
    memory = None if config.max_memory_gb is None else int(config.max_memory_gb * GIB)
    share = config.max_cpu_percent
    cpus = None if share is None else (os.cpu_count() or 1) * share / 100

    def made(means: Means) -> Isolation:
        pids = config.max_job_processes
        return Isolation(folder, means, views, memory=memory, cpus=cpus, pids=pids)

    if config.isolation is IsolationMode.OFF:
        tried = [Means(group=each, confines=False) for each in (group, {})]
    else:
        tried = list(_means(group, config.uids))
    isolation = best(map(made, tried), folder)
    isolation.sweep()
    return isolation


def advices(config: Config, protection: Protection) -> Iterator[str]:
    """What the owner could do for more, as sentences.

    Args:
        config: the owner's settings.
        protection: what there is now.
    """
    is_root = os.geteuid() == 0
    wants_limits = config.max_memory_gb is not None or config.max_cpu_percent is not None
    if wants_limits and "cgroup" not in (protection.memory, protection.cpu):
        how = (
            "make /sys/fs/cgroup writable"
            if is_root
            else "start it by systemd-run --user --scope -p Delegate=yes, or as root"
        )
        yield f"Jobs can get past their limits for a moment; {how} to have the kernel hold them."
    if config.isolation is IsolationMode.OFF or protection.level == "namespace":
        return
    how = "let it make namespaces" if is_root else "run it as root, or let users make namespaces"
    yield f"Jobs could be kept further apart; {how} (docs/isolation.md)."


def needed(host: Host) -> set[Path]:
    """What jobs have to read, wherever it is: interpreters, and uv."""
    own = Path(os.path.realpath(host.python))
    prefixes = [Path(sys.prefix), Path(sys.base_prefix), host.python.parent.parent]
    return {*prefixes, own.parent.parent, Path(program()).parent}


def _means(group: dict[str, str], uids: range | None) -> Iterator[Means]:
    """What can be tried, the better first.

    Args:
        group: the worker's control group.
        uids: the users for jobs.
    """
    is_root = os.geteuid() == 0
    for each in [group, {}] if group else [{}]:
        if not is_root:
            yield Means(group=each, namespaces=True)
        elif uids is not None:
            yield Means(group=each, uids=uids, namespaces=True)
            yield Means(group=each, uids=uids)
        yield Means(group=each)  # a job that is root can leave every namespace
