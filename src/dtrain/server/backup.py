"""Backups: all that a server must not lose, in a folder elsewhere, taken while it serves.

    <folder>/2026-11-24T03-00-00Z/          one backup; while it is made, its name ends in .partial
        dtrain.db  secrets.json  config.py      as they were at that moment
        backup.json                             what it is
    <folder>/blobs/ab/abcdef…               the files that any of the backups refers to, once each

Blobs never change, so that the database of one moment and blobs that are copied after it belong
together; nobody deletes one meanwhile (`BlobStore.kept`).
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import msgspec

from dtrain import __version__
from dtrain.protocol.errors import Conflict, Invalid, NotFound

from .blobs import BlobStore, batches, sync
from .data_lock import lock_data
from .kept_secrets import FILE as SECRETS
from .kept_secrets import known_secrets
from .settings import CONFIG, DATA, Settings, database_url, load, sqlite_file
from .store import copies

DATABASE = "dtrain.db"
MANIFEST = "backup.json"
_BLOBS = "blobs"
_PARTIAL = ".partial"
_NAME = re.compile(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\dZ")

Progress = Callable[[str, int, int], None]
"""Told what is being done, how much of it is done, and of how much."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What `backup.json` says of a backup."""

    version: str
    """Of DTrain."""
    made_at: datetime
    database_sha256: str
    blobs: int
    """Files that its database refers to."""
    missing: list[str]
    """Those of them that the server did not have, or not whole."""


class Backup(msgspec.Struct, frozen=True, kw_only=True):
    """A backup that is complete."""

    path: Path
    manifest: Manifest
    copied: int
    """Files that no earlier backup in the folder had."""


class Restored(msgspec.Struct, frozen=True, kw_only=True):
    """What has been restored."""

    path: Path
    """The backup that was taken."""
    manifest: Manifest
    missing: list[str]
    """Files that the backup did not have, or not whole."""
    keeps_config: bool
    """Whether the home folder had a `config.py` that differs from the backup's, and stays."""


def back_up(
    home: Path, folder: Path, *, keep: int | None, verify: bool, progress: Progress
) -> Backup:
    """Make a backup of the server that lives in a home folder, whether or not it runs.

    Args:
        home: of the server.
        folder: of backups; a new one, or one with earlier backups.
        keep: how many backups are left in the folder at the end; None for all of them.
        verify: whether files that the folder has already are read and compared with their hash.
        progress: told how far it is.

    Raises:
        Invalid: there is no server's data in the home folder, or other things are in the other.
        Conflict: another backup is being made in the folder.
        DTrainError: something cannot be read or written; no backup is made.
    """
    settings = _settings_of(home)
    with _only_one_in(folder):
        for path in folder.glob(f"*{_PARTIAL}"):
            shutil.rmtree(path)
        pool = BlobStore(folder / _BLOBS)
        pool.sweep(0)
        name = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}"
        if (folder / name).exists():
            raise Conflict(f"There is a backup {name} already; try again in a second.")
        unfinished = folder / f"{name}{_PARTIAL}"
        unfinished.mkdir(mode=0o700)
        manifest, copied = _fill(unfinished, settings, pool, verify=verify, progress=progress)
        path = unfinished.rename(folder / name)
        sync(folder)
        if keep is not None:
            _forget_old(folder, pool, keep)
    return Backup(path=path, manifest=manifest, copied=copied)


def restore(source: Path, home: Path, progress: Progress) -> Restored:
    """Put a backup into a home folder that has no data yet.

    Args:
        source: one backup, or a folder of backups, of which the newest is taken.
        home: of the server; made if it is not there. A `config.py` in it stays.
        progress: told how far it is.

    Raises:
        Invalid: there is no complete backup, or it is damaged.
        Conflict: the home folder has data, or a server uses it.
        DTrainError: something cannot be read or written; the same call goes on from there.
    """
    path = _choose(source)
    manifest = _read(path)
    keeps_config = _put_files(path, home)
    settings = load(home, secrets=known_secrets)
    place = settings.database_file or settings.database_url
    scratch = place.parent if isinstance(place, Path) else settings.data
    scratch.mkdir(parents=True, exist_ok=True)
    with ExitStack() as held:
        for lock in lock_data(settings):
            held.enter_context(lock)
        if isinstance(place, Path):
            # SQLite would take a journal that lies there for one of the restored database.
            for file in (place, *place.parent.glob(f"{place.name}-*")):
                if file.exists():
                    raise _occupied(file)
        pool = BlobStore(path.parent / _BLOBS)
        missing = []
        for done, (sha256, store) in enumerate(_references(path / DATABASE, settings), 1):
            if not store.has(sha256) and not _copy(sha256, pool, store):
                missing.append(sha256)
            progress("files", done, manifest.blobs)
        copies.restore_database(path / DATABASE, place, scratch, partial(progress, "database"))
        sync(scratch)
    return Restored(path=path, manifest=manifest, missing=missing, keeps_config=keeps_config)


def move_database(home: Path, url: str, progress: Progress) -> int:
    """Copy the database of a server that does not run to where another DATABASE_URL leads.

    Args:
        home: of the server.
        url: as in the setting; the database there must be empty.
        progress: told how far it is.

    Returns:
        How many rows there were.

    Raises:
        Invalid: there is no server's data in the folder, or the URL is none.
        Conflict: a server runs.
        DTrainError: a database cannot be used; nothing is stored in the other one.
    """
    settings = _settings_of(home)
    url = database_url(url, settings.home)
    with ExitStack() as held:
        for lock in lock_data(settings):
            held.enter_context(lock)
        return copies.move(
            settings.database_file or settings.database_url,
            sqlite_file(url) or url,
            partial(progress, "database"),
        )


