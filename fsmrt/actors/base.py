"""What an actor is: an inbox, one order at a time, one report for each.

    async with anyio.create_task_group() as group:
        worker = start(group, Worker(...))
        report = await worker.ask(order)     # or: await worker.tell(order)

An actor receives a typed order, uses hands, answers with a typed report. It holds no other actor but by
address, catches no cancellation and starts no task outside its own group. An exception out of `handle` is a
defect: it cancels the group it was started in, and whoever waits for a report with it. A full mailbox makes
the sender wait; a mailbox whose actor is gone refuses with `ActorGone`.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from ..errors import FsmrtError

OrderT = TypeVar("OrderT")
ReportT = TypeVar("ReportT")
OrderT_contra = TypeVar("OrderT_contra", contravariant=True)
ReportT_co = TypeVar("ReportT_co", covariant=True)

MAILBOX = 64
"""Orders that may wait. Enough that bursts do not stall, few enough that a stuck actor is felt at once."""


class ActorGone(FsmrtError):
    """The actor an order was sent to has ended. Inside a run this follows a defect or a cancellation."""


class Handler(Protocol[OrderT_contra, ReportT_co]):
    """The part of an actor that its author writes."""

    @property
    def name(self) -> str: ...

    async def handle(self, order: OrderT_contra) -> ReportT_co: ...


class Envelope(Generic[OrderT, ReportT]):
    """An order and the channel its report goes back on; None when nobody waits for one."""

    __slots__ = ("order", "reply")

    def __init__(self, order: OrderT, reply: MemoryObjectSendStream[ReportT] | None) -> None:
        self.order = order
        self.reply = reply


class Address(Generic[OrderT, ReportT]):
    """Where orders for one actor are sent. Anyone may hold it; it keeps nothing alive."""

    def __init__(self, name: str, mailbox: MemoryObjectSendStream[Envelope[OrderT, ReportT]]) -> None:
        self.name = name
        self._mailbox = mailbox

    async def tell(self, order: OrderT) -> None:
        """Deliver without waiting for a report. Waits while the mailbox is full."""
        await self._deliver(Envelope(order, None))

    async def ask(self, order: OrderT) -> ReportT:
        """Deliver and wait for the report."""
        reply, answer = anyio.create_memory_object_stream[ReportT](1)
        with reply, answer:
            await self._deliver(Envelope(order, reply))
            try:
                return await answer.receive()
            except anyio.EndOfStream:
                raise ActorGone(f"the {self.name} actor ended without a report") from None

    async def _deliver(self, envelope: Envelope[OrderT, ReportT]) -> None:
        try:
            await self._mailbox.send(envelope)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ActorGone(f"the {self.name} actor has ended") from None

    def close(self) -> None:
        """No more orders: the actor ends once it has handled what is waiting."""
        self._mailbox.close()

    @property
    def waiting(self) -> int:
        """Orders in the mailbox right now."""
        return self._mailbox.statistics().current_buffer_used


def start(
    group: TaskGroup,
    handler: Handler[OrderT, ReportT],
    *,
    mailbox: int = MAILBOX,
    shielded: bool = False,
) -> Address[OrderT, ReportT]:
    """Start an actor in `group`; it ends when its address is closed or the group is cancelled.

    A shielded one ends by its address alone: whoever starts it must close that, whatever happens.
    """
    send, receive = anyio.create_memory_object_stream[Envelope[Any, Any]](mailbox)
    group.start_soon(_serve, handler, receive, shielded, name=f"fsmrt.{handler.name}")
    return Address(handler.name, send)


async def _serve(
    handler: Handler[OrderT, ReportT],
    inbox: MemoryObjectReceiveStream[Envelope[OrderT, ReportT]],
    shielded: bool,
) -> None:
    with anyio.CancelScope(shield=shielded), inbox:
        try:
            while not await _served(handler, inbox, shielded):
                pass
        finally:
            _turn_away(inbox)


async def _served(
    handler: Handler[OrderT, ReportT],
    inbox: MemoryObjectReceiveStream[Envelope[OrderT, ReportT]],
    shielded: bool,
) -> bool:
    """Handle orders until there are no more. False if a shielded actor was cancelled by hand, and goes on.

    An asyncio program that is shutting down cancels every task it finds, also ours, each once, and waits for all
    of them. No scope keeps that out. Whoever others need to end well has to outlast it.
    """
    try:
        async for envelope in inbox:
            await _answer(handler, envelope)
    except anyio.get_cancelled_exc_class():
        if shielded and _outlast_native_cancellation():
            return False
        raise
    return True


def _outlast_native_cancellation() -> bool:
    # Not imported for this: under trio nobody may have needed it, and loading it costs more than a command.
    asyncio = sys.modules.get("asyncio")
    try:
        task = asyncio.current_task() if asyncio is not None else None
    except RuntimeError:  # loaded, but this is not its loop
        return False
    if task is None:
        return False
    task.uncancel()
    return True


async def _answer(handler: Handler[OrderT, ReportT], envelope: Envelope[OrderT, ReportT]) -> None:
    try:
        report = await handler.handle(envelope.order)
        if envelope.reply is not None:
            # Who asked was cancelled, waits no more and has closed both ends.
            with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
                envelope.reply.send_nowait(report)
    finally:
        if envelope.reply is not None:
            envelope.reply.close()


def _turn_away(inbox: MemoryObjectReceiveStream[Envelope[OrderT, ReportT]]) -> None:
    """Whoever still waits for a report learns that there will be none."""
    with suppress(anyio.WouldBlock, anyio.EndOfStream):
        while True:
            envelope = inbox.receive_nowait()
            if envelope.reply is not None:
                envelope.reply.close()
