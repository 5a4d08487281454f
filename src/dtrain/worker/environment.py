"""The environments that jobs run in: built once, shared read-only, with a small one on top of each.

An attempt gets a virtual environment of its own, which costs milliseconds, and layers below it
that it shares with others: the packages of its requirements, and pip. So whatever a job installs
while it runs stays its own, and the same requirements are installed once.

    <root>/packages-<key>/    what requirements resolve to; the key is that and the interpreter
    <root>/base-<key>/        pip, for jobs that use it; the key is the interpreter
    <root>/cache/             uv's own
    <folder>/venv/            the attempt's; `shared` in it is a link to its `packages-<key>`

A shared environment is built where it stays, under a lock, and counts only once its marker is
there: two attempts that need the same one build it once, and a half-built one is built again. It is
byte-compiled, shares no file with uv's cache, and is read-only afterwards. Requirements that name
something by its place on this disk are no one else's: they go into the attempt's own.

`python -m dtrain.worker.environment` is the step that resolves and builds; it runs under the shim,
so that what uv says is in the job's log.
"""

from __future__ import annotations

import codecs
import contextlib
import fcntl
import functools
import hashlib
import os
import re
import shlex
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import uv

from dtrain.protocol.errors import DTrainError

from .removal import remove_tree

SHARED = "shared"
"""The link in an attempt's environment to the shared one below it."""

_READY = ".ready"
_LAYERS = "dtrain_layers.pth"
_WHO = "import os, sys; print(os.path.realpath(sys.executable), sys.version)"
_WHERE_PIP = """\
import ensurepip, glob, os, sysconfig
beside = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")
for folder in filter(None, [sysconfig.get_config_var("WHEEL_PKG_DIR"), beside]):
    print(*glob.glob(os.path.join(folder, "pip-*.whl")), sep="\\n")
"""
"""Finds the wheel that an interpreter's own `ensurepip` would install, which takes longer."""
_OPTIONS = ("--no-deps", "--compile-bytecode", "--link-mode", "copy")
_SHAREABLE = re.compile(
    r"[\w.-]+(\[[\w.,-]+\])?(==\S+| @ (git\+)?(https?|ssh)://\S+)"
    r"|--(extra-)?index-url \S+|--find-links (\w+://|/)\S*|--no-index"
    r"|--(no|only)-binary \S+",
    re.ASCII,
)


def blank(requirements: Path) -> bool:
    """Whether a requirements file asks for nothing: it is empty, or all of it is comments."""
    content = requirements.read_bytes()
    wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    lines = content.decode("utf-16" if wide else "utf-8-sig", "replace").splitlines()
    return all(not line.strip() or line.lstrip().startswith("#") for line in lines)


def find_python(version: str, own: Path) -> Path:
    """An interpreter of a version such as `3.11` or `3.11.7`: `own`, if it is one, else another.

    Raises:
        DTrainError: there is none on this machine.
    """
    if f"{_identity(own).split()[1]}.".startswith(f"{version}."):
        return own
    command = ["python", "find", "--no-python-downloads", "--no-project", "--no-config", version]
    found = _uv(command)
    if found.returncode:
        raise DTrainError(f"This worker has no Python {version}; install it, or ask for another.")
    return Path(found.stdout.strip())


