"""The process layer: what the kernel counted for one command, and `null` for what nobody counted."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Protocol, Self

import msgspec

SCHEMA = "fsmrt.layer.process.v1"
V2 = "cgroup2"


class ResourceUsage(Protocol):
    """What `os.wait4` tells; `resource.struct_rusage` is one."""

    @property
    def ru_utime(self) -> float: ...
    @property
    def ru_stime(self) -> float: ...
    @property
    def ru_maxrss(self) -> int: ...
    @property
    def ru_minflt(self) -> int: ...
    @property
    def ru_majflt(self) -> int: ...
    @property
    def ru_inblock(self) -> int: ...
    @property
    def ru_oublock(self) -> int: ...
    @property
    def ru_nvcsw(self) -> int: ...
    @property
    def ru_nivcsw(self) -> int: ...


class Rusage(msgspec.Struct, frozen=True, kw_only=True):
    """Of the command and of the descendants it waited for."""

    utime_us: int
    stime_us: int
    maxrss_kib: int
    minflt: int
    majflt: int
    inblock: int
    oublock: int
    nvcsw: int
    nivcsw: int

    @classmethod
    def of(cls, usage: ResourceUsage) -> Self:
        return cls(
            utime_us=round(usage.ru_utime * 1_000_000),
            stime_us=round(usage.ru_stime * 1_000_000),
            maxrss_kib=usage.ru_maxrss,
            minflt=usage.ru_minflt,
            majflt=usage.ru_majflt,
            inblock=usage.ru_inblock,
            oublock=usage.ru_oublock,
            nvcsw=usage.ru_nvcsw,
            nivcsw=usage.ru_nivcsw,
        )


class CgroupCounters(msgspec.Struct, frozen=True, kw_only=True):
    """Counters of one cgroup; each is None where its controller is not there to count."""

    cpu_usage_us: int | None = None
    memory_peak_bytes: int | None = None
    oom_kills: int | None = None
    pids_peak: int | None = None
    pids_max_hits: int | None = None

    @classmethod
    def read(cls, path: Path | str | Iterable[Path | str]) -> Self:
        """The counters in a cgroup's folder; in several, where v1 gives each controller a tree of its own."""
        places = [Path(path)] if isinstance(path, str | Path) else [Path(place) for place in path]
        return cls(**{name: _first(readers, places) for name, readers in _COUNTERS.items()})


class ProcessRecord(msgspec.Struct, frozen=True, kw_only=True):
    """One command's line in `layers/process.jsonl`."""

    schema: str = SCHEMA
    run_id: str
    seq: int
    cmd_id: str
    pid: int | None
    start_ms: int
    stop_ms: int
    exit_code: int | None
    signal: int | None
    core_dumped: bool
    rusage: Rusage | None
    cgroup: CgroupCounters
    leftover_pids: tuple[int, ...]


def process_record(
    run_id: str,
    seq: int,
    cmd_id: str,
    *,
    start_ms: int,
    stop_ms: int,
    pid: int | None = None,
    wait_status: int | None = None,
    usage: ResourceUsage | None = None,
    cgroup: CgroupCounters | None = None,
    leftover_pids: Iterable[int] = (),
) -> ProcessRecord:
    """The record of a command that ended with `wait_status`, or of one whose end nobody saw."""
    exit_code, signal, core_dumped = decode_wait_status(wait_status)
    return ProcessRecord(
        run_id=run_id,
        seq=seq,
        cmd_id=cmd_id,
        pid=pid,
        start_ms=start_ms,
        stop_ms=stop_ms,
        exit_code=exit_code,
        signal=signal,
        core_dumped=core_dumped,
        rusage=None if usage is None else Rusage.of(usage),
        cgroup=cgroup or CgroupCounters(),
        leftover_pids=tuple(sorted(leftover_pids)),
    )


def decode_wait_status(status: int | None) -> tuple[int | None, int | None, bool]:
    """`(exit_code, signal, core_dumped)` of what `wait4` answered; of code and signal one is always None."""
    if status is None:
        return None, None, False
    signal = status & 0x7F
    if signal:
        return None, signal, bool(status & 0x80)
    return status >> 8 & 0xFF, None, False


@lru_cache(maxsize=1)
def cgroup_mounts() -> dict[str, Path]:
    """Where each controller's tree is mounted; `cgroup2` for v2, which can stand beside v1 trees."""
    return parse_mounts(Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape"))


def parse_mounts(mountinfo: str) -> dict[str, Path]:
    """The cgroup mounts in the text of a `mountinfo` file; of two mounts of one tree the first counts."""
    mounts: dict[str, Path] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, kind = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(kind) < 3:
            continue
        place = Path(_unescape(fields[4]))
        if kind[0] == V2:
            mounts.setdefault(V2, place)
        elif kind[0] == "cgroup":
            for controller in kind[2].split(","):
                if controller in _V1_CONTROLLERS:
                    mounts.setdefault(controller, place)
    return mounts


_V1_CONTROLLERS = frozenset({"cpu", "cpuacct", "memory", "pids", "freezer", "cpuset", "blkio", "devices"})


def _unescape(field: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), field)


_Reader = Callable[[Path], int | None]


def _number(name: str, *, per: int = 1) -> _Reader:
    def read(place: Path) -> int | None:
        text = _text(place / name)
        return int(text) // per if text is not None and text.strip().isdigit() else None

    return read


def _field(name: str, key: str) -> _Reader:
    def read(place: Path) -> int | None:
        for line in (_text(place / name) or "").splitlines():
            word, _, value = line.partition(" ")
            if word == key and value.isdigit():
                return int(value)
        return None

    return read


def _text(path: Path) -> str | None:
    try:
        return path.read_text("ascii", "replace")
    except OSError:  # a controller that is not enabled has no files; one on its way out answers ENODEV
        return None


def _first(readers: Iterable[_Reader], places: Iterable[Path]) -> int | None:
    found = (read(place) for place in places for read in readers)
    return next((count for count in found if count is not None), None)


_COUNTERS: dict[str, tuple[_Reader, ...]] = {
    "cpu_usage_us": (_field("cpu.stat", "usage_usec"), _number("cpuacct.usage", per=1000)),
    "memory_peak_bytes": (_number("memory.peak"), _number("memory.max_usage_in_bytes")),
    "oom_kills": (_field("memory.events", "oom_kill"), _field("memory.oom_control", "oom_kill")),
    "pids_peak": (_number("pids.peak"),),
    "pids_max_hits": (_field("pids.events", "max"),),
}
