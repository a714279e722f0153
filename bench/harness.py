"""Variants measured round by round in shuffled order, and goals judged on ratios within each round."""

from __future__ import annotations

import fnmatch
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Literal

import msgspec


class Sample(msgspec.Struct, frozen=True):
    """One measurement: seconds for one unit of the row's work, and whatever else was counted."""

    seconds: float
    counts: dict[str, float] = {}

    def value(self, metric: str) -> float:
        return self.seconds if metric == "seconds" else self.counts[metric]


class Variant(msgspec.Struct, frozen=True):
    """One way to do the row's work. `measure` does it once and says what it cost."""

    name: str
    measure: Callable[[], Sample]


class Missing(msgspec.Struct, frozen=True):
    """A variant that cannot be measured here, and why. Goals that need it stay open."""

    name: str
    why: str


class Goal(msgspec.Struct, frozen=True, kw_only=True):
    """At most `at_most`: of the median ratio to `over` if there is one, else of the metric itself."""

    variant: str
    """A name, or a pattern such as `fsmrt: *`: its variants are judged together."""
    at_most: float
    over: str | None = None
    metric: str = "seconds"
    by: Literal["median", "max", "sum"] = "median"

    def __str__(self) -> str:
        what = f"{self.by} {self.metric} of {self.variant}"
        return f"{what} <= {self.at_most:g}" + (f" x {self.over}" if self.over else "")


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One benchmark: the work, the ways to do it (the first one is the floor), and what is wanted."""

    name: str
    about: str
    variants: tuple[Variant | Missing, ...]
    goals: tuple[Goal, ...]
    rounds: int = 20
    deadline_seconds: float = 120.0
    """No further round is begun after this long; at least one is always complete."""


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the caller chose. `scale` shrinks the amount of work in rows that have one."""

    rounds: int | None = None
    seed: int = 1
    scale: float = 1.0


REDUCE: dict[str, Callable[[list[float]], float]] = {
    "median": statistics.median,
    "max": max,
    "sum": sum,
}
OpenRow = Callable[[Options], AbstractContextManager[Row]]
Samples = Mapping[str, Sequence[Sample]]


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    goal: str
    value: float | None
    verdict: Literal["met", "missed", "open"]


class Line(msgspec.Struct, frozen=True, kw_only=True):
    """One variant in the report; times in seconds, `ratio` to the floor."""

    variant: str
    median: float
    p95: float
    ratio: float
    counts: dict[str, float]
    """Medians of what else was counted."""


class Report(msgspec.Struct, frozen=True, kw_only=True):
    row: str
    about: str
    rounds: int
    seed: int
    lines: tuple[Line, ...]
    goals: tuple[Judged, ...]
    missing: tuple[Missing, ...]


def run(row: Row, options: Options, now: Callable[[], float]) -> Report:
    """Measure every variant once a round, and judge the goals. `now` is a clock in seconds."""
    present = [variant for variant in row.variants if isinstance(variant, Variant)]
    samples = _measured(row, present, options, now)
    floor = present[0].name
    return Report(
        row=row.name,
        about=row.about,
        rounds=len(samples[floor]),
        seed=options.seed,
        lines=tuple(_line(variant.name, floor, samples) for variant in present),
        goals=tuple(judge(goal, samples) for goal in row.goals),
        missing=tuple(variant for variant in row.variants if isinstance(variant, Missing)),
    )


def _measured(row: Row, variants: Sequence[Variant], options: Options, now: Callable[[], float]) -> Samples:
    order = random.Random(options.seed)
    samples: dict[str, list[Sample]] = {variant.name: [] for variant in variants}
    end = now() + row.deadline_seconds
    for turn in range(options.rounds or row.rounds):
        if turn and now() > end:
            break
        for variant in order.sample(variants, len(variants)):
            samples[variant.name].append(variant.measure())
    return samples


def judge(goal: Goal, samples: Samples) -> Judged:
    """Open where the goal's variant, or what it is compared with, was not measured."""
    names = fnmatch.filter(samples, goal.variant)
    if not names or (goal.over is not None and goal.over not in samples):
        return Judged(goal=str(goal), value=None, verdict="open")
    values = [value for name in names for value in _values(goal, samples, name)]
    value = float(REDUCE[goal.by](values))
    return Judged(goal=str(goal), value=value, verdict="met" if value <= goal.at_most else "missed")


def _values(goal: Goal, samples: Samples, name: str) -> Iterator[float]:
    own = (sample.value(goal.metric) for sample in samples[name])
    if goal.over is None:
        yield from own
    else:
        yield from _ratios(own, (sample.value(goal.metric) for sample in samples[goal.over]))


def _ratios(above: Iterator[float], below: Iterator[float]) -> Iterator[float]:
    """Round by round: what slows one variant in a round slows the other as well."""
    return (a / b for a, b in zip(above, below, strict=True) if b)


def _line(name: str, floor: str, samples: Samples) -> Line:
    seconds = [sample.seconds for sample in samples[name]]
    ratios = list(_ratios(iter(seconds), (sample.seconds for sample in samples[floor])))
    return Line(
        variant=name,
        median=statistics.median(seconds),
        p95=percentile(seconds, 0.95),
        ratio=statistics.median(ratios or [float("nan")]),
        counts={
            count: statistics.median(sample.counts[count] for sample in samples[name])
            for count in samples[name][0].counts
        },
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of the values do not exceed."""
    ranked = sorted(values)
    below = share * len(ranked)
    return ranked[max(0, -int(-below // 1) - 1)]
