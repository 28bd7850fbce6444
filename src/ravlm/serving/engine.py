"""What the server does, independent of HTTP: each verb as a coroutine over batched work.

A request takes its place in a queue first; then its images are decoded (`decoding`). Searches and
embeddings share one batcher, answers use a second, changes of the base a third and edits a fourth;
streamed answers have threads of their own."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from ravlm.data.fetch import ImageFetcher
from ravlm.data.parallel import batched
from ravlm.encoders.base import Role
from ravlm.encoders.truncated import truncate
from ravlm.errors import RavlmError
from ravlm.records import MODALITIES, Answer, AnswerStream, Edit, Hit, Modality
from ravlm.search.options import DEFAULT_OPTIONS, SearchOptions
from ravlm.serving.answer_request import AnswerKey, AnswerRequest
from ravlm.serving.batching import DynamicBatcher, Place
from ravlm.serving.decoding import ImageDecoder
from ravlm.serving.errors import DAMAGED_BASE, public_message
from ravlm.serving.images import ImageReader, PixelQuota
from ravlm.serving.settings import Settings
from ravlm.serving.state import ServedModel, Session
from ravlm.serving.streaming import StreamRunner, timeout_error
from ravlm.serving.threads import WorkerThreads

T = TypeVar("T")
_EMBED_BATCH = 64
"""Inputs that are encoded at a time."""
_READ_THREADS = 8
"""Quick reads of the base that run at the same time."""


class SearchKey(NamedTuple):
    """Searches with equal keys share a batch; `where` is JSON."""

    k: int
    modality: Any
    where: str
    options: SearchOptions


class EmbedKey(NamedTuple):
    """Embeddings with equal keys share a batch."""

    modality: Modality
    role: Role


class Engine:
    """Carries out requests on a served model within the limits of `settings`.

    All coroutines must run in one event loop."""

    def __init__(self, served_model: ServedModel, settings: Settings) -> None:
        self.served_model = served_model
        self.settings = settings
        self.metrics = served_model.metrics
        self.limits = settings.limits
        served_model.addresses = "public" if settings.fetch_images else "none"
        fetch = ImageFetcher(self.limits.image_bytes) if settings.fetch_images else None
        self.images = ImageDecoder(ImageReader(self.limits, fetch), self.limits, self.metrics)
        self._encode_batcher = self._batcher("encode", self._encode, self.limits.batch)
        self._answer_batcher = self._batcher("generate", self._answer, self.limits.batch)
        self._change_batcher = self._batcher("change", self._run_each, 1)
        self._edit_batcher = self._batcher("edit", self._run_each, 1)
        self.streams = StreamRunner(self.limits, self.metrics)
        self._read_threads = WorkerThreads(_READ_THREADS, "read")
        self.warm = False
        self.stopping = False
        self._warmup_error = ""
        self.metrics.gauge(
            "ravlm_ready", "1 while requests are served, else 0.", lambda: self.sound
        )

    def _batcher(
        self, name: str, process: Callable[[Any, list[Any]], Sequence[Any]], batch_size: int
    ) -> DynamicBatcher[Any, Any]:
        return DynamicBatcher(name, process, batch_size, self.limits.waiting, self.metrics)

    @property
    def _batchers(self) -> tuple[DynamicBatcher[Any, Any], ...]:
        return (
            self._encode_batcher,
            self._answer_batcher,
            self._change_batcher,
            self._edit_batcher,
        )

    @property
    def ready(self) -> bool:
        """Whether requests are served."""
        return self.warm and not self.stopping

    @property
    def unready_reason(self) -> str:
        """Why requests are not served: one sentence."""
        if self.stopping:
            return "The server is stopping."
        if self._warmup_error:
            return self._warmup_error
        if self.served_model.is_damaged:
            return DAMAGED_BASE
        return "The server is starting; retry in a second."

    @property
    def busy(self) -> bool:
        """Whether a thread is still at work."""
        num_active = self.streams.num_active + self._read_threads.num_active
        return num_active > 0 or self.images.busy or any(b.busy for b in self._batchers)

    @property
    def sound(self) -> bool:
        """Whether requests are served, and none has found the base damaged."""
        return self.ready and not self.served_model.is_damaged

    async def warm_up(self) -> None:
        """Search and answer once, for as long as it takes, so that every model is loaded before the
        first request."""
        gray = Image.new("RGB", (64, 64), "gray")
        search = SearchKey(1, "any", json.dumps(None), DEFAULT_OPTIONS)
        question = AnswerRequest("ask", "What is in the image?", gray)
        try:
            await self._encode_batcher.run(search, {"text": "ravlm", "image": None})
            await self._answer_batcher.run(question.key, question)
        except RavlmError as error:
            self._warmup_error = public_message(error)
        else:
            self.warm = True

    def stop(self) -> None:
        """Refuse new requests, and end streams when the grace period is over."""
        self.stopping = True
        self.streams.end_in(self.settings.grace)

    def close(self) -> None:
        """Let all threads end."""
        for batcher in self._batchers:
            batcher.close()
        self.streams.close()
        self._read_threads.close()
        self.images.close()

    # verbs

    async def search(
        self,
        text: str | None,
        image: str | None,
        k: int,
        modality: Any = "any",
        where: Any = None,
        options: SearchOptions = DEFAULT_OPTIONS,
    ) -> list[Hit]:
        """Return the k best entries for a text, the URL of an image, or both."""
        key = SearchKey(k, modality, json.dumps(where), options)
        urls = [] if image is None else [image]

        async def task() -> list[Hit]:
            with self._encode_batcher.place() as place:
                async with self.images.hold_images(urls, self._for_encoder) as images:
                    query = {"text": text, "image": next(iter(images), None)}
                    hits: list[Hit] = await place.run(key, query)
                    return hits

        return await self._with_timeout(task())

    async def embed(
        self, inputs: Sequence[tuple[str, str]], dim: int, role: Role = "document"
    ) -> np.ndarray:
        """Return unit vectors (n, dim) of inputs ("text", text) or ("image", URL), in order.

        Many inputs are encoded part by part, so that other requests get their turn."""
        parts = list(batched(inputs, _EMBED_BATCH))
        quota = self.images.quota()

        async def embed_all() -> list[np.ndarray]:
            with self._encode_batcher.place() as place:
                return [await self._embed_part(part, role, place, quota) for part in parts]

        vectors: np.ndarray = np.concatenate(await self._with_timeout(embed_all()))
        is_whole = dim == self.served_model.session.encoder.dim
        return vectors if is_whole else truncate(vectors, dim)

    async def _embed_part(
        self,
        inputs: Sequence[tuple[str, str]],
        role: Role,
        place: Place[Any, Any],
        quota: PixelQuota,
    ) -> np.ndarray:
        vectors: dict[int, np.ndarray] = {}
        for kind in MODALITIES:
            indices = [i for i, (input_kind, _) in enumerate(inputs) if input_kind == kind]
            values = [inputs[i][1] for i in indices]
            if not values:
                continue
            urls = values if kind == "image" else []
            async with self.images.hold_images(urls, self._for_encoder, quota) as images:
                rows = await place.run(EmbedKey(kind, role), images if kind == "image" else values)
            vectors |= dict(zip(indices, rows, strict=True))
        return np.stack([vectors[i] for i in range(len(inputs))])

    async def answer(self, request: AnswerRequest) -> Answer:
        """Return an answer, generated in a batch with others that wait."""

        async def task() -> Answer:
            with self._answer_batcher.place() as place:
                async with self._with_images(request) as prepared:
                    answer: Answer = await place.run(prepared.key, prepared)
                    return answer

        return await self._with_timeout(task())

    def stream(self, request: AnswerRequest) -> AsyncIterator[str | Answer]:
        """Yield the text of an answer in pieces, then the Answer. Raises HttpError before the
        first piece if the request can't be served."""
        return self.streams.run(lambda: self._with_images(request), self._start_stream)

    async def edit(self, image: str, instruction: str, k: int | None, seed: int) -> Edit:
        """Return the image of a URL, changed as the instruction says."""

        async def edited() -> Edit:
            with self._edit_batcher.place() as place:
                data = await self.images.read(image)

                def task(session: Session) -> Edit:
                    with self.metrics.stage("decode"):
                        pixels = self.images.reader.decode(data)
                    with self.metrics.stage("edit"):
                        return session.model.edit(pixels, instruction, k=k, seed=seed)

                edit: Edit = await place.run("", task)
                return edit

        return await self._with_timeout(edited())

    async def change(self, task: Callable[[Session], T]) -> T:
        """Run a task that changes or checks the base; one such task at a time."""
        return await self._with_timeout(self._change_batcher.run("", task))

    async def store(
        self,
        uploads: Sequence[str | bytes | None],
        task: Callable[[Session, list[bytes | None]], T],
    ) -> T:
        """Run a task that stores images, given as URLs or encoded, once they are encoded again."""
        quota = self.images.quota()

        async def stored() -> T:
            with self._change_batcher.place() as place:
                images = [
                    None if upload is None else await self.images.reencode(upload, quota)
                    for upload in uploads
                ]
                result: T = await place.run("", lambda session: task(session, images))
                return result

        return await self._with_timeout(stored())

    async def read(self, task: Callable[[Session], T]) -> T:
        """Run a quick read of the base at once, in a thread."""
        return await self._with_timeout(self._read_threads.run(self.served_model.run, task))

    async def thumbnail(self, read: Callable[[], bytes], edge: int) -> bytes:
        """Return a stored image, which `read` returns encoded, as a JPEG."""
        return await self._with_timeout(self.images.thumbnail(read, edge))

    @asynccontextmanager
    async def _with_images(self, request: AnswerRequest) -> AsyncIterator[AnswerRequest]:
        """Decode the images of a request, and hold them until the context ends."""
        decode = self.images.reader.decode_for_model
        async with self.images.hold_images(request.image_urls, decode) as images:
            yield request.with_images(images)

    def _for_encoder(self, data: bytes, quota: PixelQuota) -> Image.Image:
        """Return an encoded image, scaled for the encoder."""
        encoder = self.served_model.session.encoder
        image = self.images.reader.decode_for_encoder(data, encoder.image_size, quota)
        return encoder.prepare(image)

    async def _with_timeout(self, result: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(result, self.limits.seconds)
        except TimeoutError:
            raise timeout_error(self.limits.seconds) from None

    # in the threads of the batchers

    def _encode(self, key: SearchKey | EmbedKey, items: list[Any]) -> Sequence[Any]:
        """Search a batch of queries, or encode a batch of lists of texts or images."""
        if isinstance(key, SearchKey):
            where = json.loads(key.where)
            return self.served_model.run(
                lambda session: session.kb.search_many(
                    items, key.k, key.modality, where, key.options
                )
            )
        encoder = self.served_model.session.encoder
        values = [value for item in items for value in item]
        encode = encoder.encode_images if key.modality == "image" else encoder.encode_texts
        vectors = encode(values, role=key.role)
        ends = np.cumsum([len(item) for item in items])
        return np.split(vectors, ends[:-1])

    def _answer(self, key: AnswerKey, requests: list[AnswerRequest]) -> list[Answer]:
        texts = [request.text for request in requests]
        images = [request.image for request in requests]

        def task(session: Session) -> list[Answer]:
            if len(requests) > 1:
                queries = [request.query_text for request in requests if request.query_text]
                session.encoder.precompute(queries)
            where = json.loads(key.where)
            answers: list[Answer] = session.model.answer(
                key.verb, texts, images, key.k, where, base_only=key.base_only
            )
            return answers

        with self.metrics.stage("generate"):
            return self.served_model.run(task)

    def _start_stream(self, request: AnswerRequest) -> AnswerStream:
        """Return the stream, which retrieves and generates as it is read."""
        r = request
        return self.served_model.stream(
            lambda session: session.model.stream(r.verb, r.text, r.image, r.k, r.where, r.base_only)
        )

    def _run_each(self, key: Any, tasks: list[Callable[[Session], Any]]) -> list[Any]:
        return [self.served_model.run(task) for task in tasks]
