"""The step that makes an attempt's environment; it runs under the shim, its words in the job's log.

It finds or fetches the interpreter, resolves what the bundle asks for, and installs that:

    requirements      resolved by `uv pip compile`, in the folder of the bundle as pip would be;
                      hashes in them are checked
    pyproject.toml    the dependencies of its project, resolved alike
    uv.lock           what it says and nothing else, by address and hash
    pylock.toml       likewise

What other attempts may share goes into a shared environment, what is named by its place on this
disk into the attempt's own, the project itself among it, where it is a package.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.filenames import PROJECT

from .cells import Cell
from .environment import CACHE, INSTALL, Environments, compile_packages, key
from .interpreter import Known, identity, learn, version
from .layout import PLAN, read_if_there
from .needs import Kind, Project, kind_of, read_project, read_pylock, split
from .ownership import give
from .say import say
from .uv_calls import Patience, aloud, quiet

_CODE = """\
import sys
from dtrain.worker.installation import main
sys.exit(main(sys.argv[1:]))
"""
_WAITS = "Another job on this worker builds the same packages; this one waits"
_DECIDE_VERSIONS = {"UV_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE_NEWER", "UV_TORCH_BACKEND"}
_WHEELS = ("--only-binary", ":all:")
"""Has uv unpack what was built by others, and run nothing of it."""
_PLACES = ("UV_DEFAULT_INDEX", "UV_INDEX", "UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")


class Order(NamedTuple):
    """What the step is to do."""

    root: str
    """The folder of the environments that attempts share."""
    attempt: str
    """The folder of the attempt."""
    venv: str
    """Where its environment is to be."""
    own_python: str
    """The interpreter of jobs that ask for none."""
    python: str | None
    """The interpreter to take; None if it is to be found."""
    wanted: str | None
    """The version of Python that the job asks for."""
    may_fetch: bool
    file: str | None
    """What to install, relative to the folder in which the step runs."""
    keep_config: bool
    """Whether the machine's own settings for uv come before those of the project."""
    known: list[Known]
    """What is known of interpreters, so that they need not be asked again."""


def step(order: Order) -> list[str]:
    """The command that does it.

    It runs in the folder of the bundle, and must not take a module from there: hence `-I`.
    """
    return [sys.executable, "-I", "-c", _CODE, json.dumps(order._asdict())]


