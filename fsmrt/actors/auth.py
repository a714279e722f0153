"""Logging in: the one stage that may be given a terminal."""

from __future__ import annotations

from .stage import StageActor


class AuthActor(StageActor):
    """`auth.cmds`. With `auth.interactive` and a terminal its commands talk to the person in front of it."""

    name = "auth"
