"""Starting the program of a step as the shim's child.

Imported by the shim, hence the standard library's quick part alone.
"""

from __future__ import annotations

import ctypes
import os
import signal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_RESTORED = (signal.SIGINT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ)
"""What the shim, or Python, ignores, and a program would inherit as ignored."""

_prctl = ctypes.CDLL(None).prctl


def become_subreaper() -> None:
    """Have every orphan among the descendants of this process become its child."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def spawn(argv: list[str], env: dict[str, str], cwd: str, output: int) -> int:
    """Start a program in a session of its own, that dies with this process; its number.

    `output` becomes its standard output and error. Its standard input is this process's.

    Raises:
        OSError: if the program cannot be run; the error is the one that `exec` or `chdir` met.
    """
    parent = os.getpid()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        _become(argv, env, cwd, output, writer, parent)
    os.close(writer)
    with os.fdopen(reader, "rb") as trouble:
        number = trouble.read()
    if number:
        os.waitpid(pid, 0)
        raise OSError(int(number), os.strerror(int(number)))
    return pid


def _become(
    argv: list[str], env: dict[str, str], cwd: str, output: int, trouble: int, parent: int
) -> NoReturn:
    """Turn the child into the program, or tell why not. `trouble` closes by itself on success."""
    try:
        os.setsid()
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() == parent:
            for number in _RESTORED:
                signal.signal(number, signal.SIG_DFL)
            os.dup2(output, 1)
            os.dup2(output, 2)
            os.chdir(cwd)
            os.execvpe(argv[0], argv, env)  # noqa: S606 -- without a shell is how it should be
    except OSError as error:
        os.write(trouble, b"%d" % (error.errno or 0))
    finally:
        os._exit(127)
