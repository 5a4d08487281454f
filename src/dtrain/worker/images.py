"""The step that gets the image of a job: fetched, or built of the Dockerfile in its bundle.

What the engine says of it goes into the job's log as it happens. A Dockerfile is built by BuildKit
where the engine is Docker's and the machine's `docker` has that, by the engine's own builder
otherwise; an image that was built of the same content is taken as it is.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.filenames import DOCKERFILE
from dtrain.protocol.images import ImageName, image_name

from . import layout, registries
from .build_context import pack
from .engine import Engine, EngineAway, read_some
from .engine_patience import until_done
from .say import say, say_as_it_is

BUILT = "images"
"""The folder with a file for each image that was built, changed when that was used."""
REPOSITORY = "dtrain-build"
"""The name of what was built; its tag is what it was built of."""

_SPEAKS = 5.0
"""Seconds between two lines about how far a fetch is."""
_BEGINNING = "Pulling from"
_LAYER_ENDS = ("Pull complete", "Already exists", "Download complete")
_OWN_BUILDKIT = 23
"""The first version of `docker` that has BuildKit in a plug-in."""

_OF_THE_CLIENT = (
    "DOCKER_",
    "BUILDX_",
    "BUILDKIT_",
    "EXPERIMENTAL_",
    "SOURCE_DATE_EPOCH",
    "DTRAIN_",
)
"""Variables by which a client builds elsewhere or something else; programs that keep credentials
need the others, and it hands none on to what is built."""


class ImageOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What image is wanted."""

    socket: str
    """Of the engine."""
    name: str | None
    """The image to fetch; None to build the one of the bundle's Dockerfile."""
    labels: dict[str, str]
    """Of what is built."""
    variables: dict[str, str]
    """Of the machine: its proxies, for what is built."""
    uses: str
    """The folder that notes when images were used."""
    memory: int | None
    """Bytes that a step of a build may use."""


class ImageStep:
    """The getting of one image.

    Args:
        folder: of the attempt.
        order: what is wanted.
        variables: of this process: where Docker's configuration is.
    """

    def __init__(self, folder: Path, order: ImageOrder, variables: Mapping[str, str]) -> None:
        self._folder = folder
        self._order = order
        self._engine = Engine(order.socket)
        self._variables = variables
        self._registries = registries.folder_of(variables)

    def run(self) -> None:
        """Get it, and write down its number.

        Raises:
            DTrainError: it cannot be had.
        """
        number = until_done(self._had)
        layout.write_durably(str(self._folder / layout.IMAGE), number.encode())

    def _had(self) -> str:
        """The number of the image, once it is there."""
        with self._engine.watched() as is_gone:
            try:
                name = self._order.name
                name = self._built() if name is None else self._fetched(name)
                found = self._engine.image(name)
            except DTrainError as error:
                if is_gone():
                    raise EngineAway("The container engine has ended meanwhile.") from error
                raise
        if found is None:
            raise DTrainError(f"The image {name} is not there after all; hand the job in again.")
        return str(found["Id"])

    # Fetching.

    def _fetched(self, name: str) -> str:
        image = image_name(name)
        if image is None:
            raise DTrainError(f"{name!r} is no name of an image.")
        say(f"The image {name} is not here; it is fetched.")
        shown = registries.credentials(self._registries, image)
        headers = {"X-Registry-Auth": registries.encoded(shown)} if shown else {}
        try:
            with self._engine.open(
                "POST", "/images/create", timeout=None, headers=headers, query=_pulled(image)
            ) as answer:
                progress = _Progress()
                for message in _messages(answer):
                    progress.show(message)
        except EngineAway:
            raise
        except DTrainError as error:
            why = registries.complaint(error.detail, image.registry, is_known=bool(shown))
            raise DTrainError(f"The image {name} cannot be fetched: {why}") from error
        return name

    # Building.

    def _built(self) -> str:
        with (self._folder / "context.tar").open("w+b") as file:
            name = f"{REPOSITORY}:{pack(self._folder / layout.WORK, file)[:32]}"
            use = Path(self._order.uses) / name.rpartition(":")[2]
            use.parent.mkdir(exist_ok=True)
            use.touch()
            if self._engine.image(name) is not None:
                say(f"The image of this {DOCKERFILE} is here already.")
                return name
            file.seek(0)
            client = None if self._engine.is_podman() else buildkit(self._variables)
            if client is None:
                say(f"The {DOCKERFILE} is built by the engine's classic builder.")
                self._build_classic(name, file)
            else:
                say(f"The {DOCKERFILE} is built by BuildKit.")
                self._build_by(client, name, file)
        (self._folder / "context.tar").unlink()
        return name

    def _build_classic(self, name: str, context: Any) -> None:
        query: dict[str, object] = {
            "t": name,
            "dockerfile": DOCKERFILE,
            "labels": json.dumps(self._order.labels),
            "buildargs": json.dumps(self._order.variables),
            "forcerm": 1,
        }
        if self._order.memory is not None:
            query |= {"memory": self._order.memory, "memswap": self._order.memory}
        known = registries.all_credentials(self._registries)
        headers = {"X-Registry-Config": registries.encoded(known)} if known else {}
        with self._engine.open(
            "POST", "/build", context, timeout=None, headers=headers, query=query
        ) as answer:
            progress = _Progress()
            for message in _messages(answer):
                if "stream" in message:
                    say_as_it_is(message["stream"])
                else:
                    progress.show(message)

    def _build_by(self, client: str, name: str, context: Any) -> None:
        command = [client, "build", "--progress", "plain", "--tag", name, "--file", DOCKERFILE]
        for label, value in self._order.labels.items():
            command += ["--label", f"{label}={value}"]
        for variable in self._order.variables:
            command += ["--build-arg", variable]
        kept = {
            **{
                name: text
                for name, text in self._variables.items()
                if not name.startswith(_OF_THE_CLIENT)
            },
            **self._order.variables,
            "DOCKER_HOST": f"unix://{self._order.socket}",
            "DOCKER_CONFIG": str(self._registries),
            "DOCKER_BUILDKIT": "1",
        }
        done = subprocess.run(
            [*command, "-"], stdin=context, stderr=subprocess.STDOUT, env=kept, check=False
        )
        if done.returncode:
            raise DTrainError(f"The {DOCKERFILE} cannot be built.")


