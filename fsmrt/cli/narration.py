"""Tells a run's events to views, on a thread of its own.

The event loop must never wait for a terminal that somebody has paused, or for a slow reader of a pipe: it puts
the event into a queue and goes on. The thread also gives views a pulse, for clocks, tails and heartbeats.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from ..evidence.events import Event, encode_line
from .output import Output

PULSE = 0.2


class View(Protocol):
    """Something that shows a run while it goes on. All calls come from one thread."""

    def event(self, event: Event) -> None: ...

    def pulse(self, now: float) -> None:
        """Time has passed; `now` is seconds since the run began."""
        ...

    def say(self, text: str) -> None:
        """Something that is no event: what a signal just did."""
        ...

    def close(self) -> None: ...


class Narration:
    """The thread, as a context: leaving it waits until everything has been told."""

    def __init__(self, views: Sequence[View]) -> None:
        self._views = views
        self._queue: queue.SimpleQueue[Event | str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._tell, name="narration", daemon=True)
        self._zero = time.monotonic()
        self.failure: BaseException | None = None

    def observe(self, event: Event) -> None:
        """Take an event; never waits. For the event loop."""
        self._queue.put(event)

    def say(self, text: str) -> None:
        """Take a remark; never waits either."""
        self._queue.put(text)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._queue.put(None)
        self._thread.join()
        if self.failure is not None and error is None:
            raise self.failure

    def _tell(self) -> None:
        try:
            while self._tell_next():
                pass
        except Exception as error:  # a view's defect is told by whoever waits for the thread
            self.failure = error
        finally:
            for view in self._views:
                view.close()

    def _tell_next(self) -> bool:
        try:
            told = self._queue.get(timeout=PULSE)
        except queue.Empty:
            self._pulse()
            return True
        if told is None:
            return False
        self._pass_on(told)
        if self._queue.empty():
            self._pulse()
        return True

    def _pass_on(self, told: Event | str) -> None:
        if isinstance(told, Event):
            self._zero = min(self._zero, time.monotonic() - told.t_ms / 1000)
        for view in self._views:
            if isinstance(told, Event):
                view.event(told)
            else:
                view.say(told)

    def _pulse(self) -> None:
        for view in self._views:
            view.pulse(time.monotonic() - self._zero)


class EventStream:
    """The view for programs: each event as it stands in the record."""

    def __init__(self, out: Output) -> None:
        self._out = out

    @property
    def gone(self) -> bool:
        """Whether the reader left before the end."""
        return self._out.gone

    def event(self, event: Event) -> None:
        self._out.write(encode_line(event).decode("utf-8"))

    def pulse(self, now: float) -> None:
        pass

    def say(self, text: str) -> None:
        pass

    def close(self) -> None:
        pass


class Remarks:
    """The view of somebody who wants none: only what signals do is told."""

    def __init__(self, err: Output) -> None:
        self._err = err

    def event(self, event: Event) -> None:
        pass

    def pulse(self, now: float) -> None:
        pass

    def say(self, text: str) -> None:
        self._err.line(text)

    def close(self) -> None:
        pass
