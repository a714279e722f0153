"""How whoever started a run stops it: once politely, twice in a hurry.

All calls are made on the event loop the run lives on.
"""

from __future__ import annotations

from collections.abc import Callable

from .verdict import Reason


class Control:
    """The operator's hand on a run. One object a run; may be used before the run has begun."""

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self.message: str | None = None
        self.terminated = False
        self.hurried = False
        self._on_stop: Callable[[], None] | None = None
        self._on_hurry: Callable[[], None] | None = None

    def stop(self, reason: Reason, message: str, *, terminated: bool = False) -> None:
        """End the running command, then tear down. The first reason stays."""
        if self.reason is None:
            self.reason, self.message, self.terminated = reason, message, terminated
            if self._on_stop is not None:
                self._on_stop()

    def hurry(self) -> None:
        """Cut teardown short and kill what runs."""
        self.hurried = True
        if self._on_hurry is not None:
            self._on_hurry()

    def attach(self, on_stop: Callable[[], None], on_hurry: Callable[[], None]) -> None:
        """The run is ready to be stopped. What was asked before happens now."""
        self._on_stop, self._on_hurry = on_stop, on_hurry
        if self.reason is not None:
            on_stop()
        if self.hurried:
            on_hurry()
