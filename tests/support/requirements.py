"""The parts beside Python that some tests need, and what happens where one is missing.

A test asks with `path = require("postgresql")`. Where the part is missing, the test is left out and
the end of the run says so, with the line that installs it; with `CI=true` the test fails instead.
`python -m support.requirements` prints the packages that are missing.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Part:
    """A program from the distribution that tests run for real."""

    title: str
    packages: tuple[str, ...]
    """The Debian and Ubuntu packages that bring it."""
    find: Callable[[], Path | None]


def _postgresql() -> Path | None:
    """The folder of the newest PostgreSQL's programs."""
    versions = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    newest = max(versions, key=lambda path: float(path.parts[-3]), default=None)
    if newest is not None:
        return newest.parent
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


def _program(*names: str) -> Callable[[], Path | None]:
    def find() -> Path | None:
        found = next(filter(None, map(shutil.which, names)), None)
        return Path(found) if found else None

    return find


def _is_ubuntu() -> bool:
    try:
        return platform.freedesktop_os_release()["ID"] == "ubuntu"
    except OSError:
        return False


PARTS = {
    "postgresql": Part("PostgreSQL", ("postgresql",), _postgresql),
    "chromium": Part(
        "Chromium",
        ("chromium-browser" if _is_ubuntu() else "chromium",),
        _program("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    ),
    "curl": Part("curl", ("curl",), _program("curl")),
    "git": Part("git", ("git",), _program("git")),
    "make": Part("make", ("make",), _program("make")),
}

left_out: dict[str, int] = {}
"""How many tests each missing part has kept from running, by the part's key."""


def require(key: str) -> Path:
    """Where the part is: the folder of PostgreSQL's programs, else the program itself.

    Ends the test where the part is missing: left out, or failed with `CI=true`.
    """
    part = PARTS[key]
    found = part.find()
    if found is not None:
        return found
    left_out[key] = left_out.get(key, 0) + 1
    complaint = f"{part.title} is missing; install it with: {install_line([key])}"
    if in_ci():
        pytest.fail(complaint, pytrace=False)
    pytest.skip(complaint)


def install_line(keys: list[str]) -> str:
    """The one line that brings the parts."""
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get install {' '.join(_packages(keys))}"


def _packages(keys: Iterable[str]) -> list[str]:
    return sorted({package for key in keys for package in PARTS[key].packages})


def in_ci() -> bool:
    """Whether nothing may be left out."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


if __name__ == "__main__":
    print(*_packages(key for key, part in PARTS.items() if part.find() is None))  # noqa: T201 (its purpose)
