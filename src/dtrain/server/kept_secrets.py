"""The secrets that nobody set: made once, kept in a file that only its owner can read."""

from __future__ import annotations

import json
import os
import secrets
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from dtrain.protocol.errors import DTrainError, Invalid

FILE = "secrets.json"


def kept_secrets(folder: Path, wanted: Sequence[str]) -> dict[str, str]:
    """The secrets of those names; what the file lacks is made and added to it.

    Raises:
        Invalid: the file is there but holds something else.
        DTrainError: the folder cannot be written to.
    """
    if not wanted:
        return {}
    path = folder / FILE
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        kept = _read(path)
        lacking = [name for name in wanted if name not in kept]
        if lacking:
            kept = _add(path, kept, lacking)
    except OSError as error:
        raise DTrainError(
            f"The data folder {folder} cannot be used ({(error.strerror or str(error)).lower()});"
            " make it writable for the user who runs the server."
        ) from error
    return {name: kept[name] for name in wanted}


def _read(path: Path) -> dict[str, str]:
    try:
        kept = json.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except ValueError:
        kept = None
    if not isinstance(kept, dict) or not all(isinstance(value, str) for value in kept.values()):
        raise Invalid(f"{path} is damaged; put back a copy, or delete it to have new secrets made.")
    return kept


def _add(path: Path, kept: dict[str, str], lacking: Sequence[str]) -> dict[str, str]:
    """Write the file anew with more in it. Of two who make the first one, one wins."""
    more = kept | {name: secrets.token_urlsafe(32) for name in lacking}
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=FILE)  # mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(more, file, indent=4)
            file.flush()
            os.fsync(file.fileno())
        if kept:
            Path(temporary).replace(path)
            return more
        with suppress(FileExistsError):
            os.link(temporary, path)
        return more | _read(path)
    finally:
        Path(temporary).unlink(missing_ok=True)
