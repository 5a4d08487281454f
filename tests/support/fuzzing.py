"""The API, asked whatever its own description lets one ask, and what it lets nobody ask."""

from __future__ import annotations

import gc
import json
import os
import re
import secrets
import warnings
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from flask import Flask
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events, from_schema

from dtrain.protocol import routes

from .api import get

EXAMPLES = "FUZZ_EXAMPLES"
SEED = "FUZZ_SEED"
"""Variables of the environment: how much is tried for each address, and which."""
_FEW = 10
_REFUSALS = ["400", "401", "403", "404", "405", "409", "410", "413", "415", "416", "422", "426"]


@dataclass
class Findings:
    """What came of it."""

    seed: int
    complaints: dict[tuple[str, ...], str] = field(default_factory=dict)
    """One of each kind."""
    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    """How often an address was answered with a status."""

    def statuses(self, operation: str) -> set[int]:
        """The statuses with which an operation, such as `GET /api/jobs`, was answered."""
        return {status for label, status in self.answers if label == operation}

    def note(self, event: object) -> None:
        """Take down what the engine tells."""
        if isinstance(event, (events.NonFatalError, events.FatalError)):
            told = event.info if isinstance(event, events.NonFatalError) else event.exception
            self.complaints[str(told),] = f"{getattr(event, 'label', '')}: {told}"
        if not isinstance(event, events.ScenarioFinished):
            return
        recorder = event.recorder
        for case_id, interaction in recorder.interactions.items():
            if interaction.response is not None:
                label = recorder.cases[case_id].value.operation.label
                self.answers[label, interaction.response.status_code] += 1
        for case_id, checks in recorder.checks.items():
            for check in checks:
                if check.failure_info is None:
                    continue
                failure = check.failure_info.failure
                response = recorder.interactions[case_id].response
                body = b"" if response is None else response.content or b""
                label = recorder.cases[case_id].value.operation.label
                self.complaints[check.name, label, failure.title] = (
                    f"{check.name}: {failure.title}\n{failure.message}\n"
                    f"{check.failure_info.code_sample}\n{body[:500]!r}"
                )


def fuzz(
    server: Flask | str,
    include: str,
    *,
    headers: dict[str, str] | None = None,
    parameters: dict[str, Any] | None = None,
    share: float = 1.0,
    coverage: bool = True,
) -> Findings:
    """Ask a server about the addresses that match, with good data and bad, also in sequences.

    Args:
        server: an application, asked without a socket, or the address of a running server.
        include: a regular expression of addresses. Streams are left out: they have no end.
        headers: of every request.
        parameters: values that are not varied, by name.
        share: how much is tried, as a part of what is tried otherwise.
        coverage: whether every bound is tried that the description names.
    """
    many = os.environ.get(EXAMPLES)
    examples = max(1, int(int(many or _FEW) * share))
    seed = int(os.environ.get(SEED) or (secrets.randbelow(2**32) if many else 1))
    settings = _settings(seed, examples, coverage=coverage) | {
        "headers": headers or {},
        "parameters": parameters or {},
    }
    if isinstance(server, str):
        settings["base-url"] = server
    else:
        # The library cannot send without a socket what this check needs; `test_access` has it.
        settings["checks"]["ignored_auth"] = {"enabled": False}
    document = _described(server, headers or {})
    document["paths"] = {
        path: item
        for path, item in document["paths"].items()
        if re.search(include, path) and not path.endswith("/stream")
    }
    description = schemathesis.openapi.from_dict(
        document, config=SchemathesisConfig.from_dict(settings)
    )
    if not isinstance(server, str):
        description.app = server
    findings = Findings(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the library's files for large bodies
        for event in from_schema(description).execute():
            findings.note(event)
        gc.collect()
    return findings


def _settings(seed: int, examples: int, *, coverage: bool) -> dict[str, Any]:
    return {
        "seed": seed,
        "continue-on-failure": True,
        "generation": {
            "mode": "all",
            "max-examples": examples,
            "database": "none",
            "with-security-parameters": False,
        },
        "phases": {
            "coverage": {"enabled": coverage},
            "stateful": {"generation": {"max-examples": examples}},
        },
        "checks": {
            "negative_data_rejection": {"expected-statuses": [*_REFUSALS, "5xx"]},
            "positive_data_acceptance": {
                # What is meant may be gone, ended or smaller: the data was good all the same.
                "expected-statuses": ["2xx", "3xx", "404", "409", "410", "416", "426"]
            },
        },
        "operations": [
            {
                # Whether a bundle is there and has its script, a file its hash, no schema can say.
                "include-path": path,
                "include-method": method,
                "checks": {"positive_data_acceptance": {"enabled": False}},
            }
            for method, path in (("POST", routes.JOBS), ("PUT", routes.ATTEMPT_ARTIFACT))
        ],
    }


def _described(server: Flask | str, headers: dict[str, str]) -> dict[str, Any]:
    """What the server says of itself."""
    if isinstance(server, str):
        return dict(json.loads(get(f"{server}{routes.OPENAPI}", headers)))
    return dict(server.test_client().get(routes.OPENAPI, headers=headers).json or {})
