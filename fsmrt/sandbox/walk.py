"""Finding and ending process trees by looking, where no control group can be had.

A process belongs to a tree when it carries one of the tree's marks in the environment it was started with,
shares the session of its living root, or descends from one that does. Members that were seen once stay known
after their parent died. This is best effort, and says so: a program that scrubs its environment, leaves the
session and loses its parent between two looks is missed. As a subreaper (the command line is one) we become
the parent of such orphans and still see them.

Ending stops what was found before it kills, so that a moving target stands still for the next look, and
counts as proof two clean looks between which nobody on the machine forked, or, where somebody always does, ten.

A look costs milliseconds on a busy machine: call it from a worker thread.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator

from .procfs import ProcessFacts, all_facts, environment_of, last_pid, read_facts

RUN_VARIABLE = "FSMRT_RUN"
COMMAND_VARIABLE = "FSMRT_COMMAND"

ENOUGH_LOOKS = 10
"""Clean looks in a row that count as proof although somebody, most likely a stranger, forks all the time."""


def run_marks(run_id: str) -> frozenset[bytes]:
    """The mark of every process of a run."""
    return frozenset({f"{RUN_VARIABLE}={run_id}".encode()})


def command_marks(run_id: str, cmd_ids: Iterable[str]) -> frozenset[bytes]:
    """The marks of the processes of these commands."""
    return frozenset(f"{COMMAND_VARIABLE}={run_id}/{cmd_id}".encode() for cmd_id in cmd_ids)


class Tree:
    """The processes that carry one of `marks`, their session mates while `root` lives, and their descendants."""

    def __init__(self, marks: frozenset[bytes], root: int | None = None, *, collects: bool = True) -> None:
        self._marks = marks
        self._collects = collects
        """Whether zombies among the members that are our children are collected. Never the root."""
        self._clean_looks = 0
        self.root: int | None = None
        """Session leader to go by. Set to None once it was collected: its number may then be anybody's."""
        self._root_start = 0
        self._seen: dict[int, int] = {}
        """pid -> start time of every member ever seen; both, because pids are reused."""
        if root is not None:
            self.follow(root)

    def follow(self, root: int) -> None:
        """Go by this session leader, if it is there."""
        facts = read_facts(root)
        if facts is not None:
            self.root, self._root_start = root, facts.start_ticks

    def members(self) -> list[ProcessFacts]:
        """Who is alive now. Orphans that became ours and are over are collected on the way."""
        everybody = list(all_facts())
        self._check_root(everybody)
        belonging = self._with_descendants(everybody)
        for facts in belonging:
            self._seen[facts.pid] = facts.start_ticks
        if self._collects:
            _collect_orphans(facts for facts in belonging if facts.pid != self.root)
        alive = [facts for facts in belonging if facts.alive]
        self._clean_looks = 0 if alive else self._clean_looks + 1
        return alive

    def _check_root(self, everybody: list[ProcessFacts]) -> None:
        """Forget a root whose number went to somebody else: it was collected, and so was its whole session."""
        for facts in everybody:
            if facts.pid == self.root and facts.start_ticks != self._root_start:
                self.root = None

    def _with_descendants(self, everybody: list[ProcessFacts]) -> list[ProcessFacts]:
        children: dict[int, list[ProcessFacts]] = {}
        for facts in everybody:
            children.setdefault(facts.parent, []).append(facts)
        own = os.getpid()
        found = {facts.pid: facts for facts in everybody if facts.pid != own and self._is_root(facts)}
        waiting = list(found.values())
        while waiting:
            for child in children.get(waiting.pop().pid, ()):
                if child.pid not in found and child.pid != own:
                    found[child.pid] = child
                    waiting.append(child)
        return list(found.values())

    def _is_root(self, facts: ProcessFacts) -> bool:
        return (
            (self.root is not None and self.root in (facts.pid, facts.session))
            or self._seen.get(facts.pid) == facts.start_ticks
            or not self._marks.isdisjoint(_variables(facts.pid))
        )

    def kill_round(self) -> bool:
        """Stop all that can be found, look again, kill. True when nobody was left to kill."""
        members = self.members()
        send_all(signal.SIGSTOP, members)
        if members:
            members = [*members, *self.members()]
        send_all(signal.SIGKILL, members)
        return not members

    def proven_empty(self) -> bool:
        """Two clean looks with no fork anywhere between them; where the machine never rests, many clean looks."""
        before = last_pid()
        if self.members() or self.members():
            return False
        return last_pid() == before or self._clean_looks >= ENOUGH_LOOKS


def _variables(pid: int) -> Iterator[bytes]:
    return (entry for entry in environment_of(pid).split(b"\0") if entry.startswith(b"FSMRT_"))


def send_all(number: int, members: Iterable[ProcessFacts]) -> None:
    """Signal each of them; who is gone meanwhile is fine."""
    for facts in members:
        send(facts, number)


def send(facts: ProcessFacts, number: int) -> bool:
    """Signal exactly this process, never one that got its pid meanwhile."""
    try:
        descriptor = os.pidfd_open(facts.pid)
    except OSError:
        return False
    try:
        now = read_facts(facts.pid)
        if now is None or now.start_ticks != facts.start_ticks:
            return False
        signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _collect_orphans(candidates: Iterable[ProcessFacts]) -> None:
    own = os.getpid()
    for facts in candidates:
        if facts.parent == own and not facts.alive:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(facts.pid, os.WNOHANG)
