"""The patterns of a `.gitignore` or `.dtrainignore`, understood as git does."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple


class _Pattern(NamedTuple):
    matches: re.Pattern[str]
    ignored: bool
    """False for a pattern that begins with `!`."""
    folders_only: bool
    whole_path: bool
    """Whether it is held against the path, or against the last part of it."""


class Patterns:
    """The lines of one ignore file."""

    def __init__(self, lines: Iterable[str]) -> None:
        """Read the lines; empty ones, comments and ones that can match nothing are left out."""
        self._patterns = [found for line in lines if (found := _parsed(line))]

    def verdict(self, path: str, *, folder: bool) -> bool | None:
        """Whether a path below the file's folder is ignored; None if no line is about it."""
        name = path.rpartition("/")[2]
        for pattern in reversed(self._patterns):
            if pattern.folders_only and not folder:
                continue
            if pattern.matches.fullmatch(_bytes(path if pattern.whole_path else name)):
                return pattern.ignored
        return None


def _bytes(text: str) -> str:
    """The text with a character for each of its bytes, which is what git compares."""
    return text.encode(errors="surrogateescape").decode("latin-1")


def _parsed(line: str) -> _Pattern | None:
    text = _bytes(line.removesuffix("\n").removesuffix("\r"))
    while text.endswith(" ") and not re.search(r"(?<!\\)(?:\\\\)*\\ $", text):
        text = text[:-1]
    if text.startswith("#"):
        return None
    ignored = not text.startswith("!")
    text = text.removeprefix("!")
    folders_only = text.endswith("/")
    text = text.removesuffix("/")
    whole_path = "/" in text
    text = text.removeprefix("/")
    expression = _expression(text) if text else None
    if expression is None:
        return None
    return _Pattern(expression, ignored, folders_only, whole_path)


_TOKEN = re.compile(
    r"(?P<any_folders>(?:^|(?<=/))\*{2,}/)"
    r"|(?P<anything>(?:^|(?<=/))\*{2,}$)"
    r"|(?P<name>\*+)"
    r"|(?P<one>\?)"
    r"|\[(?P<negated>[!^]?)(?P<set>(?:\[:[a-z]+:\]|\\.|[^\\])(?:\[:[a-z]+:\]|\\.|[^\]\\])*)\]"
    r"|\\(?P<escaped>.)"
    r"|(?P<plain>[^\\\[])",
    re.DOTALL,
)
_CLASSES = {
    "[:alpha:]": "a-zA-Z",
    "[:digit:]": "0-9",
    "[:alnum:]": "a-zA-Z0-9",
    "[:upper:]": "A-Z",
    "[:lower:]": "a-z",
    "[:space:]": r"\s",
    "[:blank:]": " \t",
    "[:punct:]": re.escape("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"),
    "[:xdigit:]": "0-9a-fA-F",
}


_MEMBER = re.compile(
    r"(?P<class>\[:[a-z]+:\])|\\?(?P<first>.)(?:-\\?(?P<last>.))?",
    re.DOTALL,
)


def _expression(text: str) -> re.Pattern[str] | None:
    """The pattern as a regular expression; None if it can match nothing."""
    parts: list[str] = []
    at = 0
    while at < len(text):
        token = _TOKEN.match(text, at)
        if token is None:
            return None
        parts.append(_translated(token))
        at = token.end()
    return re.compile("".join(parts), re.DOTALL | re.ASCII)


def _translated(token: re.Match[str]) -> str:
    fixed = {"any_folders": "(?:.*/)?", "anything": ".*", "name": "[^/]*", "one": "[^/]"}
    kind = token.lastgroup or ""
    if kind in fixed:
        return fixed[kind]
    if kind != "set":
        return re.escape(token[kind])
    members = _MEMBER.sub(_member, token["set"])
    if not members:
        return "[^/]" if token["negated"] else "(?!)"
    return f"(?!/)[{'^' if token['negated'] else ''}{members}]"


def _member(found: re.Match[str]) -> str:
    if found["class"]:
        return _CLASSES.get(found["class"], "")
    first, last = found["first"], found["last"]
    if last is None or last < first:
        return re.escape(first)
    return f"{re.escape(first)}-{re.escape(last)}"
