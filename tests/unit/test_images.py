from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path

import pytest

from dtrain.protocol.images import image_name
from dtrain.worker import registries
from dtrain.worker.build_context import pack
from dtrain.worker.docker_settings import Volume, complaint_of_volumes
from dtrain.worker.dockerfile import has_command
from dtrain.worker.image_command import command_with


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("python", ("python", "latest", "docker.io")),
        ("python:3.9-slim", ("python", "3.9-slim", "docker.io")),
        ("lab/torch:2.4", ("lab/torch", "2.4", "docker.io")),
        ("ghcr.io/lab/torch", ("ghcr.io/lab/torch", "latest", "ghcr.io")),
        ("localhost:5000/a__b/c-d.e:v1", ("localhost:5000/a__b/c-d.e", "v1", "localhost:5000")),
        (f"a@sha256:{'0' * 64}", ("a", f"sha256:{'0' * 64}", "docker.io")),
        (f"a:1@sha256:{'0' * 64}", ("a", f"sha256:{'0' * 64}", "docker.io")),
    ],
)
def test_name_of_an_image_has_parts(text: str, parts: tuple[str, str, str]) -> None:
    found = image_name(text)
    assert found is not None
    assert tuple(found) == parts


@pytest.mark.parametrize(
    "text",
    [
        *("", "Python", "a b", "a:", "a/", "/a", "a//b", "-a", "a:-1", "a@sha256:12", "a;b"),
        *("a" * 300, "https://a/b", "a\n", "UPPER/a", "a:" + "t" * 129, "$(id)", "--privileged"),
    ],
)
def test_what_is_no_name_of_an_image(text: str) -> None:
    assert image_name(text) is None


def packed(work: Path, files: dict[str, str]) -> tuple[str, dict[str, int]]:
    """The hash of a bundle's archive, and the modes of what is in it."""
    for name, content in files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    file = io.BytesIO()
    found = pack(work, file)
    file.seek(0)
    with tarfile.open(fileobj=file) as archive:
        return found, {member.name: member.mode for member in archive}


def test_archive_for_a_builder_is_told_by_its_content(tmp_path: Path) -> None:
    files = {"Dockerfile": "FROM a\n", "main.py": "", "data/x": "1"}
    first, modes = packed(tmp_path / "a", files)
    assert packed(tmp_path / "b", dict(reversed(files.items())))[0] == first
    assert packed(tmp_path / "c", {**files, "data/x": "2"})[0] != first
    assert modes == {"Dockerfile": 0o666, "data": 0o777, "data/x": 0o666, "main.py": 0o666}


def test_archive_for_a_builder_leaves_out_what_is_ignored(tmp_path: Path) -> None:
    lines = "# no\n*.log\n/data\n!data/kept/*\n**/cache\nDockerfile\nsub/*.txt\n"
    files = ["Dockerfile", "a.log", "sub/b.log", "sub/c.txt", "sub/cache/x", "data/x"]
    files += ["data/kept/y", "main.py"]
    _, modes = packed(tmp_path, {".dockerignore": lines, **dict.fromkeys(files, "")})
    found = {name for name in modes if "." in name or "/" in name or name == "Dockerfile"}
    assert found - {"data/kept"} == {
        ".dockerignore",
        "Dockerfile",
        "data/kept/y",
        "main.py",
        "sub/b.log",
    }


def test_credentials_are_those_of_dockers_own_configuration(tmp_path: Path) -> None:
    secret = base64.b64encode(b"me:pass:word").decode()
    helper = tmp_path / "bin" / "docker-credential-test"
    helper.parent.mkdir()
    helper.write_text(
        '#!/bin/sh\nread it\necho "{\\"Username\\": \\"$it\\", \\"Secret\\": \\"s\\"}"\n'
    )
    helper.chmod(0o755)
    config = {
        "auths": {"ghcr.io": {"auth": secret}, "https://index.docker.io/v1/": {"auth": secret}},
        "credHelpers": {"helped.example": str(helper).rpartition("docker-credential-")[2]},
    }
    (tmp_path / "config.json").write_text(json.dumps(config))

    def shown(name: str) -> dict[str, str]:
        image = image_name(name)
        assert image is not None
        return registries.credentials(tmp_path, image)

    mine = {"username": "me", "password": "pass:word"}
    assert shown("ghcr.io/a/b") == {"serveraddress": "ghcr.io", **mine}
    assert shown("python")["serveraddress"] == "https://index.docker.io/v1/"
    assert shown("quay.io/a/b") == {}
    assert set(registries.all_credentials(tmp_path)) == set(config["auths"])
    assert registries.credentials(tmp_path / "none", image_name("a")) == {}  # type: ignore[arg-type]


def test_configuration_that_is_odd_has_no_credentials(tmp_path: Path) -> None:
    image = image_name("ghcr.io/a/b")
    assert image is not None
    for content in ("", "[]", '{"auths": null}', '{"auths": {"ghcr.io": null}}'):
        (tmp_path / "config.json").write_text(content)
        assert registries.credentials(tmp_path, image) == {}
        assert registries.all_credentials(tmp_path) == {}


