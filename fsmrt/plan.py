"""What a run does next. The supervisor performs the step; nothing here waits or touches anything.

The order of a full pass, and which of its rows a `--stages` selection keeps, are tables. `next_step` reads
them: the first failure ends the forward part, and teardown is always considered.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from .contract.model import Pipeline, TeardownPolicy
from .messages import StageReport
from .verdict import Reason

PREPARATION = ("actions", "bootstrap")
"""Rows that run in front of any selection of stages."""

FORWARD = ("auth", "tests", "deploy_setup", "deploy_health", "rollout", "evaluation", "benchmark")
"""Rows of a full pass, in order."""

TEARDOWN = "deploy_teardown"

ALL_STAGES = (*PREPARATION, *FORWARD, TEARDOWN)

SELECTABLE: Mapping[str, tuple[str, ...]] = {
    "auth": ("auth",),
    "tests": ("tests",),
    "deploy": ("deploy_setup", "deploy_health"),
    "deploy_setup": ("deploy_setup",),
    "deploy_health": ("deploy_health",),
    "rollout": ("rollout",),
    "evaluation": ("evaluation",),
    "benchmark": ("benchmark",),
}
"""Names `--stages` understands, and the rows each stands for."""


class RunStage(msgspec.Struct, frozen=True, tag=True):
    """Perform this stage; without commands it is recorded as skipped."""

    stage: str


class TearDown(msgspec.Struct, frozen=True, tag=True):
    """The forward part is over: dump, tear down, reap, finish."""


Step = RunStage | TearDown


class RunView(msgspec.Struct, frozen=True, kw_only=True):
    """A run so far, as far as deciding goes."""

    pending: tuple[str, ...]
    """Stages of the forward part still to come, in order."""
    failed: bool = False
    stopped: bool = False


def forward_stages(selection: Sequence[str] | None) -> tuple[str, ...]:
    """The rows to perform: preparation, and what was selected of the rest, always in the order of a pass.

    Raises `ValueError` naming the first unknown stage.
    """
    if selection is None:
        return (*PREPARATION, *FORWARD)
    unknown = [name for name in selection if name not in SELECTABLE]
    if unknown:
        raise ValueError(f"unknown stage {unknown[0]!r}; known are {', '.join(SELECTABLE)}")
    chosen = {row for name in selection for row in SELECTABLE[name]}
    return (*PREPARATION, *(row for row in FORWARD if row in chosen))


def next_step(run: RunView) -> Step:
    """Choose what happens next."""
    if run.failed or run.stopped or not run.pending:
        return TearDown()
    return RunStage(run.pending[0])


def teardown_wanted(policy: TeardownPolicy, *, passed: bool) -> bool:
    """Whether the contract wants its teardown commands run. Cancellation counts as failure."""
    return policy == "always" or (policy == "on_success" if passed else policy == "on_failure")


def teardown_considered(reports: Iterable[StageReport]) -> bool:
    """Not after a failed preparation: nothing can have been deployed then."""
    return not any(report.stage in PREPARATION and not report.ok for report in reports)


class Conclusion(msgspec.Struct, frozen=True, kw_only=True):
    """What the reports of a pass add up to, before anything an operator did is considered."""

    ok: bool
    reason: Reason | None = None
    message: str | None = None
    failed_stage: str | None = None
    score: float | None = None
    metrics: Mapping[str, object] | None = None
    metrics_errors: tuple[str, ...] = ()


def conclude(pipeline: Pipeline, reports: Sequence[StageReport]) -> Conclusion:
    """The verdict of the forward part. The earliest failure counts; metrics of evaluation come first."""
    errors = tuple(error for report in reports for error in report.metrics_errors)
    primary = next((report for report in reports if report.metrics is not None), None)
    metrics = primary.metrics if primary else None
    failed = next((report for report in reports if not report.ok), None)
    if failed is not None:
        return Conclusion(
            ok=False,
            reason=failed.reason or Reason.STAGE_FAILED,
            message=failed.message,
            failed_stage=failed.failed_stage or failed.stage,
            metrics=metrics,
            metrics_errors=errors,
        )
    score = primary.score if primary else None
    reason, message = _why_no_score(pipeline, reports, primary)
    return Conclusion(ok=True, reason=reason, message=message, score=score, metrics=metrics)


def _why_no_score(
    pipeline: Pipeline, reports: Sequence[StageReport], primary: StageReport | None
) -> tuple[Reason | None, str | None]:
    if primary is not None:
        if primary.score is not None:
            return None, None
        return Reason.METRICS_WITHOUT_SCORE, "the metrics were accepted, but hold no finite score or reward"
    ran = {report.stage for report in reports if not report.skipped}
    if not ran:
        return (
            Reason.GATES_NOTHING,
            "the contract has no commands for any of these stages: nothing was checked",
        )
    measured = [stage for stage in ("evaluation", "benchmark") if stage in ran]
    if measured:
        return (
            Reason.METRICS_NOT_DECLARED,
            f"{measured[0]} declares no metrics_path, so there is no number to read",
        )
    return Reason.METRICS_NOT_DECLARED, "no stage that measures was run"
