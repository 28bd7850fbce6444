"""Streams: their places, clients that read slowly or not at all, deadlines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ravlm.errors import BrokenData
from ravlm.records import Answer, AnswerStream
from ravlm.serving.errors import HttpError
from ravlm.serving.metrics import Metrics
from ravlm.serving.settings import RequestLimits
from ravlm.serving.streaming import StreamRunner


@asynccontextmanager
async def prepared() -> AsyncIterator[str]:
    yield "a request"


def words(count: int, pause: float = 0.0) -> Callable[[Any], AnswerStream]:
    def start(_: Any) -> AnswerStream:
        for number in range(count):
            time.sleep(pause)
            yield f"word{number} "
        return Answer("done")

    return start


def runner(**limits: Any) -> StreamRunner:
    return StreamRunner(RequestLimits(**limits), Metrics())


async def freed(streams: StreamRunner) -> bool:
    """Wait until no stream has a place."""
    for _ in range(500):
        if not streams.num_active:
            return True
        await asyncio.sleep(0.01)
    return False


def test_the_place_is_free_when_the_model_is_done() -> None:
    """A client that stopped reading held its place for 120 s."""

    async def run() -> list[Any]:
        streams = runner(streams=1, waiting=1)
        slow = streams.run(prepared, words(100))
        pieces: list[Any] = [await anext(slow)]
        assert await freed(streams)  # though 99 pieces are unread
        other = [piece async for piece in streams.run(prepared, words(3))]
        assert other == ["word0 ", "word1 ", "word2 ", Answer("done")]
        pieces += [piece async for piece in slow]
        streams.close()
        return pieces

    pieces = asyncio.run(run())
    assert pieces == [*(f"word{n} " for n in range(100)), Answer("done")]


def test_what_a_client_does_not_read_is_limited() -> None:
    """A fast model and a client that reads nothing: 1.3 GB of pieces."""

    async def run() -> None:
        streams = runner(stream_characters=100_000)
        endless = streams.run(prepared, words(10**9))
        await anext(endless)
        assert await freed(streams)
        pieces: list[Any] = []

        async def count() -> None:
            async for _ in endless:
                pieces.append(1)

        with pytest.raises(HttpError, match="does not read"):
            await count()
        assert 1000 < len(pieces) < 1600  # each counts 64 characters and its own
        streams.close()

    asyncio.run(run())


def test_a_model_without_end_is_stopped_at_the_deadline() -> None:
    """The deadline was only looked at when the client read the next piece."""

    async def run() -> None:
        streams = runner(seconds=0.2)
        endless = streams.run(prepared, words(10**9, pause=0.01))
        await anext(endless)
        assert await freed(streams)
        streams.close()

    asyncio.run(run())


def test_images_are_decoded_after_the_place_is_taken() -> None:
    events: list[str] = []

    @asynccontextmanager
    async def decode() -> AsyncIterator[str]:
        events.append("decode")
        if len(events) == 1:
            raise BrokenData("The image is damaged.")
        yield "a request"
        events.append("release")

    async def run() -> None:
        streams = runner(waiting=1)
        with pytest.raises(BrokenData):
            await anext(streams.run(decode, words(3)))
        assert streams.num_active == 0
        active = streams.run(decode, words(10**9, pause=0.01))
        await anext(active)
        with pytest.raises(HttpError, match="Too many") as error:
            await anext(streams.run(decode, words(3)))
        assert error.value.status == 429
        assert events == ["decode", "decode"]
        await active.aclose()  # type: ignore[attr-defined]
        assert await freed(streams)
        await asyncio.sleep(0.05)
        streams.close()

    asyncio.run(run())
    assert events[:2] == ["decode", "decode"]
