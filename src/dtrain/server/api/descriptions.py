"""What the docstrings of messages say, field by field, for the description of the API."""

from __future__ import annotations

import ast
import inspect
import itertools
import re
import textwrap
from collections.abc import Iterator
from types import ModuleType

import msgspec

from dtrain.protocol import errors, messages, resources, spec, worker_messages

_BUNDLE = "The SHA-256 of a bundle that the server has, as every job shows it."


def fields_of(kind: type) -> dict[str, str]:
    """The sentences below the fields of a class, in their source, by the field's name."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__[:-1]):
        try:
            source = inspect.getsource(base)
        except (OSError, TypeError):  # built in, or made by another way than by its source
            continue
        tree = ast.parse(textwrap.dedent(source)).body[0]
        found.update(_sentences(tree.body if isinstance(tree, ast.ClassDef) else []))
    return found


def sentences() -> dict[str, dict[str, str]]:
    """The sentences about the fields of every message, by the message's name."""
    found = {
        kind.__name__: fields_of(kind)
        for module in (errors, spec, resources, messages, worker_messages)
        for kind in _messages(module)
    }
    fields = found["JobSpec"]
    return found | {"JobFields": fields, "Submission": {"bundle": _BUNDLE, **fields}}


def _messages(module: ModuleType) -> Iterator[type]:
    for value in vars(module).values():
        if isinstance(value, type) and issubclass(value, msgspec.Struct):
            yield value


def _sentences(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, below in itertools.pairwise(body):
        match field, below:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, re.sub(r"\bNone\b", "null", " ".join(text.split()))
