"""The form that hands in a job: its fields, and what a browser sends of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePath

from werkzeug.datastructures import FileStorage, ImmutableMultiDict

from dtrain.protocol.filenames import DEFAULT_ENTRY, DEFAULT_REQUIREMENTS
from dtrain.protocol.spec import JobSpec
from dtrain.protocol.states import Executor, OnPartition

from .commands import as_text
from .contexts import FormField, SubmitForm

_FIRST = (
    FormField("name", "Name", placeholder="The file's name"),
    FormField("main_entry", "Entry", "The script to run, inside the ZIP.", DEFAULT_ENTRY),
    FormField("requirements_file", "Requirements", "Installed first.", DEFAULT_REQUIREMENTS),
)
_MORE = (
    FormField("args", "Arguments", "One a line.", "--epochs=20", kind="lines"),
    FormField("env", "Environment", "One NAME=value a line.", "SEED=7", kind="lines"),
    FormField("tags", "Tags", "Separated by commas.", "baseline, digits"),
    FormField("priority", "Priority", "0 to 100; higher goes first.", "0", input_mode="numeric"),
    FormField("cpus", "CPUs", "To set aside.", "none", input_mode="decimal"),
    FormField("memory_gb", "Memory, GB", "To set aside.", "none", input_mode="decimal"),
    FormField("gpus", "GPUs", "To set aside.", "0", input_mode="numeric"),
    FormField("time_limit", "Time limit", "90s, 15m, 2h or 1d.", "none"),
    FormField("max_retries", "Retries", "After a failure of its own.", "0", input_mode="numeric"),
    FormField("python", "Python", "The worker's own if empty.", "3.11"),
    FormField("labels", "Worker labels", "One NAME=value a line.", "room=lab", kind="lines"),
    FormField("image", "Container image", "", "python:3.12-slim"),
    FormField("executor", "Executor", "", "auto (default)", kind="choice", choices=("", *Executor)),
    FormField(
        "on_partition",
        "On partition",
        "What the worker does while it cannot reach the server.",
        "keep (default)",
        kind="choice",
        choices=("", *OnPartition),
    ),
)
NAMES = tuple(one.name for one in _FIRST + _MORE)


def empty_form() -> SubmitForm:
    """The form as it is at first."""
    return SubmitForm(_FIRST, _MORE)


def filled_form(spec: JobSpec) -> SubmitForm:
    """The form with what was said about a job."""
    return SubmitForm(_FIRST, _MORE, texts(spec))


def texts(spec: JobSpec) -> dict[str, str]:
    """A spec as the form's fields say it; what is as it is by default is left empty."""
    plain = JobSpec(name=spec.name)
    always = {one.name for one in _FIRST}
    return {
        name: _text(name, getattr(spec, name))
        for name in NAMES
        if name in always or getattr(spec, name) != getattr(plain, name)
    }


def changed(spec: JobSpec, entries: Mapping[str, str]) -> dict[str, object]:
    """The fields of a job like another one, with what was changed in the form.

    A field that was left alone keeps its value exactly, one that was emptied has its default.
    """
    before = texts(spec)
    plain = JobSpec(name=spec.name)
    found: dict[str, object] = {name: value for name, value in entries.items() if name not in NAMES}
    for name in NAMES:
        text = entries.get(name, "").replace("\r\n", "\n")
        if text == before.get(name, ""):
            found[name] = getattr(spec, name)
        else:
            found[name] = text or (None if name == "name" else getattr(plain, name))
    return found


def refused_form(entries: dict[str, str], error: str, error_field: str | None) -> SubmitForm:
    """The form after a try that was refused: what was entered stays."""
    return SubmitForm(_FIRST, _MORE, entries, error, error_field)


def entries_of(form: ImmutableMultiDict[str, str]) -> dict[str, str]:
    """What was entered, by field; a field of another name is left to be refused by name."""
    return {name: value for name, value in form.items() if name != "csrf_token"}


def _text(name: str, value: object) -> str:
    if isinstance(value, dict):
        return "\n".join(f"{key}={text}" for key, text in value.items())
    if isinstance(value, list):
        return (", " if name == "tags" else "\n").join(value)
    if isinstance(value, float):
        return as_text(value) if name != "time_limit" else _duration(value)
    return "" if value is None else str(value)


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds % length == 0:
            return f"{seconds / length:.0f}{unit}"
    return as_text(seconds)


def name_of(upload: FileStorage) -> str:
    """What a job is called if nothing else is said: its file's name without the ending."""
    name = PurePath((upload.filename or "").replace("\\", "/")).name
    return name[: -len(".zip")] if name.lower().endswith(".zip") else name
