"""The compose file fits what it starts."""

from __future__ import annotations

import re
from typing import Any

import pytest
import yaml
from support.checks import ROOT

from dtrain.server.settings import SETTINGS
from dtrain.worker.config import VARIABLES

FOLDER = ROOT / "deploy" / "docker"
SERVICES: dict[str, Any] = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]
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
