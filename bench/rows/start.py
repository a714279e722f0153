"""How long a person waits: for `--help`, for `check`, and for the first command of a run."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.harness import Goal, Missing, Options, Row, Sample, Variant
from bench.programs import (
    FSMRT,
    ROOT,
    has_command_line,
    no_command_line,
    repository_of,
    run_on_host,
    run_program,
    timed_program,
)

FLOOR = "python -c pass"
HELP, CHECK, RUN = "fsmrt --help", "fsmrt check", "fsmrt run to first command"


@contextmanager
def opened(options: Options) -> Iterator[Row]:
    with TemporaryDirectory(prefix="bench-start-") as folder:
        yield Row(
            name="start",
            about="from typing a command to its answer",
            variants=(timed_program(FLOOR, [sys.executable, "-c", "pass"]), *_of_fsmrt(Path(folder))),
            goals=(
                Goal(variant=HELP, over=FLOOR, at_most=2.5),
                Goal(variant=CHECK, over=FLOOR, at_most=8),
                Goal(variant=RUN, over=FLOOR, at_most=20),
            ),
        )


def _of_fsmrt(folder: Path) -> tuple[Variant | Missing, ...]:
    if not has_command_line():
        return tuple(no_command_line(name) for name in (HELP, CHECK, RUN))
    return (
        timed_program(HELP, [*FSMRT, "--help"]),
        timed_program(CHECK, [*FSMRT, "check", str(ROOT / "examples" / "quickstart")]),
        Variant(RUN, lambda: _until_first_command(folder)),
    )


def _until_first_command(folder: Path) -> Sample:
    """The command itself says when it was started, so what happens after it does not count."""
    told = folder / "started"
    repository = folder / "repository"
    if not repository.exists():
        repository_of(repository, [f"date +%s%N >{told}"])
    start = time.time_ns()
    run_program(run_on_host(repository, folder / "artifacts"))
    return Sample((int(told.read_text()) - start) / 1e9)
