"""A report as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from .harness import Judged, Line, Report

UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"))


def render(report: Report) -> str:
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    yield f"{report.row}: {report.about}"
    yield f"  {report.rounds} rounds, seed {report.seed}"
    width = max(len(line.variant) for line in report.lines)
    yield f"  {'':{width}}  {'median':>10}  {'p95':>10}  {'x floor':>8}"
    yield from (_measured(line, width) for line in report.lines)
    yield from (f"  {missing.name:{width}}  not measured: {missing.why}" for missing in report.missing)
    yield from (_goal(goal) for goal in report.goals)


def _measured(line: Line, width: int) -> str:
    counts = "  ".join(f"{name}={value:g}" for name, value in line.counts.items())
    figures = f"{duration(line.median):>10}  {duration(line.p95):>10}  {line.ratio:8.2f}"
    return f"  {line.variant:{width}}  {figures}  {counts}".rstrip()


def _goal(goal: Judged) -> str:
    value = "" if goal.value is None else f" (is {goal.value:.3g})"
    return f"  goal {goal.verdict}: {goal.goal}{value}"


def duration(seconds: float) -> str:
    """Three digits and the unit that suits them."""
    scale, unit = next(((scale, unit) for scale, unit in UNITS if seconds >= scale), UNITS[-1])
    return f"{seconds / scale:.3g} {unit}"
