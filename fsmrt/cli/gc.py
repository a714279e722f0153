"""`fsmrt gc`: the reaper on demand."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path

from ..lease import boot_id, dead_leases
from ..reaper import Reaped, sweep
from ..sandbox.procfs import command_line
from ..sandbox.walk import Tree, run_marks
from .output import Output, console, printable
from .quantities import counted, duration
from .runs import state_folder

LEFT_SOMETHING = 3


def main(args: Namespace) -> int:
    """0 when nothing is left behind; 3 when something could not be ended or closed."""
    screen = console(no_color=args.no_color)
    state = state_folder()
    if args.dry_run:
        return _announce(state, args, screen.out)
    reaped = sweep(state)
    if args.json:
        screen.out.json({"schema": "fsmrt.gc.v1", "dry_run": False, "runs": reaped})
    else:
        _draw(reaped, screen.out)
    return LEFT_SOMETHING if any(one.leaks for one in reaped) else 0


def _announce(state: Path, args: Namespace, out: Output) -> int:
    """What would be done. Only processes that carry the run's mark are listed; a group may hold more."""
    runs = [
        {
            "run_id": lease.run_id,
            "run_dir": lease.run_dir,
            "processes": _marked(lease.run_id) if lease.boot_id == boot_id() else [],
        }
        for lease in dead_leases(state)
    ]
    if args.json:
        out.json({"schema": "fsmrt.gc.v1", "dry_run": True, "runs": runs})
        return 0
    for run in runs:
        out.line(f"{run['run_id']}: would close {run['run_dir']}")
        for process in run["processes"]:
            out.line(f"  would end {printable(str(process))}")
    if not runs:
        out.line("nothing to do: no run died")
    return 0


def _marked(run_id: str) -> list[str]:
    return [f"{facts.pid} {command_line(facts.pid)}" for facts in Tree(run_marks(run_id)).members()]


def _draw(reaped: list[Reaped], out: Output) -> None:
    for run in reaped:
        closed = f"closed the record {run.run_dir}" if run.recovered else "its record needed nothing"
        out.line(f"{out.paint(run.run_id, 'bold')}: ended {counted(len(run.ended), 'process')}, {closed}")
        for process in run.ended:
            age = duration(process.age_seconds)
            out.line(f"  {process.how} {process.pid} {printable(process.command)} ({age})")
        for leak in run.leaks:
            out.line(f"  {out.paint('left behind:', 'red', 'bold')} {printable(leak)}")
    if not reaped:
        out.line(f"{out.paint(out.mark('✓'), 'green')} nothing was left behind")
