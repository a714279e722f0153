from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from fsmrt.evidence.process import (
    CgroupCounters,
    cgroup_mounts,
    decode_wait_status,
    parse_mounts,
    process_record,
)

MIXED = """\
25 1 0:22 / /sys rw - sysfs sysfs rw
31 25 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:7 - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/mem\\040ory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:38 / /elsewhere rw,relatime - cgroup2 cgroup2 rw
broken line
"""


def test_both_hierarchies_may_be_mounted_side_by_side() -> None:
    assert parse_mounts(MIXED) == {
        "cpu": Path("/sys/fs/cgroup/cpu,cpuacct"),
        "cpuacct": Path("/sys/fs/cgroup/cpu,cpuacct"),
        "memory": Path("/sys/fs/cgroup/mem ory"),
        "cgroup2": Path("/sys/fs/cgroup/unified"),
    }


def test_the_mounts_of_this_host_are_folders() -> None:
    assert all(place.is_dir() for place in cgroup_mounts().values())


def counters(root: Path, **files: str) -> CgroupCounters:
    for name, text in files.items():
        (root / name.replace("__", ".", 1)).write_text(text)
    return CgroupCounters.read(root)


def test_counters_of_version_two(tmp_path: Path) -> None:
    assert counters(
        tmp_path,
        cpu__stat="usage_usec 1500\nuser_usec 1000\n",
        memory__peak="4096\n",
        memory__events="low 0\noom 1\noom_kill 2\n",
        pids__peak="7\n",
        pids__events="max 3\n",
    ) == CgroupCounters(cpu_usage_us=1500, memory_peak_bytes=4096, oom_kills=2, pids_peak=7, pids_max_hits=3)


def test_counters_of_version_one_lie_in_several_trees(tmp_path: Path) -> None:
    for name in ("cpuacct", "memory"):
        (tmp_path / name).mkdir()
    counters(tmp_path / "cpuacct", cpuacct__usage="1500999\n")
    counters(
        tmp_path / "memory",
        memory__max_usage_in_bytes="8192\n",
        memory__oom_control="oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
        memory__failcnt="0\n",
    )
    assert CgroupCounters.read([tmp_path / "cpuacct", tmp_path / "memory"]) == CgroupCounters(
        cpu_usage_us=1500, memory_peak_bytes=8192, oom_kills=1
    )


def test_without_a_controller_a_counter_is_null(tmp_path: Path) -> None:
    assert msgspec.json.decode(msgspec.json.encode(CgroupCounters.read(tmp_path / "gone"))) == {
        "cpu_usage_us": None,
        "memory_peak_bytes": None,
        "oom_kills": None,
        "pids_peak": None,
        "pids_max_hits": None,
    }
    assert counters(tmp_path, memory__peak="max\n").memory_peak_bytes is None


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("raise SystemExit(3)", (3, None, False)),
        ("import os; os.kill(os.getpid(), 9)", (None, 9, False)),
        ("raise SystemExit(137)", (137, None, False)),
    ],
)
def test_code_and_signal_exclude_each_other(
    script: str, expected: tuple[int | None, int | None, bool]
) -> None:
    child = subprocess.Popen([sys.executable, "-c", script])
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = 0  # reaped above; Popen need not look for it again
    assert decode_wait_status(status) == expected
    record = process_record(
        "r1", 0, "c0001", start_ms=1, stop_ms=2, pid=child.pid, wait_status=status, usage=usage
    )
    assert (record.exit_code, record.signal, record.core_dumped) == expected
    assert record.rusage is not None
    assert record.rusage.maxrss_kib > 0
    assert record.rusage.utime_us + record.rusage.stime_us > 0
    assert record.cgroup == CgroupCounters()


def test_a_core_is_told_and_an_unseen_end_is_unknown() -> None:
    assert decode_wait_status(6 | 0x80) == (None, 6, True)
    unseen = process_record("r1", 1, "c0002", start_ms=1, stop_ms=2, leftover_pids=(9, 4))
    assert (unseen.exit_code, unseen.signal, unseen.rusage, unseen.pid) == (None, None, None, None)
    assert unseen.leftover_pids == (4, 9)
