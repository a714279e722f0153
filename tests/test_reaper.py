from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fsmrt.lease import Lease, Owner, boot_id, hold, process_start_time, read_leases, this_process
from fsmrt.reaper import remove_abandoned_groups, sweep
from fsmrt.sandbox.cgroup import group_name, own_group, remove_group

RUN = "20250102T030405Z-0123456789"


@pytest.fixture
def dead() -> Owner:
    """A process that ran once and runs no more."""
    with subprocess.Popen(["sleep", "600"]) as process:
        started = process_start_time(process.pid)
        process.send_signal(signal.SIGKILL)
    assert started is not None
    return Owner(pid=process.pid, start_time=started, boot_id=boot_id())


@contextmanager
def running(environ: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A process with this environment; it ends with the block."""
    with subprocess.Popen(["/bin/sleep", "600"], env=environ, start_new_session=True) as process:
        try:
            yield process
        finally:
            process.kill()


def lease_of(owner: Owner, tmp_path: Path, **more: str) -> Lease:
    return Lease(
        run_id=RUN,
        boot_id=owner.boot_id,
        pid=owner.pid,
        start_time=owner.start_time,
        run_dir=str(tmp_path / "gone"),
        repo=str(tmp_path),
        created_at="2025-01-02T03:04:05Z",
        **more,
    )


@pytest.fixture
def group(dead: Owner) -> Iterator[Path]:
    parent = own_group()
    assert parent is not None
    made = parent / group_name(RUN, dead)
    made.mkdir()
    yield made
    remove_group(made)


@pytest.mark.needs("cgroup")
@pytest.mark.parametrize("named", [True, False])
def test_the_group_of_a_dead_run_goes_also_if_its_lease_does_not_name_it(
    tmp_path: Path, dead: Owner, group: Path, named: bool
) -> None:
    """A run may die between making its group and writing it down."""
    hold(tmp_path, lease_of(dead, tmp_path, **({"cgroup": str(group)} if named else {})))

    (reaped,) = sweep(tmp_path)

    assert (reaped.run_id, reaped.leaks) == (RUN, ())
    assert not group.exists()
    assert read_leases(tmp_path) == []


@pytest.mark.needs("cgroup")
def test_groups_of_the_living_and_foreign_folders_stay(group: Path) -> None:
    mine = group.parent / group_name(RUN, this_process())
    mine.mkdir()
    try:
        removed = remove_abandoned_groups()
        assert group in removed
        assert mine not in removed
        assert mine.exists()
    finally:
        mine.rmdir()


def test_a_lease_of_the_living_is_left_alone(tmp_path: Path) -> None:
    held = hold(tmp_path, lease_of(this_process(), tmp_path))

    assert sweep(tmp_path) == []
    assert read_leases(tmp_path) == [held.lease]


def test_a_lease_of_an_earlier_boot_ends_no_process(tmp_path: Path) -> None:
    """Whatever has that pid now, or that mark, is somebody else's."""
    before = Owner(pid=os.getpid(), start_time=1, boot_id="00000000-0000-0000-0000-000000000000")
    with running({"FSMRT_RUN": RUN}) as bystander:
        hold(tmp_path, lease_of(before, tmp_path))

        (reaped,) = sweep(tmp_path)

        assert (reaped.ended, reaped.leaks) == ((), ())
        assert bystander.poll() is None


def test_processes_with_the_mark_of_a_dead_run_end_and_others_do_not(tmp_path: Path, dead: Owner) -> None:
    with (
        running({"FSMRT_RUN": RUN}) as marked,
        running({"FSMRT_RUN": f"{RUN}0"}) as other,
        running({"NOTE": f"FSMRT_RUN={RUN}"}) as mentioned,
    ):
        hold(tmp_path, lease_of(dead, tmp_path))

        (reaped,) = sweep(tmp_path)

        assert [(one.pid, one.how, one.command) for one in reaped.ended] == [
            (marked.pid, "killed", "/bin/sleep 600")
        ]
        assert process_start_time(marked.pid) is None
        assert (other.poll(), mentioned.poll()) == (None, None)


def test_a_lease_that_names_something_else_as_its_group_cannot_have_it_removed(
    tmp_path: Path, dead: Owner
) -> None:
    innocent = tmp_path / "innocent" / "empty"
    innocent.mkdir(parents=True)
    hold(tmp_path / "state", lease_of(dead, tmp_path, cgroup=str(innocent.parent)))

    [reaped] = sweep(tmp_path / "state")

    assert reaped.leaks == ()
    assert innocent.exists()
    assert read_leases(tmp_path / "state") == []
