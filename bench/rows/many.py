"""A thousand runs of five commands, 64 at once, in one process: wall time, own processor time, memory."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from bench import fresh
from bench.harness import Goal, Options, Row, Sample, Variant
from bench.programs import repository_of
from bench.spawning import COMMAND, many_at_once
from bench.workbench import Discard, command, host_sandbox
from fsmrt.request import prepare
from fsmrt.session import perform
from fsmrt.settings import Settings

RUNS, COMMANDS, AT_ONCE = 1000, 5, 64
FLOOR = "bare spawning"


@contextmanager
def opened(options: Options) -> Iterator[Row]:
    runs = max(1, round(RUNS * options.scale))
    yield Row(
        name="many",
        about=f"seconds for {runs} runs x {COMMANDS} commands, {AT_ONCE} at once, in one process",
        variants=(
            Variant(FLOOR, partial(fresh.measure, __name__, "bare", str(runs))),
            Variant("fsmrt sandbox alone", partial(fresh.measure, __name__, "sandboxes", str(runs))),
            Variant("fsmrt", partial(fresh.measure, __name__, "whole_runs", str(runs))),
        ),
        goals=(
            Goal(variant="fsmrt", over=FLOOR, at_most=1.25),
            Goal(variant="fsmrt", metric="own_cpu", at_most=1.2 * options.scale),
            Goal(variant="fsmrt", metric="peak_rss_mib", by="max", at_most=50),
        ),
        rounds=5,
    )


def bare(runs: str) -> Sample:
    """Every command of every run, with nothing around it."""
    with TemporaryDirectory(prefix="bench-many-") as folder:
        start = time.perf_counter()
        many_at_once(COMMAND, os.path.join(folder, "out"), times=int(runs) * COMMANDS, at_once=AT_ONCE)
        return Sample(time.perf_counter() - start)


def sandboxes(runs: str) -> Sample:
    """Every run as a sandbox that is started, runs its commands, and is closed; nothing is recorded."""
    return Sample(anyio.run(_in_lanes, _sandbox, int(runs), backend="trio"))


def whole_runs(runs: str) -> Sample:
    """Every run from the reading of its contract to its verdict."""
    with TemporaryDirectory(prefix="bench-many-") as folder:
        place = Path(folder)
        for lane in range(AT_ONCE):
            repository_of(place / str(lane), [COMMAND[-1]] * COMMANDS)
        return Sample(anyio.run(_in_lanes, partial(_run, place), int(runs), backend="trio"))


Perform = Callable[[int], Awaitable[None]]


async def _in_lanes(perform: Perform, runs: int) -> float:
    """`runs` runs, one after the other in each of `AT_ONCE` lanes."""
    left = iter(range(runs))

    async def lane(number: int) -> None:
        for _ in left:
            await perform(number)

    begun = time.perf_counter()
    async with anyio.create_task_group() as group:
        for number in range(AT_ONCE):
            group.start_soon(lane, number)
    return time.perf_counter() - begun


async def _sandbox(lane: int) -> None:
    sink, env, numbers = Discard(), dict(os.environ), count(1)
    async with host_sandbox() as sandbox:
        for _ in range(COMMANDS):
            async with sandbox.command(command(next(numbers), COMMAND, env), sink, sink) as running:
                await running.wait()


async def _run(place: Path, lane: int) -> None:
    """A repository has one run at a time, so each lane has a repository."""
    settings = Settings(
        sandbox="host", artifacts=str(place / "artifacts"), state_dir=str(place / "state"), environ=os.environ
    )
    result = await perform(prepare(place / str(lane), settings))
    if not result.ok:
        raise RuntimeError(f"{result.reason}: {result.message}")
