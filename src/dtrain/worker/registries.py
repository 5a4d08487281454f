"""What the worker's own Docker configuration knows of registries."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from dtrain.protocol.images import HUB, ImageName

from .say import say

_HUB = "https://index.docker.io/v1/"
"""Under what name the configuration has Docker's own registry."""
_DENIED = ("no basic auth credentials", "unauthorized", "authentication required", "denied")
"""What an engine says of a registry that does not know who asks."""
_HELP_TIME = 30.0
"""Seconds for a helper to answer."""


def folder_of(variables: Mapping[str, str]) -> Path:
    """Where Docker's configuration of the worker's user is."""
    home = variables.get("HOME") or str(Path.home())
    return Path(variables.get("DOCKER_CONFIG") or f"{home}/.docker")


def credentials(folder: Path, image: ImageName) -> dict[str, str]:
    """What to show to the registry of an image, as `X-Registry-Auth` has it; empty if nothing."""
    return _of(_config(folder), _HUB if image.registry == HUB else image.registry)


def all_credentials(folder: Path) -> dict[str, dict[str, str]]:
    """What to show to each registry that is known, as `X-Registry-Config` has it."""
    config = _config(folder)
    names = {*_table(config, "auths"), *_table(config, "credHelpers")}
    found = {name: _of(config, name) for name in names}
    return {name: one for name, one in found.items() if one}


def complaint(detail: str, registry: str, *, is_known: bool) -> str:
    """Why an image is not to be had, with what to do where that is a matter of credentials.

    Args:
        detail: the engine's own words.
        registry: the host that was asked.
        is_known: whether it was shown credentials.
    """
    said = detail.lower()
    if "does not exist" in said or not any(word in said for word in _DENIED):
        return detail
    command = "docker login" if registry == HUB else f"docker login {registry}"
    if is_known:
        return (
            f"the registry {registry} does not accept what Docker's configuration of the worker's"
            f" user has for it; run {command} anew as that user ({detail})."
        )
    return (
        f"the registry {registry} wants a name and a password; run {command} as the worker's user"
        f" ({detail})."
    )


def encoded(content: object) -> str:
    """Content as a header has it."""
    return base64.urlsafe_b64encode(json.dumps(content).encode()).decode()


def _config(folder: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        config = json.loads((folder / "config.json").read_text())
        if isinstance(config, dict):
            return config
    return {}


def _table(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = content.get(name)
    return found if isinstance(found, dict) else {}


def _of(config: Mapping[str, Any], registry: str) -> dict[str, str]:
    helper = _table(config, "credHelpers").get(registry) or config.get("credsStore")
    if helper:
        return _asked(str(helper), registry)
    entry = _entry(_table(config, "auths"), registry)
    if entry.get("identitytoken"):
        return {"serveraddress": registry, "identitytoken": entry["identitytoken"]}
    with suppress(ValueError, TypeError, UnicodeDecodeError):
        name, colon, secret = base64.b64decode(entry.get("auth", "")).decode().partition(":")
        if colon:
            return {"serveraddress": registry, "username": name, "password": secret}
    return {}


def _entry(known: Mapping[str, Any], registry: str) -> dict[str, Any]:
    """What is known of a registry, by its name or by an address that has it."""
    for name, entry in known.items():
        host = name.partition("://")[2] or name
        if isinstance(entry, dict) and (name == registry or host.partition("/")[0] == registry):
            return entry
    return {}


def _asked(helper: str, registry: str) -> dict[str, str]:
    """What a helper of Docker's for credentials has."""
    command = [f"docker-credential-{helper}", "get"]
    try:
        done = subprocess.run(
            command,
            input=registry,
            capture_output=True,
            text=True,
            check=True,
            timeout=_HELP_TIME,
        )
        answer = json.loads(done.stdout)
        name, secret = answer["Username"], answer["Secret"]
    except OSError as error:
        say(f"{command[0]}, which Docker's configuration names, cannot be run: {error.strerror}.")
        return {}
    except (subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return {}
    if name == "<token>":
        return {"serveraddress": registry, "identitytoken": secret}
    return {"serveraddress": registry, "username": name, "password": secret}
