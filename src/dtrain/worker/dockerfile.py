"""What a Dockerfile says of the image that is built of it."""

from __future__ import annotations

import re
from collections.abc import Iterator

_DIRECTIVE = re.compile(r"#\s*(\w+)\s*=\s*(\S+)\s*")
_HERE = re.compile(r"<<-?([\"']?)([A-Za-z_]\w*)\1")
"""The beginning of a text that ends with a line of its own."""
_WITH_TEXT = {"RUN", "COPY", "ADD"}
_COMMANDS = {"CMD", "ENTRYPOINT"}


def has_command(text: str) -> bool:
    """Whether the last stage of a Dockerfile says what is to be run."""
    found = False
    for name, rest in _instructions(text):
        if name == "FROM":
            found = False
        elif name in _COMMANDS and rest != "[]":
            found = True
    return found


def _instructions(text: str) -> Iterator[tuple[str, str]]:
    """The instructions, in capitals, each with what follows it."""
    lines = iter(text.removeprefix("\ufeff").splitlines())
    escape, known, before = "\\", True, ""
    for line in lines:
        directive = _DIRECTIVE.fullmatch(line.strip()) if known else None
        known = directive is not None
        if directive and directive[1].lower() == "escape":
            escape = directive[2]
        part = line.strip()
        if not part or part.startswith("#"):
            continue  # between the lines of an instruction as well
        if part.endswith(escape):
            before += f"{part.removesuffix(escape)} "
            continue
        name, *others = (before + part).split(maxsplit=1)
        rest = "".join(others)
        before = ""
        yield name.upper(), rest
        if name.upper() in _WITH_TEXT:
            for _, end in _HERE.findall(rest):
                _skip(lines, end)


def _skip(lines: Iterator[str], end: str) -> None:
    for line in lines:
        if line.strip("\t") == end:
            return
