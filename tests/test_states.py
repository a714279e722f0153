from __future__ import annotations

from enum import Enum
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from fsmrt.errors import IllegalTransition
from fsmrt.states import RUN, STAGE, RunPhase, RunSignal, StagePhase, StageSignal, advance

TABLES: list[Any] = [
    pytest.param(RUN, RunPhase, RunSignal, id="run"),
    pytest.param(STAGE, StagePhase, StageSignal, id="stage"),
]


@pytest.mark.parametrize(("table", "phases", "signals"), TABLES)
def test_every_step_the_table_has_is_taken_and_every_other_is_refused(
    table: dict[Enum, dict[Enum, Enum]], phases: type[Enum], signals: type[Enum]
) -> None:
    for phase in phases:
        for signal in signals:
            if signal in table[phase]:
                assert advance(table, phase, signal) is table[phase][signal]
            else:
                with pytest.raises(IllegalTransition, match=f"{phase.value} cannot take"):
                    advance(table, phase, signal)


@pytest.mark.parametrize(("table", "phases", "signals"), TABLES)
def test_every_phase_can_be_reached_and_from_each_an_end(
    table: dict[Enum, dict[Enum, Enum]], phases: type[Enum], signals: type[Enum]
) -> None:
    reached = {next(iter(phases))}
    for _ in phases:
        reached |= {after for phase in reached for after in table[phase].values()}
    assert reached == set(phases)

    ending = {phase for phase in phases if not table[phase]}
    for _ in phases:
        ending |= {phase for phase in phases if ending & set(table[phase].values())}
    assert ending == set(phases)


def test_a_refusal_says_what_would_have_been_accepted() -> None:
    with pytest.raises(IllegalTransition) as caught:
        advance(RUN, RunPhase.RUNNING, RunSignal.OPENED)

    assert str(caught.value) == "RunPhase running cannot take 'opened'; it accepts stages_done, stopped"

    with pytest.raises(IllegalTransition, match="nothing, it is final"):
        advance(STAGE, StagePhase.PASSED, StageSignal.FAILED)


class AnyStage(RuleBasedStateMachine):
    """Whatever signals come, a stage that is over stays over, and only a checked one has passed."""

    def __init__(self) -> None:
        super().__init__()
        self.phase = StagePhase.WAITING
        self.path = [self.phase]

    @rule(signal=st.sampled_from(StageSignal))
    def take(self, signal: StageSignal) -> None:
        try:
            self.phase = advance(STAGE, self.phase, signal)
        except IllegalTransition:
            return
        self.path.append(self.phase)

    @invariant()
    def passed_was_checked(self) -> None:
        if self.phase is StagePhase.PASSED:
            assert self.path[-2] is StagePhase.CHECKING

    @invariant()
    def the_end_comes_once(self) -> None:
        assert all(STAGE[phase] for phase in self.path[:-1])


TestAnyStage = AnyStage.TestCase
