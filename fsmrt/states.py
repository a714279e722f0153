"""The state machines of a run and of a stage, as tables.

Two rules. Everything that changes a phase lives in this file: `advance()` looks the signal up and nothing else
may assign one. And this file does not know who asks: the supervisor drives a run, a stage actor drives a stage.

    run:    OPENING -> RUNNING -> CLOSING -> FINISHED
    stage:  WAITING -> RUNNING -> CHECKING -> PASSED | FAILED | STOPPED

A stage is CHECKING once its commands have ended well and its outputs are being read; a stage without commands
goes from WAITING to SKIPPED. The drawing in the documentation is made from these tables.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import TypeVar

from .errors import IllegalTransition


class RunPhase(Enum):
    """Where a run is. CLOSING is teardown, reaping and the last lines of the record."""

    OPENING = "opening"
    RUNNING = "running"
    CLOSING = "closing"
    FINISHED = "finished"


class RunSignal(Enum):
    """What can happen to a run."""

    OPENED = "opened"
    REFUSED = "refused"
    STAGES_DONE = "stages_done"
    STOPPED = "stopped"
    CLOSED = "closed"


class StagePhase(Enum):
    """Where a stage is. The last four are final."""

    WAITING = "waiting"
    RUNNING = "running"
    CHECKING = "checking"
    PASSED = "passed"
    FAILED = "failed"
    STOPPED = "stopped"
    SKIPPED = "skipped"


class StageSignal(Enum):
    """What can happen to a stage."""

    STARTED = "started"
    NOTHING_TO_DO = "nothing_to_do"
    COMMANDS_PASSED = "commands_passed"
    OUTPUTS_ACCEPTED = "outputs_accepted"
    FAILED = "failed"
    STOPPED = "stopped"


RUN: dict[RunPhase, dict[RunSignal, RunPhase]] = {
    RunPhase.OPENING: {
        RunSignal.OPENED: RunPhase.RUNNING,
        RunSignal.REFUSED: RunPhase.CLOSING,
        RunSignal.STOPPED: RunPhase.CLOSING,
    },
    RunPhase.RUNNING: {
        RunSignal.STAGES_DONE: RunPhase.CLOSING,
        RunSignal.STOPPED: RunPhase.CLOSING,
    },
    RunPhase.CLOSING: {
        RunSignal.STOPPED: RunPhase.CLOSING,
        RunSignal.CLOSED: RunPhase.FINISHED,
    },
    RunPhase.FINISHED: {},
}

STAGE: dict[StagePhase, dict[StageSignal, StagePhase]] = {
    StagePhase.WAITING: {
        StageSignal.STARTED: StagePhase.RUNNING,
        StageSignal.NOTHING_TO_DO: StagePhase.SKIPPED,
        StageSignal.STOPPED: StagePhase.STOPPED,
    },
    StagePhase.RUNNING: {
        StageSignal.COMMANDS_PASSED: StagePhase.CHECKING,
        StageSignal.FAILED: StagePhase.FAILED,
        StageSignal.STOPPED: StagePhase.STOPPED,
    },
    StagePhase.CHECKING: {
        StageSignal.OUTPUTS_ACCEPTED: StagePhase.PASSED,
        StageSignal.FAILED: StagePhase.FAILED,
        StageSignal.STOPPED: StagePhase.STOPPED,
    },
    StagePhase.PASSED: {},
    StagePhase.FAILED: {},
    StagePhase.STOPPED: {},
    StagePhase.SKIPPED: {},
}

_Phase = TypeVar("_Phase", bound=Enum)
_Signal = TypeVar("_Signal", bound=Enum)


def advance(table: Mapping[_Phase, Mapping[_Signal, _Phase]], phase: _Phase, signal: _Signal) -> _Phase:
    """The phase after `signal`. Raises `IllegalTransition`, naming what would have been accepted."""
    try:
        return table[phase][signal]
    except KeyError:
        accepted = ", ".join(str(s.value) for s in table[phase]) or "nothing, it is final"
        raise IllegalTransition(
            f"{type(phase).__name__} {phase.value} cannot take {signal.value!r}; it accepts {accepted}"
        ) from None
