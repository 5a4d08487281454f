"""Deleting what a job left behind, however it left it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(path: Path) -> None:
    """Delete a file or a folder with all that is in it. Harmless if there is nothing.

    No link is followed, and folders that may not be read or written are deleted like others. The
    depth of the tree does not matter: a folder further down is first moved to the top.

    Raises:
        OSError: if something cannot be deleted: it is another user's, or something is mounted.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(mode):
        path.unlink()
        return
    path.chmod(0o700)
    top = os.open(path, _OPEN)
    try:
        while inside := _content(top):
            for name, is_folder in inside:
                _remove(name, top, is_folder=is_folder)
    finally:
        os.close(top)
    path.rmdir()


def _remove(name: str, top: int, *, is_folder: bool) -> None:
    if not is_folder:
        os.unlink(name, dir_fd=top)
        return
    if _was_empty(name, top):
        return
    os.chmod(name, 0o700, dir_fd=top)
    folder = os.open(name, _OPEN, dir_fd=top)
    try:
        for inner, is_inner_folder in _content(folder):
            if not is_inner_folder:
                os.unlink(inner, dir_fd=folder)
            elif not _was_empty(inner, folder):
                os.chmod(inner, 0o700, dir_fd=folder)
                os.rename(inner, os.urandom(16).hex(), src_dir_fd=folder, dst_dir_fd=top)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=top)


def _was_empty(name: str, parent: int) -> bool:
    """Delete a folder if nothing is in it, whoever's it is: root's, say, where a volume was."""
    try:
        os.rmdir(name, dir_fd=parent)
    except OSError:
        return False
    return True


def _content(folder: int) -> list[tuple[str, bool]]:
    """The names in an open folder, and whether each is one of a folder."""
    with os.scandir(folder) as entries:
        return [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
