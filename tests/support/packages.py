"""Small Python packages made on the spot, so that tests install without a network."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

_BACKEND = """
import zipfile

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(f"{{folder}}/{{name}}", "w") as wheel:
        for path, text in {files!r}.items():
            wheel.writestr(path, text)
    return name
"""


def make_wheel(folder: Path, name: str, version: str = "1.0", *, script: str | None = None) -> Path:
    """A wheel of one module, whose `__version__` is the version; `script` is a command for it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for inner, text in _wheel_files(name, version, script).items():
            wheel.writestr(inner, text)
    return path


def make_sdist(folder: Path, name: str, version: str = "1.0") -> Path:
    """The source of such a package, with a build backend of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}.tar.gz"
    backend = _BACKEND.format(name=name, version=version, files=_wheel_files(name, version, None))
    project = (
        f'[project]\nname = "{name}"\nversion = "{version}"\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    files = {"pyproject.toml": project, "backend.py": backend, "PKG-INFO": metadata}
    with tarfile.open(path, "w:gz") as archive:
        for inner, text in files.items():
            info = tarfile.TarInfo(f"{name}-{version}/{inner}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def _wheel_files(name: str, version: str, script: str | None) -> dict[str, str]:
    info = f"{name}-{version}.dist-info"
    code = f"__version__ = {version!r}\n\ndef main():\n    print('{name}', __version__)\n"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": "",
    }
    if script:
        files[f"{info}/entry_points.txt"] = f"[console_scripts]\n{script} = {name}:main\n"
    return files
