"""What tells one interpreter from others, by its own word."""

from __future__ import annotations

import subprocess
from collections.abc import Iterable
from pathlib import Path

from dtrain.protocol.errors import Invalid

Known = tuple[str, int, str]
"""An interpreter's path, when it was changed, and its identity."""

_WHO = "import os, sys; print(os.path.realpath(sys.executable), sys.version)"
_identities: dict[tuple[str, int], str] = {}


def identity(python: Path) -> str:
    """What tells an interpreter from others: where it really is, and its version and build.

    It is asked once, and again when it has changed.

    Raises:
        Invalid: it is none.
    """
    asked = (str(python), python.stat().st_mtime_ns)
    if asked not in _identities:
        _identities[asked] = _own_word(python)
    return _identities[asked]


def version(python: Path) -> str:
    """The version of an interpreter, such as `3.11.7`.

    Raises:
        Invalid: it is none.
    """
    return identity(python).split()[1]


def known(pythons: Iterable[Path]) -> list[Known]:
    """What this process knows of some interpreters, for another one that need not ask again.

    Raises:
        Invalid: one of them is none.
    """
    return [(str(one), one.stat().st_mtime_ns, identity(one)) for one in pythons]


def learn(found: Iterable[Known]) -> None:
    """Take over what another process knows."""
    for path, changed, told in found:
        _identities[path, changed] = told


def _own_word(python: Path) -> str:
    command = [str(python), "-I", "-S", "-c", _WHO]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
        done.stdout.split()[1]
    except (OSError, IndexError, subprocess.SubprocessError) as error:
        raise Invalid(
            f"The setting python is not acceptable: {python} does not run as Python does; name an"
            " interpreter such as /usr/bin/python3.",
            field="python",
        ) from error
    return done.stdout
