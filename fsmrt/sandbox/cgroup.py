"""Exact ending of process trees by control groups (cgroup v2), where we may make one.

A command lives in a *lane*, a group of its own under the run's group. Membership is inherited by every
descendant and cannot be left without privilege, so `cgroup.kill` reaches all of it at once and
`populated 0` proves that nothing is left. An emptied lane is used again: a command then costs one small
write. A lane that still holds background children is set aside with them.

A child is placed right after its program started, while that is still loading. `Lane.place` returns whether
the placement is proven to precede the first fork; where it is not, the stragglers are moved as well and the
caller is told that a walk must follow a kill.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from .procfs import child_pids, has_waited_for_children

PREFIX = "fsmrt-"


def own_group() -> Path | None:
    """The cgroup v2 directory this process lives in, or None where there is no v2 hierarchy."""
    mount = _unified_mount()
    if mount is None:
        return None
    for line in _lines(Path("/proc/self/cgroup")):
        if line.startswith("0::"):
            return mount / line[3:].lstrip("/")
    return None


def _unified_mount() -> Path | None:
    for line in _lines(Path("/proc/self/mountinfo")):
        before, _, after = line.partition(" - ")
        if after.startswith("cgroup2 "):
            return Path(before.split(" ")[4])
    return None


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def why_unavailable() -> str | None:
    """None if groups can be made and used here, else one sentence saying what is missing."""
    parent = own_group()
    if parent is None:
        return "no cgroup v2 hierarchy is mounted"
    probe = parent / f"{PREFIX}probe-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        probe.mkdir()
    except OSError as error:
        return f"no permission to make a group below {parent} ({error.strerror})"
    try:
        return _why_unusable(probe)
    finally:
        with contextlib.suppress(OSError):
            probe.rmdir()


def _why_unusable(probe: Path) -> str | None:
    if not (probe / "cgroup.kill").exists():
        return "the kernel is older than 5.14 (no cgroup.kill)"
    pid = os.posix_spawn("/bin/sh", ["sh", "-c", "read _"], {}, setsid=True, file_actions=_silent_stdin())
    try:
        (probe / "cgroup.procs").write_text(str(pid))
    except OSError as error:
        return f"processes may not be moved into groups below {probe.parent} ({error.strerror})"
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    return None


def _silent_stdin() -> list[tuple[int, int, str, int, int]]:
    return [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]


class Lane:
    """One group with the processes of one command, and whatever they start."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self._procs = os.open(path / "cgroup.procs", os.O_RDWR | os.O_CLOEXEC)
        self._events = os.open(path / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        self._stat = os.open(path / "cpu.stat", os.O_RDONLY | os.O_CLOEXEC)
        self._cpu_before = 0

    def place(self, pid: int) -> bool:
        """Move `pid` in. False if it may have forked before it got here, or was over already."""
        self._cpu_before = self._cpu_usage_us()
        if not self._move(pid):
            return False
        children = child_pids(pid)
        if not children and not has_waited_for_children(pid):
            return True
        self._move_descendants(children)
        return False

    def _move(self, pid: int) -> bool:
        try:
            os.pwrite(self._procs, b"%d" % pid, 0)
        except ProcessLookupError:
            return False
        return True

    def _move_descendants(self, pids: list[int]) -> None:
        while pids:
            pid = pids.pop()
            if self._move(pid):
                pids.extend(child_pids(pid))

    def populated(self) -> bool:
        return b"populated 1" in os.pread(self._events, 256, 0)

    def members(self) -> list[int]:
        """Processes in the group and in groups its members made below it."""
        return [pid for group in self._groups() for pid in _pids(group)]

    def _groups(self) -> Iterator[Path]:
        for folder, _, _ in os.walk(self.path):
            yield Path(folder)

    def kill(self) -> None:
        (self.path / "cgroup.kill").write_text("1")

    def counters(self) -> dict[str, int | None]:
        """What the kernel counted for this command; None without the controller."""
        return {"cpu_usage_us": self._cpu_usage_us() - self._cpu_before} | {
            name: _number(self.path / file)
            for name, file in (("memory_peak_bytes", "memory.peak"), ("pids_peak", "pids.peak"))
        }

    def _cpu_usage_us(self) -> int:
        first = os.pread(self._stat, 64, 0).split(b"\n", 1)[0]
        return int(first.split()[1])

    def remove(self) -> bool:
        """Give the group back to the kernel. False while it is not empty."""
        for descriptor in (self._procs, self._events, self._stat):
            os.close(descriptor)
        return remove_group(self.path)


def _pids(group: Path) -> list[int]:
    return [int(line) for line in _lines(group / "cgroup.procs")]


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def kill_group(path: Path) -> None:
    """Kill everything below a group, of whomever it was. A group that is gone is fine."""
    with contextlib.suppress(OSError):
        (path / "cgroup.kill").write_text("1")


def group_populated(path: Path) -> bool:
    return any("populated 1" in line for line in _lines(path / "cgroup.events"))


def group_members(path: Path) -> list[int]:
    return [pid for folder, _, _ in os.walk(path) for pid in _pids(Path(folder))]


def remove_group(path: Path) -> bool:
    """Remove a group and those below it, deepest first. False if something still lives there."""
    for folder, _, _ in os.walk(path, topdown=False):
        try:
            os.rmdir(folder)
        except FileNotFoundError:
            continue
        except OSError:
            return False
    return True
