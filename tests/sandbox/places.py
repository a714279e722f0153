"""Every kind of sandbox under test, and what can be asked of one: what it printed, and what it left behind.

The fake is scripted with the same command texts the real ones hand to a shell, so one suite holds for all of them.
"""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import pytest

from fsmrt.messages import Command, Exit
from fsmrt.sandbox import cgroup
from fsmrt.sandbox.base import Running, Sandbox, WaitOutcome, shell_argv
from fsmrt.sandbox.containment import WalkContainment
from fsmrt.sandbox.host import HostSandbox
from fsmrt.sandbox.procfs import child_pids, read_facts
from fsmrt.sandbox.walk import COMMAND_VARIABLE, RUN_VARIABLE, Tree, run_marks
from fsmrt.testing import FakeCommand, FakeSandbox

GRACE = 0.3
FOREVER = float("inf")

SLEEP = "echo ready; exec sleep 30"
DEAF = "trap '' TERM; echo ready; while :; do sleep 0.02; done"
STOPPED = "echo ready; kill -STOP $$; sleep 30"
CHILD = "sleep 30 >/dev/null 2>&1 &"
DEAF_CHILD = "(trap '' TERM; while :; do sleep 0.02; done) >/dev/null 2>&1 & sleep 0.05"
HOLDING_CHILD = "sleep 30 & echo ready"
FLOOD = "yes"
BURST = "printf '%0100d' 0"

SCRIPT: Mapping[str, FakeCommand] = {
    "true": FakeCommand(),
    **{f"exit {code}": FakeCommand(rc=code) for code in (0, 1, 2, 124, 130, 255)},
    **{f"kill -{number} $$": FakeCommand(signal=number) for number in (1, 9, 15)},
    "printf out; printf err >&2": FakeCommand(stdout=b"out", stderr=b"err"),
    r"printf '\377\376\000\n\r'": FakeCommand(stdout=b"\xff\xfe\x00\n\r"),
    SLEEP: FakeCommand(takes=30, stdout=b"ready\n"),
    STOPPED: FakeCommand(takes=30, stdout=b"ready\n"),
    DEAF: FakeCommand(takes=FOREVER, stdout=b"ready\n", ignores_term=True),
    CHILD: FakeCommand(leaves=(30,)),
    DEAF_CHILD: FakeCommand(leaves=(FOREVER,), ignores_term=True),
    HOLDING_CHILD: FakeCommand(stdout=b"ready\n", leaves=(30,), drain_cut=True),
    FLOOD: FakeCommand(takes=FOREVER, stdout=b"y\n" * 500_000),
    BURST: FakeCommand(stdout=b"0" * 100),
    "/no/such/program": FakeCommand(spawn_error=errno.ENOENT),
}


class Collected:
    """A sink that keeps everything, and lets a test wait for the first bytes."""

    def __init__(self) -> None:
        self.data = b""
        self.came = anyio.Event()

    def write(self, data: bytes) -> None:
        self.data += data
        self.came.set()


class Counted:
    """A sink that keeps nothing."""

    def __init__(self) -> None:
        self.total = 0

    def write(self, data: bytes) -> None:
        self.total += len(data)


class Done(NamedTuple):
    """A command that is over."""

    outcome: WaitOutcome
    exit: Exit
    out: bytes
    err: bytes


