"""Producing samples."""

from __future__ import annotations

from .stage import StageActor


class RolloutActor(StageActor):
    """`rollout.run_cmds`. An older `rollout.json` is moved aside, so that this one is from this run."""

    name = "rollout"
