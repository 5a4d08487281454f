"""Jobs in containers of Docker, or of what speaks like it.

What a container has of the machine are the folders of its attempt, and what its owner lets it have:

    /dtrain/work            the unpacked bundle, in which the entry is run
    /dtrain/output          and `checkpoints`, `home`, and `/tmp`
    /dtrain/environment     what the requirements are, read-only

A job whose bundle has a Dockerfile is run as the image built from it says. If that names no
command, and for all other images, the entry is run by the image's Python.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.filenames import DEFAULT_REQUIREMENTS, DOCKERFILE
from dtrain.protocol.images import image_name
from dtrain.protocol.states import Cause
from dtrain.worker import layout
from dtrain.worker.container import ContainerOrder
from dtrain.worker.container_body import (
    ATTEMPT_LABEL,
    ENVIRONMENT,
    WORK,
    WORKER_LABEL,
    container_body,
    lacking_limits,
    limits_of,
    mount,
    variables_of,
)
from dtrain.worker.container_environment import environment_order
from dtrain.worker.docker_settings import DockerSettings
from dtrain.worker.dockerfile import has_command
from dtrain.worker.engine import Engine, EngineAway, EngineRefused
from dtrain.worker.images import BUILT, ImageOrder
from dtrain.worker.layout import read_if_there
from dtrain.worker.needs import Kind, blank, kind_of
from dtrain.worker.package_settings import network_variables
from dtrain.worker.spool import AttemptFolder

from .base import Host, Plan, PrepareFailed, Step
from .variables import own_variables, preparation_variables

log = logging.getLogger(__name__)

_IMAGE_LIMIT = 7200.0
"""Seconds for fetching or building an image, large ones over a slow line included."""
_ENVIRONMENT_LIMIT = 3600.0
_PYTHON = """\
program=$(command -v python || command -v python3) || {
    echo "The image has no Python; name another one, or add it in a Dockerfile."
    exit 127
}
"""
_VERSION = """\
version=$("$program" -c 'import platform; print(platform.python_version())')
case "$version." in WANTED.*) ;; *)
    echo "The image has Python $version, not WANTED; name another image."
    exit 127
