"""The built styles and scripts of DTrain's web pages: where they are, and if they are current."""

from __future__ import annotations

import hashlib
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
_PROJECT = _PACKAGE.parent.parent
_SOURCES = ("build.mjs", "package.json", "package-lock.json", "web")
_DIGEST = "sources.sha256"


def static_folder() -> Path:
    """The folder to serve; absent where nothing was built."""
    return _PACKAGE / "static"


def digest() -> str:
    """What the built files were made of, as a word for addresses; empty where nothing was built."""
    try:
        return (static_folder() / _DIGEST).read_text()
    except FileNotFoundError:
        return ""


def is_stale() -> bool:
    """Whether the built files are missing, or made of other sources than those beside them.

    Installed from a wheel there are no sources, and nothing to be older than.
    """
    built = digest()
    return not built or (_has_sources() and built != _digest_of_sources())


def write_digest(folder: Path) -> None:
    """Note in a folder of built files what they are made of; for the build alone."""
    (folder / _DIGEST).write_text(_digest_of_sources())


def _has_sources() -> bool:
    return all((_PROJECT / name).exists() for name in _SOURCES)


def _digest_of_sources() -> str:
    found = hashlib.sha256()
    for name in _SOURCES:
        source = _PROJECT / name
        files = sorted(path for path in source.rglob("*") if path.is_file()) or [source]
        for path in files:
            content = path.read_bytes()
            found.update(f"{path.relative_to(_PROJECT).as_posix()}\0{len(content)}\0".encode())
            found.update(content)
    return found.hexdigest()[:16]
