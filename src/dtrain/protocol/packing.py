"""Making a bundle of a folder: the same content gives the same bytes, and so the same SHA-256."""

from __future__ import annotations

import heapq
import os
import re
import stat
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import msgspec

from .bundlepaths import Tree, check_path, fault, shown
from .errors import Refused
from .ignore import Patterns
from .zipcheck import DEFAULT_LIMITS, RATIO_FREE

NEVER_PACKED = frozenset({".git", "__pycache__", ".venv", "node_modules", ".DS_Store"})
"""Names that are left out wherever they stand, whatever an ignore file says."""
IGNORE_FILES = (".dtrainignore", ".gitignore")
"""The first that the folder has is followed, there and in the folders below."""

_LEVEL = 1
_PIECE = 1024**2
_LARGEST = 10
_ZIP64_FROM = 2_000_000_000
_DENSE = re.compile(
    r"\.(7z|aac|arrow|avi|avif|br|bz2|ckpt|feather|flac|gif|gz|heic|jpe?g|jxl|lz4|m4a|mkv|mov|mp3|mp4"
    r"|npz|ogg|onnx|parquet|png|pth?|rar|safetensors|tgz|web[mp]|whl|xz|zip|zst)",
    re.IGNORECASE,
)
"""Endings of files that deflating makes no smaller: compressed ones, and weights."""


class Skipped(msgspec.Struct, frozen=True):
    """Something in the folder that is not in the bundle."""

    path: str
    """A folder's ends with a slash; nothing in it is named apart."""
    why: str


class PackSummary(msgspec.Struct, frozen=True):
    """What went into a bundle."""

    files: int
    bytes: int
    """Of all files, before packing."""
    largest: list[tuple[str, int]]
    """The largest files and their sizes in bytes, largest first."""
    skipped: list[Skipped]


class _File(NamedTuple):
    path: str
    source: Path
    size: int
    executable: bool