class Environments:
    """The environments of one worker.

    Safe to use from several processes and threads at once.

    Args:
        root: the folder they are in.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self.cache = root / "cache"

    def base(self, python: Path) -> Path:
        """The environment with pip alone, built if it is not there: without network, in seconds.

        Raises:
            DTrainError: the interpreter cannot make one.
        """
        place = self._root / f"base-{_key(_identity(python))}"
        return self._built(place, lambda: self._build_base(place, python))

    def _build_base(self, place: Path, python: Path) -> None:
        command = [str(python), "-I", "-S", "-c", _WHERE_PIP]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = found.stdout.split("\n")
        if found.returncode or not wheels[0]:
            raise DTrainError(
                f"{python} comes without pip, which jobs may use; install its `ensurepip`"
                " (on Debian and Ubuntu: apt install python3-venv)."
            )
        self._make(place, python)
        options = ["--offline", "--no-config", "--no-index", "--no-cache", *_OPTIONS]
        done = _uv(["pip", "install", "--python", str(place / "bin/python"), *options, wheels[0]])
        if done.returncode:
            raise DTrainError(f"pip cannot be made ready for jobs: {done.stderr.strip()}")

    def make_own(self, venv: Path, python: Path) -> None:
        """Make the environment of an attempt, anew if there is one, on top of the base."""
        base = self.base(python)
        remove_tree(venv)
        self._make(venv, python)
        for name in ("pip", "pip3"):
            script = venv / "bin" / name
            script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(venv))}/bin/python -m pip "$@"\n')
            script.chmod(0o755)
        _put_on_top(venv, [base])

    def install(self, venv: Path, python: Path, requirements: str) -> None:
        """Give the environment of an attempt what its requirements ask for.

        Runs in the folder that the requirements are relative to; says on standard output what it
        does.

        Raises:
            DTrainError: they cannot be had; uv has said why on standard output.
        """
        resolved = venv.parent / "requirements.resolved"
        self._resolve(python, requirements, resolved)
        content = resolved.read_text()
        if not shareable(content, venv.parent):
            self._install(venv, resolved)
            return
        place = self._root / f"packages-{_key(_identity(python), content)}"
        if _is_ready(place):
            print("These packages are here already.", flush=True)  # noqa: T201 -- the job's log

        def build() -> None:
            self._make(place, python)
            self._install(place, resolved)

        self._built(place, build)
        (venv / SHARED).symlink_to(place)
        _put_on_top(venv, [place, self.base(python)])

    def _resolve(self, python: Path, requirements: str, resolved: Path) -> None:
        resolved.unlink(missing_ok=True)
        # Where a package comes from is part of what it is: without the addresses, one from a
        # job's own index would be taken for the one of the same name and version from another.
        told = ("--emit-index-url", "--emit-find-links", "--emit-index-annotation")
        options = ("--no-header", "--no-annotate", "--emit-build-options", *told)
        command = ["pip", "compile", "--python", str(python), "-o", str(resolved), *options]
        self._say([*command, requirements])

    def _install(self, place: Path, resolved: Path) -> None:
        python = str(place / "bin/python")
        self._say(["pip", "install", "--python", python, *_OPTIONS, "-r", str(resolved)])

    def _say(self, arguments: list[str]) -> None:
        """Run uv with its words on standard output."""
        command = [uv.find_uv_bin(), *arguments, "--cache-dir", str(self.cache)]
        quiet = ("--color", "never", "--no-progress", "--no-python-downloads")
        with open(os.devnull, "wb") as nothing:  # noqa: PTH123 -- what is resolved is in a file
            done = subprocess.run([*command, *quiet], stdout=nothing, stderr=1, check=False)
        if done.returncode:
            raise DTrainError("The requirements cannot be installed.")

    def _make(self, place: Path, python: Path) -> None:
        """Make an empty virtual environment."""
        done = _uv(["venv", "--no-config", "--no-project", "--python", str(python), str(place)])
        if done.returncode:
            raise DTrainError(f"No environment of {python} can be made: {done.stderr.strip()}")

    def _built(self, place: Path, build: Callable[[], None]) -> Path:
        """Build a shared environment, unless it is there."""
        if _is_ready(place):
            return place
        self._root.mkdir(parents=True, exist_ok=True)
        with _locked(place.with_name(f"{place.name}.lock")):
            if not _is_ready(place):
                remove_tree(place)
                build()
                _make_read_only(place)
                os.sync()  # a marker that outlived what it marks would spoil every later job
                _mark_ready(place)
        return place


def shareable(resolved: str, attempt: Path) -> bool:
    """Whether resolved requirements mean the same for every attempt: nothing on this disk."""
    lines = [line.split(" #")[0].strip() for line in resolved.splitlines()]
    asked = [line for line in lines if line and not line.startswith("#")]
    return str(attempt) not in resolved and all(_SHAREABLE.fullmatch(line) for line in asked)


def _put_on_top(venv: Path, layers: list[Path]) -> None:
    """Have an environment find, after its own packages, those of the layers, the nearer first."""
    folders = [str(_packages(layer)) for layer in layers]
    lines = ["import site", *(f"site.addsitedir({folder!r})" for folder in folders)]
    (_packages(venv) / _LAYERS).write_text("; ".join(lines) + "\n")


def _packages(environment: Path) -> Path:
    return next(environment.glob("lib/*/site-packages"))


def _identity(python: Path) -> str:
    """What tells an interpreter from others: where it really is, and its version and build."""
    return _ask(python, python.stat().st_mtime_ns)


@functools.cache
def _ask(python: Path, _changed: int) -> str:
    command = [str(python), "-I", "-S", "-c", _WHO]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def _key(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _uv(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Run uv without what this machine sets for it."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    command = [uv.find_uv_bin(), *arguments, "--color", "never", "--no-python-downloads"]
    return subprocess.run(command, env=kept, capture_output=True, text=True, check=False)


def _is_ready(place: Path) -> bool:
    return (place / _READY).exists()


def _mark_ready(place: Path) -> None:
    (place / _READY).touch(mode=0o444)
    place.chmod(0o555)


def _make_read_only(place: Path) -> None:
    for folder, _, files in os.walk(place):
        for name in files:
            path = Path(folder, name)
            if not path.is_symlink():
                path.chmod(stat.S_IMODE(path.stat().st_mode) & ~0o222)
        if folder != str(place):
            Path(folder).chmod(0o555)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def step(root: Path, venv: Path, python: Path, requirements: str) -> list[str]:
    """The command that installs requirements into an attempt's environment.

    It runs in the folder of the bundle, and must not take a module from there: hence `-I`.
    """
    program = [sys.executable, "-I", "-m", "dtrain.worker.environment"]
    return [*program, str(root), str(venv), str(python), requirements]


def main(arguments: list[str]) -> int:
    """Install requirements, as `step` says; the exit status."""
    root, venv, python = (Path(argument) for argument in arguments[:3])
    try:
        Environments(root).install(venv, python, arguments[3])
    except DTrainError as error:
        print(error.detail, flush=True)  # noqa: T201 -- the job's log
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