class Installation:
    """The making of one attempt's environment."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._environments = Environments(Path(order.root))
        self._venv = Path(order.venv)
        self._attempt = Path(order.attempt)
        self._work = Path.cwd()
        self._file = order.file
        self._kind = kind_of(order.file) if order.file else None
        self._folder = self._work
        if order.file and self._kind is not Kind.REQUIREMENTS:
            self._folder = (self._work / order.file).parent
        self._project = self._read_project()
        self._resolved = self._attempt / "requirements"
        self._answers = self._resolved / "answers"
        """What uv writes where it is confined: as good as the job's own word."""
        self._confinement = _confinement(self._attempt)
        self._held: tuple[int, ...] = ()
        """The lock of those who ask for the same, for whatever uv starts to hold it, too."""
        self._hashes: list[str] = []
        """Options that have uv check the hashes that a file of requirements gives."""
        self._without: set[str] = set()
        if self._project and self._project.settings and not order.keep_config:
            self._without = {"UV_CONFIG_FILE", "UV_NO_CONFIG"}

    def run(self) -> None:
        """Do all of it.

        Raises:
            DTrainError: it cannot be done; what uv had to say is in the log.
        """
        python = self._interpreter()
        what = f", with what {self._file} says" if self._file else ""
        say(f"The environment is made of Python {version(python)}{what}.")
        patience = Patience("Another job on this worker makes the same Python ready")
        self._environments.make_own(self._venv, python, patience)
        if self._file is not None:
            self._install_file(python, self._file)
        self._give(self._venv)

    def _install_file(self, python: Path, file: str) -> None:
        # Those who ask for the same take turns from the start: uv would have them wait in silence.
        name = f"asked-{key(identity(python), (self._work / file).read_text('latin-1'))}"
        with self._environments.shared.locked(name, Patience(_WAITS)) as lock:
            self._held = (lock,)
            self._ready_cache(python)
            self._resolved.mkdir(exist_ok=True)
            self._answers.mkdir(exist_ok=True)
            self._give(self._answers)
            self._install_all(python, file)

    def _ready_cache(self, python: Path) -> None:
        if self._confinement is None:
            self._environments.ready_cache(layered=False)
            return
        self._environments.ready_cache(layered=True)
        with self._environments.shared.joined(CACHE), _umask(0):
            self._environments.introduce(python)

    def _install_all(self, python: Path, file: str) -> None:
        if self._kind is Kind.LOCK:
            self._install_lock(python)
        elif self._kind is Kind.PYLOCK:
            self._install_pylocked(python, self._work / file, None)
        elif self._project is None or self._project.is_one:
            self._install_requirements(python, file)
        else:
            say(f"{file} describes no project: nothing is installed.")

    def _read_project(self) -> Project | None:
        if self._kind in {Kind.PROJECT, Kind.LOCK}:
            return read_project(self._folder / PROJECT)
        return None

    # The interpreter.

    def _interpreter(self) -> Path:
        order = self._order
        if order.python is not None:
            return Path(order.python)
        own = Path(order.own_python)
        wanted = order.wanted or self._bounds()
        if wanted is None:
            return own
        from .pythons import Pythons  # noqa: PLC0415 -- few jobs say which they want

        may_fetch = order.may_fetch
        pythons = Pythons(self._environments.shared, own, os.environ, may_fetch=may_fetch)
        found = pythons.find(wanted, self._attempt)
        if found is None and not pythons.may_fetch:
            asking = "The job" if order.wanted else f"{self._file}"
            raise DTrainError(
                f"{asking} asks for Python {wanted}, which this worker does not have and may not"
                " fetch; install it there, or ask for another."
            )
        return found or pythons.fetch(wanted, self._attempt)

    def _bounds(self) -> str | None:
        """The versions of Python that what is to be installed was made for."""
        if self._project is not None:
            return self._project.requires_python
        if self._kind is Kind.PYLOCK and self._file:
            return read_pylock(self._work / self._file)[0]
        return None

    # What is installed.

    def _install_requirements(self, python: Path, file: str) -> None:
        resolved = self._answers / "resolved.txt"
        resolved.unlink(missing_ok=True)
        source = f"./{(self._work / file).relative_to(self._folder)}"
        # Where a package comes from is part of what it is: without the addresses, one from a
        # job's own index would be taken for the one of the same name and version from another.
        told = ("--emit-index-url", "--emit-find-links", "--emit-index-annotation")
        options = ("--no-header", "--no-annotate", "--emit-build-options", *told)
        command = ["pip", "compile", "--python", str(python), "-o", str(resolved), *options]
        self._uv([*command, source], cell=self._own_cell())
        trusted = {word for name in _PLACES for word in _words(os.environ.get(name, ""))}
        shared, own = split(_answer(resolved), trusted)
        if self._kind is Kind.REQUIREMENTS and b"--hash" in (self._work / file).read_bytes():
            self._hashes = ["--constraints", source]
        if self._project and self._project.is_package:
            own += "-e .\n"
        self._install(python, self._written("shared.txt", shared), self._written("own.txt", own))

    def _install_lock(self, python: Path) -> None:
        # As a `pylock.toml` a lock keeps the address and the hash of every file; what is on this
        # disk is told from the rest in the other form alone.
        options = ["export", "--frozen", "--no-header", "--python", str(python)]
        lock = self._answers / "pylock.resolved.toml"
        told = ["--no-emit-local", "--format", "pylock.toml", "-o", str(lock)]
        self._uv([*options, *told], cell=self._own_cell())
        listed = self._answers / "resolved.txt"
        told = ["--no-annotate", "--no-hashes", "-o", str(listed)]
        self._uv([*options, *told], cell=self._own_cell())
        _, own = split(_answer(listed), set())
        self._install_pylocked(python, lock, self._written("own.txt", own))

    def _install_pylocked(self, python: Path, lock: Path, own: Path | None) -> None:
        # A copy: the one that was looked at is the one that is installed.
        kept = self._resolved / "pylock.toml"
        kept.write_text(_answer(lock), encoding="utf-8")
        if read_pylock(kept)[1]:
            self._install(python, kept, own)
            return
        self._put_own(lock)
        self._install(python, None, own)

    def _written(self, name: str, content: str) -> Path | None:
        """A file of requirements; None if there are none."""
        path = self._resolved / name
        path.write_text(content)
        return path if content else None

    def _install(self, python: Path, shared: Path | None, own: Path | None) -> None:
        """Install what is shared into a shared environment, and the rest into the attempt's."""
        if shared is not None:
            content = "\n".join([shared.read_text(), *self._told()])
            is_new = False

            def install(place: Path, lock: int) -> None:
                nonlocal is_new
                is_new = True
                self._fill(place, shared, python, lock)

            waiting = Patience(_WAITS)
            self._environments.add_packages(self._venv, python, content, install, waiting)
            if not is_new:
                say("These packages are here already.")
        if own is not None:
            self._put_own(own)

    def _told(self) -> list[str]:
        """What else decides what becomes of packages that are resolved."""
        settings = [] if self._project is None else [self._project.settings]
        return [*settings, *(Path(name).read_text("latin-1") for name in self._hashes[1:])]

    def _put_own(self, resolved: Path) -> None:
        """Install into the attempt's own environment; from here on that is the job's to change."""
        self._give(self._venv)
        self._put(self._venv, resolved, cell=self._own_cell(self._venv))

    def _fill(self, place: Path, resolved: Path, python: Path, lock: int) -> None:
        """Install packages into a shared environment, whose lock is held.

        Where jobs are confined, packages that are there as wheels are unpacked by the worker, which
        runs nothing of them; all are built in a cell if one of them is not.
        """
        if self._confinement is None:
            self._put(place, resolved, lock)
            return
        place.chmod(0o700)  # until it is whole, and everybody's to read
        if self._are_wheels(place, resolved):
            self._put(place, resolved, lock, compiles=False)
            compile_packages(place, python)
            return
        cell = self._cell("build", place)
        self._give(place)
        self._put(place, resolved, cell=cell)
        if os.geteuid() == 0:
            give(place, 0)

    def _are_wheels(self, place: Path, resolved: Path) -> bool:
        """Whether all packages can be unpacked without building one."""
        if self._hashes or "git+" in resolved.read_text():
            return False
        command = ["pip", "install", *self._target(place, resolved), *_WHEELS, "--dry-run"]
        command += ["--cache-dir", str(self._environments.cache), "--no-config"]
        from .package_settings import package_settings  # noqa: PLC0415 -- for new packages alone

        with _umask(0):
            return quiet(command, package_settings(os.environ)).returncode == 0

    def _put(
        self,
        place: Path,
        resolved: Path,
        *held: int,
        cell: Cell | None = None,
        compiles: bool = True,
    ) -> None:
        options = [] if compiles else [*_WHEELS, "--no-config"]
        command = ["pip", "install", *self._target(place, resolved), *self._hashes, *options]
        command += ["--compile-bytecode"] if compiles else []
        self._uv(command, *held, exact=resolved.suffix == ".toml", cell=cell)

    def _target(self, place: Path, resolved: Path) -> list[str]:
        preview = ["--preview-features", "pylock"] if resolved.suffix == ".toml" else []
        return [*preview, "--python", str(place / "bin/python"), *INSTALL, "-r", str(resolved)]

    def _uv(
        self, arguments: list[str], *held: int, exact: bool = False, cell: Cell | None = None
    ) -> None:
        """Run uv; if `exact`, without what the machine asks for of versions."""
        without = self._without | (_DECIDE_VERSIONS if exact else set())
        cache = self._environments.cache if cell is None else cell.cache
        command = [*arguments, "--cache-dir", str(cache), "--no-python-downloads"]
        with self._environments.shared.joined(CACHE) as lock:
            locks = (lock, *self._held, *held)
            # A cell writes, in layers of its own, where the worker has written in the cache.
            with _umask(0 if self._confinement and cell is None else 0o022):
                done = aloud(command, cwd=self._folder, without=without, held=locks, cell=cell)
            if not done:
                raise DTrainError("What the job asks for cannot be installed.")

    # Where it is done.

    def _own_cell(self, *writable: Path) -> Cell | None:
        """Where what the job brings along may be run."""
        return self._cell("own", self._work, self._answers, *writable)

    def _cell(self, name: str, *writable: Path) -> Cell | None:
        if self._confinement is None:
            return None
        cache = self._environments.cache
        shown = [self._work, self._venv, self._resolved]
        return Cell(self._attempt, name, self._confinement, cache, shown, list(writable))

    def _give(self, path: Path) -> None:
        """Make something the job's."""
        if self._confinement is not None and self._confinement["uid"] is not None:
            give(path, self._confinement["uid"])


