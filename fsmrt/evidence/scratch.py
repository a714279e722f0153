"""Scratch folders: what a stage may write, and how a later change of it shows."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator

import msgspec

from .folder import RunFolder
from .redaction import Redactor

_SCAN_LIMIT = 16 << 20
"""Larger files are listed with their size; reading them all would cost more than it proves."""

_ENTRY_LIMIT = 20_000


class SealedFile(msgspec.Struct, frozen=True):
    """One entry of a scratch folder when its stage ended."""

    path: str
    type: str
    size: int
    sha256: str | None = None


class Seal(msgspec.Struct, frozen=True):
    """What a scratch folder held when its stage ended, and which files hold secrets."""

    files: tuple[SealedFile, ...]
    secret_in_scratch: tuple[str, ...] = ()
    complete: bool = True


class ScratchKeeper:
    """Makes scratch folders below the run folder and seals them."""

    def __init__(self, folder: RunFolder, redactor: Redactor) -> None:
        self._folder = folder
        self._redactor = redactor

    def open(self, relative: str) -> None:
        """Make the folder; the stages of a deployment share one."""
        self._folder.makedirs(relative)

    def is_empty(self, relative: str) -> bool:
        """One cheap look, so that the usual empty folder needs no worker thread."""
        try:
            with os.scandir(self._folder.path / relative) as entries:
                return next(entries, None) is None
        except OSError:
            return True

    def seal(self, relative: str) -> Seal:
        """Names, sizes and digests of everything in the folder; links are listed and never followed."""
        root = str(self._folder.path / relative)
        files, leaking = [], []
        for path in _entries(root):
            entry, leaks = self._look(root, path)
            files.append(entry)
            if leaks:
                leaking.append(entry.path)
            if len(files) >= _ENTRY_LIMIT:
                break
        return Seal(tuple(files), tuple(leaking), complete=len(files) < _ENTRY_LIMIT)

    def _look(self, root: str, path: str) -> tuple[SealedFile, bool]:
        facts = os.lstat(path)
        name = os.fsencode(os.path.relpath(path, root)).decode(errors="backslashreplace")
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > _SCAN_LIMIT:
            return SealedFile(name, _type(facts.st_mode), facts.st_size), False
        content = _read_unfollowed(path)
        if content is None:
            return SealedFile(name, "unreadable", facts.st_size), False
        digest = hashlib.sha256(content).hexdigest()
        return SealedFile(name, "file", len(content), digest), self._redactor.bytes(content) != content


def _entries(root: str) -> Iterator[str]:
    for folder, folders, files in os.walk(root, followlinks=False):
        folders.sort()
        for name in sorted(files + [name for name in folders if os.path.islink(os.path.join(folder, name))]):
            yield os.path.join(folder, name)


def _type(mode: int) -> str:
    return "file" if stat.S_ISREG(mode) else "link" if stat.S_ISLNK(mode) else "special"


def _read_unfollowed(path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_SCAN_LIMIT)
