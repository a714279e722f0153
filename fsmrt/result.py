"""The answer of a run: what the reports add up to, and the document users and programs read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from .contract.model import Pipeline
from .messages import (
    CommandReport,
    Ended,
    RunResult,
    SandboxFacts,
    StageReport,
    StreamReport,
    Target,
    TryReport,
)
from .plan import Conclusion, conclude
from .verdict import OWNER, Reason, exit_code, verdict_of

SCHEMA = "fsmrt.result.v1"


def refused(run_id: str, target: Target, reason: Reason, message: str) -> RunResult:
    """The answer of a run that never began; nothing was executed and nothing is on disk."""
    return RunResult(
        run_id=run_id,
        ok=False,
        verdict=verdict_of(False, reason, None),
        reason=reason,
        message=message,
        reward=None,
        failed_stage=None,
        target=target,
        sandbox=None,
    )


class Ending(msgspec.Struct, frozen=True, kw_only=True):
    """What happened to a run besides what its stages report."""

    stop_reason: Reason | None = None
    stop_message: str | None = None
    defect: str | None = None
    interrupted: bool = False
    terminated: bool = False


def verdict(pipeline: Pipeline, reports: Sequence[StageReport], ending: Ending) -> Conclusion:
    """What a run amounts to. The earliest cause counts: a stage that had failed keeps its reason."""
    conclusion = conclude(pipeline, [report for report in reports if not report.stopped])
    if not conclusion.ok:
        return conclusion
    cut = next((report.stage for report in reports if report.stopped), None)
    if ending.defect is not None:
        return _instead(conclusion, Reason.RUNNER_ERROR, _last_words(ending.defect), cut)
    if ending.stop_reason is not None:
        return _instead(conclusion, ending.stop_reason, ending.stop_message, cut)
    if ending.interrupted:
        return _instead(conclusion, Reason.CANCELLED_BY_CALLER, "the caller was cancelled", cut)
    return conclusion


def _last_words(traceback: str) -> str:
    """The line that names the exception; those of a group are drawn inside a frame."""
    lines = (line.strip(" |+-") for line in reversed(traceback.splitlines()))
    return next((line for line in lines if line), "")


def _instead(
    conclusion: Conclusion, reason: Reason, message: str | None, failed_stage: str | None
) -> Conclusion:
    return msgspec.structs.replace(
        conclusion, ok=False, reason=reason, message=message, failed_stage=failed_stage, score=None
    )


def answer(
    *,
    run_id: str,
    conclusion: Conclusion,
    target: Target,
    sandbox: SandboxFacts,
    reports: Sequence[StageReport],
    warnings: Sequence[str],
    ended: Sequence[Ended],
    timings: Mapping[str, float],
    attempt_dir: Path,
    run_dir: Path,
    terminated: bool,
) -> RunResult:
    """Everything a caller learns."""
    repairable = not conclusion.ok and conclusion.reason is not None
    return RunResult(
        run_id=run_id,
        ok=conclusion.ok,
        verdict=verdict_of(conclusion.ok, conclusion.reason, conclusion.score),
        reason=conclusion.reason,
        message=conclusion.message,
        reward=conclusion.score if conclusion.ok else None,
        failed_stage=conclusion.failed_stage,
        target=target,
        sandbox=sandbox,
        stages=tuple(reports),
        metrics=conclusion.metrics,
        metrics_errors=conclusion.metrics_errors,
        repair="unavailable" if repairable and OWNER[conclusion.reason] in _REPAIRABLE else None,  # type: ignore[index]
        warnings=tuple(dict.fromkeys(warnings)),
        leaks=tuple(f"process {one.pid}: {one.command}" for one in ended if one.how == "leaked"),
        timings=timings,
        artifacts_dir=str(attempt_dir),
        run_dir=str(run_dir),
        terminated=terminated,
    )


_REPAIRABLE = frozenset({"contract", "task", "policy", "provider"})
"""Owners whose failures an agent would be asked to repair; operator's, machine's and our own never."""


def code_of(result: RunResult) -> int:
    """The exit code of `fsmrt run` for this result."""
    return exit_code(result.ok, result.reason, terminated=result.terminated)


def document(result: RunResult) -> dict[str, Any]:
    """The result as `fsmrt.result.v1`, for `--json` and `verdict.json`."""
    return {
        "schema": SCHEMA,
        "run_id": result.run_id,
        "ok": result.ok,
        "verdict": result.verdict,
        "reason": result.reason,
        "reason_owner": None if result.reason is None else OWNER[result.reason],
        "message": result.message,
        "reward": result.reward,
        "failed_stage": result.failed_stage,
        "target": result.target,
        "sandbox": _sandbox(result.sandbox),
        "stages": [_stage(report) for report in result.stages],
        "metrics": result.metrics,
        "metrics_errors": result.metrics_errors,
        "repairs": [],
        "repair": result.repair,
        "evaluation_repaired": False,
        "warnings": result.warnings,
        "outcome": None,
        "leaks": result.leaks,
        "timings": result.timings,
        "artifacts_dir": result.artifacts_dir,
        "evidence": {"dir": result.run_dir, "run_root": result.run_root},
    }


def _sandbox(facts: SandboxFacts | None) -> dict[str, Any] | None:
    if facts is None:
        return None
    return {
        "kind": facts.kind,
        "image": facts.image,
        "image_digest": facts.image_digest,
        "isolation": facts.isolation,
        "containment": facts.containment,
    }


def _stage(report: StageReport) -> dict[str, Any]:
    return {
        "name": report.stage,
        "ok": report.ok,
        "skipped": report.skipped,
        "attempt": report.attempt,
        "duration_ms": _ms(report.seconds),
        "commands": [_command(command) for command in report.commands],
    }


def _command(command: CommandReport) -> dict[str, Any]:
    return {"cmd": command.cmd, "tries": [_try(one) for one in command.tries]}


def _try(report: TryReport) -> dict[str, Any]:
    return {
        "cmd_id": report.cmd_id,
        "rc": report.rc,
        "signal": report.signal,
        "timed_out": report.timed_out,
        "limit": report.limit,
        "oom": report.oom,
        "cancelled": report.cancelled,
        "refused": report.refused,
        "status_source": report.status_source,
        "duration_ms": _ms(report.seconds),
        "stdout": _stream(report.stdout),
        "stderr": _stream(report.stderr),
        "tail": tail_of(report),
    }


def _stream(stream: StreamReport) -> dict[str, Any]:
    return {"path": stream.path, "bytes": stream.bytes, "truncated": stream.truncated}


def tail_of(report: TryReport, limit: int = 4096) -> str:
    """The last of what a try printed, for a person: stderr if there is any, else stdout."""
    text = _shown(report.stderr)
    return (text if text.strip() else _shown(report.stdout))[-limit:]


def _shown(stream: StreamReport) -> str:
    """What is there for display: the tail follows the head, unless something between them was left out."""
    return stream.tail if stream.truncated else stream.head + stream.tail


def _ms(seconds: float) -> float:
    return round(seconds * 1000, 3)
