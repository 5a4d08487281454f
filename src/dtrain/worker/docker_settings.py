"""What a worker's owner has decided about containers."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import msgspec

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=.*", re.ASCII | re.DOTALL)
_RIGHTS = {"": False, "rw": False, "ro": True}
_OURS = "/dtrain"
"""Where a container has the folders of its job."""
TEMPORARY = "/tmp"  # noqa: S108 -- the container's


class Volume(msgspec.Struct, frozen=True, kw_only=True):
    """A folder or file of this machine that every container has."""

    source: str
    target: str
    read_only: bool


class DockerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How containers are run."""

    image: str
    """Of jobs that name none."""
    volumes: list[Volume] = []
    environment: dict[str, str] = {}
    memory: int | None = None
    """Bytes that a container may use at most; None for all that there are."""
    cpus: float | None = None
    """Processors likewise."""
    processes: int
    """Processes and threads of each container."""
    user: int
    """The user and group of containers where the worker is root."""
    parent: str | None = None
    """The control group of all containers together, as the engine names it; None for its own."""
    is_podman: bool = False
    """Whether the engine is Podman."""
    has_selinux: bool = False
    """Whether the engine keeps containers from the machine's files by their labels as well."""
    lacking: tuple[str, ...] = ()
    """What the engine cannot limit: `memory`, `processors` or `processes`."""


def volume(text: str) -> Volume:
    """What `/path/here:/path/in/the/container` stands for, with `:ro` or without.

    Raises:
        ValueError: it is not of this form; the text says what to write.
    """
    source, _, rest = text.partition(":")
    target, _, right = rest.partition(":")
    if not (source.startswith("/") and target.startswith("/")) or right not in _RIGHTS:
        raise ValueError("write /path/here:/path/in/the/container, with :ro after it to be read")
    target = os.path.normpath(target)
    if target == TEMPORARY:
        raise ValueError(
            "every container has a /tmp of its own; name another place, as in /scratch"
        )
    if target == "/" or f"{target}/".startswith(f"{_OURS}/"):
        raise ValueError(f"a container's {target} cannot be another folder")
    return Volume(source=source, target=target, read_only=_RIGHTS[right])


def complaint_of_volumes(
    volumes: Sequence[Volume], sockets: Sequence[str]
) -> tuple[str, str] | None:
    """Which volume cannot be had, and why; None if all can.

    Args:
        volumes: to be looked at.
        sockets: where an engine's may be, which no container is to reach.
    """
    targets: set[str] = set()
    for one in volumes:
        source = Path(one.source)
        if not source.exists():
            return one.source, "there is no such path on this machine; make it, or leave it out"
        inside = next((path for path in sockets if _is_in(Path(path), source)), None)
        if inside is not None:
            return one.source, (
                f"it is the place of the container engine's socket {inside}, with which a job could"
                " do anything here; name a folder without it"
            )
        if one.target in targets:
            return one.source, f"two volumes cannot both be {one.target}; leave one out"
        targets.add(one.target)
    return None


def _is_in(path: Path, folder: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def is_variable(text: str) -> bool:
    """Whether a text is like NAME=value."""
    return _VARIABLE.fullmatch(text) is not None
