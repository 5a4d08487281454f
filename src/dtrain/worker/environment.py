"""The environments that jobs run in: built once, shared read-only, with a small one on top of each.

An attempt gets a virtual environment of its own, which costs milliseconds, and layers below it
that it shares with others: the packages of its requirements, and pip. So whatever a job installs
while it runs stays its own, and the same requirements are installed once.

    <root>/packages-<key>/    what requirements resolve to; the key is that and the interpreter
    <root>/base-<key>/        pip, for jobs that use it, and a blank environment, of which the
                              attempts' are copies; the key is the interpreter
    <root>/pythons/           interpreters that were fetched (`pythons`)
    <root>/cache/             uv's own
    <folder>/venv/            the attempt's; `shared` in it is a link to its `packages-<key>`

A shared environment is built where it stays, is byte-compiled, shares no file with uv's cache, and
is read-only afterwards. `shared` has the rules for building, using and removing it.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

from dtrain.protocol.errors import DTrainError

from .interpreter import identity
from .removal import remove_tree
from .shared import Shared, Waiting
from .uv_calls import quiet

SHARED = "shared"
"""The link in an attempt's environment to the shared one below it."""
CACHE = "cache"
"""The folder of uv's cache, and the lock that whoever uses it joins."""
CONTAINED = "containers-"
"""How the names of the environments begin that are for containers."""
INSTALL = ("--no-deps", "--link-mode", "copy")
"""How packages that are resolved are installed."""

_CLOSED = 0o700
_BLANK = "blank"
"""The folder in a base of the environment that attempts get a copy of."""
_SPARED = ("bin/activate?*", "bin/*.bat", ".gitignore", "CACHEDIR.TAG", ".lock")
"""What a blank environment goes without: each file is made, and removed, for each job."""
_INTRODUCED = ".introduced-"
_LAYERS = "dtrain_layers.pth"
_WHERE_PIP = """\
import ensurepip, glob, os, sysconfig
beside = os.path.join(os.path.dirname(ensurepip.__file__), "_bundled")
for folder in filter(None, [sysconfig.get_config_var("WHEEL_PKG_DIR"), beside]):
    print(*glob.glob(os.path.join(folder, "pip-*.whl")), sep="\\n")
"""
"""Finds the wheel that an interpreter's own `ensurepip` would install, which takes longer."""


class Environments:
    """The environments of one worker.

    Safe to use from several processes and threads at once.

    Args:
        root: the folder they are in.
    """

    def __init__(self, root: Path) -> None:
        self.shared = Shared(root)
        self.cache = root / CACHE
        self._root = root

    def ready_cache(self, *, layered: bool) -> None:
        """Have uv's cache ready for those who write in it, or in a layer of their own above it.

        A layer has the permissions of what is below it: that is open to all, behind a folder that
        nobody else can enter. The mode of that folder tells which it is.

        Args:
            layered: whether other users write in layers above it.
        """
        self.cache.mkdir(mode=0o755, exist_ok=True)
        closed = stat.S_IMODE(self.cache.stat().st_mode) == _CLOSED
        if layered and not closed:
            for folder, _, files in os.walk(self.cache):
                Path(folder).chmod(0o777)
                for path in (Path(folder, name) for name in files):
                    if not path.is_symlink():
                        path.chmod(path.stat().st_mode | 0o666)
        self.cache.chmod(_CLOSED if layered else 0o755)

    def introduce(self, python: Path) -> None:
        """Have uv's cache know an interpreter, for those who have a layer of their own above it.

        In there uv would find out about it each time anew: the layer goes, and that with it.
        """
        changed = str(python.stat().st_ctime_ns)
        mark = self.cache / f"{_INTRODUCED}{key(str(python), changed, identity(python))}"
        if not mark.exists():
            options = ["--no-project", "--no-config", "--cache-dir", str(self.cache)]
            if not quiet(["python", "find", *options, str(python)]).returncode:
                mark.touch()

    def base(self, python: Path, attempt: Path | None, waiting: Waiting | None = None) -> Path:
        """The environment with pip alone, built if it is not there: without network, in seconds.

        Args:
            python: its interpreter.
            attempt: the folder of the attempt that it is for; None to have it ready.
            waiting: called while another builds it.

        Raises:
            DTrainError: the interpreter cannot make one.
        """
        place = self._root / f"base-{key(identity(python), _BLANK)}"
        return self.shared.have(place, attempt, lambda _: self._build_base(place, python), waiting)

    def _build_base(self, place: Path, python: Path) -> None:
        command = [str(python), "-I", "-S", "-c", _WHERE_PIP]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        wheels = found.stdout.split("\n")
        if found.returncode or not wheels[0]:
            raise DTrainError(
                f"{python} comes without pip, which jobs may use; install its `ensurepip`"
                " (on Debian and Ubuntu: apt install python3-venv)."
            )
        make(place, python)
        options = ["--offline", "--no-config", "--no-index", "--no-cache", *INSTALL]
        options.append("--compile-bytecode")
        done = quiet(["pip", "install", "--python", str(place / "bin/python"), *options, wheels[0]])
        if done.returncode:
            raise DTrainError(f"pip cannot be made ready for jobs: {done.stderr.strip()}")
        blank = place / _BLANK
        make(blank, python, "--relocatable")
        for path in (path for pattern in _SPARED for path in blank.glob(pattern)):
            path.unlink()

    def make_own(self, venv: Path, python: Path, waiting: Waiting | None = None) -> None:
        """Make the environment of an attempt, anew if there is one, on top of the base."""
        base = self.base(python, venv.parent, waiting)
        remove_tree(venv)
        _copy(str(base / _BLANK), str(venv))
        script = venv / "bin/pip"
        script.write_text(f'#!/bin/sh\nexec {shlex.quote(str(venv))}/bin/python -m pip "$@"\n')
        script.chmod(0o755)
        (venv / "bin/pip3").hardlink_to(script)
        _put_on_top(venv, [base])

    def add_packages(
        self,
        venv: Path,
        python: Path,
        content: str,
        install: Callable[[Path, int], None],
        waiting: Waiting,
    ) -> None:
        """Put the environment of an attempt on top of the shared one of some packages.

        Args:
            venv: the attempt's environment.
            python: its interpreter.
            content: what the packages are, to the letter.
            install: installs them into an empty environment; gets a lock to hold meanwhile.
            waiting: called while another attempt builds them.
        """
        place = self._root / f"packages-{key(identity(python), content)}"

        def build(lock: int) -> None:
            make(place, python)
            install(place, lock)

        self.shared.have(place, venv.parent, build, waiting)
        (venv / SHARED).symlink_to(place)
        _put_on_top(venv, [place, self.base(python, venv.parent)])