def test_registry_may_be_configured_by_its_address(tmp_path: Path) -> None:
    secret = base64.b64encode(b"me:secret").decode()
    config = {"auths": {"https://ghcr.io/v2/": {"auth": secret}}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    image = image_name("ghcr.io/a/b")
    assert image is not None
    assert registries.credentials(tmp_path, image)["username"] == "me"


def test_helper_that_is_missing_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "config.json").write_text('{"credsStore": "no-such-helper"}')
    image = image_name("ghcr.io/a/b")
    assert image is not None
    assert registries.credentials(tmp_path, image) == {}
    assert "docker-credential-no-such-helper, which" in capsys.readouterr().out


def test_what_a_registry_says_is_explained_only_if_it_is_about_credentials() -> None:
    missing = "pull access denied for a, repository does not exist or may require 'docker login'"
    assert registries.complaint(missing, "docker.io", is_known=False) == missing
    assert registries.complaint("no route to host", "ghcr.io", is_known=True) == "no route to host"
    said = registries.complaint("unauthorized: who?", "docker.io", is_known=False)
    assert "run docker login as the worker's user (unauthorized: who?)." in said


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('FROM a\nCMD ["x"]\n', True),
        ("from a\nentrypoint x\n", True),
        ('FROM a\nCMD\t["x"]\n', True),
        ("FROM a\n\tENTRYPOINT \t x\n", True),
        ("FROM\ta\nCMD x\nFROM\tb\nCMD\t[]\n", False),
        ("FROM a\nCMD x\nFROM b\nRUN y\n", False),
        ("FROM a\nRUN x\nFROM b\nRUN y\n CMD z\n", True),
        ("FROM a\nHEALTHCHECK --interval=5s \\\n  CMD curl localhost\n", False),
        ("FROM a\nHEALTHCHECK --interval=5s \\\n\n # why\n  CMD curl localhost\n", False),
        ("# escape=`\nFROM a\nRUN dir `\n  CMD x\n", False),
        ("FROM a\nRUN <<EOF\nCMD x\nEOF\n", False),
        ("FROM a\nRUN <<EOF\nx\nEOF\nCMD x\n", True),
        ("FROM a\nONBUILD CMD x\n# CMD x\nCMD []\n", False),
        ("", False),
    ],
)
def test_last_stage_of_a_dockerfile_may_name_a_command(text: str, found: bool) -> None:
    assert has_command(text) == found


SH, BASH = ["/bin/sh", "-c"], ["/bin/bash", "-o", "pipefail", "-c"]


@pytest.mark.parametrize(
    ("config", "entrypoint", "command"),
    [
        ({"Cmd": ["x", "y"]}, [], ["x", "y", "a b"]),
        ({"Entrypoint": ["x"], "Cmd": ["y"]}, ["x"], ["y", "a b"]),
        ({"Entrypoint": ["x"]}, ["x"], ["a b"]),
        ({"Cmd": [*SH, "x"]}, [], [*SH, 'x "$@"', "sh", "a b"]),
        ({"Entrypoint": [*SH, "x"], "Cmd": ["y"]}, [*SH, 'x "$@"', "sh"], ["a b"]),
        ({"Cmd": [*BASH, "x"], "Shell": BASH}, [], [*BASH, 'x "$@"', "sh", "a b"]),
        ({"Entrypoint": [*BASH, "x"], "Shell": BASH}, [*BASH, 'x "$@"', "sh"], ["a b"]),
        ({"Cmd": [*SH, "x"], "Shell": BASH}, [], [*SH, 'x "$@"', "sh", "a b"]),
        ({"Cmd": [*BASH, "x"]}, [], [*BASH, "x", "a b"]),
        ({"Cmd": ["pwsh", "-c", "x"], "Shell": ["pwsh", "-c"]}, [], ["pwsh", "-c", "x", "a b"]),
    ],
)
def test_arguments_go_behind_the_command_of_an_image(
    config: dict[str, list[str]], entrypoint: list[str], command: list[str]
) -> None:
    assert command_with(["a b"], config) == {"Entrypoint": entrypoint, "Cmd": command}
    as_it_is = {name: config.get(name, []) for name in ("Entrypoint", "Cmd")}
    assert command_with([], config) == as_it_is


def test_volume_must_be_there_and_bring_no_engine_along(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "run")
    socket = tmp_path / "run" / "docker.sock"
    socket.touch()

    def complaint(*sources: Path) -> str:
        volumes = [Volume(source=str(path), target="/data", read_only=True) for path in sources]
        found = complaint_of_volumes(volumes, ["/run/other.sock", str(socket)])
        return found[1] if found else ""

    (tmp_path / "data").mkdir()
    assert complaint(tmp_path / "data") == ""
    assert "no such path" in complaint(tmp_path / "missing")
    assert "both be /data" in complaint(tmp_path / "data", tmp_path / "data")
    for path in (socket, tmp_path / "run", tmp_path / "link", tmp_path, Path("/")):
        assert "engine's socket" in complaint(path)
