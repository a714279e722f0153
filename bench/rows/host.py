"""One command on the host: alone, and 64 at once."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import trio

from bench.harness import Goal, Options, Row, Sample, Variant
from bench.programs import memory
from bench.spawning import COMMAND, in_a_loop, many_at_once, one_by_one, output_file, popen, posix_spawn
from bench.workbench import Discard, command, host_sandbox, workbench

TIMES = 64
AT_ONCE = 64
Perform = Callable[[], Coroutine[None, None, None]]
Batch = Callable[[Perform], Awaitable[float]]
FLOOR, FLOOR_AT_ONCE = "posix_spawn", f"posix_spawn, {AT_ONCE} at once"


@contextmanager
def opened(options: Options) -> Iterator[Row]:
    with (
        TemporaryDirectory(prefix="bench-host-") as folder,
        TemporaryDirectory(prefix="bench-host-", dir=memory()) as fast,
    ):
        out = os.fspath(Path(folder) / "out")
        yield Row(
            name="host",
            about=f"seconds for one `{' '.join(COMMAND)}` with its output captured",
            variants=(*_floors(out), *_peers(), *_of_fsmrt(Path(folder), Path(fast))),
            goals=(
                Goal(variant="fsmrt", over=FLOOR, at_most=1.3),
                Goal(variant=f"fsmrt, {AT_ONCE} at once", over=FLOOR_AT_ONCE, at_most=1.25),
            ),
        )


def _floors(out: str) -> Iterator[Variant]:
    yield one_by_one(FLOOR, partial(posix_spawn, COMMAND, out), TIMES)
    yield one_by_one("posix_spawn and four files", partial(_with_files, Path(out).parent, count()), TIMES)
    yield one_by_one("Popen", partial(popen, COMMAND, out), TIMES)
    crowd = partial(many_at_once, COMMAND, out, times=TIMES, at_once=AT_ONCE)
    whole = one_by_one(FLOOR_AT_ONCE, crowd, 1)
    yield Variant(whole.name, lambda: _share(whole))


def _with_files(place: Path, numbers: Iterator[int]) -> None:
    """What keeping a command costs at least: two streams, the command and its result, in a folder of its run."""
    number = next(numbers)
    folder = place / f"bare-{number // TIMES}"
    folder.mkdir(exist_ok=True)
    posix_spawn(COMMAND, os.fspath(folder / f"{number}_stdout.txt"))
    for name in ("stderr.txt", "cmd.txt", "result.json"):
        with output_file(os.fspath(folder / f"{number}_{name}")) as out:
            os.write(out, b"x" * 300)


def _share(whole: Variant) -> Sample:
    return Sample(whole.measure().seconds / TIMES)


def _peers() -> Iterator[Variant]:
    for batch, suffix in BATCHES:
        yield in_a_loop(f"trio.run_process{suffix}", partial(trio.run, batch, by_trio), TIMES)
        for backend in ("trio", "asyncio"):
            seconds = partial(anyio.run, batch, by_anyio, backend=backend)
            yield in_a_loop(f"anyio.run_process on {backend}{suffix}", seconds, TIMES)


def _of_fsmrt(place: Path, fast: Path) -> Iterator[Variant]:
    """The whole path of a command; then its containment alone, so that the rest can be seen to be evidence."""
    ways = (
        ("", place, "trio"),
        (" on asyncio", place, "asyncio"),
        (" with its record in memory", fast, "trio"),
    )
    for batch, suffix in BATCHES:
        for way, where, backend in ways:
            whole = partial(anyio.run, by_fsmrt, batch, where, backend=backend)
            yield in_a_loop(f"fsmrt{way}{suffix}", whole, TIMES)
        yield in_a_loop(
            f"fsmrt sandbox alone{suffix}", partial(anyio.run, by_sandbox, batch, backend="trio"), TIMES
        )


async def by_trio() -> None:
    await trio.run_process(COMMAND, capture_stdout=True, capture_stderr=True, start_new_session=True)


async def by_anyio() -> None:
    await anyio.run_process(COMMAND, stdin=subprocess.DEVNULL, start_new_session=True)


async def by_fsmrt(batch: Batch, place: Path) -> float:
    async with workbench(place, COMMAND[-1]) as bench:
        seconds = await batch(bench.perform)
        begun = time.perf_counter()
        await bench.settled()
        return seconds + time.perf_counter() - begun


async def by_sandbox(batch: Batch) -> float:
    numbers, env, sink = count(1), dict(os.environ), Discard()
    async with host_sandbox() as sandbox:

        async def perform() -> None:
            async with sandbox.command(command(next(numbers), COMMAND, env), sink, sink) as running:
                await running.wait()

        return await batch(perform)


async def alone(perform: Perform) -> float:
    begun = time.perf_counter()
    for _ in range(TIMES):
        await perform()
    return time.perf_counter() - begun


async def at_once(perform: Perform) -> float:
    begun = time.perf_counter()
    async with anyio.create_task_group() as tasks:
        for _ in range(TIMES):
            tasks.start_soon(perform)
    return time.perf_counter() - begun


BATCHES = ((alone, ""), (at_once, f", {AT_ONCE} at once"))
