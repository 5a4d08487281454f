"""Whose files are."""

from __future__ import annotations

import os
from pathlib import Path


def give(path: Path, uid: int) -> None:
    """Make a user the owner of a file, or of a folder with all that is in it. No link is followed.

    Raises:
        OSError: we may not.
    """
    os.chown(path, uid, uid, follow_symlinks=False)
    if path.is_dir() and not path.is_symlink():
        for _, folders, files, descriptor in os.fwalk(path):
            for name in (*folders, *files):
                os.chown(name, uid, uid, dir_fd=descriptor, follow_symlinks=False)
