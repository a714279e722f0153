"""From the moment a limit fires to the moment a whole hostile tree is dead, and whether it really is."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import anyio

from bench.harness import Goal, Missing, Options, Row, Sample, Variant
from bench.hostile import MARK, PROCESSES, TREES, Heartbeats, argv
from bench.pids_cap import Cap, capped
from bench.programs import memory
from bench.workbench import Discard, command, host_sandbox
from fsmrt.limits import deadline_in, until

QUIET = 0.15  # seconds watched after the claim; the slowest heart beats every 20 ms
STAND_UP = 10.0
LIMIT = 0.01


class Death(NamedTuple):
    """Two moments on the monotonic clock, in nanoseconds: the limit fired, and the killer called all dead."""

    fired: int
    claimed: int


class Tree(NamedTuple):
    """What a killer is given: a command, its environment, and when the tree stands and may be killed."""

    argv: Sequence[str]
    env: Mapping[str, str]
    stands: Callable[[], bool]


Killer = Callable[[Tree], Death]


@contextmanager
def opened(options: Options) -> Iterator[Row]:
    mark = f"{MARK}={os.getpid()}"
    with capped(mark) as cap, TemporaryDirectory(prefix="bench-kill-", dir=memory()) as folder:
        yield Row(
            name="kill",
            about=f"seconds from limit to death of a whole tree, no grace ({cap.kind})",
            variants=tuple(_variants(Path(folder) / "heartbeats", cap)),
            goals=(
                Goal(variant="fsmrt: *", at_most=0.005),
                Goal(variant="fsmrt: *", at_most=0.050, by="max"),
                Goal(variant="fsmrt: *", at_most=0, metric="survivors", by="sum"),
            ),
        )


def _variants(heartbeats: Path, cap: Cap) -> Iterator[Variant | Missing]:
    for tree in TREES:
        for name, killer in KILLERS.items():
            yield Variant(f"{name}: {tree}", partial(_killed, killer, tree, heartbeats, cap))


def kill_group(tree: Tree) -> Death:
    """The floor: what most programs do, and what leaves every daemon alive."""
    process = subprocess.Popen(tree.argv, env=dict(tree.env), start_new_session=True)
    wait_until_it_stands(tree)
    fired = time.monotonic_ns()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return Death(fired, time.monotonic_ns())


def by_fsmrt(tree: Tree) -> Death:
    return anyio.run(_until_limit, tree, backend="trio")


async def _until_limit(tree: Tree) -> Death:
    """As a try does it: a limit around the wait, and when it fires, the end of whatever there is."""
    sink = Discard()
    async with (
        host_sandbox(grace=0) as sandbox,
        sandbox.command(command(1, tuple(tree.argv), tree.env), sink, sink) as running,
    ):
        await anyio.to_thread.run_sync(wait_until_it_stands, tree)
        limit = deadline_in(LIMIT, "timeout_seconds")
        fires = time.monotonic_ns() + round(LIMIT * 1e9)
        with until(limit):
            await running.wait()
        await running.end()
        return Death(fires, time.monotonic_ns())


KILLERS: Mapping[str, Killer] = {"killpg": kill_group, "fsmrt": by_fsmrt}


def wait_until_it_stands(tree: Tree) -> None:
    """Return when every process of the tree has been seen alive; RuntimeError if that takes too long."""
    end = time.monotonic() + STAND_UP
    while not tree.stands():
        if time.monotonic() > end:
            raise RuntimeError("the hostile tree did not stand up")
        time.sleep(0.002)


def _killed(killer: Killer, name: str, file: Path, cap: Cap) -> Sample:
    heartbeats = Heartbeats(file)
    start = time.monotonic_ns()
    tree = Tree(
        argv(name, file),
        {MARK: str(os.getpid()), "PATH": os.defpath},
        lambda: heartbeats.beats(start) >= PROCESSES.get(name, 2),
    )
    try:
        death = killer(tree)
        time.sleep(QUIET)
        survivors = heartbeats.beats(death.claimed)
        return Sample((death.claimed - death.fired) / 1e9, {"survivors": survivors})
    finally:
        cap.sweep()
        heartbeats.close()
