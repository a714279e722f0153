"""The two limits of `security`, what replaces them, and the limit of one try."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

import msgspec

from .model import Pipeline

_MAX_CMD: Final = "AIDER_FSM_MAX_CMD_SECONDS"
_MAX_TOTAL: Final = "AIDER_FSM_MAX_TOTAL_SECONDS"
_SECONDS: Final = re.compile(r"[0-9]{1,9}")


class SecurityLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds for one try and for one stage, each with the place that set it; None: no limit."""

    max_cmd_seconds: int | None = None
    max_cmd_source: str | None = None
    max_total_seconds: int | None = None
    max_total_source: str | None = None
    warnings: tuple[str, ...] = ()


def declared_limits(pipeline: Pipeline) -> SecurityLimits:
    """The limits as the contract's `security` has them. Bootstrap obeys these, whatever replaces them."""
    security = pipeline.security
    return SecurityLimits(
        max_cmd_seconds=security.max_cmd_seconds,
        max_cmd_source=None if security.max_cmd_seconds is None else "security.max_cmd_seconds",
        max_total_seconds=security.max_total_seconds,
        max_total_source=None if security.max_total_seconds is None else "security.max_total_seconds",
    )


def effective_limits(pipeline: Pipeline, operator_env: Mapping[str, str]) -> SecurityLimits:
    """The limits of every stage but bootstrap.

    `AIDER_FSM_MAX_*` in `operator_env` (the caller's environment under `--env` and overrides) replaces the
    declared limit, else the first stage `env` that has it; a value that is no positive integer is passed over
    with a warning.
    """
    declared = declared_limits(pipeline)
    warnings: list[str] = []
    cmd = _replacement(_MAX_CMD, pipeline, operator_env, warnings)
    total = _replacement(_MAX_TOTAL, pipeline, operator_env, warnings)
    return SecurityLimits(
        max_cmd_seconds=cmd[0] if cmd else declared.max_cmd_seconds,
        max_cmd_source=cmd[1] if cmd else declared.max_cmd_source,
        max_total_seconds=total[0] if total else declared.max_total_seconds,
        max_total_source=total[1] if total else declared.max_total_source,
        warnings=tuple(warnings),
    )


def try_seconds(stage_timeout: int | None, limits: SecurityLimits) -> tuple[int | None, str]:
    """How long one try may take, and the name of the limit that says so (empty without one)."""
    cmd = limits.max_cmd_seconds
    if stage_timeout is not None and (cmd is None or stage_timeout <= cmd):
        return stage_timeout, "timeout_seconds"
    return cmd, "" if cmd is None else "max_cmd_seconds"


def _replacement(
    name: str, pipeline: Pipeline, operator_env: Mapping[str, str], warnings: list[str]
) -> tuple[int, str] | None:
    for place, env in _environments(pipeline, operator_env):
        text = env.get(name, "").strip()
        if not text:
            continue
        seconds = _seconds(text)
        if seconds is not None:
            return seconds, f"{name} ({place})"
        warnings.append(f"{name} ({place}) is ignored: {text[:40]!r} is not a positive integer")
    return None


def _environments(
    pipeline: Pipeline, operator_env: Mapping[str, str]
) -> Iterator[tuple[str, Mapping[str, str]]]:
    yield "operator", operator_env
    for stage in ("auth", "tests", "deploy", "rollout", "evaluation", "benchmark"):
        yield f"{stage}.env", getattr(pipeline, stage).env


def _seconds(text: str) -> int | None:
    return int(text) or None if _SECONDS.fullmatch(text) else None
