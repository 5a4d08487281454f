"""The worker's settings: `config.json` in its home folder, overridden by the environment."""

from __future__ import annotations

import difflib
import re
import socket
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import msgspec

from dtrain.client.address import checked_address, checked_token
from dtrain.protocol.errors import Invalid
from dtrain.protocol.spec import Label
from dtrain.protocol.states import OnStop

FILE = "config.json"
EXAMPLE = "config.example.json"

_POSITIVE = msgspec.Meta(gt=0)
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a worker's owner has decided. The defaults are here and nowhere else."""

    server_url: str = "http://localhost:5000"
    token: str = ""
    """The server's shared token; needed to enrol, never sent again after that."""
    worker_name: Name = ""
    """A label for people, and the name of the worker's folder; else the name of the host."""
    poll_interval: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 10.0
    """Seconds for which the server may hold a poll; never more than 10 are asked for."""
    max_concurrent_jobs: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    auto_accept_jobs: bool = False
    """Whether jobs start without the owner being asked at the terminal."""
    docker_enabled: bool = False
    docker_image_tag: str = "python:3.11-slim"
    """The image of jobs that run in a container and name none."""
    docker_volumes: list[str] = []
    """`/path/here:/path/in/the/container` for each."""
    docker_environment: list[str] = []
    """`NAME=value` for each."""
    max_memory_gb: Annotated[float, _POSITIVE] | None = None
    """What all jobs together may use, in units of 1024³ bytes; None is all that the machine has."""
    max_cpu_percent: Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None
    """What all jobs together may use, of the whole machine; None is all of it."""
    labels: dict[Label, Label] = {}
    """What jobs can ask for by name and value."""
    work_dir: str = "data"
    """Where the worker keeps its files, relative to its home folder."""
    python: str | None = None
    """The interpreter of jobs that ask for no version; None takes the worker's own."""
    executor: str = "venv"
    """How jobs run that do not say; `fake` is for trying out a worker."""
    on_stop: OnStop = OnStop.HAND_BACK
    """What becomes of running jobs when the worker gets SIGTERM."""
    debug: bool = False
    """Whether every request is written to the terminal."""

    def folder(self, home: Path) -> Path:
        """Where the worker of this name keeps its files."""
        return home / Path(self.work_dir).expanduser() / self.worker_name


SETTINGS = tuple(field.name for field in msgspec.structs.fields(Config))

VARIABLES = {name: f"DTRAIN_{name.upper()}" for name in SETTINGS} | {
    "token": "DTRAIN_WORKER_TOKEN",
    "max_concurrent_jobs": "DTRAIN_MAX_JOBS",
}
"""The variable that overrides each setting."""

HOW_TO_ACCEPT = (
    "set auto_accept_jobs to true (DTRAIN_AUTO_ACCEPT_JOBS=true) to let jobs start without a"
    " question, or start the worker in a terminal."
)

_HINTS = get_type_hints(Config, include_extras=True)
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "names with values",
    "null": "null",
}
_CLOSE = 0.85
"""How alike two names must be for the one to be a misspelling of the other."""


def load(home: Path, environment: Mapping[str, str]) -> Config:
    """The settings that hold for the worker in a home folder.

    Raises:
        Invalid: a setting is unknown, ill-typed or missing; `field` names it.
    """
    file = home / FILE
    written = _read(file)
    given = _variables(environment)
    if not written and not given:
        raise Invalid(
            f"The worker has no settings: copy {EXAMPLE} to {FILE} in {home} and fill in the"
            " server's address and token, or set DTRAIN_SERVER_URL and DTRAIN_WORKER_TOKEN."
        )
    settings: dict[str, Any] = {"worker_name": socket.gethostname()}
    for name, value in written.items():
        settings[name] = _converted(name, value, str(file), strict=True)
    for name, text in given.items():
        source = f"the variable {VARIABLES[name]}"
        settings[name] = _converted(name, _parts(name, text.strip()), source, strict=False)
    return _checked(Config(**settings), file)


