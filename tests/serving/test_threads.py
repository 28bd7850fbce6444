"""Slots that limit what all requests hold, and counted threads."""

from __future__ import annotations

import asyncio
import threading

import pytest

from ravlm.serving.threads import Slots, WorkerThreads


def test_slots_are_given_in_order_and_returned() -> None:
    order: list[str] = []

    async def hold(slots: Slots, name: str, count: int) -> None:
        async with slots.hold(count):
            order.append(name)
            await asyncio.sleep(0.02)

    async def run() -> None:
        slots = Slots(4)
        await asyncio.gather(
            hold(slots, "three", 3),
            hold(slots, "two", 2),
            hold(slots, "one", 1),  # fits at once, but would pass "two" for ever
            hold(slots, "nine", 9),  # more than there are: all of them
            hold(slots, "last", 1),
        )
        assert slots._free == 4

    asyncio.run(run())
    assert order == ["three", "two", "one", "nine", "last"]


def test_a_cancelled_waiter_takes_nothing() -> None:
    async def hold(slots: Slots) -> None:
        async with slots.hold(2):
            await asyncio.sleep(0)

    async def run() -> int:
        slots = Slots(2)
        async with slots.hold(2):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(hold(slots), 0.01)
            waiter = asyncio.create_task(hold(slots))
            await asyncio.sleep(0)
        waiter.cancel()  # at the moment when it got its slot
        await asyncio.gather(waiter, return_exceptions=True)
        await asyncio.sleep(0)
        return slots._free

    assert asyncio.run(run()) == 2


def test_a_holder_and_a_waiter_are_cancelled_at_the_same_time() -> None:
    async def hold(slots: Slots) -> None:
        async with slots.hold(2):
            await asyncio.sleep(20)

    async def run() -> tuple[list[BaseException | None], int]:
        slots = Slots(2)
        tasks = [asyncio.create_task(hold(slots)) for _ in range(2)]
        await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return results, slots._free

    results, free = asyncio.run(run())
    assert [type(result) for result in results] == [asyncio.CancelledError] * 2
    assert free == 2


def test_cancelled_calls_are_counted_until_they_end() -> None:
    go = threading.Event()

    async def run() -> list[int]:
        threads = WorkerThreads(1, "test")
        calls = [asyncio.create_task(threads.run(go.wait, 20)) for _ in range(3)]
        await asyncio.sleep(0.05)
        counts = [threads.num_active]
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        counts.append(threads.num_active)  # the one that runs
        go.set()
        while threads.num_active:
            await asyncio.sleep(0.01)
        threads.close()
        return counts

    assert asyncio.run(run()) == [3, 1]
