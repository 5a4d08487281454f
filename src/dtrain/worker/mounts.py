"""What a job sees of the machine's files: arranged in a mount namespace of its own.

Everything is there to be read, as far as the machine's own permissions go, and nothing but the
job's own folders and those that the owner has named can be written. Some folders are hidden: an
empty one takes their place, in which only what the job needs is shown. Imported by the shim, hence
the standard library's quick part alone.
"""
# pathlib would be in every shim.
# ruff: noqa: PTH103, PTH110, PTH112, PTH120

from __future__ import annotations

import ctypes
import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_BIND = 0x1000
_RECURSIVE = 0x4000
_SLAVE = 0x80000
_QUIET = 0x2 | 0x4 | 0x8
"""Without set-user-id programs, devices and programs."""
_SETATTR = 442
"""The number of the system call `mount_setattr`, the same on all processors."""
_HERE = -100
_WHOLE_TREE = 0x8000
_READ_ONLY = 1
TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 -- not used, but replaced
"""In the place of these a job has a folder of its own."""

_libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "user"))


def arrange(view: dict[str, Any]) -> None:
    """Give this process, alone in a new mount namespace, the view of a job.

    Args:
        view: of the plan's confinement (`executors.base.View`).

    Raises:
        OSError: the kernel does not let us; the file name is the one that it was about.
    """
    shown = {path: os.open(path, os.O_PATH | os.O_CLOEXEC) for path in _present(view)}
    writable = {*view["writable"]}
    layers = view.get("layers")
    if layers:
        writable.add(layers["below"])
        shown[layers["below"]] = os.open(_layered(layers), os.O_PATH | os.O_CLOEXEC)
    temporary = os.open(view["temporary"], os.O_PATH | os.O_CLOEXEC)
    _mount(None, "/", None, _SLAVE | _RECURSIVE)
    _set("/", read_only=True)
    places = {path: temporary for path in TEMPORARY if os.path.isdir(path)}
    # What is shown below such a folder is on the way of nothing else, and not made on the disk.
    ways = {way for path in shown for place in places if (way := _below(path, place))} - {*shown}
    order = {*view["hidden"], *shown, *places, *ways}
    covers = []
    for path in sorted(order, key=lambda one: (one.count("/"), one)):
        if path in places:
            _bind(places[path], path)
            _set(path, read_only=False)
        elif path in shown:
            _make_place(path, is_folder=_is_folder(shown[path]))
            _bind(shown[path], path)
            _set(path, read_only=path not in writable)
        elif path in ways or os.path.isdir(path):
            os.makedirs(path, mode=0o755, exist_ok=True)
            _mount("none", path, "tmpfs", _QUIET, "mode=0755,size=1m")
            covers.append(path)
        elif os.path.exists(path):
            _mount("/dev/null", path, None, _BIND)
    for path in covers:
        _set(path, read_only=True, whole=False)
    if os.path.isdir("/dev/shm"):  # noqa: S108 -- a new one
        _mount("none", "/dev/shm", "tmpfs", _QUIET, "mode=1777")  # noqa: S108
    _mount("proc", "/proc", "proc", _QUIET)
    for descriptor in (*shown.values(), temporary):
        os.close(descriptor)


def _layered(layers: dict[str, str]) -> str:
    """A folder to write in that begins as another; an empty one where the kernel has no layers."""
    lower, upper, work = layers["below"], layers["above"], layers["work"]
    options = f"lowerdir={lower},upperdir={upper},workdir={work}"
    try:
        _mount("overlay", layers["merged"], "overlay", 0, options)
    except OSError:
        return upper
    return layers["merged"]


def _present(view: dict[str, Any]) -> list[str]:
    return [path for path in (*view["shown"], *view["writable"]) if os.path.exists(path)]


def _below(path: str, place: str) -> str | None:
    """The topmost folder on the way from a place to a path; None if that is not below it."""
    if not path.startswith(f"{place}/"):
        return None
    return f"{place}/{path[len(place) + 1 :].partition('/')[0]}"


def _is_folder(descriptor: int) -> bool:
    return os.path.isdir(f"/proc/self/fd/{descriptor}")


def _make_place(path: str, *, is_folder: bool) -> None:
    """Have something there to mount on, if a folder above is hidden."""
    if os.path.lexists(path):
        return
    os.makedirs(path if is_folder else os.path.dirname(path), mode=0o755, exist_ok=True)
    if not is_folder:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644))


def _bind(descriptor: int, path: str) -> None:
    _mount(f"/proc/self/fd/{descriptor}", path, None, _BIND | _RECURSIVE)


def _mount(
    source: str | None, target: str, kind: str | None, flags: int, options: str | None = None
) -> None:
    texts = [None if text is None else os.fsencode(text) for text in (source, target, kind)]
    told = None if options is None else options.encode()
    if _libc.mount(*texts, ctypes.c_ulong(flags), told):
        raise _failure(target)


def _set(path: str, *, read_only: bool, whole: bool = True) -> None:
    """Say whether what is mounted at a path can be written, with all that is mounted below it."""
    attributes = _Attributes(
        set=_READ_ONLY if read_only else 0, clear=0 if read_only else _READ_ONLY
    )
    size = ctypes.c_size_t(ctypes.sizeof(attributes))
    flags = ctypes.c_uint(_WHOLE_TREE if whole else 0)
    if _libc.syscall(
        ctypes.c_long(_SETATTR), _HERE, os.fsencode(path), flags, ctypes.byref(attributes), size
    ):
        raise _failure(path)


def _failure(path: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), path)
