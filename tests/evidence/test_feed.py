"""Subscribers see each event once, in order, from where they asked; a slow one is let go and slows nobody."""

from __future__ import annotations

import random
from pathlib import Path

import anyio
import pytest

from fsmrt.evidence.events import EVENTS, Event, EventLog
from fsmrt.evidence.feed import Feed, Lagged
from fsmrt.evidence.folder import RunFolder

pytestmark = pytest.mark.anyio


class Source:
    """A log and its feed, as the recorder keeps them."""

    def __init__(self, place: Path) -> None:
        self.folder = RunFolder.create(place, "run")
        self.folder.write_new("run.json", b"{}\n")
        self.log = EventLog(self.folder, "run", lambda: 0.0)
        self.feed = Feed(self.folder.path / EVENTS)

    def say(self, count: int = 1) -> None:
        for _ in range(count):
            self.feed.publish(self.log.append("run_started", {}))

    def close(self) -> None:
        self.feed.close()
        self.log.close()
        self.folder.close()


@pytest.fixture
def source(tmp_path: Path) -> Source:
    return Source(tmp_path)


async def numbers(feed: Feed, from_seq: int, into: list[int], ready: anyio.Event) -> None:
    stream = feed.subscribe(from_seq)
    ready.set()
    async for event in stream:
        assert isinstance(event, Event)
        into.append(event.seq)


async def test_every_cursor_sees_the_rest_once_and_in_order(source: Source) -> None:
    chance = random.Random(7)
    seen: dict[int, list[int]] = {}
    async with anyio.create_task_group() as group:
        for cursor in chance.sample(range(60), 12):
            source.say(3)
            ready = anyio.Event()
            group.start_soon(numbers, source.feed, cursor, seen.setdefault(cursor, []), ready)
            await ready.wait()
            await anyio.wait_all_tasks_blocked()
        source.say(40)
        await anyio.wait_all_tasks_blocked()
        source.close()
    assert seen
    for cursor, got in seen.items():
        assert got == list(range(cursor, 76)), cursor


async def test_a_stalled_subscriber_is_let_go_with_the_number_to_resume_from(source: Source) -> None:
    source.say(2)
    stream = source.feed.subscribe(buffer=3)
    got = [await anext(stream)]
    source.say(10)
    got += [event async for event in stream]
    assert got[-1] == Lagged(5)
    assert [event.seq for event in got[:-1] if isinstance(event, Event)] == [0, 1, 2, 3, 4]
    resumed = source.feed.subscribe(5)
    first = await anext(resumed)
    assert isinstance(first, Event)
    assert first.seq == 5
    await resumed.aclose()
    source.close()


async def test_a_subscriber_that_leaves_is_forgotten(source: Source) -> None:
    source.say()
    stream = source.feed.subscribe()
    await anext(stream)
    await stream.aclose()
    source.say(5)
    source.close()


async def test_who_subscribes_after_the_end_gets_the_past_and_its_end(source: Source) -> None:
    source.say(3)
    source.close()

    with anyio.fail_after(5):
        seen = [event.seq async for event in source.feed.subscribe(1) if isinstance(event, Event)]

    assert seen == [1, 2]
