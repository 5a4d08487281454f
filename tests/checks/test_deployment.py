"""The compose file fits what it starts."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.checks import ROOT

from dtrain.server.settings import SETTINGS
from dtrain.worker.config import VARIABLES

FOLDER = ROOT / "deploy" / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]
KNOWN = {setting.name for setting in SETTINGS} | set(VARIABLES.values())


def test_compose_file_has_a_server_its_database_and_two_workers() -> None:
    assert {"server", "database", "worker-1", "worker-2"} <= SERVICES.keys()
    names = {
        SERVICES[name]["environment"]["DTRAIN_WORKER_NAME"] for name in SERVICES if "er-" in name
    }
    assert names == {"worker-1", "worker-2"}


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_service_is_built_of_what_is_there_and_set_up_by_what_is_known(name: str) -> None:
    service = SERVICES[name]
    if "build" in service:
        assert (FOLDER / service["build"]["context"]).resolve() == ROOT
        assert (ROOT / service["build"]["dockerfile"]).is_file()
        assert set(service.get("environment", {})) <= KNOWN
    script = " ".join(service.get("command", []))
    assert set(re.findall(r"\b([A-Z_]{4,})=", script)) <= KNOWN
    ports = [port.rpartition(":")[0] for port in service.get("ports", [])]
    assert all(port.startswith("127.0.0.1:") for port in ports)


def mounts(service: dict[str, Any]) -> dict[str, str]:
    """Where a service has which volume."""
    return dict(volume.split(":")[:2] for volume in service.get("volumes", []))


def networks(name: str) -> set[str]:
    service = SERVICES[name]
    return set() if "network_mode" in service else set(service.get("networks", ["default"]))


def test_jobs_reach_neither_the_database_nor_its_password() -> None:
    place = SERVICES["database"]["environment"]["POSTGRES_PASSWORD_FILE"]
    (volume,) = {
        volume
        for volume, folder in mounts(SERVICES["database"]).items()
        if place.startswith(f"{folder}/")
    }
    having = {name for name, service in SERVICES.items() if volume in mounts(service)}
    assert having == {"secrets", "database", "server"}
    for name in SERVICES:
        assert bool(networks(name) & networks("database")) == (name in {"database", "server"})
    assert networks("worker-1") & networks("server")
    assert f"$$(cat {place})" in " ".join(SERVICES["server"]["command"])
    assert place in " ".join(SERVICES["secrets"]["command"])


def test_volumes_and_networks_are_declared() -> None:
    used = {volume for service in SERVICES.values() for volume in mounts(service)}
    assert used == COMPOSE["volumes"].keys()
    assert set().union(*map(networks, SERVICES)) == {"default", *COMPOSE["networks"]}


def test_passwords_are_made_once_and_one_of_an_earlier_version_is_kept(tmp_path: Path) -> None:
    """Else a database that is there already would not let its server in."""
    program, option, script = SERVICES["secrets"]["command"]
    for folder in ("secrets", "database-secret"):
        (tmp_path / folder).mkdir()
        script = re.sub(rf"(?<![\w/])/{folder}/", f"{tmp_path / folder}/", script)
    script = script.replace("$$", "$")
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    (tmp_path / "secrets" / "database_password").write_text("earlier\n")
    for _ in range(2):
        subprocess.run([program, option, script], env=environment, check=True)
        assert [path.name for path in (tmp_path / "secrets").iterdir()] == ["worker_token"]
        assert (tmp_path / "database-secret" / "password").read_text() == "earlier\n"
    (tmp_path / "database-secret" / "password").unlink()
    subprocess.run([program, option, script], env=environment, check=True)
    assert len((tmp_path / "database-secret" / "password").read_text()) == 49
