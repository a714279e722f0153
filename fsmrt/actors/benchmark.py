"""A second measurement, whose metrics count where evaluation delivered none."""

from __future__ import annotations

from typing import Literal

from .evaluation import EvaluationActor


class BenchmarkActor(EvaluationActor):
    """`benchmark.run_cmds`, then its metrics."""

    name = "benchmark"
    metrics_of: Literal["evaluation", "benchmark"] = "benchmark"
