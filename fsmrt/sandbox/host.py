"""Commands as plain processes of this machine: `security.mode: system`. No wall, and it says so.

What it does promise is that processes end: each command is held by the strongest containment to be had
(`containment.py`), background children of a stage end with their stage, and all the rest with the run.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Literal

import anyio
from anyio import to_thread

from ..errors import SandboxLost
from ..limits import cleanup
from ..messages import Command, Ended, Exit, SandboxFacts
from . import terminal
from .base import TERM_GRACE, Sink, WaitOutcome
from .containment import Containment, Hold, WalkHold, strongest, terminate
from .process import Process
from .procfs import ProcessFacts, age_seconds, command_line
from .walk import Tree, command_marks

PROOF_SECONDS = 5.0
"""How long killed processes may take to be gone. Only one stuck in the kernel takes longer than milliseconds."""


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
            terminate(await self._hold.members())
            await self._gone_by(anyio.current_time() + grace)
        if not await self._gone():
            await self._kill()
        await self._process.drain()
        self._note_exit()

    def _note_exit(self) -> None:
        left = self._hold.after_exit()
        self._exit = self._process.exit(leftover=left, cgroup=self._hold.counters())

    async def _gone(self) -> bool:
        return self._process.collect_now() and await self._hold.empty()

    async def _gone_by(self, deadline: float) -> None:
        if not await self._process.wait_until(deadline):
            return
        pause = 0.001
        while anyio.current_time() < deadline and not await self._hold.empty():
            await self._process.linger(pause)
            pause = min(2 * pause, 0.05)

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


class _Background:
    """What a finished command left running, and until when it may."""

    def __init__(self, command: Command, hold: Hold) -> None:
        self.command = command
        self.hold = hold


class HostSandbox:
    """The host itself."""

    def __init__(self, run_id: str, *, grace: float = TERM_GRACE) -> None:
        self._run_id = run_id
        self._grace = grace
        self._containment: Containment | None = None
        self._closed = False
        self._background: list[_Background] = []
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
        containment = self._started()
        with Process(command, stdout, stderr) as process:
            hold = _hold_or_kill(containment, command, process)
            running = HostCommand(process, hold, self._grace)
            try:
                with terminal.lent(command.terminal, process.pid):
                    yield running
            finally:
                if running.exit is None:
                    await _end_in_cleanup(running)
                self._set_aside(running, command, hold)

    def _started(self) -> Containment:
        if self._containment is None or self._closed:
            raise SandboxLost("the sandbox was not started, or is closed")
        return self._containment

    def _set_aside(self, running: HostCommand, command: Command, hold: Hold) -> None:
        if running.exit is None or running.exit.leftover_pids:
            self._background.append(_Background(command, hold))
            return
        hold.release()
        if not hold.proven:
            self._unproven.append(command)

    async def end_children(self, stage: str) -> Sequence[Ended]:
        return await self._end(lambda command: command.stage == stage and command.children == "stage")

    async def close(self, *, leave_running: bool = False) -> Sequence[Ended]:
        if self._containment is None or self._closed:
            return ()
        if leave_running:
            return await self._list_left()
        ended = await self._end(lambda command: True)
        self._containment.close()
        self._closed = True
        return ended

    def kill_now(self) -> None:
        """KILL to everything at once, for an operator who will not wait. What dies is still collected."""
        if self._containment is not None:
            self._containment.kill_now()

    async def _list_left(self) -> list[Ended]:
        holds = [background.hold for background in self._background]
        return [_ended(facts, "left_running") for hold in holds for facts in await hold.members()]

    async def _end(self, concerns: Callable[[Command], bool]) -> list[Ended]:
        ended: list[Ended] = []
        for background in [b for b in self._background if concerns(b.command)]:
            ended += await _end_tree(background.hold, self._grace)
            background.hold.release()
            self._background.remove(background)
        strays = [command for command in self._unproven if concerns(command)]
        if strays:
            self._unproven = [command for command in self._unproven if not concerns(command)]
            marks = command_marks(self._run_id, (command.cmd_id for command in strays))
            ended += await _end_tree(WalkHold(Tree(marks)), self._grace)
        return ended


def _hold_or_kill(containment: Containment, command: Command, process: Process) -> Hold:
    try:
        return containment.hold(command, process.pid)
    except OSError as error:
        os.killpg(process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        process.collect_now()
        raise SandboxLost(f"a started command could not be held: {error.strerror}") from error


async def _end_in_cleanup(running: HostCommand) -> None:
    """End what was interrupted. What cannot be ended stays with the sandbox, whose `close` reports it."""
    with cleanup(), suppress(SandboxLost):
        await running.end()


async def _end_tree(hold: Hold, grace: float) -> list[Ended]:
    first = await hold.members()
    if not first:
        return []
    described = await to_thread.run_sync(lambda: {facts.pid: command_line(facts.pid) for facts in first})
    if grace > 0:
        terminate(first)
        await _empty_within(hold, grace, kill=False)
    stubborn = {facts.pid for facts in await hold.members()}
    leaked = set() if await _empty_within(hold, PROOF_SECONDS, kill=True) else stubborn
    return [
        _ended(
            facts,
            "leaked" if facts.pid in leaked else "killed" if facts.pid in stubborn else "terminated",
            described[facts.pid],
        )
        for facts in first
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
