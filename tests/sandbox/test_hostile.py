"""Trees that do not want to die, all of them ended: by a limit, asked first, and by cancellation.

Every process of a tree beats into shared memory, so that a survivor shows even if no process list does. Control
groups promise that there is none. A walk promises it for all trees but one: who hands its life on as fast as the
machine forks can outrun every look, so that tree is not part of its promise, and not of its test. Nor does a walk
know a zombie that it never saw alive; where this program takes in orphans, such a one stays until the program ends.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest

from bench.hostile import MARK, PROCESSES, TREES, Heartbeats, argv
from bench.pids_cap import capped
from fsmrt.sandbox.base import Running
from fsmrt.sandbox.host import HostSandbox
from tests.sandbox.places import Box, Maker, WalkSandbox, opened, until

# Not through a test runner that drives the event loop from threads: here a tree may have taken all of them.
each_loop = pytest.mark.parametrize("backend", ["trio", "asyncio"])

WATCHED = 0.15  # seconds; the slowest heart beats every 20 ms
OUT_OF_REACH_OF_A_WALK = {"flat-out chain"}

CASES = [
    pytest.param(HostSandbox, tree, id=f"cgroup-{tree}", marks=pytest.mark.needs("cgroup")) for tree in TREES
] + [
    pytest.param(WalkSandbox, tree, id=f"walk-{tree}") for tree in TREES if tree not in OUT_OF_REACH_OF_A_WALK
]
each_tree = pytest.mark.parametrize(("maker", "tree"), CASES)


@pytest.fixture(autouse=True)
def cap() -> Iterator[None]:
    """Whatever happens here, it happens to a bounded number of processes."""
    with capped(f"{MARK}={os.getpid()}"):
        yield


@pytest.fixture
def heartbeats() -> Iterator[Heartbeats]:
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with TemporaryDirectory(prefix="hostile-", dir=memory) as folder:
        made = Heartbeats(Path(folder) / "heartbeats")
        yield made
        made.close()


@asynccontextmanager
async def standing(box: Box, tree: str, heartbeats: Heartbeats) -> AsyncIterator[Running]:
    """A tree of which every process has been seen alive."""
    begun = time.monotonic_ns()
    marked = {MARK: str(os.getpid())}
    async with box.command(argv=argv(tree, heartbeats.path), env=marked, children="stage") as running:
        await until(lambda: heartbeats.beats(begun) >= PROCESSES.get(tree, 2))
        yield running


async def killed(box: Box, tree: str, heartbeats: Heartbeats) -> None:
    async with standing(box, tree, heartbeats) as running:
        await running.end(0)


async def asked(box: Box, tree: str, heartbeats: Heartbeats) -> None:
    async with standing(box, tree, heartbeats) as running:
        await running.end(0.1)


async def cancelled(box: Box, tree: str, heartbeats: Heartbeats) -> None:
    with anyio.CancelScope() as scope:
        async with standing(box, tree, heartbeats) as running:
            scope.cancel()
            await running.wait()
    assert scope.cancelled_caught


async def orphaned(box: Box, tree: str, heartbeats: Heartbeats) -> None:
    """The main process goes and leaves its tree as background children, which end with their stage."""
    async with standing(box, tree, heartbeats) as running:
        assert running.pid is not None
        os.kill(running.pid, 9)
        await running.wait()
    await box.sandbox.end_children("tests")


WAYS: dict[str, Callable[[Box, str, Heartbeats], Awaitable[None]]] = {
    "killed": killed,
    "asked": asked,
    "cancelled": cancelled,
    "orphaned": orphaned,
}


async def assert_none_survives(
    maker: Maker, tree: str, way: str, heartbeats: Heartbeats, folder: Path
) -> None:
    async with opened(maker, folder, grace=0.1, adopted=maker is WalkSandbox) as box:
        await WAYS[way](box, tree, heartbeats)
        claimed = time.monotonic_ns()
        await anyio.sleep(WATCHED)
        assert heartbeats.beats(claimed) == 0
        assert box.alive() == 0


@each_loop
@each_tree
@pytest.mark.parametrize(
    # An orphaned tree holds the pipe, which is read for two seconds: too long for every day.
    "way",
    [pytest.param(way, marks=[pytest.mark.slow] if way == "orphaned" else []) for way in WAYS],
)
def test_no_tree_survives(
    backend: str, maker: Maker, tree: str, way: str, heartbeats: Heartbeats, tmp_path: Path
) -> None:
    anyio.run(assert_none_survives, maker, tree, way, heartbeats, tmp_path, backend=backend)


@pytest.mark.slow
@each_tree
def test_no_tree_survives_in_any_of_twenty_rounds(
    maker: Maker, tree: str, heartbeats: Heartbeats, tmp_path: Path
) -> None:
    for number in range(20):
        loop = "asyncio" if number % 2 else "trio"
        anyio.run(assert_none_survives, maker, tree, "killed", heartbeats, tmp_path, backend=loop)
