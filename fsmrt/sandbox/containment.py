"""How a whole process tree is held together and ended on the host: the strengths there are.

`Containment` is the seam: `CgroupContainment` is exact, `WalkContainment` is best effort. An exact one without
privileges is one more class here.
"""

from __future__ import annotations

import ctypes
import os
import signal
from pathlib import Path
from typing import Protocol

from anyio import to_thread

from ..messages import Command
from . import cgroup
from .cgroup import Lane
from .procfs import ProcessFacts, read_facts
from .walk import Tree, command_marks, run_marks, send, send_all

_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


class Hold(Protocol):
    """The processes of one command."""

    @property
    def proven(self) -> bool:
        """Whether this hold cannot have missed a process."""
        ...

    def after_exit(self) -> tuple[int, ...]:
        """The main process was collected: who is left, as far as that is known without a search."""
        ...

    def counters(self) -> dict[str, int | None] | None: ...

    async def members(self) -> list[ProcessFacts]: ...

    async def kill(self) -> None:
        """One round; call again until `empty`."""
        ...

    async def empty(self) -> bool:
        """True is a proof, as good as this containment can give one."""
        ...

    def release(self) -> None:
        """Nothing is left: give back what the hold needed."""
        ...


class Containment(Protocol):
    """A way of holding process trees."""

    name: str
    exact: bool
    notes: tuple[str, ...]
    group: Path | None

    def hold(self, command: Command, pid: int) -> Hold:
        """Take hold of a process that was just started, before it can have done much."""
        ...

    def kill_now(self) -> None:
        """KILL to all that can be reached at once, without waiting."""
        ...

    def close(self) -> bool:
        """Give back what the run needed. False if something would not go."""
        ...


class _CgroupHold:
    def __init__(self, owner: CgroupContainment, lane: Lane, stray: Tree | None) -> None:
        self._owner = owner
        self._lane = lane
        self._stray = stray
        """A search beside the group, where the placement is not proven to precede the first fork."""

    @property
    def proven(self) -> bool:
        return self._stray is None

    def after_exit(self) -> tuple[int, ...]:
        if self._stray is not None:
            self._stray.root = None
        return tuple(self._lane.members()) if self._lane.populated() else ()

    def counters(self) -> dict[str, int | None]:
        return self._lane.counters()

    async def members(self) -> list[ProcessFacts]:
        inside = [facts for pid in self._lane.members() if (facts := read_facts(pid)) and facts.alive]
        if self._stray is None:
            return inside
        known = {facts.pid for facts in inside}
        found = await to_thread.run_sync(self._stray.members)
        return inside + [facts for facts in found if facts.pid not in known]

    async def kill(self) -> None:
        self._lane.kill()
        if self._stray is not None:
            await to_thread.run_sync(self._stray.kill_round)

    async def empty(self) -> bool:
        if self._lane.populated():
            return False
        return self._stray is None or await to_thread.run_sync(self._stray.proven_empty)

    def release(self) -> None:
        self._owner.give_back(self._lane)


class CgroupContainment:
    """Every command in a control group of its own."""

    name = "cgroup"
    exact = True
    notes: tuple[str, ...] = ()

    def __init__(self, parent: Path, run_id: str) -> None:
        self._run_id = run_id
        self.group: Path | None = parent / f"{cgroup.PREFIX}{run_id}"
        self._path = self.group
        self._path.mkdir()
        self._free: list[Lane] = []
        self._made = 0

    def hold(self, command: Command, pid: int) -> Hold:
        lane = self._free.pop() if self._free else self._new_lane()
        if lane.place(pid):
            return _CgroupHold(self, lane, None)
        return _CgroupHold(self, lane, Tree(command_marks(self._run_id, [command.cmd_id]), pid))

    def _new_lane(self) -> Lane:
        self._made += 1
        return Lane(self._path / f"lane-{self._made}")

    def give_back(self, lane: Lane) -> None:
        self._free.append(lane)

    def kill_now(self) -> None:
        cgroup.kill_group(self._path)

    def close(self) -> bool:
        for lane in self._free:
            lane.remove()
        self._free.clear()
        return cgroup.remove_group(self._path)


class WalkHold:
    """Found by looking. Without `pid`, a search for what finished commands may have left."""

    def __init__(self, tree: Tree, pid: int | None = None) -> None:
        self._tree = tree
        self._pid = pid

    @property
    def proven(self) -> bool:
        return False

    def after_exit(self) -> tuple[int, ...]:
        """A search only if the process group still has members; while it has, its number is ours."""
        try:
            os.killpg(self._pid or 0, 0)
        except OSError:
            self._tree.root = None
            return ()
        left = tuple(facts.pid for facts in self._tree.members())
        self._tree.root = None
        return left

    def counters(self) -> None:
        return None

    async def members(self) -> list[ProcessFacts]:
        return await to_thread.run_sync(self._tree.members)

    async def kill(self) -> None:
        await to_thread.run_sync(self._tree.kill_round)

    async def empty(self) -> bool:
        return await to_thread.run_sync(self._tree.proven_empty)

    def release(self) -> None:
        pass


class WalkContainment:
    """Marks in the environment, sessions and parents; as subreaper where this process is one."""

    exact = False
    group: Path | None = None

    def __init__(self, run_id: str, why: str) -> None:
        self._run_id = run_id
        self.name = "subreaper_walk" if is_subreaper() else "marker_walk"
        self.notes: tuple[str, ...] = (
            f"no control group: {why}; a process that scrubs its environment, leaves its session and loses "
            "its parent at once can be missed",
        )

    def hold(self, command: Command, pid: int) -> Hold:
        return WalkHold(Tree(command_marks(self._run_id, [command.cmd_id]), pid), pid)

    def kill_now(self) -> None:
        Tree(run_marks(self._run_id)).kill_round()

    def close(self) -> bool:
        return True


def strongest(run_id: str) -> Containment:
    """The strongest containment this process can have, right now."""
    why = cgroup.why_unavailable()
    parent = cgroup.own_group()
    if why is None and parent is not None:
        return CgroupContainment(parent, run_id)
    return WalkContainment(run_id, why or "no cgroup v2 hierarchy is mounted")


def terminate(members: list[ProcessFacts]) -> None:
    """Ask to end: TERM, and CONT so that the stopped ones hear it."""
    send_all(signal.SIGTERM, members)
    for facts in members:
        if facts.state in "Tt":
            send(facts, signal.SIGCONT)


def become_subreaper() -> None:
    """Orphans of our descendants become our children. For programs of ours only, never for a host program."""
    _prctl(_PR_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))


def is_subreaper() -> bool:
    """Whether orphans of our descendants become our children."""
    answer = ctypes.c_int()
    _prctl(_PR_GET_CHILD_SUBREAPER, ctypes.byref(answer))
    return bool(answer.value)


def _prctl(option: int, argument: object) -> None:
    ctypes.CDLL(None, use_errno=True).prctl(option, argument, 0, 0, 0)
