"""Why a run ended the way it did: the closed set of reasons, who answers for each, and the exit code.

Two answers of a run are independent. `ok`: did every stage and check the contract asked for pass?
`verdict`: is there a number one may train or report on? No failure of the infrastructure is ever a number.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

Verdict = Literal["scored", "no_verdict", "cancelled"]


class Owner(StrEnum):
    """Who has to act on a reason. `policy` is the model being measured, never the command rules."""

    CONTRACT = "contract"
    TASK = "task"
    POLICY = "policy"
    SANDBOX = "sandbox"
    PROVIDER = "provider"
    AGENT = "agent"
    BUG = "bug"
    OPERATOR = "operator"


class Reason(StrEnum):
    """Every reason a run can end without a score, or with `ok` false."""

    GATES_NOTHING = "gates_nothing"
    CONTRACT_INVALID = "contract_invalid"
    COMMAND_REFUSED = "command_refused"
    WORKDIR_INVALID = "workdir_invalid"
    METRICS_NOT_DECLARED = "metrics_not_declared"
    METRICS_WITHOUT_SCORE = "metrics_without_score"
    AUDIT_FAILED = "audit_failed"

    OUTCOME_REJECTED = "outcome_rejected"
    OUTCOME_INCONCLUSIVE = "outcome_inconclusive"
    FLAKY_CHECK = "flaky_check"
    STAGE_FAILED = "stage_failed"
    STAGE_TIMEOUT = "stage_timeout"
    METRICS_MISSING = "metrics_missing"
    METRICS_INVALID = "metrics_invalid"
    METRICS_NOT_OK = "metrics_not_ok"
    HINTS_UNMET = "hints_unmet"
    SAMPLES_INVALID = "samples_invalid"
    EVIDENCE_TAMPERED = "evidence_tampered"

    POLICY_NO_OUTPUT = "policy_no_output"

    SANDBOX_START_FAILED = "sandbox_start_failed"
    IMAGE_UNAVAILABLE = "image_unavailable"
    SANDBOX_LOST = "sandbox_lost"
    OUT_OF_MEMORY = "out_of_memory"
    DISK_FULL = "disk_full"

    LLM_UNAVAILABLE = "llm_unavailable"
    SOURCE_UNAVAILABLE = "source_unavailable"

    REPAIR_EXHAUSTED = "repair_exhausted"
    AGENT_FAILED = "agent_failed"
    SCAFFOLD_FAILED = "scaffold_failed"
    AGENT_UNAVAILABLE = "agent_unavailable"
    AGENT_BROKE_RULES = "agent_broke_rules"

    RUNNER_ERROR = "runner_error"

    RUN_TIMEOUT = "run_timeout"
    REPO_BUSY = "repo_busy"
    PREFLIGHT_FAILED = "preflight_failed"
    INTERRUPTED = "interrupted"
    CANCELLED_BY_CALLER = "cancelled_by_caller"


_REASONS_BY_OWNER: dict[Owner, tuple[Reason, ...]] = {
    Owner.CONTRACT: (
        Reason.GATES_NOTHING,
        Reason.CONTRACT_INVALID,
        Reason.COMMAND_REFUSED,
        Reason.WORKDIR_INVALID,
        Reason.METRICS_NOT_DECLARED,
        Reason.METRICS_WITHOUT_SCORE,
        Reason.AUDIT_FAILED,
    ),
    Owner.TASK: (
        Reason.OUTCOME_REJECTED,
        Reason.OUTCOME_INCONCLUSIVE,
        Reason.FLAKY_CHECK,
        Reason.STAGE_FAILED,
        Reason.STAGE_TIMEOUT,
        Reason.METRICS_MISSING,
        Reason.METRICS_INVALID,
        Reason.METRICS_NOT_OK,
        Reason.HINTS_UNMET,
        Reason.SAMPLES_INVALID,
        Reason.EVIDENCE_TAMPERED,
    ),
    Owner.POLICY: (Reason.POLICY_NO_OUTPUT,),
    Owner.SANDBOX: (
        Reason.SANDBOX_START_FAILED,
        Reason.IMAGE_UNAVAILABLE,
        Reason.SANDBOX_LOST,
        Reason.OUT_OF_MEMORY,
        Reason.DISK_FULL,
    ),
    Owner.PROVIDER: (Reason.LLM_UNAVAILABLE, Reason.SOURCE_UNAVAILABLE),
    Owner.AGENT: (
        Reason.REPAIR_EXHAUSTED,
        Reason.AGENT_FAILED,
        Reason.SCAFFOLD_FAILED,
        Reason.AGENT_UNAVAILABLE,
        Reason.AGENT_BROKE_RULES,
    ),
    Owner.BUG: (Reason.RUNNER_ERROR,),
    Owner.OPERATOR: (
        Reason.RUN_TIMEOUT,
        Reason.REPO_BUSY,
        Reason.PREFLIGHT_FAILED,
        Reason.INTERRUPTED,
        Reason.CANCELLED_BY_CALLER,
    ),
}

OWNER: dict[Reason, Owner] = {
    reason: owner for owner, reasons in _REASONS_BY_OWNER.items() for reason in reasons
}

CANCELLATIONS = frozenset({Reason.INTERRUPTED, Reason.CANCELLED_BY_CALLER})

EXIT_CODES: dict[int, str] = {
    0: "passed",
    1: "the contract was not met: a stage failed, timed out, or a metric or check did not hold",
    2: "usage, configuration or contract invalid; nothing was executed",
    3: "no verdict: infrastructure failed (engine, network, agent server, disk)",
    4: "preflight: something required is not there",
    70: "a bug of fsmrt",
    124: "the run's own deadline",
    130: "interrupted, after teardown",
    143: "terminated, after teardown",
}

_EXIT_BY_REASON: dict[Reason, int] = {
    Reason.RUN_TIMEOUT: 124,
    Reason.INTERRUPTED: 130,
    Reason.CANCELLED_BY_CALLER: 130,
    Reason.RUNNER_ERROR: 70,
    Reason.CONTRACT_INVALID: 2,
    Reason.PREFLIGHT_FAILED: 4,
    Reason.REPO_BUSY: 4,
    Reason.AGENT_UNAVAILABLE: 4,
    Reason.OUTCOME_INCONCLUSIVE: 3,
    Reason.REPAIR_EXHAUSTED: 1,
}

_INFRASTRUCTURE = frozenset({Owner.SANDBOX, Owner.PROVIDER, Owner.AGENT})


def exit_code(ok: bool, reason: Reason | None, *, terminated: bool = False) -> int:
    """The exit code of `fsmrt run`: the first row of the table that fits."""
    if ok:
        return 0
    if reason is None:
        return 1
    if terminated and reason in CANCELLATIONS:
        return 143
    if reason in _EXIT_BY_REASON:
        return _EXIT_BY_REASON[reason]
    return 3 if OWNER[reason] in _INFRASTRUCTURE else 1


def verdict_of(ok: bool, reason: Reason | None, score: float | None) -> Verdict:
    """`scored` needs both: everything passed, and an accepted metrics file with a number in it."""
    if reason in CANCELLATIONS:
        return "cancelled"
    return "scored" if ok and score is not None else "no_verdict"
