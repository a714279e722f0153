"""Programs that do not want to die, and a way to see whether one still lives.

Every process of a tree writes the monotonic clock into its own slot of a shared memory file, over and over.
The clock is the same for all processes of a machine, so a slot later than the moment a killer claimed that all
were dead proves a survivor, even one that lived for a millisecond and left no entry in any process list.
"""

from __future__ import annotations

import mmap
import os
import struct
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

SLOTS = 1 << 16
SLOT = struct.Struct("=q")
LIFETIME = 30.0  # seconds after which every hostile process ends by itself, should all else fail
MARK = "BENCH_TREE"

WIDTH = 100
SLOW_LINK = 0.01


class Heartbeats:
    """The shared memory of one tree, in a file that its processes map."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(SLOTS * SLOT.size))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), 0)

    def beats(self, since: int) -> int:
        """How many slots were written after `since` (monotonic nanoseconds)."""
        return sum(beat > since for (beat,) in SLOT.iter_unpack(self._memory))

    def close(self) -> None:
        self._memory.close()


class Body:
    """What a hostile process can do."""

    def __init__(self, path: str) -> None:
        with open(path, "r+b") as file:
            self.memory = mmap.mmap(file.fileno(), 0)
        self.end = time.monotonic() + LIFETIME

    def beat(self) -> None:
        now = time.monotonic_ns()
        SLOT.pack_into(self.memory, os.getpid() % SLOTS * SLOT.size, now)
        if now / 1e9 > self.end:
            os._exit(0)

    def live(self, pause: float = 0.002) -> None:
        while True:
            self.beat()
            time.sleep(pause)


def plain(body: Body) -> None:
    """One child, as most programs have."""
    os.fork()
    body.live()


def deaf(body: Body) -> None:
    """Ignores everything that can be ignored, and so does its child."""
    import signal

    for name in ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT"):
        signal.signal(getattr(signal, name), signal.SIG_IGN)
    plain(body)


def daemon(body: Body) -> None:
    """Forks twice with a session of its own between, so that no parent and no group leads to it."""
    if os.fork() == 0:
        os.setsid()
        if os.fork() != 0:
            os._exit(0)
    body.live()


def slow_chain(body: Body) -> None:
    """Hands its life to a child every ten milliseconds; the main process stays."""
    _chain(body, SLOW_LINK)


def flat_out_chain(body: Body) -> None:
    """Hands its life on as fast as the machine allows."""
    _chain(body, 0.0)


def _chain(body: Body, pause: float) -> None:
    if os.fork() != 0:
        body.live()
    os.setsid()
    while True:
        body.beat()
        try:
            child = os.fork()
        except BlockingIOError:  # the cap on processes: try again, as a hostile program would
            continue
        if child != 0:
            os._exit(0)
        time.sleep(pause)


def wide(body: Body) -> None:
    """A hundred children, every second one in a session of its own."""
    for index in range(WIDTH):
        if os.fork() == 0:
            if index % 2:
                os.setsid()
            body.live(0.02)
    body.live(0.02)


TREES: Mapping[str, Callable[[Body], None]] = {
    "plain": plain,
    "deaf": deaf,
    "daemon": daemon,
    "slow chain": slow_chain,
    "flat-out chain": flat_out_chain,
    "wide": wide,
}
PROCESSES = {"wide": WIDTH + 1}  # of the others, two show that the tree stands


def argv(tree: str, heartbeats: Path) -> tuple[str, ...]:
    """The command that becomes the tree; `-S` because a quick start makes a quick chain."""
    return (sys.executable, "-S", "-E", os.fspath(Path(__file__).resolve()), tree, os.fspath(heartbeats))


if __name__ == "__main__":
    TREES[sys.argv[1]](Body(sys.argv[2]))
