"""Wrong use of the command line. Nothing has been executed; the exit code is 2."""

from __future__ import annotations

USAGE = 2


class UsageError(Exception):
    """What was typed, or configured, cannot be. The text says what to type instead."""
