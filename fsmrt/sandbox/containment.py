"""How a whole process tree is held together and ended on the host: the strengths there are.

`Containment` is the seam: `CgroupContainment` is exact, `WalkContainment` is best effort. An exact one without
privileges is one more class here.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Protocol, TypeVar

from anyio import to_thread

from ..lease import this_process
from ..messages import Command
from . import cgroup
from .cgroup import Lane
from .procfs import ProcessFacts, read_facts
from .walk import Tree, command_marks, run_marks, send_all

T = TypeVar("T")

_PR_SET_CHILD_SUBREAPER = 36
_PR_GET_CHILD_SUBREAPER = 37


class Hold(Protocol):
    """The processes of one command."""

    @property
    def proven(self) -> bool:
        """Whether this hold cannot have missed a process."""
        ...

    def entered(self) -> AbstractContextManager[None]:
        """The command is to be started inside this block, by this thread, without a pause."""
        ...

    def started(self, pid: int) -> None:
        """The command was started, and this is its main process."""
        ...

    def after_exit(self) -> tuple[int, ...]:
        """The main process was collected: who is left, as far as that is known without a search."""
        ...

    def vacant(self) -> bool:
        """After `after_exit`: True if nothing is known to be left. Costs no search."""
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

    def hold(self, command: Command) -> Hold:
        """Be ready to hold a command that is about to be started. Raises `OSError` when that cannot be."""
        ...

    def kill_now(self) -> None:
        """KILL to all that can be reached at once, without waiting."""
        ...

    def close(self) -> bool:
        """Give back what the run needed. False if something would not go."""
        ...


class _CgroupHold:
    proven = True

    def __init__(self, owner: CgroupContainment, lane: Lane) -> None:
        self._owner = owner
        self._lane = lane
        self._main: int | None = None

    def entered(self) -> AbstractContextManager[None]:
        return self._lane.entered()

    def started(self, pid: int) -> None:
        self._main = pid
        self._owner.started(pid)

    def after_exit(self) -> tuple[int, ...]:
        return tuple(self._lane.members()) if self._lane.populated() else ()

    def vacant(self) -> bool:
        return not self._lane.populated()

    def counters(self) -> dict[str, int | None]:
        return self._lane.counters()

    async def members(self) -> list[ProcessFacts]:
        return [facts for pid in self._lane.members() if (facts := read_facts(pid)) and facts.alive]

    async def kill(self) -> None:
        self._lane.kill()

    async def empty(self) -> bool:
        if self._lane.populated():
            return False
        self._owner.collect_orphans()
        return True

    def release(self) -> None:
        self._owner.give_back(self._lane, self._main)


class CgroupContainment:
    """Every command in a control group of its own."""

    name = "cgroup"
    exact = True
    notes: tuple[str, ...] = ()

    def __init__(self, home: Path, run_id: str) -> None:
        self._home = home
        self._path = home / cgroup.group_name(run_id, this_process())
        self.group: Path | None = self._path
        cgroup.make_threaded(self._path)
        self._closed = False
        self._made = 0
        self._free: list[Lane] = []
        self._used: set[Lane] = set()
        self._mains: set[int] = set()
        self._adopts = os.getpid() == 1 or is_subreaper()

    def hold(self, command: Command) -> Hold:
        lane = self._free.pop() if self._free else self._new_lane()
        self._used.add(lane)
        return _CgroupHold(self, lane)

    def _new_lane(self) -> Lane:
        self._made += 1
        return Lane(self._path / f"lane-{self._made}", self._home)

    def started(self, pid: int) -> None:
        self._mains.add(pid)

    def give_back(self, lane: Lane, main: int | None) -> None:
        """Use the lane again, unless somebody still lives in it."""
        self._used.discard(lane)
        self._mains.discard(main or 0)
        if self._closed or lane.populated():
            lane.close()
        else:
            lane.thaw()
            self._free.append(lane)
        if self._closed and not self._used:
            cgroup.remove_group(self._path)

    def collect_orphans(self) -> None:
        """Whoever lost its parent and became our child is collected by nobody else."""
        if self._adopts:
            cgroup.collect_zombies(self._path, self._mains)

    def kill_now(self) -> None:
        # Lane by lane: what is killed is frozen, and the next command must not be born so.
        for lane in self._used:
            lane.kill()

    def close(self) -> bool:
        self.collect_orphans()
        for lane in self._free:
            lane.close()
        self._free.clear()
        self._closed = True
        return cgroup.remove_group(self._path)


class WalkHold:
    """Found by looking; before a start, or without one, by the mark alone."""

    proven = False

    def __init__(self, tree: Tree) -> None:
        self._tree = tree
        self._vacant = False

    def entered(self) -> AbstractContextManager[None]:
        return nullcontext()

    def started(self, pid: int) -> None:
        self._tree.follow(pid)

    def after_exit(self) -> tuple[int, ...]:
        """A search only if the process group still has members; while it has, its number is ours."""
        left: tuple[int, ...] = ()
        if self._tree.root is not None and _group_exists(self._tree.root):
            left = tuple(facts.pid for facts in self._tree.members())
        self._tree.root = None
        self._vacant = not left
        return left

    def vacant(self) -> bool:
        return self._vacant

    def counters(self) -> None:
        return None

    async def members(self) -> list[ProcessFacts]:
        return await aside(self._tree.members)

    async def kill(self) -> None:
        await aside(self._tree.kill_round)

    async def empty(self) -> bool:
        return await aside(self._tree.proven_empty)

    def release(self) -> None:
        pass


async def aside(look: Callable[[], T]) -> T:
    """Do it in a worker thread, or at once if there is none to be had.

    A tree that has taken all the processes we may have together with it can only be ended without a new thread.
    """
    try:
        return await to_thread.run_sync(look)
    except RuntimeError:
        return look()


def _group_exists(leader: int) -> bool:
    try:
        os.killpg(leader, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


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

    def hold(self, command: Command) -> Hold:
        return WalkHold(Tree(command_marks(self._run_id, [command.cmd_id])))

    def kill_now(self) -> None:
        # The commands' main processes are ours too, and their ends are for `Process` to see.
        Tree(run_marks(self._run_id), collects=False).kill_round()

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
    """Ask to end: TERM, and CONT to all of them, for one may have been stopped since we looked."""
    send_all(signal.SIGTERM, members)
    send_all(signal.SIGCONT, members)


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
