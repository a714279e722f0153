"""The folder of one run: made once, never shared, written relative to its descriptor so that no link misleads it.

Small files cost an open, a write and a close. Nothing is synced where it is written: a checkpoint syncs all that
grew since the last one, and only then names it, so that no event promises bytes that are not on disk.
"""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

import msgspec

from ..errors import EvidenceError, EvidenceWriteFailed
from ..lease import Owner, this_process
from .files import AppendFile, FileFacts, Tree, checked, read_whole, write_whole

LOCK = "lock"
RESERVE_BYTES = 1024 * 1024  # room for the last events of a run whose disk is full
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL
_READ = os.O_RDONLY | os.O_NONBLOCK
_FEW = 16
"""Up to so many files each is synced by itself, which waits for nobody else's data."""
_libc = ctypes.CDLL(None, use_errno=True)
_GONE = (FileNotFoundError, NotADirectoryError)


class RunFolder:
    """One run's evidence on disk. Every failure to write is an `EvidenceWriteFailed`.

    One caller writes (the recorder) and each stream has one writer of its own; `checkpoint_files` may run in
    another thread meanwhile.
    """

    def __init__(self, path: Path, tree: Tree) -> None:
        self.path, self.run_id = path, path.name
        self._tree = tree
        self._lock_fd: int | None = None
        self._reserve_fd: int | None = None
        self._registry = threading.Lock()
        self._new: dict[str, FileFacts] = {}
        self._grown: dict[str, AppendFile] = {}
        self._changed_folders: set[str] = set()
        self._temporary = 0

    @classmethod
    def create(cls, place: Path, run_id: str) -> Self:
        """Make `place/run_id` for this process alone: mode 0700, locked, with room kept for a last word.

        An existing folder of that name is never taken over: that is an `EvidenceWriteFailed` too.
        """
        checked(run_id)
        path = place.absolute() / run_id
        with _Writing(str(path)):
            place.mkdir(parents=True, exist_ok=True)
            os.mkdir(path, 0o700)
            folder = cls.open_existing(path)
        try:
            folder._prepare()
        except EvidenceWriteFailed:
            folder.close()
            raise
        return folder

    @classmethod
    def open_existing(cls, path: Path) -> Self:
        """The folder of an earlier run, unlocked; OSError if it is missing, or a link."""
        path = path.absolute()
        return cls(path, Tree(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)))

    def _prepare(self) -> None:
        if _inside_git(self.path):
            self._write_plain(".gitignore", b"*\n")
        with _Writing(LOCK):
            self._lock_fd = self._born_locked(msgspec.json.encode(this_process()))
            self._reserve_fd = self.nameless()
            os.posix_fallocate(self._reserve_fd, 0, RESERVE_BYTES)

    def _born_locked(self, owner: bytes) -> int:
        """The lock, under its name only once it is held and says by whom: nobody meets it half made."""
        making = f"{LOCK}.new"
        fd = self._tree.open(making, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write_whole(fd, owner)
            os.rename(making, LOCK, src_dir_fd=self._tree.fd, dst_dir_fd=self._tree.fd)
        except OSError:
            os.close(fd)
            raise
        return fd

    def try_lock(self) -> bool:
        """Take the run's lock without waiting; False if a process holds it, or the run has ended and has none."""
        try:
            fd = self._tree.open(LOCK, os.O_RDWR)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        self._lock_fd = fd
        return True

    def lock_owner(self) -> Owner | None:
        """Who made the lock: None without a lock; an unreadable one is an `EvidenceError`."""
        try:
            return msgspec.json.decode(self.read(LOCK), type=Owner)
        except FileNotFoundError:
            return None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EvidenceError(f"{self.path / LOCK}: {error}") from error

    def read(self, rel: str) -> bytes:
        fd = self._tree.open(rel, _READ)
        try:
            return read_whole(fd)
        finally:
            os.close(fd)

    def has(self, rel: str) -> bool:
        with self._tree.lock:
            parent, name = self._tree.parent(rel)
            try:
                os.stat(name, dir_fd=parent, follow_symlinks=False)
            except FileNotFoundError:
                return False
        return True

    def open(self, rel: str, flags: int) -> int:
        """A bare descriptor, for the one who repairs; the caller closes it."""
        return self._tree.open(rel, flags)

    def makedirs(self, rel: str) -> None:
        """Make a folder and those above it. Making it again is fine; a link in the way is not."""
        with _Writing(rel):
            self._note_folders(*self._tree.makedirs(rel))

    def write_new(self, rel: str, data: bytes) -> FileFacts:
        """Create a file that is never edited; it is on disk after the next checkpoint."""
        self._write_plain(rel, data)
        facts = FileFacts(len(data), hashlib.sha256(data).hexdigest())
        with self._registry:
            self._new[rel] = facts
        self._note_folders(_folder_of(rel))
        return facts

    def replace(self, rel: str, data: bytes) -> None:
        """Put `data` in place of what was there: whoever reads, whenever, sees all of the one or of the other."""
        self._temporary += 1
        temporary = f"{rel}.{self._temporary}.new"
        self._write_plain(temporary, data, sync=True)
        with _Writing(rel), self._tree.lock:
            parent, name = self._tree.parent(rel)
            os.replace(f"{name}.{self._temporary}.new", name, src_dir_fd=parent, dst_dir_fd=parent)
            os.fsync(parent)

    def append_file(self, rel: str, *, listed: bool = True) -> AppendFile:
        """A new file that will grow. Checkpoints name what it grew to, unless `listed` is false."""
        with _Writing(rel):
            fd = self._tree.open(rel, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL)
        self._note_folders(_folder_of(rel))
        file = AppendFile(fd, rel, self._note_growth if listed else None)
        if listed:
            self._note_growth(file)
        return file

    def link(self, existing: str, alias: str) -> None:
        """A second name for a file, taking the place of an earlier alias."""
        with _Writing(alias), self._tree.lock:
            source, source_name = self._tree.parent(existing)
            target, target_name = self._tree.parent(alias)
            try:
                os.link(source_name, target_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            except FileExistsError:
                _relink(source, source_name, target, target_name)
        self._note_folders(_folder_of(alias))

    def unlink(self, rel: str) -> None:
        with _Writing(rel), self._tree.lock:
            parent, name = self._tree.parent(rel)
            os.unlink(name, dir_fd=parent)

    def nameless(self) -> int:
        """A file of this file system without a name: it is gone with its descriptor, however we end."""
        with suppress(OSError):  # some file systems have none: then a name for a moment
            return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=self._tree.fd)
        self._temporary += 1
        name = f".nameless.{os.getpid()}.{threading.get_ident()}.{self._temporary}"
        with _Writing(name):
            fd = self._tree.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            os.unlink(name, dir_fd=self._tree.fd)
        return fd

    def _write_plain(self, rel: str, data: bytes, *, sync: bool = False) -> None:
        with _Writing(rel):
            fd = self._tree.open(rel, _NEW)
            try:
                write_whole(fd, data)
                if sync:
                    os.fsync(fd)
            except OSError:
                self._remove_partial(rel)
                raise
            finally:
                os.close(fd)

    def _remove_partial(self, rel: str) -> None:
        with suppress(OSError), self._tree.lock:  # the failed write is what gets told
            parent, name = self._tree.parent(rel)
            os.unlink(name, dir_fd=parent)

    def checkpoint_files(self) -> dict[str, FileFacts]:
        """Sync what was made or grew since the last call, then name it: path -> bytes and digest of that prefix.

        A file that somebody removed is named all the same: the record says what was there.
        """
        with self._registry:
            new, self._new = self._new, {}
            grown, self._grown = self._grown, {}
            folders, self._changed_folders = self._changed_folders, set()
        facts = {**new, **{rel: file.facts() for rel, file in grown.items()}}
        if len(facts) > _FEW:
            self._sync_everything()
        else:
            self._sync_each(new, grown, folders)
        return dict(sorted(facts.items()))

    def _sync_everything(self) -> None:
        """One call for the whole file system: with many small files it costs a fortieth of a call for each."""
        with _Writing(str(self.path)):
            if _libc.syncfs(self._tree.fd) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))

    def _sync_each(self, new: Iterable[str], grown: Mapping[str, AppendFile], folders: Iterable[str]) -> None:
        for rel, file in grown.items():
            if file.closed:
                self._sync(rel, _READ)
            else:
                file.sync()
        for rel in new:
            self._sync(rel, _READ)
        for rel in folders:
            self._sync(rel, os.O_DIRECTORY)

    def _sync(self, rel: str, flags: int) -> None:
        with _Writing(rel), suppress(*_GONE):
            fd = self._tree.open(rel, os.O_RDONLY | flags) if rel else os.dup(self._tree.fd)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def _note_growth(self, file: AppendFile) -> None:
        if file.rel not in self._grown:
            with self._registry:
                self._grown[file.rel] = file

    def _note_folders(self, *folders: str) -> None:
        if not self._changed_folders.issuperset(folders):
            with self._registry:
                self._changed_folders.update(folders)

    def release_reserve(self) -> None:
        """Give the kept room back to a full disk, so that the record can say why it ends."""
        fd, self._reserve_fd = self._reserve_fd, None
        if fd is not None:
            os.close(fd)

    def close(self) -> None:
        """Give up reserve, lock and descriptors. The lock's file goes with it, for the run has ended by itself."""
        self.release_reserve()
        self._unlock()
        self._tree.close()

    def abandon(self) -> None:
        """Close the descriptors and leave the rest as it lies, lock file included."""
        self.release_reserve()
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None
        self._tree.close()

    def _unlock(self) -> None:
        fd, self._lock_fd = self._lock_fd, None
        if fd is None:
            return
        with suppress(FileNotFoundError):
            os.unlink(LOCK, dir_fd=self._tree.fd)
        os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()


class _Writing:
    """Turns what the disk says into an `EvidenceWriteFailed`. A class: this is on the way of every small file."""

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, OSError):
            raise EvidenceWriteFailed(self._path, error) from error


def _relink(source: int, source_name: str, target: int, target_name: str) -> None:
    temporary = f"{target_name}.link"
    os.link(source_name, temporary, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    os.replace(temporary, target_name, src_dir_fd=target, dst_dir_fd=target)
    with suppress(
        FileNotFoundError
    ):  # renaming onto another name of the same file does nothing, and leaves it
        os.unlink(temporary, dir_fd=target)


def _inside_git(path: Path) -> bool:
    return any(os.path.lexists(folder / ".git") for folder in path.resolve().parents)


def _folder_of(rel: str) -> str:
    return rel.rpartition("/")[0]
