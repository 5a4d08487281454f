"""What jobs of a worker see of this machine's files."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator, Mapping
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
        self._hidden = {path.resolve() for path in hidden}
        self._needed = {path.resolve() for path in (folder.environments, *needed)}
        self._writable = {path.resolve() for path in writable}

    def of(self, folder: AttemptFolder, *, foreign: bool) -> View:
        """The view of an attempt.

        Args:
            folder: of the attempt.
            foreign: whether it runs as another user, who cannot enter what is not open to all.
        """
        # The agent has made them itself, in a folder where nobody else can put links.
        own = folder.path.resolve()
        writable = {*self._writable, *(own / path.name for path in folder.owned)}
        hidden = set(self._hidden)
        if foreign:
            hidden.update(_closed({*self._needed, *writable}))
        covered = [*hidden, *map(Path, TEMPORARY)]
        shown = [path for path in self._needed if any(path.is_relative_to(one) for one in covered)]
        return View(
            hidden=sorted(map(str, hidden - self._needed - writable)),
            shown=sorted(map(str, shown)),
            writable=sorted(map(str, writable)),
            temporary=str(own / folder.tmp.name),
        )


def _closed(paths: Iterable[Path]) -> Iterator[Path]:
    """The topmost folders on the way to some paths that others cannot enter."""
    may_be_entered: set[Path] = set()
    for path in paths:
        for above in reversed(path.parents):
            if above in may_be_entered:
                continue
            if above.is_dir() and not above.stat().st_mode & _ENTER:
                yield above
                break
            may_be_entered.add(above)
