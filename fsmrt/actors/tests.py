"""The repository's own tests."""

from __future__ import annotations

from .stage import StageActor


class TestsActor(StageActor):
    """`tests.cmds`, or what the operator put in their place. Nothing it starts outlives it."""

    name = "tests"
