from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.harness import Goal, Missing, Options, Row, Sample, Variant, judge, percentile, run
from bench.rows import ROWS
from bench.text import duration, render


def counted(name: str, seconds: list[float], log: list[str]) -> Variant:
    """A variant that takes the given times, one after the other."""
    left = iter(seconds)

    def measure() -> Sample:
        log.append(name)
        return Sample(next(left), {"kept": 2.0})

    return Variant(name, measure)


def row_of(*variants: Variant | Missing, goals: tuple[Goal, ...] = (), deadline: float = 1e9) -> Row:
    return Row(name="row", about="work", variants=variants, goals=goals, rounds=4, deadline_seconds=deadline)


def clock(step: float) -> Callable[[], float]:
    ticks = iter(range(1000))
    return lambda: next(ticks) * step


def test_every_variant_is_measured_once_a_round_in_shuffled_order() -> None:
    log: list[str] = []
    variants = [counted(name, [1.0] * 4, log) for name in "abcdef"]
    run(row_of(*variants), Options(seed=7), clock(0))
    rounds = [log[start : start + 6] for start in range(0, 24, 6)]
    assert [sorted(turn) for turn in rounds] == [list("abcdef")] * 4
    assert len({tuple(turn) for turn in rounds}) > 1


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that slows down tenfold in the middle changes the times and not the ratio."""
    floor, ours = counted("floor", [1, 1, 10, 10], []), counted("ours", [2, 2, 20, 20], [])
    goal = Goal(variant="ours", over="floor", at_most=2.5)
    report = run(row_of(floor, ours, goals=(goal,)), Options(), clock(0))
    assert report.lines[1].ratio == 2
    assert (report.goals[0].value, report.goals[0].verdict) == (2, "met")


def test_a_goal_without_its_variant_stays_open() -> None:
    goals = (Goal(variant="ours", at_most=1), Goal(variant="floor", over="peer", at_most=1))
    row = row_of(counted("floor", [1] * 4, []), Missing("peer", "not here"), goals=goals)
    report = run(row, Options(), clock(0))
    assert [goal.verdict for goal in report.goals] == ["open", "open"]
    assert "peer   not measured: not here" in render(report).replace("    ", "   ")


def test_a_pattern_judges_its_variants_together() -> None:
    samples = {"a: x": [Sample(1, {"n": 0})], "a: y": [Sample(3, {"n": 1})], "b: x": [Sample(9, {"n": 9})]}
    assert judge(Goal(variant="a: *", at_most=3, by="max"), samples).verdict == "met"
    assert judge(Goal(variant="a: *", at_most=0, by="sum", metric="n"), samples).verdict == "missed"


def test_no_round_begins_after_the_deadline() -> None:
    report = run(row_of(counted("floor", [1] * 4, []), deadline=2.5), Options(), clock(1))
    assert report.rounds == 3


@given(st.lists(st.floats(0, 1e9), min_size=1), st.floats(0, 1))
def test_a_percentile_is_the_smallest_value_that_suffices(values: list[float], share: float) -> None:
    value = percentile(values, share)
    assert value in values
    assert sum(other <= value for other in values) >= share * len(values)


@pytest.mark.parametrize(
    ("seconds", "text"), [(2, "2 s"), (0.0123, "12.3 ms"), (4e-6, "4 us"), (4e-9, "0.004 us")]
)
def test_times_are_readable(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@pytest.mark.parametrize("name", ROWS)
def test_every_row_opens_and_names_itself(name: str) -> None:
    module = importlib.import_module(ROWS[name])
    with module.opened(Options(scale=0.001)) as row:
        assert row.name == name
        assert any(isinstance(variant, Variant) for variant in row.variants)
        assert row.goals
