"""A thousand runs of five commands, 64 at once, in one process: wall time, own processor time, memory."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from tempfile import TemporaryDirectory

from bench import fresh
from bench.harness import Goal, Options, Row, Sample, Variant
from bench.spawning import COMMAND, many_at_once

RUNS, COMMANDS, AT_ONCE = 1000, 5, 64
FLOOR = "bare spawning"


@contextmanager
def opened(options: Options) -> Iterator[Row]:
    runs = max(1, round(RUNS * options.scale))
    yield Row(
        name="many",
        about=f"seconds for {runs} runs x {COMMANDS} commands, {AT_ONCE} at once, in one process",
        variants=(Variant(FLOOR, partial(fresh.measure, __name__, "bare", str(runs))),),
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
