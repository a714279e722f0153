"""What it costs to tell an actor something, and to ask it, over a bare memory channel."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from bench.harness import Goal, Options, Row, Sample, Variant

TIMES = 5000
BUFFER = 16
TELL, ASK = "channel send", "channel send and reply"

Question = MemoryObjectSendStream[int]


@contextmanager
def opened(options: Options) -> Iterator[Row]:
    yield Row(
        name="actors",
        about=f"seconds a message, {TIMES} messages, on trio",
        variants=(
            Variant(TELL, lambda: Sample(anyio.run(tell_all, backend="trio") / TIMES)),
            Variant(ASK, lambda: Sample(anyio.run(ask_all, backend="trio") / TIMES)),
        ),
        goals=(
            Goal(variant="fsmrt tell", over=TELL, at_most=1.25),
            Goal(variant="fsmrt ask", over=ASK, at_most=1.35),
        ),
        rounds=20,
    )


async def tell_all() -> float:
    send, receive = anyio.create_memory_object_stream[int](BUFFER)
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


async def ask_all() -> float:
    """Each question carries the channel for its answer, as an order does."""
    send, receive = anyio.create_memory_object_stream[Question](BUFFER)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_answer, receive)
        begun = time.perf_counter()
        async with send:
            for _ in range(TIMES):
                reply, answer = anyio.create_memory_object_stream[int](1)
                await send.send(reply)
                await answer.receive()
                answer.close()
    return time.perf_counter() - begun


async def _answer(receive: MemoryObjectReceiveStream[Question]) -> None:
    async with receive:
        async for reply in receive:
            reply.send_nowait(1)
            reply.close()