def _confinement(attempt: Path) -> dict[str, Any] | None:
    """The confinement of the attempt's plan, if that keeps it from the worker's files."""
    plan = json.loads(read_if_there(str(attempt / PLAN)) or b"{}")
    confinement: dict[str, Any] | None = plan.get("confinement")
    if confinement is None or (confinement["uid"] is None and not confinement["namespaces"]):
        return None
    return confinement


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    """Make files with other permissions."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def _answer(path: Path) -> str:
    """What a confined call of uv has written."""
    try:
        return (read_if_there(str(path)) or b"").decode()
    except (OSError, UnicodeDecodeError) as error:
        raise DTrainError(f"What uv has resolved cannot be read ({error}).") from error


def _words(places: str) -> list[str]:
    """The addresses and folders of a setting, without the names that uv lets them have."""
    words = places.replace(",", " ").split()
    return [word.partition("=")[2] if "=" in word.partition(":")[0] else word for word in words]


def main(arguments: list[str]) -> int:
    """Make an environment, as `step` says; the exit status."""
    gc.freeze()  # what is loaded stays: to look through it, also at the end, takes milliseconds
    try:
        order = Order(**json.loads(arguments[0]))
        learn(order.known)
        Installation(order).run()
    except DTrainError as error:
        say(error.detail)
        return 1
    return 0
