"""What jobs of a worker see of this machine's files."""
# Every job waits for this, and pathlib is slow with many paths.
# ruff: noqa: PTH116

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from .executors.base import View
from .mounts import TEMPORARY
from .spool import AttemptFolder, WorkerFolder

_ENTER = stat.S_IXOTH


class Views:
    """Makes the view of each attempt.

    Args:
        folder: of the worker, which is hidden.
        settings: the file with the worker's token, likewise.
        variables: the agent's own; the home folder that they name is hidden, too.
        needed: what jobs need to read wherever it is, such as interpreters.
        writable: the folders in which the owner lets jobs write.
    """

    def __init__(
        self,
        folder: WorkerFolder,
        settings: Path,
        variables: Mapping[str, str],
        needed: Iterable[Path],
        writable: Iterable[Path],
    ) -> None:
        home = Path(variables.get("HOME") or "/").resolve()
        hidden = [folder.path, settings] if home == Path("/") else [folder.path, settings, home]
        self._hidden = {str(path.resolve()) for path in hidden}
        self._needed = {str(path.resolve()) for path in (folder.environments, *needed)}
        self._writable = {str(path.resolve()) for path in writable}

    def of(self, folder: AttemptFolder, *, foreign: bool) -> View:
        """The view of an attempt.

        Args:
            folder: of the attempt.
            foreign: whether it runs as another user, who cannot enter what is not open to all.
        """
        # The agent has made them itself, in a folder where nobody else can put links.
        own = str(folder.path.resolve())
        writable = {*self._writable, *(f"{own}/{path.name}" for path in folder.owned)}
        hidden = set(self._hidden)
        if foreign:
            hidden.update(_closed({*self._needed, *writable}))
        covered = (*hidden, *TEMPORARY)
        shown = [path for path in self._needed if any(_is_in(path, one) for one in covered)]
        return View(
            hidden=sorted(hidden - self._needed - writable),
            shown=sorted(shown),
            writable=sorted(writable),
            temporary=f"{own}/{folder.tmp.name}",
        )


def _closed(paths: Iterable[str]) -> Iterator[str]:
    """The topmost folders on the way to some paths that others cannot enter."""
    may_be_entered: set[str] = set()
    for path in paths:
        for above in _above(path):
            if above in may_be_entered:
                continue
            with suppress(OSError):
                mode = os.stat(above).st_mode
                if stat.S_ISDIR(mode) and not mode & _ENTER:
                    yield above
                    break
            may_be_entered.add(above)


def _above(path: str) -> Iterator[str]:
    """The folders in which a path lies, the topmost first."""
    yield "/"
    at = path.find("/", 1)
    while at > 0:
        yield path[:at]
        at = path.find("/", at + 1)


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
