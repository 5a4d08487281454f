"""`dtrain.yaml`: what a bundle says about its own job, by the names of the job spec.

Every plain value is taken as the text that stands there, never as the type that YAML would guess:
`python: 3.10` is that version, `tags: [no]` that word. What the text means is `parse_spec`'s
business, as with a form.
"""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from .errors import Invalid
from .filenames import JOB_FILE, MAX_JOB_FILE
from .spec import FIELDS, JobSpec, check_fields, shown

_DEPTH = 4
"""Levels that are looked at: the fields, their lists and maps, the items of these, and one more to
say which field is nested too deeply."""
_NODES = 5000
"""More than a job's fields can hold; what is longer is not read to its end."""
_NULL = "tag:yaml.org,2002:null"


def read_job_file(data: bytes) -> dict[str, object]:
    """The fields that a file gives, raw but known to be acceptable one by one.

    An empty file gives none. A field without a value stands for None.

    Args:
        data: the file's content.

    Raises:
        Invalid: code `job_file`; `field` names the field at fault, or the file where there is none.
    """
    root = _composed(_text(data))
    if root is None or root.tag == _NULL:
        return {}
    if not isinstance(root, yaml.MappingNode):
        raise _refusal("it must hold fields, such as name: My Training Job", _line(root))
    fields: dict[str, object] = {}
    for name, node in _pairs(root):
        if name not in FIELDS:
            raise _refusal(
                f"there is no field {shown(name)}; a job has {', '.join(FIELDS)}",
                _line(node),
                field=repr(name)[1:-1][:100],
            )
        fields[name] = _value(name, node)
    _check(fields)
    return fields


def job_file(spec: JobSpec) -> str:
    """The content of a file that says all of a spec; `read_job_file` understands it alike."""
    fields = msgspec.to_builtins(spec)
    return str(yaml.dump(fields, Dumper=_Dumper, sort_keys=False, allow_unicode=True))


class _Dumper(yaml.SafeDumper):
    """PyYAML's own, which writes some line breaks such that it reads them as others."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = None if data.isprintable() else '"'
        return self.represent_scalar("tag:yaml.org,2002:str", data, style)


_Dumper.add_representer(str, _Dumper.represent_str)


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader, of which only the tree is used: no anchors, no tags, not deep."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._depth = self._nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]  # so in its stubs
        line = event.start_mark.line + 1
        if getattr(event, "anchor", None) is not None:
            raise _refusal("anchors and aliases (& and *) are not taken; write it out", line)
        if getattr(event, "tag", None) is not None:
            raise _refusal("tags (!) are not taken; put the value in quotes", line)
        self._depth, self._nodes = self._depth + 1, self._nodes + 1
        if self._depth > _DEPTH or self._nodes > _NODES:
            raise _refusal("it holds too much, or is nested too deeply", line)
        node = super().compose_node(parent, index)
        self._depth -= 1
        return node


def _text(data: bytes) -> str:
    if len(data) > MAX_JOB_FILE:
        raise _refusal(f"it is larger than {MAX_JOB_FILE // 1024} KiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise _refusal("it is not UTF-8") from None


def _composed(text: str) -> yaml.Node | None:
    try:
        loader = _Loader(text)
        try:
            return loader.get_single_node()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        problem = (error.problem or "it is no YAML").replace("\n", " ")
        raise _refusal(problem[:200], mark.line + 1 if mark else None) from None
    except yaml.YAMLError:
        raise _refusal("it holds a character that YAML does not know") from None


def _pairs(node: yaml.MappingNode, field: str | None = None) -> list[tuple[str, yaml.Node]]:
    """The entries of a map, whose keys are texts, each given once."""
    pairs: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _refusal("a name must be a text", _line(key), field=field)
        if key.value in pairs:
            raise _refusal(
                f"{shown(key.value)} is given twice",
                _line(key),
                field=field or (key.value if key.value in FIELDS else None),
            )
        pairs[key.value] = value
    return list(pairs.items())


def _value(name: str, node: yaml.Node) -> object:
    if isinstance(node, yaml.MappingNode):
        return {key: _item(name, value) for key, value in _pairs(node, name)}
    if isinstance(node, yaml.SequenceNode):
        return [_item(name, value) for value in node.value]
    if node.tag == _NULL:
        return None
    if name == "args":
        raise _refusal("args must be a list, such as [--epochs, 10]", _line(node), field=name)
    return str(node.value)


def _item(name: str, node: yaml.Node) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise _refusal(f"the field {name} is nested too deeply", _line(node), field=name)
    if node.tag == _NULL:
        raise _refusal(
            f"something in the field {name} has no value; for an empty text write ''",
            _line(node),
            field=name,
        )
    return str(node.value)


def _check(fields: dict[str, object]) -> None:
    """Find fault with the file where it is at fault, whatever is said beside it."""
    try:
        check_fields(fields)
    except Invalid as error:
        sentence = error.detail[:1].lower() + error.detail[1:].removesuffix(".")
        raise _refusal(sentence, field=error.field) from None


def _line(node: yaml.Node) -> int:
    return int(node.start_mark.line) + 1


def _refusal(what: str, line: int | None = None, *, field: str | None = None) -> Invalid:
    where = JOB_FILE if line is None else f"{JOB_FILE}, line {line}"
    return Invalid(
        f"In {where}: {what}.".replace("\n", " "), code="job_file", field=field or JOB_FILE
    )
