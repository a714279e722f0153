"""What it costs to tell an actor something, and to ask it, over a bare memory channel."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bench.harness import Goal, Options, Row, Sample, Variant
from fsmrt.actors.base import MAILBOX, start

TIMES = 5000
BACKENDS = ("trio", "asyncio")

Question = MemoryObjectSendStream[int]


@contextmanager
def opened(options: Options) -> Iterator[Row]:
    yield Row(
        name="actors",
        about=f"seconds a message, {TIMES} messages",
        variants=tuple(variant for backend in BACKENDS for variant in _on(backend)),
        goals=tuple(goal for backend in BACKENDS for goal in _goals(backend)),
        rounds=20,
    )


def _on(backend: str) -> Iterator[Variant]:
    for name, work in WAYS.items():
        yield Variant(f"{name} on {backend}", partial(_measured, work, backend))


def _measured(work: Callable[[], Awaitable[float]], backend: str) -> Sample:
    return Sample(anyio.run(work, backend=backend) / TIMES)


def _goals(backend: str) -> Iterator[Goal]:
    yield Goal(variant=f"fsmrt tell on {backend}", over=f"channel send on {backend}", at_most=1.25)
    yield Goal(variant=f"fsmrt ask on {backend}", over=f"channel send and reply on {backend}", at_most=1.35)


async def send_all() -> float:
    send, receive = anyio.create_memory_object_stream[int](MAILBOX)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_listen, receive)
        begun = time.perf_counter()
        async with send:
            for number in range(TIMES):
                await send.send(number)
    return time.perf_counter() - begun


async def _listen(receive: MemoryObjectReceiveStream[int]) -> None:
    async with receive:
        async for _ in receive:
            pass


async def question_all() -> float:
    """Each question carries the channel for its answer, as an order does."""
    send, receive = anyio.create_memory_object_stream[Question](MAILBOX)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_reply, receive)
        begun = time.perf_counter()
        async with send:
            for _ in range(TIMES):
                reply, answer = anyio.create_memory_object_stream[int](1)
                await send.send(reply)
                await answer.receive()
                answer.close()
    return time.perf_counter() - begun


async def _reply(receive: MemoryObjectReceiveStream[Question]) -> None:
    async with receive:
        async for reply in receive:
            reply.send_nowait(1)
            reply.close()


class Listener:
    """An actor that has nothing to do but to answer."""

    name = "listener"

    async def handle(self, order: int) -> int:
        return order


async def tell_all() -> float:
    async with anyio.create_task_group() as tasks:
        address = start(tasks, Listener())
        begun = time.perf_counter()
        for number in range(TIMES):
            await address.tell(number)
        address.close()
    return time.perf_counter() - begun


async def ask_all() -> float:
    async with anyio.create_task_group() as tasks:
        address = start(tasks, Listener())
        begun = time.perf_counter()
        for number in range(TIMES):
            await address.ask(number)
        address.close()
    return time.perf_counter() - begun


WAYS: dict[str, Callable[[], Awaitable[float]]] = {
    "channel send": send_all,
    "channel send and reply": question_all,
    "fsmrt tell": tell_all,
    "fsmrt ask": ask_all,
}
