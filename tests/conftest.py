"""What the whole suite shares: both event loops, capabilities of the machine, and proof that nothing was left.

A test that needs something of the machine says `@pytest.mark.needs("cgroup")` and is skipped where it is missing;
`FSMRT_REQUIRE=cgroup,root` makes a missing one of these a failure instead.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import pytest

from fsmrt.lease import RUNS, is_alive, read_leases, this_process
from fsmrt.sandbox import cgroup
from fsmrt.sandbox.walk import RUN_VARIABLE


@lru_cache(maxsize=1)
def may_mount() -> bool:
    with tempfile.TemporaryDirectory() as place:
        try:
            subprocess.run(["mount", "-t", "tmpfs", "fsmrt-probe", place], check=True, capture_output=True)
            subprocess.run(["umount", place], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError):
            return False
    return True


CAPABILITIES: dict[str, Callable[[], bool]] = {
    "cgroup": lambda: cgroup.why_unavailable() is None,
    "host": lambda: sys.platform == "linux",
    "git": lambda: shutil.which("git") is not None,
    "root": lambda: os.geteuid() == 0,
    "mount": may_mount,
}


@pytest.fixture(params=["trio", "asyncio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Every test marked `anyio` runs under both event loops."""
    return str(request.param)


def pytest_configure(config: pytest.Config) -> None:
    names = ", ".join(CAPABILITIES)
    if unknown := _required() - CAPABILITIES.keys():
        raise pytest.UsageError(
            f"FSMRT_REQUIRE: no such capability: {', '.join(sorted(unknown))}; known: {names}"
        )
    config.addinivalue_line("markers", f"needs(*capabilities): something of the machine, of: {names}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for name in mark.args:
            _require(str(name))


def _required() -> set[str]:
    return {part.strip() for part in os.environ.get("FSMRT_REQUIRE", "").split(",")} - {""}


def _require(name: str) -> None:
    if CAPABILITIES[name]():
        return
    if name in _required():
        pytest.fail(f"FSMRT_REQUIRE names {name}, and this machine does not have it")
    pytest.skip(f"this machine has no {name}")


@pytest.fixture(scope="session", autouse=True)
def nothing_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No process, control group or lease of a run made by this suite outlives it.

    Only what belongs to this session is looked at: another suite may run on the same machine.
    """
    yield
    base = tmp_path_factory.getbasetemp().resolve()
    folders = [Path(folder) for folder, _, files in os.walk(base) if "run.json" in files]
    left = [
        *_processes_below(base, {folder.name for folder in folders}),
        *_groups_of(folders),
        *_leases_below(base, folders),
    ]
    assert not left, "left behind by the tests:\n" + "\n".join(left)


def _processes_below(base: Path, runs: set[str]) -> Iterator[str]:
    for entry in os.listdir("/proc"):
        if not entry.isdigit() or int(entry) == os.getpid():
            continue
        try:
            environ = Path("/proc", entry, "environ").read_bytes().split(b"\0")
            command = (
                Path("/proc", entry, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
        except OSError:
            continue
        values = dict(pair.partition(b"=")[::2] for pair in environ)
        run = values.get(RUN_VARIABLE.encode(), b"").decode(errors="replace")
        root = values.get(b"AIDER_FSM_REPO_ROOT", b"").decode(errors="replace")
        if run and (run in runs or Path(root).is_relative_to(base)):
            yield f"process {entry} of run {run}: {command}"


def _groups_of(folders: list[Path]) -> Iterator[str]:
    parent = cgroup.own_group()
    for folder in folders if parent is not None else ():
        yield from (
            f"control group {group}" for group in Path(str(parent)).glob(f"{cgroup.PREFIX}*{folder.name}")
        )


def _leases_below(base: Path, folders: list[Path]) -> Iterator[str]:
    known = {str(folder) for folder in folders}
    for state in (Path(folder) for folder, inside, _ in os.walk(base) if RUNS in inside):
        for lease in read_leases(state):
            if lease.run_dir in known and (lease.owner == this_process() or not is_alive(lease)):
                yield f"lease of run {lease.run_id} in {state}"
