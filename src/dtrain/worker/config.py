"""The worker's settings: `config.json` in its home folder, overridden by the environment."""

from __future__ import annotations

import difflib
import os
import re
import socket
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_origin, get_type_hints

import msgspec

from dtrain.client.address import checked_address, checked_token
from dtrain.protocol.complaints import Complaint, complaint
from dtrain.protocol.errors import Invalid
from dtrain.protocol.images import image_name
from dtrain.protocol.spec import Label
from dtrain.protocol.states import OnStop

from .docker_settings import is_variable, volume
from .policy import CONDITIONS, Rule, complaint_of

FILE = "config.json"
EXAMPLE = "config.example.json"

_POSITIVE = msgspec.Meta(gt=0)
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=100)]


class IsolationMode(StrEnum):
    """Whether jobs are kept apart."""

    AUTO = "auto"
    OFF = "off"


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a worker's owner has decided. The defaults are here and nowhere else."""

    server_url: str = "http://localhost:5000"
    token: str = ""
    """The server's shared token; needed to enrol, never sent again after that."""
    ca_file: str | None = None
    """The CAs to trust for an https address, relative to the home folder; None takes those of the
    environment or of the system."""
    worker_name: Name = ""
    """A label for people, and the name of the worker's folder; else the name of the host."""
    poll_interval: Annotated[float, msgspec.Meta(gt=0, le=3600)] = 10.0
    """Seconds for which the server may hold a poll; never more than 10 are asked for."""
    max_concurrent_jobs: Annotated[int, msgspec.Meta(ge=1, le=1000)] = 1
    auto_accept_jobs: bool = False
    """Whether jobs start without the owner being asked at the terminal."""
    accept_when: list[Rule] = []
    """Jobs that start without a question: those for which any of the rules holds."""
    decline_when: list[Rule] = []
    """Jobs that are declined without a question."""
    answer_on_page: bool = True
    """Whether the owner may answer on the worker's page as well, with the owner's code."""
    docker_enabled: bool = False
    docker_image_tag: str = "python:3.11-slim"
    """The image of jobs that run in a container and name none."""
    docker_volumes: list[str] = []
    """`/path/here:/path/in/the/container` for each."""
    docker_environment: list[str] = []
    """`NAME=value` for each."""
    docker_images_gb: Annotated[float, _POSITIVE] | None = 20.0
    """What of images that were built is kept at most, in units of 1024³ bytes; None keeps all."""
    docker_images_days: Annotated[float, _POSITIVE] | None = 30.0
    """Days without a use after which such an image is removed; None keeps them."""
    max_memory_gb: Annotated[float, _POSITIVE] | None = None
    """What all jobs together may use, in units of 1024³ bytes; None is all that the machine has."""
    max_cpu_percent: Annotated[float, msgspec.Meta(gt=0, le=100)] | None = None
    """What all jobs together may use, of the whole machine; None is all of it."""
    max_job_processes: Annotated[int, msgspec.Meta(ge=1, le=4194304)] = 4096
    """Processes and threads that each job may have at a time."""
    isolation: IsolationMode = IsolationMode.AUTO
    """Whether jobs are kept apart from each other and from the worker, as far as that works."""
    job_uids: str = "1900000000-1909999999"
    """The users that jobs run as, each as one of its own, where the worker is root; or `off`."""
    job_folders: list[str] = []
    """Folders of this machine that jobs may see and write, as far as their permissions go."""
    labels: dict[Label, Label] = {}
    """What jobs can ask for by name and value."""
    work_dir: str = "data"
    """Where the worker keeps its files, relative to its home folder."""
    python: str | None = None
    """The interpreter of jobs that ask for no version; None takes the worker's own."""
    python_downloads: bool = True
    """Whether interpreters that jobs ask for are fetched, where this machine has none of them."""
    cache_gb: Annotated[float, _POSITIVE] | None = 20.0
    """What is kept for later jobs at most (environments, packages, interpreters, bundles), in units
    of 1024³ bytes; None keeps all of it."""
    checkpoint_interval: Annotated[float, msgspec.Meta(gt=0, le=86400)] = 30.0
    """Seconds from when a job's checkpoint is taken to when the next may be, at least."""
    executor: str = "venv"
    """How jobs run that do not say; `fake` is for trying out a worker."""
    on_stop: OnStop = OnStop.HAND_BACK
    """What becomes of running jobs when the worker gets SIGTERM."""
    debug: bool = False
    """Whether every request is written to the terminal."""

    @property
    def asks(self) -> bool:
        """Whether jobs come as offers, which the owner's word or rules decide on this machine."""
        return not self.auto_accept_jobs or bool(self.decline_when)

    @property
    def max_cpus(self) -> float | None:
        """Processors that all jobs together may use; None for all that there are."""
        if self.max_cpu_percent is None:
            return None
        return (os.cpu_count() or 1) * self.max_cpu_percent / 100

    @property
    def uids(self) -> range | None:
        """The numbers of users for jobs; None if they have none of their own."""
        if self.job_uids == "off":
            return None
        first, last = map(int, self.job_uids.split("-"))
        return range(first, last + 1)

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
    " question, say in accept_when which may, set answer_on_page to true, or start the worker in a"
    " terminal."
)

