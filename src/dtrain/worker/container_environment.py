"""The step that installs what a job in a container requires, in a container of the same image.

The image's own pip installs into a virtual environment on top of what the image has already. It
lies beside the image, at one place in all containers, so that jobs with the same image and the
same requirements share it, read-only.
"""

from __future__ import annotations

import os
import re
import signal
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.states import Cause

from . import layout
from .container import ContainerOrder, StandIn
from .container_body import ENVIRONMENT, HOME, WORK, mount
from .docker_settings import TEMPORARY
from .environment import CONTAINED, key
from .needs import Kind, kind_of, read_project
from .ownership import give
from .package_settings import named_paths, pip_variables
from .removal import remove_tree
from .say import say
from .shared import Shared
from .uv_calls import Patience

_SCRIPT = f"""\
exec 2>&1
python=$(command -v python || command -v python3) || {{
    echo "The image has no Python; name another one, or add it in a Dockerfile."
    exit 127
}}
"$python" -I -m venv --system-site-packages --without-pip {ENVIRONMENT} || exit
exec {ENVIRONMENT}/bin/python -Iu -m pip install --no-input --no-cache-dir --progress-bar off \\
    --disable-pip-version-check --no-warn-script-location "$@"
"""
_LONGEST = 10_000
"""Characters of a line that is looked at."""
_ARCHIVES = r"\.(?:zip|whl|tar|t[bglx]z|gz|bz2|xz|lz|lzma)(?![\w.-])"
_NAME = r"[a-z0-9](?:[\w.-]*[a-z0-9])?(?: ?\[[\w .,-]*\])?"
_VERSION = r"[<>=!~]={0,2} ?[\w*][\w.*+!-]*"
_COMMON = re.compile(
    rf"(?![^;]*{_ARCHIVES}){_NAME}(?: ?{_VERSION}(?: ?, ?{_VERSION})*)?"
    r"(?: ?;(?:(?! -)[^/])*)?(?: --hash[= ]\S+)*"
    r"|(?:--(?:extra-)?index-url[= ]|-i )https?://\S+|--no-index|--pre|--prefer-binary"
    r"|--(?:no|only)-binary[= ]\S+|--require-hashes",
    re.ASCII | re.IGNORECASE,
)
"""A line that means the same for every job: it names nothing by its place on a disk, as pip takes
even `a==1.zip` for a file if there is one."""
_COMMENT = re.compile(r"(?:^|\s+)#.*$")
_OTHER_TEXT = re.compile(r"^#.*coding[:=](?!\s*utf-?8\b)", re.MULTILINE | re.IGNORECASE)
"""A comment by which pip reads a file as another text than we do."""


class EnvironmentOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What the step is to do."""

    container: ContainerOrder
    root: str
    """The folder of the environments that attempts share."""
    file: str
    """What to install, in the bundle."""
    told: list[str]
    """What else decides what becomes of the requirements."""


def environment_order(
    container: ContainerOrder,
    variables: Mapping[str, str],
    *,
    root: Path,
    work: Path,
    venv: Path,
    file: str,
) -> EnvironmentOrder:
    """The order for an environment.

    Args:
        container: what is common to all containers of the attempt.
        variables: of the machine, whose settings for packages hold.
        root: the folder of the environments that attempts share.
        work: the unpacked bundle.
        venv: where the attempt's environment is to be.
        file: what to install, in the bundle.

    Raises:
        DTrainError: the file cannot be read.
    """
    settings = pip_variables(variables)
    own = {"HOME": HOME, "TMPDIR": TEMPORARY, "PYTHONUNBUFFERED": "1"}
    host = dict(container.body["HostConfig"])
    host["Mounts"] = [
        *host["Mounts"],
        mount(str(venv), ENVIRONMENT),
        *(mount(path, path, read_only=True) for path in named_paths(settings.values())),
    ]
    body = {
        **container.body,
        "Entrypoint": ["/bin/sh", "-c", _SCRIPT, "sh"],
        "Cmd": _arguments(work, file),
        "Env": [f"{name}={value}" for name, value in {**settings, **own}.items()],
        "WorkingDir": WORK,
        "StopSignal": "SIGTERM",
        "HostConfig": host,
    }
    return EnvironmentOrder(
        container=msgspec.structs.replace(container, body=body),
        root=str(root),
        file=file,
        told=[f"{name}={value}" for name, value in sorted(settings.items())],
    )


def _arguments(work: Path, file: str) -> list[str]:
    """What pip is to install."""
    if kind_of(file) is Kind.REQUIREMENTS:
        return ["-r", file]
    project = read_project(work / file)
    folder = f"./{Path(file).parent}"
    if project.is_package:
        return ["-e", folder]
    content = tomllib.loads((work / file).read_text(encoding="utf-8-sig"))
    described = content["project"].get("dependencies") if project.is_one else None
    wanted = [str(one) for one in described] if isinstance(described, list) else []
    return ["--", *wanted] if wanted else ["--dry-run", "pip"]


def common(requirements: str) -> str | None:
    """What requirements ask for, if that means the same for every job; else None."""
    wanted = [line for line in _lines(requirements) if line]
    words = [" ".join(line.split()) for line in wanted if len(line) <= _LONGEST]
    is_common = len(words) == len(wanted) and all(map(_COMMON.fullmatch, words))
    return "\n".join(wanted) if is_common and not _OTHER_TEXT.search(requirements) else None


def _lines(requirements: str) -> Iterator[str]:
    """The lines as pip reads them: one that ends in a backslash goes on, unless it is a comment."""
    begun = ""
    for line in requirements.splitlines():
        is_comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not is_comment:
            begun += line.strip("\\")
            continue
        yield _COMMENT.sub("", begun + (f" {line}" if is_comment else line)).strip()
        begun = ""
    yield _COMMENT.sub("", begun).strip()


class EnvironmentStep:
    """The making of one attempt's environment.

    Args:
        folder: of the attempt.
        order: what to do.
    """

    def __init__(self, folder: Path, order: EnvironmentOrder) -> None:
        self._folder = folder
        self._order = order
        self._venv = folder / layout.VENV

    def run(self) -> None:
        """Make it, or take the one that is there.

        Raises:
            DTrainError: it cannot be made; what pip had to say is in the log.
        """
        content = self._common()
        if content is None:
            self._build()
            return
        image = self._order.container.image or (self._folder / layout.IMAGE).read_text()
        root = Path(self._order.root)
        place = root / f"{CONTAINED}{key(image, content, *self._order.told)}"
        is_new = False

        def build(lock: int) -> None:  # noqa: ARG001 -- no program of ours goes on without us
            nonlocal is_new
            is_new = True
            self._build()
            self._venv.rename(place)

        waiting = Patience("Another job on this worker installs the same; this one waits")
        Shared(root).have(place, self._folder, build, waiting)
        if not is_new:
            say("What it requires is installed here already.")
        self._venv.symlink_to(place)

    def _common(self) -> str | None:
        """What is to be installed, if that means the same for every job; else None."""
        path = self._folder / layout.WORK / self._order.file
        if kind_of(self._order.file) is not Kind.REQUIREMENTS:
            return None
        return common(path.read_text("utf-8", errors="replace"))

    def _build(self) -> None:
        say(f"What {self._order.file} says is installed for the image.")
        remove_tree(self._venv)
        self._venv.mkdir()
        stand_in = StandIn(self._folder, self._order.container, begun="environment.begun")
        outcome = stand_in.run()
        stand_in.remove()
        if os.geteuid() == 0:
            give(self._venv, 0)
        if outcome.get("cause") not in {None, Cause.EXITED}:
            path = self._folder / layout.OUTCOME
            layout.write_durably(str(path), msgspec.json.encode(outcome))
            raise DTrainError(str(outcome.get("message") or "It ran out of memory."))
        if outcome.get("exit_code") != 0:
            raise DTrainError("What the job requires cannot be installed.")


def main(arguments: list[str]) -> int:
    """Make the environment of the attempt whose folder is given; the exit status."""
    for number in (signal.SIGTERM, signal.SIGQUIT):
        signal.signal(number, lambda *_: sys.exit(1))  # until there is a container to end
    folder = Path(arguments[0])
    content = (folder / "environment.json").read_bytes()
    try:
        EnvironmentStep(folder, msgspec.json.decode(content, type=EnvironmentOrder)).run()
    except DTrainError as error:
        say(error.detail)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
