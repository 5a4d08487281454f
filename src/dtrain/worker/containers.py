"""Whether and how a worker runs jobs in containers, while engines come and go."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from dtrain.protocol.errors import DTrainError, Invalid

from .cgroups import CONTAINERS, Group, make
from .config import Config
from .console import Console
from .docker_settings import DockerSettings, complaint_of_volumes, volume
from .engine import Engine, socket_path, socket_places
from .executors.base import Host
from .executors.docker import DockerExecutor
from .hierarchies import place_of, remove_everywhere
from .image_keeper import ImageKeeper
from .inventory import GIB, Inventory
from .layout import read_if_there, write_durably
from .spool import WorkerFolder

log = logging.getLogger(__name__)

_DAY = 24 * 3600.0
_USER = 1000
"""The user in containers of a worker that is root and has no users for jobs."""
_OTHERWISE = (
    "Until then jobs run in environments of their own, and those that need a container are left"
    " to other workers."
)


class Containers:
    """The containers of a worker. Threads may share it.

    Args:
        config: the owner's settings.
        host: what executors know of the worker.
        folder: of the worker.
        console: for what happens.
        group: the worker's control group.

    Raises:
        Invalid: a setting cannot hold on this machine.
    """

    def __init__(
        self, config: Config, host: Host, folder: WorkerFolder, console: Console, group: Group
    ) -> None:
        self._variables = host.variables
        self._engine = Engine(socket_path(host.variables))
        self._is_known = False
        """Whether the engine has answered once: then no other is its like."""
        self._folder = folder
        self._console = console
        self._on_change: Callable[[bool], None] = lambda _: None
        self._is_wanted = config.docker_enabled
        self._is_there: bool | None = None
        """Whether the engine answered last; None before it was asked."""
        key = _key(folder.path / "container_key")
        memory = group.get("memory")
        self._place = memory and place_of(memory)
        """Of the control group that limits the memory of all jobs."""
        if self._place is not None and config.docker_enabled:
            _share_cpus(group, f"{self._place}/{CONTAINERS}", config.max_cpus)
        settings = _settings(config, socket_places(host.variables), self._place)
        self.executor = DockerExecutor(host, settings, folder.path, key, self._engine, self.lost)
        """Runs jobs in them."""
        limit = None if config.docker_images_gb is None else config.docker_images_gb * GIB
        age = None if config.docker_images_days is None else config.docker_images_days * _DAY
        self._images = ImageKeeper(self._engine, self.executor.labels, folder.path, limit, age)

    def serve(self, inventory: Inventory) -> None:
        """Have an inventory offer them whenever they can be had; it does not yet."""
        if self._is_wanted:
            self._on_change = inventory.offer_containers
            self._on_change(bool(self._is_there))

    def look(self) -> None:
        """Find out whether the engine is there."""
        if not self._is_known:
            self._engine.path = socket_path(self._variables)
        try:
            self._engine.check()
            if not self._is_there:
                self._found()
        except DTrainError as error:
            self.lost(error)

    def lost(self, error: DTrainError) -> None:
        """The engine did not answer."""
        if self._is_there is not False:
            if self._is_wanted:
                log.warning("docker_enabled is true, but: %s %s", error.detail, _OTHERWISE)
            self._is_there = False
            self._on_change(False)  # noqa: FBT003 -- it takes no name

    def tidy(self) -> None:
        """Remove containers that are left over, and images that are too old or too many."""
        if self._is_there:
            self._sweep()
            try:
                self._images.look()
            except DTrainError as error:
                log.warning("Images cannot be looked through: %s", error.detail)

    def _sweep(self) -> None:
        try:
            self.executor.sweep(self._needed)
        except DTrainError as error:
            log.warning("Containers that are left over cannot be removed: %s", error.detail)

    def close(self) -> None:
        """Remove the control groups that the engine has made in the worker's, if unused."""
        if self._place is not None:
            remove_everywhere(f"{self._place}/{CONTAINERS}")
            remove_everywhere(self._place)

    def _found(self) -> None:
        self.executor.start()
        self._is_known = True
        if self._is_wanted:
            self._console.say("The container engine is there: jobs run in containers.")
        self._is_there = True
        self._on_change(True)  # noqa: FBT003 -- it takes no name
        self._sweep()

    def _needed(self) -> set[str]:
        """The names of the attempts that have not ended."""
        attempts = self._folder.attempts()
        return {attempt.path.name for attempt in attempts if attempt.finish is None}


def _settings(config: Config, sockets: list[str], place: str | None) -> DockerSettings:
    volumes = [volume(text) for text in config.docker_volumes]
    wrong = complaint_of_volumes(volumes, sockets)
    if wrong is not None:
        raise Invalid(
            f"The setting docker_volumes is not acceptable ({wrong[0]}): {wrong[1]}.",
            field="docker_volumes",
        )
    return DockerSettings(
        image=config.docker_image_tag,
        volumes=volumes,
        environment=_pairs(config.docker_environment),
        memory=None if config.max_memory_gb is None else int(config.max_memory_gb * GIB),
        cpus=config.max_cpus,
        processes=config.max_job_processes,
        user=_USER if config.uids is None else config.uids[0],
        parent=place and f"{place}/{CONTAINERS}",
    )


def _share_cpus(group: Group, place: str, cpus: float | None) -> None:
    """Have the limit of processors hold over all containers, where their group is not in `group`.

    With version 2 it is: one folder limits everything. With version 1 the hierarchy of the
    processors may have the worker's group elsewhere.
    """
    folder = group.get("cpu")
    own = folder and place_of(folder)
    if folder is None or not own or place.startswith(f"{own}/"):
        return
    shared = Path(folder.removesuffix(own)) / place.lstrip("/")
    with suppress(OSError):  # then each container has the limit for itself
        shared.mkdir(parents=True, exist_ok=True)
        make({"cpu": str(shared)}, cpus=cpus)


def _pairs(texts: list[str]) -> dict[str, str]:
    return {name: value for name, _, value in (text.partition("=") for text in texts)}


def _key(file: Path) -> str:
    """What tells this worker's containers from those of all others that share the engine."""
    kept = (read_if_there(str(file)) or b"").decode("ascii", "replace").strip()
    if kept:
        return kept
    made = secrets.token_hex(6)
    write_durably(str(file), made.encode())
    return made
