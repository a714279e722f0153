"""The view on a terminal: a small table that moves, and that stays as a summary when the run is over."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ..evidence.events import Event
from .picture import SIGNS, InFlight, Picture, Row
from .quantities import clock, duration
from .tails import last_line


class LiveView:
    """A table of stages with the running command under it, on stderr."""

    def __init__(self, picture: Picture, run_dir: Path, title: str, *, color: bool) -> None:
        self._picture = picture
        self._run_dir = run_dir
        self._title = title
        self._now = 0.0
        self._spinner = Spinner("dots", style="cyan")
        console = Console(stderr=True, no_color=not color, highlight=False)
        self._live = Live(console=console, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def event(self, event: Event) -> None:
        self._picture.apply(event)
        self._now = max(self._now, event.t_ms / 1000)
        if not self._live.is_started:
            self._live.start()

    def pulse(self, now: float) -> None:
        self._now = now
        if self._live.is_started:
            self._live.update(self._moving(), refresh=True)

    def say(self, text: str) -> None:
        self._live.console.print(Text(text, "yellow"))

    def close(self) -> None:
        if self._live.is_started:
            self._live.update(self._table(), refresh=True)
            self._live.stop()

    def _moving(self) -> RenderableType:
        running = self._picture.in_flight
        below = [] if running is None else self._command(running)
        return Group(self._headline(), self._table(), *below)

    def _headline(self) -> Text:
        title = f"{self._title} {self._picture.place}"
        return _cut(Text.assemble((title, "bold"), (f"  {clock(self._now)}", "dim")))

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2, 0, 0))
        table.add_column(width=1)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(no_wrap=True, overflow="ellipsis")
        for row in self._picture.stages:
            table.add_row(*self._cells(row))
        return table

    def _cells(self, row: Row) -> tuple[RenderableType, ...]:
        sign, style = SIGNS[row.status]
        begun = row.status in ("running", "passed", "failed")
        dim = "" if begun else "dim"
        return (
            self._spinner if row.status == "running" else Text(sign, style),
            Text(row.stage, style if row.status == "failed" else dim),
            Text(_progress(row), "dim"),
            Text(_took(row, self._now), "dim"),
            Text(_remark(row), style),
        )

    def _command(self, running: InFlight) -> list[RenderableType]:
        shown = " ".join(running.text.split())
        printed = last_line(self._run_dir, running.path)
        lines = [_cut(Text.assemble(("   $ ", "dim"), shown))]
        if printed:
            lines.append(_cut(Text.assemble(("   │ ", "dim"), (printed, "dim"))))
        return [*lines]


def _progress(row: Row) -> str:
    if row.status == "waiting" or row.status == "left_out":
        return f"{row.commands}" if row.commands else ""
    return f"{row.number}/{row.commands}" if row.commands else ""


def _took(row: Row, now: float) -> str:
    if row.status == "running":
        return clock(row.elapsed(now))
    return duration(row.seconds) if row.status in ("passed", "failed") else ""


def _remark(row: Row) -> str:
    if row.status == "left_out":
        return "not run"
    again = f"try {row.tries}" if row.tries > 1 else ""
    return ", ".join(filter(None, [row.reason, again]))


def _cut(text: Text) -> Text:
    text.no_wrap, text.overflow = True, "ellipsis"
    return text
