"""Exact ending of process trees by control groups (cgroup v2), where we may make one.

A command lives in a *lane*, a group of its own under the run's group. Membership is inherited by every
descendant and cannot be left without privilege. An emptied lane is used again; one that still holds
background children is set aside with them.

How a command gets into its lane. Moving a started process takes a lock that waits for the whole machine to
pass a quiescent state, milliseconds when idle, during which the process runs and forks outside. But a *thread*
may move itself between threaded groups without that lock. So lanes are threaded groups: the thread that
starts a command steps into the lane, starts it, and steps out. The command is born inside; there is no moment
at which it was anywhere else, and it costs two small writes.

How a lane is emptied. Threaded groups cannot be killed by one write, but they can be frozen: whoever is in a
frozen group stands still, and whoever is born there is born standing still. What is listed then is killed,
and listed again, until the kernel says that nobody is left.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

from ..lease import Owner, process_start_time, this_process
from .procfs import child_pids, group_leader, read_facts

PREFIX = "fsmrt-"
_NAME = re.compile(rf"{PREFIX}(?P<pid>\d+)-(?P<start>\d+)-")

_COUNTERS = ("cpu_usage_us", "memory_peak_bytes", "oom_kills", "pids_peak", "pids_max_hits")
"""What a command may have counted. Memory belongs to whole domains: threaded groups never count it."""


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


def group_name(run_id: str, owner: Owner) -> str:
    """The name of a run's group. It says whose it is, so that nobody takes an idle group for an abandoned one."""
    return f"{PREFIX}{owner.pid}-{owner.start_time}-{run_id}"


def abandoned_groups(parent: Path) -> list[Path]:
    """Our groups below `parent` whose owner is dead and in which nobody lives."""
    alive: dict[tuple[str, str], bool] = {}
    abandoned = []
    for group in _folders(parent):
        named = _NAME.match(group.name)
        if named is None:
            continue
        owner = named["pid"], named["start"]
        if owner not in alive:
            alive[owner] = process_start_time(int(owner[0])) == int(owner[1])
        if not alive[owner] and not group_populated(group):
            abandoned.append(group)
    return abandoned


