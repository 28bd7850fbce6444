"""What the server does, apart from how it is asked over HTTP: each verb as a coroutine over lanes
of work.

Pictures are decoded in threads; searches and embeddings go through one lane together, answers
through another, changes of the base through a third; streamed answers have threads of their own.
Knows the library, and no request or response."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image

from ravlm.errors import RavlmError
from ravlm.records import Answer, Edit, Entry, Hit
from ravlm.runtime import cpu_count
from ravlm.serving.batching import DynamicBatcher
from ravlm.serving.errors import HttpError
from ravlm.serving.images import PictureReader
from ravlm.serving.safe_fetch import Fetcher
from ravlm.serving.settings import Settings
from ravlm.serving.state import ServedModel, Session
from ravlm.serving.streaming import Streams, Words

T = TypeVar("T")


class SearchKey(NamedTuple):
    """What searches have in common that go together; `where` as JSON."""

    k: int
    modality: Any
    where: str


class AnswerKey(NamedTuple):
    """What answers have in common that are written together; `where` as JSON."""

    task: str
    k: int | None
    where: str
    shape: tuple[bool, bool]
    """Whether there is a picture, and whether there are words."""


@dataclass(frozen=True)
class Asked:
    """One thing to be answered: `task` is ask, caption, tell or chat."""

    task: str
    text: str | None = None
    image: Image.Image | None = None
    messages: Sequence[dict[str, Any]] = ()
    k: int | None = None
    where: Any = None

    @property
    def words(self) -> str:
        """What will be looked up by its words: a question, or the last that was said."""
        if self.task == "chat":
            content = self.messages[-1]["content"]
            return content if isinstance(content, str) else ""
        return (self.text or "") if self.image is None else ""

    @property
    def key(self) -> AnswerKey:
        """What it shares with others that it can be written with."""
        shape = (self.image is not None, self.text is not None)
        return AnswerKey(self.task, self.k, json.dumps(self.where), shape)


class Engine:
    """Carries out requests over a library, under the limits of `settings`. Used within one event
    loop."""

    def __init__(self, library: ServedModel, settings: Settings) -> None:
        self.library, self.settings, self.metrics = library, settings, library.metrics
        self.limits = limits = settings.limits
        fetch = Fetcher(limits.image_bytes) if settings.fetch_images else None
        self.pictures = PictureReader(limits, fetch)
        self._encoding: DynamicBatcher[Any, Any] = DynamicBatcher(
            "encode", self._encode, limits.batch, limits.waiting, self.metrics
        )
        self._writing: DynamicBatcher[Asked, Answer] = DynamicBatcher(
            "generate", self._write, limits.batch, limits.waiting, self.metrics
        )
        self._changing: DynamicBatcher[Any, Any] = DynamicBatcher(
            "change", self._change, 1, limits.waiting, self.metrics
        )
        self._editing: DynamicBatcher[Any, Any] = DynamicBatcher(
            "edit", self._change, 1, limits.waiting, self.metrics
        )
        self._lanes = (self._encoding, self._writing, self._changing, self._editing)
        self.streams = Streams(limits, self.metrics)
        self._decoders = ThreadPoolExecutor(cpu_count(), thread_name_prefix="ravlm-decode")
        self.warm, self.stopping, self.cold_reason = False, False, "The server is starting."
        self.metrics.gauge("ravlm_ready", "Whether requests are served.", lambda: float(self.ready))

    @property
    def ready(self) -> bool:
        """Whether requests are served."""
        return self.warm and not self.stopping

    @property
    def busy(self) -> bool:
        """Whether a thread still works."""
        return any(lane.busy for lane in self._lanes) or self.streams.live > 0

    async def start(self) -> None:
        """Search and answer once, so that the first request finds everything loaded."""
        try:
            await self.search("ravlm", None, 1)
            await self.answer(
                Asked("ask", "What is in the picture?", Image.new("RGB", (64, 64), "grey"))
            )
        except RavlmError as error:
            self.cold_reason = str(error)
        else:
            self.warm = True

    def stop(self) -> None:
        """Be ready no more, and end what is streamed when the time of grace is over."""
        self.stopping = True
        self.streams.end_in(self.settings.grace)

    def close(self) -> None:
        """Give the threads back."""
        for lane in self._lanes:
            lane.close()
        self.streams.close()
        self._decoders.shutdown(wait=False, cancel_futures=True)

    # verbs

    async def search(
        self, text: str | None, image: str | None, k: int, modality: Any = "any", where: Any = None
    ) -> list[Hit]:
        """The k best entries for words, a picture's URL, or both."""
        pixels = None
        if image is not None:
            pixels = await self._prepared(image)
        key = SearchKey(k, modality, json.dumps(where))
        return await self._timed(self._encoding.run(key, {"text": text, "image": pixels}))

    async def embed(self, inputs: Sequence[tuple[str, str]]) -> np.ndarray:
        """Unit vectors (n, dim) of ("text", words) and ("image", URL) inputs, in order."""
        rows: dict[int, np.ndarray] = {}
        for kind in ("text", "image"):
            places = [place for place, (found, _) in enumerate(inputs) if found == kind]
            values: list[Any] = [inputs[place][1] for place in places]
            if kind == "image":
                values = await asyncio.gather(*map(self._prepared, values))
            if values:
                rows.update(
                    zip(places, await self._timed(self._encoding.run(kind, values)), strict=True)
                )
        return np.stack([rows[place] for place in range(len(inputs))])

    async def answer(self, asked: Asked) -> Answer:
        """An answer, written together with others that wait."""
        return await self._timed(self._writing.run(asked.key, asked))

    def stream(self, asked: Asked) -> AsyncIterator[str | Answer]:
        """The answer's words as they come, and at last the Answer. Raises Refusal before anything
        is given."""
        return self.streams.run(lambda: self._streamed(asked))

    async def edit(self, image: str, instruction: str, k: int | None, seed: int) -> Edit:
        """A picture changed by an instruction."""
        pixels = await self.decode(lambda: self.pictures.pixels(self.pictures.bytes_of(image)))

        def work(opened: Session) -> Edit:
            with self.metrics.stage("edit"):
                return opened.model.edit(pixels, instruction, k=k, seed=seed)

        return await self._timed(self._editing.run("", work))

    async def change(self, work: Callable[[Session], T]) -> T:
        """What `work` gives for the open base; one such work at a time."""
        return await self._timed(self._changing.run("", work))

    async def read(self, work: Callable[[Session], T]) -> T:
        """The same for quick looks into the base, which wait for nothing."""
        return await self._timed(asyncio.to_thread(self.library.run, work))

    async def decode(self, work: Callable[[], T]) -> T:
        """Read or decode a picture in a thread."""

        def timed() -> T:
            with self.metrics.stage("decode"):
                return work()

        return await asyncio.get_running_loop().run_in_executor(self._decoders, timed)

    async def look(self, image: str | None) -> Image.Image | None:
        """The picture of a URL, no larger than a model looks at."""
        if image is None:
            return None
        return await self.decode(lambda: self.pictures.to_look_at(self.pictures.bytes_of(image)))

    async def _prepared(self, url: str) -> Image.Image:
        """The picture of a URL, shrunk to what the encoder looks at."""
        encoder = self.library.now.encoder
        return await self.decode(
            lambda: encoder.prepare(
                self.pictures.pixels(self.pictures.bytes_of(url), encoder.image_size)
            )
        )

    async def _timed(self, waited: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(waited, self.limits.seconds)
        except TimeoutError:
            raise HttpError(
                504, f"It took longer than {self.limits.seconds:g} seconds and was given up."
            ) from None

    # in the lanes' threads

    def _encode(self, key: SearchKey | str, items: list[Any]) -> Sequence[Any]:
        if isinstance(key, SearchKey):
            where = json.loads(key.where)
            return self.library.run(
                lambda opened: opened.kb.search_many(items, key.k, key.modality, where)
            )
        flat = [value for item in items for value in item]
        encoder = self.library.now.encoder
        rows = encoder.encode_images(flat) if key == "image" else encoder.encode_texts(flat)
        ends = np.cumsum([len(item) for item in items])
        return np.split(rows, ends[:-1])

    def _write(self, key: AnswerKey, items: list[Asked]) -> list[Answer]:
        where, k, (pictured, worded) = json.loads(key.where), key.k, key.shape
        images: list[Any] = [asked.image for asked in items]
        texts = [asked.text or "" for asked in items]

        def work(opened: Session) -> list[Answer]:
            model = opened.model
            if len(items) > 1:
                opened.encoder.remember([asked.words for asked in items if asked.words])
            if key.task == "chat":
                return model.chat([asked.messages for asked in items], None, k, where)
            if key.task == "caption":
                return model.caption(images, k, where)
            if key.task == "ask":
                return model.ask(texts, images if pictured else None, k, where)
            if pictured:
                return model.tell(images, texts if worded else None, k, where)
            return model.tell(prompt=texts, k=k, where=where)

        with self.metrics.stage("generate"):
            return self.library.run(work)

    def _streamed(self, asked: Asked) -> Words:
        """The model's stream for one thing asked; its evidence is found at once, its words when
        they are asked for."""

        def work(opened: Session) -> Words:
            model = opened.model
            if asked.task == "chat":
                return model.stream_chat(asked.messages, None, asked.k, asked.where)
            if asked.task == "caption":
                return model.stream_caption(asked.image, asked.k, asked.where)  # type: ignore[arg-type]
            if asked.task == "ask":
                return model.stream_ask(asked.text or "", asked.image, asked.k, asked.where)
            return model.stream_tell(asked.image, asked.text, asked.k, asked.where)

        return self.library.run(work)

    def _change(self, key: Any, items: list[Callable[[Session], Any]]) -> list[Any]:
        return [self.library.run(work) for work in items]


def entry_of(
    identity: str, image: bytes | None, texts: Sequence[str], metadata: dict[str, Any]
) -> Entry:
    """An entry as a base takes it; an id of its content where none was given."""
    from ravlm.knowledge.ingest import content_id

    entry = Entry(identity, image, tuple(texts), metadata)
    return (
        entry if identity else Entry(content_id(entry, entry.texts), image, entry.texts, metadata)
    )
