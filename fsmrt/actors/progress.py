"""What a stage knows of itself while it runs, and the report that comes of it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from ..messages import CommandReport, Ended, PlannedCommand, StageOrder, StageReport, TryReport
from ..repository import MovedAside
from ..states import STAGE, StagePhase, StageSignal, advance
from ..verdict import Reason

_GOOD = frozenset({StagePhase.PASSED, StagePhase.SKIPPED})
_UNFINISHED = frozenset({StagePhase.WAITING, StagePhase.RUNNING, StagePhase.CHECKING})


class Progress:
    """One stage of one pass, so far. Its phase changes through the table in `states` alone."""

    def __init__(self, order: StageOrder) -> None:
        self.phase = StagePhase.WAITING
        self.moved_aside: tuple[MovedAside, ...] = ()
        self.ended_children: tuple[Ended, ...] = ()
        self.looked_after = False
        """Whether what the stage left behind has been looked at."""
        self.warnings: list[str] = [*order.warnings]
        self.metrics: Mapping[str, Any] | None = None
        self.metrics_errors: tuple[str, ...] = ()
        self.score: float | None = None
        self.failed_stage = order.stage
        self._reason: Reason | None = None
        self._message: str | None = None
        self._began = time.monotonic()
        self._tries: list[tuple[PlannedCommand, list[TryReport]]] = []

    def advance(self, signal: StageSignal) -> None:
        self.phase = advance(STAGE, self.phase, signal)

    @property
    def running(self) -> bool:
        return self.phase is StagePhase.RUNNING

    @property
    def failure(self) -> tuple[Reason, str] | None:
        """Why the stage failed, if it did."""
        return None if self._reason is None else (self._reason, self._message or "")

    @property
    def checking(self) -> bool:
        return self.phase is StagePhase.CHECKING

    def add(self, planned: PlannedCommand, report: TryReport) -> None:
        """Keep the report of a try, also of one that was cut off."""
        if not self._tries or self._tries[-1][0] is not planned:
            self._tries.append((planned, []))
        self._tries[-1][1].append(report)

    def fail(self, reason: Reason, message: str) -> None:
        """The first reason stays."""
        if self._reason is None:
            self._reason, self._message = reason, message
            self.advance(StageSignal.FAILED)

    def stop_if_unfinished(self) -> None:
        """Cancelled in the middle: nobody advanced the phase to an end."""
        if self.phase in _UNFINISHED:
            self.advance(StageSignal.STOPPED)

    @property
    def _flat(self) -> list[TryReport]:
        return [report for _, tries in self._tries for report in tries]

    @property
    def last_prefix(self) -> str | None:
        """Where the files of the last try are."""
        return self._flat[-1].path if self._tries else None

    def summary(self) -> dict[str, Any]:
        """`<stage>_summary.json`, with the existing runner's keys."""
        flat = self._flat
        ok = self.phase in _GOOD
        return {
            "ok": ok,
            "failed_index": None if ok or not flat else len(flat) - 1,
            "total_results": len(flat),
            "skipped": self.phase is StagePhase.SKIPPED,
            "moved_aside": self.moved_aside,
            "ended_children": self.ended_children,
        }

    def report(self, order: StageOrder) -> StageReport:
        ok = self.phase in _GOOD
        return StageReport(
            stage=order.stage,
            attempt=order.attempt,
            ok=ok,
            skipped=self.phase is StagePhase.SKIPPED,
            stopped=self.phase is StagePhase.STOPPED,
            commands=tuple(
                CommandReport(cmd=planned.text, tries=tuple(tries)) for planned, tries in self._tries
            ),
            reason=self._reason,
            message=self._message,
            failed_stage=None if ok else self.failed_stage,
            seconds=time.monotonic() - self._began,
            metrics=self.metrics,
            metrics_errors=self.metrics_errors,
            score=self.score,
            env=order.adds_env if ok else None,
            warnings=tuple(self.warnings),
        )
