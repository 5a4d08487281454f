from __future__ import annotations

from pathlib import Path

import pytest

from dtrain.protocol.errors import DTrainError
from dtrain.protocol.spec import JobSpec, default_requirements
from dtrain.worker.needs import Kind, kind_of, may_be_contained, read_project, read_pylock, split

INDEX = "--index-url https://pypi.org/simple"


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["main.py"], None),
        (["requirements.txt", "uv.lock", "pyproject.toml", "pylock.toml"], "requirements.txt"),
        (["uv.lock", "pyproject.toml", "pylock.toml"], "uv.lock"),
        (["uv.lock", "pylock.toml"], "pylock.toml"),
        (["uv.lock"], None),
        (["pylock.toml", "pyproject.toml"], "pylock.toml"),
        (["pyproject.toml"], "pyproject.toml"),
        (["sub/requirements.txt", "sub/pyproject.toml"], None),
    ],
)
def test_what_is_exact_comes_before_what_is_to_be_resolved(
    files: list[str], chosen: str | None
) -> None:
    assert default_requirements(files) == chosen


@pytest.mark.parametrize(
    ("file", "kind"),
    [
        ("requirements.txt", Kind.REQUIREMENTS),
        ("needs/gpu.in", Kind.REQUIREMENTS),
        ("sub/pyproject.toml", Kind.PROJECT),
        ("uv.lock", Kind.LOCK),
        ("my-uv.lock", Kind.REQUIREMENTS),
        ("pylock.toml", Kind.PYLOCK),
        ("a/pylock.cpu.toml", Kind.PYLOCK),
        ("pylock.a.b.toml", Kind.REQUIREMENTS),
    ],
)
def test_file_is_told_by_its_name(file: str, kind: Kind) -> None:
    assert kind_of(file) is kind


@pytest.mark.parametrize(
    "line",
    [
        "parrot==2.0",
        "parrot[all,x]==2.0+cpu ; python_version < '4'",
        "parrot==2.0 \\\n    --hash=sha256:00",
        "parrot @ https://host/parrot-2.0.whl",
        "parrot @ git+https://host/x@0123456",
    ],
)
def test_what_means_the_same_everywhere_is_shared(line: str) -> None:
    shared, own = split(f"{INDEX}\n{line}\n", set())
    assert shared.splitlines()[0] == INDEX
    assert "parrot" in shared
    assert own == ""


@pytest.mark.parametrize(
    "line",
    [
        "-e .",
        "./parrot-2.0.whl",
        "../parrot",
        "/opt/parrot.whl",
        "parrot @ file:///opt/parrot.whl",
        "parrot @ git+file:///opt/parrot",
        "file:///opt/parrot",
    ],
)
def test_what_is_on_this_disk_is_the_attempts_own(line: str) -> None:
    shared, own = split(f"{INDEX}\nkipper==1.0\n    # from https://pypi.org\n{line}\n", set())
    assert line not in shared
    assert "kipper==1.0" in shared
    assert own.splitlines()[-1] == line
    assert own.splitlines()[0] == INDEX


@pytest.mark.parametrize(
    "option",
    ["--find-links /opt/x", "--find-links ./x", "--index-url file:///opt/x", "--frobnicate"],
)
def test_nothing_is_shared_of_a_place_on_this_disk(option: str) -> None:
    shared, own = split(f"{option}\nparrot==2.0\n", set())
    assert shared == ""
    assert own == f"{option}\nparrot==2.0\n"
    if option != "--frobnicate":
        assert split(f"{option}\nparrot==2.0\n", {option.split()[1]}) == (own, "")


def test_project_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[project]\nname = "x"\nrequires-python = ">=3.11, <4"\n[build-system]\n')
    project = read_project(path)
    assert (project.is_one, project.is_package) == (True, True)
    assert project.requires_python == ">=3.11, <4"
    path.write_text('[project]\nname = "x"\n[tool.uv]\npackage = true\n')
    assert read_project(path).is_package
    path.write_text('[project]\nname = "x"\n[build-system]\n[tool.uv]\npackage = false\n')
    assert not read_project(path).is_package
    path.write_text('project = 3\ntool = "x"\n')
    assert read_project(path).is_one is False


@pytest.mark.timeout(60)
@pytest.mark.parametrize("part", ["==1", "==1 , ", "==1  ", ">= 1,"])
def test_bounds_that_are_odd_hold_up_no_worker(tmp_path: Path, part: str) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(f'[project]\nname = "x"\nrequires-python = "{part * 2000}/"\n')
    assert read_project(path).requires_python is None
    path.write_text(f'[project]\nname = "x"\nrequires-python = "{part * 2}"\n')
    assert read_project(path).requires_python == part * 2


@pytest.mark.parametrize("content", [b"[project", b"\xff", b"a = " + b"[" * 100_000])
def test_project_that_cannot_be_read_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_bytes(content)
    with pytest.raises(DTrainError, match=r"pyproject\.toml cannot be read"):
        read_project(path)


@pytest.mark.parametrize(
    ("package", "is_shareable"),
    [
        ('wheels = [{ url = "https://host/x.whl" }]', True),
        ('vcs = { type = "git", url = "https://host/x" }', True),
        ('vcs = { type = "git", path = "../x" }', False),
        ('wheels = [{ url = "file:///x.whl" }]', False),
        ('sdist = { path = "x.tar.gz" }', False),
        ('directory = { path = "." }', False),
    ],
)
def test_lock_of_files_on_this_disk_is_told(
    tmp_path: Path, package: str, is_shareable: bool
) -> None:
    path = tmp_path / "pylock.toml"
    path.write_text(f'requires-python = ">=3.9"\n[[packages]]\nname = "x"\n{package}\n')
    assert read_pylock(path) == (">=3.9", is_shareable)


@pytest.mark.parametrize(
    ("spec", "may"),
    [
        ({}, True),
        ({"requirements_file": "pyproject.toml"}, True),
        ({"requirements_file": None}, True),
        ({"requirements_file": "uv.lock"}, False),
        ({"requirements_file": "sub/pylock.dev.toml"}, False),
        ({"python": "3.11"}, False),
    ],
)
def test_what_a_container_can_give_a_job_that_leaves_it_open(
    spec: dict[str, str | None], may: bool
) -> None:
    assert may_be_contained(JobSpec(**{"name": "x", **spec})) is may  # type: ignore[arg-type]
