"""What some tests need beside Python, and what happens where a part of it is missing.

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
    """A program from the distribution that tests run for real, or a right that they need."""

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


def _libfaketime() -> Path | None:
    return next(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"), None)


def _docker() -> Path | None:
    """The engine's program, if what makes an image for it is there as well."""
    places = f"/usr/sbin:/sbin:{os.environ.get('PATH', '')}"
    engine, maker = (shutil.which(name, path=places) for name in ("dockerd", "mmdebstrap"))
    return Path(engine) if engine and maker else None


def _is_ubuntu() -> bool:
    try:
        return platform.freedesktop_os_release()["ID"] == "ubuntu"
    except OSError:
        return False


def _root() -> Path | None:
    return Path("/root") if os.geteuid() == 0 else None


PARTS = {
    "root": Part("The right to mount a disk and make a network", (), _root),
    "postgresql": Part("PostgreSQL", ("postgresql",), _postgresql),
    "chromium": Part(
        "Chromium",
        ("chromium-browser" if _is_ubuntu() else "chromium",),
        _program("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
    ),
    "caddy": Part("Caddy", ("caddy",), _program("caddy")),
    "docker": Part("Docker", ("docker.io", "mmdebstrap"), _docker),
    "registry": Part(
        "A registry of container images", ("docker-registry",), _program("docker-registry")
    ),
    "curl": Part("curl", ("curl",), _program("curl")),
    "libfaketime": Part("libfaketime", ("faketime",), _libfaketime),
    "git": Part("git", ("git",), _program("git")),
    "iproute2": Part("iproute2", ("iproute2",), _program("ip")),
    "ext4": Part("mkfs.ext4", ("e2fsprogs",), _program("mkfs.ext4", "/usr/sbin/mkfs.ext4")),
    "nginx": Part("nginx", ("nginx-light",), _program("nginx", "/usr/sbin/nginx")),
    "make": Part("make", ("make",), _program("make")),
    "systemd": Part("systemd", ("systemd",), _program("systemd-analyze")),
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
    complaint = f"{part.title} is missing; add it with: {install_line([key])}"
    if in_ci():
        pytest.fail(complaint, pytrace=False)
    pytest.skip(complaint)


def install_line(keys: list[str]) -> str:
    """The one line that brings the parts. As root, the tests install what they need themselves."""
    if "root" in keys:
        return "sudo make test"
    sudo = "" if os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get install {' '.join(_packages(keys))}"


def _packages(keys: Iterable[str]) -> list[str]:
    return sorted({package for key in keys for package in PARTS[key].packages})


def in_ci() -> bool:
    """Whether nothing may be left out."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


if __name__ == "__main__":
    print(*_packages(key for key, part in PARTS.items() if part.find() is None))  # noqa: T201 (its purpose)
