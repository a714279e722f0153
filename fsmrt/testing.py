"""For tests of programs that use fsmrt: a sandbox without processes, in which hours cost nothing.

    box = FakeSandbox({"make test": FakeCommand(takes=3600, stdout=b"ok\\n")})
    result = await perform(prepare(repository, settings), sandbox=box)

`FakeSandbox` keeps every promise of a real sandbox that does not need a process, and the suite that holds the real
ones to their promises runs against it as well. Time is the event loop's: on the real clock a command that takes an
hour takes an hour. Under trio's `MockClock` it takes milliseconds; asyncio has no such clock.
"""

from __future__ import annotations

import itertools
import os
import shlex
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Literal

import anyio
import msgspec
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from .errors import SandboxLost, SpawnFailed
from .limits import cleanup
from .messages import ChildrenLive, Command, Ended, Exit, SandboxFacts
from .sandbox.base import DRAIN_SECONDS, TERM_GRACE, Sink, WaitOutcome, shell_argv

__all__ = ["FakeCommand", "FakeSandbox", "Script"]

_FIRST_PID = 1 << 23
"""Above every pid Linux gives out: a number of ours never names somebody's process."""

_ENDLESS = float("inf")


class FakeCommand(msgspec.Struct, frozen=True, kw_only=True):
    """What a command does when a `FakeSandbox` runs it. As it stands, it succeeds at once and in silence."""

    takes: float = 0.0
    """Seconds until it ends by itself; `inf` for never."""
    rc: int = 0
    signal: int | None = None
    """Ends by this signal instead of with `rc`."""
    stdout: bytes = b""
    stderr: bytes = b""
    output_after: float = 0.0
    """Seconds until it prints, all at once. A command that is ended before that has printed nothing."""
    ignores_term: bool = False
    """Only KILL ends it, and its children."""
    leaves: tuple[float, ...] = ()
    """Seconds that each background child goes on living after the command has ended; `inf` for ever."""
    drain_cut: bool = False
    """A child keeps the output open: draining takes its full two seconds, and is cut."""
    lost: bool = False
    """The sandbox is lost when the command's time is over, and nobody knows how it ended."""
    spawn_error: int | None = None
    """It cannot be started, with this `errno`."""


Script = Mapping[str, FakeCommand | Callable[[Command], FakeCommand]]
"""Command text -> what it does, or what decides that when it is started."""


class _Child:
    """A background child. It is alive until its time is over, or somebody ends it."""

    def __init__(self, pid: int, command: Command, plan: FakeCommand, lives: float) -> None:
        self.pid = pid
        self.command = command
        self.ignores_term = plan.ignores_term
        self.born = anyio.current_time()
        self.dies = self.born + lives

    @property
    def alive(self) -> bool:
        return self.dies > anyio.current_time()

    def end(self) -> None:
        self.dies = min(self.dies, anyio.current_time())


