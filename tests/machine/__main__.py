"""DTrain on a machine as most are: systemd first, control groups of version 2, the shipped units.

    make machine                           on an emulated processor, in ten minutes or so
    make machine ARGS="--accelerate"       with KVM, where that works

A small Debian is made (mmdebstrap), DTrain installed in it as docs/operating.md says, and the whole
started in QEMU, without a network. What is looked at there is in guest.py. The exit status is 1
unless all of it held.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from support.checks import ROOT

from .image import DISK, INITRD, KERNEL, make

CACHE = ROOT / ".cache" / "machine"
LONGEST = 3600.0
"""Seconds for all that happens in the machine."""
NEEDED = {
    "qemu-system-x86_64": "qemu-system-x86",
    "mmdebstrap": "mmdebstrap",
    "mkfs.ext4": "e2fsprogs",
}


def main() -> int:
    """Make the machine, start it, and say what held; the exit status."""
    parser = argparse.ArgumentParser(prog="make machine", description=__doc__.splitlines()[0])
    parser.add_argument("--accelerate", action="store_true", help="use KVM")
    options = parser.parse_args()
    complaint = _missing()
    if complaint:
        sys.stderr.write(f"{complaint}\n")
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("Ended by SIGTERM."))
    make(CACHE)
    console = CACHE / "console.log"
    console.write_bytes(b"")
    with subprocess.Popen(_command(console, accelerate=options.accelerate)) as machine:
        try:
            failures = _follow(console, machine)
        finally:
            machine.kill()
    print(f"What the machine said: {console}")
    return 0 if failures == 0 else 1


def _missing() -> str | None:
    """What keeps the machine from being made, as a sentence."""
    if os.geteuid() != 0 or platform.machine() != "x86_64":
        return "The machine is made by root, on x86-64."
    packages = [package for name, package in NEEDED.items() if shutil.which(name) is None]
    if packages:
        return f"Something is missing; add it with: apt-get install {' '.join(packages)}"
    return None


def _command(console: Path, *, accelerate: bool) -> list[str]:
    processor = ["-accel", "kvm", "-cpu", "host"] if accelerate else ["-accel", "tcg,thread=multi"]
    return [
        "qemu-system-x86_64",
        *("-M", "q35", "-smp", "2", "-m", "4096", *processor),
        *("-display", "none", "-nic", "none", "-no-reboot", "-serial", f"file:{console}"),
        *("-kernel", str(CACHE / KERNEL), "-initrd", str(CACHE / INITRD)),
        *("-append", "root=/dev/vda rw console=ttyS0 quiet systemd.show_status=0"),
        *("-drive", f"file={CACHE / DISK},if=virtio,format=raw,cache=unsafe"),
    ]


def _follow(console: Path, machine: subprocess.Popen[bytes]) -> int | None:
    """Show what the guest says of each check; how many failed, None if it did not come to its end.

    Lines of the guest begin with a bar: the kernel writes to the same console.
    """
    deadline, shown = time.monotonic() + LONGEST, 0
    while time.monotonic() < deadline:
        ended = machine.poll() is not None
        lines = console.read_text(errors="replace").splitlines()
        said = [line[1:].strip() for line in lines if line.startswith("|")]
        for line in said[shown:]:
            print(line, flush=True)
        shown = len(said)
        if said and said[-1].startswith("failed: "):
            return int(said[-1].removeprefix("failed: "))
        if ended:
            print("The machine has ended before its checks did.")
            return None
        time.sleep(1.0)
    print(f"The checks did not come to their end in {LONGEST:.0f} s.")
    return None


if __name__ == "__main__":
    sys.exit(main())
