"""How whoever started a run stops it and listens to it.

All calls are made on the event loop the run lives on.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing

import anyio

from .evidence.events import Event
from .evidence.feed import Feed, Lagged
from .verdict import Reason


class Control:
    """The operator's hand on a run: stop it politely, hurry it, follow its events.

    `stop()` ends the running command and tears down; `run` then returns a result whose verdict is `cancelled`.
    `hurry()` cuts the teardown short. `async for event in control.events()` follows the run until it ends.

    One object a run. It may be used before the run has begun: a stop asked for earlier happens at once, and
    `events` waits for the run to open.
    """

    def __init__(self) -> None:
        self.reason: Reason | None = None
        self.message: str | None = None
        self.terminated = False
        self.hurried = False
        self._on_stop: Callable[[], None] | None = None
        self._on_hurry: Callable[[], None] | None = None
        self._feed: Feed | None = None
        self._opened: anyio.Event | None = None
        self._over = False

    def stop(
        self,
        reason: Reason = Reason.CANCELLED_BY_CALLER,
        message: str = "the caller asked for it",
        *,
        terminated: bool = False,
    ) -> None:
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

    async def events(self, from_seq: int = 0) -> AsyncGenerator[Event | Lagged, None]:
        """Every event of the run from number `from_seq` on, once and in order, past ones first.

        Ends with the run. A reader that falls too far behind is let go with a `Lagged` that says from where to
        ask again; it never slows the run. A run that was refused has no events. To leave before the end, wrap it
        in `contextlib.aclosing`, as with every asynchronous generator.
        """
        if self._feed is None and not self._over:
            self._opened = self._opened or anyio.Event()
            await self._opened.wait()
        if self._feed is not None:
            async with aclosing(self._feed.subscribe(from_seq)) as events:
                async for event in events:
                    yield event

    def attach(self, on_stop: Callable[[], None], on_hurry: Callable[[], None]) -> None:
        """The run is ready to be stopped. What was asked before happens now."""
        self._on_stop, self._on_hurry = on_stop, on_hurry
        if self.reason is not None:
            on_stop()
        if self.hurried:
            on_hurry()

    def attach_feed(self, feed: Feed) -> None:
        """The run has a record, and events can be followed."""
        self._feed = feed
        self._release_followers()

    def finish(self) -> None:
        """The run is over, or never began: nobody needs to wait for it."""
        self._over = True
        self._release_followers()

    def _release_followers(self) -> None:
        if self._opened is not None:
            self._opened.set()