class FakeRunning:
    """A command of a `FakeSandbox` between its start and its end."""

    def __init__(
        self, box: FakeSandbox, command: Command, plan: FakeCommand, stdout: Sink, stderr: Sink
    ) -> None:
        self.command = command
        self.plan = plan
        self.began = anyio.current_time()
        self._box = box
        self._sinks = (stdout, stderr)
        self._printed = False
        self._over_at: float | None = None
        self._ended_by: int | None = None
        self._waiting = anyio.CancelScope()
        self._exit: Exit | None = None

    @property
    def pid(self) -> int | None:
        """None: there is no process."""
        return None

    @property
    def exit(self) -> Exit | None:
        """How it ended; None until then."""
        return self._exit

    @property
    def over(self) -> bool:
        """Whether the main process would be gone by now."""
        return self._over_at is not None or self._own_end <= anyio.current_time()

    @property
    def _own_end(self) -> float:
        return self.began + self.plan.takes

    async def wait(self) -> WaitOutcome:
        """Until the command's time is over, or it printed more than it may. Raises `SandboxLost` if so planned."""
        await anyio.lowlevel.checkpoint()
        if self.plan.output_after <= self.plan.takes:
            await self._until(self.began + self.plan.output_after)
        self._print()
        if self._printed_too_much:
            return "output_limit"
        await self._until(self._own_end)
        self._check_place()
        await self._finish()
        return "exited"

    async def end(self, grace: float | None = None) -> None:
        """TERM to the command and its children, `grace` seconds, KILL."""
        grace = self._box.grace if grace is None else grace
        await anyio.lowlevel.checkpoint()
        self._check_place()
        self._print()
        if grace > 0 and not self.over:
            self._box.terminated.append(self._box.text(self.command))
            if self.plan.ignores_term:
                await self._until(min(self._own_end, anyio.current_time() + grace))
            else:
                self.die(signal.SIGTERM)
        if not self.over:
            self.kill()
        self._note_exit()
        self._box.kill_children(self.command)

    def _check_place(self) -> None:
        if self.plan.lost and self._own_end <= anyio.current_time():
            raise SandboxLost(f"the sandbox was lost under {self._box.text(self.command)}")

    def kill(self) -> None:
        """What KILL does, at once."""
        if not self.over:
            self._box.killed.append(self._box.text(self.command))
            self.die(signal.SIGKILL)

    def die(self, number: int) -> None:
        """Be over now, by this signal."""
        self._over_at, self._ended_by = anyio.current_time(), number
        self._waiting.cancel()

    async def _until(self, moment: float) -> None:
        """Until that moment, or until the command is over for another reason."""
        if self._over_at is None:
            with anyio.CancelScope() as self._waiting:
                await self._box.pass_time_until(moment)

    def _print(self) -> None:
        """Write what would have been printed by now."""
        printed_at = self.began + self.plan.output_after
        end = self._own_end if self._over_at is None else self._over_at
        if not self._printed and printed_at <= min(end, anyio.current_time()):
            self._printed = True
            for sink, data in zip(self._sinks, (self.plan.stdout, self.plan.stderr), strict=True):
                if data:
                    sink.write(data)

    @property
    def _printed_too_much(self) -> bool:
        limit = self.command.output_bytes
        return self._printed and limit is not None and len(self.plan.stdout + self.plan.stderr) > limit

    async def _finish(self) -> None:
        if self._over_at is None:
            self._over_at = self._own_end
            self._box.leave_children(self.command, self.plan)
        if self.plan.drain_cut:
            await self._box.pass_time_until(anyio.current_time() + DRAIN_SECONDS)
        self._note_exit()

    def _note_exit(self) -> None:
        if self._over_at is None:
            self._over_at = self._own_end
        number = self._ended_by or self.plan.signal
        self._exit = Exit(
            code=None if number else self.plan.rc,
            signal=number,
            seconds=self._over_at - self.began,
            drain_cut=self.plan.drain_cut and self._ended_by is None,
            leftover_pids=self._box.children_of(self.command),
            status_source="synthetic",
        )


