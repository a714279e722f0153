"""`fsmrt ps`: the live runs of this user."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..lease import Lease
from .output import Output, console
from .plain import one_line
from .quantities import duration
from .runs import age_seconds, live_leases, picture_of, state_folder


class LiveRun(msgspec.Struct, frozen=True, kw_only=True):
    """One row."""

    run_id: str
    pid: int
    repo: str
    run_dir: str
    created_at: str
    age_seconds: float
    stage: str | None
    command: str | None


def main(args: Namespace) -> int:
    """0, also when nothing runs."""
    screen = console(no_color=args.no_color)
    runs = [_live_run(lease) for lease in live_leases(state_folder())]
    if args.json:
        screen.out.json({"schema": "fsmrt.ps.v1", "runs": runs})
    elif runs:
        _draw(runs, screen.out)
    else:
        screen.err.line("nothing runs")
    return 0


def _live_run(lease: Lease) -> LiveRun:
    picture = picture_of(Path(lease.run_dir))
    stage, running = picture.stage_in_flight, picture.in_flight
    return LiveRun(
        run_id=lease.run_id,
        pid=lease.pid,
        repo=lease.repo,
        run_dir=lease.run_dir,
        created_at=lease.created_at,
        age_seconds=round(age_seconds(lease), 1),
        stage=stage.stage if stage is not None else None,
        command=running.text if running is not None else None,
    )


def _draw(runs: Sequence[LiveRun], to: Output) -> None:
    rows: list[tuple[Any, ...]] = [("RUN", "PID", "AGE", "STAGE", "REPOSITORY")]
    rows += [(run.run_id, run.pid, duration(run.age_seconds), run.stage or "-", run.repo) for run in runs]
    widths = [max(len(str(row[column])) for row in rows) for column in range(5)]
    for number, row in enumerate(rows):
        line = "  ".join(f"{cell!s:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        to.line(to.paint(line, "dim") if number == 0 else line)
        if number and (command := runs[number - 1].command):
            to.line(to.paint(f"  $ {one_line(command)}", "dim"))
