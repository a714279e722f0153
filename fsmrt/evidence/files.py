"""Files under one folder that nobody can redirect: every step is opened relative to a descriptor, never by link."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from contextlib import suppress

import msgspec

from ..errors import EvidenceWriteFailed

NO_FOLLOW = os.O_NOFOLLOW | os.O_CLOEXEC
_KEPT_DIRECTORIES = 8  # descriptors a run may hold only to save lookups; a thousand runs share one process


class FileFacts(msgspec.Struct, frozen=True):
    """A file as far as it was written at that moment."""

    bytes: int
    sha256: str


class Tree:
    """The folder behind one directory descriptor. Errors are plain OSErrors; the path is never resolved again.

    Hold `lock` from asking for a folder's descriptor to using it: another thread's lookup may close it.
    """

    def __init__(self, fd: int) -> None:
        self.fd, self.lock = fd, threading.RLock()
        self._kept: dict[str, int] = {}

    def open(self, rel: str, flags: int) -> int:
        """A descriptor of `rel`, mode 0600 if created; a link anywhere on the way is an error (ELOOP, ENOTDIR)."""
        with self.lock:
            parent, name = self.parent(rel)
            return os.open(name, flags | NO_FOLLOW, 0o600, dir_fd=parent)

    def parent(self, rel: str) -> tuple[int, str]:
        """The descriptor of the folder that holds `rel`, and the last name. It stays this tree's to close."""
        folder, _, name = checked(rel).rpartition("/")
        return self.folder(folder), name

    def folder(self, rel: str) -> int:
        if not rel:
            return self.fd
        if (fd := self._kept.get(rel)) is None:
            above, _, name = rel.rpartition("/")
            fd = os.open(name, os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW, dir_fd=self.folder(above))
            self._keep(rel, fd)
        return fd

    def makedirs(self, rel: str) -> list[str]:
        """Make `rel` and what is missing above it, mode 0700; returns the folders that gained an entry."""
        changed: list[str] = []
        so_far = ""
        with self.lock:
            for name in checked(rel).split("/"):
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=self.folder(so_far))
                    changed.append(so_far)
                so_far = f"{so_far}/{name}" if so_far else name
            self.folder(so_far)
        return changed

    def close(self) -> None:
        for fd in (*self._kept.values(), self.fd):
            os.close(fd)
        self._kept.clear()

    def _keep(self, rel: str, fd: int) -> None:
        if len(self._kept) >= _KEPT_DIRECTORIES:
            os.close(self._kept.pop(next(iter(self._kept))))
        self._kept[rel] = fd


def checked(rel: str) -> str:
    """`rel` itself, if it stays below its folder; a path that could leave it is our bug, a ValueError."""
    if not rel or "\0" in rel or any(part in ("", ".", "..") for part in rel.split("/")):
        raise ValueError(f"not a path inside the run folder: {rel!r}")
    return rel


class AppendFile:
    """A file that only grows. A write is all or nothing, and the digest of all that was written is at hand.

    One thread writes; another may ask for `facts` or `sync` meanwhile, and gets a whole number of writes.
    """

    def __init__(self, fd: int, rel: str, on_growth: Callable[[AppendFile], None] | None = None) -> None:
        self.rel, self._fd, self._on_growth = rel, fd, on_growth
        self._size, self._hash, self._lock = 0, hashlib.sha256(), threading.Lock()

    @property
    def size(self) -> int:
        return self._size

    def write(self, data: bytes) -> None:
        """Append all of `data`; `EvidenceWriteFailed` leaves the file as it was before."""
        with self._lock:
            try:
                write_whole(self._fd, data)
            except OSError as error:
                with suppress(OSError):  # the write's own error is the one to tell
                    os.ftruncate(self._fd, self._size)
                raise EvidenceWriteFailed(self.rel, error) from error
            self._size += len(data)
            self._hash.update(data)
        if self._on_growth is not None:
            self._on_growth(self)

    def facts(self) -> FileFacts:
        with self._lock:
            size, digest = self._size, self._hash.copy()
        return FileFacts(size, digest.hexdigest())

    def read(self, size: int, offset: int) -> bytes:
        return os.pread(self._fd, size, offset)

    def sync(self) -> None:
        """Bring all that was written to disk; harmless on a closed file, whose folder syncs it by name."""
        with self._lock:
            fd = os.dup(self._fd) if self._fd >= 0 else -1
        if fd >= 0:
            try:
                os.fsync(fd)
            except OSError as error:
                raise EvidenceWriteFailed(self.rel, error) from error
            finally:
                os.close(fd)

    @property
    def closed(self) -> bool:
        return self._fd < 0

    def close(self) -> None:
        with self._lock:
            fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)


def write_whole(fd: int, data: bytes) -> None:
    """Write until nothing is left: a disk that fills up mid-way first answers with a short count."""
    written = os.write(fd, data)
    while written < len(data):
        written += os.write(fd, data[written:])


def read_whole(fd: int) -> bytes:
    size = os.fstat(fd).st_size
    with open(fd, "rb", closefd=False) as file:
        return file.read(size + 1)
