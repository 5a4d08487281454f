"""The tools with which the frontend is built and checked, as its lock file names them."""

from __future__ import annotations

import fcntl
import importlib
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType

from .checks import ROOT

FRONTEND = ROOT / "frontend"


def builder() -> ModuleType:
    """The program that builds the frontend, as a module."""
    sys.path.insert(0, str(FRONTEND))
    try:
        return importlib.import_module("build_assets")
    finally:
        sys.path.remove(str(FRONTEND))


def tool(path: str) -> Path:
    """A file of a package that only checks need; they are installed unless they are current.

    Raises:
        build_assets.BuildError: that failed.
    """
    modules = FRONTEND / "node_modules"
    installed, wanted = modules / ".package-lock.json", FRONTEND / "package-lock.json"
    found = modules / path
    # Several processes of a test run may want it at once.
    with Path(tempfile.gettempdir(), f"dtrain-frontend-{os.getuid()}").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not found.exists() or installed.stat().st_mtime < wanted.stat().st_mtime:
            builder().install(with_checks=True)
    return found