def _read(file: Path) -> dict[str, object]:
    try:
        written = msgspec.json.decode(file.read_bytes())
    except FileNotFoundError:
        return {}
    except OSError as error:
        problem = f"{file} cannot be read ({error.strerror}); correct its permissions."
        raise Invalid(problem) from None
    except (ValueError, RecursionError) as error:
        problem = f"{file} cannot be read ({error}); correct it, or begin with {EXAMPLE}."
        raise Invalid(problem) from None
    if not isinstance(written, dict):
        raise Invalid(f"{file} must hold one JSON object of settings; begin with {EXAMPLE}.")
    for name in written:
        if name not in SETTINGS:
            hint = _nearest(name, SETTINGS, 0.5)
            advice = f"did you mean {hint}?" if hint else f"there are {', '.join(SETTINGS)}."
            shown = name[:100]
            raise Invalid(f"There is no setting {shown!r} ({file}): {advice}", field=shown)
    return written


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    """The settings that the environment gives, by name; an empty variable gives none.

    Other programs have `DTRAIN_*` variables too, so only what looks like a misspelling is refused.
    """
    for variable in environment:
        if not variable.startswith("DTRAIN_") or variable in VARIABLES.values():
            continue
        bare = variable.removeprefix("DTRAIN_")
        hint = VARIABLES.get(bare.lower()) if bare != "TOKEN" else None
        if hint is None:
            names = [known.removeprefix("DTRAIN_") for known in VARIABLES.values()]
            found = _nearest(bare, names, _CLOSE)
            hint = f"DTRAIN_{found}" if found else None
        if hint:
            raise Invalid(f"There is no variable {variable}; did you mean {hint}?", field=variable)
    return {name: environment[key] for name, key in VARIABLES.items() if environment.get(key)}


def _parts(name: str, text: str) -> object:
    """The text of a list or a map in its parts, which commas or lines separate."""
    kind = get_origin(_HINTS[name])
    if kind not in {list, dict}:
        return text
    parts = [part.strip() for part in re.split(r"[,\n]", text) if part.strip()]
    if kind is list:
        return parts
    if all("=" in part for part in parts):
        return {key.strip(): value.strip() for key, _, value in (p.partition("=") for p in parts)}
    return text


def _converted(name: str, value: object, source: str, *, strict: bool) -> Any:
    """A value as the type that the setting has; if `strict`, text stands for nothing but text."""
    hint = _HINTS[name]
    try:
        return msgspec.convert(value, hint, strict=strict)
    except msgspec.ValidationError as error:
        complaint = str(error).partition(" - at ")[0].replace(" | ", " or ")
    complaint = re.sub(r"`([a-z]+)", lambda found: _WORDS.get(found[1], found[1]), complaint)
    complaint = (complaint[:1].lower() + complaint[1:]).replace("`", "")
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        complaint += f"; there are {', '.join(hint)}"
    raise _refusal(name, source, complaint)


def _checked(config: Config, file: Path) -> Config:
    """Refuse what the types alone let through."""
    server_url = config.server_url.strip().rstrip("/")
    checked_address(server_url)
    if not config.token.strip():
        raise Invalid(
            "No token is set: the server prints it when it starts; put it as token into"
            f" {file}, or into the variable DTRAIN_WORKER_TOKEN.",
            field="token",
        )
    name = config.worker_name
    if "/" in name or name in {".", ".."} or not name.isprintable() or len(name.encode()) > 200:
        raise _refusal(
            "worker_name",
            repr(name),
            "it names a folder, so it cannot be . or .., hold a slash or a control character, or"
            " be longer than 200 bytes",
        )
    for pair in config.docker_environment:
        if "=" not in pair:
            raise _refusal("docker_environment", repr(pair), "write NAME=value")
    return msgspec.structs.replace(config, server_url=server_url, token=checked_token(config.token))


def _refusal(name: str, source: str, complaint: str) -> Invalid:
    return Invalid(f"The setting {name} is not acceptable ({source}): {complaint}.", field=name)


def _nearest(name: str, known: tuple[str, ...] | list[str], cutoff: float) -> str | None:
    found = difflib.get_close_matches(name, known, 1, cutoff)
    return found[0] if found else None
