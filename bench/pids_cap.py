"""A bound on how many processes a hostile tree can make, and the end of whatever is left of it."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

LIMIT = 512
SWEEP_SECONDS = 10.0
PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 36, 37


class Cap:
    """What bounds this process and its descendants."""

    kind = "RLIMIT_NPROC"

    def __init__(self, mark: str) -> None:
        self._mark = mark.encode()

    def others(self) -> list[int]:
        """Processes below the cap that carry the mark in their environment."""
        return [pid for pid in _all_pids() if pid != os.getpid() and self._mark in _environment(pid)]

    def is_empty(self) -> bool:
        """True when even the dead are gone: until somebody has waited for them, they count against the cap."""
        return True

    def forbid_new(self) -> None:
        """Nothing more can be done here: an own limit cannot be set for others."""

    def allow_new(self) -> None:
        """The other half of `forbid_new`."""

    def sweep(self) -> int:
        """End every other process below the cap; how many there were. RuntimeError if some will not end."""
        swept: set[int] = set()
        self.forbid_new()
        try:
            end = time.monotonic() + SWEEP_SECONDS
            while (left := self.others()) or not self.is_empty():
                if time.monotonic() > end:
                    raise RuntimeError(f"processes {left} do not end")
                swept.update(left)
                _kill(left)
                time.sleep(0.002)
        finally:
            self.allow_new()
        return len(swept)


class CgroupCap(Cap):
    """A cgroup with a pids controller, which this process has moved into."""

    def __init__(self, mark: str, group: Path) -> None:
        super().__init__(mark)
        self.kind = f"cgroup pids.max at {group}"
        self._group = group

    def others(self) -> list[int]:
        # Groups made below this one are under its cap as well.
        files = [self._group / "cgroup.procs", *self._group.glob("**/cgroup.procs")]
        pids = {int(line) for file in files for line in _read(file).split()}
        return sorted(pids - {os.getpid()})

    def is_empty(self) -> bool:
        own_threads = len(os.listdir("/proc/self/task"))
        return int((self._group / "pids.current").read_text()) <= own_threads

    def forbid_new(self) -> None:
        (self._group / "pids.max").write_text("1")

    def allow_new(self) -> None:
        (self._group / "pids.max").write_text(str(LIMIT))


@contextmanager
def capped(mark: str) -> Iterator[Cap]:
    """Bound this process and all it starts to `LIMIT` processes, and sweep up at the end.

    A cgroup where one can be made, else the limit of this user, which does not bind root.
    """
    parent = _pids_cgroup()
    group = parent / f"bench-{os.getpid()}" if parent else None
    bound = _cgroup_cap(mark, group) if group is not None and _made(group) else _resource_cap(mark)
    with _adopting_orphans(), bound as cap:
        yield cap


@contextmanager
def _adopting_orphans() -> Iterator[None]:
    """Orphans become our children: a first process that waits for its dead now and then would hold up sweeps."""
    libc, before = ctypes.CDLL(None), ctypes.c_int()
    libc.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(before), 0, 0, 0)
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        libc.prctl(PR_SET_CHILD_SUBREAPER, before.value, 0, 0, 0)


@contextmanager
def _cgroup_cap(mark: str, group: Path) -> Iterator[Cap]:
    cap = CgroupCap(mark, group)
    try:
        cap.allow_new()
        (group / "cgroup.procs").write_text(str(os.getpid()))
        yield cap
    finally:
        cap.sweep()
        (group.parent / "cgroup.procs").write_text(str(os.getpid()))
        group.rmdir()


@contextmanager
def _resource_cap(mark: str) -> Iterator[Cap]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    wanted = len(_all_pids()) + LIMIT
    resource.setrlimit(resource.RLIMIT_NPROC, (wanted if hard < 0 else min(wanted, hard), hard))
    cap = Cap(mark)
    try:
        yield cap
    finally:
        cap.sweep()
        resource.setrlimit(resource.RLIMIT_NPROC, (soft, hard))


def _pids_cgroup() -> Path | None:
    """Our own cgroup in the hierarchy that has the pids controller (version 1 or 2), if it is mounted."""
    for line in _read(Path("/proc/self/cgroup")).splitlines():
        number, controllers, path = line.split(":", 2)
        if controllers == "pids":
            return _existing(Path("/sys/fs/cgroup/pids") / path.lstrip("/"))
        if number == "0" and "pids" in _read(Path(f"/sys/fs/cgroup{path}/cgroup.subtree_control")):
            return _existing(Path("/sys/fs/cgroup") / path.lstrip("/"))
    return None


def _existing(folder: Path) -> Path | None:
    return folder if folder.is_dir() else None


def _made(group: Path) -> bool:
    try:
        group.mkdir()
    except OSError:
        return False
    return True


def _kill(pids: list[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _all_pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdecimal()]


def _environment(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


def _read(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""
