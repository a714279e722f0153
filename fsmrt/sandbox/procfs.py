"""What the kernel tells about processes in `/proc`: one look each, nothing remembered."""

from __future__ import annotations

import os
from collections.abc import Iterator

import msgspec

_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessFacts(msgspec.Struct, frozen=True):
    """One line of `/proc/PID/stat`. A pid is reused; pid and start time together are not."""

    pid: int
    name: str
    state: str
    parent: int
    session: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        """False for a process that is over and only waits to be collected."""
        return self.state not in "ZX"


def read_facts(pid: int) -> ProcessFacts | None:
    """Facts of one process, or None if there is no such process."""
    raw = _read(f"/proc/{pid}/stat")
    if not raw:
        return None
    # The name is the only field that may hold spaces and parentheses; it ends at the last ')'.
    head, _, tail = raw.rpartition(b")")
    fields = tail.split()
    return ProcessFacts(
        pid=pid,
        name=head.partition(b"(")[2].decode(errors="replace"),
        state=fields[0].decode(),
        parent=int(fields[1]),
        session=int(fields[3]),
        start_ticks=int(fields[19]),
    )


def all_facts() -> Iterator[ProcessFacts]:
    """Every process this machine shows us, in no order."""
    for name in os.listdir("/proc"):
        if name.isdigit() and (facts := read_facts(int(name))) is not None:
            yield facts


def environment_of(pid: int) -> bytes:
    """The environment a process was started with, NUL separated; empty where we may not look."""
    return _read(f"/proc/{pid}/environ", size=1 << 20)


def command_line(pid: int) -> str:
    """What the process was started as, for a person; its short name for kernel threads and zombies."""
    raw = _read(f"/proc/{pid}/cmdline")
    if raw:
        return raw.rstrip(b"\0").replace(b"\0", b" ").decode(errors="replace")
    facts = read_facts(pid)
    return f"[{facts.name}]" if facts else "?"


def age_seconds(start_ticks: int) -> float:
    """How long ago a process with this start time began."""
    with open("/proc/uptime", "rb") as file:
        uptime = float(file.read().split()[0])
    return max(0.0, uptime - start_ticks / _CLOCK_TICKS)


def child_pids() -> list[int]:
    """Children of this program, whichever thread is their parent."""
    threads = (f"/proc/self/task/{thread}/children" for thread in os.listdir("/proc/self/task"))
    return [int(word) for path in threads for word in _read(path, size=1 << 16).split()]


def group_leader(thread: int) -> int | None:
    """The process a thread belongs to, or None if it is gone."""
    for line in _read(f"/proc/{thread}/status").splitlines():
        if line.startswith(b"Tgid:"):
            return int(line[5:])
    return None


def last_pid() -> bytes:
    """The pid handed out last in our namespace: if it moved, somebody forked meanwhile."""
    return _read("/proc/loadavg", size=256).rsplit(b" ", 1)[-1].rstrip()


def _read(path: str, size: int = 4096) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, size)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
