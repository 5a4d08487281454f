"""Starting the program of a step as a child, in its group and confined as its plan says.

A program in a PID namespace has an init above it, which is a fork of this process: it takes the
orphans, tells how the program ended, and ends when nothing is left in the namespace. Its own end
is the end of all that is in there. Imported by the shim, hence the standard library's quick part
alone.
"""
# pathlib would be in every shim.
# ruff: noqa: PTH118, PTH120, PTH123, S606

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import select
import signal

from . import cgroups
from .layout import read_all
from .mounts import arrange

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, NoReturn

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4
_NAMESPACES = 0x00020000 | 0x08000000 | 0x20000000
"""Mounts, System V's shared memory and the like, and processes."""
_USER_NAMESPACE = 0x10000000
_CLONE = {"x86_64": 56, "aarch64": 220}
"""The number of the system call, for the processors that namespaces were tried on."""
_RESTORED = (
    *(signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP),
    *(signal.SIGPIPE, signal.SIGXFSZ),
)
"""What the shim, Python, or the shell that started the agent in the background, ignores, and a
program would inherit as ignored."""
_IGNORED_BY_INIT = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_libc = ctypes.CDLL(None, use_errno=True)
_prctl = _libc.prctl


def become_subreaper() -> None:
    """Have every orphan among the descendants of this process become its child."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


class Program:
    """A program that was started.

    Args:
        pid: of the child: the program, or the init above it.
        told: where the init tells how the program ended; None if the child is the program.
    """

    def __init__(self, pid: int, told: int | None) -> None:
        self.pid = pid
        self.has_init = told is not None
        self.told = told
        """A descriptor that becomes readable when the program has ended."""

    def status(self) -> int | None:
        """How the program ended, as `wait` says it, as far as an init has told; else None."""
        if self.told is None:
            return None
        try:
            words = os.read(self.told, 20)
        except BlockingIOError:
            return None
        os.close(self.told)
        self.told = None
        return int(words) if words else None


def spawn(
    argv: list[str],
    env: dict[str, str],
    cwd: str,
    outputs: tuple[int, int],
    limits: dict[str, Any] | None = None,
    confinement: dict[str, Any] | None = None,
) -> Program:
    """Start a program in a session of its own, that dies with this process.

    Its standard input is this process's.

    Args:
        argv: the program and its arguments.
        env: all of its variables.
        cwd: the folder it runs in.
        outputs: what becomes its standard output and its standard error.
        limits: `group`, `affinity` and `processes` of the plan; None leaves it where this process
            is.
        confinement: of the plan; None leaves it the rights of this process.

    Raises:
        OSError: it cannot be run; the error is the one that was met on the way.
    """
    start = _Start(argv, env, cwd, outputs, limits, confinement or {})
    pid = start.run()
    number, _, where = read_all(start.trouble[0]).partition(b" ")
    os.close(start.trouble[0])
    if number:
        if pid > 0:
            os.waitpid(pid, 0)
        if start.told:
            os.close(start.told[0])
        raise OSError(int(number), os.strerror(int(number)), os.fsdecode(where) or None)
    return Program(pid, start.told[0] if start.told else None)


class _Start:
    """The start of one program: by this process, by the init, and by the program to be."""

    def __init__(
        self,
        argv: list[str],
        env: dict[str, str],
        cwd: str,
        outputs: tuple[int, int],
        limits: dict[str, Any] | None,
        confinement: dict[str, Any],
    ) -> None:
        self._argv = argv
        self._env = env
        self._cwd = cwd
        self._outputs = outputs
        self._limits = limits
        self._confinement = confinement
        self._parent = os.getpid()
        self.trouble = os.pipe()
        """Closes by itself when the program has begun."""
        self.told = os.pipe() if confinement.get("namespaces") else None
        if self.told:
            os.set_blocking(self.told[0], False)

    def run(self) -> int:
        """Start it; the number of the child."""
        if self.told is None:
            pid = os.fork()
        else:
            user = _USER_NAMESPACE if self._confinement["user_namespace"] else 0
            try:
                pid = _clone(_NAMESPACES | user)
            except OSError as error:
                os.write(self.trouble[1], b"%d a namespace" % (error.errno or 0))
                pid = -1
        if pid == 0:
            self._be_child()
        os.close(self.trouble[1])
        if self.told:
            os.close(self.told[1])
        return pid

    def _be_child(self) -> NoReturn:
        try:
            os.setsid()
            if self.told is not None:
                os.close(self.told[0])
            self._die_with_parent()
            if self._limits is not None:
                cgroups.enter(self._limits["group"])
                if self._limits["affinity"]:
                    os.sched_setaffinity(0, self._limits["affinity"])
            if self.told is None:
                self._take_rights()
                self._become()
            else:
                self._be_init(self.told[1])
        except OSError as error:
            where = os.fsencode(error.filename or "")
            os.write(self.trouble[1], b"%d %s" % (error.errno or 0, where))
        finally:
            os._exit(127)

    def _die_with_parent(self) -> None:
        """Have the end of the parent be the end of this process, and be it if it has been."""
        _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if not self._has_parent():
            os._exit(127)

    def _has_parent(self) -> bool:
        if self.told is None:
            return os.getppid() == self._parent
        # The parent has no number in here; that it has gone is seen by its end of the pipe.
        watch = select.poll()
        watch.register(self.told[1], 0)
        return not watch.poll(0)

    def _be_init(self, told: int) -> NoReturn:
        """Have the program as a child, and be its init.

        The init acts as the job's user itself, hence the program need not be a copy of it first.
        The job can neither look into it nor end it all the same. Its saved user is another one, and
        it is not dumpable; or, in a user namespace, it has capabilities that the job has not. And
        the kernel drops the signals to an init that it neither ignores nor handles.
        """
        signal.set_wakeup_fd(-1)
        for number in _IGNORED_BY_INIT:
            signal.signal(number, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if self._confinement["user_namespace"]:
            _map_user()
        arrange(self._confinement["view"])
        self._take_rights()
        child = _first_of(self._argv[0], self._env, self._begin)
        os.closerange(3, told)
        os.closerange(told + 1, os.sysconf("SC_OPEN_MAX"))
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.wait()
                if pid == child:
                    os.write(told, b"%d" % status)
                    os.close(told)
                    if self._confinement.get("ends_with_program"):
                        break
        os._exit(0)

    def _take_rights(self) -> None:
        """Have the rights, the limit and the folder that the program has from this process."""
        uid = self._confinement.get("uid")
        if uid is not None:
            os.setgroups(self._confinement["groups"])
            os.setresgid(uid, uid, uid)
            # These would outlive the change of the user, as the saved one is still another.
            _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
            # The saved one stays until a program is run: what is above the job is no equal of it.
            os.setresuid(uid, uid, -1)
            _prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
            self._die_with_parent()  # another user's does not
            os.umask(0o022)
        # A plan that an older agent has made says nothing of it.
        most = None if self._limits is None else self._limits.get("processes")
        if most is not None:
            most += self.told is not None  # the init is the user's as well, and none of the job's
            hard = resource.getrlimit(resource.RLIMIT_NPROC)[1]
            if hard == resource.RLIM_INFINITY or most < hard:
                resource.setrlimit(resource.RLIMIT_NPROC, (most, most))
        if self._confinement:
            _prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        os.chdir(self._cwd)

    def _begin(self, path: str) -> int:
        """Run a file as the program, in a child; its number.

        It shares this process's memory until then, of which a fork would have to be given a copy.
        """
        return os.posix_spawn(
            path,
            self._argv,
            self._env,
            file_actions=[(os.POSIX_SPAWN_DUP2, self._outputs[at - 1], at) for at in (1, 2)],
            setsid=True,
            setsigdef=_RESTORED,
        )

    def _become(self) -> None:
        """Turn into the program."""
        for number in _RESTORED:
            signal.signal(number, signal.SIG_DFL)
        os.dup2(self._outputs[0], 1)
        os.dup2(self._outputs[1], 2)
        _first_of(self._argv[0], self._env, self._turn_into)

    def _turn_into(self, path: str) -> NoReturn:
        os.execve(path, self._argv, self._env)


def _first_of(program: str, env: dict[str, str], run: Callable[[str], int]) -> int:
    """What `run` returns for the first file that it can run, as `os.execvpe` looks for it.

    Raises:
        OSError: it can run none; the first error that says more than that there is none.
    """
    if os.path.dirname(program):
        return run(program)
    errors: list[OSError] = []
    # `os.get_exec_path` imports what the job's user may not be able to read.
    for folder in env.get("PATH", os.defpath).split(os.pathsep):
        try:
            return run(os.path.join(folder, program))
        except OSError as error:
            errors.append(error)
    absent = (FileNotFoundError, NotADirectoryError)
    raise next((error for error in errors if not isinstance(error, absent)), errors[-1])


def _clone(flags: int) -> int:
    """Fork into new namespaces; the number of the child, 0 in it.

    Raises:
        OSError: the kernel does not let us.
    """
    call = _CLONE.get(os.uname().machine)
    if call is None:
        raise OSError(38, os.strerror(38))
    pid = int(
        _libc.syscall(ctypes.c_long(call), ctypes.c_ulong(flags | signal.SIGCHLD), 0, 0, 0, 0)
    )
    if pid < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return pid


def _map_user() -> None:
    """Have the same numbers of user and group in the new user namespace as outside."""
    uid, gid = _OUTSIDE
    for name, words in (
        ("setgroups", "deny"),
        ("uid_map", f"{uid} {uid} 1"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(words)


_OUTSIDE = (os.geteuid(), os.getegid())
"""User and group of this process, which a new user namespace does not know."""