class Box:
    """A sandbox that was started, and the run it belongs to."""

    def __init__(self, sandbox: Sandbox, run_id: str, folder: Path) -> None:
        self.sandbox = sandbox
        self.run_id = run_id
        self.folder = folder
        self._made = 0

    def ordered(self, text: str = "", **more: Any) -> Command:
        """The command for a text, as a stage would order it."""
        self._made += 1
        cmd_id = f"c{self._made:04d}"
        marks = {RUN_VARIABLE: self.run_id, COMMAND_VARIABLE: f"{self.run_id}/{cmd_id}"}
        plain: dict[str, Any] = {
            "cmd_id": cmd_id,
            "argv": shell_argv(text),
            "cwd": str(self.folder),
            "stage": "tests",
        }
        return Command(**plain | more | {"env": {"PATH": os.defpath, **more.get("env", {}), **marks}})

    def command(self, text: str = "", **more: Any) -> AbstractAsyncContextManager[Running]:
        return self.sandbox.command(self.ordered(text, **more), Counted(), Counted())

    @asynccontextmanager
    async def ready(self, text: str, **more: Any) -> AsyncIterator[Running]:
        """A command that has printed something, and goes on."""
        out = Collected()
        async with self.sandbox.command(self.ordered(text, **more), out, Counted()) as running:
            with anyio.fail_after(10):
                async with anyio.create_task_group() as group:
                    group.start_soon(running.wait)
                    await out.came.wait()
                    group.cancel_scope.cancel()
            yield running

    async def run(self, text: str = "", **more: Any) -> Done:
        """Run a command to its end."""
        out, err = Collected(), Collected()
        async with self.sandbox.command(self.ordered(text, **more), out, err) as running:
            outcome = await running.wait()
            if outcome == "output_limit":
                await running.end()
        assert running.exit is not None
        return Done(outcome, running.exit, out.data, err.data)

    def alive(self) -> int:
        """How many processes of the run there are: by their mark, and by their control group."""
        if isinstance(self.sandbox, FakeSandbox):
            return self.sandbox.alive
        marked = {facts.pid for facts in Tree(run_marks(self.run_id), collects=False).members()}
        group = self.sandbox.facts.cgroup
        return len(marked | set(cgroup.group_members(Path(group)) if group else ()))

    def groups(self) -> list[Path]:
        """Control groups of the run."""
        home = cgroup.own_group()
        return [] if home is None else [*home.glob(f"{cgroup.PREFIX}*{self.run_id}")]

    def assert_nothing_left(self, *, adopted: bool = False) -> None:
        """`adopted`: zombies may be there that became our children, because this program takes in orphans."""
        assert self.alive() == 0
        assert adopted or zombies() == []


def zombies() -> list[int]:
    """Children of ours that are over and that nobody has collected."""
    facts = (read_facts(pid) for pid in child_pids())
    return [one.pid for one in facts if one is not None and not one.alive]


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


class WalkSandbox(HostSandbox):
    """The host where no control group can be had."""

    async def start(self) -> None:
        self._containment = WalkContainment(self._run_id, "not wanted here")


def fake(run_id: str, *, grace: float) -> Sandbox:
    return FakeSandbox(SCRIPT, grace=grace)


Maker = Callable[..., Sandbox]
REAL = (
    pytest.param(HostSandbox, id="cgroup", marks=pytest.mark.needs("cgroup")),
    pytest.param(WalkSandbox, id="walk"),
)
EVERY = (pytest.param(fake, id="fake"), *REAL)


@asynccontextmanager
async def opened(
    maker: Maker, folder: Path, *, grace: float = GRACE, adopted: bool = False
) -> AsyncIterator[Box]:
    """A started sandbox. Whatever the test did with it: once closed, it has left nothing."""
    run_id = f"test-{os.urandom(6).hex()}"
    files = open_files()
    box = Box(maker(run_id, grace=grace), run_id, folder)
    await box.sandbox.start()
    try:
        yield box
    finally:
        with anyio.CancelScope(shield=True):
            ended = await box.sandbox.close()
    assert [one for one in ended if one.how == "leaked"] == []
    box.assert_nothing_left(adopted=adopted)
    assert box.groups() == []
    assert open_files() == files


async def end_by_hand(pid: int) -> None:
    """What a test has left running on purpose."""
    gone = os.pidfd_open(pid)
    try:
        signal.pidfd_send_signal(gone, signal.SIGKILL)
        with anyio.fail_after(5):
            await anyio.wait_readable(gone)
    finally:
        os.close(gone)


async def until(condition: Callable[[], bool], *, seconds: float = 20) -> None:
    """Wait for something that another process does; fail if it does not."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110 -- nothing in this program could set an event
            await anyio.sleep(0.002)
