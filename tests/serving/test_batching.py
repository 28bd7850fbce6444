"""Dynamic batching: what shares a batch, failures, cancelled requests."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from ravlm.errors import InvalidInput
from ravlm.serving.batching import DynamicBatcher
from ravlm.serving.metrics import Metrics


def test_waiting_requests_share_a_batch() -> None:
    """Requests queue up while a batch is processed; keys don't mix, the order stays, and a lone
    request is not delayed."""
    batches: list[tuple[str, list[int]]] = []

    def process(key: str, items: list[int]) -> list[int]:
        batches.append((key, items))
        time.sleep(0.05)
        return [item * 2 for item in items]

    async def ask() -> list[int]:
        batcher: DynamicBatcher[int, int] = DynamicBatcher("test", process, 4, 50, Metrics())
        first = asyncio.create_task(batcher.run("a", 0))
        await asyncio.sleep(0.01)
        calls = [batcher.run("b" if n == 3 else "a", n) for n in range(1, 8)]
        results = [await first, *(await asyncio.gather(*calls))]
        batcher.close()
        return results

    assert asyncio.run(ask()) == [0, 2, 4, 6, 8, 10, 12, 14]
    assert batches == [("a", [0]), ("a", [1, 2, 4, 5]), ("b", [3]), ("a", [6, 7])]


def test_a_cancelled_request_is_not_processed() -> None:
    batches: list[int] = []

    def process(key: str, items: list[int]) -> list[int]:
        batches.extend(items)
        time.sleep(0.1)
        return items

    async def ask() -> None:
        batcher: DynamicBatcher[int, int] = DynamicBatcher("test", process, 1, 50, Metrics())
        first = asyncio.create_task(batcher.run("a", 1))
        await asyncio.sleep(0.01)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(batcher.run("a", 2), 0.01)
        assert await batcher.run("a", 3) == 3
        await first
        batcher.close()

    asyncio.run(ask())
    assert batches == [1, 3]


def test_a_bad_item_fails_alone() -> None:
    """A request with an invalid filter once failed all requests of its batch."""

    def halves(key: object, items: list[int]) -> list[float]:
        if 13 in items:
            raise InvalidInput("13 is not allowed.")
        return [item / 2 for item in items]

    async def ask() -> list[Any]:
        batcher = DynamicBatcher("test", halves, 8, 50, Metrics())
        results = await asyncio.gather(
            *(batcher.run("all", n) for n in range(11, 16)), return_exceptions=True
        )
        batcher.close()
        return results

    results = asyncio.run(ask())
    assert results[:2] == [5.5, 6.0]
    assert results[3:] == [7.0, 7.5]
    assert isinstance(results[2], InvalidInput)
