"""Scratch folders: what a stage may write, and how a later change of it shows."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Iterator

import msgspec

from .files import NO_FOLLOW
from .folder import RunFolder
from .redaction import Redactor

_SCAN_LIMIT = 16 << 20
"""Larger files are listed with their size; reading them all would cost more than it proves."""

_ENTRY_LIMIT = 20_000
_SECONDS = 30.0
"""Nobody can make a run wait by filling its scratch; what was not reached is not said to be sealed."""


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
            top = self._open(relative)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            with os.scandir(top) as entries:
                return next(entries, None) is None
        finally:
            os.close(top)

    def seal(self, relative: str, *, seconds: float = _SECONDS) -> Seal:
        """Names, sizes and digests of everything in the folder; links are listed and never followed.

        What something else was put in the place of is sealed as that. Nothing here takes longer than `seconds`.
        """
        try:
            top = self._open(relative)
        except OSError:
            return Seal((SealedFile(".", self._in_place_of(relative), 0),), complete=False)
        try:
            return self._sealed(top, time.monotonic() + seconds)
        finally:
            os.close(top)

    def _open(self, relative: str) -> int:
        return self._folder.open(relative, os.O_RDONLY | os.O_DIRECTORY)

    def _in_place_of(self, relative: str) -> str:
        try:
            return _type(os.lstat(self._folder.path / relative).st_mode)
        except OSError:
            return "missing"

    def _sealed(self, top: int, deadline: float) -> Seal:
        files: list[SealedFile] = []
        leaking: list[str] = []
        for path, is_folder in _entries(top):
            if len(files) >= _ENTRY_LIMIT or time.monotonic() > deadline:
                return Seal(tuple(files), tuple(leaking), complete=False)
            if is_folder:
                continue
            entry, leaks = self._look(top, path)
            files.append(entry)
            if leaks:
                leaking.append(entry.path)
        return Seal(tuple(files), tuple(leaking))

    def _look(self, top: int, path: str) -> tuple[SealedFile, bool]:
        name = os.fsencode(path).decode(errors="backslashreplace")
        try:
            facts = os.lstat(path, dir_fd=top)
        except FileNotFoundError:  # a service may take its own files away while we look
            return SealedFile(name, "missing", 0), False
        except OSError:
            return SealedFile(name, "unreadable", 0), False
        if not stat.S_ISREG(facts.st_mode) or facts.st_size > _SCAN_LIMIT:
            return SealedFile(name, _type(facts.st_mode), facts.st_size), False
        content = _read_unfollowed(top, path)
        if content is None:
            return SealedFile(name, "unreadable", facts.st_size), False
        digest = hashlib.sha256(content).hexdigest()
        return SealedFile(name, "file", len(content), digest), self._redactor.bytes(content) != content


def _entries(top: int) -> Iterator[tuple[str, bool]]:
    """Everything below a folder, and whether it is one that is looked into: by name, folders after files.

    A folder that cannot be listed is told again, as something that is not looked into.
    """
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        below = []
        try:
            listed = _listed(top, folder or ".")
        except OSError:
            yield folder, False
            continue
        for name, is_folder in listed:
            path = f"{folder}/{name}" if folder else name
            yield path, is_folder
            if is_folder:
                below.append(path)
        waiting += reversed(below)


def _listed(top: int, folder: str) -> list[tuple[str, bool]]:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | NO_FOLLOW, dir_fd=top)
    try:
        with os.scandir(descriptor) as entries:
            return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
    finally:
        os.close(descriptor)


def _type(mode: int) -> str:
    return "file" if stat.S_ISREG(mode) else "link" if stat.S_ISLNK(mode) else "special"


def _read_unfollowed(top: int, path: str) -> bytes | None:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | NO_FOLLOW, dir_fd=top)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        return file.read(_SCAN_LIMIT)
