"""A runner that is killed without a word: whoever starts next finds what it left, ends it and closes its record."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest
from anyio import to_thread

from fsmrt.evidence.events import read_events, verify_chain
from fsmrt.lease import read_leases
from fsmrt.reaper import Reaped, sweep
from tests.runs.repo import Repo, evaluation, groups_of, processes_of

PROGRAM = """
import sys, anyio
from fsmrt.session import run
from fsmrt.settings import Settings
root, state, home, path, backend = sys.argv[1:]
environ = {"PATH": path, "HOME": home, "FSMRT_STATE_DIR": state}
anyio.run(run, root, Settings(sandbox="host", environ=environ), backend=backend)
"""

SERVICES = (
    "sleep 600 >/dev/null 2>&1 & "
    "setsid sh -c 'sleep 600; :' >/dev/null 2>&1 & "
    "(setsid sleep 600 &) >/dev/null 2>&1"
)
"""A service, a daemon with a child, and one whose parent is gone."""


@pytest.fixture
def serving(repo: Repo) -> Repo:
    """A repository with services and a daemon, and a teardown that is never reached."""
    return repo.contract(
        deploy={"setup_cmds": [SERVICES], "health_cmds": ["true"], "teardown_cmds": ["true"]},
        rollout={"run_cmds": ["true", "sleep 0.05"]},
        evaluation=evaluation(),
    )


@contextmanager
def running(repo: Repo, backend: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run in a process of its own; killed when the block is left, if it still runs."""
    arguments = [str(repo.root), str(repo.state), str(repo.home), repo.environ["PATH"], backend]
    with subprocess.Popen([sys.executable, "-c", PROGRAM, *arguments]) as process:
        try:
            yield process
        finally:
            process.kill()


def kill_after(repo: Repo, process: subprocess.Popen[bytes], events: int) -> Path:
    """Kill the runner once it has recorded so many events, or has ended before; returns the run folder."""
    give_up = time.monotonic() + 20
    while process.poll() is None and _events(repo) < events:
        assert time.monotonic() < give_up, "the run did not get that far"
    process.kill()
    process.wait()
    (folder,) = repo.run_dirs()
    return folder


def _events(repo: Repo) -> int:
    """How many events there are; -1 before the run folder is there."""
    counts = [
        path.read_bytes().count(b"\n") if path.exists() else 0
        for path in (folder / "events.jsonl" for folder in repo.run_dirs())
    ]
    return sum(counts) if counts else -1


def assert_recovered(repo: Repo, folder: Path) -> None:
    """Nothing of the dead run is left, and its record is closed."""
    assert processes_of(folder.name) == []
    assert groups_of(folder.name) == []
    assert read_leases(repo.state) == []
    assert not (folder / "lock").exists()
    assert repo.lock_is_free()
    if (folder / "run.json").exists():
        assert verify_chain(folder) == []
        types = [event.type for event in read_events(folder)]
        assert types[-1] in ("run_recovered", "run_finished")
        assert types.count("run_recovered") + types.count("run_finished") == 1
        assert (folder / "verdict.json").exists() or types[-1] == "run_recovered"


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("events", [0, 1, 3, 4, 5, 8, 12, 14, 16, 19, 22, 25, 28, 31])
def test_killed_at_any_moment(serving: Repo, backend: str, events: int) -> None:
    with running(serving, backend) as process:
        folder = kill_after(serving, process, events)

    sweep(serving.state)

    assert_recovered(serving, folder)


@pytest.fixture
def killed(repo: Repo) -> Path:
    """The folder of a run that was killed while a command and three services of it ran."""
    repo.contract(deploy={"setup_cmds": [SERVICES]}, rollout={"run_cmds": ["echo $$ > pid; exec sleep 600"]})
    with running(repo, "trio") as process:
        give_up = time.monotonic() + 20
        while not (repo.root / "pid").exists():
            assert time.monotonic() < give_up
        process.kill()
        process.wait()
    (folder,) = repo.run_dirs()
    assert len(processes_of(folder.name)) >= 4
    return folder


def test_what_was_found_is_told_and_a_second_sweep_finds_nothing(repo: Repo, killed: Path) -> None:
    (reaped,) = sweep(repo.state)

    assert (reaped.run_id, reaped.run_dir, reaped.recovered, reaped.leaks) == (
        killed.name, str(killed), True, (),
    )  # fmt: skip
    assert len(reaped.ended) >= 4
    assert {one.how for one in reaped.ended} == {"killed"}
    assert_recovered(repo, killed)
    record = (killed / "events.jsonl").read_bytes()
    assert sweep(repo.state) == []
    assert (killed / "events.jsonl").read_bytes() == record


@pytest.mark.anyio
async def test_the_next_run_cleans_up_first(repo: Repo, killed: Path) -> None:
    repo.contract(tests={"cmds": ["true"]})

    ran = await repo.run()

    assert ran.result.ok
    assert_recovered(repo, killed)


def test_two_sweeps_at_once_do_no_harm(repo: Repo, killed: Path) -> None:
    async def both() -> list[list[Reaped]]:
        found: list[list[Reaped]] = []

        async def one() -> None:
            found.append(await to_thread.run_sync(sweep, repo.state))

        async with anyio.create_task_group() as group:
            group.start_soon(one)
            group.start_soon(one)
        return found

    found = anyio.run(both)

    assert any(reaped.recovered for reaps in found for reaped in reaps)
    assert_recovered(repo, killed)


def test_a_torn_last_line_is_cut_and_accounted_for(repo: Repo, killed: Path) -> None:
    with (killed / "events.jsonl").open("ab") as file:
        file.write(b'{"torn')

    sweep(repo.state)

    assert_recovered(repo, killed)
    assert list(read_events(killed))[-1].data["dropped_bytes"] == 6


def test_a_record_that_was_tampered_with_is_left_and_the_processes_still_end(
    repo: Repo, killed: Path
) -> None:
    events = killed / "events.jsonl"
    tampered = events.read_bytes().replace(b'"run_started"', b'"run_startex"', 1)
    events.write_bytes(tampered)

    (reaped,) = sweep(repo.state)

    assert reaped.leaks
    assert processes_of(killed.name) == []
    assert events.read_bytes() == tampered
    assert read_leases(repo.state) == []
    assert sweep(repo.state) == []  # told once: no later sweep could mend it


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
def test_sweeps_leave_a_run_that_lives_alone(repo: Repo, backend: str) -> None:
    """Also those of a caller with another state folder, who knows nothing of this run."""
    repo.contract(
        deploy={"setup_cmds": ["true"]}, rollout={"run_cmds": ["true"] * 10}, evaluation=evaluation()
    )
    swept = 0

    async def sweeping() -> None:
        nonlocal swept
        while True:
            await to_thread.run_sync(sweep, repo.state)
            await to_thread.run_sync(sweep, repo.home / "another-state")
            swept += 1

    async def both() -> bool:
        async with anyio.create_task_group() as group:
            group.start_soon(sweeping)
            ran = await repo.run()
            group.cancel_scope.cancel()
        return ran.result.ok

    assert anyio.run(both, backend=backend)
    assert swept > 3
