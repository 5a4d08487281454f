"""Small disks, full ones, and disks that lose their power."""

from __future__ import annotations

import fcntl
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from dtrain.worker.layout import sync_disk

from .ledger import faults
from .processes import wait_for
from .requirements import require

_SHUTDOWN = 0x8004587D
"""`EXT4_IOC_SHUTDOWN`, in Linux' `include/uapi/linux/ext4.h`."""
_NO_LOG_FLUSH = 2
"""`EXT4_GOING_FLAGS_NOLOGFLUSH`: not even the journal is written any more."""


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


class PoweredDisk:
    """A disk of its own on a new folder, whose power can be cut; only root can have it.

    What was not forced to the disk before a cut is gone after it. The file system waits for as
    long as it may before it writes by itself, and does no more for careless programs than it must.

    Args:
        place: where it is mounted; the file that is the disk lies beside it.
        size: in bytes, as `truncate` takes it.
    """

    def __init__(self, place: Path, size: str = "512M") -> None:
        self.place = place
        self._image = place.with_name(f"{place.name}.image")
        subprocess.run(["truncate", "--size", size, self._image], check=True)
        subprocess.run([require("ext4"), "-q", self._image], check=True)
        place.mkdir()
        self._careless = place / "careless"
        self._mount()

    def settle(self) -> None:
        """Have all that is here on the disk, as it is anyway when some time has passed."""
        sync_disk(str(self.place))

    def cut(self) -> None:
        """Cut the power: nothing is written from now on, whoever tries is refused."""
        self._careless.write_text("not forced to the disk")
        root = os.open(self.place, os.O_RDONLY)
        try:
            fcntl.ioctl(root, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(root)
        faults["power cut"] += 1

    def switch_on(self) -> None:
        """End what is at work here, as the cut would have, and have what the disk still holds."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                places = [process.cwd(), *(file.path for file in process.open_files())]
                if any(Path(place).is_relative_to(self.place) for place in places):
                    process.kill()
                    process.wait(60)
        self.remove()
        self._mount()
        kept = self._careless.read_bytes() if self._careless.exists() else b""
        assert kept == b"", "What was not forced to the disk has outlived a cut of its power."

    def remove(self) -> None:
        """Unmount it, as soon as the last of those that were killed has let go of it."""
        unmount = ["umount", str(self.place)]
        wait_for(
            lambda: subprocess.run(unmount, check=False).returncode == 0, "the disk to be free"
        )

    def _mount(self) -> None:
        options = "loop,commit=300,noauto_da_alloc"
        subprocess.run(["mount", "-o", options, self._image, self.place], check=True)