_HINTS = get_type_hints(Config, include_extras=True)
_RULES = ("accept_when", "decline_when")
_NO_UID = 2**32 - 1
"""What the system calls no user at all."""
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
    if name in _RULES:
        try:
            return msgspec.json.decode(text)
        except (ValueError, RecursionError) as error:
            raise _refusal(
                name, f"the variable {VARIABLES[name]}", f"it is not JSON ({error})"
            ) from None
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
        converted = msgspec.convert(value, hint, strict=strict)
        for number, rule in enumerate(converted if name in _RULES else (), 1):
            wrong = complaint_of(rule)
            if wrong is not None:
                raise _refusal(name, source, f"rule {number}: {wrong}")
        return converted
    except msgspec.ValidationError as error:
        found = complaint(error, from_text=not strict)
        words = _of_rule(found) if name in _RULES else found.words
    if isinstance(hint, type) and issubclass(hint, StrEnum):
        words = f"it must be {' or '.join(hint)}"
    raise _refusal(name, source, words)


def _of_rule(found: Complaint) -> str:
    """A complaint about one of several rules, with its number."""
    place = re.match(r"\[([0-9]+)\](?:\.([a-z0-9_]+))?", found.where)
    if not place:
        return found.words
    words = found.words
    unknown = re.fullmatch(r"object contains unknown field (.*)", words, re.DOTALL)
    if unknown:
        words = f"there is no condition {unknown[1]!r}; there are {', '.join(CONDITIONS)}"
    what = f"{place[2]} of rule" if place[2] else "rule"
    return f"{what} {int(place[1]) + 1}: {words}"


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
    _check_docker(config)
    _check_isolation(config)
    ca_file = config.ca_file and str(file.parent / Path(config.ca_file).expanduser())
    return msgspec.structs.replace(
        config, server_url=server_url, token=checked_token(config.token), ca_file=ca_file
    )


def _check_docker(config: Config) -> None:
    for pair in config.docker_environment:
        if not is_variable(pair):
            raise _refusal("docker_environment", repr(pair), "write NAME=value")
    for text in config.docker_volumes:
        try:
            volume(text)
        except ValueError as error:
            raise _refusal("docker_volumes", repr(text), str(error)) from None
    if image_name(config.docker_image_tag) is None:
        raise _refusal(
            "docker_image_tag",
            repr(config.docker_image_tag),
            "write the name of an image, such as python:3.11-slim",
        )


def _check_isolation(config: Config) -> None:
    words = re.fullmatch(r"(\d{1,10})-(\d{1,10})", config.job_uids, re.ASCII)
    if config.job_uids != "off" and not (words and 0 < int(words[1]) <= int(words[2]) < _NO_UID):
        raise _refusal(
            "job_uids", repr(config.job_uids), "write the first and the last, as in 200000-265535"
        )
    for name in config.job_folders:
        if not Path(name).is_absolute() or not Path(name).is_dir():
            raise _refusal("job_folders", repr(name), "name a folder by its whole path")


def _refusal(name: str, source: str, complaint: str) -> Invalid:
    return Invalid(f"The setting {name} is not acceptable ({source}): {complaint}.", field=name)


def _nearest(name: str, known: tuple[str, ...] | list[str], cutoff: float) -> str | None:
    found = difflib.get_close_matches(name, known, 1, cutoff)
    return found[0] if found else None