def make(place: Path, python: Path, *options: str) -> None:
    """Make an empty virtual environment, with further options of `uv venv`.

    Raises:
        DTrainError: the interpreter is not fit for that.
    """
    options = ("--no-config", "--no-project", "--python", str(python), *options)
    done = quiet(["venv", *options, str(place)])
    if done.returncode:
        raise DTrainError(f"No environment of {python} can be made: {done.stderr.strip()}")


def compile_packages(place: Path, python: Path) -> None:
    """Compile the packages of an environment without running any of them, as `site` would.

    Args:
        place: the environment.
        python: the interpreter that it is of.
    """
    options = ["-I", "-S", "-m", "compileall", "-q", "-j", "0"]
    command = [str(python), *options, str(_packages(place))]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


def _copy(folder: str, target: str) -> None:
    """Copy a folder with all that is in it; the copy can be written in.

    Symbolic links, which cannot be, are the same in both: a file that is made, and removed, for
    each job costs more the more there have been lately.
    """
    # shutil and pathlib would take ten times as long, and every job waits for this.
    os.mkdir(target)  # noqa: PTH102
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{target}/{entry.name}"
            if entry.is_symlink():
                try:
                    os.link(entry.path, path, follow_symlinks=False)
                except OSError:  # another disk, or not ours
                    os.symlink(os.readlink(entry.path), path)  # noqa: PTH115, PTH211
            elif entry.is_dir():
                _copy(entry.path, path)
            else:
                # Where a worker's folder was itself copied, its links may have become programs.
                mode = stat.S_IMODE(entry.stat().st_mode) | stat.S_IWUSR
                new = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
                with open(entry.path, "rb") as source, open(new, "wb") as copy:  # noqa: PTH123
                    copy.write(source.read())


def _put_on_top(venv: Path, layers: list[Path]) -> None:
    """Have an environment find, after its own packages, those of the layers, the nearer first."""
    folders = [str(_packages(layer)) for layer in layers]
    lines = ["import site", *(f"site.addsitedir({folder!r})" for folder in folders)]
    (_packages(venv) / _LAYERS).write_text("; ".join(lines) + "\n")


def _packages(environment: Path) -> Path:
    return next(environment.glob("lib/*/site-packages"))


def key(*parts: str) -> str:
    """A name for something that is told by these texts alone."""
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]
