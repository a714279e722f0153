from __future__ import annotations

import pytest

from fsmrt.verdict import CANCELLATIONS, EXIT_CODES, OWNER, Owner, Reason, exit_code, verdict_of


def test_every_reason_has_one_owner() -> None:
    assert set(OWNER) == set(Reason)
    assert set(OWNER.values()) == set(Owner)


@pytest.mark.parametrize("reason", Reason)
def test_every_reason_has_an_exit_code_the_table_explains(reason: Reason) -> None:
    code = exit_code(False, reason)

    assert code in EXIT_CODES
    assert code != 0


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        (Reason.STAGE_FAILED, 1),
        (Reason.METRICS_NOT_OK, 1),
        (Reason.POLICY_NO_OUTPUT, 1),
        (Reason.COMMAND_REFUSED, 1),
        (Reason.CONTRACT_INVALID, 2),
        (Reason.DISK_FULL, 3),
        (Reason.LLM_UNAVAILABLE, 3),
        (Reason.AGENT_FAILED, 3),
        (Reason.OUTCOME_INCONCLUSIVE, 3),
        (Reason.REPO_BUSY, 4),
        (Reason.PREFLIGHT_FAILED, 4),
        (Reason.AGENT_UNAVAILABLE, 4),
        (Reason.RUNNER_ERROR, 70),
        (Reason.RUN_TIMEOUT, 124),
        (Reason.INTERRUPTED, 130),
        (Reason.CANCELLED_BY_CALLER, 130),
    ],
)
def test_exit_codes(reason: Reason, code: int) -> None:
    assert exit_code(False, reason) == code


def test_ok_is_zero_whatever_the_reason_and_a_termination_has_its_own_code() -> None:
    assert exit_code(True, Reason.METRICS_NOT_DECLARED) == 0
    assert exit_code(False, None) == 1
    assert exit_code(False, Reason.INTERRUPTED, terminated=True) == 143
    assert exit_code(False, Reason.STAGE_FAILED, terminated=True) == 1


@pytest.mark.parametrize("reason", [None, *Reason])
@pytest.mark.parametrize("ok", [True, False])
@pytest.mark.parametrize("score", [None, 0.0, 1.0])
def test_a_number_counts_only_where_everything_passed(
    reason: Reason | None, ok: bool, score: float | None
) -> None:
    verdict = verdict_of(ok, reason, score)

    assert (verdict == "cancelled") == (reason in CANCELLATIONS)
    assert (verdict == "scored") == (ok and score is not None and reason not in CANCELLATIONS)
