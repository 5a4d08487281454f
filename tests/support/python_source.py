"""A source of interpreters for uv, on this machine: a list of downloads, and one that is there.

What it offers is the interpreter of the tests itself, in the layout that uv expects, under a
version that nothing else has: its `sitecustomize` says so.
"""

from __future__ import annotations

import io
import platform
import sys
import sysconfig
import tarfile
import threading
from pathlib import Path

from .http_peer import Exchange, Peer
from .processes import PATIENCE

OWN = platform.python_version()
MINOR = f"{sys.version_info[0]}.{sys.version_info[1]}"
VERSION = f"{MINOR}.99"
"""The version of what is offered."""
OTHER = f"{MINOR}.97"
"""The version of another one, which is the same."""

_LEFT_OUT = {"__pycache__", "dist-packages", "idlelib", "site-packages", "test", "tkinter"}
_LIST = "/downloads.json"


class PythonSource:
    """A list of downloads and what it leads to, at a peer.

    Args:
        peer: serves it.
        folder: for the archives.
    """

    def __init__(self, peer: Peer, folder: Path) -> None:
        self.variables = {"UV_PYTHON_DOWNLOADS_JSON_URL": peer.url + _LIST, "UV_HTTP_RETRIES": "0"}
        """What a machine sets to have uv look here."""
        self.fetched: list[str] = []
        """The versions that were asked for, each time."""
        self.fails = False
        """Whether what is listed is not there."""
        self.open = threading.Event()
        """Cleared, it holds every answer back."""
        self.open.set()
        self._peer = peer
        listed: dict[str, object] = {}
        for version in (VERSION, OTHER):
            archive = make_distribution(folder / f"cpython-{version}.tar.gz", version)
            self._offer(version, archive)
            listed |= _entry(version, f"{peer.url}/{archive.name}")
        peer.on(_LIST, lambda exchange: exchange.json(listed))

    def _offer(self, version: str, archive: Path) -> None:
        def answer(exchange: Exchange) -> None:
            self.fetched.append(version)
            self.open.wait(PATIENCE)
            if self.fails:
                exchange.reply(404)
            else:
                exchange.reply(body=archive.read_bytes(), kind="application/gzip")

        self._peer.on(f"/{archive.name}", answer)


def make_distribution(path: Path, version: str) -> Path:
    """An archive of this interpreter that says to be of another version."""
    program = f"python{MINOR}"
    library = f"python/lib/{program}"
    says = f"import sys\nsys.version = sys.version.replace({OWN!r}, {version!r}, 1)\n".encode()
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        archive.add(Path(sys.executable).resolve(), f"python/bin/{program}")
        for name in ("python", "python3"):
            link = tarfile.TarInfo(f"python/bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, program
            archive.addfile(link)
        for shared in Path(sys.base_prefix, "lib").glob("libpython*.so*"):
            archive.add(shared, f"python/lib/{shared.name}")
        archive.add(sysconfig.get_path("stdlib"), library, filter=_kept)
        info = tarfile.TarInfo(f"{library}/sitecustomize.py")
        info.size = len(says)
        archive.addfile(info, io.BytesIO(says))
    return path


def _kept(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    name = Path(info.name).name
    left_out = name in _LEFT_OUT or name == "sitecustomize.py" or name.startswith("config-")
    return None if left_out else info


def _entry(version: str, url: str) -> dict[str, object]:
    major, minor, patch = map(int, version.split("."))
    libc = "gnu" if platform.libc_ver()[0] else "musl"
    key = f"cpython-{version}-linux-{platform.machine()}-{libc}"
    return {
        key: {
            "name": "cpython",
            "arch": {"family": platform.machine(), "variant": None},
            "os": "linux",
            "libc": libc,
            "major": major,
            "minor": minor,
            "patch": patch,
            "prerelease": "",
            "url": url,
            "sha256": None,
            "variant": None,
            "build": "20240107",
        }
    }