class _Progress:
    """What the engine says of a fetch, made fit for a log."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}
        """Bytes of each layer: that are here, and all."""
        self._due = time.monotonic() + _SPEAKS

    def show(self, message: Mapping[str, Any]) -> None:
        """Say what of a message is worth a line.

        Raises:
            DTrainError: it says that the work has failed.
        """
        if "error" in message:
            raise DTrainError(str(message["error"]).strip())
        status, layer = str(message.get("status", "")), message.get("id")
        detail = message.get("progressDetail") or {}
        if status == "Downloading" and layer and detail.get("total"):
            self._layers[layer] = (detail.get("current", 0), detail["total"])
            self._tell()
        elif status and (
            (not detail and status.endswith(_LAYER_ENDS))
            or status.startswith(_BEGINNING)
            or not layer
        ):
            say(f"{layer}: {status}" if layer else status)

    def _tell(self) -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + _SPEAKS
            here, total = (sum(part) / 1024**2 for part in zip(*self._layers.values(), strict=True))
            say(f"{here:.0f} of {total:.0f} MB are here.")


def _pulled(image: ImageName) -> dict[str, object]:
    """How the engine is asked for an image."""
    if ":" in image.version:
        return {"fromImage": f"{image.name}@{image.version}"}
    return {"fromImage": image.name, "tag": image.version}


def _messages(answer: Any) -> Iterator[dict[str, Any]]:
    """The messages of an answer, one a line, as they come."""
    rest = b""
    while piece := read_some(answer):
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            if line.strip():
                yield json.loads(line.decode(errors="replace"))
    if rest.strip():
        yield json.loads(rest.decode(errors="replace"))


def buildkit(variables: Mapping[str, str]) -> str | None:
    """The `docker` of this machine, if it has BuildKit."""
    client = shutil.which("docker", path=variables.get("PATH"))
    if client is None:
        return None
    with suppress(OSError, subprocess.SubprocessError, ValueError):
        if _ran(client, "buildx", "version").returncode == 0:
            return client
        if (
            int(_ran(client, "--version").stdout.split(" version ")[1].split(".")[0])
            < _OWN_BUILDKIT
        ):
            return client
    return None


def _ran(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main(arguments: list[str]) -> int:
    """Get the image of the attempt whose folder is given; the exit status."""
    folder = Path(arguments[0])
    order = msgspec.json.decode((folder / "image.json").read_bytes(), type=ImageOrder)
    try:
        ImageStep(folder, order, os.environ).run()
    except DTrainError as error:
        say(error.detail)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