def _settings_of(home: Path) -> Settings:
    """The settings of a server that has been started in a folder."""
    if not (home / DATA).is_dir():
        raise Invalid(f"There is no server's data in {home}; name the server's own folder.")
    settings = load(home, secrets=known_secrets)
    if settings.database_file is not None and not settings.database_file.is_file():
        raise Invalid(
            f"There is no database {settings.database_file}; name the server's own folder, with the"
            " settings in the environment that the server has."
        )
    return settings


@contextmanager
def _only_one_in(folder: Path) -> Iterator[None]:
    """A folder of backups, to the caller alone."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (folder / _BLOBS).is_dir() and any(folder.iterdir()):
        raise Invalid(f"{folder} has other things in it; name a new folder, or one of backups.")
    (folder / _BLOBS).mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"Another backup is being made in {folder}; wait for it.") from None
        yield


def _fill(
    folder: Path, settings: Settings, pool: BlobStore, *, verify: bool, progress: Progress
) -> tuple[Manifest, int]:
    """Make the backup in its folder; what it is, and how many blobs were copied."""
    bundles, blobs = _stores(settings)
    database = folder / DATABASE
    copied = 0
    missing = []
    with bundles.kept(), blobs.kept():
        copies.copy_database(
            settings.database_file or settings.database_url, database, partial(progress, "database")
        )
        for source in (settings.home / CONFIG, settings.data / SECRETS):
            if source.exists():
                _put(source, folder / source.name)
        total = copies.count_blobs(database)
        for done, (sha256, store) in enumerate(_references(database, settings), 1):
            if not pool.has(sha256) or (verify and not pool.is_whole(sha256)):
                if _copy(sha256, store, pool):
                    copied += 1
                else:
                    missing.append(sha256)
            progress("files", done, total)
    manifest = Manifest(
        version=__version__,
        made_at=datetime.now(UTC),
        database_sha256=_sha256(database),
        blobs=total,
        missing=missing,
    )
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=4))
    for file in folder.iterdir():
        sync(file)
    sync(folder)
    return manifest, copied


def _forget_old(folder: Path, pool: BlobStore, keep: int) -> None:
    """Delete all backups but the newest, and the blobs to which none of those refers."""
    found = _backups(folder)
    for old in found[:-keep]:
        shutil.rmtree(old.rename(old.with_name(f"{old.name}{_PARTIAL}")))
    if len(found) <= keep:
        return
    for batch in batches(pool.aged(0)):
        unneeded = set(batch)
        for kept in found[-keep:]:
            unneeded -= copies.needed(kept / DATABASE, unneeded)
        for sha256 in unneeded:
            pool.delete(sha256, 0)


def _backups(folder: Path) -> list[Path]:
    """The complete backups in a folder, the oldest first."""
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def _choose(source: Path) -> Path:
    """One backup, or the newest one of a folder of them."""
    if (source / MANIFEST).is_file() and not source.name.endswith(_PARTIAL):
        return source
    found = _backups(source) if source.is_dir() else []
    if not found:
        raise Invalid(
            f"There is no complete backup in {source}; name a folder that dtrain backup has filled,"
            " or one of the backups in it."
        )
    return found[-1]


def _read(path: Path) -> Manifest:
    """What a backup is, once its database is known to be whole."""
    try:
        manifest = msgspec.json.decode((path / MANIFEST).read_bytes(), type=Manifest)
        whole = _sha256(path / DATABASE) == manifest.database_sha256
    except (OSError, msgspec.MsgspecError):
        whole = False
    if not whole:
        raise Invalid(f"The backup {path} is damaged; restore another one.")
    return manifest


def _put_files(path: Path, home: Path) -> bool:
    """Put settings and secrets into a home; whether it has other settings already, which stay."""
    data = home / DATA
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    secrets, kept = data / SECRETS, path / SECRETS
    if secrets.exists() and not (kept.exists() and secrets.read_bytes() == kept.read_bytes()):
        raise _occupied(secrets)
    config, saved = home / CONFIG, path / CONFIG
    keeps = config.exists() and saved.exists() and config.read_bytes() != saved.read_bytes()
    for source, target in ((kept, secrets), (saved, config)):
        if source.exists() and not target.exists():
            _put(source, target)
    return keeps


def _occupied(path: Path) -> Conflict:
    return Conflict(
        f"{path} is there already; restore into a folder without data, or move it away."
    )


def _references(database: Path, settings: Settings) -> Iterator[tuple[str, BlobStore]]:
    """The blobs to which a copied database refers, each with the store of the server for it."""
    bundles, blobs = _stores(settings)
    with copies.database_of(database) as connection:
        for sha256 in copies.bundle_hashes(connection):
            yield sha256, bundles
        for sha256 in copies.blob_hashes(connection):
            yield sha256, blobs


def _stores(settings: Settings) -> tuple[BlobStore, BlobStore]:
    return BlobStore(settings.job_bundles_folder), BlobStore(settings.upload_folder)


def _copy(sha256: str, source: BlobStore, target: BlobStore) -> bool:
    """Copy a blob; false if the source does not have it whole."""
    try:
        with source.path(sha256).open("rb") as stream:
            target.receive(stream, limit=None, expected_sha256=sha256)
    except (NotFound, Invalid):
        return False
    return True


def _put(source: Path, target: Path) -> None:
    """Copy a file that only its owner may read."""
    with open(os.open(target, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(source.read_bytes())
        file.flush()
        os.fsync(file.fileno())


def _sha256(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
