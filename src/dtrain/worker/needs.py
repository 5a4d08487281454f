"""What a bundle says about the environment that it needs, and what of that others may share.

What is told by its name: `uv.lock` and `pyproject.toml` of a project, a `pylock.toml`
(or `pylock.<word>.toml`); any other file is one of requirements, as pip reads them.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.filenames import LOCK, PROJECT

if TYPE_CHECKING:
    from dtrain.protocol.spec import JobSpec

_PYLOCK = re.compile(r"pylock(\.[^.]+)?\.toml")
_BOUNDS = re.compile(r"\s*(?:[<>=!~]={0,2}\s*[\w.*]+(?:\s*,)?\s*)+", re.ASCII)
_PINNED = re.compile(
    r"[\w.-]+(\[[\w.,-]+\])?(==\S+| @ (git\+)?(https?|ssh)://\S+)"
    r"( *;.*|( --hash=\S+)*)",
    re.ASCII,
)
_HARMLESS = re.compile(r"--no-index|--(no|only)-binary \S+", re.ASCII)
_PLACE = re.compile(r"--(?:(?:extra-)?index-url|find-links) (\S+)", re.ASCII)


class Kind(StrEnum):
    """What a file that a job names as its requirements is."""

    REQUIREMENTS = "requirements"
    PROJECT = "project"
    LOCK = "lock"
    PYLOCK = "pylock"


def kind_of(file: str) -> Kind:
    """What a file is, by its name."""
    name = PurePosixPath(file).name
    if _PYLOCK.fullmatch(name):
        return Kind.PYLOCK
    return {LOCK: Kind.LOCK, PROJECT: Kind.PROJECT}.get(name, Kind.REQUIREMENTS)


def may_be_contained(spec: JobSpec) -> bool:
    """Whether a job that leaves it open can have what it needs in a container as well.

    A version of Python is the worker's to give, and an image's own pip reads no lock.
    """
    kind = kind_of(spec.requirements_file) if spec.requirements_file else None
    return spec.python is None and kind not in {Kind.LOCK, Kind.PYLOCK}


def blank(requirements: Path) -> bool:
    """Whether a requirements file asks for nothing: it is empty, or all of it is comments."""
    content = requirements.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    lines = content.decode("utf-16" if wide else "utf-8-sig", "replace").splitlines()
    return all(not line.strip() or line.lstrip().startswith("#") for line in lines)


class Project(NamedTuple):
    """What a `pyproject.toml` says of its project."""

    is_one: bool
    """Whether it describes a project at all, not only settings of tools."""
    is_package: bool
    """Whether the project is installed itself, and not just what it depends on."""
    requires_python: str | None
    settings: str
    """The project's settings for uv, empty if it has none."""


def read_project(path: Path) -> Project:
    """What a `pyproject.toml` says.

    Raises:
        DTrainError: it is missing, or it cannot be read.
    """
    content = _toml(path)
    described = _table(content, "project")
    settings = _table(_table(content, "tool"), "uv")
    return Project(
        is_one=bool(described),
        is_package=bool(settings.get("package", "build-system" in content)),
        requires_python=_bounds(described),
        settings=repr(settings) if settings else "",
    )


def read_pylock(path: Path) -> tuple[str | None, bool]:
    """The bounds that a `pylock.toml` sets to Python, and whether nothing in it is on this disk.

    Raises:
        DTrainError: it cannot be read.
    """
    content = _toml(path)
    packages = content.get("packages")
    return _bounds(content), not any(_is_local(part) for part in _tables(packages))


def _bounds(table: dict[str, Any]) -> str | None:
    """The versions of Python that are asked for; None if any will do."""
    bounds = table.get("requires-python")
    return bounds if isinstance(bounds, str) and _BOUNDS.fullmatch(bounds) else None


def _toml(path: Path) -> dict[str, Any]:
    import tomllib  # noqa: PLC0415 -- requirements, which most jobs have, are none

    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DTrainError(f"There is no {path.name} in the bundle; put it in.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DTrainError(f"{path.name} cannot be read ({error}); correct it.") from None


def _table(content: dict[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _tables(value: object) -> Iterator[dict[str, Any]]:
    """All tables in a value, at any depth."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for part in value if isinstance(value, list) else []:
        yield from _tables(part)


def _is_local(table: dict[str, Any]) -> bool:
    """Whether a table of a `pylock.toml` names something by its place on this disk."""
    address = str(table.get("url", ""))
    return "path" in table or "directory" in table or address.startswith(("file:", "git+file:"))


def split(resolved: str, trusted: set[str]) -> tuple[str, str]:
    """Resolved requirements in two: what means the same for every attempt, and the rest.

    What is named by its place on this disk is no one else's. If packages are looked for in such a
    place, nothing is shared, unless the machine itself is set up to look there.

    Args:
        resolved: requirements as uv writes them.
        trusted: addresses and folders that the machine is set up with.
    """
    options: list[str] = []
    shared: list[str] = []
    own: list[str] = []
    is_trusted = True
    for line in resolved.replace("\\\n", " ").splitlines():
        words = " ".join(line.split(" #")[0].split())
        if words.startswith("--"):
            options.append(line)
            is_trusted = is_trusted and _may_share(words, trusted)
        elif words.startswith("#"):
            options.append(line)  # where something is from, which is part of what it is
        elif words:
            (shared if _PINNED.fullmatch(words) else own).append(line)
    if not is_trusted:
        shared, own = [], shared + own
    return _together(options, shared), _together(options, own)


def _together(options: list[str], packages: list[str]) -> str:
    return "\n".join([*options, *packages, ""]) if packages else ""


def _may_share(option: str, trusted: set[str]) -> bool:
    place = _PLACE.fullmatch(option)
    if place is None:
        return _HARMLESS.fullmatch(option) is not None
    return place[1] in trusted or place[1].startswith(("https://", "http://"))
