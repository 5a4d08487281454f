"""Whose files are."""

from __future__ import annotations

import os
from pathlib import Path

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def give(path: Path, uid: int) -> None:
    """Make a user the owner of a file, or of a folder with all that is in it.

    No symbolic link is followed, nor given: nobody can write in one, and several folders may share
    it.

    Raises:
        OSError: we may not.
    """
    if path.is_symlink():
        return
    os.chown(path, uid, uid, follow_symlinks=False)
    if path.is_dir():
        _give_content(os.open(path, _OPEN), uid)


def _give_content(folder: int, uid: int) -> None:
    """Give what is in an open folder, which is closed."""
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_symlink():
                    continue
                os.chown(entry.name, uid, uid, dir_fd=folder, follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    _give_content(os.open(entry.name, _OPEN, dir_fd=folder), uid)
    finally:
        os.close(folder)
