"""Reading `pipeline.yml`: every problem with its line and column, for hardly more than PyYAML's C loader."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import yaml

from bench.harness import Goal, Missing, Options, Row, Sample, Variant
from bench.programs import is_there

CONTRACT = Path(__file__).parent / "pipeline.yml"
FLOOR = "yaml, C loader"
PER_ROUND = 20


@contextmanager
def opened(options: Options) -> Iterator[Row]:
    data = CONTRACT.read_bytes()
    yield Row(
        name="contract",
        about=f"load and validate a pipeline.yml of {data.count(10)} lines",
        variants=(
            _repeated(FLOOR, lambda: yaml.load(data, yaml.CSafeLoader)),
            _repeated("yaml, Python loader", lambda: yaml.load(data, yaml.SafeLoader)),
            _of_fsmrt(data),
        ),
        goals=(Goal(variant="fsmrt", over=FLOOR, at_most=1.3),),
        rounds=50,
    )


def _of_fsmrt(data: bytes) -> Variant | Missing:
    if not is_there("fsmrt.contract.pipeline"):
        return Missing("fsmrt", "fsmrt has no contract reader in this checkout")
    from fsmrt.contract.pipeline import read_pipeline

    return _repeated("fsmrt", lambda: read_pipeline(data).raise_for_errors())


def _repeated(name: str, work: Callable[[], object]) -> Variant:
    def measure() -> Sample:
        start = time.perf_counter()
        for _ in range(PER_ROUND):
            work()
        return Sample((time.perf_counter() - start) / PER_ROUND)

    return Variant(name, measure)
