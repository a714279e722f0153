"""A gibibyte of output: straight into a file, through a pipe, and through the runtime's spool and redaction."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from tempfile import TemporaryDirectory

from bench import fresh
from bench.harness import Goal, Options, Row, Sample, Variant

GIB = 1 << 30
BLOCK = 1 << 16
FLOOR = "child to file"

# A build log, as a command prints it: lines with paths, numbers, and the odd digest.
LOG = b"".join(
    b"[%4d/2048] CC src/module_%03d/unit_%05d.c -> build/obj/%08x.o (cache miss, %d ms)\n"
    % (line, line % 97, line * 7, line * 2654435761 % (1 << 32), line % 900)
    for line in range(1024)
)[:BLOCK]

CHATTERBOX = f"""
import os, sys
left = int(sys.argv[1])
block = sys.stdin.buffer.read({BLOCK})
while left > 0:
    left -= os.write(1, block[:left])
"""


@contextmanager
def opened(options: Options) -> Iterator[Row]:
    size = str(round(GIB * options.scale))
    yield Row(
        name="output",
        about=f"seconds for {int(size) / GIB:.3g} GiB of a command's output",
        variants=(
            Variant(FLOOR, partial(fresh.measure, __name__, "to_file", size)),
            Variant("pipe, read and dropped", partial(fresh.measure, __name__, "through_pipe", size)),
        ),
        goals=(
            Goal(variant="fsmrt", over=FLOOR, at_most=2.5),
            Goal(variant="fsmrt", metric="rss_growth_mib", by="max", at_most=8),
        ),
        rounds=5,
    )


def chatterbox(size: str) -> list[str]:
    """The command: prints `size` bytes of its standard input's first block, again and again."""
    return [sys.executable, "-S", "-E", "-c", CHATTERBOX, size]


def to_file(size: str) -> Sample:
    with TemporaryDirectory(prefix="bench-output-") as folder, open(os.path.join(folder, "out"), "wb") as out:
        start = time.perf_counter()
        subprocess.run(chatterbox(size), input=LOG, stdout=out, check=True)
        seconds = time.perf_counter() - start
        _must_be(os.fstat(out.fileno()).st_size, size)
    return Sample(seconds)


def through_pipe(size: str) -> Sample:
    start = time.perf_counter()
    with subprocess.Popen(
        chatterbox(size), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdin.write(LOG)
        child.stdin.close()
        total = sum(map(len, iter(partial(child.stdout.read, BLOCK), b"")))
    _must_be(total, size)
    return Sample(time.perf_counter() - start)


def _must_be(total: int, size: str) -> None:
    if total != int(size):
        raise RuntimeError(f"{total} bytes arrived, not {size}")
