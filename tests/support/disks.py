"""Small disks, and full ones."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .ledger import faults


@contextmanager
def small_disk_at(place: Path, size: str = "2m") -> Iterator[Path]:
    """A disk of so many bytes, mounted on a new folder; only root can have it."""
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "--lazy", place], check=True)


def fill(filler: Path) -> None:
    """Fill the disk that a file is on, to the last byte."""
    faults["disk filled"] += 1
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
