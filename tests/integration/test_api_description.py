"""What the API says about itself: to programs, and to people."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openapi_spec_validator import validate
from support.application import WIDE, Application, application, bearer

from dtrain.protocol import messages, problem
from dtrain.protocol.spec import FIELDS
from dtrain.server.api import GROUPS, examples
from dtrain.server.api.docs import Kind, kind_of

RESERVED = {"OPTIONS", "HEAD"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Application]:
    with application(tmp_path_factory.mktemp("description")) as found:
        yield found


@pytest.fixture(scope="module")
def document(server: Application) -> dict[str, Any]:
    answer = server.client.get("/api/openapi.json")
    assert answer.mimetype == "application/json"
    return dict(answer.json or {})


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield path, method.upper(), operation


def test_description_is_openapi(document: dict[str, Any]) -> None:
    validate(document)
    assert document["openapi"].startswith("3.1")


def test_every_address_is_described(server: Application, document: dict[str, Any]) -> None:
    listed = {(method, path) for path, method, _ in operations(document)}
    served = set()
    for rule in server.app.url_map.iter_rules():
        path = re.sub(r"<(?:[^:>]+:)?(\w+)>", r"{\1}", rule.rule)
        if path.startswith("/api/") or path in {"/healthz", "/readyz", "/metrics"}:
            served |= {(method, path) for method in (rule.methods or set()) - RESERVED}
    assert listed == served


def test_every_operation_is_told_in_full(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(names) == len(set(names))
    groups = {tag["name"] for tag in document["tags"]}
    for path, method, operation in operations(document):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert set(operation["tags"]) <= groups, where
        parts = set(re.findall(r"\{(\w+)\}", path))
        assert {p["name"] for p in operation["parameters"] if p["in"] == "path"} == parts, where
        for parameter in operation["parameters"]:
            assert parameter["description"], f"{where}: {parameter['name']}"
            assert parameter["schema"], f"{where}: {parameter['name']}"
        statuses = set(operation["responses"])
        assert any(status < "300" for status in statuses), where
        assert {"400", "500"} <= statuses, where
        if parts:
            assert "404" in statuses, where
        if "requestBody" in operation:
            assert {"413", "415", "422"} <= statuses, where


def test_bounds_of_parameters_are_told(document: dict[str, Any]) -> None:
    found = {p["name"]: p for p in document["paths"]["/api/jobs"]["get"]["parameters"]}
    assert (found["limit"]["schema"]["minimum"], found["limit"]["schema"]["maximum"]) == (1, 500)
    assert found["limit"]["schema"]["default"] == 50
    assert found["status"]["schema"]["items"]["enum"] == [
        "pending",
        "running",
        "completed",
        "failed",
        "cancelled",
    ]
    assert found["status"]["explode"] is False
    assert not any(p["required"] for p in found.values())


def test_a_job_is_handed_in_by_form_or_json(document: dict[str, Any]) -> None:
    operation = document["paths"]["/api/jobs"]["post"]
    assert {"200", "201", "409", "507"} <= set(operation["responses"])
    content = operation["requestBody"]["content"]
    form = content["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"file", "spec", *FIELDS}
    assert "example" in content["multipart/form-data"]
    assert "example" in content["application/json"]
    submission = document["components"]["schemas"]["Submission"]
    assert set(submission["properties"]) == {"bundle", *FIELDS}
    assert submission["required"] == ["bundle"]
    headers = {p["name"] for p in operation["parameters"] if p["in"] == "header"}
    assert headers == {"Idempotency-Key", "DTrain-Submitter"}


def test_downloads_tell_of_ranges(document: dict[str, Any]) -> None:
    responses = document["paths"]["/api/jobs/{job_id}/bundle"]["get"]["responses"]
    assert {"200", "206", "304", "416"} <= set(responses)
    assert "Content-Range" in responses["206"]["headers"]
    assert "content" not in responses["304"]


def test_streams_name_their_messages(document: dict[str, Any]) -> None:
    one = document["paths"]["/api/jobs/{job_id}/stream"]["get"]
    assert set(one["responses"]["200"]["content"]) == {"text/event-stream"}
    for word in ("`job`", "`log`", "`metric`", "`end`"):
        assert word in one["description"]
    every = document["paths"]["/api/stream"]["get"]["description"]
    for word in ("`job`", "`worker`", "`progress`", "`reset`"):
        assert word in every


def test_who_may_is_told(tmp_path: Path, document: dict[str, Any]) -> None:
    assert document["security"] == [{}, {"token": []}]
    for path, _, operation in operations(document):
        if path.startswith("/api/worker/"):
            assert {"worker": []} in operation["security"]
    assert document["paths"]["/healthz"]["get"]["security"] == []
    with application(tmp_path, WIDE) as wide:
        access = bearer(WIDE["DTRAIN_ACCESS_TOKEN"])
        told = wide.client.get("/api/openapi.json", headers=access).json or {}
        assert told["security"] == [{"token": []}]
        assert "$DTRAIN_TOKEN" in wide.client.get("/api/docs", headers=access).text
        assert wide.client.get("/api/docs").status_code == 401
        browser = wide.client.get("/api/docs", headers={"Accept": "text/html"})
        assert (browser.status_code, browser.headers["Location"]) == (
            303,
            "/login?next=%2Fapi%2Fdocs",
        )


def test_fields_carry_the_sentences_of_their_docstrings(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["Job"]["properties"]["phase"]["description"].endswith("null at the end.")
    for name in FIELDS:
        assert schemas["JobSpec"]["properties"][name]["description"]
        assert schemas["Submission"]["properties"][name]["description"]
    assert schemas["LogPiece"]["properties"]["offset"]["description"]
    assert schemas["Finish"]["properties"]["duration"]["description"]


@pytest.mark.parametrize("name", examples.SCHEMAS)
def test_examples_are_what_they_stand_for(name: str) -> None:
    kind = getattr(messages, name, None) or getattr(problem, name)
    found = msgspec.convert(examples.SCHEMAS[name], kind)
    given = set(examples.SCHEMAS[name])
    assert given <= set(kind.__struct_fields__)
    if name not in {"Submission", "Problem"}:
        assert given == set(kind.__struct_fields__)
    assert msgspec.json.decode(msgspec.json.encode(found), type=kind) == found


def test_the_page_tells_every_address_and_schema(
    server: Application, document: dict[str, Any]
) -> None:
    answer = server.client.get("/api/docs")
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    page = answer.text
    for path, method, operation in operations(document):
        assert f'id="{operation["operationId"]}"' in page, (method, path)
        assert f"<code>{path}</code>" in page
    for name in document["components"]["schemas"]:
        assert f'id="schema-{name}"' in page
    anchors = set(re.findall(r'id="([^"]+)"', page))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= anchors
    assert "curl -X POST http://localhost/api/jobs \\\n  -F &#39;name=My Training Job&#39;" in page
    assert "<script>" not in page
    assert " style=" not in page


def test_the_page_is_linked_from_every_other(server: Application) -> None:
    for path in ("/", "/workers"):
        assert 'href="/api/docs"' in server.client.get(path).text


@pytest.mark.parametrize(
    ("schema", "words", "bounds"),
    [
        ({"type": "integer", "minimum": 1, "maximum": 500}, "whole number", "from 1, up to 500"),
        ({"type": "string", "maxLength": 1000}, "text", "1,000 characters at most"),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text or null", ""),
        ({"$ref": "#/components/schemas/Job"}, "Job", ""),
        ({"type": "array", "items": {"$ref": "#/components/schemas/Job"}}, "list of Job", ""),
        ({"type": "object", "additionalProperties": {"type": "string"}}, "map to text", ""),
        ({"enum": ["keep", "stop"]}, "keep, stop", ""),
        ({}, "anything", ""),
    ],
)
def test_schemas_are_put_into_words(schema: dict[str, Any], words: str, bounds: str) -> None:
    kind: Kind = kind_of(schema)
    assert ("".join(text for text, _ in kind.parts), kind.bounds) == (words, bounds)


def test_groups_hold_what_they_say() -> None:
    assert all(group.title and group.description for group in GROUPS)
