"""Commands as plain processes of this machine: `security.mode: system`. No wall, and it says so.

What it does promise is that processes end: each command is held by the strongest containment to be had
(`containment.py`), background children of a stage end with their stage, and all the rest with the run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Literal

import anyio

from ..errors import SandboxLost, SpawnFailed
from ..limits import cleanup
from ..messages import ChildrenLive, Command, Ended, Exit, SandboxFacts
from . import terminal
from .base import DRAIN_SECONDS, TERM_GRACE, Sink, WaitOutcome
from .containment import Containment, Hold, WalkHold, aside, strongest, terminate
from .process import Process
from .procfs import ProcessFacts, age_seconds, command_line
from .walk import Tree, command_marks

PROOF_SECONDS = 5.0
"""How long killed processes may take to be gone. Only one stuck in the kernel takes longer than milliseconds."""

_ROOM = 3.0
"""For looking around on a busy machine, on top of the waits that have a bound of their own."""


class HostCommand:
    """A running process and the hold on its tree."""

    def __init__(self, process: Process, hold: Hold, grace: float) -> None:
        self._process = process
        self._hold = hold
        self._grace = grace
        self._exit: Exit | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid

    @property
    def exit(self) -> Exit | None:
        return self._exit

    async def wait(self) -> WaitOutcome:
        outcome = await self._process.wait()
        if outcome == "exited":
            self._note_exit()
        return outcome

    async def end(self, grace: float | None = None) -> None:
        grace = self._grace if grace is None else grace
        if grace > 0:
            await self._ask_to_end(anyio.current_time() + grace)
        if not await self._gone():
            await self._kill()
        await self._process.drain()
        self._note_exit()
        self._process.check_sinks()

    @property
    def patience(self) -> float:
        """Seconds `end` takes at the very most."""
        return self._grace + PROOF_SECONDS + DRAIN_SECONDS + _ROOM

    def _note_exit(self) -> None:
        left = self._hold.after_exit()
        self._exit = self._process.exit(leftover=left, cgroup=self._hold.counters())

    async def _gone(self) -> bool:
        return self._process.collect_now() and await self._hold.empty()

    async def _ask_to_end(self, deadline: float) -> None:
        asked = await self._ask(set())
        if not await self._process.wait_until(deadline):
            return
        pause = 0.001
        while anyio.current_time() < deadline and not await self._hold.empty():
            asked = await self._ask(asked)
            await self._process.linger(pause)
            pause = min(2 * pause, 0.05)

    async def _ask(self, asked: set[int]) -> set[int]:
        """TERM to whoever has not had it: a child may be born while its parent is being asked."""
        members = await self._hold.members()
        terminate([facts for facts in members if facts.pid not in asked])
        return asked | {facts.pid for facts in members}

    async def _kill(self) -> None:
        give_up, pause = anyio.current_time() + PROOF_SECONDS, 0.0002
        while True:
            await self._hold.kill()
            await self._process.wait_until(anyio.current_time() + pause)
            if await self._gone():
                return
            if anyio.current_time() > give_up:
                raise SandboxLost(f"processes of {self._process.command.cmd_id} could not be ended")
            pause = min(2 * pause, 0.05)


class _Held:
    """A command of which processes may still be there, and when what is left of it has to go."""

    def __init__(self, command: Command, hold: Hold, process: Process | None = None) -> None:
        self.command = command
        self.hold = hold
        self.process = process
        self.live: ChildrenLive | None = None
        """None while the command itself is running."""


class HostSandbox:
    """The host itself."""

    def __init__(self, run_id: str, *, grace: float = TERM_GRACE) -> None:
        self._run_id = run_id
        self._grace = grace
        self._containment: Containment | None = None
        self._closed = False
        self._held: list[_Held] = []
        self._unproven: list[Command] = []
        """Commands that ended by themselves, of which a stray child may have escaped the hold."""

    @property
    def facts(self) -> SandboxFacts:
        held = self._containment
        return SandboxFacts(
            kind="host",
            containment=held.name if held else "not_started",
            exact=held.exact if held else False,
            notes=("commands run on this machine, with no wall around them", *(held.notes if held else ())),
            cgroup=str(held.group) if held and held.group else None,
        )

    async def start(self) -> None:
        try:
            self._containment = strongest(self._run_id)
        except OSError as error:
            raise SandboxLost(f"no control group could be made: {error.strerror}") from error

    @asynccontextmanager
    async def command(self, command: Command, stdout: Sink, stderr: Sink) -> AsyncIterator[HostCommand]:
        hold = _ready_hold(self._started(), command)
        with self._start(hold, command, stdout, stderr) as process:
            running = HostCommand(process, hold, self._grace)
            held = _Held(command, hold, process)
            self._held.append(held)
            try:
                with terminal.lent(command.terminal, process.pid):
                    yield running
            finally:
                try:
                    if running.exit is None:
                        await _end_in_cleanup(running)
                finally:
                    self._let_go(held, running)

    def _start(self, hold: Hold, command: Command, stdout: Sink, stderr: Sink) -> Process:
        try:
            with hold.entered():
                process = Process(command, stdout, stderr)
        except SpawnFailed:
            hold.release()
            raise
        except (SandboxLost, OSError) as error:
            # Whatever there was is killed, but it was alive for a moment and may have had a child.
            held = _Held(command, hold)
            held.live = "stage"
            self._held.append(held)
            self._unproven.append(command)
            raise SandboxLost(str(error)) from error
        hold.started(process.pid)
        return process

    def _started(self) -> Containment:
        if self._containment is None or self._closed:
            raise SandboxLost("the sandbox was not started, or is closed")
        return self._containment

    def _let_go(self, held: _Held, running: HostCommand) -> None:
        if running.exit is None:  # what could not be ended is tried again with its stage
            held.live = "stage"
        elif not held.hold.vacant():
            held.live = held.command.children
        else:
            self._forget(held)

    def _forget(self, held: _Held) -> None:
        self._held.remove(held)
        if held.process is not None:
            held.process.collect_now()  # it may have been ended only after its block was left
        held.hold.release()
        if not held.hold.proven:
            self._unproven.append(held.command)

    async def end_children(self, stage: str) -> Sequence[Ended]:
        return await self._end(
            [held for held in self._held if held.command.stage == stage and held.live == "stage"],
            [one for one in self._unproven if one.stage == stage and one.children == "stage"],
        )

    async def close(self, *, leave_running: bool = False) -> Sequence[Ended]:
        if self._containment is None or self._closed:
            return ()
        ended = await self._end(
            [held for held in self._held if not leave_running or held.live != "run"],
            [command for command in self._unproven if not leave_running or command.children != "run"],
        )
        if leave_running:
            ended += await self._list_left()
        self._closed = True
        for held in [held for held in self._held if held.live is not None]:
            self._forget(held)
        self._containment.close()
        return ended

    def kill_now(self) -> None:
        """KILL to everything at once, for an operator who will not wait. What dies is still collected."""
        if self._containment is not None:
            self._containment.kill_now()

    async def _list_left(self) -> list[Ended]:
        holds = [held.hold for held in self._held]
        if self._unproven:
            holds.append(self._search(self._unproven))
        left = {facts.pid: facts for hold in holds for facts in await hold.members()}
        return [_ended(facts, "left_running") for facts in left.values()]

    async def _end(self, helds: Sequence[_Held], strays: Sequence[Command]) -> list[Ended]:
        """All at once: one grace for everybody, however many do not listen."""
        ended: list[Ended] = []
        async with anyio.create_task_group() as group:
            for held in helds:
                group.start_soon(self._end_held, held, ended)
            if strays:
                group.start_soon(self._end_strays, strays, ended)
        return ended

    async def _end_held(self, held: _Held, ended: list[Ended]) -> None:
        ended += (what_became := await _end_tree(held.hold, self._grace))
        leaked = any(one.how == "leaked" for one in what_became)
        if not leaked and held.live is not None and held in self._held:
            self._forget(held)

    async def _end_strays(self, strays: Sequence[Command], ended: list[Ended]) -> None:
        ended += await _end_tree(self._search(strays), self._grace)
        self._unproven = [command for command in self._unproven if command not in strays]

    def _search(self, commands: Sequence[Command]) -> Hold:
        return WalkHold(Tree(command_marks(self._run_id, (command.cmd_id for command in commands))))


def _ready_hold(containment: Containment, command: Command) -> Hold:
    try:
        return containment.hold(command)
    except OSError as error:
        raise SandboxLost(f"no control group could be made for {command.cmd_id}: {error.strerror}") from error


async def _end_in_cleanup(running: HostCommand) -> None:
    """End what was interrupted. What cannot be ended stays with the sandbox, whose `close` reports it."""
    with cleanup(running.patience), suppress(SandboxLost):
        await running.end()


async def _end_tree(hold: Hold, grace: float) -> list[Ended]:
    # Not "nobody is listed": whoever hands its life on from child to child may be missing from a list.
    if await hold.empty():
        return []
    found = {facts.pid: facts for facts in await hold.members()}
    described = await aside(lambda: {pid: command_line(pid) for pid in found})
    if grace > 0:
        terminate([*found.values()])
        await _empty_within(hold, grace, kill=False)
    stubborn = {facts.pid for facts in await hold.members()}
    gone = await _empty_within(hold, PROOF_SECONDS, kill=True)
    left = {} if gone else {facts.pid: facts for facts in await hold.members()}
    return [
        _ended(
            facts,
            "leaked" if facts.pid in left else "killed" if facts.pid in stubborn else "terminated",
            described.get(facts.pid),
        )
        for facts in (found | left).values()
    ]


async def _empty_within(hold: Hold, seconds: float, *, kill: bool) -> bool:
    deadline, pause = anyio.current_time() + seconds, 0.0005
    while not await hold.empty():
        if anyio.current_time() > deadline:
            return False
        if kill:
            await hold.kill()
        await anyio.sleep(pause)
        pause = min(2 * pause, 0.05)
    return True


def _ended(
    facts: ProcessFacts,
    how: Literal["terminated", "killed", "left_running", "leaked"],
    command: str | None = None,
) -> Ended:
    return Ended(
        pid=facts.pid,
        command=command if command is not None else command_line(facts.pid),
        age_seconds=round(age_seconds(facts.start_ticks), 3),
        how=how,
    )
