from __future__ import annotations

import itertools
import os
import signal
import subprocess
from collections.abc import Callable, Iterator

import msgspec
import pytest

from fsmrt.sandbox import walk
from fsmrt.sandbox.procfs import ProcessFacts, read_facts
from fsmrt.sandbox.walk import COMMAND_VARIABLE, RUN_VARIABLE, Tree, command_marks, run_marks, send

RUN = f"walked-{os.getpid()}"
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a shell command that prints a line when it stands; all of its session ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(text: str, *, cmd_id: str = "c0001", marked: bool = True) -> subprocess.Popen[bytes]:
        marks = {RUN_VARIABLE: RUN, COMMAND_VARIABLE: f"{RUN}/{cmd_id}"} if marked else {}
        process = subprocess.Popen(
            ["/bin/sh", "-c", text],
            env={"PATH": os.defpath, **marks},
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    yield begin
    for process in started:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.stdout is not None:
            process.stdout.close()
    tree = Tree(run_marks(RUN))
    while not tree.kill_round():
        pass


def pids(tree: Tree) -> set[int]:
    return {facts.pid for facts in tree.members()}


def test_marks_find_a_command_and_a_run(start: Start) -> None:
    one, two = start("echo; exec sleep 30", cmd_id="c0001"), start("echo; exec sleep 30", cmd_id="c0002")
    assert pids(Tree(command_marks(RUN, ["c0001"]))) == {one.pid}
    assert pids(Tree(run_marks(RUN))) == {one.pid, two.pid}
    assert pids(Tree(command_marks(RUN, ["c000"]))) == set()


def test_descendants_belong_even_without_a_mark(start: Start) -> None:
    one = start("env -i /bin/sleep 30 & echo; wait")
    assert len(pids(Tree(command_marks(RUN, ["c0001"])))) == 2
    assert one.poll() is None


def test_a_session_belongs_while_its_root_lives(start: Start) -> None:
    root = start("(/bin/sleep 30 & echo) ; read _ < /dev/zero", marked=False)
    assert len(pids(Tree(frozenset(), root.pid))) == 2
    assert pids(Tree(frozenset())) == set()


def test_who_was_seen_once_is_known_without_its_parent(start: Start) -> None:
    root = start("env -i /bin/sh -c '/bin/sleep 30 & echo; wait'; exit")
    tree = Tree(command_marks(RUN, ["c0001"]), root.pid)
    before = pids(tree)
    root.kill()
    root.wait()
    tree.root = None
    assert pids(tree) == before - {root.pid}
    while not tree.kill_round():
        pass


def test_a_number_that_went_to_somebody_else_is_no_root(start: Start) -> None:
    stranger = start("echo; exec sleep 30", marked=False)
    tree = Tree(frozenset(), stranger.pid)
    tree._root_start = 1  # what it was when our process had this number
    assert pids(tree) == set()
    assert tree.root is None


def test_a_signal_never_reaches_who_got_the_number_meanwhile(start: Start) -> None:
    process = start("echo; exec sleep 30")
    facts = read_facts(process.pid)
    assert facts is not None
    assert not send(msgspec.structs.replace(facts, start_ticks=facts.start_ticks - 1), signal.SIGKILL)
    assert process.poll() is None
    assert send(facts, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not send(facts, signal.SIGKILL)


def test_this_program_never_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    me = read_facts(os.getpid())
    assert me is not None
    tree = Tree(frozenset({b"anything"}), me.session)
    monkeypatch.setattr(walk, "environment_of", lambda pid: b"anything\0")
    monkeypatch.setattr(walk, "all_facts", lambda: iter([me]))
    assert tree.members() == []


def test_zombies_of_ours_are_collected_only_where_wanted(start: Start) -> None:
    process = start("echo; exec sleep 30")
    watching, tree = Tree(run_marks(RUN), collects=False), Tree(run_marks(RUN))
    assert pids(watching) == pids(tree) == {process.pid}
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert watching.members() == []
    assert read_facts(process.pid) is not None
    assert tree.members() == []
    assert read_facts(process.pid) is None
    process.returncode = -9


def test_a_machine_that_never_rests_is_believed_after_many_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    numbers = itertools.count(1)
    monkeypatch.setattr(walk, "last_pid", lambda: b"%d" % next(numbers))
    tree = Tree(run_marks("nobody-has-this-mark"))
    tries = next(count for count in itertools.count(1) if tree.proven_empty())
    assert tries * 2 == walk.ENOUGH_LOOKS


def test_a_single_member_begins_the_count_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    me = read_facts(os.getppid())
    assert me is not None
    looks: list[list[ProcessFacts]] = [[]] * 9 + [[me]] + [[]] * 100
    monkeypatch.setattr(walk, "last_pid", iter(map(str.encode, map(str, range(1000)))).__next__)
    monkeypatch.setattr(walk, "all_facts", lambda: iter(looks.pop(0)))
    monkeypatch.setattr(walk, "environment_of", lambda pid: b"FSMRT_RUN=x\0")
    tree = Tree(run_marks("x"), collects=False)
    tries = next(count for count in itertools.count(1) if tree.proven_empty())
    assert tries == 5 + walk.ENOUGH_LOOKS // 2
