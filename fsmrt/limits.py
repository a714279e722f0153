"""The deadline tree, and cleanup that always ends.

One tree: run > stage > command try. A command obeys the earliest of the three, and its result names the one
that fired. Cleanup is shielded, or the cancellation that caused it would cancel it too; and bounded, because
a wedged kernel or daemon must not hold a whole run.
"""

from __future__ import annotations

import math

import anyio
import msgspec

CLOSE_GRACE = 15.0
"""Seconds a shielded cleanup may take: the 5 s between TERM and KILL, twice, and room for a slow disk."""


class Deadline(msgspec.Struct, frozen=True):
    """A moment on the event loop's clock, and the name of the limit it stands for."""

    at: float = math.inf
    limit: str = ""

    def earliest(self, other: Deadline) -> Deadline:
        """The one that fires first; on a tie the receiver, so that outer limits win over inner ones."""
        return other if other.at < self.at else self


NEVER = Deadline()


def deadline_in(seconds: float | None, limit: str) -> Deadline:
    """The deadline `seconds` from now; `NEVER` for None."""
    return NEVER if seconds is None else Deadline(anyio.current_time() + seconds, limit)


def until(deadline: Deadline) -> anyio.CancelScope:
    """A scope that is cancelled at `deadline`; ask `cancelled_caught` whether it was."""
    return anyio.CancelScope(deadline=deadline.at)


def cleanup(seconds: float = CLOSE_GRACE) -> anyio.CancelScope:
    """A scope no outer cancellation enters and that ends by itself after `seconds`."""
    return anyio.CancelScope(deadline=anyio.current_time() + seconds, shield=True)