class FakeSandbox:
    """A `Sandbox` that performs a script instead of starting processes.

    A command that the script does not name does what `otherwise` says. `grace` is the time between TERM and KILL.

    With `clock`, time stands still except while a command of this sandbox runs, and then jumps to the next thing
    that happens: a whole run can be driven through hours. The clock has to be the one trio runs on.

    Afterwards `ran` has every command that was started, in order; `terminated` and `killed` the texts of those that
    were sent TERM and KILL. The lists are never cleared.
    """

    def __init__(
        self,
        script: Script | None = None,
        *,
        otherwise: FakeCommand | None = None,
        grace: float = TERM_GRACE,
        clock: MockClock | None = None,
        start_error: str | None = None,
    ) -> None:
        self.grace = grace
        self.ran: list[Command] = []
        self.terminated: list[str] = []
        self.killed: list[str] = []
        self._script = script or {}
        self._otherwise = otherwise or FakeCommand()
        self._clock = clock
        self._start_error = start_error
        self._open: Literal["new", "open", "closed"] = "new"
        self._running: list[FakeRunning] = []
        self._children: list[_Child] = []
        self._pids = itertools.count(_FIRST_PID)

    @property
    def facts(self) -> SandboxFacts:
        """It says that it is the host, so that a run may be placed in it, and that nothing runs here."""
        return SandboxFacts(kind="host", containment="fake", exact=True, notes=("nothing runs here",))

    @property
    def alive(self) -> int:
        """How many commands and background children are alive now."""
        running = sum(not running.over for running in self._running)
        return running + sum(child.alive for child in self._children)

    @staticmethod
    def text(command: Command) -> str:
        """What the contract says of a command: the text a shell would get, or its program and arguments."""
        shell = shell_argv("")[:-1]
        return command.argv[-1] if command.argv[:-1] == shell else shlex.join(command.argv)

    async def start(self) -> None:
        """Be ready. Raises `SandboxLost` if `start_error` was given."""
        await anyio.lowlevel.checkpoint()
        if self._start_error is not None:
            raise SandboxLost(self._start_error)
        self._open = "open"

    @asynccontextmanager
    async def command(self, command: Command, stdout: Sink, stderr: Sink) -> AsyncIterator[FakeRunning]:
        """Start a command; leaving the block ends what still runs."""
        if self._open != "open":
            raise SandboxLost("the sandbox was not started, or is closed")
        plan = self._plan(command)
        if plan.spawn_error is not None:
            raise SpawnFailed(command.argv[0], OSError(plan.spawn_error, os.strerror(plan.spawn_error)))
        running = FakeRunning(self, command, plan, stdout, stderr)
        self.ran.append(command)
        self._running.append(running)
        try:
            yield running
        finally:
            try:
                if running.exit is None:
                    with cleanup(self.grace + DRAIN_SECONDS), suppress(SandboxLost):
                        await running.end()
            finally:
                self._running.remove(running)

    def _plan(self, command: Command) -> FakeCommand:
        plan = self._script.get(self.text(command), self._otherwise)
        return plan if isinstance(plan, FakeCommand) else plan(command)

    async def end_children(self, stage: str) -> Sequence[Ended]:
        """End background children of that stage's commands whose life was the stage's."""
        return await self._end([child for child in self._of("stage") if child.command.stage == stage])

    async def close(self, *, leave_running: bool = False) -> Sequence[Ended]:
        """End everything, or list the background children that may live as long as the run."""
        if self._open != "open":
            return ()
        for running in self._running:
            running.kill()
        ended = await self._end(self._of("stage") if leave_running else [*self._children])
        self._open = "closed"
        return [*ended, *(_ended(child, "left_running") for child in self._children if child.alive)]

    def kill_now(self) -> None:
        """KILL to everything at once."""
        for running in self._running:
            running.kill()
        for child in self._children:
            child.end()

    def _of(self, life: ChildrenLive) -> list[_Child]:
        return [child for child in self._children if child.command.children == life]

    async def _end(self, children: list[_Child]) -> list[Ended]:
        await anyio.lowlevel.checkpoint()
        alive = [child for child in children if child.alive]
        stubborn = [child for child in alive if child.ignores_term and self.grace > 0]
        for child in alive:
            if child not in stubborn:
                child.end()
        if stubborn:
            await self.pass_time_until(
                min(anyio.current_time() + self.grace, max(child.dies for child in stubborn))
            )
        killed = [child for child in alive if child.alive]
        for child in killed:
            child.end()
        return [_ended(child, "killed" if child in killed else "terminated") for child in alive]

    # What its running commands need of it.

    def leave_children(self, command: Command, plan: FakeCommand) -> None:
        """The command has ended; its background children live on."""
        self._children += [_Child(next(self._pids), command, plan, lives) for lives in plan.leaves]

    def children_of(self, command: Command) -> tuple[int, ...]:
        """Those of its background children that are alive now."""
        return tuple(
            child.pid for child in self._children if child.alive and child.command.cmd_id == command.cmd_id
        )

    def kill_children(self, command: Command) -> None:
        """End its background children."""
        for child in self._children:
            if child.command.cmd_id == command.cmd_id:
                child.end()

    async def pass_time_until(self, moment: float) -> None:
        """Until that moment of the event loop's clock, driving the virtual clock if there is one."""
        if self._clock is None:
            await anyio.sleep_until(moment)
            return
        while (left := moment - anyio.current_time()) > 0:
            await wait_all_tasks_blocked()
            step = min(left, trio.lowlevel.current_statistics().seconds_to_next_deadline)
            if step == _ENDLESS:
                raise RuntimeError("a fake command never ends, and there is no limit that would end it")
            self._clock.jump(max(0.0, step))
            await anyio.lowlevel.checkpoint()


def _ended(child: _Child, how: Literal["terminated", "killed", "left_running"]) -> Ended:
    return Ended(
        pid=child.pid,
        command=FakeSandbox.text(child.command),
        age_seconds=anyio.current_time() - child.born,
        how=how,
    )
