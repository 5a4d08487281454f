"""Where on this machine a worker can have control groups of its own.

Version 1 has a hierarchy for each controller, version 2 one for all; a machine may have both, with
different controllers. A worker's group is made below the one that the agent runs in, so that what
limits the agent limits its jobs as well; or at the top, where that one is not the agent's alone.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from .cgroups import CONTROLLERS, COUNTERS, Group

LEAF = "agent"
"""The group of the agent itself in version 2, where one with groups below it holds no processes."""
_MEMBERS = "cgroup.procs"
_ENABLED = "cgroup.subtree_control"


def make_worker_group(key: str) -> Group:
    """Make the group of a worker, with the controllers that can be had; none where there are none.

    Args:
        key: tells the worker from others of this machine.
    """
    found: Group = {}
    with contextlib.suppress(OSError):
        mounts = Path("/proc/self/mountinfo").read_text()
        groups = Path("/proc/self/cgroup").read_text()
        for controllers, folder in first_places(mounts, groups):
            with contextlib.suppress(OSError):
                found.update(_made(folder, controllers, f"dtrain-{key}"))
        top, place = second_place(mounts, groups)
        if place is not None and top is not None:
            missing = [name for name in CONTROLLERS if name not in found]
            with contextlib.suppress(OSError):
                parent = delegated(top, place)
                made = _made(parent, enabled(parent, missing), f"dtrain-{key}")
                for group in {*made.values()}:
                    names = enabled(Path(group), list(made))
                    found.update(dict.fromkeys(names, group))
    return found


def group_of(pid: int) -> Group:
    """The group of a process, with what counts in it, as far as its folders can be seen.

    Raises:
        OSError: there is no such process.
    """
    mounts = Path("/proc/self/mountinfo").read_text()
    # Others may not even be looked at, such as that of bpf.
    mounted = [one for one in _mounted(mounts) if one[2] in {"cgroup", "cgroup2"}]
    found: Group = {}
    for controllers, own in _own(Path(f"/proc/{pid}/cgroup").read_text()):
        for root, top, kind, options in mounted:
            inner = os.path.relpath(own, root)
            if inner == "." or inner.startswith("..") or not (top / inner).is_dir():
                continue  # the group of all, or one that is not seen from here
            for name in COUNTERS:
                of_first = kind == "cgroup" and name in controllers and name in options
                of_second = kind == "cgroup2" and controllers == [""] and name not in found
                if of_first or of_second:
                    found[name] = str(top / inner)
    return found


def place_of(folder: str) -> str | None:
    """The path of a group in its hierarchy, as container engines name it; None if it has none."""
    with contextlib.suppress(OSError):
        for root, top, kind, _ in _mounted(Path("/proc/self/mountinfo").read_text()):
            if kind in {"cgroup", "cgroup2"} and Path(folder).is_relative_to(top) and root == "/":
                return f"/{Path(folder).relative_to(top)}"
    return None


def remove_everywhere(place: str) -> None:
    """Remove a group from all hierarchies that have it at this place, unless it is in use."""
    with contextlib.suppress(OSError):
        for _, folder, kind, _ in _mounted(Path("/proc/self/mountinfo").read_text()):
            if kind in {"cgroup", "cgroup2"}:
                with contextlib.suppress(OSError):
                    (folder / place.lstrip("/")).rmdir()


def own_members() -> Path | None:
    """The file of this process's group in some hierarchy; None if it cannot be told."""
    with contextlib.suppress(OSError):
        mounts = Path("/proc/self/mountinfo").read_text()
        groups = Path("/proc/self/cgroup").read_text()
        found = [place for _, place in first_places(mounts, groups)]
        for place in (*found[:1], second_place(mounts, groups)[1]):
            if place is not None and str(os.getpid()) in (place / _MEMBERS).read_text().split():
                return place / _MEMBERS
    return None


def first_places(mounts: str, groups: str) -> Iterator[tuple[list[str], Path]]:
    """The folders of this process's groups of version 1, with what each limits.

    Args:
        mounts: of this process, as `/proc/self/mountinfo` has them.
        groups: of this process, as `/proc/self/cgroup` has them.
    """
    own = {name: path for names, path in _own(groups) for name in names}
    for root, folder, kind, options in _mounted(mounts):
        controllers = [name for name in CONTROLLERS if name in options and name in own]
        if kind == "cgroup" and controllers:
            yield controllers, _below(folder, root, own[controllers[0]])


def second_place(mounts: str, groups: str) -> tuple[Path | None, Path | None]:
    """The topmost folder of version 2 and the one of this process's group, if they are to be seen.

    Args:
        mounts: of this process, as `/proc/self/mountinfo` has them.
        groups: of this process, as `/proc/self/cgroup` has them.
    """
    own = next((path for names, path in _own(groups) if names == [""]), None)
    for root, folder, kind, _ in _mounted(mounts):
        if kind == "cgroup2" and own is not None:
            return folder, _below(folder, root, own)
    return None, None


def delegated(top: Path, place: Path) -> Path:
    """The folder of version 2 below which groups can be made that limit something.

    Such a one holds no processes. What is in the topmost group of a container, and the agent in a
    scope of its own, go into a group below; not so with a service, which systemd could not start
    again beside its jobs (`DelegateSubgroup=agent` is its way).

    Args:
        top: the topmost folder that is seen.
        place: the folder of the agent's group.

    Raises:
        OSError: there is none, or we may not write there.
    """
    if place.name == LEAF:
        return place.parent
    members = (place / _MEMBERS).read_text().split()
    own_scope = place.suffix == ".scope" and members == [str(os.getpid())]
    if not own_scope and not (top / "cgroup.type").exists():  # the root of all groups
        return top
    if not own_scope and place != top:
        raise PermissionError(errno.EPERM, "The group is not the agent's own", str(place))
    leaf = place / LEAF
    leaf.mkdir(exist_ok=True)
    for member in members:
        (leaf / _MEMBERS).write_text(member)
    return place


def enabled(folder: Path, wanted: list[str]) -> list[str]:
    """Enable controllers of version 2 for what is below a folder; those that are."""
    for name in wanted:
        with contextlib.suppress(OSError):
            (folder / _ENABLED).write_text(f"+{name}")
    there = (folder / _ENABLED).read_text().split()
    return [name for name in wanted if name in there]


def _made(place: Path, controllers: list[str], name: str) -> Group:
    """Make a group that limits these things; nothing is made where nothing would be limited."""
    folder = place / name
    if controllers:
        folder.mkdir(exist_ok=True)
        (folder / _MEMBERS).open("r+b").close()  # writable?
    return {controller: str(folder) for controller in controllers}


def _mounted(mounts: str) -> Iterator[tuple[str, Path, str, list[str]]]:
    """Of each hierarchy its topmost group that is seen, its folder, its kind and its options."""
    for line in mounts.splitlines():
        words = line.split(" ")
        kind, _, options = words[words.index("-") + 1 :][:3]
        yield words[3], Path(words[4]), kind, options.split(",")


def _own(groups: str) -> Iterator[tuple[list[str], str]]:
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        yield controllers.split(","), path


def _below(folder: Path, root: str, group: str) -> Path:
    """Where a group is to be seen; the topmost if it is not."""
    inner = os.path.relpath(group, root)
    place = folder / inner
    return folder if inner.startswith("..") or not place.is_dir() else place
