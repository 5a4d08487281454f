"""What is run in a container of an image that says so itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

SHELL = "/bin/sh"
_USUAL = [SHELL, "-c"]
"""What the engine makes of a command that is no list, where the image names no other shell."""
_SHELLS = {"sh", "bash", "ash", "dash", "ksh", "zsh"}
"""Those that take arguments as we hand them on."""


def command_with(args: list[str], config: Mapping[str, Any]) -> dict[str, list[str]]:
    """The command of an image with arguments behind it, also where a shell has to hand them on.

    Args:
        args: what is given to it.
        config: of the image.
    """
    entrypoint, command = config.get("Entrypoint") or [], config.get("Cmd") or []
    if not args:
        return {"Entrypoint": entrypoint, "Cmd": command}
    if _is_of_a_shell(entrypoint, config):
        return {"Entrypoint": [*_handing_on(entrypoint), "sh"], "Cmd": args}
    if _is_of_a_shell(command, config) and not entrypoint:
        return {"Entrypoint": [], "Cmd": [*_handing_on(command), "sh", *args]}
    return {"Entrypoint": entrypoint, "Cmd": [*command, *args]}


def merged(command: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """A command whose output and error are one stream, by the image's shell."""
    script = [*_USUAL, 'exec "$@" 2>&1', "sh"]
    return {"Entrypoint": script, "Cmd": [*command["Entrypoint"], *command["Cmd"]]}


def _is_of_a_shell(command: Sequence[str], config: Mapping[str, Any]) -> bool:
    own = config.get("Shell") or _USUAL
    name = PurePosixPath(own[0]).name
    return command[:-1] == _USUAL or (command[:-1] == own and name in _SHELLS)


def _handing_on(command: Sequence[str]) -> list[str]:
    return [*command[:-1], f'{command[-1]} "$@"']
