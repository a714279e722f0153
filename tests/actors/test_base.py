from __future__ import annotations

import anyio
import pytest

from fsmrt.actors.base import ActorGone, Address, start

pytestmark = pytest.mark.anyio


class Doubler:
    """Answers twice what it is given, once the gate is open; fails for None."""

    name = "doubler"

    def __init__(self, *, gated: bool = False) -> None:
        self.gate = anyio.Event()
        self.handled: list[int] = []
        if not gated:
            self.gate.set()

    async def handle(self, order: int | None) -> int:
        await self.gate.wait()
        if order is None:
            raise ZeroDivisionError("a defect")
        self.handled.append(order)
        return 2 * order


async def test_a_question_has_its_own_answer() -> None:
    async with anyio.create_task_group() as group:
        address = start(group, Doubler())
        answers: dict[int, int] = {}

        async def ask(number: int) -> None:
            answers[number] = await address.ask(number)

        async with anyio.create_task_group() as asking:
            for number in range(20):
                asking.start_soon(ask, number)
        address.close()

    assert answers == {number: 2 * number for number in range(20)}


async def test_orders_are_handled_in_the_order_they_came() -> None:
    doubler = Doubler()
    async with anyio.create_task_group() as group:
        address = start(group, doubler)
        for number in range(100):
            await address.tell(number)
        address.close()

    assert doubler.handled == list(range(100))


async def test_a_full_mailbox_makes_the_sender_wait() -> None:
    doubler = Doubler(gated=True)
    sent: list[int] = []
    async with anyio.create_task_group() as group:
        address = start(group, doubler, mailbox=2)

        async def send() -> None:
            for number in range(10):
                await address.tell(number)
                sent.append(number)
            address.close()

        group.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        # One is being handled and two wait; the fourth has not got in.
        assert (sent, address.waiting) == ([0, 1, 2], 2)
        doubler.gate.set()

    assert sent == doubler.handled == list(range(10))


async def test_a_sender_that_waits_can_be_cancelled_and_its_order_is_not_delivered() -> None:
    doubler = Doubler(gated=True)
    async with anyio.create_task_group() as group:
        address = start(group, doubler, mailbox=1)
        await address.tell(1)
        await anyio.wait_all_tasks_blocked()
        await address.tell(2)
        with anyio.move_on_after(0):
            await address.tell(3)
        doubler.gate.set()
        address.close()

    assert doubler.handled == [1, 2]


async def test_a_defect_ends_the_group_and_whoever_waits_for_a_report() -> None:
    async def ask_in_vain() -> None:
        with pytest.raises(ActorGone, match="the doubler actor ended without a report"):
            await addresses[0].ask(1)

    async def work() -> None:
        async with anyio.create_task_group() as group:
            addresses.append(start(group, doubler))
            await addresses[0].tell(None)
            asking.start_soon(ask_in_vain)
            await anyio.wait_all_tasks_blocked()
            doubler.gate.set()

    doubler = Doubler(gated=True)
    addresses: list[Address[int | None, int]] = []
    async with anyio.create_task_group() as asking:
        with pytest.raises(ExceptionGroup) as caught:
            await work()

    assert caught.group_contains(ZeroDivisionError)
    addresses[0].close()


async def test_an_actor_that_has_ended_takes_no_orders() -> None:
    async with anyio.create_task_group() as group:
        address = start(group, Doubler())
        group.cancel_scope.cancel()

    with pytest.raises(ActorGone):
        await address.tell(1)
    with pytest.raises(ActorGone):
        await address.ask(1)
    address.close()


async def test_a_closed_address_takes_no_orders_and_what_waited_is_still_done() -> None:
    doubler = Doubler(gated=True)
    async with anyio.create_task_group() as group:
        address = start(group, doubler)
        await address.tell(1)
        await address.tell(2)
        address.close()
        address.close()
        with pytest.raises(ActorGone):
            await address.tell(3)
        doubler.gate.set()

    assert doubler.handled == [1, 2]


async def test_whoever_asked_and_left_does_not_disturb() -> None:
    doubler = Doubler(gated=True)
    async with anyio.create_task_group() as group:
        address = start(group, doubler)
        with anyio.move_on_after(0.01):
            await address.ask(1)
        doubler.gate.set()
        assert await address.ask(2) == 4
        address.close()

    assert doubler.handled == [1, 2]


async def test_a_shielded_actor_outlives_the_cancellation_of_its_group() -> None:
    doubler = Doubler()
    async with anyio.create_task_group() as group:
        address = start(group, doubler, shielded=True)
        group.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            assert await address.ask(3) == 6
            address.close()

    assert doubler.handled == [3]