def pack(folder: Path, into: BinaryIO, *, ignore: Iterable[str] = ()) -> PackSummary:
    """Write a folder as a bundle.

    What the folder's `.dtrainignore` (else its `.gitignore` files) names is left out, as are
    version control, caches, virtual environments, links that lead out of the folder or to folders,
    and what is not a file. A link to a file inside the folder becomes that file.

    Args:
        folder: The folder; its content becomes the top of the bundle.
        into: Where the ZIP goes; need not be seekable.
        ignore: More patterns, as in a `.gitignore`; they come after those of the files.

    Raises:
        Refused: a file cannot be read, or the folder is none.
        Invalid: nothing to pack, or a name that no bundle may hold.
        OSError: `into` cannot be written.
    """
    if not folder.is_dir():
        raise Refused(
            f"There is no folder {shown(str(folder))}; give the folder of the job's code."
        )
    scan = _Scan(folder.resolve(), Patterns(ignore))
    scan.read_folder("", ())
    if not scan.files:
        raise fault(
            f"The folder {shown(str(folder))} holds no file to pack; put the job's code into it,"
            " or ignore less.",
            "bundle_empty",
        )
    with zipfile.ZipFile(into, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for path in scan.empty:
            archive.writestr(_folder_entry(path), b"")
        sizes = [(file.path, _write(archive, file)) for file in scan.files]
    return PackSummary(
        files=len(sizes),
        bytes=sum(size for _, size in sizes),
        largest=heapq.nlargest(_LARGEST, sizes, key=lambda pair: pair[1]),
        skipped=scan.skipped,
    )


_Rules = tuple[tuple[str, Patterns], ...]
"""The ignore files that count in a folder, outermost first: the path of each one's folder, with a
slash at the end, and its patterns."""


class _Scan:
    """What of a folder goes into the bundle, found out before a byte is written."""

    def __init__(self, root: Path, extra: Patterns) -> None:
        self.files: list[_File] = []
        self.empty: list[str] = []
        """Folders of which nothing else is packed."""
        self.skipped: list[Skipped] = []
        self._root = root
        self._extra = extra
        found = (name for name in IGNORE_FILES if (root / name).is_file())
        self._ignore_file = next(found, IGNORE_FILES[-1])
        self._tree = Tree()

    def read_folder(self, path: str, rules: _Rules) -> None:
        """Take in a folder, given by its path with a slash at the end; the top's is empty."""
        here = self._root / path
        with _reading(path):
            items = sorted(os.scandir(here), key=lambda item: item.name)
            if any(item.name == self._ignore_file and item.is_file() for item in items):
                lines = (here / self._ignore_file).read_text("utf-8-sig", "replace").split("\n")
                rules = (*rules, (path, Patterns(lines)))
        before = len(self.files) + len(self.empty)
        for item in items:
            name = f"{path}{item.name}/" if item.is_dir(follow_symlinks=False) else path + item.name
            with _reading(name):
                why = self._why_left_out(item, name, rules)
            if why:
                self.skipped.append(Skipped(name, why))
            else:
                self._take(item, name, rules)
        if path and len(self.files) + len(self.empty) == before:
            self._tree.add_folder(path[:-1])
            self.empty.append(path)

    def _take(self, item: os.DirEntry[str], path: str, rules: _Rules) -> None:
        check_path(path.removesuffix("/"))
        if path.endswith("/"):
            self.read_folder(path, rules)
            return
        with _reading(path):
            status = item.stat()
        self._tree.add_file(path)
        executable = bool(status.st_mode & stat.S_IXUSR)
        self.files.append(_File(path, Path(item.path), status.st_size, executable))

    def _why_left_out(self, item: os.DirEntry[str], path: str, rules: _Rules) -> str | None:
        if item.name in NEVER_PACKED:
            return "never packed"
        if self._is_ignored(path, rules):
            return "ignored"
        if path.endswith("/"):
            is_environment = Path(item.path, "pyvenv.cfg").is_file()
            return "a virtual environment" if is_environment else None
        if item.is_symlink():
            return self._link_fault(Path(item.path))
        return None if item.is_file() else "not a regular file"

    def _is_ignored(self, path: str, rules: _Rules) -> bool:
        is_folder = path.endswith("/")
        for prefix, patterns in (("", self._extra), *reversed(rules)):
            below = path[len(prefix) :].removesuffix("/")
            verdict = patterns.verdict(below, folder=is_folder)
            if verdict is not None:
                return verdict
        return False

    def _link_fault(self, link: Path) -> str | None:
        try:
            target = link.resolve(strict=True)
        except (FileNotFoundError, NotADirectoryError, RuntimeError):
            return "a link to nothing"  # RuntimeError: a loop of links
        if not target.is_relative_to(self._root):
            return "a link that leads out of the folder"
        return None if target.is_file() else "a link to something else than a file"


@contextmanager
def _reading(path: str) -> Iterator[None]:
    """Turn a failure to read into the sentence about it."""
    try:
        yield
    except OSError as error:
        raise Refused(
            f"Cannot read {shown(path)}: {error.strerror}; make it readable, or name it in a"
            " .dtrainignore file.",
            code="unreadable",
        ) from error


def _write(archive: zipfile.ZipFile, file: _File) -> int:
    """Pack one file; the bytes that it had."""
    size = 0
    with _reading(file.path):
        source = file.source.open("rb")
    with source:
        stored = _DENSE.fullmatch(file.source.suffix) or _is_bomb(source, file)
        archive.compression = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
        wide = file.size > _ZIP64_FROM
        with archive.open(file.path, "w", force_zip64=wide) as target:
            for piece in _pieces(source, file):
                target.write(piece)
                size += len(piece)
    mode = stat.S_IFREG | (0o755 if file.executable else 0o644)
    archive.getinfo(file.path).external_attr = mode << 16
    return size


def _pieces(source: BinaryIO, file: _File) -> Iterator[bytes]:
    """The bytes of a file, no more than it had at first: it may grow meanwhile."""
    left = file.size
    while left:
        with _reading(file.path):
            piece = source.read(min(_PIECE, left))
        if not piece:
            return
        left -= len(piece)
        yield piece


def _is_bomb(source: BinaryIO, file: _File) -> bool:
    """Whether a file, zeros for instance, would deflate so well that a server took it for a bomb.

    Of a common file, a few hundredths are read before it is clear that it is none.
    """
    if file.size <= RATIO_FREE:
        return False
    deflater = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    packed = 0
    for piece in _pieces(source, file):
        packed += len(deflater.compress(piece))
        if packed * DEFAULT_LIMITS.ratio > file.size:
            break
    source.seek(0)
    return packed * DEFAULT_LIMITS.ratio <= file.size


def _folder_entry(path: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(path)
    entry.external_attr = (stat.S_IFDIR | 0o755) << 16
    return entry
