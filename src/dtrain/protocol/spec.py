"""The job spec: what a submitter says about a job, by the same names through every door.

The form, JSON, the command line's flags and `dtrain.yaml` all end in `parse_spec`; the bounds are
here and nowhere else.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Annotated

import msgspec

from .errors import Invalid
from .states import Executor, OnPartition

DEFAULT_ENTRY = "main.py"
DEFAULT_REQUIREMENTS = "requirements.txt"

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
RelativePath = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is to run, and what it needs."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
    """What people call the job; need not be unique."""
    main_entry: RelativePath = DEFAULT_ENTRY
    """The script that is run, as a path inside the bundle."""
    args: Annotated[
        list[Annotated[str, msgspec.Meta(max_length=10_000)]], msgspec.Meta(max_length=1000)
    ] = []
    """Arguments given to the script."""
    requirements_file: RelativePath | None = DEFAULT_REQUIREMENTS
    """Requirements to install first, in the bundle. The default may be absent; None means none."""
    python: Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(\.[0-9]+){0,2}$")] | None = None
    """A Python version such as `3.11`; None takes the worker's own."""
    env: Annotated[dict[str, str], msgspec.Meta(max_length=200)] = {}
    """Environment variables of the job."""
    tags: Annotated[list[Label], msgspec.Meta(max_length=50)] = []
    """Words to find the job by."""
    priority: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    """Higher goes first; among equals, the older job."""
    cpus: Annotated[float, msgspec.Meta(gt=0, le=4096)] | None = None
    """Processor cores to set aside; None sets none aside."""
    memory_gb: Annotated[float, msgspec.Meta(gt=0, le=65536)] | None = None
    """Memory to set aside, and the job's limit, in units of 1024³ bytes."""
    gpus: Annotated[int, msgspec.Meta(ge=0, le=64)] = 0
    """Whole GPUs to set aside."""
    labels: Annotated[dict[Label, Label], msgspec.Meta(max_length=50)] = {}
    """Labels that the worker must carry with these very values."""
    time_limit: Annotated[float, msgspec.Meta(gt=0, le=31_536_000)] | None = None
    """Seconds after which an attempt is ended; given as seconds or as `90s`, `15m`, `2h`, `1d`."""
    max_retries: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    """New attempts after one that failed by itself."""
    on_partition: OnPartition = OnPartition.KEEP
    """What the worker does while it cannot reach the server."""
    image: Annotated[str, msgspec.Meta(min_length=1, max_length=500)] | None = None
    """A container image to run in."""
    executor: Executor = Executor.AUTO
    """How to run; `auto` leaves it to the worker."""


FIELDS = tuple(field.name for field in msgspec.structs.fields(JobSpec))

_LISTS = {"args", "tags"}
_MAPS = {"env", "labels"}
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([smhd]?)\s*", re.ASCII)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def parse_spec(raw: Mapping[str, object]) -> JobSpec:
    """Make a spec of what came through any door.

    Text stands for any type: `"3"` for a number, `"2h"` for a duration, lines or commas for a
    list, `NAME=value` lines for a map. An empty text is a field left out.

    Raises:
        Invalid: with `field` naming the first field that is not acceptable.
    """
    values: dict[str, object] = {}
    for name, value in raw.items():
        if name not in FIELDS:
            raise Invalid(
                f"There is no field {_shown(name)}; a job has {', '.join(FIELDS)}.",
                field=repr(name)[1:-1][:100],
            )
        if value == "" or (value is None and name != "requirements_file"):
            continue
        _check_storable(name, value)
        values[name] = _typed(name, value)
    if not str(values.get("name", "")).strip():
        raise Invalid("A job needs a name; give one in the field name.", field="name")
    try:
        spec = msgspec.convert(values, JobSpec, strict=False)
    except msgspec.ValidationError as error:
        field, message = _fault(error)
        raise Invalid(f"The field {field} is not acceptable: {message}.", field=field) from None
    _check_text(spec)
    return spec


def _typed(name: str, value: object) -> object:
    if name == "time_limit" and isinstance(value, str):
        found = _DURATION.fullmatch(value)
        if not found:
            raise Invalid(
                f"The field time_limit is not acceptable: {_shown(value)} is no duration;"
                " write seconds or something like 90s, 15m, 2h or 1d.",
                field=name,
            )
        return float(found[1]) * _UNITS[found[2] or "s"]
    if name in _LISTS and isinstance(value, str):
        separator = "\n" if name == "args" else r"[,\n]"
        return [part.strip() for part in re.split(separator, value) if part.strip()]
    if name in _MAPS and isinstance(value, str):
        return _pairs(name, value.replace("\r\n", "\n").split("\n"))
    if name in _MAPS and isinstance(value, list):
        return _pairs(name, value)
    return value


def _pairs(name: str, lines: Sequence[object]) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for line in lines:
        if not isinstance(line, str) or "=" not in line:
            if isinstance(line, str) and not line.strip():
                continue
            raise Invalid(
                f"The field {name} is not acceptable: {_shown(line)} is not like NAME=value.",
                field=name,
            )
        key, _, text = line.partition("=")
        pairs[key.strip()] = text if name == "env" else text.strip()
    return pairs


def _check_storable(name: str, value: object) -> None:
    if any("\0" in text or _SURROGATE.search(text) for text in _texts(value)):
        raise Invalid(
            f"The field {name} is not acceptable: a character in it cannot be stored; remove it.",
            field=name,
        )


def _check_text(spec: JobSpec) -> None:
    for name in FIELDS:
        for text in _texts(getattr(spec, name)):
            if name not in {"args", "env"} and any(unicodedata.category(c) == "Cc" for c in text):
                raise Invalid(
                    f"The field {name} is not acceptable: it holds a control character; remove it.",
                    field=name,
                )
    for key in spec.env:
        if not _ENV_NAME.fullmatch(key):
            raise Invalid(
                f"The field env is not acceptable: {_shown(key)} is no name of a variable.",
                field="env",
            )


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        found: list[object] = [*value.keys(), *value.values()]
    else:
        found = list(value) if isinstance(value, (list, tuple)) else [value]
    return [text for text in found if isinstance(text, str)]


def _fault(error: msgspec.ValidationError) -> tuple[str, str]:
    """The field and the complaint in msgspec's `complaint - at `$.field``."""
    message, _, where = str(error).partition(" - at ")
    found = re.search(r"`\$\.([a-z_]+)", where)
    message = message[:1].lower() + message[1:]
    return (found[1] if found else "name"), message.replace("`", "")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…'"
