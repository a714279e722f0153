"""The filesystem layer: the tree before and after, and what differs. Links are recorded, never followed."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from fnmatch import translate
from pathlib import Path
from typing import Literal

import msgspec

from .files import NO_FOLLOW

MAX_ENTRIES = 200_000
MAX_SECONDS = 30.0
MAX_DIGEST = 16 * 1024 * 1024
EXCLUDES = (".git/objects",)  # not `.git/hooks` and not `.git/config`: what is written there gets executed

EntryType = Literal["file", "dir", "link", "fifo", "socket", "device"]
Op = Literal["created", "modified", "deleted", "type_changed", "mode_changed", "renamed"]
SecretsCheck = Callable[[str, bytes], bytes | None]
"""`(path, content)` -> the key for the digest of a file that may hold a secret; None for a plain one."""

_CHUNK = 1024 * 1024
_TYPES: dict[int, EntryType] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "link",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
}
_CREDENTIAL_GLOBS = (
    "*.pem", "*.key", "*.p12", "*.pfx", "*.jks", "*.kdbx", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*",
    ".env", ".env.*", "*.env", ".netrc", ".npmrc", ".pypirc", ".pgpass", ".git-credentials", ".htpasswd",
    "credentials", "credentials.*", "*secret*", "*token*", "*password*", "kubeconfig", ".dockerconfigjson",
)  # fmt: skip
_CREDENTIAL_NAME = re.compile("|".join(translate(glob) for glob in _CREDENTIAL_GLOBS), re.IGNORECASE)


class Entry(msgspec.Struct, frozen=True, gc=False):
    type: EntryType
    mode: int
    size: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: int
    target: str | None = None
    sha256: str | None = None
    """Of a regular file of up to 16 MiB that could be read; `hmac:` and a keyed digest where it may be a secret."""

    @property
    def stamp(self) -> tuple[int, int, int, int, int]:
        """Equal while the content is. Nobody can set a ctime, so a restored mtime does not hide a change."""
        return (self.size, self.mtime_ns, self.ctime_ns, self.inode, self.device)


class Snapshot(msgspec.Struct, frozen=True):
    entries: dict[str, Entry]
    """By path relative to the root; bytes that are no UTF-8 are surrogate escapes."""
    excludes: tuple[str, ...]
    undigested: int = 0
    """Files whose content was not looked at, for being too large."""
    errors: int = 0
    """Entries that could not be read."""
    complete: bool = True
    """False when the tree was too large or took too long."""

    @property
    def blind_spots(self) -> tuple[str, ...]:
        spots = [f"excluded:{glob}" for glob in self.excludes] + ["transient_files"]
        return tuple(spots + ["large_file_digest"] * bool(self.undigested))

    @property
    def reason(self) -> Literal["scan_limit", "scan_error"] | None:
        """The health reason of a layer that has no better snapshot than this one."""
        if not self.complete:
            return "scan_limit"
        return "scan_error" if self.errors else None


class Side(msgspec.Struct, frozen=True):
    size: int
    mode: int
    sha256: str | None
    target: str | None = None


class Change(msgspec.Struct, frozen=True, kw_only=True):
    op: Op
    path: str
    old_path: str | None = None
    type: EntryType
    before: Side | None = None
    after: Side | None = None


def may_be_credential(path: str) -> bool:
    """Whether a file's name says that it holds a secret."""
    return _CREDENTIAL_NAME.match(path.rpartition("/")[2]) is not None


def snapshot(
    root: Path,
    *,
    excludes: Sequence[str] = EXCLUDES,
    previous: Snapshot | None = None,
    secrets_check: SecretsCheck | None = None,
    max_entries: int = MAX_ENTRIES,
    max_seconds: float = MAX_SECONDS,
) -> Snapshot:
    """Everything under `root` but the excluded paths and what is below them.

    Digests of `previous` are taken over where nothing can have changed. A limit that is reached, or an entry that
    cannot be read, is said in the snapshot, not raised; a `root` that cannot be opened is an OSError.
    """
    scan = _Scan(root, tuple(excludes), previous, secrets_check, max_entries, time.monotonic() + max_seconds)
    return scan.run()


