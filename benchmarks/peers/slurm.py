"""Slurm: a controller and one node on this machine, set to start small jobs at once."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.place import Place
from benchmarks.programs import Program, clean_environment, free_port, wait_for
from benchmarks.throughput import AT_ONCE

from .figures import Counts, Figures

NAME = "Slurm"
_CONFIGURATION = """
ClusterName=bench
SlurmctldHost={host}(127.0.0.1)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CryptoType=crypto/munge
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SchedulerType=sched/builtin
SchedulerParameters=batch_sched_delay=0,sched_interval=1,sched_min_interval=0
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
ReturnToService=2
MinJobAge=300
SwitchType=switch/none
SlurmdParameters=config_overrides
SlurmctldPort={controller}
SlurmdPort={node}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def is_here() -> bool:
    """Whether it is installed."""
    return all(shutil.which(name) for name in ("slurmctld", "slurmd", "sbatch", "munged"))


def figures(place: Place, counts: Counts) -> list[Figures]:
    """With `sbatch`, which is how jobs are handed in to it; `--wait` tells of the end."""
    folder = place.new_folder("slurm")
    configuration = _configure(folder)
    environment = clean_environment() | {"SLURM_CONF": str(configuration)}
    munge = [
        *("munged", "--foreground", "--force", f"--key-file={folder}/munge/key"),
        *(f"--socket={folder}/munge.socket", f"--pid-file={folder}/munge/pid"),
        *(f"--seed-file={folder}/munge/seed", f"--log-file={folder}/munge/log"),
    ]
    with ExitStack() as stack:
        stack.enter_context(Program(munge, folder, title="munged"))
        wait_for((folder / "munge.socket").exists, 30, "munged")
        for title, command in (
            ("slurmctld", ["slurmctld", "-D", "-f", str(configuration)]),
            ("slurmd", ["slurmd", "-D", "-f", str(configuration)]),
        ):
            stack.enter_context(Program(command, folder, environment, title=title))
        return [_measured(folder, environment, counts)]


def _measured(folder: Path, environment: dict[str, str], counts: Counts) -> Figures:
    script = folder / "job.sh"
    stamp = "import time; print(time.monotonic_ns())"
    script.write_text(f"#!/bin/sh\nexec {shutil.which('python3')} -c '{stamp}'\n")

    def call(*command: str) -> str:
        return subprocess.check_output(
            command, env=environment, cwd=folder, text=True, stderr=subprocess.STDOUT
        )

    wait_for(lambda: "idle" in call("sinfo", "-h", "-o", "%T"), 60, "Slurm's node")
    latencies = []
    for number in range(counts.latencies + 1):
        output = folder / f"output-{number}"
        begin = time.monotonic_ns()
        call("sbatch", "--wait", f"--output={output}", str(script))
        if number:
            latencies.append((int(output.read_text()) - begin) / 1e6)
    rates = []
    for _ in range(counts.runs):
        start = time.monotonic()
        for _ in range(counts.jobs):
            call("sbatch", "--output=/dev/null", str(script))
        wait_for(lambda: not call("squeue", "-h").strip(), 900, "Slurm's jobs")
        rates.append(counts.jobs / (time.monotonic() - start))
    return Figures("Slurm, sbatch", latencies, rates)


def _configure(folder: Path) -> Path:
    for name in ("munge", "state", "spool"):
        (folder / name).mkdir(mode=0o700)
    folder.chmod(0o755)
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o600)
    path = folder / "slurm.conf"
    path.write_text(
        _CONFIGURATION.format(
            host=socket.gethostname().partition(".")[0],
            folder=folder,
            cpus=AT_ONCE,
            controller=free_port(),
            node=free_port(),
        )
    )
    return path
