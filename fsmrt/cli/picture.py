"""A run as somebody watching sees it: its events, added up. Nothing here prints, waits or reads a clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

import msgspec

from ..evidence.events import Event

Status = Literal["waiting", "running", "passed", "failed", "left_out"]

SIGNS: Mapping[Status, tuple[str, str]] = {
    "waiting": ("·", "dim"),
    "running": ("▶", "cyan"),
    "passed": ("✓", "green"),
    "failed": ("✗", "red"),
    "left_out": ("·", "dim"),
}
"""How each status is drawn: a sign and its colour."""


class Row(msgspec.Struct, kw_only=True):
    """One stage."""

    stage: str
    commands: int = 0
    """How many the contract has; what is seen may show more."""
    number: int = 0
    """Which of them is or was running, from 1."""
    tries: int = 0
    status: Status = "waiting"
    began: float = 0.0
    seconds: float = 0.0
    reason: str | None = None

    def elapsed(self, now: float) -> float:
        return now - self.began if self.status == "running" else self.seconds


class InFlight(msgspec.Struct, frozen=True, kw_only=True):
    """The command that runs."""

    cmd_id: str
    stage: str
    text: str
    path: str
    """Prefix of its files, relative to the run folder."""
    number: int
    of: int
    tries: int
    began: float


class Picture:
    """Everything a view shows. `now` is seconds since the run began, as events have it in `t_ms`."""

    def __init__(self, planned: Iterable[tuple[str, int]] = ()) -> None:
        self.rows = {stage: Row(stage=stage, commands=commands) for stage, commands in planned if commands}
        self.now_running: dict[str, InFlight] = {}
        self.place = ""
        """Where commands run, and what that promises."""
        self.finished = False
        self.verdict: Mapping[str, Any] = {}

    @property
    def stages(self) -> Sequence[Row]:
        return tuple(self.rows.values())

    @property
    def in_flight(self) -> InFlight | None:
        """The command that was started last and still runs."""
        return next(reversed(self.now_running.values()), None)

    @property
    def stage_in_flight(self) -> Row | None:
        return next((row for row in self.rows.values() if row.status == "running"), None)

    def apply(self, event: Event) -> None:
        """Add one event. Kinds that change nothing one can see are passed over."""
        change = getattr(self, f"_{event.type}", None)
        if change is not None:
            change(event.data, event.t_ms / 1000)

    def _run_started(self, data: Mapping[str, Any], _now: float) -> None:
        self.place = place(data)

    def _stage_started(self, data: Mapping[str, Any], now: float) -> None:
        row = self._row(data["stage"])
        row.status, row.began, row.number, row.tries = "running", now, 0, 0

    def _command_started(self, data: Mapping[str, Any], now: float) -> None:
        row = self._row(data["stage"])
        row.number += data["try"] == 1
        row.tries = data["try"]
        row.commands = max(row.commands, row.number)
        self.now_running[data["cmd_id"]] = InFlight(
            cmd_id=data["cmd_id"],
            stage=row.stage,
            text=command_text(data),
            path=data["path"],
            number=row.number,
            of=row.commands,
            tries=row.tries,
            began=now,
        )

    def _command_finished(self, data: Mapping[str, Any], _now: float) -> None:
        self.now_running.pop(data["cmd_id"], None)

    def _stage_finished(self, data: Mapping[str, Any], _now: float) -> None:
        row = self._row(data["stage"])
        row.status = "passed" if data["ok"] else "failed"
        row.seconds, row.reason = data["duration_ms"] / 1000, data["reason"]

    def _run_finished(self, data: Mapping[str, Any], _now: float) -> None:
        self.finished, self.verdict = True, data
        self.now_running.clear()
        for row in self.rows.values():
            if row.status == "waiting":
                row.status = "left_out"

    _run_recovered = _run_finished

    def _row(self, stage: str) -> Row:
        return self.rows.setdefault(stage, Row(stage=stage))


def place(data: Mapping[str, Any]) -> str:
    """A `run_started` event's sandbox in words; that the host is no wall is always said."""
    wall = ", no wall" if data.get("sandbox") == "host" else ""
    held = data.get("containment", {}).get("kind", "")
    return f"on {data.get('sandbox')}{wall}" + (f", {held}" if held else "")


def command_text(data: Mapping[str, Any]) -> str:
    """What a `command_started` event says is run, as one would type it."""
    text = data.get("shell")
    return text if isinstance(text, str) else " ".join(map(str, data.get("argv", ())))
