from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from fsmrt.lease import this_process
from fsmrt.sandbox import cgroup
from fsmrt.sandbox.cgroup import Lane
from tests.sandbox.places import open_files

pytestmark = pytest.mark.needs("cgroup")


@pytest.fixture
def group() -> Iterator[Path]:
    """A run's group; whatever a test leaves in it is ended."""
    home = cgroup.own_group()
    assert home is not None
    made = home / cgroup.group_name(f"test-{os.urandom(4).hex()}", this_process())
    cgroup.make_threaded(made)
    yield made
    while cgroup.group_populated(made):
        cgroup.kill_group(made)
    assert cgroup.remove_group(made)


@pytest.fixture
def lane(group: Path) -> Iterator[Lane]:
    made = Lane(group / "lane-1", group.parent)
    yield made
    made.close()


def start_in(lane: Lane, text: str) -> subprocess.Popen[bytes]:
    """A shell born in the lane, that has printed a line."""
    with lane.entered():
        process = subprocess.Popen(["/bin/sh", "-c", text], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    return process


def end(lane: Lane, process: subprocess.Popen[bytes]) -> None:
    while lane.populated():
        lane.kill()
    process.wait()


def lane_of_thread() -> str:
    return Path(f"/proc/self/task/{threading.get_native_id()}/cgroup").read_text().splitlines()[-1]


def test_a_command_is_born_in_its_lane_and_we_are_not(lane: Lane) -> None:
    before = lane_of_thread()
    process = start_in(lane, "/bin/sleep 30 & echo; wait")
    assert lane_of_thread() == before
    assert process.pid in lane.members()
    assert len(lane.members()) == 2
    end(lane, process)
    assert lane.members() == []


def test_a_start_that_fails_leaves_nobody_in_the_lane(lane: Lane) -> None:
    before = lane_of_thread()
    with pytest.raises(FileNotFoundError), lane.entered():
        subprocess.Popen(["/no/such/program"])
    assert lane_of_thread() == before
    assert not lane.populated()


def test_it_works_from_any_thread(lane: Lane) -> None:
    started: list[subprocess.Popen[bytes]] = []
    thread = threading.Thread(target=lambda: started.append(start_in(lane, "echo; exec sleep 30")))
    thread.start()
    thread.join()
    assert lane.members() == [started[0].pid]
    end(lane, started[0])


def test_a_lane_that_was_killed_can_be_used_again(lane: Lane) -> None:
    for _ in range(3):
        process = start_in(lane, "trap '' TERM; echo; while :; do sleep 0.01; done")
        end(lane, process)
        assert process.returncode == -signal.SIGKILL
        lane.thaw()


def test_a_thread_of_ours_that_got_stuck_in_a_lane_is_spared(lane: Lane) -> None:
    """It would take this whole program with it."""
    stepped, go_home = threading.Event(), threading.Event()

    def stay() -> None:
        with lane.entered():
            stepped.set()
            go_home.wait()

    thread = threading.Thread(target=stay)
    thread.start()
    stepped.wait()
    (lane.path / "cgroup.freeze").write_text("0")
    cgroup.kill_group(lane.path)
    (lane.path / "cgroup.freeze").write_text("0")
    go_home.set()
    thread.join()


def test_counters_are_of_this_command_only(lane: Lane) -> None:
    busy = "i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo"
    start_in(lane, busy).wait()
    first = lane.counters()["cpu_usage_us"]
    start_in(lane, "echo").wait()
    second = lane.counters()["cpu_usage_us"]
    assert first is not None
    assert second is not None
    assert 0 <= second < first


def test_a_lane_that_was_removed_is_empty(group: Path) -> None:
    lane = Lane(group / "gone", group.parent)
    cgroup.remove_group(lane.path)
    assert not lane.populated()
    assert lane.members() == []
    assert lane.counters()["cpu_usage_us"] == 0
    lane.kill()
    lane.thaw()
    lane.close()


def test_a_lane_keeps_its_descriptors_to_itself(group: Path) -> None:
    files = open_files()
    lane = Lane(group / "lane-1", group.parent)
    assert open_files() > files
    lane.close()
    assert open_files() == files


def test_a_group_goes_when_it_is_empty_and_not_before(group: Path, lane: Lane) -> None:
    process = start_in(lane, "echo; exec sleep 30")
    assert cgroup.group_populated(group)
    assert cgroup.group_members(group) == [process.pid]
    assert not cgroup.remove_group(group)
    end(lane, process)
    assert cgroup.remove_group(group)
    assert cgroup.remove_group(group)
    cgroup.make_threaded(group)


def test_only_groups_of_the_dead_are_abandoned(group: Path) -> None:
    me = this_process()
    predecessor = msgspec.structs.replace(me, start_time=me.start_time - 1)
    dead = group.parent / cgroup.group_name("test-dead", predecessor)
    cgroup.make_threaded(dead)
    try:
        abandoned = cgroup.abandoned_groups(group.parent)
        assert dead in abandoned
        assert group not in abandoned
    finally:
        cgroup.remove_group(dead)


def test_zombies_are_known_by_the_group_they_lived_in(group: Path, lane: Lane) -> None:
    ours, spared = start_in(lane, "echo"), start_in(lane, "echo")
    with subprocess.Popen(["/bin/true"]) as other:
        for process in (ours, spared, other):
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        cgroup.collect_zombies(group, {spared.pid})
        with pytest.raises(ChildProcessError):
            os.waitpid(ours.pid, os.WNOHANG)
        assert os.waitpid(spared.pid, os.WNOHANG)[0] == spared.pid
        ours.returncode = spared.returncode = 0
    assert other.returncode == 0


def test_a_machine_without_groups_says_what_is_missing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(cgroup, "_unified_mount", lambda: None)
    assert cgroup.why_unavailable() == "no cgroup v2 hierarchy is mounted"
    monkeypatch.setattr(cgroup, "own_group", lambda: tmp_path / "nowhere")
    assert "No such file" in (cgroup.why_unavailable() or "")