class _Scan:
    def __init__(
        self,
        root: Path,
        excludes: tuple[str, ...],
        previous: Snapshot | None,
        secrets_check: SecretsCheck | None,
        max_entries: int,
        deadline: float,
    ) -> None:
        self._root, self._excludes, self._check = os.fspath(root), excludes, secrets_check
        self._known = previous.entries if previous is not None else {}
        self._max_entries, self._deadline = max_entries, deadline
        self._skip = frozenset(glob.strip("/") for glob in excludes)
        self._entries: dict[str, Entry] = {}
        self._undigested = self._errors = 0

    def run(self) -> Snapshot:
        complete = self._walk()
        return Snapshot(self._entries, self._excludes, self._undigested, self._errors, complete)

    def _walk(self) -> bool:
        waiting = [("", list(self._list("", must=True)))]
        while waiting:
            prefix, found = waiting.pop()
            for item in found:
                path = prefix + item.name
                if path in self._skip:
                    continue
                if len(self._entries) >= self._max_entries or time.monotonic() > self._deadline:
                    return False
                if self._take(path, item):
                    waiting.append((path + "/", list(self._list(path))))
        return True

    def _list(self, path: str, *, must: bool = False) -> Iterator[os.DirEntry[str]]:
        try:
            with os.scandir(f"{self._root}/{path}") as found:
                yield from found
        except OSError:
            if must:
                raise
            self._errors += 1

    def _take(self, path: str, item: os.DirEntry[str]) -> bool:
        """Record one entry; True for a folder to go into."""
        try:
            status = item.stat(follow_symlinks=False)
            entry = self._entry(path, item.path, status)
        except FileNotFoundError:
            return False  # gone between listing and looking: it is simply not there
        except OSError:
            self._errors += 1
            return False
        self._entries[path] = entry
        return entry.type == "dir"

    def _entry(self, path: str, full: str, status: os.stat_result) -> Entry:
        kind = _TYPES.get(stat.S_IFMT(status.st_mode), "device")
        entry = Entry(
            kind,
            stat.S_IMODE(status.st_mode),
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            status.st_ino,
            status.st_dev,
            os.readlink(full) if kind == "link" else None,
        )
        return entry if kind != "file" else self._digested(path, full, entry)

    def _digested(self, path: str, full: str, entry: Entry) -> Entry:
        if entry.size > MAX_DIGEST:
            self._undigested += 1
            return entry
        known = self._known.get(path)
        if known is not None and known.type == "file" and known.stamp == entry.stamp and known.sha256:
            return msgspec.structs.replace(entry, sha256=known.sha256)
        return msgspec.structs.replace(entry, sha256=self._digest(path, full, entry))

    def _digest(self, path: str, full: str, entry: Entry) -> str | None:
        try:
            content = _content(full, entry)
        except OSError:
            self._errors += 1
            return None
        if content is None:
            return None
        key = self._check(path, content) if self._check is not None else None
        if key is not None:
            return "hmac:" + hmac.new(key, content, hashlib.sha256).hexdigest()
        return hashlib.sha256(content).hexdigest()


def _content(full: str, entry: Entry) -> bytes | None:
    """The bytes of the very file that was looked at; None if something else stands in its place by now."""
    fd = os.open(full, os.O_RDONLY | os.O_NONBLOCK | NO_FOLLOW)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or (status.st_dev, status.st_ino) != (entry.device, entry.inode):
            return None
        return _read_up_to(fd, MAX_DIGEST)
    finally:
        os.close(fd)


def _read_up_to(fd: int, limit: int) -> bytes:
    pieces: list[bytes] = []
    while limit > 0 and (piece := os.read(fd, min(_CHUNK, limit))):
        pieces.append(piece)
        limit -= len(piece)
    return b"".join(pieces)


def diff(before: Snapshot, after: Snapshot) -> list[Change]:
    """What changed between two snapshots, sorted by path and operation.

    An entry outside a snapshot that was cut short is unknown, not deleted: then only what both saw is compared.
    """
    gone = before.entries.keys() - after.entries.keys() if after.complete else frozenset()
    new = after.entries.keys() - before.entries.keys() if before.complete else frozenset()
    changes = [
        change
        for path in before.entries.keys() & after.entries.keys()
        if (change := _changed(path, before.entries[path], after.entries[path])) is not None
    ]
    moves = _moves({path: before.entries[path] for path in gone}, {path: after.entries[path] for path in new})
    for path, old_path in moves.items():
        was, now = before.entries[old_path], after.entries[path]
        changes.append(_change("renamed", path, was, now, old_path=old_path))
    changes += [_change("deleted", path, before.entries[path], None) for path in gone - set(moves.values())]
    changes += [_change("created", path, None, after.entries[path]) for path in new - moves.keys()]
    return sorted(changes, key=lambda change: (os.fsencode(change.path), change.op))


def _changed(path: str, was: Entry, now: Entry) -> Change | None:
    if was.type != now.type:
        return _change("type_changed", path, was, now)
    if _content_changed(was, now):
        return _change("modified", path, was, now)
    return _change("mode_changed", path, was, now) if was.mode != now.mode else None


def _content_changed(was: Entry, now: Entry) -> bool:
    if now.type == "link":
        return was.target != now.target
    if now.type != "file":
        return False
    if was.sha256 is not None and now.sha256 is not None:
        return (was.size, was.sha256) != (now.size, now.sha256)
    # A file too large to read, or that could not be: its stamp is all there is, without the ctime that chmod moves.
    return (was.size, was.mtime_ns, was.inode) != (now.size, now.mtime_ns, now.inode)


def _moves(gone: dict[str, Entry], new: dict[str, Entry]) -> dict[str, str]:
    """New path -> old path, for what has the same inode and content in both places."""
    places: dict[object, list[str]] = {}
    for path in sorted(gone, reverse=True):
        places.setdefault(_identity(gone[path]), []).append(path)
    moves: dict[str, str] = {}
    for path in sorted(new):
        if old := places.get(_identity(new[path])):
            moves[path] = old.pop()
    return moves


def _identity(entry: Entry) -> object:
    return (entry.device, entry.inode, entry.type, entry.sha256, entry.target)


def _change(
    op: Op, path: str, was: Entry | None, now: Entry | None, *, old_path: str | None = None
) -> Change:
    known = now or was
    assert known is not None
    return Change(op=op, path=path, old_path=old_path, type=known.type, before=_side(was), after=_side(now))


def _side(entry: Entry | None) -> Side | None:
    return None if entry is None else Side(entry.size, entry.mode, entry.sha256, entry.target)
