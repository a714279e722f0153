"""Who is running what: one small file a live run, so that whoever starts next can find what a dead run left.

A process is named by pid, start time and boot id together; a pid alone is reused. The file's name carries that
identity, so that most leases are judged without being opened.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

RUNS = "runs"
_NAME = re.compile(
    r"(?P<run>[A-Za-z0-9_-]{1,64})\.(?P<pid>\d{1,10})\.(?P<start>\d{1,20})\.(?P<boot>[0-9a-f]{8})\.json"
)
_GONE_STATES = frozenset("ZXx")


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """A process, named so that no other process is ever mistaken for it."""

    pid: int
    start_time: int
    boot_id: str


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    run_id: str
    boot_id: str
    pid: int
    start_time: int
    run_dir: str
    repo: str
    cgroup: str | None = None
    created_at: str

    @property
    def file_name(self) -> str:
        return f"{self.run_id}.{self.pid}.{self.start_time}.{_boot8(self.boot_id)}.json"

    @property
    def owner(self) -> Owner:
        return Owner(pid=self.pid, start_time=self.start_time, boot_id=self.boot_id)


class HeldLease:
    """A lease of this process, on disk until `release`."""

    def __init__(self, path: Path, lease: Lease) -> None:
        self._path, self.lease = path, lease

    def update(self, **changes: Any) -> Lease:
        """Replace fields that do not name the process; readers see the old lease or the new one."""
        changed = msgspec.structs.replace(self.lease, **changes)
        if changed.file_name != self.lease.file_name:
            raise ValueError("a lease cannot change hands: run_id, pid, start_time and boot_id are its name")
        temporary = self._path.with_name(f".{self._path.name}.new")
        _write_private(temporary, msgspec.json.encode(changed), os.O_TRUNC)
        os.replace(temporary, self._path)
        self.lease = changed
        return changed

    def release(self) -> None:
        """Take the lease away; doing so twice, or after the reaper did, is fine."""
        self._path.unlink(missing_ok=True)


def state_dir(environ: Mapping[str, str]) -> Path:
    """The folder of live runs and of the redaction key: made with mode 0700 if it is not there."""
    folder = _state_place(environ)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return folder


def _state_place(environ: Mapping[str, str]) -> Path:
    if chosen := environ.get("FSMRT_STATE_DIR"):
        return Path(chosen).absolute()
    shared = environ.get("XDG_STATE_HOME", "")
    if os.path.isabs(shared):
        return Path(shared, "fsmrt")
    home = environ.get("HOME") or pwd.getpwuid(os.getuid()).pw_dir
    return Path(home, ".local", "state", "fsmrt")


@lru_cache(maxsize=1)
def boot_id() -> str:
    """The kernel's name for the time since it started; it never changes under a process."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def process_start_time(pid: int) -> int | None:
    """Clock ticks since boot at which `pid` began, or None when no such process runs (a zombie does not)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stat:
            line = stat.read().decode("ascii", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The program's name stands in parentheses and may hold anything, closing parentheses too.
    fields = line[line.rindex(")") + 2 :].split()
    return None if fields[0] in _GONE_STATES else int(fields[19])


def this_process() -> Owner:
    return Owner(pid=os.getpid(), start_time=_own_start_time(os.getpid()), boot_id=boot_id())


@lru_cache(maxsize=4)
def _own_start_time(pid: int) -> int:
    started = process_start_time(pid)
    if started is None:
        raise RuntimeError("this process has no entry in /proc")
    return started


def owner_alive(owner: Owner) -> bool:
    """True while the very process that `owner` names still runs."""
    return owner.boot_id == boot_id() and process_start_time(owner.pid) == owner.start_time


def is_alive(lease: Lease) -> bool:
    return owner_alive(lease.owner)


def hold(state_dir: Path, lease: Lease) -> HeldLease:
    """Write the lease; a second lease of the same run and process is a `FileExistsError`."""
    folder = state_dir / RUNS
    path = folder / lease.file_name
    encoded = msgspec.json.encode(lease)
    try:
        _write_private(path, encoded, os.O_EXCL)
    except FileNotFoundError:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_private(path, encoded, os.O_EXCL)
    return HeldLease(path, lease)


def _write_private(path: Path, data: bytes, flags: int) -> None:
    flags |= os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    with open(os.open(path, flags, 0o600), "wb", buffering=0) as file:
        file.write(data)


def read_leases(state_dir: Path) -> list[Lease]:
    """Every lease that can be read, live or dead, by name; whatever else lies there is passed over."""
    leases = (_read(state_dir / RUNS / named.string) for named in _lease_names(state_dir))
    return [lease for lease in leases if lease is not None]


def dead_leases(state_dir: Path) -> list[Lease]:
    """The leases whose process is gone. Only these are opened; each process is looked up once."""
    alive: dict[tuple[str, str, str], bool] = {}
    dead: list[Lease] = []
    for named in _lease_names(state_dir):
        identity = named["pid"], named["start"], named["boot"]
        if identity not in alive:
            alive[identity] = _identity_alive(*identity)
        lease = None if alive[identity] else _read(state_dir / RUNS / named.string)
        if lease is not None:
            dead.append(lease)
    return dead


def discard(state_dir: Path, lease: Lease) -> None:
    """Take a dead run's lease away, once nothing is left to find by it."""
    (state_dir / RUNS / lease.file_name).unlink(missing_ok=True)


def _identity_alive(pid: str, start: str, boot: str) -> bool:
    return boot == _boot8(boot_id()) and process_start_time(int(pid)) == int(start)


def _lease_names(state_dir: Path) -> Iterator[re.Match[str]]:
    try:
        names = sorted(os.listdir(state_dir / RUNS))
    except FileNotFoundError:
        return
    for name in names:
        if named := _NAME.fullmatch(name):
            yield named


def _read(path: Path) -> Lease | None:
    """The lease at `path`; None for what is gone by now, is no lease, or belongs to another name."""
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            lease = msgspec.json.decode(file.read(65536), type=Lease)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError):
        return None
    return lease if lease.file_name == path.name else None


def _boot8(boot: str) -> str:
    return boot.replace("-", "")[:8]
