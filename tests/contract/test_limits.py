"""Which limit holds, and who set it."""

from __future__ import annotations

import pytest

from fsmrt.contract.limits import SecurityLimits, declared_limits, effective_limits, try_seconds
from fsmrt.contract.model import Auth, Evaluation, Pipeline, Rollout, Security

CMD, TOTAL = "AIDER_FSM_MAX_CMD_SECONDS", "AIDER_FSM_MAX_TOTAL_SECONDS"
DECLARED = Pipeline(security=Security(max_cmd_seconds=60, max_total_seconds=600))


def test_without_anything_there_is_no_limit() -> None:
    assert effective_limits(Pipeline(), {}) == SecurityLimits()


def test_the_contract_declares_limits() -> None:
    assert effective_limits(DECLARED, {}) == SecurityLimits(
        max_cmd_seconds=60,
        max_cmd_source="security.max_cmd_seconds",
        max_total_seconds=600,
        max_total_source="security.max_total_seconds",
    )


def test_the_operator_replaces_a_limit_upwards_too() -> None:
    limits = effective_limits(DECLARED, {CMD: " 900 "})
    assert (limits.max_cmd_seconds, limits.max_cmd_source) == (900, f"{CMD} (operator)")
    assert limits.max_total_seconds == 600
    assert declared_limits(DECLARED).max_cmd_seconds == 60


def test_the_first_stage_that_has_a_value_replaces_it_else() -> None:
    pipeline = Pipeline(
        auth=Auth(env={TOTAL: ""}),
        rollout=Rollout(env={TOTAL: "7"}),
        evaluation=Evaluation(env={TOTAL: "8", CMD: "9"}),
    )
    limits = effective_limits(pipeline, {})
    assert (limits.max_total_seconds, limits.max_total_source) == (7, f"{TOTAL} (rollout.env)")
    assert (limits.max_cmd_seconds, limits.max_cmd_source) == (9, f"{CMD} (evaluation.env)")
    assert effective_limits(pipeline, {TOTAL: "3"}).max_total_seconds == 3


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "x", "1_0", "٣", "+3", "1e3", "9" * 5000])
def test_what_is_no_positive_integer_is_passed_over_with_a_warning(text: str) -> None:
    limits = effective_limits(DECLARED, {CMD: text})
    assert limits.max_cmd_seconds == 60
    (warning,) = limits.warnings
    assert warning.startswith(f"{CMD} (operator) is ignored: ")
    assert len(warning) < 200


@pytest.mark.parametrize(
    ("stage", "cmd", "expected"),
    [
        (None, None, (None, "")),
        (5, None, (5, "timeout_seconds")),
        (None, 5, (5, "max_cmd_seconds")),
        (5, 5, (5, "timeout_seconds")),
        (9, 5, (5, "max_cmd_seconds")),
        (5, 9, (5, "timeout_seconds")),
    ],
)
def test_a_try_ends_at_the_smaller_limit(
    stage: int | None, cmd: int | None, expected: tuple[int | None, str]
) -> None:
    assert try_seconds(stage, SecurityLimits(max_cmd_seconds=cmd)) == expected
