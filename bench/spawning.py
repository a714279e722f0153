"""Starting commands with as little around them as possible: what every other way is compared with."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice

from .harness import Sample, Variant

COMMAND = ("/bin/sh", "-c", "true")


def one_by_one(name: str, command: Callable[[], object], times: int) -> Variant:
    """Seconds a command, one after the other."""

    def measure() -> Sample:
        start = time.perf_counter()
        for _ in range(times):
            command()
        return Sample((time.perf_counter() - start) / times)

    return Variant(name, measure)


def in_a_loop(name: str, seconds: Callable[[], float], times: int) -> Variant:
    """Seconds a command of a batch that measures itself: starting the event loop is not part of it."""
    return Variant(name, lambda: Sample(seconds() / times))


@contextmanager
def output_file(path: str) -> Iterator[int]:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def posix_spawn(argv: Sequence[str], path: str) -> None:
    """`posix_spawn` and wait, both streams into a file, in a session of its own: the floor."""
    with output_file(path) as out:
        os.waitpid(start(argv, out), 0)


def start(argv: Sequence[str], out: int) -> int:
    actions = [(os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, out, 2)]
    return os.posix_spawn(argv[0], tuple(argv), os.environ, file_actions=actions, setsid=True)


def popen(argv: Sequence[str], path: str) -> None:
    with output_file(path) as out:
        subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        ).wait()


def many_at_once(argv: Sequence[str], path: str, *, times: int, at_once: int) -> None:
    """`times` commands, never more than `at_once` alive: as fast as one process can start and wait for them."""
    with output_file(path) as out:
        waiting = iter(range(times))
        alive = sum(start(argv, out) > 0 for _ in islice(waiting, at_once))
        while alive:
            os.wait()
            alive -= 1
            alive += sum(start(argv, out) > 0 for _ in islice(waiting, 1))