esac
"""
_START = 'exec "$program" "$@"\n'
_SHELL = 'exec "$(command -v bash || echo /bin/sh)" "$@"\n'
_MERGED = "exec 2>&1\n"
"""Output and error in the order in which they are written, which two streams would not keep."""


class DockerExecutor:
    """Runs each job in a container of its own.

    Args:
        host: what is known of the worker.
        settings: the owner's about containers.
        worker: the worker's folder.
        key: what its containers and images are known by.
        engine: that runs them.
        on_away: called when the engine does not answer.
    """

    name = "docker"

    def __init__(
        self,
        host: Host,
        settings: DockerSettings,
        worker: Path,
        key: str,
        engine: Engine,
        on_away: Callable[[DTrainError], None] = lambda _: None,
    ) -> None:
        self._host = host
        self._settings = settings
        self._worker = worker
        self._engine = engine
        self._on_away = on_away
        self._rootless = False
        self._remaps = False
        """Whether users in containers are others outside, unless it is asked not to."""
        self._prefix = f"dtrain-{key}-"
        """How the names of all its containers begin."""
        self.labels = {WORKER_LABEL: key}
        """Of all containers, and of the images that are built."""

    def start(self) -> None:
        """Find out how the engine is set up."""
        self._engine.check()
        info = self._engine.info()
        options = info.get("SecurityOptions") or []
        self._rootless = any("name=rootless" in option for option in options)
        self._remaps = any("name=userns" in option for option in options)
        if self._rootless or info.get("CgroupDriver") != "cgroupfs":  # no place of ours is its
            self._settings = msgspec.structs.replace(self._settings, parent=None)
        self._settings = msgspec.structs.replace(
            self._settings,
            is_podman=self._engine.is_podman(),
            has_selinux=any("name=selinux" in option for option in options),
        )
        self._note_lacking(lacking_limits(info))

    def _note_lacking(self, lacking: tuple[str, ...]) -> None:
        """Go without limits that the engine does not have; that is said, once."""
        if lacking and lacking != self._settings.lacking:
            log.warning(
                "The container engine cannot limit the %s of containers, so jobs run in them"
                " without; see docs/containers.md for how a rootless engine is given the means.",
                " and ".join(lacking),
            )
        self._settings = msgspec.structs.replace(self._settings, lacking=lacking)

    def prepare(self, folder: AttemptFolder) -> Plan:
        """Make a plan: the image if it is not there, the environment if it has any, the job."""
        try:
            steps = self._steps(folder)
        except EngineAway as error:
            self._on_away(error)
            raise PrepareFailed(Cause.HANDED_BACK, error.detail) from error
        except EngineRefused as error:
            raise PrepareFailed(Cause.START_FAILED, error.detail) from error
        return Plan(
            steps=steps,
            time_limit=folder.assignment.spec.time_limit,
            grace=self._host.grace,
            log_cap=self._host.log_cap,
            contained=True,
        )

    def resume(self, folder: AttemptFolder) -> Plan | None:
        """Go on with the container, or with how it ended, unless that was with the machine."""
        plan = read_if_there(str(folder.path / layout.PLAN))
        has_begun = (folder.path / layout.BEGUN).exists()
        if folder.shim_of_this_boot is None or not has_begun or plan is None:
            return None
        if not self._is_left(folder):
            return None
        kept = msgspec.convert(json.loads(plan), Plan)  # as it was written, also what is no UTF-8
        limit = kept.time_limit
        if limit is not None:  # of a plan's steps, since its shim has begun
            began = (folder.path / layout.SHIM).stat().st_mtime
            limit = max(limit - (time.time() - began), 0.0)
        return msgspec.structs.replace(kept, steps=kept.steps[-1:], time_limit=limit)

    def _is_left(self, folder: AttemptFolder) -> bool:
        """Whether a container that was started is there, or it is known how it ended."""
        if (folder.path / layout.OUTCOME).exists():
            return True
        try:
            state = self._engine.state(self._name(folder))
        except EngineRefused:
            return True  # what stands in for the container waits, and finds out
        except EngineAway as error:
            self._on_away(error)
            return True
        return state is not None and state["Status"] != "created"

    def clean(self, folder: AttemptFolder) -> None:
        """Remove the attempt's containers; if the engine is away, `sweep` does it later."""
        try:
            self._remove(self._own({ATTEMPT_LABEL: folder.path.name}))
        except EngineAway as error:
            self._on_away(error)
        except EngineRefused as error:
            log.warning("Containers of %s are left: %s", folder.path.name, error.detail)

    def sweep(self, needed: Callable[[], set[str]]) -> None:
        """Remove the containers of attempts that have ended; `needed` names the others."""
        there = self._own({})
        names = needed()  # after the look: what is created meanwhile is not in it
        self._remove([found for found in there if found["Labels"][ATTEMPT_LABEL] not in names])

    def _own(self, labels: dict[str, str]) -> list[dict[str, Any]]:
        """The worker's containers that carry some labels.

        Whoever makes a container of an image that was built here, or of what a job's container was
        kept as, has our labels on it, but not our name.
        """
        found = self._engine.containers({**self.labels, **labels})
        beginning = f"/{self._prefix}"
        return [
            one
            for one in found
            if ATTEMPT_LABEL in one["Labels"]
            and any(name.startswith(beginning) for name in one["Names"])
        ]

    def _remove(self, containers: list[dict[str, Any]]) -> None:
        for found in containers:
            try:
                self._engine.remove(found["Id"])
            except EngineRefused as error:
                log.warning("The container %s is left: %s", found["Names"][0], error.detail)

    # The steps.

    def _steps(self, folder: AttemptFolder) -> list[Step]:
        dockerfile = folder.work / DOCKERFILE
        if dockerfile.is_file():
            image = None
            steps = [self._image(folder, None)]
            own_command = has_command(dockerfile.read_text(errors="replace"))
            file = None
        else:
            name = folder.assignment.spec.image or self._settings.image
            image = self._present(name)
            steps = [] if image else [self._image(folder, name)]
            own_command, file = False, _requirements(folder)
        if not own_command and not (folder.work / folder.assignment.spec.main_entry).is_file():
            entry = folder.assignment.spec.main_entry
            raise PrepareFailed(Cause.ENTRY_MISSING, f"The bundle has no file {entry}.")
        if file is not None:
            steps.append(self._environment(folder, image, file))
        return [*steps, self._main(folder, image, own_command, file is not None)]

    def _present(self, name: str) -> str | None:
        """The number of an image that the engine has; None if it has none of the name."""
        if image_name(name) is None:
            raise PrepareFailed(Cause.IMAGE_FAILED, f"{name!r} is no name of an image.")
        found = self._engine.image(name)
        return None if found is None else str(found["Id"])

    def _image(self, folder: AttemptFolder, name: str | None) -> Step:
        order = ImageOrder(
            socket=self._engine.path,
            name=name,
            labels=self.labels,
            variables=network_variables(self._host.variables),
            uses=str(self._worker / BUILT),
            memory=limits_of(folder, self._settings)[0],
        )
        _write(folder, "image.json", order)
        step = self._step(folder, "image", "images", Cause.IMAGE_FAILED, _IMAGE_LIMIT)
        own = own_variables(self._host, folder)
        return msgspec.structs.replace(step, env=own, stands_in=False)

    def _environment(self, folder: AttemptFolder, image: str | None, file: str) -> Step:
        body = container_body(folder, self._settings, self.labels)
        try:
            order = environment_order(
                self._order(f"{self._name(folder)}-environment", image, body),
                self._host.variables,
                root=self._host.environments,
                work=folder.work,
                venv=folder.venv,
                file=file,
            )
        except DTrainError as error:
            raise PrepareFailed(Cause.ENVIRONMENT_FAILED, error.detail) from error
        _write(folder, "environment.json", order)
        failure = Cause.ENVIRONMENT_FAILED
        return self._step(
            folder, "environment", "container_environment", failure, _ENVIRONMENT_LIMIT
        )

    def _main(
        self, folder: AttemptFolder, image: str | None, own_command: bool, has_environment: bool
    ) -> Step:
        spec = folder.assignment.spec
        body = container_body(folder, self._settings, self.labels)
        variables = variables_of(folder, self._settings, self._host.worker_name)
        body["Env"] = [f"{name}={value}" for name, value in variables.items()]
        if own_command:
            body["HostConfig"]["Mounts"] = [
                one for one in body["HostConfig"]["Mounts"] if one["Target"] != WORK
            ]
        else:
            entry = f"./{spec.main_entry}" if spec.main_entry.startswith("-") else spec.main_entry
            path = f"PATH={ENVIRONMENT}/bin:$PATH\nexport PATH\n" if has_environment else ""
            script = _MERGED + path + (_SHELL if entry.endswith(".sh") else _python(spec.python))
            body |= {"Entrypoint": ["/bin/sh", "-c", script, "sh"], "Cmd": [entry, *spec.args]}
            body |= {"WorkingDir": WORK, "StopSignal": "SIGTERM"}
        if has_environment:
            environment = mount(str(folder.venv), ENVIRONMENT, read_only=True)
            body["HostConfig"]["Mounts"].append(environment)
            body["Env"].append(f"VIRTUAL_ENV={ENVIRONMENT}")
        order = self._order(self._name(folder), image, body)
        if own_command:
            order = msgspec.structs.replace(order, args=spec.args, opens_folder=True)
        _write(folder, layout.CONTAINER, order)
        return self._step(folder, "main", "container", None, None)

    def _step(
        self,
        folder: AttemptFolder,
        name: str,
        module: str,
        failure: Cause | None,
        limit: float | None,
    ) -> Step:
        """A step that is a program of ours, which finds its order in the folder."""
        return Step(
            name=name,
            argv=[sys.executable, "-I", "-m", f"dtrain.worker.{module}", str(folder.path)],
            env=preparation_variables(self._host, folder),
            cwd=str(folder.path),
            failure=failure,
            time_limit=limit,
            confined=False,
            stands_in=True,
        )

    # Orders.

    def _name(self, folder: AttemptFolder) -> str:
        return f"{self._prefix}{folder.path.name}"

    def _order(self, name: str, image: str | None, body: dict[str, Any]) -> ContainerOrder:
        if self._remaps:  # the files of the attempt are those of the user outside
            body["HostConfig"]["UsernsMode"] = "host"
        return ContainerOrder(
            socket=self._engine.path,
            name=name,
            image=image,
            body=body,
            rootless=self._rootless,
            user=self._settings.user,
        )


def _python(wanted: str | None) -> str:
    """The script that runs the entry by the image's Python, if that is of the version wanted."""
    return _PYTHON + (_VERSION.replace("WANTED", wanted) if wanted else "") + _START


def _requirements(folder: AttemptFolder) -> str | None:
    """The file that says what to install, as the spec names it; None if there is nothing to."""
    name = folder.assignment.spec.requirements_file
    if name is None:
        return None
    path = folder.work / name
    if not path.is_file():
        if name == DEFAULT_REQUIREMENTS:
            return None
        raise PrepareFailed(Cause.ENVIRONMENT_FAILED, f"The bundle has no file {name}.")
    if kind_of(name) in {Kind.LOCK, Kind.PYLOCK}:
        raise PrepareFailed(
            Cause.ENVIRONMENT_FAILED,
            f"{name} cannot be installed in a container; export it to a file of requirements (uv"
            " export), install it in a Dockerfile, or ask for the executor venv.",
        )
    return None if kind_of(name) is Kind.REQUIREMENTS and blank(path) else name


def _write(folder: AttemptFolder, name: str, order: msgspec.Struct) -> None:
    layout.write_durably(str(folder.path / name), msgspec.json.encode(order))
