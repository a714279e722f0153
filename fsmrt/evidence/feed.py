"""Live events for anyone who wants them, from any point on, missing none.

A subscriber gets the events of the past from the file and those to come from a bounded channel. Reading how
far the file goes and joining the channel happen without a pause in between, so that there is neither a gap nor
a duplicate. Whoever reads too slowly is let go with the number to resume from; nobody slows the run.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import anyio
import msgspec
from anyio.streams.memory import MemoryObjectSendStream

from .events import Event, read_events

BUFFER = 1024
"""Events a subscriber may be behind. Some hundred kilobytes at most."""


class Lagged(msgspec.Struct, frozen=True):
    """The last thing a subscriber gets that was too slow: subscribe again from here."""

    next_seq: int


class Feed:
    """The events of one run, past and future."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._next = 0
        self._over = False
        self._subscribers: list[_Subscriber] = []

    def publish(self, event: Event) -> None:
        """Pass one event on. Never waits."""
        self._next = event.seq + 1
        for subscriber in [*self._subscribers]:
            if not subscriber.offer(event):
                self._subscribers.remove(subscriber)

    def close(self) -> None:
        """No more events: every subscriber ends once it has read what is waiting."""
        self._over = True
        for subscriber in self._subscribers:
            subscriber.channel.close()
        self._subscribers.clear()

    async def subscribe(
        self, from_seq: int = 0, buffer: int = BUFFER
    ) -> AsyncGenerator[Event | Lagged, None]:
        """Every event from `from_seq` on, once, in order; ends with the run, or with `Lagged`."""
        send, receive = anyio.create_memory_object_stream[Event](buffer)
        subscriber = _Subscriber(send)
        upto = self._next
        self._subscribers.append(subscriber)
        if self._over:  # the past is all there is
            send.close()
        try:
            with receive:
                for event in read_events(self._path):
                    if from_seq <= event.seq < upto:
                        yield event
                async for event in receive:
                    if event.seq >= from_seq:
                        yield event
                if subscriber.lost_at is not None:
                    yield Lagged(subscriber.lost_at)
        finally:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)
            send.close()


class _Subscriber:
    def __init__(self, channel: MemoryObjectSendStream[Event]) -> None:
        self.channel = channel
        self.lost_at: int | None = None

    def offer(self, event: Event) -> bool:
        try:
            self.channel.send_nowait(event)
        except anyio.WouldBlock:
            self.lost_at = event.seq
            self.channel.close()
            return False
        except anyio.BrokenResourceError:
            return False
        return True