def _folders(parent: Path) -> list[Path]:
    try:
        with os.scandir(parent) as entries:
            return [Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []


def why_unavailable() -> str | None:
    """None if groups can be made and used here, else one sentence saying what is missing."""
    parent = own_group()
    return "no cgroup v2 hierarchy is mounted" if parent is None else _why_unusable_below(parent)


@lru_cache(maxsize=8)
def _why_unusable_below(parent: Path) -> str | None:
    """Tried once: what a process may do below a group does not change while it lives in it."""
    probe = parent / group_name(f"probe-{os.urandom(4).hex()}", this_process())
    try:
        make_threaded(probe)
        lane = Lane(probe / "lane", parent)
    except OSError as error:
        remove_group(probe)
        return f"no permission to make a threaded group below {parent} ({error.strerror})"
    try:
        with lane.entered():
            pass
    except OSError as error:
        return f"a thread may not move into groups below {parent} ({error.strerror})"
    finally:
        lane.close()
        remove_group(probe)
    return None


def collect_zombies(group: Path, spared: Collection[int]) -> None:
    """Collect children of ours that are over and lived below `group`, but for the spared."""
    for pid in child_pids():
        facts = read_facts(pid)
        if facts is not None and not facts.alive and pid not in spared and _lived_below(pid, group):
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _lived_below(pid: int, group: Path) -> bool:
    return any(f"/{group.name}/" in f"{line}/" for line in _lines(Path(f"/proc/{pid}/cgroup")))


def make_threaded(path: Path) -> None:
    """Make a group whose members are threads, each placed by itself."""
    path.mkdir()
    (path / "cgroup.type").write_text("threaded")


class Lane:
    """One group with the processes of one command, and whatever they start."""

    def __init__(self, path: Path, home: Path) -> None:
        """`home` is the group our own threads live in."""
        self.path = path
        make_threaded(path)
        self._threads = os.open(path / "cgroup.threads", os.O_RDWR | os.O_CLOEXEC)
        self._home = os.open(home / "cgroup.threads", os.O_WRONLY | os.O_CLOEXEC)
        self._events = os.open(path / "cgroup.events", os.O_RDONLY | os.O_CLOEXEC)
        self._stat = os.open(path / "cpu.stat", os.O_RDONLY | os.O_CLOEXEC)
        self._counts_pids = (path / "pids.peak").exists()
        self._cpu_before = self._hits_before = self._commands = 0
        self._frozen = False

    def entered(self) -> _Entered:
        """What this thread starts inside the block is born in the lane. Nothing in the block may wait."""
        self._commands += 1
        self._cpu_before = self._cpu_usage_us()
        self._hits_before = self._pids_max_hits() or 0
        return _Entered(self._threads, self._home)

    def populated(self) -> bool:
        return b"populated 1" in _pread(self._events)

    def members(self) -> list[int]:
        """Processes in the lane, each once."""
        return group_members(self.path)

    def kill(self) -> None:
        """One round; call again until nobody is left."""
        self._frozen = True
        kill_group(self.path)

    def thaw(self) -> None:
        """Ready for the next command."""
        if self._frozen:
            _freeze(self.path, False)
            self._frozen = False

    def counters(self) -> dict[str, int | None]:
        """What the kernel counted for this command; None where nobody counts."""
        used: dict[str, int | None] = dict.fromkeys(_COUNTERS)
        used["cpu_usage_us"] = self._cpu_usage_us() - self._cpu_before
        if self._counts_pids:
            hits = self._pids_max_hits()
            used["pids_max_hits"] = None if hits is None else hits - self._hits_before
            # A peak is that of all commands of a lane; only its first has it for itself.
            used["pids_peak"] = _number(self.path / "pids.peak") if self._commands == 1 else None
        return used

    def _pids_max_hits(self) -> int | None:
        if not self._counts_pids:
            return None
        words = " ".join(_lines(self.path / "pids.events")).split()
        return int(words[1]) if words[:1] == ["max"] else None

    def _cpu_usage_us(self) -> int:
        words = _pread(self._stat).split(maxsplit=2)
        return int(words[1]) if words else self._cpu_before

    def close(self) -> None:
        """Close our descriptors. The group stays until it is removed."""
        for descriptor in (self._threads, self._home, self._events, self._stat):
            os.close(descriptor)


class _Entered:
    """This thread in a lane. The way back is taken whatever happens inside."""

    __slots__ = ("_home", "_lane")

    def __init__(self, lane: int, home: int) -> None:
        self._lane, self._home = lane, home

    def __enter__(self) -> None:
        os.pwrite(self._lane, b"0", 0)

    def __exit__(self, *_: object) -> None:
        os.pwrite(self._home, b"0", 0)


def _pread(descriptor: int) -> bytes:
    """The start of a file of a group; nothing if the group was removed, which only an empty one can be."""
    try:
        return os.pread(descriptor, 256, 0)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise
        return b""


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def _freeze(group: Path, frozen: bool) -> None:
    with contextlib.suppress(OSError):  # gone already
        (group / "cgroup.freeze").write_text("1" if frozen else "0")


def kill_group(path: Path) -> None:
    """Freeze everything below a group and kill what is listed: one round. A group that is gone is fine."""
    _freeze(path, True)
    own = {int(name) for name in os.listdir("/proc/self/task")}
    for thread in _threads(path):
        if thread not in own:  # one of ours that could not step out of a lane must not take us all with it
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(thread, signal.SIGKILL)


def group_populated(path: Path) -> bool:
    return any("populated 1" in line for line in _lines(path / "cgroup.events"))


def group_members(path: Path) -> list[int]:
    """Processes below a group, each once."""
    leaders = (group_leader(thread) for thread in _threads(path))
    return list(dict.fromkeys(pid for pid in leaders if pid is not None))


def _threads(path: Path) -> list[int]:
    return [int(line) for folder, _, _ in os.walk(path) for line in _lines(Path(folder) / "cgroup.threads")]


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
