"""Small Python packages made on the spot, so that tests install without a network."""

from __future__ import annotations

import io
import tarfile
import zipfile
from pathlib import Path

from dtrain.protocol.bundle import sha256_of

from .http_peer import Answer, Exchange, Peer

_BACKEND = """
import zipfile
{code}

def build_wheel(folder, config_settings=None, metadata_directory=None):
    name = "{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(f"{{folder}}/{{name}}", "w") as wheel:
        for path, text in {files!r}.items():
            wheel.writestr(path, text)
    return name
"""


def make_wheel(
    folder: Path,
    name: str,
    version: str = "1.0",
    *,
    script: str | None = None,
    at_start: str | None = None,
) -> Path:
    """A wheel of one module, whose `__version__` is the version.

    Args:
        folder: where it goes.
        name: of the module as well.
        version: of it.
        script: a command for it.
        at_start: code that every Python runs at its start where this is installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for inner, text in _wheel_files(name, version, script).items():
            wheel.writestr(inner, text)
        if at_start:
            wheel.writestr(f"{name}.pth", f"import builtins; exec({at_start!r})\n")
    return path


def make_sdist(folder: Path, name: str, version: str = "1.0", *, code: str = "") -> Path:
    """The source of such a package, with a build backend of its own, which runs some code."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}.tar.gz"
    backend = _BACKEND.format(
        name=name, version=version, files=_wheel_files(name, version, None), code=code
    )
    project = (
        f'[project]\nname = "{name}"\nversion = "{version}"\n'
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    metadata = f"Metadata-Version: 2.2\nName: {name}\nVersion: {version}\n"
    files = {"pyproject.toml": project, "backend.py": backend, "PKG-INFO": metadata}
    with tarfile.open(path, "w:gz") as archive:
        for inner, text in files.items():
            info = tarfile.TarInfo(f"{name}-{version}/{inner}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return path


def source_of(sdist: Path, folder: str) -> dict[str, str | bytes]:
    """The files of a source package, in a folder."""
    with tarfile.open(sdist) as archive:
        members = {member.name.partition("/")[2]: member for member in archive.getmembers()}
        found = {name: archive.extractfile(member) for name, member in members.items()}
        return {f"{folder}/{name}": file.read() for name, file in found.items() if file}


def serve_index(peer: Peer, path: str, *files: Path) -> str:
    """Have a peer serve an index of packages; its address."""
    for name in {file.name.split("-")[0] for file in files}:
        of_it = [file for file in files if file.name.split("-")[0] == name]
        lines = [
            f'<a href="{path}/{file.name}#sha256={sha256_of(file)}">{file.name}</a>'
            for file in of_it
        ]
        page = "<!DOCTYPE html><html><body>" + "\n".join(lines) + "</body></html>"
        peer.on(f"{path}/{name}/", _page(page.encode(), "text/html"))
        for file in of_it:
            peer.on(f"{path}/{file.name}", _page(file.read_bytes(), "application/zip"))
    return peer.url + path


def _page(body: bytes, kind: str) -> Answer:
    def answer(exchange: Exchange) -> None:
        exchange.begin(kind=kind, Content_Length=str(len(body)))
        if exchange.command != "HEAD":
            exchange.wfile.write(body)

    return answer


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
