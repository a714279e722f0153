from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsmrt.contract.model import Pipeline, TeardownPolicy
from fsmrt.messages import StageReport
from fsmrt.plan import (
    FORWARD,
    PREPARATION,
    SELECTABLE,
    RunStage,
    RunView,
    TearDown,
    conclude,
    forward_stages,
    next_step,
    teardown_considered,
    teardown_wanted,
)
from fsmrt.verdict import Reason


def report(stage: str, **facts: Any) -> StageReport:
    return StageReport(**{"stage": stage, "attempt": "a", "ok": True, **facts})


def test_a_full_pass_is_every_row_in_order() -> None:
    assert forward_stages(None) == (*PREPARATION, *FORWARD)


@given(st.lists(st.sampled_from(sorted(SELECTABLE)), max_size=6))
def test_a_selection_is_a_part_of_a_pass_in_its_order_with_preparation_in_front(names: list[str]) -> None:
    rows = forward_stages(names)

    assert rows[:2] == PREPARATION
    assert set(rows[2:]) == {row for name in names for row in SELECTABLE[name]}
    assert sorted(rows[2:], key=FORWARD.index) == list(rows[2:])


@pytest.mark.parametrize("name", ["", "actions", "bootstrap", "deploy_teardown", "Tests"])
def test_what_cannot_be_selected_is_named(name: str) -> None:
    with pytest.raises(ValueError, match=f"unknown stage {name!r}; known are auth, tests"):
        forward_stages(["tests", name])


@given(st.lists(st.sampled_from(FORWARD)), st.booleans(), st.booleans())
def test_the_next_stage_unless_something_ended_the_run(
    pending: list[str], failed: bool, stopped: bool
) -> None:
    step = next_step(RunView(pending=tuple(pending), failed=failed, stopped=stopped))

    assert step == (RunStage(pending[0]) if pending and not failed and not stopped else TearDown())


@pytest.mark.parametrize(
    ("policy", "after_success", "after_failure"),
    [
        ("always", True, True),
        ("on_success", True, False),
        ("on_failure", False, True),
        ("never", False, False),
    ],
)
def test_when_teardown_is_wanted(policy: TeardownPolicy, after_success: bool, after_failure: bool) -> None:
    assert teardown_wanted(policy, passed=True) is after_success
    assert teardown_wanted(policy, passed=False) is after_failure


def test_teardown_is_not_considered_after_a_failed_preparation() -> None:
    assert teardown_considered([])
    assert teardown_considered([report("bootstrap"), report("tests", ok=False)])
    assert not teardown_considered([report("bootstrap", ok=False)])
    assert not teardown_considered([report("actions", ok=False)])


def test_the_earliest_failure_counts() -> None:
    conclusion = conclude(
        Pipeline(),
        [
            report("tests"),
            report(
                "evaluation", ok=False, reason=Reason.METRICS_MISSING, message="gone", failed_stage="metrics"
            ),
            report("benchmark", ok=False, reason=Reason.STAGE_FAILED),
        ],
    )

    assert (conclusion.ok, conclusion.reason, conclusion.failed_stage) == (
        False,
        Reason.METRICS_MISSING,
        "metrics",
    )
    assert conclusion.score is None


@pytest.mark.parametrize(
    ("reports", "reason", "score"),
    [
        ([], Reason.GATES_NOTHING, None),
        ([report("tests", skipped=True)], Reason.GATES_NOTHING, None),
        ([report("tests")], Reason.METRICS_NOT_DECLARED, None),
        ([report("evaluation")], Reason.METRICS_NOT_DECLARED, None),
        ([report("evaluation", metrics={"a": 1})], Reason.METRICS_WITHOUT_SCORE, None),
        ([report("evaluation", metrics={}, score=0.0)], None, 0.0),
        ([report("evaluation"), report("benchmark", metrics={}, score=0.5)], None, 0.5),
        (
            [report("evaluation", metrics={}), report("benchmark", metrics={}, score=0.5)],
            Reason.METRICS_WITHOUT_SCORE,
            None,
        ),
    ],
)
def test_what_a_pass_without_failure_amounts_to(
    reports: list[StageReport], reason: Reason | None, score: float | None
) -> None:
    conclusion = conclude(Pipeline(), reports)

    assert (conclusion.ok, conclusion.reason, conclusion.score) == (True, reason, score)
