"""The job spec: what a submitter says about a job, by the same names through every door.

The form, JSON, the command line's flags and `dtrain.yaml` all end in `parse_spec`; the bounds are
here and nowhere else.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Any

import msgspec

from .complaints import complaint
from .duration import in_seconds
from .errors import Invalid
from .filenames import DEFAULT_ENTRY, DEFAULT_REQUIREMENTS, DOCKERFILE, LOCK, PROJECT
from .images import image_name
from .states import Executor, OnPartition

Label = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]
RelativePath = Annotated[str, msgspec.Meta(min_length=1, max_length=1000)]


class JobSpec(msgspec.Struct, frozen=True, kw_only=True):
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
    """What to install first, a file of the bundle. For the default, should it be absent, stands
    what `default_requirements` finds; None means nothing."""
    python: Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(\.[0-9]+){0,2}$")] | None = None
    """A Python version such as `3.11`; None takes the worker's own, or that of the image."""
    env: Annotated[dict[str, str], msgspec.Meta(max_length=200)] = {}
    """Environment variables of the job."""
    tags: Annotated[list[Label], msgspec.Meta(max_length=50)] = []
    """Words to find the job by, without commas."""
    priority: Annotated[int, msgspec.Meta(ge=0, le=100)] = 0
    """Higher goes first; among equals, the older job."""
    cpus: Annotated[float, msgspec.Meta(gt=0, le=4096)] | None = None
    """Processor cores to set aside; None sets none aside."""
    memory_gb: Annotated[float, msgspec.Meta(gt=0, le=65536)] | None = None
    """Memory to set aside, in units of 1024³ bytes."""
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

_Duration = Annotated[str, msgspec.Meta(pattern=r"^[0-9]+(\.[0-9]+)?[smhd]?$")]
JSON_FIELDS: list[tuple[str, Any, Any]] = [
    (
        field.name,
        field.type | _Duration | msgspec.UnsetType
        if field.name == "time_limit"
        # Every other field has in JSON the type that it has here.
        else field.type | msgspec.UnsetType,
        msgspec.UNSET,
    )
    for field in msgspec.structs.fields(JobSpec)
]
"""The fields as JSON brings them, any of which may be left out: name, type, default."""
JobFields = msgspec.defstruct(
    "JobFields", JSON_FIELDS, frozen=True, kw_only=True, forbid_unknown_fields=True
)

_LISTS = {"args", "tags"}
_MAPS = {"env", "labels"}
_CHOICES = {"on_partition": OnPartition, "executor": Executor}
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SURROGATE = re.compile(r"[\ud800-\udfff]")


def default_requirements(paths: Collection[str]) -> str | None:
    """What is installed for a job that names no requirements, of the files of its bundle.

    What is exact comes before what is to be resolved; None if there is nothing of the kind.
    """
    locks = [LOCK, "pylock.toml"] if PROJECT in paths else ["pylock.toml"]
    names = (DEFAULT_REQUIREMENTS, *locks, PROJECT)
    return next((name for name in names if name in paths), None)


def default_executor(spec: JobSpec, paths: Collection[str]) -> Executor:
    """How a job runs whose spec leaves that open, of the files of its bundle.

    A Dockerfile at the top says what the job needs, unless the job asks for a Python of its worker.
    """
    if spec.executor is Executor.AUTO and spec.python is None and DOCKERFILE in paths:
        return Executor.DOCKER
    return spec.executor


def parse_spec(raw: Mapping[str, object]) -> JobSpec:
    """Make a spec of what came through any door.

    Text stands for any type: `"3"` for a number, `"2h"` for a duration, lines or commas for a
    list, `NAME=value` lines for a map. An empty text is a field left out.

    Raises:
        Invalid: with `field` naming the first field that is not acceptable.
    """
    values: dict[str, object] = {}
    for name, value in raw.items():
        _check_known(name)
        if value == "" or (value is None and name != "requirements_file"):
            continue
        _check_storable(name, value)
        values[name] = _typed(name, value)
    if not str(values.get("name", "")).strip():
        raise Invalid(
            "A job needs a name: give one in the field name, or in a dtrain.yaml at the top of the"
            " bundle.",
            field="name",
        )
    try:
        spec = msgspec.convert(values, JobSpec, strict=False)
    except msgspec.ValidationError as error:
        raise _refusal(error, from_text=True) from None
    _check_text(spec)
    _check_image(spec)
    return spec


def check_fields(raw: Mapping[str, object]) -> None:
    """Find fault with some of a spec's fields, to which others, also the name, may yet come.

    Raises:
        Invalid: as `parse_spec`.
    """
    parse_spec({**raw, "name": raw.get("name") or "x"})


def check_json(raw: Mapping[str, object]) -> None:
    """Find fault with fields that came as JSON: there a number is no text, nor a list a line.

    Raises:
        Invalid: with `field` naming the first field that is not of its type.
    """
    for name, value in raw.items():
        _check_known(name)
        _check_storable(name, value)
        _typed(name, value)  # a text that is no duration is refused with the better sentence
    try:
        msgspec.convert(raw, JobFields)
    except msgspec.ValidationError as error:
        raise _refusal(error, from_text=False) from None


def _check_known(name: str) -> None:
    if name not in FIELDS:
        raise Invalid(
            f"There is no field {shown(name)}; a job has {', '.join(FIELDS)}.",
            field=repr(name)[1:-1][:100],
        )


def _typed(name: str, value: object) -> object:
    if name == "time_limit" and isinstance(value, str):
        seconds = in_seconds(value)
        if seconds is None:
            raise Invalid(
                f"The field time_limit is not acceptable: {shown(value)} is no duration;"
                " write seconds or something like 90s, 15m, 2h or 1d.",
                field=name,
            )
        return seconds
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
                f"The field {name} is not acceptable: {shown(line)} is not like NAME=value.",
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
    for tag in spec.tags:
        if "," in tag:  # the form and the filter of the list part tags by it
            raise Invalid(
                f"The field tags is not acceptable: {shown(tag)} holds a comma; make it two tags.",
                field="tags",
            )
    for key in spec.env:
        if not _ENV_NAME.fullmatch(key):
            raise Invalid(
                f"The field env is not acceptable: {shown(key)} is no name of a variable.",
                field="env",
            )


def _check_image(spec: JobSpec) -> None:
    if spec.image is not None and image_name(spec.image) is None:
        raise Invalid(
            f"The field image is not acceptable: {shown(spec.image)} is no name of an image; write"
            " something like python:3.11-slim or registry.example/lab/torch:2.",
            field="image",
        )


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        found: list[object] = [*value.keys(), *value.values()]
    else:
        found = list(value) if isinstance(value, (list, tuple)) else [value]
    return [text for text in found if isinstance(text, str)]


def _refusal(error: msgspec.ValidationError, *, from_text: bool) -> Invalid:
    words, where = complaint(error, from_text=from_text)
    name = re.split(r"[.\[]", where)[0] or "name"
    if name == "python":
        words = "it must be a version such as 3.11"
    elif name in _CHOICES:
        words = f"it must be {' or '.join(_CHOICES[name])}"
    elif "[" in where:
        each = "each name and value" if name in _MAPS else "each item"
        words = words.replace("it must", f"{each} must", 1)
    return Invalid(f"The field {name} is not acceptable: {words}.", field=name)


def shown(value: object) -> str:
    """A value as a sentence quotes it: escaped, and cut where it is long."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…'"
